"""Networks stay apart (wire.md section 2): who belongs to another one gets no answers and no place."""

import asyncio

import pytest

from tests.interop.ours import until
from tests.net.hostile import Hostile
from tests.net.mesh_node import OTHER_NETWORK, MeshNode, node
from wws.codec import varint
from wws.dht.events import EntryPointRegained
from wws.dht.kademlia import KademliaCommand
from wws.dht.messages import KadMessage, MessageType
from wws.errors import WwsError
from wws.machine import Event
from wws.runtime.connection import Connection
from wws.runtime.dht_driver import PROTOCOL as KAD

pytestmark = [pytest.mark.net, pytest.mark.timeout(30), pytest.mark.usefixtures("leaves_nothing")]

REQUEST = KadMessage(MessageType.PING, b"", None, ())


async def ask(connection: Connection) -> bool:
    """Whether the peer answers a request of the DHT."""
    try:
        async with asyncio.timeout(10), connection.open_stream(KAD) as stream:
            await stream.write_frame(REQUEST.encode())
            answer = await stream.read_frame(1000)
            stream.close_write()
            return answer is not None
    except WwsError:
        return False


def knows(one: MeshNode, other: MeshNode) -> bool:
    return other.peer_id in one.dht.machine.routing


async def test_peers_of_one_network_know_and_ask_each_other() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await bob.join(alice)
        await until(lambda: knows(alice, bob) and knows(bob, alice))
        assert await ask(connection)
        assert alice.host.table.is_protected(bob.peer_id)


async def test_a_peer_of_another_network() -> None:
    async with node("alice") as alice, node("bob", network=OTHER_NETWORK) as bob:
        connection = await bob.join(alice)
        assert not await ask(connection)
        assert alice.host.refusals[KAD, "wrong_network"] == 1
        assert not knows(alice, bob)
        assert not knows(bob, alice)
        assert not alice.host.table.is_protected(bob.peer_id)
        assert await bob.ping.ping(connection) >= 0  # it may be connected all the same


async def test_a_peer_that_advertises_none_is_served_but_never_asked() -> None:
    async with node("alice") as alice, node("bob", network=None) as bob:
        connection = await bob.join(alice)
        assert await ask(connection)
        assert not knows(alice, bob)
        assert knows(bob, alice)  # a node of no network accepts any


async def test_an_entry_point_that_advertises_none_is_asked() -> None:
    async with node("alice") as alice, node("bob", network=None) as bob:
        await bob.join(alice)
        alice.host.set_entry_points({bob.peer_id})
        alice.dht.reconsider_peers()
        assert knows(alice, bob)
        alice.host.set_entry_points(set())
        alice.dht.reconsider_peers()
        assert not knows(alice, bob)
        assert not alice.host.table.is_protected(bob.peer_id)


async def test_a_client_of_the_network_is_answered_but_has_no_place() -> None:
    async with node("alice") as alice, node("bob", server=False) as bob:
        connection = await bob.join(alice)
        assert await ask(connection)
        assert not knows(alice, bob)
        assert knows(bob, alice)


async def test_who_changes_its_network_loses_its_place_and_its_answers() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await bob.join(alice)
        await until(lambda: knows(alice, bob))
        async with connection.open_stream(KAD) as stream:
            await stream.write_frame(REQUEST.encode())
            assert await stream.read_frame(1000) is not None
            bob.identify.set_network(OTHER_NETWORK)
            await bob.identify.push_all()
            await until(lambda: not knows(alice, bob))
            await stream.write_frame(REQUEST.encode())
            with pytest.raises(WwsError):
                await stream.read_exactly(1)
        assert alice.host.refusals[KAD, "wrong_network"] >= 1  # bob's own queries count as well
        assert not alice.host.table.is_protected(bob.peer_id)


async def test_a_request_waits_for_identify() -> None:
    async with node("alice") as alice, await Hostile.authenticated(alice.port) as peer:
        peer.open(1, KAD, varint.frame(REQUEST.encode()))
        await peer.ping()
        connection = alice.host.connections()[0]
        assert not connection.identify_done
        assert alice.host.handlers.of_peers[connection.peer_id, KAD] == 1
        connection.set_identified(None)  # identify has failed
        await until(lambda: alice.host.refusals[KAD, "not_identified"] == 1)
        await until(lambda: not alice.host.handlers.of_peers)


async def test_an_entry_point_that_comes_back_is_asked_for_the_other_half(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with node("alice") as alice:
        regained: list[EntryPointRegained] = []
        handle = alice.dht.machine.handle

        def listen(event: Event, now: float, unix_now: int) -> list[KademliaCommand]:
            if isinstance(event, EntryPointRegained):
                regained.append(event)
            return handle(event, now, unix_now)

        monkeypatch.setattr(alice.dht.machine, "handle", listen)
        for _ in range(2):
            async with node("bob") as bob:
                alice.host.set_entry_points({bob.peer_id})
                await alice.join(bob)
                await until(lambda: bob.peer_id in alice.dht.machine.routing)
            await until(lambda: alice.host.connection_to(bob.peer_id) is None)
        assert regained == [EntryPointRegained(bob.peer_id)]
