"""yamux as conversations: flow control, ends and resets, limits at limit + 1, floods, pings."""

from __future__ import annotations

import pytest

from wws.errors import LocalProtocolError, RemoteProtocolError
from wws.transport.muxed import (
    ConnectionClosed,
    ConnectionEvent,
    DataReceived,
    GoneAway,
    PongReceived,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamRefused,
    StreamReset,
    WindowOpened,
)
from wws.transport.noise_frames import MAX_PLAINTEXT
from wws.transport.yamux import MAX_PAYLOAD, Yamux
from wws.transport.yamux_frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    INITIAL_WINDOW,
    MAX_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    FrameFlood,
    GoAwayCode,
    InvalidStreamId,
    KeepAliveTimeout,
    StreamHasEnded,
    UnknownStream,
    WindowExceeded,
    WindowOverflow,
)
from wws.transport.yamux_ids import RemoteStreamIds
from wws.transport.yamux_limits import DEFAULT_CONFIG, YamuxConfig

PROTOCOL_ERROR = HEADER.pack(0, GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR)


def frame(kind: int, flags: int, stream_id: int, value: int = 0, data: bytes = b"") -> bytes:
    return HEADER.pack(0, kind, flags, stream_id, len(data) if kind == DATA and data else value) + data


def hear(session: Yamux, data: bytes, now: float = 0.0) -> list[ConnectionEvent]:
    events: list[ConnectionEvent] = []
    session.receive_data(data, now, events)
    return events


def said(session: Yamux) -> bytes:
    return b"".join(session.frames_to_send())


def carry(sender: Yamux, receiver: Yamux, now: float = 0.0) -> list[ConnectionEvent]:
    return hear(receiver, said(sender), now)


def sessions(alice: YamuxConfig = DEFAULT_CONFIG, bob: YamuxConfig = DEFAULT_CONFIG) -> tuple[Yamux, Yamux]:
    return (
        Yamux(is_initiator=True, config=alice, now=0.0),
        Yamux(is_initiator=False, config=bob, now=0.0),
    )


def responder(config: YamuxConfig = DEFAULT_CONFIG) -> Yamux:
    return Yamux(is_initiator=False, config=config, now=0.0)


def violates(session: Yamux, data: bytes, error: type[RemoteProtocolError], now: float = 0.0) -> None:
    """`data` ends the session with `error`, the peer is told, and nothing can go wrong afterwards."""
    with pytest.raises(error):
        hear(session, data, now)
    assert said(session) == PROTOCOL_ERROR
    assert session.open_streams == 0
    assert session.unread == 0
    assert hear(session, data, now) == []
    assert said(session) == b""


# Opening and ending


def test_a_stream_from_its_opening_to_its_end() -> None:
    alice, bob = sessions()
    stream = alice.open_stream(0.0)
    assert stream == 1
    assert said(alice) == b""  # the SYN waits for the first data
    assert alice.send(stream, b"hello") == 5
    opening = said(alice)
    assert opening == frame(DATA, SYN, 1, data=b"hello")
    assert hear(bob, opening) == [StreamOpened(1), DataReceived(1, b"hello")]
    assert bob.send(1, b"hi") == 2
    answer = said(bob)
    assert answer == frame(DATA, ACK, 1, data=b"hi")
    assert hear(alice, answer) == [DataReceived(1, b"hi")]
    alice.close_stream(1)
    assert said(alice) == frame(DATA, FIN, 1)
    assert hear(bob, frame(DATA, FIN, 1)) == [StreamEnded(1)]
    bob.close_stream(1)
    assert carry(bob, alice) == [StreamEnded(1)]
    for session in (alice, bob):  # the slot is held until what arrived was taken
        assert session.open_streams == 1
    alice.consumed(1, 2, 0.0)
    bob.consumed(1, 5, 0.0)
    for session in (alice, bob):
        assert session.open_streams == 0
        assert session.unread == 0


def test_ids_are_odd_for_the_initiator_and_even_for_the_responder() -> None:
    alice, bob = sessions()
    assert [alice.open_stream(0.0) for _ in range(3)] == [1, 3, 5]
    assert [bob.open_stream(0.0) for _ in range(3)] == [2, 4, 6]


