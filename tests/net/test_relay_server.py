"""The relay on real sockets: circuits end to end, every bound, and peers that keep to no rule."""

import asyncio
import contextlib
import logging
import random
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.interop.ours import echo, pattern, reverse, send_all, sink, until
from tests.net.hostile import Hostile
from tests.net.mesh_node import OTHER_NETWORK, MeshNode, node
from tests.net.relaying import Destination, ask, ask_on, connect, relay, reserve
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.codec import protobuf
from wws.errors import ParseError, WwsError
from wws.identity.keys import Identity
from wws.mesh.admission import AdmissionConfig
from wws.mesh.connections import ConnectionTableConfig
from wws.relay.circuit_table import CircuitConfig
from wws.relay.messages import (
    HOP_PROTOCOL,
    MAX_MESSAGE,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Limit,
    Status,
    StopMessage,
    StopType,
)
from wws.relay.reservations import ReservationConfig
from wws.relay.server import RelayConfig
from wws.relay.voucher import check_voucher
from wws.runtime.host import HostConfig
from wws.runtime.relay.circuits import Circuits, CircuitsConfig
from wws.runtime.relay.server import RelayServer, RelayServerConfig
from wws.runtime.state_files import StateFile
from wws.runtime.streams import Stream, StreamReset
from wws.testing.scale import scale

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

MIB = 1024 * 1024
RESERVE = HopMessage(HopType.RESERVE)


def bounds(
    reservations: ReservationConfig | None = None,
    circuits: CircuitConfig | None = None,
    *,
    bytes_per_day: int = 0,
    **driver: float,
) -> RelayServerConfig:
    config = RelayConfig(
        reservations or ReservationConfig(), circuits or CircuitConfig(), bytes_per_day, min_piece=1
    )
    return RelayServerConfig(config, **driver)


def refused(one: MeshNode, reason: str) -> int:
    return one.host.refusals[HOP_PROTOCOL, reason]


def is_kept(one: MeshNode, other: MeshNode) -> bool:
    """Whether a slot keeps the connection from being trimmed; the DHT may have reasons of its own."""
    return "relayed" in one.host.table._protected.get(other.peer_id, ())


async def status_of(one: MeshNode, other: MeshNode, to: MeshNode) -> Status:
    """The answer to a CONNECT over the connection between two nodes."""
    connection = one.host.connection_to(other.peer_id)
    assert connection is not None
    stream, answer = await connect(connection, to.peer_id)
    stream.reset()
    return answer.status


# Slots


async def test_a_reservation_has_all_that_a_client_needs() -> None:
    async with relay() as (one, server), node("bob") as bob:
        connection = await bob.join(one)
        answer = await reserve(connection)
        assert (answer.type, answer.status) == (HopType.STATUS, Status.OK)
        assert answer.limit == Limit(600, 2 * MIB)
        slot = answer.reservation
        assert slot is not None
        assert slot.voucher is not None
        now = one.host.clock.unix()
        assert now + 3500 < slot.expire <= now + 3600
        voucher = check_voucher(slot.voucher, relay=one.peer_id, peer=bob.peer_id, unix_now=now)
        assert voucher.expiration == slot.expire
        assert slot.addresses == (one.address,)  # with its /p2p, without /p2p-circuit
        assert is_kept(one, bob)
        await reserve(connection)
        assert server.reservations == 1
        assert server.served["reservation"] == 2


async def test_a_relay_that_announces_nothing_names_where_it_was_found() -> None:
    async with node("relay") as one, node("bob") as bob:
        server = RelayServer(one.host, lambda: (), RelayServerConfig())
        server.enable(True)
        answer = await reserve(await bob.join(one))
        assert answer.reservation is not None
        assert answer.reservation.addresses == (one.address,)
        await server.close()


