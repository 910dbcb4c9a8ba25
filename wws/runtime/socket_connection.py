"""A connection on an asyncio transport: Noise and yamux over a TCP socket, or over a circuit.

socket ──data_received──► machine        (reading pauses while the peer does not take our answers)
socket ◄──writelines───── machine        (paused socket → drain())
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.errors import RemoteProtocolError, WwsError
from wws.runtime.circuit import Circuit, CircuitLimitReached
from wws.runtime.connection import Connection, ConnectionHost, ConnectionLost
from wws.transport.muxed import ByteStreamConnection

_WRITE_HIGH = 512 * 1024
"""Bytes in the transport's buffer above which writers wait."""
_LINGER = 5.0
"""Seconds that a closing socket has to send what is written."""
_LITTLE = 1024
"""Bytes of one read that may be charged a moment later."""
_LONGEST_REST = 5.0
"""Seconds at most for which a connection is not read at once: a peer that is slowed is not to look dead."""
_FIRST_READS = 32 * 1024
"""Bytes of one read of a peer that we do not know yet: if its frames are tiny, all others wait meanwhile."""
_LARGEST_READS = 256 * 1024
"""Bytes of one read of a peer that sends much in decent frames."""
_STOP_READING = 256 * 1024
"""Bytes of our own answers that may wait behind a full socket before we read no further."""


class SocketConnection(Connection, asyncio.Protocol):
    """One connection over an ordered byte stream."""

    __slots__ = ("_bytes", "_linger", "_reading_paused", "_reads", "_rests", "_transport")

    def __init__(
        self,
        host: ConnectionHost,
        machine: ByteStreamConnection,
        connection_id: int,
        *,
        outbound: bool,
        circuit: Circuit | None = None,
    ) -> None:
        super().__init__(host, machine, connection_id, outbound=outbound, circuit=circuit)
        self._bytes = machine
        self._transport: asyncio.Transport | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._reading_paused = False
        self._rests: asyncio.TimerHandle | None = None
        self._reads = _FIRST_READS

    @property
    def machine(self) -> ByteStreamConnection:
        return self._bytes

    @property
    def transport(self) -> Transport:
        if self.circuit is not None:
            return self.circuit.address.transport or "tcp"
        return "tcp"

    @property
    def local_address(self) -> Multiaddr:
        if self.circuit is not None:
            return self.circuit.address.circuit()
        assert self._transport is not None
        name = self._transport.get_extra_info("sockname")
        return Multiaddr.of(name[0].partition("%")[0], name[1])

    @property
    def written(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def turn_away(self) -> None:
        """Reset the socket at once, without a byte."""
        self._set_option(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort(ConnectionLost("turned away"))

    def flush(self) -> None:
        self._flush_planned = False
        if self._transport is not None and self._error is None:
            self._write_out(self._transport)
            self._host.weigh(self)

    def _write_out(self, transport: asyncio.Transport) -> None:
        if self.write_paused:
            if self._bytes.buffered_to_send > _STOP_READING and not self._reading_paused:
                self._reading_paused = True
                transport.pause_reading()  # does nothing when we rest already
            return
        buffers = self._bytes.data_to_send()
        if buffers:
            if self.circuit is None:  # a circuit's bytes are counted by the connection to the relay
                self._host.count_traffic(0, sum(map(len, buffers)))
            transport.writelines(buffers)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._error is not None:  # given up while the socket was being opened
            self._transport.abort()
            return
        if self.circuit is None:
            name = transport.get_extra_info("peername")
            if not name:  # gone between accept and here
                self.abort(ConnectionLost("the peer left at once"))
                return
            self._seen_at(name[0].partition("%")[0], name[1])
        if not self._host.connection_made(self):
            return
        self._set_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self._read_at_most(_FIRST_READS)
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self._error is not None:
            return
        if self.circuit is None:
            self._host.count_traffic(len(data), 0)
        try:
            events = self._bytes.receive_data(data, self._host.monotonic())
        except RemoteProtocolError as error:
            self._protocol_error(error)
            return
        if events:
            self._handle(events)
        if len(data) > _LITTLE:  # now, not with the flush: before it every socket may have brought as much
            self._host.weigh(self)
        if (pause := self._bytes.pause(self._host.monotonic())) and self._rests is None:
            self._slow_down(pause)
        elif len(data) >= self._reads < _LARGEST_READS:
            self._read_at_most(2 * self._reads)
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
            self._read_on()
        self._writable()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        if self._rests is not None:
            self._rests.cancel()
        if isinstance(exc, CircuitLimitReached):
            self._lost(exc)
        else:
            self._lost(ConnectionLost(f"the connection broke: {exc}" if exc else "the peer closed it"))

    # Inside

    def _slow_down(self, pause: float) -> None:
        """Read no more for a while: others had to wait for this peer, now it waits for them."""
        if self._error is None and self._transport is not None and self._host.may_slow(self):
            self._transport.pause_reading()
            self._read_at_most(_FIRST_READS)
            self._rest(pause)

    def _read_at_most(self, size: int) -> None:
        self._reads = size
        transport = self._transport
        if transport is not None and hasattr(transport, "max_size"):  # asyncio's; circuits have none
            transport.max_size = size

    def _rest(self, pause: float) -> None:
        self._rests = asyncio.get_running_loop().call_later(min(pause, _LONGEST_REST), self._rested)

    def _rested(self) -> None:
        self._rests = None
        if self._error is not None:
            return
        if pause := self._bytes.pause(self._host.monotonic()):
            self._rest(pause)
        else:
            self._read_on()

    def _read_on(self) -> None:
        if self._rests is None and not self._reading_paused and self._transport is not None:
            self._transport.resume_reading()

    def _set_option(self, level: int, option: int, value: int | bytes) -> None:
        assert self._transport is not None
        sock = self._transport.get_extra_info("socket")
        if sock is None:  # a circuit
            return
        try:
            sock.setsockopt(level, option, value)
        except OSError:
            pass  # macOS: the peer has reset the socket, which we shall hear of in a moment

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self, error: WwsError) -> None:
        self._error = error
        buffers = self._bytes.data_to_send()
        self._bytes.abort()
        if self._transport is None:
            return
        if buffers:
            self._transport.writelines(buffers)
        self._transport.close()
        # A peer that does not read would keep our last words, and the slot, for ever.
        self._linger = asyncio.get_running_loop().call_later(_LINGER, self._transport.abort)