def test_a_stream_ended_before_its_first_byte() -> None:
    alice, bob = sessions()
    alice.close_stream(alice.open_stream(0.0))
    assert carry(alice, bob) == [StreamOpened(1), StreamEnded(1)]
    bob.close_stream(1)
    assert carry(bob, alice) == [StreamEnded(1)]
    assert (alice.open_streams, bob.open_streams) == (0, 0)


def test_a_stream_reset_before_its_first_byte_was_never_there() -> None:
    alice, bob = sessions()
    alice.reset_stream(alice.open_stream(0.0))
    assert said(alice) == b""
    alice.send(alice.open_stream(0.0), b"x")
    assert carry(alice, bob) == [StreamOpened(3), DataReceived(3, b"x")]


@pytest.mark.parametrize("first", ["alice", "bob"])
def test_half_closed_streams_still_carry_the_other_way(first: str) -> None:
    alice, bob = sessions()
    alice.send(alice.open_stream(0.0), b"?")
    carry(alice, bob)
    bob.consumed(1, 1, 0.0)
    one, other = (alice, bob) if first == "alice" else (bob, alice)
    one.close_stream(1)
    assert carry(one, other) == [StreamEnded(1)]
    for _ in range(3):
        assert other.send(1, b"x" * 100_000) == 100_000
        events = carry(other, one)
        received = [event.data for event in events if isinstance(event, DataReceived)]
        assert sum(map(len, received)) == 100_000
        one.consumed(1, 100_000, 0.0)
        carry(one, other)  # window updates after our own end
    with pytest.raises(StreamClosed):
        one.send(1, b"more")
    other.close_stream(1)
    assert carry(other, one) == [StreamEnded(1)]
    assert (alice.open_streams, bob.open_streams) == (0, 0)


def test_both_ends_cross_on_the_way() -> None:
    alice, bob = sessions()
    alice.send(alice.open_stream(0.0), b"?")
    carry(alice, bob)
    bob.consumed(1, 1, 0.0)
    alice.close_stream(1)
    bob.close_stream(1)
    to_bob, to_alice = said(alice), said(bob)
    assert hear(bob, to_bob) == [StreamEnded(1)]
    assert hear(alice, to_alice) == [StreamEnded(1)]
    assert (alice.open_streams, bob.open_streams) == (0, 0)


def test_the_end_in_a_data_frame_comes_after_the_data() -> None:
    bob = responder()
    data = frame(DATA, SYN | FIN, 1, data=b"all of it")
    assert hear(bob, data[:15]) == [StreamOpened(1), DataReceived(1, b"all")]
    assert hear(bob, data[15:]) == [DataReceived(1, b" of it"), StreamEnded(1)]


def test_a_reset_in_the_middle_of_a_transfer() -> None:
    alice, bob = sessions()
    stream = alice.open_stream(0.0)
    alice.send(stream, b"x" * 200_000)
    carry(alice, bob)
    bob.reset_stream(stream)
    assert (bob.open_streams, bob.unread) == (0, 0)
    alice.send(stream, b"y" * 50_000)  # alice does not know yet
    on_the_way = said(alice)
    assert carry(bob, alice) == [StreamReset(stream)]
    assert alice.open_streams == 0
    assert hear(bob, on_the_way) == []  # within what was granted: dropped
    with pytest.raises(StreamClosed):
        alice.send(stream, b"z")
    alice.reset_stream(stream)  # nothing more to do
    alice.consumed(stream, 5, 0.0)
    assert said(alice) == b""


def test_data_for_reset_streams_is_dropped_up_to_what_was_granted() -> None:
    bob = responder()
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))
    bob.reset_stream(1)
    said(bob)
    assert hear(bob, frame(DATA, 0, 1, data=b"x" * INITIAL_WINDOW)) == []
    violates(bob, frame(DATA, 0, 1, data=b"x"), StreamHasEnded)


