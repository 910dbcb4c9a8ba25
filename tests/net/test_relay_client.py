"""Reservations at relays on loopback: bob holds two, whatever the relays do."""

import asyncio
from dataclasses import replace

import pytest

from tests.interop.ours import until
from tests.net.circuit_node import Member, RelayNode
from tests.net.mesh_node import NETWORK, OTHER_NETWORK, node
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.relay.messages import HOP_PROTOCOL, HopMessage, HopType, Limit, Reservation, Status
from wws.relay.reputation import ReputationConfig
from wws.relay.reservations import ReservationConfig
from wws.relay.selection import SelectionConfig, State
from wws.relay.selection_events import Failure
from wws.relay.voucher import make_voucher
from wws.runtime.connection import ConnectionLost
from wws.runtime.host import StreamHandler
from wws.runtime.relay.client import RelayClientConfig
from wws.runtime.socket_connection import SocketConnection
from wws.runtime.streams import Stream
from wws.testing.clock import ManualClock

pytestmark = [pytest.mark.net, pytest.mark.usefixtures("leaves_nothing")]

QUICK = RelayClientConfig(
    SelectionConfig(
        probe_interval=0.05,
        probe_timeout=0.3,
        hedge_after=0.2,
        stall=60,
        reputation=ReputationConfig(retry_soon=0.1),
    ),
    request_timeout=1.0,
)
"""Seconds made short, so that nobody waits."""


def relays_of(member: Member) -> set[PeerId]:
    return {reservation.relay for reservation in member.client.reservations}


def protects(member: Member, relay: PeerId) -> bool:
    return "relay" in member.mesh.host.table._protected.get(relay, set())


async def test_two_relays_of_three() -> None:
    async with (
        RelayNode.run("carol") as carol,
        RelayNode.run("dave") as dave,
        RelayNode.run("erin") as erin,
        Member.run("bob") as bob,
    ):
        changes: list[int] = []
        bob.client.on_change.append(lambda: changes.append(len(bob.client.reservations)))
        all_three = (carol, dave, erin)
        for relay in all_three:
            await bob.mesh.join(relay.mesh)
        assert bob.client.reservations == ()
        assert not bob.client.wanted
        bob.client.set_wanted(True)
        await until(lambda: len(bob.client.reservations) == 2)
        assert changes == [1, 2]
        assert sum(relay.server.reservations for relay in all_three) == 2
        for reservation in bob.client.reservations:
            [relay] = [one for one in all_three if one.mesh.peer_id == reservation.relay]
            assert reservation.addresses == (relay.address.circuit(),)
            assert 3500 < reservation.expires_at - bob.mesh.host.clock.unix() <= 3600
            assert protects(bob, reservation.relay)
            assert bob.client.holds_reservation_at(reservation.relay)
        [idle] = [one for one in all_three if one.mesh.peer_id not in relays_of(bob)]
        assert not bob.client.holds_reservation_at(idle.mesh.peer_id)
        assert bob.client.outcomes["reserve", "done"] == 2


async def test_a_relay_that_leaves_is_replaced_and_comes_back() -> None:
    async with (
        RelayNode.run("dave") as dave,
        RelayNode.run("erin") as erin,
        Member.run("bob") as bob,
    ):
        async with RelayNode.run("carol") as carol:
            await bob.reserve(carol, dave)
            await bob.mesh.join(erin.mesh)
            gone = carol.mesh.peer_id
            assert relays_of(bob) == {gone, dave.mesh.peer_id}
        await until(lambda: relays_of(bob) == {dave.mesh.peer_id, erin.mesh.peer_id})
        assert not protects(bob, gone)
        assert bob.client.outcomes["relay", "lost"] == 1
        async with RelayNode.run("carol") as carol:
            await bob.mesh.join(carol.mesh)
            erin.mesh.host.connections()[0].close("going")
            await until(lambda: relays_of(bob) == {dave.mesh.peer_id, gone})


async def test_a_relay_that_falls_silent_is_replaced() -> None:
    """Nothing closes, nothing comes: the relay has lost its network, and bob's socket knows nothing of it."""
    async with (
        RelayNode.run("carol") as carol,
        RelayNode.run("dave") as dave,
        RelayNode.run("erin") as erin,
        Member.run("bob", client=QUICK) as bob,
    ):
        await bob.reserve(carol, dave)
        await bob.mesh.join(erin.mesh)
        theirs = await carol.mesh.connection_with(bob.mesh.peer_id)
        ours = bob.mesh.host.connection_to(carol.mesh.peer_id)
        assert isinstance(theirs, SocketConnection)
        assert theirs._transport is not None
        theirs._transport.pause_reading()
        await until(lambda: relays_of(bob) == {dave.mesh.peer_id, erin.mesh.peer_id})
        # Whoever wants carol again dials her anew.
        assert ours is not None
        assert ours.is_leaving
        assert bob.mesh.host.connection_to(carol.mesh.peer_id) is None
        again = await bob.mesh.dial(carol.address)
        assert again is not ours


