"""Where hearsay may lead a node, and whom it may keep it from."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import node
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.runtime.dialer import Dialer, DialerConfig, DialFailed
from wws.runtime.relay.circuits import Circuits, CircuitsConfig

pytestmark = [pytest.mark.net, pytest.mark.timeout(30), pytest.mark.usefixtures("leaves_nothing")]

NOBODY = Identity.from_label("nobody").peer_id


async def test_who_leaves_does_not_take_the_scope_of_the_mesh_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last peer of a public mesh names an address of ours, and is gone before we dial it."""
    monkeypatch.setattr("wws.runtime.connection.scope_of_ip", lambda _: Scope.PUBLIC)
    async with node("alice") as alice, node("mallory") as mallory:
        connection = await mallory.join(alice)
        victim = Multiaddr.parse("/ip4/127.0.0.1/tcp/1").with_peer(NOBODY)
        for leave in (False, True):
            if leave:
                connection.close()
                await until(lambda: not alice.host.connections())
            with pytest.raises(DialFailed) as failed:
                await alice.dialer.connect(NOBODY, [victim])
            assert [attempt.code for attempt in failed.value.attempts] == ["scope"]


async def test_tarpits_that_the_dht_names_do_not_keep_us_from_an_entry_point() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    tarpit = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with tarpit, node("alice", dialer=DialerConfig(max_concurrent=2)) as alice, node("bob") as bob:
        port = tarpit.sockets[0].getsockname()[1]
        stuck = [
            asyncio.create_task(alice.dialer.connect(peer, [Multiaddr.of("127.0.0.1", port).with_peer(peer)]))
            for peer in (Identity.from_label(f"stuck {number}").peer_id for number in range(4))
        ]
        await until(lambda: len(alice.host._connections) == 2)
        connection = await alice.dialer.connect_at(bob.peer_id, bob.address, 5.0)
        assert connection.peer_id == bob.peer_id
        assert not any(task.done() for task in stuck)
        await alice.dialer.close()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_peer_is_not_dialled_at_every_port_of_a_victim() -> None:
    visits: list[int] = []

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer.get_extra_info("sockname")[1])
        writer.close()

    async with contextlib.AsyncExitStack() as stack:
        victim = [
            await stack.enter_async_context(await asyncio.start_server(visited, "127.0.0.1", 0))
            for _ in range(6)
        ]
        alice = await stack.enter_async_context(node("alice", dialer=DialerConfig(retries=0)))
        ports = [server.sockets[0].getsockname()[1] for server in victim]
        with pytest.raises(DialFailed) as failed:
            await alice.dialer.connect(NOBODY, [Multiaddr.of("127.0.0.1", port) for port in ports])
        assert sorted(visits) == sorted(ports[:2])
        assert [attempt.code for attempt in failed.value.attempts].count("too_many") == 4


async def test_relays_that_are_all_said_to_be_at_one_place_are_not_all_dialled_there() -> None:
    visits = 0

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(visited, "127.0.0.1", 0) as victim, node("alice") as alice:
        Circuits(alice.host, alice.dialer, CircuitsConfig(relay_timeout=0.5))
        place = Multiaddr.of("127.0.0.1", victim.sockets[0].getsockname()[1])
        relays = [Identity.from_label(f"relay {number}").peer_id for number in range(8)]
        with pytest.raises(DialFailed) as failed:
            await alice.dialer.connect(NOBODY, [place.with_peer(relay).circuit() for relay in relays])
        assert visits == 2
        assert [attempt.code for attempt in failed.value.attempts].count("too_many") == 6


async def test_names_looked_up_in_one_dial_are_bounded() -> None:
    looked_up: list[Multiaddr] = []

    async def resolver(address: Multiaddr) -> Sequence[Multiaddr]:
        looked_up.append(address)
        raise WwsError("no such name")

    async with node("alice") as alice:
        dialer = Dialer(alice.host, resolver, DialerConfig())
        named = [Multiaddr.parse(f"/dnsaddr/{number}.example") for number in range(16)]
        with pytest.raises(DialFailed):
            await dialer.connect(NOBODY, named)
        assert looked_up == named[:4]