def test_a_reset_in_the_middle_of_a_frame_drops_its_rest() -> None:
    bob = responder()
    data = frame(DATA, SYN, 1, data=b"x" * 1_000) + frame(DATA, SYN, 3, data=b"y")
    assert hear(bob, data[:500]) == [StreamOpened(1), DataReceived(1, b"x" * 488)]
    bob.reset_stream(1)
    assert hear(bob, data[500:]) == [StreamOpened(3), DataReceived(3, b"y")]


def test_a_reset_after_both_ends_takes_nothing_from_the_application() -> None:
    bob = responder()
    hear(bob, frame(DATA, SYN | FIN, 1, data=b"read me"))
    bob.close_stream(1)
    assert hear(bob, frame(DATA, RST, 1)) == []
    assert (bob.open_streams, bob.unread) == (1, 7)
    bob.consumed(1, 7, 0.0)
    assert (bob.open_streams, bob.unread) == (0, 0)


def test_an_unused_stream_that_rust_drops_is_no_violation() -> None:
    bob = responder()
    for flags in (RST, FIN, RST | FIN):
        assert hear(bob, frame(DATA, flags, 1)) == []
    violates(bob, frame(WINDOW_UPDATE, 0, 1, 5_000), UnknownStream)


# Stream ids


def test_streams_may_be_announced_out_of_order_but_never_twice() -> None:
    bob = responder()
    for stream_id in (5, 1, 3, 9, 7):
        assert hear(bob, frame(WINDOW_UPDATE, SYN, stream_id)) == [StreamOpened(stream_id)]
    bob.reset_stream(3)
    violates(bob, frame(WINDOW_UPDATE, SYN, 3), InvalidStreamId)


def test_an_open_stream_cannot_be_opened_again() -> None:
    bob = responder()
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))
    violates(bob, frame(WINDOW_UPDATE, SYN, 1), InvalidStreamId)


@pytest.mark.parametrize("is_initiator, stream_id", [(True, 1), (False, 2), (True, 0), (False, 0)])
def test_the_other_side_s_ids_cannot_be_opened(is_initiator: bool, stream_id: int) -> None:
    session = Yamux(is_initiator=is_initiator, now=0.0)
    violates(session, frame(WINDOW_UPDATE, SYN, stream_id), InvalidStreamId)


def test_a_gap_stays_unopened() -> None:
    bob = responder()
    hear(bob, frame(WINDOW_UPDATE, SYN, 5))
    violates(bob, frame(DATA, 0, 3, data=b"x"), UnknownStream)


def test_gaps_are_remembered_up_to_a_bound() -> None:
    ids = RemoteStreamIds(1, 4)
    assert ids.take(2**32 - 1)  # a jump costs no more than the bound
    assert not ids.take(1)
    assert not ids.take(2**32 - 11)
    assert all(ids.take(2**32 - 1 - 2 * n) for n in range(1, 5))
    assert not any(ids.take(2**32 - 1 - 2 * n) for n in range(6))


def test_our_ids_end() -> None:
    alice, _ = sessions()
    alice._ids._next_own = MAX_WINDOW
    assert alice.open_stream(0.0) == MAX_WINDOW
    with pytest.raises(StreamRefused):
        alice.open_stream(0.0)


# Flow control


def test_the_sender_stops_at_the_window_and_hears_when_it_opens() -> None:
    alice, bob = sessions()
    stream = alice.open_stream(0.0)
    data = bytes(INITIAL_WINDOW + 1)
    assert alice.send_capacity(stream) == INITIAL_WINDOW
    assert alice.send(stream, data) == INITIAL_WINDOW
    assert alice.send_capacity(stream) == 0
    received = sum(len(event.data) for event in carry(alice, bob) if isinstance(event, DataReceived))
    assert received == INITIAL_WINDOW
    assert alice.send(stream, b"x") == 0
    bob.consumed(stream, INITIAL_WINDOW // 2 - 1, 0.0)
    assert said(bob) == b""  # updates come by the half window
    bob.consumed(stream, 1, 0.0)
    update = bob.frames_to_send()
    assert update[-1] == frame(WINDOW_UPDATE, ACK, stream, INITIAL_WINDOW // 2)
    assert hear(alice, b"".join(update)) == [WindowOpened(stream)]
    assert alice.send(stream, data) == INITIAL_WINDOW // 2


def test_no_window_event_for_who_does_not_wait() -> None:
    bob = responder()
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))
    assert hear(bob, frame(WINDOW_UPDATE, 0, 1, 5_000)) == []
    assert bob.send_capacity(1) == INITIAL_WINDOW + 5_000


