"""A circuit as a transport: what a `SocketConnection` writes goes over a stream of the connection to a relay.

    SocketConnection ──write──► buffer ──► writer task ──► Stream ─► relay
    SocketConnection ◄──data_received── reader (`run`) ◄── Stream ◄─ relay

It behaves as asyncio's own transports do: a bounded buffer with `pause_writing` and `resume_writing`, `close`
that first sends what is written, `abort` that does not, and `connection_lost` exactly once, whichever end of
the circuit, the relay or the host brings it about. Two tasks belong to a circuit, both waiting unless there
is something to carry, and both gone when it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeAlias

from wws.errors import WwsError
from wws.runtime.circuit import Circuit, CircuitLimitReached
from wws.runtime.streams import Stream, StreamReset

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]

_CHUNK = 64 * 1024
"""Bytes written to the stream at a time: the buffer shrinks, and writers wake, in steps of this size."""
_HIGH = 64 * 1024
_LINGER = 5.0
"""Seconds that the other end has to take what is written and to close its side, once we have closed ours."""
_LATE = 1.0
"""Seconds before its end from which on we take the end of a circuit for that of its time."""


class CircuitTransport(asyncio.Transport):
    """One end of a circuit, from the moment when its handshake with the relay is done.

    `start`, then `run` until it returns.
    """

    def __init__(
        self,
        stream: Stream,
        protocol: asyncio.Protocol,
        circuit: Circuit,
        *,
        spawn: Spawn,
        clock: Callable[[], float],
        on_use: Callable[[], None] | None = None,
    ) -> None:
        """:param on_use: called whenever bytes have gone either way."""
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._circuit = circuit
        self._spawn = spawn
        self._clock = clock
        self._on_use = on_use
        self._loop = asyncio.get_running_loop()
        self._pending: deque[memoryview] = deque()
        self._size = 0
        self._high, self._low = _HIGH, _HIGH // 4
        self._writing_paused = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._to_write = asyncio.Event()
        self._eof_wanted = False
        self._closing = False
        self._lost = False
        self._linger: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[None] | None = None

    # Life

    def start(self) -> None:
        """Hand the transport to its protocol."""
        self._protocol.connection_made(self)
        if not self._lost:
            self._writer = self._spawn(self._write_out(), "circuit writer")
            self._writer.add_done_callback(self._writer_done)

    async def run(self) -> None:
        """Carry what comes to the protocol; returns when the circuit is over both ways, or was aborted."""
        try:
            await self._read_in()
            if self._writer is not None:
                await asyncio.wait([self._writer])
        except WwsError as error:
            self._broken(error)
        finally:
            if not self._lost:  # cancelled, or the protocol has a bug
                self._broken(StreamReset("the circuit was given up"))
            if self._linger is not None:
                self._linger.cancel()
            self._stream.reset()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Send what is written, then end our side; what still comes is dropped."""
        if self._closing:
            return
        self._closing = True
        self._linger = self._loop.call_later(_LINGER, self._stream.reset)
        self._to_write.set()
        self._may_read.set()

    def abort(self) -> None:
        """End the circuit at once; what is not sent yet is dropped."""
        self._lose(None)
        self._stream.reset()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - as in asyncio
        """`peername` and `sockname` are those of the connection to the relay; there is no `socket`."""
        connection = self._stream.connection
        if name == "peername":
            return connection.remote_ip, connection.remote_port
        if name == "sockname":
            local = connection.local_address
            return local.host, local.port
        return default

    # Reading

    def is_reading(self) -> bool:
        return self._may_read.is_set() and not self._closing

    def pause_reading(self) -> None:
        if not self._closing:
            self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    async def _read_in(self) -> None:
        while True:
            await self._may_read.wait()
            data = await self._stream.read()
            if not data:
                break
            self._circuit.use.received += len(data)
            self._used()
            if not self._may_read.is_set():  # it was paused meanwhile
                await self._hold(len(data))
            if not self._closing:
                self._protocol.data_received(data)
        if self._closing:
            return
        if (limit := self._limit_reached(0)) is not None:  # go ends a circuit in this way, others reset it
            self._lose(limit)
            self._stream.reset()
        elif not self._protocol.eof_received():
            self.close()

    async def _hold(self, count: int) -> None:
        """Wait with that much in hand until it is wanted."""
        carrier = self._stream.connection
        carrier.hold(count)
        try:
            await self._may_read.wait()
        finally:
            carrier.hold(-count)

    # Writing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not 0 <= low <= high:
            raise ValueError(f"low ({low}) must be between 0 and high ({high})")
        self._high, self._low = high, low
        self._pause_or_resume()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._eof_wanted:
            raise RuntimeError("write after write_eof")
        if self._closing:
            return
        for data in list_of_data:
            if len(data):
                self._pending.append(memoryview(data))
                self._size += len(data)
        self._to_write.set()
        self._pause_or_resume()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Half-close: send what is written and say that no more will come; reading goes on."""
        self._eof_wanted = True
        self._to_write.set()

    async def _write_out(self) -> None:
        try:
            while not self._lost:
                if self._pending:
                    await self._write_some()
                elif self._closing:
                    self._stream.close_write()
                    return
                else:
                    if self._eof_wanted:
                        self._stream.close_write()
                    self._to_write.clear()
                    await self._to_write.wait()
        except WwsError as error:
            self._broken(error)
            self._stream.reset()

    async def _write_some(self) -> None:
        piece = self._pending[0][:_CHUNK]
        await self._stream.write(piece)
        if self._lost:
            return
        if len(piece) < len(self._pending[0]):
            self._pending[0] = self._pending[0][len(piece) :]
        else:
            self._pending.popleft()
        self._size -= len(piece)
        self._circuit.use.sent += len(piece)
        self._used()
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        if not self._writing_paused and self._size > self._high:
            self._writing_paused = True
            self._protocol.pause_writing()
        elif self._writing_paused and self._size <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _writer_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._broken(StreamReset("the circuit was given up"))
            self._stream.reset()
        else:
            self._lose(None)

    # The end

    def _used(self) -> None:
        if self._on_use is not None:
            self._on_use()

    def _broken(self, error: WwsError) -> None:
        """The stream is gone: by the peer's wish, the relay's, or with the connection to the relay."""
        if self._closing:
            self._lose(None)
        elif self._stream.connection.is_closed:
            self._lose(error)
        else:
            # What is under way when the relay cuts it is lost, so neither end has seen all of the bytes.
            self._lose(self._limit_reached((self._circuit.limit_bytes or 0) // 4) or error)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._pending.clear()
        self._size = 0
        self._to_write.set()
        self._may_read.set()
        self._loop.call_soon(self._protocol.connection_lost, error)

    def _limit_reached(self, lost: int) -> CircuitLimitReached | None:
        """The limit that the end of the circuit is to be blamed on, if it is one; `lost` bytes may not have
        been seen here."""
        circuit = self._circuit
        left = circuit.bytes_left
        if left is not None and left <= lost:
            return CircuitLimitReached(
                f"the relay carries {circuit.limit_bytes} bytes on one circuit each way"
            )
        seconds = circuit.seconds_left(self._clock())
        if seconds is not None and seconds < _LATE:
            return CircuitLimitReached(f"the relay carries one circuit for {circuit.limit_seconds:g} s")
        return None
