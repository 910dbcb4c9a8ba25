"""An agent that leaves, as those see it whom it was connected with: whole nodes in one process."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tests.e2e.whole_nodes import running
from tests.interop.ours import until
from wws.mesh import identify
from wws.runtime.node import Node
from wws.runtime.streams import Stream

pytestmark = pytest.mark.net


def way_to(node: Node) -> tuple[str, str]:
    return "--bootstrap", str(node.host.listen_addresses[0].with_peer(node.identity.peer_id))


def names(one: Node, other: Node) -> bool:
    """Whether a node would name another one to whoever asks."""
    return other.identity.peer_id in one.dht.machine.routing


async def test_it_is_named_to_nobody_from_then_on(tmp_path: Path) -> None:
    async with running("carol", tmp_path / "carol", "--bootstrap-mode") as carol:
        async with contextlib.AsyncExitStack() as own:
            bob = await own.enter_async_context(running("bob", tmp_path / "bob", *way_to(carol)))
            await until(lambda: names(carol, bob))
            alice = await own.enter_async_context(running("alice", tmp_path / "alice", *way_to(carol)))
            await until(lambda: names(carol, alice) and names(alice, bob))
        await until(lambda: not names(carol, bob) and not names(carol, alice))


async def test_a_goodbye_is_not_taken_back(tmp_path: Path) -> None:
    """Addresses change while it leaves, too."""
    async with running("carol", tmp_path / "carol", "--bootstrap-mode") as carol:
        async with running("bob", tmp_path / "bob", *way_to(carol)) as bob:
            await until(lambda: names(carol, bob))
        bob.addresses = ()
        bob.refresh_addresses()
        assert not bob.dht.is_server


async def test_who_does_not_listen_to_it_holds_nobody_up(tmp_path: Path) -> None:
    async with running("carol", tmp_path / "carol", "--bootstrap-mode") as carol:
        never = asyncio.Event()
        told = asyncio.Event()

        async def deaf(stream: Stream) -> None:
            told.set()
            await never.wait()

        async with running("bob", tmp_path / "bob", *way_to(carol)) as bob:
            await until(lambda: names(carol, bob))
            carol.host.serve(identify.PUSH_PROTOCOL, deaf)
        assert told.is_set()
        assert not bob.host.connections()


async def test_a_bootstrap_node_comes_back(tmp_path: Path) -> None:
    """It is away for the second of an upgrade: thousands of agents need not learn of it anew."""
    async with running("carol", tmp_path / "carol", "--bootstrap-mode") as carol:
        async with running("dave", tmp_path / "dave", "--bootstrap-mode", *way_to(carol)) as dave:
            await until(lambda: names(carol, dave))
        await until(lambda: not carol.host.connections())
        assert names(carol, dave)