def test_one_byte_over_the_window() -> None:
    bob = responder()
    assert len(hear(bob, frame(DATA, SYN, 1, data=bytes(INITIAL_WINDOW)))) == 2
    violates(bob, frame(DATA, 0, 1, data=b"x"), WindowExceeded)


def test_a_frame_over_the_window_is_refused_by_its_header() -> None:
    bob = responder()
    violates(bob, HEADER.pack(0, DATA, SYN, 1, INITIAL_WINDOW + 1), WindowExceeded)


def test_a_reset_that_carries_more_than_the_window() -> None:
    bob = responder()
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))
    violates(bob, HEADER.pack(0, DATA, RST, 1, INITIAL_WINDOW + 1), WindowExceeded)


def test_a_window_cannot_grow_over_32_bits() -> None:
    bob = responder()
    hear(bob, frame(WINDOW_UPDATE, SYN, 1, MAX_WINDOW - INITIAL_WINDOW))
    violates(bob, frame(WINDOW_UPDATE, 0, 1, 1), WindowOverflow)


def test_what_we_send_fills_noise_messages_and_no_more() -> None:
    alice, bob = sessions()
    stream = alice.open_stream(0.0)
    assert alice.send(stream, bytes(200_000)) == 200_000
    frames = alice.frames_to_send()
    assert [len(part) for part in frames] == [MAX_PLAINTEXT] * 3 + [200_000 - 3 * MAX_PAYLOAD + 12]
    assert len(hear(bob, b"".join(frames))) == 5


def test_any_frame_within_the_window_is_delivered_as_it_arrives() -> None:
    config = YamuxConfig(max_window=4 * 1024 * 1024)
    bob = responder(config)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))
    stream = bob._table.streams[1]
    stream.window = stream.credit = 2 * 1024 * 1024
    size = 1_500_000  # js sends frames over 1 MiB
    assert hear(bob, HEADER.pack(0, DATA, 0, 1, size)) == []
    heard = 0
    for part in range(0, size, 60_000):
        (event,) = hear(bob, bytes(min(60_000, size - part)))
        assert isinstance(event, DataReceived)
        heard += len(event.data)
    assert heard == size


def test_the_send_buffer_is_bounded_and_empties() -> None:
    alice, bob = sessions(alice=YamuxConfig(max_buffered=100_000))
    stream = alice.open_stream(0.0)
    accepted = alice.send(stream, bytes(200_000))
    assert accepted == 100_000
    assert alice.send(stream, b"x") == alice.send_capacity(stream) == 0
    assert alice.buffered > 100_000  # the headers of its frames count too
    carry(alice, bob)
    assert alice.buffered == 0
    assert alice.send(stream, bytes(100_000)) == 100_000


def test_the_callers_buffer_may_change_after_send() -> None:
    alice, _ = sessions()
    buffer = bytearray(b"first")
    alice.send(alice.open_stream(0.0), buffer)
    buffer[:] = b"other"
    assert said(alice).endswith(b"first")


# Growth of the receive window


def measured(session: Yamux, round_trip: float) -> None:
    session.ping(0.0)
    said(session)
    hear(session, frame(PING, ACK, 0, 1), round_trip)
    assert session.round_trip == round_trip


def fill_and_consume(bob: Yamux, now: float) -> int:
    """The peer uses its whole credit and the application takes it all: the update that this brings."""
    credit = bob._table.streams[1].credit
    hear(bob, HEADER.pack(0, DATA, 0, 1, credit) + bytes(credit), now)
    bob.consumed(1, credit, now)
    kind, flags, _, value = HEADER.unpack(said(bob)[-12:])[1:]
    assert (kind, flags & ~ACK) == (WINDOW_UPDATE, 0)
    return int(value)


