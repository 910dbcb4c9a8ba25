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

from dataclasses import dataclass
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

MAX_PAYLOAD: Final = MAX_PLAINTEXT - HEADER_LENGTH
"""Data bytes of a frame we send: header and data fill one Noise message. Peers refuse frames over 1 MiB."""


@dataclass(frozen=True, slots=True)
class YamuxConfig:
    """The bounds of one connection."""

    max_inbound_streams: int = 512
    """Streams that the peer may have open; one more is reset."""
    max_outbound_streams: int = 256
    """Streams that we open at once. rust-libp2p closes a connection with more than 512 of both sides."""
    max_unacknowledged: int = 256
    """Streams of one side that wait for the other's first frame (the specification's ACK backlog)."""
    max_window: int = 16 * 1024 * 1024
    """How far the receive window of one stream may grow."""
    max_growth: int = 16 * 1024 * 1024
    """Bytes by which all receive windows of the connection together may exceed the initial 256 KiB."""
    max_unread: int = 32 * 1024 * 1024
    """Received bytes that may wait for the application; a stream that brings more is reset."""
    max_buffered: int = 1024 * 1024
    """Frame bytes that wait for `frames_to_send` before `send` takes no more. A peer that makes us answer
    twice as much without reading is cut off."""
    control_frames_per_second: float = 1_000.0
    """Control frames (pings, openings, resets, needless updates) that a peer may send in the long run."""
    control_frames_burst: int = 4_000
    """Control frames that a peer may send at once."""
    small_update: int = 1024
    """A window update of fewer bytes counts as a control frame."""
    max_skipped_ids: int = 1_024
    """Stream ids that are remembered because higher ones were opened before them."""
    keep_alive_interval: float = 30.0
    """Seconds without a byte from the peer after which it is pinged."""
    ping_timeout: float = 10.0
    """Seconds that a pinged peer may stay silent."""
    growth_round_trips: float = 4.0
    """A window consumed within this many round trips is too small, and doubles."""


DEFAULT_CONFIG: Final = YamuxConfig()

# State of a stream, as bits.
_OWES_SYN: Final = 1
"""Opened by us, and the peer does not know yet."""
_OWES_ACK: Final = 2
"""Opened by the peer, and we have not answered yet."""
_AWAITS_ACK: Final = 4
_ENDED_BY_US: Final = 8
_ENDED_BY_PEER: Final = 16
_BLOCKED: Final = 32
"""The application wants to send more than the peer's window allows."""

_DISCARD: Final = 0
"""Stream id that stands for a frame whose data is dropped."""


class _Stream:
    __slots__ = ("credit", "grant_at", "send_window", "state", "unread", "window")

    def __init__(self, state: int, now: float) -> None:
        self.state = state
        self.send_window = INITIAL_WINDOW  # what we may send
        self.credit = INITIAL_WINDOW  # what the peer may send
        self.window = INITIAL_WINDOW  # what credit and unread bytes together may become
        self.unread = 0  # received and not yet consumed
        self.grant_at = now  # when credit was last given


