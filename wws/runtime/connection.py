"""A connection on an asyncio transport: drives the connection machine, and hands its streams to the host.

    socket ──data_received──► machine ──events──► Stream.data_received … ──► whoever awaits Stream.read
    socket ◄──writelines───── machine ◄──send──── Stream.write            (paused socket → drain())

No task belongs to a connection: an idle one is a few objects and an entry in the host's timer heap. Whatever
ends it, `connection_lost` comes exactly once, and only there its slots are given back.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol, cast

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of_ip
from wws.errors import ParseError, RemoteProtocolError, WwsError
from wws.identity.peer_id import PeerId
from wws.mesh.identify import Identification
from wws.runtime.streams import Stream, StreamReset
from wws.transport.multistream import NegotiationFailed, Negotiator
from wws.transport.muxed import (
    ByteStreamConnection,
    ConnectionEvent,
    DataReceived,
    Established,
    Phase,
    PongReceived,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    WindowOpened,
)
from wws.transport.muxed import StreamReset as StreamResetEvent

_WRITE_HIGH = 512 * 1024
"""Bytes in the transport's buffer above which writers wait."""
_WRITE_NOW = 64 * 1024
"""Bytes waiting in the machine that are not held back for more to come."""
_LINGER = 5.0
"""Seconds that a closing socket has to send what is written."""
_STOP_READING = 256 * 1024
"""Bytes of our own answers that may wait behind a full socket before we read no further."""


class ConnectionLost(WwsError):
    """The connection to the peer ended."""

    code = "connection_lost"


class HandshakeFailed(WwsError):
    """The connection ended before the peer had proven who it is."""

    code = "handshake_failed"


