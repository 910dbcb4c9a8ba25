"""The streams of a QUIC connection: slots, windows and buffers around those of aioquic.

What arrives counts against two windows, the stream's and the connection's, and moves them once it was
consumed. What is sent waits in a buffer of aioquic until it is acknowledged; how much may wait is bounded for
a stream and for the connection. A stream keeps its slot until it has ended both ways and was read to its end.
"""

from __future__ import annotations

from typing import Final

from aioquic.quic.events import StreamDataReceived
from aioquic.quic.stream import QuicStream

from wws.transport.muxed import (
    ConnectionEvent,
    DataReceived,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamRefused,
    StreamReset,
    WindowOpened,
)
from wws.transport.quic.config import QuicConfig
from wws.transport.quic.engine import Engine

_RESET: Final = 0
"""The application error code of streams that are given up: libp2p gives codes no meaning."""


class _Stream:
    """What we know of a stream beyond what aioquic does."""

    __slots__ = (
        "credited",
        "discarded",
        "dropped",
        "ended",
        "finished",
        "is_reset",
        "quic",
        "stopped",
        "unread",
    )

    def __init__(self, stream: QuicStream) -> None:
        self.quic = stream
        self.unread = 0
        """Bytes given to the application that it has not consumed."""
        self.credited = 0
        """Bytes of the stream that have moved the connection's window."""
        self.ended = False
        """The peer has said that it sends no more."""
        self.finished = False
        """We have."""
        self.is_reset = False
        """We have given it up: what still arrives is dropped."""
        self.stopped = stream.sender._reset_error_code is not None
        """The peer does not read any more. It may have said so before its first byte."""
        self.dropped = 0
        """Bytes that were written all the same."""
        self.discarded = False
        """aioquic has forgotten it: everything is acknowledged."""


