"""Foreign relays for us, our relay for foreign peers, and circuits between all of them (circuit relay v2)."""

import pytest

from tests.interop.conftest import over_transports
from tests.interop.ours import OurNode, until, until_true
from tests.interop.peer import IMPLEMENTATIONS, ForeignPeer, ForeignPeerError, Implementation
from tests.interop.relaying import Member, OurRelay, foreign_member, foreign_relay
from tests.net.relaying import reserve
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.relay.circuit_table import CircuitConfig
from wws.relay.messages import MAX_DURATION, Status
from wws.relay.reservations import ReservationConfig
from wws.relay.server import RelayConfig
from wws.relay.voucher import check_voucher
from wws.runtime.connection import Connection
from wws.runtime.dialer import DialFailed
from wws.runtime.relay.circuits import RelayNoReservation

pytestmark = [
    pytest.mark.interop,
    pytest.mark.net,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("built"),
]

each = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
other_of: dict[Implementation, Implementation] = {"js": "go", "go": "js"}


# A foreign relay


@over_transports
@each
async def test_we_are_reached_through_a_foreign_relay(
    implementation: Implementation, transport: Transport
) -> None:
    async with (
        foreign_relay(implementation) as relay,
        Member.start("alice") as alice,
        Member.start("bob") as bob,
        foreign_member(other_of[implementation]) as carol,
    ):
        address = await alice.reserve(relay.address_of(transport))
        assert alice.client.outcomes["reserve", "done"] == 1
        assert Multiaddr.parse(address).transport == transport
        us, peer = str(alice.node.peer_id), alice.node.peer_id

        there = await bob.node.dial(address)
        here = await alice.node.connection_with(str(bob.node.peer_id))
        for connection in (there, here):
            assert connection.is_limited
            assert str(connection.circuit and connection.circuit.relay) == relay.peer_id
            assert _limits(connection) == (_as_we_read_it(implementation, 120), 131_072)
        assert await bob.node.half_close(there, b"abc") == b"cba"
        assert await alice.node.half_close(here, b"abc") == b"cba"
        await bob.node.ping.ping(there)

        seen = await carol.dial(address)
        assert seen.limited
        here = await alice.node.connection_with(carol.peer_id)
        assert here.is_limited
        assert await carol.half_close(us, b"abc") == b"cba"
        assert await alice.node.half_close(here, b"abc") == b"cba"
        assert (await carol.identified(us)).agent.startswith("wws/")
        assert (await here.wait_identified()) is not None
        assert bob.node.host.connection_to(peer) is there
        assert alice.node.host.refusals.total() == 0


@over_transports
@each
async def test_we_reach_others_through_a_foreign_relay(
    implementation: Implementation, transport: Transport
) -> None:
    async with (
        foreign_relay(implementation) as relay,
        foreign_member(other_of[implementation]) as carol,
        Member.start("alice") as alice,
    ):
        [address, *_] = await carol.reserve(relay.address_of(transport))
        connection = await alice.node.dial(address)
        assert connection.is_limited
        assert await alice.node.half_close(connection, b"abc") == b"cba"
        assert await carol.half_close(str(alice.node.peer_id), b"abc") == b"cba"
        said = await connection.wait_identified()
        assert said is not None
        [seen] = [one for one in await carol.connections() if one.peer_id == str(alice.node.peer_id)]
        assert seen.limited
        assert alice.node.host.refusals.total() == 0


@each
async def test_the_voucher_of_a_foreign_relay_is_good(implementation: Implementation) -> None:
    async with foreign_relay(implementation) as relay, OurNode.start("alice") as alice:
        connection = await alice.dial(relay.address)
        answer = await reserve(connection)
        assert answer.status is Status.OK
        assert answer.reservation is not None
        assert answer.reservation.voucher is not None
        unix_now = alice.host.clock.unix()
        voucher = check_voucher(
            answer.reservation.voucher,
            relay=PeerId.parse(relay.peer_id),
            peer=alice.peer_id,
            unix_now=unix_now,
        )
        assert abs(voucher.expiration - answer.reservation.expire) <= 1
        assert unix_now < answer.reservation.expire <= unix_now + 2 * 3600 + 60
        listening = {Multiaddr.parse(one).without_peer() for one in relay.addresses}
        assert {one.without_peer() for one in answer.reservation.addresses} == listening
        assert answer.limit is not None
        assert answer.limit.duration == _as_we_read_it(implementation, 120)


