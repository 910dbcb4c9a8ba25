"""A relay that is about to stop, on loopback: those it serves have moved before it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.interop.ours import until
from tests.net.circuit_node import Member, RelayNode
from tests.net.mesh_node import node
from tests.net.relaying import reserve
from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.mesh import identify
from wws.relay.messages import HOP_PROTOCOL, Status
from wws.relay.selection import SelectionConfig, State
from wws.runtime.connection import Connection
from wws.runtime.relay.client import RelayClientConfig
from wws.runtime.streams import Stream

pytestmark = [pytest.mark.net, pytest.mark.usefixtures("leaves_nothing")]

ONE_RELAY = RelayClientConfig(SelectionConfig(reservations=1))


async def drain(relay: RelayNode, on: bool = True) -> None:
    """As the node does it."""
    assert relay.server.drain(on)
    await relay.mesh.identify.push_all(relay.server.is_holder)


@contextlib.asynccontextmanager
async def announcing(client: RelayClientConfig) -> AsyncIterator[tuple[Member, list[set[PeerId]]]]:
    """Bob, who tells his peers each change of where he is reached; with the relays he told, each time."""
    async with Member.run("bob", client=client) as bob:
        told: list[set[PeerId]] = []

        def tell() -> None:
            told.append({held.relay for held in bob.client.reservations})
            bob.mesh.host.listen_addresses[:] = [
                address for held in bob.client.reservations for address in held.addresses
            ]
            bob.mesh.host.spawn(bob.mesh.identify.push_all(), "identify push")

        bob.client.on_change.append(tell)
        yield bob, told


def address_of(bob: Member, relay: RelayNode) -> Multiaddr:
    return relay.address.circuit().with_peer(bob.mesh.peer_id)


async def dial(caller: Member, bob: Member, relay: RelayNode) -> Connection:
    return await caller.mesh.dialer.connect(bob.mesh.peer_id, [address_of(bob, relay)])


async def test_an_agent_moves_before_its_relay_stops_and_says_so() -> None:
    async with (
        RelayNode.run("carol") as carol,
        RelayNode.run("dave") as dave,
        announcing(ONE_RELAY) as (bob, told),
    ):
        first, other = carol.mesh.peer_id, dave.mesh.peer_id
        await bob.reserve(carol)
        await bob.mesh.join(dave.mesh)
        await until(lambda: carol.server.announced_by == 1)
        assert told == [{first}]
        await drain(carol)
        await until(lambda: told[-1] == {other})
        # Never without a relay: the other one had given its slot before the first was given up.
        assert told == [{first}, {other}]
        assert dave.server.reservations == 1
        await until(lambda: carol.server.announced_by == 0)
        await until(lambda: dave.server.announced_by == 1)
        assert bob.client.outcomes["relay", "left"] == 1
        assert bob.client.outcomes["relay", "lost"] == 0
        async with Member.run("alice") as alice:
            # Who has not heard of it yet still gets to him, as long as the first relay is there.
            for relay in (carol, dave):
                await alice.mesh.join(relay.mesh)
                connection = await dial(alice, bob, relay)
                assert connection.circuit is not None
                assert connection.circuit.relay == relay.mesh.peer_id
                connection.close("seen")
                await until(lambda: alice.mesh.host.connection_to(bob.mesh.peer_id) is None)
        await carol.server.close()
        assert told[-1] == {other}


async def test_a_circuit_runs_on_while_its_relay_drains() -> None:
    async with (
        RelayNode.run("carol") as carol,
        RelayNode.run("dave") as dave,
        announcing(ONE_RELAY) as (bob, told),
        Member.run("alice") as alice,
    ):
        await bob.reserve(carol)
        for relay in (carol, dave):
            await alice.mesh.join(relay.mesh)
        await bob.mesh.join(dave.mesh)
        connection = await dial(alice, bob, carol)
        await drain(carol)
        await until(lambda: told[-1] == {dave.mesh.peer_id})
        assert carol.server.circuits == 1
        assert await alice.mesh.ping.ping(connection) > 0


async def test_a_relay_that_drains_gives_no_slots_and_says_that_it_is_none() -> None:
    async with RelayNode.run("carol") as carol, node("bob") as bob, node("erin") as erin:
        connection = await bob.join(carol.mesh)
        assert (await reserve(connection)).status is Status.OK
        await drain(carol)
        await until(lambda: HOP_PROTOCOL not in (connection.identification.protocols or ()))  # type: ignore[union-attr]
        newcomer = await erin.join(carol.mesh)
        assert newcomer.identification is not None
        assert HOP_PROTOCOL not in (newcomer.identification.protocols or ())
        for asking in (connection, newcomer):
            assert (await reserve(asking)).status is Status.RESERVATION_REFUSED
        assert carol.mesh.host.refusals[HOP_PROTOCOL, "draining"] == 2
        assert carol.server.reservations == 1
        assert not carol.server.drain(True)


async def test_who_is_just_being_identified_is_told_as_well() -> None:
    """Bob has been told of carol before the change, and she does not know yet what he understands."""
    async with RelayNode.run("carol") as carol, node("bob") as bob:
        hold = asyncio.Event()

        async def answer_later(stream: Stream) -> None:
            await hold.wait()
            await bob.identify._answer(stream)

        bob.host.serve(identify.PROTOCOL, answer_later)
        connection = await bob.dial(carol.address)
        said = await connection.wait_identified()
        assert said is not None
        assert HOP_PROTOCOL in (said.protocols or ())
        await drain(carol)
        hold.set()
        await until(lambda: HOP_PROTOCOL not in (connection.identification.protocols or ()))  # type: ignore[union-attr]
        assert not carol.mesh.identify._owed


async def test_a_relay_that_stays_after_all_is_a_relay_again() -> None:
    async with RelayNode.run("carol") as carol, announcing(ONE_RELAY) as (bob, told):
        await bob.reserve(carol)
        relay = carol.mesh.peer_id
        await drain(carol)
        await until(lambda: bob.client.machine.state_of(relay) is State.LEAVING)
        # There is no other: bob keeps what he has, and it works.
        assert told == [{relay}]
        assert carol.server.announced_by == 1
        async with Member.run("alice") as alice:
            await alice.mesh.join(carol.mesh)
            assert (await dial(alice, bob, carol)).circuit is not None
        await drain(carol, False)
        await until(lambda: bob.client.machine.state_of(relay) is State.HELD)
        async with Member.run("erin") as erin:
            await erin.reserve(carol)
        assert told == [{relay}]