async def test_nobody_reserves_in_the_name_of_another() -> None:
    """What a request says of its sender is not read: the slot is that of the key that was proven."""
    async with relay() as (one, server), node("mallory") as mallory, node("carol") as carol:
        await carol.join(one)
        forged = HopMessage(HopType.RESERVE, peer=carol.peer_id).encode()
        forged += protobuf.encode_bytes(3, protobuf.encode_bytes(3, b"voucher of another"))
        answer = await ask(await mallory.join(one), forged)
        assert answer.status is Status.OK
        assert answer.reservation is not None
        assert answer.reservation.voucher is not None
        with pytest.raises(ParseError):
            check_voucher(answer.reservation.voucher, relay=one.peer_id, peer=carol.peer_id, unix_now=0)
        check_voucher(answer.reservation.voucher, relay=one.peer_id, peer=mallory.peer_id, unix_now=0)
        assert server.reservations == 1
        assert await status_of(mallory, one, carol) is Status.NO_RESERVATION
        assert not is_kept(one, carol)


async def test_many_reservations_from_one_prefix() -> None:
    """Their share is served, the rest is refused and counted; who is elsewhere would still get in."""
    count, share = scale(1000), 20
    everybody = HostConfig(
        admission=AdmissionConfig(
            max_connections=5000, max_per_prefix=5000, accepts_per_second=1e5, accepts_per_second_prefix=1e5,
            prefix_exempt=(ip_network("10.0.0.0/8"),),
        )
    )  # fmt: skip
    config = bounds(ReservationConfig(max_per_ip=5000, max_per_prefix=share))
    async with relay(config, everybody) as (one, server), contextlib.AsyncExitStack() as stack:
        answers = []
        for number in range(count):
            async with contextlib.AsyncExitStack() as brief:
                bot = await brief.enter_async_context(node(f"bot {number}", network=None, server=False))
                answers.append((await reserve(await bot.dial(one.address))).status)
                if answers[-1] is Status.OK:
                    await stack.enter_async_context(brief.pop_all())
        assert answers == [Status.OK] * share + [Status.RESERVATION_REFUSED] * (count - share)
        assert refused(one, "reservations_prefix") == count - share
        assert server.reservations == share
        await stack.aclose()
        await until(lambda: server.reservations == 0)


async def test_reconnects_leave_as_many_slots_as_live_peers() -> None:
    everybody = HostConfig(admission=AdmissionConfig(accepts_per_second=1e5))
    config = bounds(ReservationConfig(per_second=1e5, burst=100_000))
    async with relay(config, everybody) as (one, server), node("bob") as bob, node("carol") as carol:
        assert (await reserve(await carol.join(one))).status is Status.OK
        for number in range(scale(1000)):
            connection = await bob.dial(one.address)
            stream = connection.open_stream(HOP_PROTOCOL)
            await stream.write_frame(RESERVE.encode())
            match number % 3:
                case 0:  # it waits for its answer
                    assert (await stream.read_frame(MAX_MESSAGE)) is not None
                    await stream.finish()
                    connection.close()
                case 1:
                    connection.close()
                case 2:
                    connection.abort(StreamReset("bob is gone"))
            await until(lambda: bob.host.connection_to(one.peer_id) is None)
        await until(lambda: server.reservations == 1)
        await until(lambda: len(one.host.table) == 1)
        assert not is_kept(one, bob)
        assert await status_of(carol, one, bob) is Status.NO_RESERVATION
        await asyncio.sleep(0)
        assert one.host.handlers.of_peers.total() <= 1


async def test_a_slot_stays_as_long_as_one_direct_connection_does() -> None:
    async with relay() as (one, server), node("bob") as bob:
        first = await bob.join(one)
        await reserve(first)
        async with await Hostile.authenticated(one.port, "bob"):
            await until(lambda: len(one.host.table.of_peer(bob.peer_id)) == 2)
            first.close()
            await until(lambda: len(one.host.table.of_peer(bob.peer_id)) == 1)
            assert server.reservations == 1
        await until(lambda: server.reservations == 0)


