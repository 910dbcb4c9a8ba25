"""Our programs as users start them, with foreign peers only: one as the way in, others as guests."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.programs import Programs
from tests.interop.ours import until, until_true
from tests.interop.peer import IMPLEMENTATIONS, ForeignPeer, ForeignPeerError, Implementation
from tests.interop.relaying import foreign_member, foreign_relay
from wws import __version__
from wws.discovery.network import network_protocol_id
from wws.mesh.identify import NETWORK_PREFIX
from wws.names.record import NameRecord, name_key
from wws.nat import autonat_v1, autonat_v2
from wws.runtime.homes import Home, Ready
from wws.testing.names import peer_record

pytestmark = [pytest.mark.interop, pytest.mark.net, pytest.mark.timeout(120)]


@pytest.fixture
def programs() -> Iterator[Programs]:
    """What runs below a short path, as real homes have: that of a unix socket is limited."""
    folder = Path(tempfile.mkdtemp(prefix="wws-interop-", dir="/tmp"))
    yield Programs(folder)
    shutil.rmtree(folder)


@asynccontextmanager
async def running(programs: Programs, program: str, node: str, *arguments: str) -> AsyncIterator[Ready]:
    """A program of ours, from the moment it says that it is up until it has ended as it should."""
    place = Home(programs.folder / ".openswarm").node(node)
    # By mDNS the nodes of tests that run at the same time would find each other, and be rivals for a name.
    alone = {"WWS_NETWORK_ENABLE_MDNS": "false"}
    process = programs.start(program, "--listen", "/ip4/127.0.0.1/tcp/0", *arguments, **alone)
    try:
        await until(lambda: process.poll() is not None or place.read_ready() is not None)
        ready = place.read_ready()
        assert ready is not None, process.communicate()[1]
        yield ready
        process.terminate()
        _, diagnostics = await asyncio.to_thread(process.communicate, timeout=20)
        assert process.returncode == 0, diagnostics
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_an_agent_whose_only_way_in_is_a_foreign_peer(
    programs: Programs, implementation: Implementation, built: None
) -> None:
    key = name_key("alice")
    async with (
        ForeignPeer.start(implementation) as bob,
        running(programs, "wws-connector", "alice", "--name", "alice", "--bootstrap", bob.address) as alice,
    ):
        await until_true(partial(_holds, bob, key))
        value = await bob.get(key)
        assert value is not None
        record = NameRecord.parse(value)
        assert str(record.peer_id) == alice.peer_id
        assert [str(address.without_peer()) for address in record.addresses] == list(alice.listen)
        assert alice.peer_id in await bob.routing_table()
        said = await bob.identified(alice.peer_id)
        assert "/wws/kad/1.0.0" in said.protocols
        assert not any(protocol.startswith(NETWORK_PREFIX) for protocol in said.protocols)
        assert said.signed_record


async def _holds(peer: ForeignPeer, key: str) -> bool:
    return await peer.get(key) is not None


async def test_a_bootstrap_node_serves_foreign_peers(programs: Programs, built: None) -> None:
    """They name no network: what one brings the other finds there, but it is not led to the other."""
    record = peer_record("carol", issued_at=int(time.time()))
    network = ("--network", "example.org", "--allow-unsigned", "--rpc", "")
    async with (
        running(programs, "wws-bootstrap", "bootstrap", *network) as bootstrap,
        ForeignPeer.start("js") as bob,
        ForeignPeer.start("go") as dave,
    ):
        address = f"{bootstrap.listen[0]}/p2p/{bootstrap.peer_id}"
        for peer in (bob, dave):
            await peer.dial(address)
            said = await peer.identified(bootstrap.peer_id)
            assert said.agent == f"wws/{__version__} bootstrap"
            assert network_protocol_id("example.org") in said.protocols
            await until_true(partial(_knows, peer, bootstrap.peer_id))
        assert await bob.put(record.key, record.value) == [bootstrap.peer_id]
        assert await dave.get(record.key) == record.value
        assert await dave.routing_table() == {bootstrap.peer_id}


async def test_a_bootstrap_node_relays_for_foreign_peers_and_dials_them_back(
    programs: Programs, built: None
) -> None:
    network = ("--network", "example.org", "--allow-unsigned", "--rpc", "")
    async with (
        running(programs, "wws-bootstrap", "bootstrap", *network) as bootstrap,
        foreign_member("js") as bob,
        foreign_member("go", autonat=True) as dave,
    ):
        address = f"{bootstrap.listen[0]}/p2p/{bootstrap.peer_id}"
        assert (await dave.dial((await bob.reserve(address))[0])).limited
        assert await dave.half_close(bob.peer_id, b"abc") == b"cba"
        await dave.hang_up(bob.peer_id)
        assert (await bob.dial((await dave.reserve(address))[0])).limited
        assert await bob.half_close(dave.peer_id, b"abc") == b"cba"
        said = await dave.identified(bootstrap.peer_id)
        assert {autonat_v1.PROTOCOL, autonat_v2.DIAL_REQUEST_PROTOCOL} <= said.protocols
        here = dave.address_of("tcp").partition("/p2p/")[0]
        assert (await dave.call("autonat_v2", addr=here))["reachability"] == "Public"


async def test_an_agent_is_reached_through_a_foreign_relay(programs: Programs, built: None) -> None:
    """It wants a relay because its user does not want to be seen, and the foreign one is all there is."""
    async with (
        foreign_relay("go") as relay,
        running(
            programs,
            "wws-connector",
            "alice",
            "--name",
            "alice",
            "--bootstrap",
            relay.address,
            "--relay-only",
        ) as alice,
        foreign_member("js") as bob,
    ):
        through = f"{relay.address}/p2p-circuit/p2p/{alice.peer_id}"
        await until_true(partial(_reaches, bob, through))
        said = await bob.identified(alice.peer_id)
        assert said.addresses
        assert all("/p2p-circuit" in one for one in said.addresses)
        assert len(await bob.ping_stream(alice.peer_id, 3)) == 3


async def _reaches(peer: ForeignPeer, address: str) -> bool:
    try:
        return (await peer.dial(address)).limited
    except ForeignPeerError:
        return False


async def _knows(peer: ForeignPeer, other: str) -> bool:
    return other in await peer.routing_table()