async def test_when_every_connection_has_died_in_silence_new_ones_are_made() -> None:
    """As after a change of network: no socket knows that it leads nowhere any more."""
    async with (
        RelayNode.run("carol") as carol,
        RelayNode.run("dave") as dave,
        Member.run("bob", client=QUICK) as bob,
    ):
        bob.mesh.host.set_entry_points({carol.mesh.peer_id, dave.mesh.peer_id})
        await bob.reserve(carol, dave)
        for relay in (carol, dave):
            theirs = await relay.mesh.connection_with(bob.mesh.peer_id)
            assert isinstance(theirs, SocketConnection)
            assert theirs._transport is not None
            theirs._transport.pause_reading()
        await until(lambda: bob.client.outcomes["relay", "lost"] == 2)
        await until(lambda: relays_of(bob) == {carol.mesh.peer_id, dave.mesh.peer_id})


async def test_reservations_are_renewed_and_end() -> None:
    short = ReservationConfig(duration=2.0)
    quick = replace(QUICK, selection=replace(QUICK.selection, min_lease=1.0, release_grace=0.05))
    async with RelayNode.run("carol", reservations=short) as carol, Member.run("bob", client=quick) as bob:
        await bob.reserve(carol)
        first = bob.client.reservations[0].expires_at
        await until(lambda: bob.client.outcomes["renew", "done"] == 1)
        await until(lambda: bob.client.reservations[0].expires_at > first)
        assert carol.server.reservations == 1
        bob.client.set_wanted(False)
        await until(lambda: bob.client.reservations == ())
        assert not protects(bob, carol.mesh.peer_id)


async def test_further_entry_points_are_sought() -> None:
    async with (
        RelayNode.run("carol") as carol,
        RelayNode.run("dave") as dave,
        Member.run("bob") as bob,
    ):
        bob.mesh.host.set_entry_points({carol.mesh.peer_id, dave.mesh.peer_id, bob.mesh.peer_id})
        bob.mesh.host.peers.learn(dave.mesh.peer_id, (dave.address,))
        await bob.mesh.join(carol.mesh)
        bob.client.set_wanted(True)
        await until(lambda: relays_of(bob) == {carol.mesh.peer_id, dave.mesh.peer_id})


@pytest.mark.parametrize(
    ("theirs", "ours", "entry_point", "taken"),
    [
        (NETWORK, NETWORK, False, True),
        (OTHER_NETWORK, NETWORK, True, False),
        (None, NETWORK, True, True),
        (None, NETWORK, False, False),
        (NETWORK, None, False, True),
    ],
)
async def test_only_relays_of_our_network(
    theirs: str | None, ours: str | None, entry_point: bool, taken: bool
) -> None:
    async with (
        RelayNode.run("carol", network=theirs) as carol,
        Member.run("bob", network=ours) as bob,
    ):
        await bob.mesh.join(carol.mesh)
        if entry_point:
            bob.mesh.host.set_entry_points({carol.mesh.peer_id})
        bob.client.reconsider()
        state = bob.client.machine.state_of(carol.mesh.peer_id)
        assert (state is State.IDLE) is taken


async def test_who_does_not_relay_is_no_candidate() -> None:
    async with node("carol") as carol, RelayNode.run("dave") as dave, Member.run("bob") as bob:
        await bob.mesh.join(carol)
        await bob.mesh.join(dave.mesh)
        assert bob.client.machine.state_of(carol.peer_id) is None
        assert bob.client.machine.state_of(dave.mesh.peer_id) is State.IDLE
        # It may stop to, and says so.
        dave.server.enable(False)
        await dave.mesh.identify.push_all()
        await until(lambda: bob.client.machine.state_of(dave.mesh.peer_id) is None)


BOB = Identity.from_label("bob").peer_id
CAROL = Identity.from_label("carol")
NOW = 1_800_000_000
ADDRESS = Multiaddr.parse("/ip4/198.51.100.1/tcp/9000")


def status(
    status: Status = Status.OK,
    *,
    expire: int = NOW + 3600,
    addresses: tuple[Multiaddr, ...] = (ADDRESS,),
    voucher: bytes | None = None,
) -> HopMessage:
    return HopMessage(
        HopType.STATUS,
        reservation=Reservation(expire, addresses, voucher),
        limit=Limit(120, 2**17),
        status=status,
    )


ANSWERS: list[tuple[str, HopMessage | bytes | None, str]] = [
    ("nothing", None, Failure.CONNECTION),
    ("garbage", b"\xff" * 30, Failure.MALFORMED),
    ("another question", HopMessage(HopType.RESERVE), Failure.MALFORMED),
    ("no reservation", HopMessage(HopType.STATUS, status=Status.OK), Failure.MALFORMED),
    ("refused", status(Status.RESERVATION_REFUSED), Failure.REFUSED),
    ("no room", status(Status.RESOURCE_LIMIT_EXCEEDED), Failure.RESOURCE_LIMIT),
    ("not allowed", status(Status.PERMISSION_DENIED), Failure.PERMISSION_DENIED),
    ("a status of its own", HopMessage(HopType.STATUS), Failure.REFUSED),
    ("over", status(expire=NOW), Failure.LEASE),
    (
        "voucher of another",
        status(voucher=make_voucher(Identity.from_label("eve"), BOB, NOW + 3600)),
        "voucher",
    ),
    ("voucher for another", status(voucher=make_voucher(CAROL, CAROL.peer_id, NOW + 3600)), "voucher"),
    ("voucher that is over", status(voucher=make_voucher(CAROL, BOB, NOW)), "voucher"),
    ("voucher of noise", status(voucher=b"\x01" * 100), "voucher"),
    ("a good voucher", status(voucher=make_voucher(CAROL, BOB, NOW + 3600)), "done"),
    ("no voucher", status(), "done"),
]


