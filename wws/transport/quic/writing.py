"""Packets of an established connection, written with less ado than aioquic's own way.

aioquic looks at everything that a packet could carry, and at all streams, for each packet. Most of the time
there is only stream data to send, or an acknowledgement: then what is to be done is found out once for all
packets of a burst. Everything rarer is left to aioquic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aioquic import tls
from aioquic.buffer import size_uint_var
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicNetworkPath

    from wws.transport.quic.engine import Engine

_WITH_LENGTH: Final = int(QuicFrameType.STREAM_BASE) | 2
_WITH_OFFSET: Final = 4
_WITH_END: Final = 1


def is_plain(connection: Engine, path: QuicNetworkPath) -> bool:
    """Whether there is nothing to send but acknowledgements, windows, pings and streams."""
    return (
        connection._handshake_confirmed
        and path.is_validated
        and not path.remote_challenges
        and not connection._handshake_done_pending
        and not connection._retire_connection_ids
        and not connection._streams_blocked_pending
        and not connection._datagrams_pending
        and connection._crypto_streams[tls.Epoch.ONE_RTT].sender.buffer_is_empty
        and all(connection_id.was_sent for connection_id in connection._host_cids)
    )


def write_plain(connection: Engine, builder: QuicPacketBuilder, now: float) -> None:
    """Fill packets until there is nothing more to send, or no more may be: then `QuicPacketBuilderStop`, or
    the pacer's word, ends it."""
    keys = connection._cryptos[tls.Epoch.ONE_RTT]
    space = connection._spaces[tls.Epoch.ONE_RTT]
    pacer = connection.pacer
    waiting = _streams_with_work(connection)
    is_first = True
    while True:
        ack_at = space.ack_at
        if ack_at is None or ack_at >= now:
            connection._pacing_at = pacer.next_send_time(now)
            if connection._pacing_at is not None:
                return
        builder.start_packet(QuicPacketType.ONE_RTT, keys)
        if ack_at is not None and ack_at <= now:
            connection._write_ack_frame(builder, space, now)
        if is_first:
            _write_what_is_rare(connection, builder, space)
            is_first = False
        if waiting:
            waiting = _fill_packet(connection, builder, waiting)
        if builder.packet_is_empty:
            return
        pacer.update_after_send(now)


def _write_what_is_rare(connection: Engine, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
    connection._write_connection_limits(builder, space)
    windows = connection.raised_windows
    while windows:
        stream_id = next(iter(windows))
        connection._write_stream_limits(builder, space, windows[stream_id])
        del windows[stream_id]
    if connection._ping_pending:
        connection._write_ping_frame(builder, connection._ping_pending)
        connection._ping_pending.clear()
    if connection._probe_pending:
        connection._write_ping_frame(builder, comment="probe")
        connection._probe_pending = False


def _fill_packet(
    connection: Engine, builder: QuicPacketBuilder, waiting: list[QuicStream]
) -> list[QuicStream]:
    """Let streams write in turn until the packet is full; those that have more, whose turn it is first."""
    served: list[QuicStream] = []
    for index, stream in enumerate(waiting):
        sender = stream.sender
        if stream.receiver.stop_pending:
            connection._write_stop_sending_frame(builder, stream)
        if sender.reset_pending:
            connection._write_reset_stream_frame(builder, stream)
        elif not stream.is_blocked and not sender.buffer_is_empty:
            overhead = _overhead(stream)
            if builder.remaining_flight_space <= overhead:
                return waiting[index:] + served
            if _write_data(connection, builder, stream, overhead):
                served.append(stream)
    return served


def _streams_with_work(connection: Engine) -> list[QuicStream]:
    """Those that have something to send, in turn; those that are done with are discarded."""
    work: list[QuicStream] = []
    done: list[QuicStream] = []
    for stream in connection._streams_queue:
        sender = stream.sender
        if sender.is_finished and stream.receiver.is_finished:
            done.append(stream)
        elif not sender.buffer_is_empty or sender.reset_pending or stream.receiver.stop_pending:
            work.append(stream)
    if done:
        for stream in done:
            assert stream.stream_id is not None
            connection._streams.pop(stream.stream_id)
        gone = set(done)
        connection._streams_queue = [stream for stream in connection._streams_queue if stream not in gone]
    if len(work) > 1:
        # Whoever was first goes last the next time.
        connection._streams_queue.remove(work[0])
        connection._streams_queue.append(work[0])
    return work


def _overhead(stream: QuicStream) -> int:
    """Bytes of a STREAM frame besides its data (RFC 9000, section 19.8)."""
    assert stream.stream_id is not None
    offset = stream.sender.next_offset
    size: int = 3 + size_uint_var(stream.stream_id) + (size_uint_var(offset) if offset else 0)
    return size


def _write_data(connection: Engine, builder: QuicPacketBuilder, stream: QuicStream, overhead: int) -> bool:
    """A STREAM frame with what fits. `False`: there is nothing to send, or no window for it."""
    sender = stream.sender
    highest = sender.highest_offset
    allowed = min(
        highest + connection._remote_max_data - connection._remote_max_data_used,
        stream.max_stream_data_remote,
    )
    frame = sender.get_frame(builder.remaining_flight_space - overhead, allowed)
    if frame is None:
        return False
    length = len(frame.data)
    buffer = builder.start_frame(
        _WITH_LENGTH | (_WITH_OFFSET if frame.offset else 0) | (_WITH_END if frame.fin else 0),
        capacity=overhead,
        handler=sender.on_data_delivery,
        handler_args=(frame.offset, frame.offset + length, frame.fin),
    )
    assert stream.stream_id is not None
    buffer.push_uint_var(stream.stream_id)
    if frame.offset:
        buffer.push_uint_var(frame.offset)
    buffer.push_uint16(length | 0x4000)
    buffer.push_bytes(frame.data)
    connection._remote_max_data_used += sender.highest_offset - highest
    return True
