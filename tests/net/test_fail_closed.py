"""Whom a node believes while it has no way into its network: nobody but its own pins."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import MeshNode, node
from wws.discovery.network import Network
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.names.record import NameRecord, work_context
from wws.names.resolve import NameNotPinned
from wws.runtime.arguments import parse_arguments, prepare
from wws.runtime.clock import SystemClock
from wws.runtime.network_choice import choose_network
from wws.runtime.node import Node
from wws.runtime.node_face import NodeFace
from wws.runtime.state_files import NetworkFiles

pytestmark = [pytest.mark.net, pytest.mark.usefixtures("leaves_nothing")]

PUBLISHER = Identity.from_label("publisher1").public_key.hex()
NETWORK = f"boot.test#{PUBLISHER}"
NOW = SystemClock().unix()


def record_of(owner: Identity, name: str) -> NameRecord:
    return NameRecord.sign(
        owner,
        name=name,
        swarm="public",
        addresses=(),
        seq=NOW,
        registered_at=NOW,
        issued_at=NOW,
        expires_at=NOW + 3600,
        nonce=proof_of_work.solve(work_context(name, "public"), owner.peer_id.did, 12),
    )


@contextlib.asynccontextmanager
async def agent(home: Path, *arguments: str) -> AsyncIterator[Node]:
    """Alice's whole node, of a network with publishers, without DNS and mDNS."""
    env = {
        "WWS_NETWORK_ENABLE_MDNS": "false",
        "WWS_NETWORK_AUTO_DISCOVER_BOOTSTRAP": "false",
        "XDG_RUNTIME_DIR": str(home),
    }
    listen = ("--listen", "/ip4/127.0.0.1/tcp/0")
    options = parse_arguments(["--home", str(home), "--network", NETWORK, *listen, *arguments])
    preparation = prepare(options, env)
    choice = choose_network(NETWORK, preparation.config, NetworkFiles(preparation.home), allow_unsigned=False)
    alice = Node(
        preparation,
        Identity.from_label("alice"),
        choice,
        clock=SystemClock(),
        rng=random.Random(1),
        env=env,
    )
    await alice.start()
    try:
        yield alice
    finally:
        await alice.stop()


async def introduce(mallory: MeshNode, alice: Node) -> None:
    """Mallory dials alice, and says that it is of her network."""
    value = record_of(mallory.host.identity, "bob").value
    key = record_of(mallory.host.identity, "bob").key
    mallory.dht.machine.records.offer(key.encode(), value, mallory.peer_id, NOW)
    await mallory.dial(alice.host.listen_addresses[0].with_peer(alice.identity.peer_id))
    await until(lambda: mallory.peer_id in alice.dht.machine.routing)


def protocol() -> str | None:
    return Network("boot", "boot.test").protocol_id


async def test_a_stranger_who_dials_us_names_nobody_before_we_are_in(tmp_path: Path) -> None:
    async with agent(tmp_path) as alice, node("mallory", network=protocol()) as mallory:
        await introduce(mallory, alice)
        assert not alice.is_joined()
        with pytest.raises(NameNotPinned):
            await NodeFace(alice, lambda: None).resolve("wws:bob")
        assert not (tmp_path / "known_names.json").exists()


async def test_an_entry_point_may(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        mallory = await stack.enter_async_context(node("mallory", network=protocol()))
        alice = await stack.enter_async_context(agent(tmp_path, "--bootstrap", str(mallory.address)))
        await introduce(mallory, alice)
        await until(alice.is_joined)
        found = await NodeFace(alice, lambda: None).resolve("wws:bob")
        assert found.peer_id == str(mallory.peer_id)