async def test_circuits_come_over_the_connection_that_asked_last() -> None:
    """Who comes back has an old connection here that nobody answers any more."""
    over = []

    async def note(stream: Stream) -> None:
        over.append(stream.connection)
        await echo(stream)

    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=note).serve(bob)
        old = await bob.join(one)
        await reserve(old)
        new = bob.host.new_outbound(one.peer_id)
        await bob.dialer.connect_tcp(new, "127.0.0.1", one.port)
        await new.established()
        await new.wait_identified()
        await reserve(new)
        alices = await alice.join(one)
        hop, answer = await connect(alices, bob.peer_id)
        assert answer.status is Status.OK
        await until(lambda: over == [new])
        new.close()
        with pytest.raises(WwsError):
            await hop.read()
        await until(lambda: len(one.host.table.of_peer(bob.peer_id)) == 1)
        hop, answer = await connect(alices, bob.peer_id)
        assert answer.status is Status.OK
        await until(lambda: over == [new, old])
        hop.reset()
        assert server.reservations == 1


async def test_a_slot_that_runs_out_is_freed() -> None:
    async with relay(bounds(ReservationConfig(duration=0.2))) as (one, server), node("bob") as bob:
        await reserve(await bob.join(one))
        await until(lambda: server.reservations == 0)
        assert not is_kept(one, bob)


async def test_slots_do_not_keep_every_connection_from_being_trimmed() -> None:
    host = HostConfig(table=ConnectionTableConfig(high_water=4, low_water=3))
    async with relay(host=host) as (one, server), contextlib.AsyncExitStack() as stack:
        holders = [await stack.enter_async_context(node(f"holder {number}")) for number in range(4)]
        for holder in holders:
            assert (await reserve(await holder.join(one))).status is Status.OK
        assert server.reservations == 4
        assert [is_kept(one, holder) for holder in holders] == [True, True, False, False]


# Circuits


async def test_bytes_both_ways_and_half_close() -> None:
    data = pattern(MIB)
    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        destination = Destination(then=reverse)
        destination.serve(bob)
        await reserve(await bob.join(one))
        hop, answer = await connect(await alice.join(one), bob.peer_id)
        assert answer == HopMessage(HopType.STATUS, limit=Limit(600, 2 * MIB), status=Status.OK)
        assert destination.asked == [
            StopMessage(StopType.CONNECT, peer=alice.peer_id, limit=Limit(600, 2 * MIB))
        ]
        assert server.circuits == 1
        sending = asyncio.create_task(send_all(hop, data))  # its end has to arrive before anything comes back
        assert await hop.read_to_end(2 * MIB) == data[::-1]
        await sending
        await until(lambda: server.circuits == 0)
        assert server.ended == {"done": 1}
        assert server.relayed_bytes == {"to_destination": MIB, "to_source": MIB}
        assert 2 * MIB <= server.bytes_today < 2 * MIB + 64 * 64


async def test_the_destination_may_speak_first_and_end_first() -> None:
    async def greet(stream: Stream) -> None:
        await stream.write(b"hello")
        stream.close_write()
        assert await stream.read_to_end(100) == b"goodbye"

    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=greet).serve(bob)
        await reserve(await bob.join(one))
        hop, _ = await connect(await alice.join(one), bob.peer_id)
        assert await hop.read_to_end(100) == b"hello"
        assert server.circuits == 1
        await hop.write(b"goodbye")
        hop.close_write()
        await until(lambda: server.ended == {"done": 1} and server.circuits == 0)


async def test_bytes_that_come_together_with_the_answer_are_not_lost() -> None:
    async def eager(stream: Stream) -> None:
        data = await stream.read_frame(MAX_MESSAGE)
        assert data is not None
        answer = StopMessage(StopType.STATUS, status=Status.OK).encode()
        await stream.write(bytes((len(answer),)) + answer + b"at once")
        await echo(stream)

    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        bob.host.serve(STOP_PROTOCOL, eager)
        await reserve(await bob.join(one))
        connection = await alice.join(one)
        async with connection.open_stream(HOP_PROTOCOL) as hop:
            request = HopMessage(HopType.CONNECT, peer=bob.peer_id).encode()
            await hop.write(bytes((len(request),)) + request + b" and early")
            assert HopMessage.parse(await hop.read_frame(MAX_MESSAGE) or b"").status is Status.OK
            assert await hop.read_exactly(17) == b"at once and early"
            await hop.finish()
        await until(lambda: server.circuits == 0)