def test_a_fast_reader_gets_a_larger_window_up_to_the_bound() -> None:
    bob = responder(YamuxConfig(max_window=INITIAL_WINDOW * 3))
    measured(bob, 0.1)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1), 1.0)
    assert fill_and_consume(bob, 1.1) == 2 * INITIAL_WINDOW
    assert fill_and_consume(bob, 1.2) == 3 * INITIAL_WINDOW
    assert fill_and_consume(bob, 1.3) == 3 * INITIAL_WINDOW


def test_a_slow_reader_does_not() -> None:
    bob = responder()
    measured(bob, 0.1)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1), 1.0)
    for now in (1.5, 2.0, 2.5):
        assert fill_and_consume(bob, now) == INITIAL_WINDOW


def test_a_very_short_round_trip_counts_as_a_longer_one() -> None:
    bob = responder()
    measured(bob, 0.0001)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1), 1.0)
    assert fill_and_consume(bob, 1.021) == INITIAL_WINDOW
    assert fill_and_consume(bob, 1.040) == 2 * INITIAL_WINDOW


def test_all_streams_share_the_growth_and_give_it_back() -> None:
    bob = responder(YamuxConfig(max_growth=INITIAL_WINDOW))
    measured(bob, 0.1)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1) + frame(WINDOW_UPDATE, SYN, 3), 1.0)
    assert fill_and_consume(bob, 1.1) == 2 * INITIAL_WINDOW
    hear(bob, HEADER.pack(0, DATA, 0, 3, INITIAL_WINDOW) + bytes(INITIAL_WINDOW), 1.1)
    bob.consumed(3, INITIAL_WINDOW, 1.1)
    assert said(bob) == frame(WINDOW_UPDATE, ACK, 3, INITIAL_WINDOW)
    hear(bob, frame(DATA, RST, 1), 1.2)
    hear(bob, HEADER.pack(0, DATA, 0, 3, INITIAL_WINDOW) + bytes(INITIAL_WINDOW), 1.2)
    bob.consumed(3, INITIAL_WINDOW, 1.2)
    assert said(bob) == frame(WINDOW_UPDATE, 0, 3, 2 * INITIAL_WINDOW)


def test_windows_do_not_grow_without_room() -> None:
    answers = iter([False, True])
    bob = Yamux(is_initiator=False, now=0.0, room=lambda: next(answers))
    measured(bob, 0.1)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1), 1.0)
    assert fill_and_consume(bob, 1.1) == INITIAL_WINDOW
    hear(bob, HEADER.pack(0, DATA, 0, 1, INITIAL_WINDOW) + bytes(INITIAL_WINDOW), 1.2)
    bob.consumed(1, INITIAL_WINDOW, 1.2)
    assert said(bob) == frame(WINDOW_UPDATE, 0, 1, 2 * INITIAL_WINDOW)


def test_the_round_trip_is_measured_when_it_is_first_needed() -> None:
    bob = responder()
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))
    assert said(bob) == b""
    assert fill_and_consume(bob, 0.1) == INITIAL_WINDOW
    assert hear(bob, frame(PING, ACK, 0, 1), 0.3) == [PongReceived(1, pytest.approx(0.2))]


def test_unread_data_is_bounded_over_all_streams() -> None:
    bob = responder(YamuxConfig(max_unread=1_000))
    hear(bob, frame(DATA, SYN, 1, data=bytes(600)))
    assert hear(bob, frame(DATA, SYN, 3, data=bytes(400))) == [StreamOpened(3), DataReceived(3, bytes(400))]
    said(bob)
    assert hear(bob, frame(DATA, 0, 3, data=b"x")) == [StreamReset(3)]
    assert said(bob) == frame(DATA, RST, 3)
    assert (bob.open_streams, bob.unread) == (1, 600)


