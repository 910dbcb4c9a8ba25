"""yamux: many streams over one secure channel, each with flow control (libp2p specification "yamux").

A stream, seen from one side; it leaves the table, and its slot is free, at the end of either line:

    open ──FIN both ways, in either order, and everything consumed──► gone
      └────RST, sent or received────────────────────────────────────► gone

Flow control: each side may send what the other granted, 256 KiB at first. The receiver grants more as the
application consumes; its window doubles while a window's worth is consumed within a few round trips, up to
a bound for the stream and one for the connection. What a peer may cost is bounded by `YamuxConfig`.

Decisions where the specification is silent, each the mildest that stays bounded:
- a SYN goes out with the first data, an ACK with our first frame on the stream;
- stream ids may arrive out of order (go opens streams from several threads), never twice;
- data for a stream that we reset is dropped as long as it fits what had been granted to such streams; on
  any other stream that has ended it is a violation, as is data for a stream that was never opened;
- an empty RST or FIN for a stream that was never opened is ignored: rust drops unused streams like that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

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
from wws.transport.yamux_frames import (
    ACK,
    ALL_FLAGS,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_LENGTH,
    INITIAL_WINDOW,
    MAX_WINDOW,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    FrameFlood,
    GoAwayCode,
    InvalidFrame,
    InvalidStreamId,
    KeepAliveTimeout,
    StreamHasEnded,
    UnknownStream,
    WindowExceeded,
    WindowOverflow,
)
from wws.transport.yamux_ids import StreamIds
from wws.transport.yamux_keep_alive import Due, KeepAlive
from wws.transport.yamux_limits import DEFAULT_CONFIG, ControlBudget, YamuxConfig
from wws.transport.yamux_streams import (
    BLOCKED,
    ENDED_BY_PEER,
    ENDED_BY_US,
    OWES_ACK,
    OWES_SYN,
    Stream,
    StreamTable,
)

MAX_PAYLOAD: Final = MAX_PLAINTEXT - HEADER_LENGTH
"""Data bytes of a frame we send: header and data fill one Noise message. Peers refuse frames over 1 MiB."""


_DISCARD: Final = 0
"""Stream id that stands for a frame whose data is dropped."""


class Yamux:
    """One side of a yamux session: takes plaintext in, gives frames out, knows no channel below."""

    __slots__ = (
        "_body_ends",
        "_body_left",
        "_body_stream",
        "_budget",
        "_closed",
        "_config",
        "_decent_frame",
        "_going_away",
        "_ids",
        "_keep_alive",
        "_outgoing",
        "_partial",
        "_peer_going_away",
        "_room",
        "_table",
        "buffered",
        "is_initiator",
        "refused_streams",
    )

    refused_streams: int
    """Streams of the peer that were reset at a limit."""
    buffered: int
    """Frame bytes that wait for `frames_to_send`."""

    def __init__(
        self,
        *,
        is_initiator: bool,
        config: YamuxConfig = DEFAULT_CONFIG,
        now: float,
        room: Callable[[], bool] | None = None,
    ) -> None:
        """`room` is asked before a window grows: what was granted cannot be taken back."""
        self.is_initiator = is_initiator
        self.refused_streams = 0
        self.buffered = 0
        self._config = config
        self._room = room
        self._closed = False
        self._table = StreamTable(config, is_initiator=is_initiator)
        self._ids = StreamIds(is_initiator=is_initiator, max_skipped=config.max_skipped_ids)
        self._outgoing: list[bytes] = []
        self._partial = b""
        self._body_left = 0
        self._body_stream = _DISCARD
        self._body_ends = False
        self._going_away = False
        self._peer_going_away = False
        self._budget = ControlBudget(config, now)
        self._decent_frame = config.decent_frame
        self._keep_alive = KeepAlive(config, now)

    @property
    def open_streams(self) -> int:
        """Streams that hold a slot."""
        return len(self._table.streams)

    @property
    def heard_at(self) -> float:
        return self._keep_alive.heard_at

    @property
    def round_trip(self) -> float | None:
        """The smoothed round-trip time in seconds, once measured."""
        return self._keep_alive.round_trip

    @property
    def unread(self) -> int:
        """Received bytes that the application has not consumed, all streams together."""
        return self._table.unread

    # ------------------------------------------------------------------------------- what we do

    def open_stream(self, now: float) -> int:
        """Open a stream: its id. Nothing is sent yet. Raises `StreamRefused` or `ConnectionClosed`."""
        if self._closed:
            raise ConnectionClosed("no stream can be opened on a closed connection")
        if self._going_away or self._peer_going_away:
            raise StreamRefused(f"{'we are' if self._going_away else 'the peer is'} leaving this connection")
        reason = self._table.why_not_ours()
        if reason is not None:
            raise StreamRefused(reason)
        stream_id = self._ids.next_own()
        if stream_id is None:
            raise StreamRefused("this connection has used all its stream ids")
        self._table.add(stream_id, now)
        return stream_id

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Take what window and buffer allow of `data`: how many bytes. Raises `StreamClosed`."""
        stream = self._sending(stream_id)
        size = len(data)
        if size > stream.send_window:
            stream.state |= BLOCKED
            size = stream.send_window
        room = self._config.max_buffered - self.buffered
        if size > room:
            size = room
        if size <= 0:
            return 0
        stream.send_window -= size
        view = memoryview(data)
        for offset in range(0, size, MAX_PAYLOAD):
            flags = self._table.opening_flags(stream) if stream.state & (OWES_SYN | OWES_ACK) else 0
            part = view[offset : min(size, offset + MAX_PAYLOAD)]
            self._outgoing.append(HEADER.pack(0, DATA, flags, stream_id, len(part)) + part)
            self.buffered += len(part) + HEADER_LENGTH
            self._budget.sent_data()
        return size

    def send_capacity(self, stream_id: int) -> int:
        """How many bytes `send` would take now; 0 for a stream that is gone or ended by us."""
        stream = self._table.streams.get(stream_id)
        if stream is None or stream.state & ENDED_BY_US:
            return 0
        return max(0, min(stream.send_window, self._config.max_buffered - self.buffered))

    def close_stream(self, stream_id: int) -> None:
        """Send FIN. Raises `StreamClosed` when that was done before or the stream is gone."""
        stream = self._sending(stream_id)
        self._control(DATA, self._table.opening_flags(stream) | FIN, stream_id, 0)
        stream.state = (stream.state | ENDED_BY_US) & ~BLOCKED
        if stream.is_over:
            self._table.free(stream_id, stream)

    def reset_stream(self, stream_id: int) -> None:
        """Send RST and forget the stream. Nothing happens when it is gone."""
        stream = self._table.streams.get(stream_id)
        if stream is None:
            return
        if not stream.state & OWES_SYN:
            self._control(DATA, RST, stream_id, 0)
            if not stream.state & ENDED_BY_PEER:
                # What is left of a frame under way is dropped without being charged.
                under_way = self._body_left if self._body_stream == stream_id else 0
                self._ids.allow(stream.credit - under_way)
        self._table.free(stream_id, stream)

    def consumed(self, stream_id: int, count: int, now: float) -> None:
        """The application took `count` bytes; grant the peer more when half a window is due."""
        stream = self._table.streams.get(stream_id)
        if stream is None:
            return
        if not 0 <= count <= stream.unread:
            raise LocalProtocolError(f"{count} bytes consumed of {stream.unread} that are unread")
        unread = stream.unread - count
        stream.unread = unread
        self._table.unread -= count
        if stream.state & ENDED_BY_PEER:
            if stream.is_over:
                self._table.free(stream_id, stream)
            return
        delta = stream.window - stream.credit - unread
        if delta * 2 < stream.window:
            return
        round_trip = self._keep_alive.round_trip
        if round_trip is None:
            self.ping(now)  # growth needs to know it
        elif now - stream.granted_at < self._config.growth_round_trips * max(
            round_trip, self._config.least_round_trip
        ) and (self._room is None or self._room()):
            delta += self._table.grow(stream)
        stream.granted_at = now
        stream.credit += delta
        flags = self._table.opening_flags(stream) if stream.state & OWES_ACK else 0
        self._control(WINDOW_UPDATE, flags, stream_id, delta)

    def ping(self, now: float) -> int:
        """Send a ping, or join the one under way: its token. Raises `ConnectionClosed`."""
        if self._closed:
            raise ConnectionClosed("a closed connection cannot be pinged")
        if self._keep_alive.begin_ping(now):
            self._control(PING, SYN, 0, self._keep_alive.token)
        return self._keep_alive.token

    def go_away(self, code: int = GoAwayCode.NORMAL) -> None:
        """Say that we take no new streams. Only the first time counts."""
        if not self._closed and not self._going_away:
            self._going_away = True
            self._control(GO_AWAY, 0, 0, code)

    def close(self) -> None:
        """Forget all streams and what was not sent. Does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        self._table.clear()
        self._partial = b""
        self._body_left = 0
        self._outgoing = []
        self.buffered = 0

    def frames_to_send(self) -> list[bytes]:
        """Whole frames in order, only once; each fits a Noise message."""
        frames, self._outgoing = self._outgoing, []
        self.buffered = 0
        return frames

    def pause(self, now: float) -> float:
        """Seconds for which nothing more should be read of this peer: its frames were many and tiny, which
        takes time that others wait for. No offence, for a relay may have got its bytes like that."""
        return self._budget.pause(now)

    def next_wakeup(self) -> float | None:
        """When `handle_timer` is wanted."""
        return None if self._closed else self._keep_alive.next_wakeup()

    def handle_timer(self, now: float) -> None:
        """Ping a peer that has been silent. Raises `KeepAliveTimeout` when it stays so."""
        if self._closed:
            return
        match self._keep_alive.due(now):
            case Due.PING:
                self.ping(now)
            case Due.TIMEOUT:
                self.close()
                silent = now - self._keep_alive.heard_at
                raise KeepAliveTimeout(
                    f"the peer has been silent for {silent:.0f} s, and does not answer a ping"
                )

    # ------------------------------------------------------------------------------- what the peer does

    def receive_data(self, data: bytes, now: float, events: list[ConnectionEvent]) -> None:
        """Take decrypted bytes and append what came of them to `events`.

        Raises a `YamuxError` when the peer breaks the protocol; `frames_to_send` then ends with a go-away,
        and the session is closed.
        """
        if self._closed:
            return
        self._keep_alive.heard_at = now
        try:
            self._receive(data, now, events)
            if self.buffered > 2 * self._config.max_buffered:
                raise FrameFlood("the peer makes us answer more than it reads")
        except RemoteProtocolError:
            self.close()
            self._control(GO_AWAY, 0, 0, GoAwayCode.PROTOCOL_ERROR)
            raise

    def _receive(self, data: bytes, now: float, events: list[ConnectionEvent]) -> None:
        if self._partial:
            data = self._partial + data
            self._partial = b""
        offset, end = 0, len(data)
        streams = self._table.streams
        while offset < end:
            if self._body_left:
                taken = min(self._body_left, end - offset)
                self._body_left -= taken
                stream_id = self._body_stream
                stream = streams.get(stream_id)
                if stream is not None:
                    stream.credit -= taken
                    stream.unread += taken
                    self._table.unread += taken
                    if self._table.unread > self._config.max_unread:
                        self.reset_stream(stream_id)
                        events.append(StreamReset(stream_id))
                    else:
                        events.append(DataReceived(stream_id, data[offset : offset + taken]))
                        if not self._body_left and self._body_ends:
                            self._end(stream_id, stream, events)
                offset += taken
                continue
            if end - offset < HEADER_LENGTH:
                self._partial = data[offset:]
                return
            version, kind, flags, stream_id, length = HEADER.unpack_from(data, offset)
            offset += HEADER_LENGTH
            if version:
                raise InvalidFrame(f"yamux version {version}")
            if kind == DATA and not flags and length:
                stream = streams.get(stream_id)
                if stream is not None and not stream.state & (OWES_SYN | ENDED_BY_PEER):
                    self._begin_body(stream_id, stream, length, False)
                    continue
            if flags & ~ALL_FLAGS:
                raise InvalidFrame(f"yamux flags {flags:#06x}")
            if kind <= WINDOW_UPDATE:
                self._stream_frame(kind, flags, stream_id, length, now, events)
            elif kind == PING:
                self._ping_frame(flags, stream_id, length, now, events)
            elif kind == GO_AWAY:
                if flags or stream_id:
                    raise InvalidFrame("a yamux go-away with flags or a stream id")
                self._budget.charge(now)
                self._peer_going_away = True
                events.append(GoneAway(length))
            else:
                raise InvalidFrame(f"yamux frame type {kind}")

    def _stream_frame(
        self, kind: int, flags: int, stream_id: int, length: int, now: float, events: list[ConnectionEvent]
    ) -> None:
        data_length = length if kind == DATA else 0
        if flags & SYN:
            self._budget.charge(now)
            self._opened_by_peer(stream_id, flags, now, events)
        stream = self._table.streams.get(stream_id)
        if stream is None:
            self._stray_frame(kind, flags, stream_id, length, now)
            return
        if stream.state & OWES_SYN:
            raise UnknownStream(f"a frame for stream {stream_id}, which we have not opened yet")
        needed = bool(flags & SYN)
        if flags & ACK and self._table.acknowledged(stream):
            needed = True
        if data_length and stream.state & ENDED_BY_PEER:
            raise StreamHasEnded(f"{data_length} bytes on stream {stream_id} after its end")
        if flags & RST:
            self._budget.charge(now)
            if stream.state & ENDED_BY_PEER and stream.state & ENDED_BY_US:
                return  # over for both sides: what still waits for the application stays its own
            if data_length > stream.credit:
                raise WindowExceeded(f"stream {stream_id}: {data_length} bytes, {stream.credit} granted")
            self._body_left, self._body_stream = data_length, _DISCARD
            self._table.free(stream_id, stream)
            events.append(StreamReset(stream_id))
            return
        if data_length:
            self._begin_body(stream_id, stream, data_length, bool(flags & FIN))
            return
        if length:
            self._window_opened(stream_id, stream, length, events)
        if flags & FIN and not stream.state & ENDED_BY_PEER:
            self._end(stream_id, stream, events)
        elif not needed and length < self._config.small_update:
            self._budget.charge_update(now)

    def _begin_body(self, stream_id: int, stream: Stream, length: int, ends: bool) -> None:
        if length > stream.credit:
            raise WindowExceeded(f"stream {stream_id}: {length} bytes, {stream.credit} granted")
        if length < self._decent_frame:
            self._budget.lacking += self._decent_frame - length
        self._body_left = length
        self._body_stream = stream_id
        self._body_ends = ends

    def _window_opened(
        self, stream_id: int, stream: Stream, length: int, events: list[ConnectionEvent]
    ) -> None:
        stream.send_window += length
        if stream.send_window > MAX_WINDOW:
            raise WindowOverflow(f"stream {stream_id}: a window of {stream.send_window} bytes")
        if stream.state & BLOCKED:
            stream.state &= ~BLOCKED
            events.append(WindowOpened(stream_id))

    def _opened_by_peer(self, stream_id: int, flags: int, now: float, events: list[ConnectionEvent]) -> None:
        self._ids.opened_by_peer(stream_id)
        if flags & RST:
            return
        if self._going_away or self._table.is_full:
            self.refused_streams += 1
            self._control(DATA, RST, stream_id, 0)
            self._ids.allow(INITIAL_WINDOW)
            return
        self._table.add(stream_id, now)
        events.append(StreamOpened(stream_id))

    def _stray_frame(self, kind: int, flags: int, stream_id: int, length: int, now: float) -> None:
        """A frame for a stream that is not in the table."""
        if stream_id == 0:
            raise InvalidStreamId("a stream frame for the session itself")
        if kind == WINDOW_UPDATE or not length:
            if not flags & SYN or flags & RST:  # an opening that was refused is charged already
                self._budget.charge(now)
            if not flags & (RST | FIN):
                self._ids.check_opened(stream_id)
            return
        self._ids.check_opened(stream_id)
        self._ids.take_allowed(stream_id, length)
        if length < self._decent_frame:
            self._budget.lacking += self._decent_frame - length
        self._body_left, self._body_stream = length, _DISCARD

    def _ping_frame(
        self, flags: int, stream_id: int, token: int, now: float, events: list[ConnectionEvent]
    ) -> None:
        if stream_id or flags not in (SYN, ACK):
            raise InvalidFrame(f"a yamux ping with flags {flags:#x} on stream {stream_id}")
        if flags == ACK:
            round_trip = self._keep_alive.take_pong(token, now)
            if round_trip is not None:
                events.append(PongReceived(token, round_trip))
                return
        self._budget.charge(now)
        if flags == SYN:
            self._control(PING, ACK, 0, token)

    # ------------------------------------------------------------------------------- in between

    def _sending(self, stream_id: int) -> Stream:
        stream = self._table.streams.get(stream_id)
        if stream is None or stream.state & ENDED_BY_US:
            raise StreamClosed(f"stream {stream_id} takes no more data")
        return stream

    def _end(self, stream_id: int, stream: Stream, events: list[ConnectionEvent]) -> None:
        stream.state |= ENDED_BY_PEER
        events.append(StreamEnded(stream_id))
        if stream.is_over:
            self._table.free(stream_id, stream)

    def _control(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        self._outgoing.append(HEADER.pack(0, kind, flags, stream_id, value))
        self.buffered += HEADER_LENGTH