@pytest.mark.parametrize("who", ["source", "destination", "source's connection", "destination's connection"])
async def test_whoever_gives_up_the_other_end_hears_of_it(who: str) -> None:
    streams: list[Stream] = []

    async def keep(stream: Stream) -> None:
        streams.append(stream)
        with pytest.raises(WwsError):
            await stream.read_to_end(10)

    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=keep).serve(bob)
        bobs = await bob.join(one)
        await reserve(bobs)
        alices = await alice.join(one)
        hop, _ = await connect(alices, bob.peer_id)
        await until(lambda: len(streams) == 1)
        match who:
            case "source":
                hop.reset()
            case "destination":
                streams[0].reset()
            case "source's connection":
                alices.close()
            case _:
                bobs.close()
        with pytest.raises(WwsError):
            await hop.read()
        await until(lambda: streams[0].closed)
        await until(lambda: server.circuits == 0)
        assert server.ended == {"reset": 1}


async def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    """A relay holds a window's worth of a circuit, not what the source has to send."""
    release = asyncio.Event()

    async def later(stream: Stream) -> None:
        await release.wait()
        await sink(stream)

    data = pattern(32 * MIB)
    config = bounds(circuits=CircuitConfig(max_bytes=0))
    async with relay(config) as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=later).serve(bob)
        await reserve(await bob.join(one))
        hop, _ = await connect(await alice.join(one), bob.peer_id)
        sending = asyncio.create_task(send_all(hop, data))
        last = -1
        while (now := server.relayed_bytes["to_destination"]) != last:
            last = now
            await asyncio.sleep(0.2)
        assert 0 < last < 8 * MIB
        assert sum(connection.waiting for connection in one.host.connections()) < 8 * MIB
        release.set()
        await sending
        assert await hop.read_to_end(100) == b"%d" % len(data)


@pytest.mark.parametrize("way", ["to the destination", "to the source"])
async def test_a_circuit_over_its_bytes_is_reset(way: str) -> None:
    async def pour(stream: Stream) -> None:
        if not forth:  # not before the answer has arrived: a reset may overtake it
            await stream.read()
        with contextlib.suppress(WwsError):
            while True:
                await stream.write(bytes(1000))

    async def count(stream: Stream) -> None:
        try:
            while data := await stream.read():
                arrived.append(len(data))
        except StreamReset:
            arrived.append(0)

    arrived: list[int] = []
    forth = way == "to the destination"
    config = bounds(circuits=CircuitConfig(max_bytes=10_000))
    async with relay(config) as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=count if forth else pour).serve(bob)
        await reserve(await bob.join(one))
        hop, answer = await connect(await alice.join(one), bob.peer_id)
        assert answer.limit == Limit(600, 10_000)
        await hop.write(b"go")
        await (pour(hop) if forth else count(hop))
        await until(lambda: arrived[-1:] == [0])
        assert sum(arrived) <= 10_000
        await until(lambda: server.circuits == 0)
        assert server.ended == {"circuit_bytes": 1}
        assert server.bytes_today <= 10_000 + len(b"go")


async def test_exactly_the_limit_passes_in_both_directions() -> None:
    data = pattern(10_000)
    config = bounds(circuits=CircuitConfig(max_bytes=10_000))
    async with relay(config) as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=echo).serve(bob)
        await reserve(await bob.join(one))
        hop, _ = await connect(await alice.join(one), bob.peer_id)
        await send_all(hop, data)
        assert await hop.read_to_end(20_000) == data
        await until(lambda: server.ended == {"done": 1})