def test_more_consumed_than_received_is_our_own_bug() -> None:
    bob = responder()
    hear(bob, frame(DATA, SYN, 1, data=b"five!"))
    for count in (6, -1):
        with pytest.raises(LocalProtocolError):
            bob.consumed(1, count, 0.0)


# Limits


def test_one_stream_over_the_inbound_limit_is_reset_and_counted() -> None:
    bob = responder(YamuxConfig(max_inbound_streams=3))
    for stream_id in (1, 3, 5):
        assert hear(bob, frame(WINDOW_UPDATE, SYN, stream_id)) == [StreamOpened(stream_id)]
    assert hear(bob, frame(DATA, SYN, 7, data=b"request")) == []
    assert said(bob) == frame(DATA, RST, 7)
    assert bob.refused_streams == 1
    bob.reset_stream(3)
    assert hear(bob, frame(WINDOW_UPDATE, SYN, 9)) == [StreamOpened(9)]


def test_the_default_inbound_limit() -> None:
    bob = responder()
    for index in range(DEFAULT_CONFIG.max_inbound_streams):
        stream_id = 1 + 2 * index
        assert hear(bob, frame(WINDOW_UPDATE, SYN, stream_id)) == [StreamOpened(stream_id)]
        bob.send(stream_id, b"hello")  # acknowledges it
    said(bob)
    assert hear(bob, frame(WINDOW_UPDATE, SYN, 5_001)) == []
    assert said(bob) == frame(DATA, RST, 5_001)


def test_streams_that_we_have_not_acknowledged_are_bounded() -> None:
    bob = responder(YamuxConfig(max_unacknowledged=2))
    hear(bob, frame(WINDOW_UPDATE, SYN, 1) + frame(WINDOW_UPDATE, SYN, 3))
    assert hear(bob, frame(WINDOW_UPDATE, SYN, 5)) == []
    bob.send(1, b"hello")
    assert hear(bob, frame(WINDOW_UPDATE, SYN, 7)) == [StreamOpened(7)]
    assert bob.refused_streams == 1


def test_one_stream_over_the_outbound_limit_is_refused_here() -> None:
    alice, _ = sessions(alice=YamuxConfig(max_outbound_streams=2))
    first = alice.open_stream(0.0)
    alice.open_stream(0.0)
    with pytest.raises(StreamRefused):
        alice.open_stream(0.0)
    alice.reset_stream(first)
    assert alice.open_stream(0.0) == 5


def test_streams_that_the_peer_has_not_acknowledged_are_bounded() -> None:
    alice, bob = sessions(alice=YamuxConfig(max_unacknowledged=2))
    for _ in range(2):
        alice.send(alice.open_stream(0.0), b"x")
    with pytest.raises(StreamRefused):
        alice.open_stream(0.0)
    carry(alice, bob)
    bob.send(1, b"y")
    carry(bob, alice)
    assert alice.open_stream(0.0) == 5
    with pytest.raises(StreamRefused):
        alice.open_stream(0.0)
    alice.reset_stream(3)
    assert alice.open_stream(0.0) == 7


FLOODS = {
    "pings": lambda n: frame(PING, SYN, 0, n),
    "pongs": lambda n: frame(PING, ACK, 0, n),
    "empty updates": lambda n: frame(WINDOW_UPDATE, 0, 1),
    "small updates": lambda n: frame(WINDOW_UPDATE, 0, 1, 1),
    "empty data": lambda n: frame(DATA, 0, 1),
    "needless acknowledgements": lambda n: frame(WINDOW_UPDATE, ACK, 1),
    "frames for a gone stream": lambda n: frame(WINDOW_UPDATE, 0, 3, 9_999),
    "farewells": lambda n: frame(GO_AWAY, 0, 0),
    "openings": lambda n: frame(WINDOW_UPDATE, SYN, 5 + 2 * n),
}


