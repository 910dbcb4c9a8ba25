"""Every frame type with every combination of flags, in every state that a stream can be in.

What must come of it is said here a second time, as rules over the specification's words.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import RemoteProtocolError
from wws.transport.muxed import (
    ConnectionEvent,
    DataReceived,
    GoneAway,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamRefused,
    StreamReset,
)
from wws.transport.yamux import Yamux
from wws.transport.yamux_frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    InvalidFrame,
    InvalidStreamId,
    StreamHasEnded,
    UnknownStream,
    YamuxError,
)


def _hear(session: Yamux, *frames: bytes) -> list[ConnectionEvent]:
    events: list[ConnectionEvent] = []
    session.receive_data(b"".join(frames), 0.0, events)
    return events


def _frame(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    return HEADER.pack(0, kind, flags, stream_id, length) + (bytes(length) if kind == DATA else b"")


OPENED = _frame(WINDOW_UPDATE, SYN, 1, 0)
ENDED = _frame(DATA, FIN, 1, 0)

# State → how a responder gets there, and the stream that is meant.


def _session(session: Yamux) -> int:
    return 0


def _theirs_unopened(session: Yamux) -> int:
    return 1


def _ours_unopened(session: Yamux) -> int:
    return 2


def _ours_unsent(session: Yamux) -> int:
    return session.open_stream(0.0)


def _ours_opened(session: Yamux) -> int:
    stream = session.open_stream(0.0)
    session.send(stream, b"x")
    return stream


def _ours_acknowledged(session: Yamux) -> int:
    stream = _ours_opened(session)
    _hear(session, _frame(WINDOW_UPDATE, ACK, stream, 0))
    return stream


def _theirs_opened(session: Yamux) -> int:
    _hear(session, OPENED)
    return 1


def _ended_by_peer(session: Yamux) -> int:
    _hear(session, OPENED, ENDED)
    return 1


def _ended_by_us(session: Yamux) -> int:
    _hear(session, OPENED)
    session.close_stream(1)
    return 1


def _over_but_unread(session: Yamux) -> int:
    _hear(session, OPENED, _frame(DATA, 0, 1, 5), ENDED)
    session.close_stream(1)
    return 1


def _gone(session: Yamux) -> int:
    _hear(session, OPENED, ENDED)
    session.close_stream(1)
    return 1


def _reset_by_peer(session: Yamux) -> int:
    _hear(session, OPENED, _frame(DATA, RST, 1, 0))
    return 1


def _reset_by_us(session: Yamux) -> int:
    _hear(session, OPENED)
    session.reset_stream(1)
    return 1


STATES: list[Callable[[Yamux], int]] = [
    _session,
    _theirs_unopened,
    _ours_unopened,
    _ours_unsent,
    _ours_opened,
    _ours_acknowledged,
    _theirs_opened,
    _ended_by_peer,
    _ended_by_us,
    _over_but_unread,
    _gone,
    _reset_by_peer,
    _reset_by_us,
]
OPEN = {_ours_opened, _ours_acknowledged, _theirs_opened, _ended_by_us}

Outcome = type[RemoteProtocolError] | list[type[ConnectionEvent]]


def _expected(kind: int, flags: int, length: int, state: Callable[[Yamux], int]) -> Outcome:
    if kind > GO_AWAY or flags > 15:
        return InvalidFrame
    if kind == PING:
        return [] if state is _session and flags in (SYN, ACK) else InvalidFrame
    if kind == GO_AWAY:
        return [GoneAway] if state is _session and not flags else InvalidFrame
    if state is _session:
        return InvalidStreamId
    data = length if kind == DATA else 0
    if flags & SYN:
        if state is not _theirs_unopened:
            return InvalidStreamId
        if flags & RST:
            return StreamHasEnded if data else []
        return [StreamOpened, *([DataReceived] if data else []), *([StreamEnded] if flags & FIN else [])]
    if state in (_theirs_unopened, _ours_unopened):
        return [] if flags & (RST | FIN) and not data else UnknownStream
    if state is _ours_unsent:
        return UnknownStream
    if state is _reset_by_us:
        return []
    if state not in OPEN and data:
        return StreamHasEnded
    if state in (_gone, _reset_by_peer, _over_but_unread):
        return []
    if flags & RST:
        return [StreamReset]
    ending = flags & FIN and state in OPEN
    return [*([DataReceived] if data else []), *([StreamEnded] if ending else [])]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", [DATA, WINDOW_UPDATE, PING, GO_AWAY, 4, 255])
def test_every_frame_in_every_state(kind: int, state: Callable[[Yamux], int]) -> None:
    for flags, length in product([*range(16), 16, 0x8000], [0, 5, 70_000]):
        session = Yamux(is_initiator=False, now=0.0)
        stream_id = state(session)
        session.frames_to_send()
        expected = _expected(kind, flags, length, state)
        frame = _frame(kind, flags, stream_id, length)
        if isinstance(expected, list):
            assert [type(event) for event in _hear(session, frame)] == expected, (flags, length)
            # Whatever it was, the next frame is understood.
            assert _hear(session, _frame(WINDOW_UPDATE, SYN, 99, 0)) == [StreamOpened(99)]
        else:
            with pytest.raises(expected) as caught:
                _hear(session, frame)
            assert type(caught.value) is expected, (flags, length)
            assert session.frames_to_send() == [HEADER.pack(0, GO_AWAY, 0, 0, 1)]
            assert session.open_streams == session.unread == 0


@pytest.mark.parametrize("version", [1, 255])
def test_another_version_is_refused(version: int) -> None:
    session = Yamux(is_initiator=False, now=0.0)
    with pytest.raises(InvalidFrame):
        _hear(session, HEADER.pack(version, WINDOW_UPDATE, SYN, 1, 0))


FRAMES = st.tuples(
    st.sampled_from([DATA, DATA, WINDOW_UPDATE, WINDOW_UPDATE, PING, GO_AWAY]),
    st.sampled_from([0, 0, SYN, ACK, FIN, RST, SYN | ACK, SYN | FIN, ACK | FIN, FIN | RST]),
    st.integers(0, 9),
    st.sampled_from([0, 1, 11, 12, 70_000, 262_144]),
)
LOCAL = st.tuples(st.sampled_from(["open", "send", "close", "reset", "consume"]), st.integers(0, 9))


@given(st.lists(FRAMES | LOCAL, max_size=60), st.lists(st.integers(1, 100_000), min_size=1, max_size=5))
def test_any_sequence_of_frames_leaves_sound_sums(steps: list[tuple[object, ...]], cuts: list[int]) -> None:
    """A peer that keeps the framing and nothing else, while the application goes about its work."""
    session = Yamux(is_initiator=False, now=0.0)
    table = session._table
    cut = 0
    for step in steps:
        try:
            match step:
                case (int(kind), int(flags), int(stream_id), int(length)):
                    data = _frame(kind, flags, stream_id, length)
                    while data:
                        cut += 1
                        size = cuts[cut % len(cuts)]
                        _hear(session, data[:size])
                        data = data[size:]
                case ("open", _):
                    session.open_stream(0.0)
                case ("send", int(stream_id)):
                    session.send(stream_id, bytes(1_000))
                case ("close", int(stream_id)):
                    session.close_stream(stream_id)
                case ("reset", int(stream_id)):
                    session.reset_stream(stream_id)
                case ("consume", int(stream_id)) if stream_id in table.streams:
                    session.consumed(stream_id, table.streams[stream_id].unread, 0.0)
        except (StreamClosed, StreamRefused):
            continue  # the application was too late
        except YamuxError:
            assert session.frames_to_send()[-1] == HEADER.pack(0, GO_AWAY, 0, 0, 1)
            assert session.open_streams == session.unread == 0
            return
        assert table.unread == sum(stream.unread for stream in table.streams.values())
        assert table._inbound == sum(stream_id % 2 for stream_id in table.streams)
        assert all(stream.credit >= 0 for stream in table.streams.values())
        assert all(stream.credit + stream.unread <= stream.window for stream in table.streams.values())