class ConnectionHost(Protocol):
    """What a connection needs of the host that owns it."""

    def monotonic(self) -> float: ...
    def connection_made(self, connection: Connection) -> bool: ...
    def connection_established(self, connection: Connection, peer: PeerId) -> None: ...
    def connection_gone(self, connection: Connection, error: WwsError) -> None: ...
    def streams_changed(self, connection: Connection) -> None: ...
    def negotiator_for_inbound(self) -> Negotiator: ...
    def stream_opening(self, stream: Stream) -> None: ...
    def stream_decided(self, stream: Stream) -> None: ...
    def stream_ready(self, stream: Stream) -> None: ...
    def count_refusal(self, protocol: str, reason: str) -> None: ...
    def count_traffic(self, received: int, sent: int) -> None: ...
    def pong(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One connection, from the open socket to its end."""

    __slots__ = (
        "_drainers",
        "_error",
        "_established",
        "_flush_planned",
        "_host",
        "_identify_waiters",
        "_linger",
        "_machine",
        "_opened",
        "_reading_paused",
        "_transport",
        "connection_id",
        "identification",
        "identify_done",
        "is_leaving",
        "opened_at",
        "outbound",
        "peer_id",
        "remote_ip",
        "remote_port",
        "scope",
        "streams",
        "write_paused",
    )

    peer_id: PeerId
    """Who is at the other end. Set once the connection is established, not to be read before."""

    def __init__(
        self, host: ConnectionHost, machine: ByteStreamConnection, connection_id: int, *, outbound: bool
    ) -> None:
        self.connection_id = connection_id
        self.outbound = outbound
        self.opened_at = host.monotonic()
        self.remote_ip = ""
        self.remote_port = 0
        self.scope: Scope | None = None
        """The scope of the peer's IP address; `None` for one that nobody can be reached at."""
        self.streams: dict[int, Stream] = {}
        self.identification: Identification | None = None
        """What the peer said of itself; `None` until then."""
        self.identify_done = False
        """Whether identify has ended, one way or the other."""
        self.write_paused = False
        self.is_leaving = False
        """Whether the peer takes no new streams: a new connection is wanted for those."""
        self._host = host
        self._machine = machine
        self._transport: asyncio.Transport | None = None
        self._established: asyncio.Future[None] | None = None
        self._identify_waiters: list[asyncio.Future[None]] | None = None
        self._drainers: list[asyncio.Future[None]] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._error: WwsError | None = None
        self._flush_planned = False
        self._opened = False
        self._reading_paused = False

    @property
    def machine(self) -> ByteStreamConnection:
        return self._machine

    @property
    def is_established(self) -> bool:
        return self._opened and self._error is None

    @property
    def was_established(self) -> bool:
        """Whether the handshake was ever completed."""
        return self._opened

    @property
    def is_closed(self) -> bool:
        return self._error is not None

    @property
    def remote_address(self) -> Multiaddr:
        """Where the peer is seen to come from, with its PeerId once that is known."""
        address = Multiaddr.of(self.remote_ip, self.remote_port)
        return address.with_peer(self.peer_id) if self._opened else address

    @property
    def local_address(self) -> Multiaddr:
        """The address of our end of the socket."""
        assert self._transport is not None
        name = self._transport.get_extra_info("sockname")
        return Multiaddr.of(name[0].partition("%")[0], name[1])

    @property
    def buffered(self) -> int:
        """Bytes written to us that the kernel has not taken yet. Bounded: writers wait above a mark."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return waiting + self._machine.buffered_to_send

    @property
    def waiting(self) -> int:
        """Bytes held for this connection, in both directions."""
        return self._machine.unread + self.buffered

    # Streams

    def open_stream(self, *protocols: str) -> Stream:
        """Open a stream for the first of `protocols` that the peer speaks.

        Returns at once: the negotiation goes out with the first bytes. Raises `StreamRefused` when there are
        too many streams or the peer is leaving, `ConnectionLost` when the connection is over.
        """
        if self._error is not None:
            raise ConnectionLost(str(self._error))
        stream_id = self._machine.open_stream(self._host.monotonic())
        negotiator = Negotiator.propose(*protocols)
        stream = Stream(self, stream_id, negotiator, protocols[0], self._host.monotonic())
        self.streams[stream_id] = stream
        self._machine.send(stream_id, negotiator.data_to_send())
        self._host.streams_changed(self)
        self.flush_soon()
        return stream

    def send(self, stream_id: int, data: memoryview) -> int:
        if self._error is not None:
            raise ConnectionLost(str(self._error))
        accepted = self._machine.send(stream_id, data)
        # What did not fit makes room for the rest: nobody else would wake its writer.
        if accepted < len(data) or self._machine.buffered_to_send > _WRITE_NOW:
            self.flush()
        else:
            self.flush_soon()
        return accepted

    def close_stream(self, stream_id: int) -> None:
        if self._error is None:
            try:
                self._machine.close_stream(stream_id)
            except StreamClosed:
                pass  # the peer has reset it: the event of that is still to be handled
            self.flush_soon()
        self._forget_if_done(stream_id)

    def stream_decided(self, stream: Stream) -> None:
        """The negotiation of a stream has ended, well or not."""
        self._host.stream_decided(stream)

    def reset_stream(self, stream_id: int) -> None:
        if self._error is None:
            self._machine.reset_stream(stream_id)
            self.flush_soon()
        if self.streams.pop(stream_id, None) is not None:
            self._host.streams_changed(self)

    def give_back(self, stream_id: int, count: int) -> None:
        if self._error is None:
            self._machine.consumed(stream_id, count, self._host.monotonic())
            self.flush_soon()
        self._forget_if_done(stream_id)

    async def drain(self) -> None:
        """Wait until the socket takes more."""
        while self.write_paused and self._error is None:
            if self._drainers is None:
                self._drainers = []
            await _wait_among(self._drainers)

    def ping(self) -> None:
        """Measure the round trip; `host.pong` follows, or the connection is found dead."""
        if self._error is None:
            self._machine.ping(self._host.monotonic())
            self.flush()

    # Identify

    async def wait_identified(self) -> Identification | None:
        """What the peer says of itself, when it has said it; `None` when it will not."""
        if not self.identify_done and self._error is None:
            if self._identify_waiters is None:
                self._identify_waiters = []
            await _wait_among(self._identify_waiters)
        return self.identification

    def set_identified(self, identification: Identification | None) -> None:
        """Identify has ended; with `None` it failed."""
        self.identification = identification
        self.identify_done = True
        _wake(self._identify_waiters)
        self._identify_waiters = None

    # Life

    def established(self) -> asyncio.Future[None]:
        """Done when the handshake is; fails with a `WwsError` when it does."""
        if self._established is None:
            self._established = asyncio.get_running_loop().create_future()
            if self._error is not None:
                self._established.set_exception(_why_not_established(self._error))
            elif self._opened:
                self._established.set_result(None)
        return self._established

    def close(self, reason: str = "closed") -> None:
        """Close in good order: tell the peer, send what is written, then close the socket."""
        if self._error is None and self._transport is not None:
            if self._machine.phase is Phase.ESTABLISHED:
                self._machine.go_away(0)
            self._end(ConnectionLost(reason))

    def abort(self, error: WwsError) -> None:
        """Close the socket at once."""
        if self._error is None:
            self._error = error
            self._machine.abort()
            if self._transport is not None:
                self._transport.abort()

    def handle_timer(self, now: float) -> float | None:
        """Run the machine's timer; when it wants to be called again."""
        if self._error is not None:
            return None
        try:
            events = self._machine.handle_timer(now)
        except RemoteProtocolError as error:
            self._protocol_error(error)
            return None
        self._handle(events)
        self.flush()
        return None if self.is_closed else self._machine.next_wakeup()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        if not name:  # gone between accept and here
            self.abort(ConnectionLost("the peer left at once"))
            return
        self.remote_ip, self.remote_port = name[0].partition("%")[0], name[1]
        try:
            self.scope = scope_of_ip(self.remote_ip)
        except ParseError:
            self.scope = None
        if not self._host.connection_made(self):
            return
        self._set_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self.flush()

    def turn_away(self) -> None:
        """Reset the socket at once, without a byte: the answer to whoever is over a limit."""
        self._set_option(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort(ConnectionLost("turned away"))

    def data_received(self, data: bytes) -> None:
        if self._error is not None:
            return
        self._host.count_traffic(len(data), 0)
        try:
            events = self._machine.receive_data(data, self._host.monotonic())
        except RemoteProtocolError as error:
            self._protocol_error(error)
            return
        if events:
            self._handle(events)
        self.flush_soon()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self.flush()
        if self._reading_paused:
            self._reading_paused = False
            assert self._transport is not None
            self._transport.resume_reading()
        _wake(self._drainers)
        self._drainers = None
        for stream in list(self.streams.values()):
            stream.window_opened()

    def connection_lost(self, exc: Exception | None) -> None:
        error = self._error or ConnectionLost(f"the connection broke: {exc}" if exc else "the peer closed it")
        self._error = error
        self._machine.abort()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.fail(StreamReset(str(error)))
        for waiters in (self._drainers, self._identify_waiters):
            _wake(waiters)
        self._drainers = self._identify_waiters = None
        if self._established is not None and not self._established.done():
            self._established.set_exception(_why_not_established(error))
        if self._linger is not None:
            self._linger.cancel()
        self._host.connection_gone(self, error)

    def flush_soon(self) -> None:
        """Write once everybody who can run now has had a turn: an answer goes out whole, in one segment."""
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what the machine has, unless the socket is full."""
        self._flush_planned = False
        if self._transport is None or self._error is not None:
            return
        if self.write_paused:
            if self._machine.buffered_to_send > _STOP_READING and not self._reading_paused:
                self._reading_paused = True
                self._transport.pause_reading()
            return
        buffers = self._machine.data_to_send()
        if buffers:
            self._host.count_traffic(0, sum(map(len, buffers)))
            self._transport.writelines(buffers)

    def _handle(self, events: list[ConnectionEvent]) -> None:
        for event in events:
            if self.is_closed:
                return
            match event:
                case DataReceived(stream_id=stream_id, data=data):
                    stream = self.streams.get(stream_id)
                    if stream is None:
                        self._machine.consumed(stream_id, len(data), self._host.monotonic())
                    elif stream.negotiator is None:
                        stream.data_received(data)
                    else:
                        self._negotiate(stream, stream.negotiator, data)
                case WindowOpened(stream_id=stream_id):
                    if (stream := self.streams.get(stream_id)) is not None:
                        stream.window_opened()
                case StreamOpened(stream_id=stream_id):
                    stream = Stream(
                        self, stream_id, self._host.negotiator_for_inbound(), "", self._host.monotonic()
                    )
                    self.streams[stream_id] = stream
                    self._host.streams_changed(self)
                    self._host.stream_opening(stream)
                case StreamEnded(stream_id=stream_id):
                    if (stream := self.streams.get(stream_id)) is not None:
                        if stream.negotiator is not None:
                            self._negotiation_failed(stream, NegotiationFailed("the stream ended too early"))
                        else:
                            stream.ended()
                            self._forget_if_done(stream_id)
                case StreamResetEvent(stream_id=stream_id):
                    if (stream := self.streams.pop(stream_id, None)) is not None:
                        stream.fail(StreamReset("the peer reset the stream"))
                        self._host.streams_changed(self)
                case Established(peer_id=peer_id):
                    self._become_established(peer_id)
                case PongReceived():
                    self._host.pong(self)
                case _:  # GoneAway: the open streams go on, and then there is nothing left to wait for
                    self.is_leaving = True
                    self._close_if_left()

    def _become_established(self, peer_id: PeerId) -> None:
        self.peer_id = peer_id
        self._opened = True
        self._host.connection_established(self, peer_id)
        if not self.is_closed and self._established is not None and not self._established.done():
            self._established.set_result(None)

    def _negotiate(self, stream: Stream, negotiator: Negotiator, data: bytes) -> None:
        try:
            protocol = negotiator.receive_data(data)
        except NegotiationFailed as error:
            self._negotiation_failed(stream, error)
            return
        answer = negotiator.data_to_send()
        try:
            if answer and self._machine.send(stream.stream_id, answer) < len(answer):
                self._negotiation_failed(stream, NegotiationFailed("no room for the answer"))
                return
        except StreamClosed:
            return  # the peer has reset it in the same breath: the event of that is still to be handled
        leftover = negotiator.take_leftover() if protocol is not None else b""
        self._machine.consumed(stream.stream_id, len(data) - len(leftover), self._host.monotonic())
        if protocol is None:
            return
        inbound = not negotiator.is_initiator
        stream.negotiation_done(protocol)
        if leftover:
            stream.data_received(leftover)
        if inbound:
            self._host.stream_ready(stream)

    def _negotiation_failed(self, stream: Stream, error: NegotiationFailed) -> None:
        stream.fail(error)
        self._host.count_refusal("multistream", error.code)
        self.reset_stream(stream.stream_id)

    def _forget_if_done(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None and stream.closed:
            del self.streams[stream_id]
            self._host.streams_changed(self)
            self._close_if_left()

    def _close_if_left(self) -> None:
        if self.is_leaving and not self.streams:
            self.close("the peer is leaving")

    def _set_option(self, level: int, option: int, value: int | bytes) -> None:
        assert self._transport is not None
        try:
            self._transport.get_extra_info("socket").setsockopt(level, option, value)
        except OSError:
            pass  # macOS: the peer has reset the socket, which we shall hear of in a moment

    def _protocol_error(self, error: RemoteProtocolError) -> None:
        self._host.count_refusal("connection", error.code)
        self._end(error)

    def _end(self, error: WwsError) -> None:
        assert self._transport is not None
        buffers = self._machine.data_to_send()
        if buffers:
            self._transport.writelines(buffers)
        self._error = error
        self._machine.abort()
        self._transport.close()
        # A peer that does not read would keep our last words, and the slot, for ever.
        self._linger = asyncio.get_running_loop().call_later(_LINGER, self._transport.abort)


def _why_not_established(error: WwsError) -> WwsError:
    return error if isinstance(error, RemoteProtocolError) else HandshakeFailed(str(error))


async def _wait_among(waiters: list[asyncio.Future[None]]) -> None:
    """Wait to be woken with the others; who gives up leaves nothing behind."""
    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    finally:
        if not waiter.done() or waiter.cancelled():
            waiters.remove(waiter)


def _wake(waiters: list[asyncio.Future[None]] | None) -> None:
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(None)