@each
async def test_the_limit_of_a_foreign_relay_ends_a_circuit_and_nothing_else(
    implementation: Implementation,
) -> None:
    async with (
        foreign_relay(implementation, limit_bytes=100_000) as relay,
        Member.start("alice") as alice,
        Member.start("bob") as bob,
    ):
        address = await alice.reserve(relay.address)
        connection = await bob.node.dial(address)
        with pytest.raises(WwsError):
            await bob.node.upload(connection, 1_000_000)
        await until(lambda: bob.node.host.connection_to(alice.node.peer_id) is None)
        await until(lambda: alice.node.host.connection_to(bob.node.peer_id) is None)
        # The relay is still there, and so is the way through it.
        assert alice.client.reservations
        again = await bob.node.dial(address)
        assert await bob.node.half_close(again, b"abc") == b"cba"
        assert (alice.circuits.inbound, bob.circuits.outbound) == (1, 1)


@each
async def test_time_is_up_at_a_foreign_relay(implementation: Implementation) -> None:
    async with (
        foreign_relay(implementation, limit_seconds=1) as relay,
        Member.start("alice") as alice,
        Member.start("bob") as bob,
    ):
        connection = await bob.node.dial(await alice.reserve(relay.address))
        assert await bob.node.half_close(connection, b"abc") == b"cba"
        await until(lambda: bob.node.host.connection_to(alice.node.peer_id) is None)
        await until(lambda: (alice.circuits.inbound, bob.circuits.outbound) == (0, 0))


@each
async def test_a_foreign_relay_does_not_know_who_is_wanted(implementation: Implementation) -> None:
    carol = Identity.from_label("carol").peer_id
    async with foreign_relay(implementation) as relay, Member.start("alice") as alice:
        with pytest.raises(DialFailed) as caught:
            await alice.node.dial(f"{relay.address}/p2p-circuit/p2p/{carol}")
        assert [attempt.code for attempt in caught.value.attempts] == [RelayNoReservation.code]


# Our relay


@over_transports
@each
async def test_foreign_peers_are_reached_through_our_relay(
    implementation: Implementation, transport: Transport
) -> None:
    async with (
        OurRelay.start() as relay,
        foreign_member(implementation) as carol,
        foreign_member(other_of[implementation]) as dave,
        Member.start("alice") as alice,
    ):
        addresses = await carol.reserve(relay.address_of(transport))
        assert {Multiaddr.parse(one).transport for one in addresses} == {"tcp", "quic-v1"}
        address = next(one for one in addresses if Multiaddr.parse(one).transport == transport)
        assert relay.server.reservations == 1

        assert (await dave.dial(address)).limited
        assert await dave.half_close(carol.peer_id, b"abc") == b"cba"
        assert await carol.half_close(dave.peer_id, b"abc") == b"cba"
        assert await dave.echo_pattern(carol.peer_id, 300_000) == 300_000

        connection = await alice.node.dial(address)
        assert _limits(connection) == (600, 2 * 1024 * 1024)
        assert await alice.node.half_close(connection, b"abc") == b"cba"
        assert await carol.half_close(str(alice.node.peer_id), b"abc") == b"cba"

        assert relay.server.circuits == 2
        assert relay.server.relayed_bytes["to_destination"] > 300_000
        await dave.hang_up(carol.peer_id)
        connection.close()
        await until(lambda: relay.server.circuits == 0)
        assert relay.node.host.refusals.total() == 0


@over_transports
@each
async def test_foreign_peers_reach_us_through_our_relay(
    implementation: Implementation, transport: Transport
) -> None:
    async with (
        OurRelay.start() as relay,
        Member.start("alice") as alice,
        foreign_member(implementation) as carol,
    ):
        address = await alice.reserve(relay.address_of(transport))
        assert (await carol.dial(address)).limited
        here = await alice.node.connection_with(carol.peer_id)
        assert await alice.node.half_close(here, b"abc") == b"cba"
        assert await carol.echo_pattern(str(alice.node.peer_id), 300_000) == 300_000
        assert len(await carol.ping_stream(str(alice.node.peer_id), 3)) == 3