@pytest.mark.parametrize(
    ("answer", "outcome"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
async def test_what_a_relay_answers(answer: HopMessage | bytes | None, outcome: str) -> None:
    async with (
        node("carol", server=False) as carol,
        Member.run("bob", client=QUICK, clock=ManualClock(unix_now=NOW)) as bob,
    ):
        carol.host.serve(HOP_PROTOCOL, answering(answer))
        await bob.mesh.join(carol)
        bob.client.set_wanted(True)
        kind = "done" if outcome == "done" else str(outcome)
        if outcome == Failure.LEASE:  # the machine judges that one
            await until(lambda: bob.client.outcomes["reserve", "done"] == 1)
        else:
            await until(lambda: bob.client.outcomes["reserve", kind] == 1)
        assert len(bob.client.reservations) == (outcome == "done")
        assert protects(bob, carol.peer_id) is (outcome == "done")


def answering(answer: HopMessage | bytes | None) -> StreamHandler:
    async def handler(stream: Stream) -> None:
        await stream.read_frame(4096)
        if answer is not None:
            await stream.write_frame(answer if isinstance(answer, bytes) else answer.encode())
        await stream.finish()

    return handler


@pytest.mark.parametrize(
    ("given", "announced"),
    [
        pytest.param([ADDRESS], [ADDRESS], id="as given"),
        pytest.param([ADDRESS, ADDRESS.with_peer(CAROL.peer_id)], [ADDRESS], id="once"),
        pytest.param(
            [ADDRESS.with_peer(BOB), ADDRESS.with_peer(CAROL.peer_id).circuit(), ADDRESS.with_port(0)],
            [None],
            id="none of use: where we reached it",
        ),
        pytest.param(
            [ADDRESS.with_port(port) for port in range(1, 16)],
            [ADDRESS.with_port(port) for port in range(1, 5)],
            id="no more than four",
        ),
    ],
)
async def test_where_others_reach_us(given: list[Multiaddr], announced: list[Multiaddr | None]) -> None:
    async with (
        node("carol", server=False) as carol,
        Member.run("bob", client=QUICK, clock=ManualClock(unix_now=NOW)) as bob,
    ):
        carol.host.serve(HOP_PROTOCOL, answering(status(addresses=tuple(given))))
        await bob.mesh.join(carol)
        bob.client.set_wanted(True)
        await until(lambda: len(bob.client.reservations) == 1)
        expected = [(address or carol.address).with_peer(carol.peer_id).circuit() for address in announced]
        assert list(bob.client.reservations[0].addresses) == expected


async def test_a_relay_without_an_address_of_use_is_none() -> None:
    """The mesh is public, and the relay names only the loopback."""
    async with RelayNode.run("carol") as carol, Member.run("bob") as bob:
        await bob.mesh.join(carol.mesh)
        bob.mesh.host._scope = Scope.PUBLIC
        bob.client.set_wanted(True)
        await until(lambda: bob.client.outcomes["reserve", "no_address"] == 1)
        assert bob.client.reservations == ()


async def test_a_silent_relay_is_given_up_for_the_next() -> None:
    async def silent(stream: Stream) -> None:
        await stream.read_to_end(100)
        await asyncio.Event().wait()

    async with (
        node("carol") as carol,
        RelayNode.run("dave") as dave,
        RelayNode.run("erin") as erin,
        Member.run("bob", client=QUICK) as bob,
    ):
        carol.host.serve(HOP_PROTOCOL, silent)
        await bob.mesh.join(carol)
        bob.mesh.host.set_entry_points({carol.peer_id})  # so that she comes first
        bob.client.set_wanted(True)
        await until(lambda: bob.client.machine.state_of(carol.peer_id) is State.RESERVING)
        await bob.mesh.join(dave.mesh)
        await bob.mesh.join(erin.mesh)
        await until(lambda: relays_of(bob) == {dave.mesh.peer_id, erin.mesh.peer_id})
        assert bob.client.machine.state_of(carol.peer_id) is State.IDLE


async def test_connections_that_come_and_go_leave_nothing() -> None:
    async with RelayNode.run("carol") as carol, Member.run("bob") as bob:
        bob.client.set_wanted(True)
        for _ in range(5):
            connection = await bob.mesh.join(carol.mesh)
            await until(lambda: carol.server.reservations == 1 and len(bob.client.reservations) == 1)
            connection.abort(ConnectionLost("again"))
            await until(lambda: carol.server.reservations == 0 and not bob.client.reservations)
        assert not protects(bob, carol.mesh.peer_id)
        assert not bob.client._requests