async def test_a_circuit_over_its_time_is_reset() -> None:
    config = bounds(circuits=CircuitConfig(max_duration=0.3))
    async with relay(config) as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=echo).serve(bob)
        await reserve(await bob.join(one))
        hop, _ = await connect(await alice.join(one), bob.peer_id)
        await hop.write(b"hello")
        assert await hop.read_exactly(5) == b"hello"
        with pytest.raises(StreamReset):
            await hop.read()
        await until(lambda: server.circuits == 0)
        assert server.ended == {"circuit_time": 1}
        assert server.reservations == 1  # the slot has a time of its own


async def test_the_budget_of_the_day_is_kept_over_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = bounds(bytes_per_day=100_000)
    path = tmp_path / "relay.json"
    caplog.set_level(logging.WARNING)
    async with (
        relay(config, state=StateFile(path)) as (one, server),
        node("alice") as alice,
        node("bob") as bob,
    ):
        Destination(then=echo).serve(bob)
        await reserve(await bob.join(one))
        connection = await alice.join(one)
        idle, _ = await connect(connection, bob.peer_id)
        hop, _ = await connect(connection, bob.peer_id)
        with contextlib.suppress(WwsError):
            while server.circuits:
                await hop.write(bytes(5000))
                await hop.read_exactly(5000)
        with pytest.raises(StreamReset):  # that one had sent nothing
            await idle.read()
        await until(lambda: server.circuits == 0)
        assert server.ended == {"daily_budget": 2}
        assert server.bytes_today >= server.budget == 100_000
        assert 0 < server.seconds_to_reset <= 86_400
        assert await status_of(alice, one, bob) is Status.RESOURCE_LIMIT_EXCEEDED
        assert refused(one, "daily_budget") == 1
        spent = server.bytes_today
    told = [record.getMessage() for record in caplog.records if "bytes for today" in record.getMessage()]
    assert [text.split(" %")[0].rsplit(" ", 1)[1] for text in told] == ["80", "100"]
    async with (
        relay(config, state=StateFile(path)) as (one, server),
        node("alice") as alice,
        node("bob") as bob,
    ):
        assert server.bytes_today == spent
        await reserve(await bob.join(one))
        await alice.join(one)
        assert await status_of(alice, one, bob) is Status.RESOURCE_LIMIT_EXCEEDED


async def test_a_damaged_count_of_the_day_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "relay.json"
    path.write_text('{"schema": 1, "day": "today", "bytes": -1}')
    async with relay(state=StateFile(path)) as (_, server):
        assert server.bytes_today == 0
        assert server.is_on


# Destinations that do not take a circuit


def says(status: Status) -> StopMessage:
    return StopMessage(StopType.STATUS, status=status)


@pytest.mark.parametrize(
    "answer, status, reason",
    [
        (says(Status.CONNECTION_FAILED), Status.CONNECTION_FAILED, "stop_refused"),
        (says(Status.PERMISSION_DENIED), Status.PERMISSION_DENIED, "stop_refused"),
        (says(Status.UNKNOWN), Status.CONNECTION_FAILED, "stop_refused"),
        (StopMessage(StopType.CONNECT), Status.CONNECTION_FAILED, "stop_malformed"),
        (b"\xff\xff", Status.CONNECTION_FAILED, "stop_malformed"),
        (bytes(MAX_MESSAGE + 1), Status.CONNECTION_FAILED, "stop_malformed"),
        (None, Status.CONNECTION_FAILED, "stop_timeout"),
    ],
)  # fmt: skip
async def test_a_destination_that_refuses(
    answer: StopMessage | bytes | None, status: Status, reason: str
) -> None:
    config = bounds(stop_timeout=0.3 if answer is None else 10.0)
    async with relay(config) as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(answer).serve(bob)
        await reserve(await bob.join(one))
        await alice.join(one)
        assert await status_of(alice, one, bob) is status
        assert refused(one, reason) == 1
        await until(lambda: server.circuits == 0)
        assert server.reservations == 1
        assert not server.ended