class Yamux:
    """One side of a yamux session: takes plaintext in, gives frames out, knows no channel below."""

    __slots__ = (
        "_body_ends",
        "_body_left",
        "_body_stream",
        "_closed",
        "_config",
        "_going_away",
        "_growth",
        "_heard_at",
        "_highest_remote_id",
        "_inbound",
        "_next_id",
        "_outgoing",
        "_partial",
        "_peer_going_away",
        "_ping_at",
        "_ping_token",
        "_skipped_ids",
        "_stray_allowance",
        "_streams",
        "_tokens",
        "_tokens_at",
        "_unacknowledged_inbound",
        "_unacknowledged_outbound",
        "_unread",
        "buffered",
        "is_initiator",
        "refused_streams",
        "round_trip",
    )

    round_trip: float | None
    """The smoothed round-trip time in seconds, once measured."""
    refused_streams: int
    """Streams of the peer that were reset at a limit."""
    buffered: int
    """Frame bytes that wait for `frames_to_send`."""

    def __init__(self, *, is_initiator: bool, config: YamuxConfig = DEFAULT_CONFIG, now: float) -> None:
        self.is_initiator = is_initiator
        self.round_trip = None
        self.refused_streams = 0
        self.buffered = 0
        self._config = config
        self._closed = False
        self._streams: dict[int, _Stream] = {}
        self._inbound = 0
        self._unacknowledged_inbound = 0
        self._unacknowledged_outbound = 0
        self._next_id = 1 if is_initiator else 2
        self._highest_remote_id = 0 if is_initiator else -1
        self._skipped_ids: dict[int, None] | None = None
        self._outgoing: list[bytes] = []
        self._partial = b""
        self._body_left = 0
        self._body_stream = _DISCARD
        self._body_ends = False
        self._unread = 0
        self._growth = 0
        self._stray_allowance = 0
        self._going_away = False
        self._peer_going_away = False
        self._tokens = float(config.control_frames_burst)
        self._tokens_at = now
        self._heard_at = now
        self._ping_at: float | None = None
        self._ping_token = 0

    @property
    def open_streams(self) -> int:
        """Streams that hold a slot."""
        return len(self._streams)

    @property
    def unread(self) -> int:
        """Received bytes that the application has not consumed, all streams together."""
        return self._unread

    # ------------------------------------------------------------------------------- what we do

    def open_stream(self, now: float) -> int:
        """Open a stream: its id. Nothing is sent yet. Raises `StreamRefused` or `ConnectionClosed`."""
        if self._closed:
            raise ConnectionClosed("no stream can be opened on a closed connection")
        config = self._config
        if self._going_away or self._peer_going_away:
            raise StreamRefused(f"{'we are' if self._going_away else 'the peer is'} leaving this connection")
        if len(self._streams) - self._inbound >= config.max_outbound_streams:
            raise StreamRefused(f"{config.max_outbound_streams} streams are open already")
        if self._unacknowledged_outbound >= config.max_unacknowledged:
            raise StreamRefused(f"the peer has not yet answered on {config.max_unacknowledged} streams")
        stream_id = self._next_id
        if stream_id > MAX_WINDOW:
            raise StreamRefused("this connection has used all its stream ids")
        self._next_id = stream_id + 2
        self._streams[stream_id] = _Stream(_OWES_SYN | _AWAITS_ACK, now)
        self._unacknowledged_outbound += 1
        return stream_id

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Take what window and buffer allow of `data`: how many bytes. Raises `StreamClosed`."""
        stream = self._sending(stream_id)
        size = len(data)
        if size > stream.send_window:
            stream.state |= _BLOCKED
            size = stream.send_window
        room = self._config.max_buffered - self.buffered
        if size > room:
            size = room
        if size <= 0:
            return 0
        stream.send_window -= size
        if size <= MAX_PAYLOAD:
            flags = self._opening_flags(stream) if stream.state & (_OWES_SYN | _OWES_ACK) else 0
            if size != len(data):
                data = memoryview(data)[:size]
            self._outgoing.append(HEADER.pack(0, DATA, flags, stream_id, size) + data)
            self.buffered += size + HEADER_LENGTH
            return size
        view = memoryview(data)
        for offset in range(0, size, MAX_PAYLOAD):
            flags = self._opening_flags(stream) if stream.state & (_OWES_SYN | _OWES_ACK) else 0
            part = view[offset : min(size, offset + MAX_PAYLOAD)]
            self._outgoing.append(HEADER.pack(0, DATA, flags, stream_id, len(part)) + part)
            self.buffered += len(part) + HEADER_LENGTH
        return size

    def send_capacity(self, stream_id: int) -> int:
        """How many bytes `send` would take now; 0 for a stream that is gone or ended by us."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.state & _ENDED_BY_US:
            return 0
        return max(0, min(stream.send_window, self._config.max_buffered - self.buffered))

    def close_stream(self, stream_id: int) -> None:
        """Send FIN. Raises `StreamClosed` when that was done before or the stream is gone."""
        stream = self._sending(stream_id)
        self._control(DATA, self._opening_flags(stream) | FIN, stream_id, 0)
        stream.state = (stream.state | _ENDED_BY_US) & ~_BLOCKED
        if stream.state & _ENDED_BY_PEER and not stream.unread:
            self._free(stream_id, stream)

    def reset_stream(self, stream_id: int) -> None:
        """Send RST and forget the stream. Nothing happens when it is gone."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not stream.state & _OWES_SYN:
            self._control(DATA, RST, stream_id, 0)
            if not stream.state & _ENDED_BY_PEER:
                self._stray_allowance += stream.credit
        self._free(stream_id, stream)

    def consumed(self, stream_id: int, count: int, now: float) -> None:
        """The application took `count` bytes; grant the peer more when half a window is due."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not 0 <= count <= stream.unread:
            raise LocalProtocolError(f"{count} bytes consumed of {stream.unread} that are unread")
        unread = stream.unread - count
        stream.unread = unread
        self._unread -= count
        if stream.state & _ENDED_BY_PEER:
            if stream.state & _ENDED_BY_US and not unread:
                self._free(stream_id, stream)
            return
        delta = stream.window - stream.credit - unread
        if delta * 2 < stream.window:
            return
        if self.round_trip is None:
            self.ping(now)  # growth needs to know it
        elif now - stream.grant_at < self._config.growth_round_trips * self.round_trip:
            delta += self._grow(stream)
        stream.grant_at = now
        stream.credit += delta
        flags = self._opening_flags(stream) if stream.state & _OWES_ACK else 0
        self._control(WINDOW_UPDATE, flags, stream_id, delta)

    def ping(self, now: float) -> int:
        """Send a ping, or join the one under way: its token. Raises `ConnectionClosed`."""
        if self._closed:
            raise ConnectionClosed("a closed connection cannot be pinged")
        if self._ping_at is None:
            self._ping_at = now
            self._ping_token = (self._ping_token + 1) & MAX_WINDOW
            self._control(PING, SYN, 0, self._ping_token)
        return self._ping_token

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
        self._streams = {}
        self._inbound = self._unread = self._growth = 0
        self._unacknowledged_inbound = self._unacknowledged_outbound = 0
        self._partial = b""
        self._body_left = 0
        self._outgoing = []
        self.buffered = 0
        self._ping_at = None

    def frames_to_send(self) -> list[bytes]:
        """Whole frames in order, only once; each fits a Noise message."""
        frames, self._outgoing = self._outgoing, []
        self.buffered = 0
        return frames

    def next_wakeup(self) -> float | None:
        """When `handle_timer` is wanted."""
        if self._closed:
            return None
        if self._ping_at is None:
            return self._heard_at + self._config.keep_alive_interval
        return max(self._ping_at, self._heard_at) + self._config.ping_timeout

    def handle_timer(self, now: float) -> None:
        """Ping a peer that has been silent. Raises `KeepAliveTimeout` when it stays so."""
        due = self.next_wakeup()
        if due is None or now < due:
            return
        if self._ping_at is None:
            self.ping(now)
            return
        silent = now - self._heard_at
        self.close()
        raise KeepAliveTimeout(f"the peer has been silent for {silent:.0f} s and does not answer a ping")

    # ------------------------------------------------------------------------------- what the peer does

    def receive_data(self, data: bytes, now: float, events: list[ConnectionEvent]) -> None:
        """Take decrypted bytes and append what came of them to `events`.

        Raises a `YamuxError` when the peer breaks the protocol; `frames_to_send` then ends with a go-away,
        and the session is closed.
        """
        if self._closed:
            return
        self._heard_at = now
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
        streams = self._streams
        while offset < end:
            if self._body_left:
                taken = min(self._body_left, end - offset)
                self._body_left -= taken
                stream_id = self._body_stream
                stream = streams.get(stream_id)
                if stream is not None:
                    stream.unread += taken
                    self._unread += taken
                    if self._unread > self._config.max_unread:
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
                if stream is not None and not stream.state & (_OWES_SYN | _ENDED_BY_PEER):
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
                self._charge(now)
                self._peer_going_away = True
                events.append(GoneAway(length))
            else:
                raise InvalidFrame(f"yamux frame type {kind}")

    def _stream_frame(
        self, kind: int, flags: int, stream_id: int, length: int, now: float, events: list[ConnectionEvent]
    ) -> None:
        data_length = length if kind == DATA else 0
        if flags & SYN:
            self._charge(now)
            self._opened_by_peer(stream_id, flags, now, events)
        stream = self._streams.get(stream_id)
        if stream is None:
            self._stray_frame(kind, flags, stream_id, length, now)
            return
        if stream.state & _OWES_SYN:
            raise UnknownStream(f"a frame for stream {stream_id}, which we have not opened yet")
        if flags & ACK and stream.state & _AWAITS_ACK:
            stream.state &= ~_AWAITS_ACK
            self._unacknowledged_outbound -= 1
        if flags & RST:
            self._charge(now)
            if data_length > stream.credit:
                raise WindowExceeded(f"stream {stream_id}: {data_length} bytes, {stream.credit} granted")
            self._body_left, self._body_stream = data_length, _DISCARD
            self._free(stream_id, stream)
            events.append(StreamReset(stream_id))
            return
        if data_length:
            if stream.state & _ENDED_BY_PEER:
                raise StreamHasEnded(f"{data_length} bytes on stream {stream_id} after its end")
            self._begin_body(stream_id, stream, data_length, bool(flags & FIN))
            return
        if length:
            self._window_opened(stream_id, stream, length, events)
        if flags & FIN and not stream.state & _ENDED_BY_PEER:
            self._end(stream_id, stream, events)
        elif not flags & (SYN | ACK) and length < self._config.small_update:
            self._charge(now)

    def _begin_body(self, stream_id: int, stream: _Stream, length: int, ends: bool) -> None:
        if length > stream.credit:
            raise WindowExceeded(f"stream {stream_id}: {length} bytes, {stream.credit} granted")
        stream.credit -= length
        self._body_left = length
        self._body_stream = stream_id
        self._body_ends = ends

    def _window_opened(
        self, stream_id: int, stream: _Stream, length: int, events: list[ConnectionEvent]
    ) -> None:
        stream.send_window += length
        if stream.send_window > MAX_WINDOW:
            raise WindowOverflow(f"stream {stream_id}: a window of {stream.send_window} bytes")
        if stream.state & _BLOCKED:
            stream.state &= ~_BLOCKED
            events.append(WindowOpened(stream_id))

    def _opened_by_peer(self, stream_id: int, flags: int, now: float, events: list[ConnectionEvent]) -> None:
        if stream_id == 0 or stream_id & 1 == self.is_initiator:
            raise InvalidStreamId(f"the peer may not open stream {stream_id}")
        if not self._take_remote_id(stream_id):
            raise InvalidStreamId(f"the peer opened stream {stream_id} twice")
        if flags & RST:
            return
        config = self._config
        if (
            self._going_away
            or self._inbound >= config.max_inbound_streams
            or self._unacknowledged_inbound >= config.max_unacknowledged
        ):
            self.refused_streams += 1
            self._control(DATA, RST, stream_id, 0)
            self._stray_allowance += INITIAL_WINDOW
            return
        self._streams[stream_id] = _Stream(_OWES_ACK, now)
        self._inbound += 1
        self._unacknowledged_inbound += 1
        events.append(StreamOpened(stream_id))

    def _take_remote_id(self, stream_id: int) -> bool:
        """Whether `stream_id` is opened for the first time."""
        highest = self._highest_remote_id
        if stream_id <= highest:
            if self._skipped_ids is None or stream_id not in self._skipped_ids:
                return False
            del self._skipped_ids[stream_id]
            return True
        self._highest_remote_id = stream_id
        if stream_id > highest + 2:
            skipped = self._skipped_ids = self._skipped_ids or {}
            most = self._config.max_skipped_ids
            skipped.update(dict.fromkeys(range(max(highest + 2, stream_id - 2 * most), stream_id, 2)))
            while len(skipped) > most:
                del skipped[next(iter(skipped))]
        return True

    def _was_opened(self, stream_id: int) -> bool:
        if stream_id & 1 == self.is_initiator:
            return stream_id < self._next_id
        return stream_id <= self._highest_remote_id and stream_id not in (self._skipped_ids or ())

    def _stray_frame(self, kind: int, flags: int, stream_id: int, length: int, now: float) -> None:
        """A frame for a stream that is not in the table."""
        if stream_id == 0:
            raise InvalidStreamId("a stream frame for the session itself")
        if kind == WINDOW_UPDATE or not length:
            self._charge(now)
            if not flags & (RST | FIN) and not self._was_opened(stream_id):
                raise UnknownStream(f"a frame for stream {stream_id}, which was never opened")
            return
        if not self._was_opened(stream_id):
            raise UnknownStream(f"data for stream {stream_id}, which was never opened")
        if length > self._stray_allowance:
            raise StreamHasEnded(f"{length} bytes on stream {stream_id}, which is gone")
        self._stray_allowance -= length
        self._body_left, self._body_stream = length, _DISCARD

    def _ping_frame(
        self, flags: int, stream_id: int, token: int, now: float, events: list[ConnectionEvent]
    ) -> None:
        if stream_id or flags not in (SYN, ACK):
            raise InvalidFrame(f"a yamux ping with flags {flags:#x} on stream {stream_id}")
        if flags == ACK and self._ping_at is not None and token == self._ping_token:
            sample = max(0.0, now - self._ping_at)
            self._ping_at = None
            self.round_trip = sample if self.round_trip is None else (self.round_trip + sample) / 2
            events.append(PongReceived(token, sample))
            return
        self._charge(now)
        if flags == SYN:
            self._control(PING, ACK, 0, token)

    # ------------------------------------------------------------------------------- in between

    def _sending(self, stream_id: int) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None or stream.state & _ENDED_BY_US:
            raise StreamClosed(f"stream {stream_id} takes no more data")
        return stream

    def _opening_flags(self, stream: _Stream) -> int:
        """SYN or ACK for the first frame that we send on a stream, and nothing afterwards."""
        if stream.state & _OWES_SYN:
            stream.state &= ~_OWES_SYN
            return SYN
        if stream.state & _OWES_ACK:
            stream.state &= ~_OWES_ACK
            self._unacknowledged_inbound -= 1
            return ACK
        return 0

    def _end(self, stream_id: int, stream: _Stream, events: list[ConnectionEvent]) -> None:
        stream.state |= _ENDED_BY_PEER
        events.append(StreamEnded(stream_id))
        if stream.state & _ENDED_BY_US and not stream.unread:
            self._free(stream_id, stream)

    def _free(self, stream_id: int, stream: _Stream) -> None:
        """The one place where a stream leaves the table, whatever ended it."""
        del self._streams[stream_id]
        self._unread -= stream.unread
        self._growth -= stream.window - INITIAL_WINDOW
        if stream_id & 1 == self.is_initiator:
            if stream.state & _AWAITS_ACK:
                self._unacknowledged_outbound -= 1
        else:
            self._inbound -= 1
            if stream.state & _OWES_ACK:
                self._unacknowledged_inbound -= 1

    def _grow(self, stream: _Stream) -> int:
        config = self._config
        more = min(stream.window, config.max_window - stream.window, config.max_growth - self._growth)
        if more <= 0:
            return 0
        stream.window += more
        self._growth += more
        return more

    def _control(self, kind: int, flags: int, stream_id: int, value: int) -> None:
        self._outgoing.append(HEADER.pack(0, kind, flags, stream_id, value))
        self.buffered += HEADER_LENGTH

    def _charge(self, now: float) -> None:
        """Take one token of the control frame budget. Raises `FrameFlood` when there is none."""
        config = self._config
        earned = max(0.0, now - self._tokens_at) * config.control_frames_per_second
        self._tokens = min(float(config.control_frames_burst), self._tokens + earned) - 1.0
        self._tokens_at = now
        if self._tokens < 0.0:
            raise FrameFlood("the peer sends control frames faster than any honest use does")
