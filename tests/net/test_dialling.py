"""Where hearsay may lead a node, and whom it may keep it from."""

import asyncio

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import node
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.identity.keys import Identity
from wws.runtime.dialer import DialerConfig, DialFailed

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