async def test_a_destination_without_the_protocol_and_one_that_hangs_up() -> None:
    async def hang_up(stream: Stream) -> None:
        stream.reset()

    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        await reserve(await bob.join(one))
        await alice.join(one)
        assert await status_of(alice, one, bob) is Status.CONNECTION_FAILED
        assert refused(one, "stop_not_supported") == 1
        bob.host.serve(STOP_PROTOCOL, hang_up)
        assert await status_of(alice, one, bob) is Status.CONNECTION_FAILED
        assert refused(one, "stop_failed") == 1
        await until(lambda: server.circuits == 0)


async def test_a_source_that_does_not_wait_for_the_answer() -> None:
    config = bounds(stop_timeout=0.5)
    async with relay(config) as (one, server), node("alice") as alice, node("bob") as bob:
        destination = Destination(None)
        destination.serve(bob)
        await reserve(await bob.join(one))
        connection = await alice.join(one)
        stream = connection.open_stream(HOP_PROTOCOL)
        await stream.write_frame(HopMessage(HopType.CONNECT, peer=bob.peer_id).encode())
        await until(lambda: len(destination.asked) == 1)
        connection.close()
        await until(lambda: server.circuits == 0)
        assert server.reservations == 1


# Who is not served


async def test_peers_of_another_network_and_of_none() -> None:
    async with (
        relay() as (one, server),
        node("mallory", network=OTHER_NETWORK) as mallory,
        node("carol", network=None) as carol,
    ):
        connection = await mallory.join(one)
        assert (await reserve(connection)).status is Status.PERMISSION_DENIED
        assert (await reserve(await carol.join(one))).status is Status.OK
        assert await status_of(mallory, one, carol) is Status.PERMISSION_DENIED
        assert refused(one, "wrong_network") == 2
        assert server.reservations == 1


async def test_an_ad_hoc_relay_serves_everybody() -> None:
    async with relay(network=None) as (one, _), node("mallory", network=OTHER_NETWORK) as mallory:
        assert (await reserve(await mallory.join(one))).status is Status.OK


async def test_below_the_scope_of_the_mesh_nobody_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_at = Scope.PUBLIC
    monkeypatch.setattr("wws.runtime.connection.scope_of_ip", lambda _: seen_at)
    async with relay() as (one, server), node("bob") as bob, node("mallory") as mallory:
        Destination(then=echo).serve(bob)
        answer = await reserve(await bob.join(one))
        assert answer.status is Status.OK
        assert answer.reservation is not None
        assert (
            answer.reservation.addresses == ()
        )  # its only ones are of loopback, which is of no use out there
        seen_at = Scope.PRIVATE
        connection = await mallory.join(one)
        assert (await reserve(connection)).status is Status.PERMISSION_DENIED
        assert await status_of(mallory, one, bob) is Status.PERMISSION_DENIED
        assert refused(one, "below_scope") == 2
        assert server.reservations == 1


async def test_nor_is_anybody_led_there_when_the_mesh_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    seen_at = Scope.PRIVATE
    monkeypatch.setattr("wws.runtime.connection.scope_of_ip", lambda _: seen_at)
    async with relay() as (one, server), node("bob") as bob, node("alice") as alice:
        destination = Destination()
        destination.serve(bob)
        assert (await reserve(await bob.join(one))).status is Status.OK
        seen_at = Scope.PUBLIC
        await alice.join(one)
        assert await status_of(alice, one, bob) is Status.PERMISSION_DENIED
        assert refused(one, "destination_below_scope") == 1
        assert not destination.asked
        await until(lambda: server.circuits == 0)