class StreamTable:
    """All streams of one connection."""

    __slots__ = (
        "_blocked",
        "_buffered",
        "_config",
        "_credit",
        "_engine",
        "_inbound",
        "_is_initiator",
        "_sending",
        "_streams",
        "unread",
    )

    def __init__(self, config: QuicConfig, *, is_initiator: bool) -> None:
        self._config = config
        self._is_initiator = is_initiator
        self._streams: dict[int, _Stream] = {}
        self._inbound = 0
        self._sending: dict[int, QuicStream] = {}
        self._buffered = 0
        self._blocked: set[int] = set()
        self._credit = config.connection_window
        self.unread = 0
        """Bytes given to the application that it has not consumed."""

    def attach(self, engine: Engine) -> None:
        """Name the engine, which in turn needs `discarded` when it is made."""
        self._engine = engine

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def buffered(self) -> int:
        """Bytes that were written and are not acknowledged."""
        done = []
        total = 0
        for stream_id, stream in self._sending.items():
            sender = stream.sender
            if sender.is_finished or sender._reset_error_code is not None:
                done.append(stream_id)
            elif sender._buffer:
                total += len(sender._buffer)
            elif sender.buffer_is_empty and sender._buffer_fin is None:
                done.append(stream_id)
        for stream_id in done:
            del self._sending[stream_id]
        self._buffered = total
        return total

    @property
    def all_acknowledged(self) -> bool:
        """Whether the peer has every byte and every end of a stream."""
        return not self.buffered and not self._sending

    def clear(self) -> None:
        self._streams.clear()
        self._sending.clear()
        self._blocked.clear()
        self.unread = 0

    # What the application does

    def open(self) -> int:
        outbound = len(self._streams) - self._inbound
        if outbound >= self._config.max_outbound_streams or not self._engine.peer_allows_stream:
            raise StreamRefused(f"{outbound} streams of ours are open")
        stream = self._engine.create_stream()
        assert stream.stream_id is not None
        self._streams[stream.stream_id] = _Stream(stream)
        return stream.stream_id

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        stream = self._to_write(stream_id)
        size = len(data)
        if stream.stopped:
            if stream.dropped >= self._config.discarded_after_stop:
                raise StreamClosed(f"the peer does not read stream {stream_id} any more")
            stream.dropped += size
            return size
        room = self._room(stream, size)
        if room < size:
            self._blocked.add(stream_id)
            size = room
        if size:
            stream.quic.sender.write(bytes(data[:size]))
            self._sending[stream_id] = stream.quic
            self._buffered += size
        return size

    def capacity(self, stream_id: int) -> int:
        stream = self._streams.get(stream_id)
        if stream is None or stream.finished:
            return 0
        if stream.stopped:
            return max(0, self._config.discarded_after_stop - stream.dropped)
        return self._room(stream, self._config.stream_buffer)

    def finish(self, stream_id: int) -> None:
        stream = self._to_write(stream_id)
        stream.finished = True
        self._blocked.discard(stream_id)
        if not stream.stopped:
            stream.quic.sender.write(b"", end_stream=True)
            self._sending[stream_id] = stream.quic
        self._release_if_done(stream_id, stream)

    def reset(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_reset:
            return
        stream.is_reset = True
        stream.finished = True
        self._blocked.discard(stream_id)
        self._give_credit(stream, stream.unread)
        self.unread -= stream.unread
        stream.unread = 0
        stream.quic.sender.reset(_RESET)
        if not stream.quic.receiver.is_finished:
            stream.quic.receiver.stop(_RESET)
        self._release_if_done(stream_id, stream)

    def consumed(self, stream_id: int, count: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        count = min(count, stream.unread)
        stream.unread -= count
        self.unread -= count
        self._give_credit(stream, count)
        window = self._config.stream_window
        allowed = stream.credited + window
        if allowed - stream.quic.max_stream_data_local >= window // 4:
            self._engine.allow_stream_data(stream.quic, allowed)
        self._release_if_done(stream_id, stream)

    # What the peer does

    def data_received(self, event: StreamDataReceived, out: list[ConnectionEvent]) -> None:
        stream_id = event.stream_id
        stream = self._streams.get(stream_id)
        if stream is None:
            quic_stream = self._engine.stream(stream_id)
            if quic_stream is None or not self._is_inbound(stream_id):
                return
            stream = self._streams[stream_id] = _Stream(quic_stream)
            self._inbound += 1
            out.append(StreamOpened(stream_id))
        size = len(event.data)
        stream.ended = stream.ended or event.end_stream
        if stream.is_reset:
            self._give_credit(stream, size)
            self._release_if_done(stream_id, stream)
            return
        if size:
            stream.unread += size
            self.unread += size
            out.append(DataReceived(stream_id, event.data))
        if event.end_stream:
            out.append(StreamEnded(stream_id))
            self._release_if_done(stream_id, stream)

    def peer_reset(self, stream_id: int, out: list[ConnectionEvent]) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            # It had said nothing on it: nobody here knows of the stream, and nobody needs to.
            quic_stream = self._engine.stream(stream_id)
            if quic_stream is not None and self._is_inbound(stream_id):
                quic_stream.sender.reset(_RESET)
            return
        stream.ended = True
        if stream.is_reset:
            self._release_if_done(stream_id, stream)
        else:
            self.reset(stream_id)
            out.append(StreamReset(stream_id))

    def peer_stopped(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.stopped = True
            self._blocked.add(stream_id)  # a writer that waits is to try again

    def discarded(self, stream_id: int) -> None:
        """aioquic has dropped a stream. The peer gets its slot back when we are done with it as well."""
        stream = self._streams.get(stream_id)
        if stream is None:
            if self._is_inbound(stream_id):
                self._engine.allow_streams(1)
            return
        stream.discarded = True
        self._release_if_done(stream_id, stream)

    def open_windows(self, out: list[ConnectionEvent]) -> None:
        """Say which of the streams that had to wait take more again."""
        least = self._config.stream_buffer // 4
        for stream_id in [*self._blocked]:
            stream = self._streams.get(stream_id)
            if stream is None:
                self._blocked.discard(stream_id)
            elif stream.stopped or self._room(stream, least) >= least:
                self._blocked.discard(stream_id)
                out.append(WindowOpened(stream_id))

    # Inside

    def _to_write(self, stream_id: int) -> _Stream:
        stream = self._streams.get(stream_id)
        if stream is None or stream.finished:
            raise StreamClosed(f"stream {stream_id} takes no more data")
        return stream

    def _room(self, stream: _Stream, wanted: int) -> int:
        """How many of `wanted` bytes the buffers take. `_buffered` is counted up as data comes in and made
        right only when it seems too much: acknowledgements are many."""
        if self._buffered + wanted > self._config.connection_buffer:
            self._buffered = self.buffered
        room = min(
            self._config.stream_buffer - len(stream.quic.sender._buffer),
            self._config.connection_buffer - self._buffered,
        )
        return max(0, min(room, wanted))

    def _give_credit(self, stream: _Stream, count: int) -> None:
        stream.credited += count
        self._credit += count
        self._engine.allow_data(self._credit)

    def _release_if_done(self, stream_id: int, stream: _Stream) -> None:
        """Forget a stream that has ended both ways and was read to its end."""
        if stream.is_reset:
            done = stream.discarded or stream.ended  # what arrives until then must not look like a new one
        else:
            done = stream.finished and stream.ended and not stream.unread
        if not done or self._streams.pop(stream_id, None) is None:
            return
        missing = stream.quic.receiver.highest_offset - stream.credited
        if missing > 0:  # what was announced by a reset and never sent
            self._give_credit(stream, missing)
        if self._is_inbound(stream_id):
            self._inbound -= 1
            if stream.discarded:
                self._engine.allow_streams(1)

    def _is_inbound(self, stream_id: int) -> bool:
        return (stream_id & 1 == 0) != self._is_initiator