@pytest.mark.parametrize("flood", list(FLOODS.values()), ids=list(FLOODS))
def test_one_control_frame_over_the_budget(flood: object) -> None:
    assert callable(flood)
    config = YamuxConfig(control_frames_burst=50, control_frames_per_second=10.0, max_inbound_streams=20)
    bob = responder(config)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1) + frame(WINDOW_UPDATE, SYN, 3) + frame(DATA, RST, 3))
    hear(bob, frame(DATA, 0, 1, data=b"x"), 100.0)  # the budget is full again
    for n in range(50):
        hear(bob, flood(n), 100.0)
    for n in range(50, 60):
        hear(bob, flood(n), 101.0)  # ten a second
    with pytest.raises(FrameFlood):
        hear(bob, flood(60), 101.0)
    assert said(bob).endswith(PROTOCOL_ERROR)


def test_tiny_frames_call_for_a_pause_and_decent_ones_for_none() -> None:
    config = YamuxConfig(decent_frame=100, lacking_per_second=990.0, lacking_burst=9_900.0)
    bob = responder(config)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))
    hear(bob, b"".join(frame(DATA, 0, 1, data=bytes(100)) for _ in range(500)))
    assert bob.pause(0.0) == 0
    hear(bob, frame(DATA, 0, 1, data=b"x") * 100)
    assert bob.pause(0.0) == 0
    hear(bob, frame(DATA, 0, 1, data=b"x") * 30)
    assert bob.pause(0.0) == 3
    assert bob.pause(1.0) == 2
    assert bob.pause(0.5) == 2  # a clock that goes back changes nothing
    assert bob.pause(3.5) == 0
    assert bob.pause(60.0) == 0
    hear(bob, frame(DATA, 0, 1, data=b"x") * 101, 1000.0)  # long silence earns nothing
    assert bob.pause(1000.0) > 0
    assert bob.pause(1060.0) == 0


def test_tiny_frames_for_a_stream_that_is_gone_call_for_a_pause_too() -> None:
    bob = responder(YamuxConfig(decent_frame=100, lacking_per_second=99.0, lacking_burst=99.0))
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))
    bob.reset_stream(1)
    hear(bob, frame(DATA, 0, 1, data=b"x") * 11)
    assert bob.pause(0.0) == 10


def test_rapid_reset() -> None:
    bob = responder(YamuxConfig(control_frames_burst=100))
    hear(bob, b"".join(frame(WINDOW_UPDATE, SYN, n) + frame(DATA, RST, n) for n in range(1, 101, 2)))
    assert bob.open_streams == 0
    violates(bob, frame(WINDOW_UPDATE, SYN, 101), FrameFlood)


def test_small_updates_are_free_as_far_as_our_data_called_for_them() -> None:
    """js grants the window piece by piece: two or three updates for each frame that it was sent."""
    config = YamuxConfig(control_frames_burst=5, control_frames_per_second=0.0, max_updates_owed=40)
    bob = responder(config)
    hear(bob, frame(WINDOW_UPDATE, SYN, 1))  # an opening is charged: four are left
    for _ in range(100):
        bob.send(1, bytes(1000))
        bob.frames_to_send()
        for _ in range(4):
            hear(bob, frame(WINDOW_UPDATE, 0, 1, 250))
    for _ in range(100):
        bob.send(1, b"x")
        bob.frames_to_send()
    for _ in range(40 + 4):
        hear(bob, frame(WINDOW_UPDATE, 0, 1, 1))
    violates(bob, frame(WINDOW_UPDATE, 0, 1, 1), FrameFlood)


def test_an_honest_upload_costs_no_budget() -> None:
    # One token for the opening, one for alice's measuring of the round trip.
    alice, bob = sessions(bob=YamuxConfig(control_frames_burst=2, control_frames_per_second=0.0))
    stream = alice.open_stream(0.0)
    for _ in range(40):
        alice.send(stream, bytes(200_000))
        for event in carry(alice, bob):
            if isinstance(event, DataReceived):
                bob.consumed(stream, len(event.data), 0.0)
        bob.send(stream, bytes(200_000))
        for event in carry(bob, alice):
            if isinstance(event, DataReceived):
                alice.consumed(stream, len(event.data), 0.0)
    assert bob.open_streams == 1


