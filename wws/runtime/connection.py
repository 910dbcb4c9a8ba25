"""A connection, whatever carries it: drives its machine, hands streams to the host, keeps who is there.

    carrier ──bytes──► machine ──events──► Stream.data_received … ──► whoever awaits Stream.read
    carrier ◄──flush── machine ◄──send──── Stream.write            (full carrier → drain())

The carriers: `SocketConnection` (Noise and yamux over a TCP socket or a circuit), `QuicConnection`. No task
belongs to a connection: an idle one is a few objects and an entry in the host's timer heap. Whatever ends it,
`_lost` comes exactly once, and only there its slots are given back.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.addresses.scope import Scope, scope_of_ip
from wws.errors import ParseError, RemoteProtocolError, WwsError
from wws.identity.peer_id import PeerId
from wws.mesh.identify import Identification
from wws.mesh.memory import Account
from wws.runtime.circuit import Circuit
from wws.runtime.streams import Stream, StreamReset
from wws.transport.multistream import NegotiationFailed, Negotiator
from wws.transport.muxed import (
    ConnectionEvent,
    DataReceived,
    Established,
    MuxedConnection,
    Phase,
    PongReceived,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    WindowOpened,
)
from wws.transport.muxed import StreamReset as StreamResetEvent

_WRITE_NOW = 64 * 1024
"""Bytes waiting in the machine that are not held back for more to come."""


class ConnectionLost(WwsError):
    """The connection to the peer ended."""

    code = "connection_lost"


class HandshakeFailed(WwsError):
    """The connection ended before the peer had proven who it is."""

    code = "handshake_failed"


class ConnectionHost(Protocol):
    """What a connection needs of the host that owns it."""

    def monotonic(self) -> float: ...
    def connection_made(self, connection: Connection, *, proven: bool = True) -> bool: ...
    def address_proven(self, connection: Connection) -> bool: ...
    def connection_established(self, connection: Connection, peer: PeerId) -> None: ...
    def connection_moved(self, connection: Connection) -> None: ...
    def connection_gone(self, connection: Connection, error: WwsError) -> None: ...
    def streams_changed(self, connection: Connection) -> None: ...
    def negotiator_for_inbound(self) -> Negotiator: ...
    def stream_opening(self, stream: Stream) -> None: ...
    def stream_decided(self, stream: Stream) -> None: ...
    def stream_ready(self, stream: Stream) -> None: ...
    def protocol_broken(self, connection: Connection, error: RemoteProtocolError) -> None: ...
    def count_refusal(self, protocol: str, reason: str) -> None: ...
    def count_traffic(self, received: int, sent: int) -> None: ...

    @property
    def weigh(self) -> Callable[[Connection], object]: ...

    def pong(self, connection: Connection) -> None: ...
    def may_slow(self, connection: Connection) -> bool: ...


class Connection(ABC):
    """One connection, from the open carrier to its end."""

    __slots__ = (
        "_beside",
        "_drainers",
        "_error",
        "_established",
        "_flush_planned",
        "_host",
        "_identify_waiters",
        "_machine",
        "_opened",
        "account",
        "circuit",
        "connection_id",
        "extra_weight",
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
        self,
        host: ConnectionHost,
        machine: MuxedConnection,
        connection_id: int,
        *,
        outbound: bool,
        circuit: Circuit | None = None,
    ) -> None:
        self.connection_id = connection_id
        self.outbound = outbound
        """Whether we dialled."""
        self.circuit = circuit
        """The way through a relay; `None` for a direct connection."""
        self.opened_at = host.monotonic()
        self.remote_ip = ""
        """The IP that the peer is seen at; empty for a circuit."""
        self.remote_port = 0
        self.scope: Scope | None = None
        """The scope of the peer's IP; `None` for one that nobody can be reached at, and for a circuit."""
        self.streams: dict[int, Stream] = {}
        self.identification: Identification | None = None
        """What the peer said of itself; `None` until then."""
        self.identify_done = False
        """Whether identify has ended, one way or the other."""
        self.write_paused = False
        self.is_leaving = False
        """Whether the peer takes no new streams: a new connection is wanted for those."""
        self.account: Account | None = None
        """What the host charges for this; its own."""
        self.extra_weight = 0
        """Bytes that this takes beside any other connection, by its kind."""
        self._beside = 0
        self._host = host
        self._machine = machine
        self._established: asyncio.Future[None] | None = None
        self._identify_waiters: list[asyncio.Future[None]] | None = None
        self._drainers: list[asyncio.Future[None]] | None = None
        self._error: WwsError | None = None
        self._flush_planned = False
        self._opened = False

    # What a carrier is

    @property
    @abstractmethod
    def transport(self) -> Transport:
        """What carries the connection; for a circuit: what carries the first part of its way."""

    @property
    @abstractmethod
    def local_address(self) -> Multiaddr:
        """The address of our end."""

    @property
    @abstractmethod
    def written(self) -> int:
        """Bytes that the machine has given out and the kernel has not taken yet."""

    @abstractmethod
    def flush(self) -> None:
        """Write what the machine has, unless the carrier is full."""

    @abstractmethod
    def turn_away(self) -> None:
        """End the connection at once, without a byte if possible: the answer to whoever is over a limit."""

    @abstractmethod
    def _end(self, error: WwsError) -> None:
        """Note the error, send what is written, then close the carrier: `_lost` follows."""

    @abstractmethod
    def _cut(self) -> None:
        """Close the carrier at once: `_lost` follows."""

    @property
    def machine(self) -> MuxedConnection:
        return self._machine

    @property
    def is_limited(self) -> bool:
        """Whether this goes through a relay, which bounds how long and how much."""
        return self.circuit is not None

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
        if self.circuit is not None:
            address = self.circuit.address.circuit()
        else:
            address = Multiaddr.of(self.remote_ip, self.remote_port, self.transport)
        return address.with_peer(self.peer_id) if self._opened else address

    @property
    def waiting(self) -> int:
        """Bytes held for this connection, in both directions."""
        return self._machine.unread + self.buffered

    @property
    def buffered(self) -> int:
        """Bytes written to us that the kernel has not taken yet. Bounded: writers wait above a mark."""
        return self._machine.buffered_to_send + self.written

    @property
    def kept(self) -> int:
        """Bytes kept for this connection: what waits, what cannot be read yet, messages in the hands of
        handlers and of writers, and what the peer has said of itself."""
        return self._machine.kept + self.written + self._beside

    def hold(self, count: int) -> None:
        """Count bytes that are kept for this connection elsewhere; negative when they are not any more."""
        self._beside += count
        self._host.weigh(self)

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
        """Wait until the carrier takes more."""
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
        before, self.identification = self.identification, identification
        self.identify_done = True
        _wake(self._identify_waiters)
        self._identify_waiters = None
        self.hold(
            (0 if identification is None else identification.cost) - (0 if before is None else before.cost)
        )

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
        """Close in good order: tell the peer, send what is written, then close the carrier."""
        if self._error is None:
            if self._machine.phase is Phase.ESTABLISHED:
                self._machine.go_away(0)
            self._end(ConnectionLost(reason))

    def abort(self, error: WwsError) -> None:
        """Close the carrier at once."""
        if self._error is None:
            self._error = error
            self._machine.abort()
            self._cut()

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

    # What the carrier calls

    def _seen_at(self, ip: str, port: int) -> None:
        """The carrier knows where the peer is, or that it has moved."""
        moved = self._opened and (ip, port) != (self.remote_ip, self.remote_port)
        self.remote_ip, self.remote_port = ip, port
        try:
            self.scope = scope_of_ip(ip)
        except ParseError:
            self.scope = None
        if moved:
            self._host.connection_moved(self)

    def _writable(self) -> None:
        """The carrier takes more again."""
        _wake(self._drainers)
        self._drainers = None
        for stream in list(self.streams.values()):
            stream.window_opened()

    def _lost(self, error: WwsError) -> None:
        """The carrier is gone. Called exactly once."""
        error = self._error or error
        self._error = error
        self._machine.abort()
        streams, self.streams = self.streams, {}
        kind = type(error) if isinstance(error, StreamReset) else StreamReset
        for stream in streams.values():
            stream.fail(kind(str(error)))
        for waiters in (self._drainers, self._identify_waiters):
            _wake(waiters)
        self._drainers = self._identify_waiters = None
        if self._established is not None and not self._established.done():
            self._established.set_exception(_why_not_established(error))
        self._host.connection_gone(self, error)

    def flush_soon(self) -> None:
        """Write once everybody who can run now has had a turn: an answer goes out whole, in one segment."""
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self.flush)

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

    def _protocol_error(self, error: RemoteProtocolError) -> None:
        self._host.protocol_broken(self, error)
        if self._error is None:  # else the host has closed it in good order: the peer is banned
            self._end(error)


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