async def test_relays_are_not_relayed() -> None:
    """bob is a relay behind a relay: whoever comes to it over a circuit gets nothing from it."""
    async with relay() as (one, _), node("alice") as alice, node("bob") as bob:
        inner = RelayServer(bob.host, lambda: (), RelayServerConfig())
        inner.enable(True)
        bobs = Circuits(bob.host, bob.dialer, CircuitsConfig(), accepts_from=lambda _: True)
        Circuits(alice.host, alice.dialer, CircuitsConfig())
        await reserve(await bob.join(one))
        await alice.join(one)
        target = one.address.circuit().with_peer(bob.peer_id)
        connection = await alice.dialer.connect(bob.peer_id, [target])
        assert connection.is_limited
        assert (await reserve(connection)).status is Status.PERMISSION_DENIED
        stream, answer = await connect(connection, one.peer_id)
        stream.reset()
        assert answer.status is Status.PERMISSION_DENIED
        assert refused(bob, "over_circuit") == 2
        assert inner.reservations == 0
        connection.close()
        await until(lambda: bobs.inbound == 0)
        await inner.close()


async def test_a_flood_of_connects_is_bounded() -> None:
    count, burst = scale(1000), 16
    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=echo).serve(bob)
        await reserve(await bob.join(one))
        connection = await alice.join(one)
        streams = []
        tally: dict[Status, int] = {}
        for _ in range(count):
            stream, answer = await connect(connection, bob.peer_id)
            streams.append(stream)
            tally[answer.status] = tally.get(answer.status, 0) + 1
            if answer.status is not Status.OK:
                await stream.finish()
        assert tally.keys() == {Status.OK, Status.RESOURCE_LIMIT_EXCEEDED}
        assert tally[Status.OK] >= burst
        assert server.circuits == tally[Status.OK] <= CircuitConfig().max_per_source
        over = refused(one, "connect_rate") + refused(one, "circuits_source")
        assert over == tally[Status.RESOURCE_LIMIT_EXCEEDED]
        for stream in streams:
            stream.reset()
        await until(lambda: server.circuits == 0)
        assert await bob.ping.ping(await bob.dial(one.address)) >= 0


# Rules that are not kept


@pytest.mark.parametrize(
    "message, status, reason",
    [
        (b"", Status.MALFORMED_MESSAGE, "malformed"),
        (b"\x08\x07", Status.MALFORMED_MESSAGE, "malformed"),
        (b"\x08\x01", Status.MALFORMED_MESSAGE, "no_peer"),
        (b"\x08\x01\x12\x02\x0a\x00", Status.MALFORMED_MESSAGE, "malformed"),
        (b"\x08\x01\x12\x26\x0a\x24\x12\x22" + bytes(34), Status.NO_RESERVATION, "foreign_peer_id"),
        (b"\x08\x02\x28\x64", Status.UNEXPECTED_MESSAGE, "unexpected_message"),
    ],
)  # fmt: skip
async def test_malformed_requests_are_told_so(message: bytes, status: Status, reason: str) -> None:
    async with relay() as (one, server), node("mallory") as mallory:
        answer = await ask(await mallory.join(one), message)
        assert answer == HopMessage(HopType.STATUS, status=status)
        assert refused(one, reason) == 1
        assert server.reservations == 0


async def test_a_request_that_is_too_long_is_not_read() -> None:
    async with relay() as (one, _), node("mallory") as mallory:
        connection = await mallory.join(one)
        stream = connection.open_stream(HOP_PROTOCOL)
        await stream.write(b"\xff\xff\x03")
        with pytest.raises(StreamReset):
            await stream.read()
        assert refused(one, "too_large") == 1


async def test_anything_at_all_is_answered_or_reset() -> None:
    rng = random.Random(4)
    seeds = [
        RESERVE.encode(),
        HopMessage(HopType.CONNECT, peer=Identity.from_label("bob").peer_id).encode(),
        HopMessage(HopType.STATUS, limit=Limit(1, 1), status=Status.OK).encode(),
    ]
    config = bounds(ReservationConfig(per_second=1e5, burst=100_000))
    async with relay(config) as (one, server), node("mallory") as mallory, node("bob") as bob:
        connection = await mallory.join(one)
        for _ in range(scale(1000)):
            raw = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(4)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            answer = await ask(connection, bytes(raw[: rng.randrange(len(raw) + 1)]))
            assert answer.type is HopType.STATUS
        assert (await reserve(await bob.join(one))).status is Status.OK
        assert server.circuits == 0


