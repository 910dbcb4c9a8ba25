"""What the runtime sees of a connection, whatever carries it: streams, events, flow control, a clock.

`MuxedConnection` is kept by `SecureConnection` (Noise and yamux over any byte stream: a TCP socket, a
relayed circuit) and by a QUIC connection alike. How bytes get in and out differs and stands apart:
`ByteStreamConnection` for what runs over an ordered byte stream.

The rules for a driver:

- events are handled in the order in which they were returned;
- after every call that may have produced output (`send`, `close_stream`, `consumed`, `receive_data`,
  `handle_timer` …) it fetches `data_to_send()`, unless its socket is full;
- every byte of a `DataReceived` is given back through `consumed` once the application has taken it, also
  after `StreamEnded`: a stream keeps its slot until it has ended both ways and everything was consumed;
- who stops reading a stream before its end calls `reset_stream`;
- a raised `RemoteProtocolError` is the end of the connection: write what `data_to_send()` still has (it
  tells the peer why) and close the socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from wws.errors import LocalProtocolError, WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Event


@dataclass(frozen=True, slots=True)
class Established(Event):
    """The peer has proven who it is, and streams may be opened. Comes once, before all others."""

    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class StreamOpened(Event):
    """The peer opened a stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class DataReceived(Event):
    """Bytes of a stream, in order. Never empty. To be given back through `consumed`."""

    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded(Event):
    """The peer will send no more on this stream; our side of it stays open until we close it."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset(Event):
    """The stream is gone, both ways and at once, by the peer's wish or because it broke a bound of ours.

    What had arrived and was not consumed need not be given back any more.
    """

    stream_id: int


@dataclass(frozen=True, slots=True)
class WindowOpened(Event):
    """A stream on which `send` had accepted less than it was given takes more again."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class PongReceived(Event):
    """The peer answered `ping`. Also comes for pings that the connection sent by itself."""

    token: int
    round_trip: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class GoneAway(Event):
    """The peer takes no new streams. Code 0 is a normal end, 1 a protocol error, 2 an internal error."""

    code: int


ConnectionEvent: TypeAlias = (
    Established
    | StreamOpened
    | DataReceived
    | StreamEnded
    | StreamReset
    | WindowOpened
    | PongReceived
    | GoneAway
)


class Phase(Enum):
    """How far a connection has come."""

    NEGOTIATING = "negotiating"
    """Agreeing on the security protocol."""
    SECURING = "securing"
    """Proving who is who."""
    MUXING = "muxing"
    """Agreeing on the multiplexer."""
    ESTABLISHED = "established"
    CLOSED = "closed"


class StreamRefused(WwsError):
    """No stream can be opened now: too many are open, or one side has said that it is leaving."""

    code = "stream_refused"


class StreamClosed(LocalProtocolError):
    """The stream cannot be used for this any more: we ended it, it was reset, or its connection closed."""

    code = "stream_closed"


class ConnectionClosed(LocalProtocolError):
    """The connection is closed, or not established yet."""

    code = "connection_closed"


class MuxedConnection(Protocol):
    """An authenticated connection with streams, as a machine without I/O."""

    @property
    def phase(self) -> Phase: ...

    @property
    def is_initiator(self) -> bool: ...

    @property
    def remote_peer(self) -> PeerId | None:
        """Who is at the other end; `None` until it has proven that."""

    @property
    def round_trip(self) -> float | None:
        """The smoothed round-trip time in seconds, as far as it has been measured."""

    @property
    def heard_at(self) -> float:
        """When the peer was last heard of, in the `now` of then."""

    @property
    def open_streams(self) -> int:
        """How many streams hold a slot, opened by either side."""

    @property
    def refused_streams(self) -> int:
        """How many streams of the peer were reset at a limit."""

    @property
    def unread(self) -> int:
        """Received bytes that the application has not consumed, all streams together."""

    @property
    def kept(self) -> int:
        """Bytes kept for this connection: what is `unread`, what is `buffered_to_send`, and what cannot be
        read yet because its end has not arrived."""

    @property
    def buffered_to_send(self) -> int:
        """Bytes taken from the application that wait to be sent. A driver whose carrier is full stops reading
        above a mark."""

    def open_stream(self, now: float) -> int:
        """Open a stream: its id. Nothing is sent before the first `send` or `close_stream`.

        Raises `StreamRefused` at a limit or after a go-away, `ConnectionClosed` outside of ESTABLISHED.
        """

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Take the first n bytes of `data` for sending, and say n.

        Less than all means one of two things. The peer's window is full: a `WindowOpened` will come. Or
        `max_buffered` is reached: there is room again after `data_to_send`. The bytes are copied.
        Raises `StreamClosed` when the stream was ended by us, was reset, or never existed.
        """

    def send_capacity(self, stream_id: int) -> int:
        """How many bytes `send` would take now; 0 for a stream that is gone."""

    def close_stream(self, stream_id: int) -> None:
        """Send no more on this stream (half-close). Raises `StreamClosed` when it has no more to end."""

    def reset_stream(self, stream_id: int) -> None:
        """Drop the stream, both ways and at once. Does nothing when it is gone."""

    def consumed(self, stream_id: int, count: int, now: float) -> None:
        """The application has taken `count` bytes of what was received: the peer may send as many more.

        Does nothing when the stream is gone.
        """

    def ping(self, now: float) -> int:
        """Measure the round trip; the token that `PongReceived` will carry. A ping under way is joined."""

    def go_away(self, code: int = 0) -> None:
        """Tell the peer that no new streams are taken. Streams that are open go on."""

    def abort(self) -> None:
        """Close at once and forget everything, without a word to the peer. Safe at any time, also twice."""

    def next_wakeup(self) -> float | None:
        """The `now` at which `handle_timer` wants to be called."""

    def handle_timer(self, now: float) -> list[ConnectionEvent]:
        """Do what is due. Raises `RemoteProtocolError` when the peer has been silent for too long."""


class ByteStreamConnection(MuxedConnection, Protocol):
    """A `MuxedConnection` over one ordered byte stream."""

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> list[ConnectionEvent]:
        """Take what the socket brought; what came of it. `data` is not kept.

        Raises a `RemoteProtocolError` when the peer broke a protocol; the phase is CLOSED then.
        """

    def data_to_send(self) -> list[bytes | bytearray]:
        """What is to be written now, in order, and only once."""

    def pause(self, now: float) -> float:
        """Seconds for which the driver should read no more: what came took more time than its bytes are
        worth."""
