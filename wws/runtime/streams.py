"""One stream of a connection as a program uses it: read, write, half-close, reset, with back-pressure.

What was read is given back to the peer as flow-control credit only then, so a reader that is slow slows the
writer on the other side. What is written waits for the peer's window and for our own socket.

An outbound stream proposes its protocol together with the first bytes (multistream-select, lazy): the answer
is read when it comes. A write may therefore succeed for a protocol that the peer then turns down; the next
read says so. Our FIN waits for the answer: js loses one that arrives together with the proposal.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from wws.codec import varint
from wws.errors import ParseError, RemoteProtocolError, TooLarge, Truncated, WwsError
from wws.transport.multistream import Negotiator
from wws.transport.muxed import StreamClosed

if TYPE_CHECKING:
    from wws.runtime.connection import Connection

_CHUNK = 64 * 1024
_SMALL = 512
"""Bytes up to which pieces that wait for the reader are put together."""
_COUNTED = 1024
"""Bytes from which on a message counts that a program holds; smaller ones are paid for with the stream."""


_READS_IN_A_TURN = 32
"""Reads after which others get their turn: who never has to wait for a peer would keep the loop to itself."""


class StreamReset(WwsError):
    """The stream ended before it was done: the peer or the connection gave it up."""

    code = "stream_reset"


class Stream:
    """A bidirectional byte stream. One task may read and one may write at a time."""

    __slots__ = (
        "_buffer",
        "_eof",
        "_error",
        "_fin_sent",
        "_fin_wanted",
        "_held",
        "_is_inbound",
        "_negotiator",
        "_reader",
        "_reads",
        "_writer",
        "connection",
        "opened_at",
        "protocol",
        "stream_id",
    )

    def __init__(
        self, connection: Connection, stream_id: int, negotiator: Negotiator, protocol: str, now: float
    ) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.protocol = protocol
        """The protocol agreed on; empty on an inbound stream until it is."""
        self.opened_at = now
        self._negotiator: Negotiator | None = negotiator
        self._is_inbound = not negotiator.is_initiator
        self._held = 0
        self._buffer: deque[bytes] = deque()
        self._eof = False
        self._reads = 0
        self._error: WwsError | None = None
        self._fin_wanted = False
        self._fin_sent = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @property
    def negotiated(self) -> bool:
        return self._negotiator is None

    @property
    def closed(self) -> bool:
        """Whether the stream is gone for both sides."""
        return self._error is not None or (self._eof and self._fin_sent and not self._buffer)

    async def read(self, limit: int = _CHUNK) -> bytes:
        """At least one and at most `limit` bytes; empty at the end of the stream.

        Raises `StreamReset` when the stream was given up, `ProtocolNotSupported` when the peer turned the
        protocol down.
        A cancelled read loses nothing.
        """
        if self._held:
            self.let_go()
        return await self._read(limit)

    async def _read(self, limit: int) -> bytes:
        self._reads += 1
        if self._reads % _READS_IN_A_TURN == 0:
            await asyncio.sleep(0)
        while not self._buffer:
            if self._error is not None:
                raise _anew(self._error)
            if self._eof:
                return b""
            await self._wait_reader()
        data = self._buffer.popleft()
        if len(data) > limit:
            self._buffer.appendleft(data[limit:])
            data = data[:limit]
        self.connection.give_back(self.stream_id, len(data))
        return data

    async def read_exactly(self, length: int) -> bytes:
        """Exactly `length` bytes. Raises `Truncated` when the stream ends before."""
        self.let_go()
        parts: list[bytes] = []
        missing = length
        try:
            while missing:
                data = await self._read(missing)
                if not data:
                    raise Truncated(f"stream ended {missing} bytes early")
                parts.append(data)
                missing -= len(data)
                if length > _COUNTED:
                    self._hold(len(data))
        finally:
            self._message_read(whole=not missing)
        return b"".join(parts)

    async def read_to_end(self, limit: int) -> bytes:
        """Everything up to the peer's FIN. Raises `TooLarge` over `limit` bytes."""
        self.let_go()
        parts: list[bytes] = []
        size = 0
        is_whole = False
        try:
            while data := await self._read(_CHUNK):
                size += len(data)
                if size > limit:
                    raise TooLarge(f"peer sent more than {limit} bytes")
                parts.append(data)
                if size > _COUNTED:
                    self._hold(size - self._held)
            is_whole = True
        finally:
            self._message_read(whole=is_whole)
        return b"".join(parts)

    async def read_frame(self, limit: int) -> bytes | None:
        """One message behind its length as a varint; `None` at a clean end of the stream.

        Raises `TooLarge` over `limit` before reading it, `ParseError` for a malformed length, `Truncated`.
        """
        prefix = b""
        while True:
            byte = await self.read(1)
            if not byte:
                if prefix:
                    raise Truncated("stream ended inside a length")
                return None
            prefix += byte
            if byte[0] < 0x80:
                break
            if len(prefix) >= 5:
                raise ParseError("length of a message is too long")
        length, _ = varint.decode(prefix)
        if length > limit:
            raise TooLarge(f"message of {length} bytes, at most {limit} are accepted")
        return await self.read_exactly(length)

    async def pause(self, seconds: float) -> None:
        """Wait, but not for a stream that is given up meanwhile: raises `StreamReset` then, at once."""
        try:
            async with asyncio.timeout(seconds):
                while self._error is None:
                    await self._wait_reader()  # data wakes it too, and waits
        except TimeoutError:
            return
        raise _anew(self._error)

    async def agreed(self) -> None:
        """Wait until the peer has agreed to the protocol, where it matters that it has before we send.

        Raises `StreamReset`, `ProtocolNotSupported`.
        """
        while self._negotiator is not None:
            await self._wait_writer()
        if self._error is not None:
            raise _anew(self._error)

    async def write(self, data: bytes | memoryview) -> None:
        """Send all of `data`; returns when it is within the peer's window and our socket's buffer.

        Raises `StreamReset`, `StreamClosed`, `ProtocolNotSupported`. A cancelled write may have sent a part.
        """
        view = memoryview(data)
        connection = self.connection
        held = 0
        try:
            while view:
                self._check_writable()
                if self._negotiator is not None and not self._negotiator.may_send:
                    # Of several proposals nobody knows yet which one these bytes would reach.
                    await self._wait_writer()
                    continue
                accepted = connection.send(self.stream_id, view)
                view = view[accepted:]
                if view and not held and len(data) > _COUNTED:
                    held = len(data)  # all of it stays until its last byte has gone
                    connection.hold(held)
                if connection.write_paused:
                    await connection.drain()
                elif not accepted and not connection.machine.send_capacity(self.stream_id):
                    # The peer's window is full. Was it the send buffer, it has room again by now.
                    await self._wait_writer()
        finally:
            if held:
                connection.hold(-held)
        self._check_writable()

    async def write_frame(self, message: bytes) -> None:
        """Send one message behind its length as a varint."""
        await self.write(varint.frame(message))

    def close_write(self) -> None:
        """Say that we send no more; the peer may go on. Does nothing when already said."""
        if self._fin_wanted or self._error is not None:
            return
        self._fin_wanted = True
        if self._negotiator is None:
            self._send_fin()

    async def finish(self) -> None:
        """Close our side and read the peer's to its end, so that the slot is free when this returns."""
        self.close_write()
        try:
            while await self.read():
                pass
        except (StreamReset, RemoteProtocolError):
            return

    def let_go(self) -> None:
        """The message that was read last is done with. The next read says so, too; at the end whoever ran the
        handler of the stream does."""
        if self._held:
            self.connection.hold(-self._held)
            self._held = 0

    def reset(self) -> None:
        """Give the stream up, both ways and at once. Does nothing when it is over."""
        if self._error is None and not self.closed:
            self.fail(StreamReset("we gave the stream up"))
            self.connection.reset_stream(self.stream_id)

    # What the connection calls.

    def data_received(self, data: bytes) -> None:
        # Pieces of a byte or two would cost many times their size: a peer chooses how it cuts its frames.
        if self._buffer and len(self._buffer[-1]) + len(data) <= _SMALL:
            self._buffer[-1] += data
        else:
            self._buffer.append(data)
        self._wake_reader()

    def ended(self) -> None:
        self._eof = True
        self._wake_reader()

    def window_opened(self) -> None:
        self._wake_writer()

    def negotiation_done(self, protocol: str) -> None:
        self._negotiator = None
        self.connection.stream_decided(self)
        self.protocol = protocol
        self._wake_writer()
        if self._fin_wanted:
            self._send_fin()

    def fail(self, error: WwsError) -> None:
        """The stream is gone; whoever waits on it gets `error`."""
        if self._error is None:
            self._error = error
            self._buffer.clear()
            if self._negotiator is not None:
                self._negotiator = None
                self.connection.stream_decided(self)
        self._wake_reader()
        self._wake_writer()

    @property
    def negotiator(self) -> Negotiator | None:
        return self._negotiator

    def _hold(self, count: int) -> None:
        """Count bytes that were read, and granted to the peer once more, but are still kept."""
        self._held += count
        self.connection.hold(count)

    def _message_read(self, *, whole: bool) -> None:
        """A message that a peer sent of its own accord counts until it was answered: answers take turns."""
        if not (whole and self._is_inbound):
            self.let_go()

    def _send_fin(self) -> None:
        if not self._fin_sent:
            self._fin_sent = True
            self.connection.close_stream(self.stream_id)

    def _check_writable(self) -> None:
        if self._error is not None:
            raise _anew(self._error)
        if self._fin_wanted:
            raise StreamClosed("our side of the stream is already closed")

    async def _wait_reader(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    async def _wait_writer(self) -> None:
        self._writer = asyncio.get_running_loop().create_future()
        try:
            await self._writer
        finally:
            self._writer = None

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None or self._buffer or not (self._eof and self._fin_wanted):
            self.reset()


def _anew(error: WwsError) -> WwsError:
    """The same error, to be raised. A raised one keeps every frame that it went through, with all that these
    hold; were it the stream's own, that would be a circle, free only when the collector comes by."""
    fresh = type(error).__new__(type(error), *error.args)
    fresh.__dict__.update(error.__dict__)
    return fresh