async def test_silent_streams_are_given_up() -> None:
    async with relay(bounds(request_timeout=0.3)) as (one, _), node("mallory") as mallory:
        connection = await mallory.join(one)
        streams = [connection.open_stream(HOP_PROTOCOL) for _ in range(20)]
        for stream in streams:
            await stream.write(b"\x02")  # the length of a message, and no more
        for stream in streams:
            with pytest.raises(StreamReset):
                await stream.read()
        assert refused(one, "timeout") == 20
        await until(lambda: not one.host.handlers.of_peers)


async def test_who_does_not_take_its_answer_is_given_up() -> None:
    async with relay(bounds(request_timeout=0.3)) as (one, server), node("mallory") as mallory:
        stream = (await mallory.join(one)).open_stream(HOP_PROTOCOL)
        answer = await ask_on(stream, RESERVE)  # and our side stays open
        assert answer.status is Status.OK
        await until(lambda: not one.host.handlers.of_peers)
        assert server.reservations == 1


async def test_who_never_says_what_network_it_is_of_gets_no_slot() -> None:
    async with relay(bounds(request_timeout=0.3)) as (one, server):
        async with await Hostile.authenticated(one.port) as mallory:
            request = RESERVE.encode()
            mallory.open(1, HOP_PROTOCOL, bytes((len(request),)) + request)
            await until(lambda: refused(one, "timeout") == 1)
        assert server.reservations == 0


# On and off


async def test_switched_off_everything_ends_and_nothing_begins() -> None:
    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=echo).serve(bob)
        bobs = await bob.join(one)
        await reserve(bobs)
        hop, _ = await connect(await alice.join(one), bob.peer_id)
        assert server.enable(False)
        assert not server.enable(False)
        with pytest.raises(StreamReset):
            await hop.read()
        await until(lambda: server.circuits == 0)
        assert server.ended == {"switched_off": 1}
        assert server.reservations == 0
        assert not is_kept(one, bob)
        with pytest.raises(WwsError):
            await reserve(bobs)
        assert server.enable(True)
        assert (await reserve(bobs)).status is Status.OK


async def test_a_host_that_closes_ends_its_circuits() -> None:
    async with node("alice") as alice, node("bob") as bob:
        Destination(then=echo).serve(bob)
        async with relay() as (one, _):
            await reserve(await bob.join(one))
            hop, _ = await connect(await alice.join(one), bob.peer_id)
            await hop.write(b"hello")
            assert await hop.read_exactly(5) == b"hello"
        with pytest.raises(WwsError):
            await hop.read()


async def test_other_limits_hold_from_now_on() -> None:
    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        Destination(then=echo).serve(bob)
        await reserve(await bob.join(one))
        server.reconfigure(bounds(circuits=CircuitConfig(max_circuits=1), bytes_per_day=7))
        assert server.budget == 7
        connection = await alice.join(one)
        hop, answer = await connect(connection, bob.peer_id)
        assert answer.status is Status.OK
        assert await status_of(alice, one, bob) is Status.RESOURCE_LIMIT_EXCEEDED
        assert refused(one, "circuits_total") == 1
        hop.reset()


async def test_an_address_of_a_relay_leads_through_it() -> None:
    """The whole way, with the parts that a node is made of: Noise, yamux and a protocol inside a circuit."""
    async with relay() as (one, server), node("alice") as alice, node("bob") as bob:
        Circuits(bob.host, bob.dialer, CircuitsConfig(), accepts_from=lambda _: True)
        Circuits(alice.host, alice.dialer, CircuitsConfig())
        answer = await reserve(await bob.join(one))
        assert answer.reservation is not None
        address: Multiaddr = answer.reservation.addresses[0].circuit().with_peer(bob.peer_id)
        connection = await alice.dialer.connect(bob.peer_id, [address])
        assert connection.is_limited
        assert await alice.ping.ping(connection) >= 0
        connection.close()
        await until(lambda: server.circuits == 0)