def test_who_makes_us_answer_and_does_not_read_is_cut_off() -> None:
    config = YamuxConfig(max_buffered=1_200, control_frames_burst=10_000)
    bob = responder(config)
    for n in range(200):
        hear(bob, frame(PING, SYN, 0, n))
    violates(bob, frame(PING, SYN, 0, 200), FrameFlood)


# Leaving


@pytest.mark.parametrize("code", list(GoAwayCode))
def test_going_away(code: GoAwayCode) -> None:
    alice, bob = sessions()
    stream = alice.open_stream(0.0)
    alice.send(stream, b"before")
    carry(alice, bob)
    bob.go_away(code)
    bob.go_away(code)  # once is enough
    farewell = said(bob)
    assert farewell == frame(GO_AWAY, 0, 0, code)
    with pytest.raises(StreamRefused):
        bob.open_stream(0.0)
    late = alice.open_stream(0.0)
    alice.send(late, b"too late")
    on_the_way = said(alice)
    assert hear(alice, farewell) == [GoneAway(code)]
    with pytest.raises(StreamRefused):
        alice.open_stream(0.0)
    assert hear(bob, on_the_way) == []
    assert carry(bob, alice) == [StreamReset(late)]
    assert bob.send(stream, b"after") == 5  # open streams go on
    assert carry(bob, alice) == [DataReceived(stream, b"after")]


def test_a_closed_session_does_nothing_and_breaks_nothing() -> None:
    alice, _ = sessions()
    stream = alice.open_stream(0.0)
    alice.send(stream, b"never sent")
    alice.close()
    alice.close()
    assert said(alice) == b""
    assert alice.next_wakeup() is None
    alice.handle_timer(1e9)
    alice.reset_stream(stream)
    alice.consumed(stream, 1, 0.0)
    alice.go_away()
    assert alice.send_capacity(stream) == 0
    assert hear(alice, frame(PING, SYN, 0, 1)) == []
    for call in (lambda: alice.send(stream, b"x"), lambda: alice.close_stream(stream)):
        with pytest.raises(StreamClosed):
            call()
    with pytest.raises(ConnectionClosed):
        alice.open_stream(0.0)
    with pytest.raises(ConnectionClosed):
        alice.ping(0.0)
    assert said(alice) == b""


# Pings


def test_a_ping_is_answered_and_measures_the_round_trip() -> None:
    alice, bob = sessions()
    token = alice.ping(1.0)
    assert alice.ping(1.1) == token  # joins the one under way
    assert said(alice) == frame(PING, SYN, 0, token)
    assert hear(bob, frame(PING, SYN, 0, token)) == []
    assert said(bob) == frame(PING, ACK, 0, token)
    assert hear(alice, frame(PING, ACK, 0, token), 1.25) == [PongReceived(token, 0.25)]
    assert alice.round_trip == 0.25
    assert hear(alice, frame(PING, ACK, 0, token), 2.0) == []  # a second answer says nothing
    assert alice.ping(3.0) != token
    hear(alice, frame(PING, ACK, 0, token + 1), 3.75)
    assert alice.round_trip == 0.5


def test_a_silent_peer_is_pinged_and_then_given_up() -> None:
    alice, bob = sessions()
    assert alice.next_wakeup() == 30.0
    alice.handle_timer(29.9)
    assert said(alice) == b""
    alice.handle_timer(30.0)
    carry(alice, bob, 30.0)
    assert alice.next_wakeup() == 40.0
    carry(bob, alice, 30.1)
    assert alice.next_wakeup() == 60.1
    alice.handle_timer(60.1)
    said(alice)
    assert alice.next_wakeup() == 70.1
    with pytest.raises(KeepAliveTimeout):
        alice.handle_timer(70.1)
    assert alice.next_wakeup() is None


def test_a_peer_that_sends_anything_is_alive() -> None:
    alice, _ = sessions()
    alice.handle_timer(30.0)
    hear(alice, frame(WINDOW_UPDATE, SYN, 2), 39.0)
    assert alice.next_wakeup() == 49.0
    alice.handle_timer(40.0)
    hear(alice, frame(PING, ACK, 0, 1), 41.0)
    assert alice.next_wakeup() == 71.0
