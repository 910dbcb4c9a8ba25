"""A bootstrap node that is stopped for an upgrade, as agents see it: whole nodes in one process."""

import contextlib
from pathlib import Path

import pytest

from tests.e2e.whole_nodes import running
from tests.interop.ours import until
from wws.identity.peer_id import PeerId
from wws.rpc.api import to_json
from wws.runtime.node import Node
from wws.runtime.node_face import NodeFace, NotABootstrapNode
from wws.runtime.node_metrics import NodeMetrics
from wws.runtime.status_pages import Readiness

pytestmark = pytest.mark.net


def address(node: Node) -> str:
    return str(node.host.listen_addresses[0].with_peer(node.identity.peer_id))


def relays_told(node: Node) -> set[PeerId]:
    """The relays in what the node announces."""
    return {one.relay_id for one in node.addresses if one.relay_id is not None}


async def test_agents_have_moved_before_it_stops(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        hosts: dict[PeerId, tuple[Node, contextlib.AsyncExitStack]] = {}
        ways: list[str] = []
        for label in ("carol", "dave", "erin"):
            own = await stack.enter_async_context(contextlib.AsyncExitStack())
            arguments = ("--bootstrap-mode", *ways)
            host = await own.enter_async_context(running(label, tmp_path / label, *arguments))
            hosts[host.identity.peer_id] = host, own
            ways += ["--bootstrap", address(host)]
        bob = await stack.enter_async_context(running("bob", tmp_path / "bob", "--relay-only", *ways))
        alice = await stack.enter_async_context(running("alice", tmp_path / "alice", *ways))
        await until(lambda: len(relays_told(bob)) == 2)
        told: list[set[PeerId]] = []
        bob.nat.relay_client.on_change.append(lambda: told.append(relays_told(bob)))

        leaving, ending = hosts[min(relays_told(bob))]
        face, relay, peer = (
            NodeFace(leaving, lambda: None),
            leaving.nat.relay_server,
            leaving.identity.peer_id,
        )
        assert relay is not None
        await until(lambda: relay.announced_by == 1)
        readiness = Readiness()
        leaving.on_draining.append(readiness.drain)
        assert (await face.drain(True)).draining
        assert readiness.missing == ["draining"]
        assert b"wws_draining 1.0" in NodeMetrics(leaving).render()
        await until(lambda: relay.announced_by == 0)
        assert peer not in relays_told(bob)
        assert all(len(each) == 2 for each in told), "never a relay less than before"
        assert to_json(await face.drain(True)) == {
            "draining": True, "reservations": 1, "announced_by": 0, "circuits": 0,
            "connections": len(leaving.host.table),
        }  # fmt: skip
        status = await face.status()
        assert status.draining
        assert status.relay_service is not None
        assert status.relay_service.announced_by == 0

        caller = NodeFace(alice, lambda: None)
        await ending.aclose()
        assert peer not in relays_told(bob)
        assert (await caller.ping(str(bob.identity.peer_id), 1)).received == 1
        with pytest.raises(NotABootstrapNode):
            await caller.drain(True)


async def test_a_host_that_stays_after_all_is_chosen_again(tmp_path: Path) -> None:
    async with running("carol", tmp_path / "carol", "--bootstrap-mode") as carol:
        face = NodeFace(carol, lambda: None)
        await face.drain(True)
        way = ("--bootstrap", address(carol))
        async with running("bob", tmp_path / "bob", "--relay-only", *way) as bob:
            await until(bob.is_joined)
            assert relays_told(bob) == set()
            assert not (await face.drain(False)).draining
            await until(lambda: relays_told(bob) == {carol.identity.peer_id})