@each
async def test_our_limits_hold_for_foreign_peers(implementation: Implementation) -> None:
    config = RelayConfig(circuits=CircuitConfig(max_bytes=100_000))
    async with (
        OurRelay.start(config) as relay,
        foreign_member(implementation) as carol,
        foreign_member(other_of[implementation]) as dave,
    ):
        address = (await carol.reserve(relay.address_of("tcp")))[0]
        await dave.dial(address)
        with pytest.raises(ForeignPeerError):
            await dave.upload(carol.peer_id, 1_000_000)
        await until(lambda: relay.server.ended["circuit_bytes"] == 1 and relay.server.circuits == 0)
        await until_true(lambda: _apart(dave, carol))
        await dave.dial(address)
        assert await dave.half_close(carol.peer_id, b"abc") == b"cba"


@each
async def test_time_is_up_at_our_relay(implementation: Implementation) -> None:
    config = RelayConfig(circuits=CircuitConfig(max_duration=1.0))
    async with (
        OurRelay.start(config) as relay,
        foreign_member(implementation) as carol,
        foreign_member(other_of[implementation]) as dave,
    ):
        await dave.dial((await carol.reserve(relay.address_of("quic-v1")))[0])
        assert await dave.half_close(carol.peer_id, b"abc") == b"cba"
        await until(lambda: relay.server.ended["circuit_time"] == 1 and relay.server.circuits == 0)
        await until_true(lambda: _apart(dave, carol))
        assert relay.server.reservations == 1


@each
async def test_foreign_peers_understand_no(implementation: Implementation) -> None:
    none = RelayConfig(reservations=ReservationConfig(max_reservations=0))
    async with OurRelay.start(none) as relay, foreign_member(implementation) as carol:
        with pytest.raises(ForeignPeerError, match=_named(implementation, Status.RESERVATION_REFUSED)):
            await carol.reserve(relay.address_of("tcp"))
        nobody = Identity.from_label("dave").peer_id
        with pytest.raises(ForeignPeerError, match=_named(implementation, Status.NO_RESERVATION)):
            await carol.dial(f"{relay.address_of('tcp')}/p2p-circuit/p2p/{nobody}")
        # It is told, and not cut off.
        assert await carol.half_close(str(relay.node.peer_id), b"abc") == b"cba"


@each
async def test_a_spent_budget_is_told_to_foreign_peers(implementation: Implementation) -> None:
    async with (
        OurRelay.start(RelayConfig(bytes_per_day=100_000)) as relay,
        foreign_member(implementation) as carol,
        foreign_member(implementation) as dave,
    ):
        address = (await carol.reserve(relay.address_of("tcp")))[0]
        await dave.dial(address)
        with pytest.raises(ForeignPeerError):
            await dave.upload(carol.peer_id, 1_000_000)
        await until(lambda: relay.server.ended["daily_budget"] == 1 and relay.server.circuits == 0)
        await until_true(lambda: _apart(dave, carol))
        with pytest.raises(ForeignPeerError, match=_named(implementation, Status.RESOURCE_LIMIT_EXCEEDED)):
            await dave.dial(address)


@each
async def test_a_slot_is_free_when_a_foreign_peer_leaves(implementation: Implementation) -> None:
    async with OurRelay.start() as relay, foreign_member(implementation) as dave:
        async with foreign_member(implementation) as carol:
            await carol.reserve(relay.address_of("tcp"))
            await dave.reserve(relay.address_of("quic-v1"))
            assert relay.server.reservations == 2
        await until(lambda: relay.server.reservations == 1)
        await dave.hang_up(str(relay.node.peer_id))
        await until(lambda: relay.server.reservations == 0)


def _limits(connection: Connection) -> tuple[float | None, int | None]:
    assert connection.circuit is not None
    return connection.circuit.limit_seconds, connection.circuit.limit_bytes


def _as_we_read_it(implementation: Implementation, seconds: int) -> int:
    """js writes milliseconds, so its two minutes are taken for the longest that makes sense."""
    return min(seconds * 1000, MAX_DURATION) if implementation == "js" else seconds


def _named(implementation: Implementation, status: Status) -> str:
    return status.name if implementation == "js" else f"{status.name}|{status.value}"


async def _apart(one: ForeignPeer, other: ForeignPeer) -> bool:
    return all(connection.peer_id != other.peer_id for connection in await one.connections())
