"""aioquic's connection with what libp2p needs of it.

What is changed, and why:

- the server asks for a client certificate (libp2p TLS), for which aioquic has only a private switch;
- windows are raised as the application consumes. aioquic doubles them as data arrives, which bounds nothing;
- the peer gets a slot for a new stream when our side is done with an old one, not when its frames were seen;
- fewer connection ids are kept ready, and what only the handshake needs is dropped after it.

Every private name that this needs of aioquic is listed in `wws.transport.quic.private_names`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined] # public, by their documentation
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    END_STATES,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from wws.transport.quic.config import QuicConfig
from wws.transport.quic.frugality import free_handshake, share_handlers
from wws.transport.quic.pacing import BurstPacer
from wws.transport.quic.path_mtu import PathMtu
from wws.transport.quic.ranges import Ranges
from wws.transport.quic.writing import is_plain, write_plain
from wws.transport.tls import ALPN, Certificate, PrivateKey

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""The address of a UDP socket, as the operating system names it."""

VERSION: Final = int(QuicProtocolVersion.VERSION_1)
CONNECTION_ID_LENGTH: Final = 8

_LAST_WORD: Final = 200
"""Bytes of a CONNECTION_CLOSE at most, in all the packet kinds of a handshake."""
_LONGEST_REASON: Final = 120
"""Characters of a peer's reason for closing that are repeated to people."""
_PACKETS_OF_A_KEY: Final = 1 << 22
"""Packets after which new keys are taken; AES-GCM allows twice as many (RFC 9001, section 6.6)."""
_VERIFY_NOTHING: Final = 0
"""`ssl.CERT_NONE`: a certificate without a chain cannot be judged by aioquic; we judge it ourselves."""

# A peer decides what aioquic finds worth a warning: it must not write our log.
logging.getLogger("quic").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True, eq=False)
class Credentials:
    """What this node shows to its peers in a handshake."""

    certificate: Certificate
    key: PrivateKey


@lru_cache(maxsize=16)
def _shared_configuration(credentials: Credentials, config: QuicConfig, is_client: bool) -> QuicConfiguration:
    """One for all connections that are alike."""
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        certificate=credentials.certificate,
        cipher_suites=[
            tls.CipherSuite.AES_128_GCM_SHA256,
            tls.CipherSuite.CHACHA20_POLY1305_SHA256,
            tls.CipherSuite.AES_256_GCM_SHA384,
        ],
        connection_id_length=CONNECTION_ID_LENGTH,
        idle_timeout=config.idle_timeout,
        is_client=is_client,
        max_data=config.connection_window,
        max_datagram_size=config.datagram_size,
        max_stream_data=config.stream_window,
        private_key=credentials.key,
        supported_versions=[VERSION],
        verify_mode=_VERIFY_NOTHING,
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection is over."""

    code: int
    reason: str
    by_peer: bool
    was_idle: bool = False


class _Streams(dict[int, QuicStream]):
    """aioquic's table of streams. Gives new ones better sets of ranges, and tells when one is discarded, its
    both sides ended and all acknowledged."""

    __slots__ = ("_discarded", "_most_pieces")

    def __init__(self, discarded: Callable[[int], None], most_pieces: int) -> None:
        super().__init__()
        self._discarded = discarded
        self._most_pieces = most_pieces

    def __setitem__(self, stream_id: int, stream: QuicStream) -> None:
        stream.receiver._ranges = Ranges(self._most_pieces)
        stream.sender._acked = Ranges(self._most_pieces)
        stream.sender._pending = Ranges(self._most_pieces)
        super().__setitem__(stream_id, stream)

    def pop(self, stream_id: int) -> QuicStream:  # type: ignore[override] # aioquic calls it in this form
        stream = super().pop(stream_id)
        self._discarded(stream_id)
        return stream


class Engine(QuicConnection):
    """One connection of aioquic, with flow control that follows the application."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        config: QuicConfig,
        is_client: bool,
        stream_discarded: Callable[[int], None],
        token_of: Callable[[bytes], bytes],
        original_id: bytes | None = None,
        retry_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=_shared_configuration(credentials, config, is_client),
            original_destination_connection_id=original_id,
            retry_source_connection_id=retry_id,
        )
        share_handlers(self)
        self.frames_left = self._most_frames = config.max_frames
        """Frames that the datagram which is being read may still have."""
        self._local_active_connection_id_limit = config.active_connection_ids
        self._local_max_stream_data_uni = 0
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = 0
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = config.max_inbound_streams
        self.pacer = BurstPacer(max_datagram_size=config.datagram_size)
        self._loss._pacer = self.pacer
        self._keys_until = _PACKETS_OF_A_KEY
        self._path_mtu = PathMtu(config.datagram_size, config.largest_datagram)
        self._token_of = token_of
        if not is_client:  # a client has no way to say its first one
            self._host_cids[0].stateless_reset_token = token_of(self.host_cid)
        self.issued = [self.host_cid]
        """Connection ids that were given out since somebody looked."""
        self.raised_windows: dict[int, QuicStream] = {}
        """Streams whose peer is to hear that it may send more."""
        self._streams = _Streams(stream_discarded, config.max_pieces)
        self._streams_allowed = config.max_inbound_streams
        self._most_crypto = config.max_handshake_message
        self._data_step = config.connection_window // 4

    # What the machine asks

    @property
    def ending(self) -> Ending | None:
        """Why the connection is over or about to be; `None` while it goes on."""
        event = self._close_event
        if event is None:
            return None
        return Ending(
            event.error_code,
            "".join(filter(str.isprintable, event.reason_phrase[:_LONGEST_REASON])),
            by_peer=self._state is QuicConnectionState.DRAINING,
            was_idle=self._state is QuicConnectionState.TERMINATED and event.reason_phrase == "Idle timeout",
        )

    @property
    def is_confirmed(self) -> bool:
        """Whether both sides know that the handshake is complete."""
        return self._handshake_confirmed

    @property
    def peer_certificate(self) -> Certificate | None:
        """The certificate of the peer; `None` when it sent none."""
        return self.tls._peer_certificate

    @property
    def has_chain(self) -> bool:
        """Whether the peer sent more than one certificate."""
        return bool(self.tls._peer_certificate_chain)

    @property
    def unfinished_message(self) -> int:
        """Bytes that are kept of a TLS message whose end has not come."""
        return len(self.tls._receive_buffer)

    @property
    def out_of_order(self) -> int:
        """Bytes that are kept for data which came ahead of its turn, gaps included."""
        return sum([len(stream.receiver._buffer) for stream in self._streams.values()])

    @property
    def deadline_of_silence(self) -> float | None:
        """When the connection is lost unless something arrives: moves with every valid packet."""
        return self._close_at

    @property
    def round_trip(self) -> float | None:
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None

    @property
    def unanswered_probes(self) -> int:
        """How often what is not acknowledged was sent again since the peer last acknowledged anything."""
        return self._loss._pto_count

    @property
    def peer_allows_stream(self) -> bool:
        """Whether the peer lets us open one more stream now."""
        return self._local_next_stream_id_bidi // 4 < self._remote_max_streams_bidi

    @property
    def peer_reset_token(self) -> bytes | None:
        """What ends a datagram by which the peer says that it has lost the connection's state."""
        return self._peer_cid.stateless_reset_token or None

    @property
    def may_send_close(self) -> bool:
        """Whether a last word stays within thrice of what came from an address that may not be theirs."""
        return bool(self._network_paths) and self._network_paths[0].can_send(_LAST_WORD)

    @property
    def peer_address(self) -> Address | None:
        """Where the peer has shown that it is; `None` while it has moved and not yet shown that."""
        path = self._network_paths[0] if self._network_paths else None
        return path.addr if path is not None and path.is_validated else None

    def create_stream(self) -> QuicStream:
        """Open our next bidirectional stream; nothing is sent yet."""
        return self._get_or_create_stream_for_send(self._local_next_stream_id_bidi)

    def stream(self, stream_id: int) -> QuicStream | None:
        return self._streams.get(stream_id)

    def look_at_timers(self, now: float) -> None:
        """Do what is due; when that is was found out by `get_timer`, after whatever else happened last."""
        if self._close_at is not None:
            self.handle_timer(now)

    def acknowledge_now(self, now: float) -> None:
        """Wait with an acknowledgement for nothing else to go with it."""
        space = self._spaces[tls.Epoch.ONE_RTT]
        if space.ack_at is not None:
            space.ack_at = now

    # What the machine decides

    def allow_data(self, total: int) -> None:
        """Let the peer send up to `total` bytes, counted from the start of the connection."""
        if total > self._local_max_data.value:
            self._local_max_data.value = total

    def allow_stream_data(self, stream: QuicStream, total: int) -> None:
        """Let the peer send up to `total` bytes on a stream."""
        assert stream.stream_id is not None
        stream.max_stream_data_local = total
        self.raised_windows[stream.stream_id] = stream

    def allow_streams(self, count: int) -> None:
        """Let the peer open `count` more streams."""
        self._streams_allowed += count

    def trust_path(self) -> None:
        """The peer has shown by its token that it is where it says: send it more than thrice what it sent."""
        for path in self._network_paths:
            path.is_validated = True

    def free_handshake(self) -> None:
        """Drop what only the handshake needed: most of what a connection takes."""
        free_handshake(self)

    def forget_streams(self) -> None:
        """It is over: free what is buffered now. aioquic's connection refers to itself, so it stays until the
        collector comes by."""
        for stream in self._streams.values():
            stream.sender._buffer = bytearray()  # packets on their way refer to it
            stream.receiver._buffer = bytearray()
        self._streams.clear()
        self._streams_queue = []

    # Sending

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        datagrams: list[tuple[bytes, Address]] = super().datagrams_to_send(now)
        if self._handshake_confirmed and self._state not in END_STATES:
            path = self._network_paths[0]
            mtu = self._path_mtu
            probe = mtu.next_probe(
                path.addr, packets_sent=self._packet_number, timeouts=self._loss._pto_count
            )
            if self._packet_number >= self._keys_until:
                self._keys_until += _PACKETS_OF_A_KEY
                self.request_key_update()
            if mtu.size != self._max_datagram_size:
                self._use_datagram_size(mtu.size)
            if probe is not None and path.is_validated:
                datagrams += self._probe_size(probe, path, now)
        return datagrams

    def _use_datagram_size(self, size: int) -> None:
        self._max_datagram_size = size
        self.pacer.use_datagram_size(size)
        self._loss._cc._max_datagram_size = size  # type: ignore[attr-defined] # each of them has it

    def _probe_size(self, size: int, path: QuicNetworkPath, now: float) -> list[tuple[bytes, Address]]:
        """One packet of that size that only asks to be acknowledged."""
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=VERSION,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[tls.Epoch.ONE_RTT])
        buffer = builder.start_frame(QuicFrameType.PING, handler=self._size_answered, handler_args=(size,))
        buffer.push_bytes(bytes(builder.remaining_buffer_space))
        assert builder._packet is not None
        builder._packet.in_flight = False  # its loss says nothing about congestion (RFC 8899, section 3)
        return self._flush_builder(builder, path, self._peer_cid.cid, now)

    def _size_answered(self, delivery: QuicDeliveryState, size: int) -> None:
        self._path_mtu.answered(size, arrived=delivery is QuicDeliveryState.ACKED)

    # What aioquic asks itself

    def receive_datagram(self, data: bytes, addr: Address, now: float) -> None:
        """Take a datagram; of an unfinished handshake only from where it began.

        Nobody moves before the handshake is confirmed (RFC 9000, section 9). aioquic takes an address for
        proven that a packet of the handshake came from; but whoever hears our answers can seal one, and send
        it in a victim's name.
        """
        if not self._handshake_confirmed and self._network_paths and addr != self._network_paths[0].addr:
            return
        self.frames_left = self._most_frames
        super().receive_datagram(data, addr, now)

    def _handle_ack_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        """aioquic believes a peer that acknowledges what was never sent (RFC 9000, section 13.1)."""
        start = buf.tell()
        if buf.pull_uint_var() >= self._packet_number:
            raise QuicConnectionError(
                error_code=QuicErrorCode.PROTOCOL_VIOLATION,
                frame_type=frame_type,
                reason_phrase="what was never sent is acknowledged",
            )
        buf.seek(start)
        super()._handle_ack_frame(context, frame_type, buf)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls._request_client_certificate = not self._is_client
        # aioquic makes a key for each group that it offers. Everybody in libp2p has the first of these.
        self.tls._supported_groups = [tls.Group.X25519, tls.Group.SECP256R1]

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        if is_plain(self, network_path):
            write_plain(self, builder, now)
        else:
            super()._write_application(builder, network_path, now)

    def _on_max_stream_data_delivery(self, delivery: QuicDeliveryState, stream: QuicStream) -> None:
        super()._on_max_stream_data_delivery(delivery, stream)
        if delivery is not QuicDeliveryState.ACKED:
            self.allow_stream_data(stream, stream.max_stream_data_local)

    def _on_path_challenge_delivery(self, delivery: QuicDeliveryState, network_path: QuicNetworkPath) -> None:
        """Ask again also when the question has arrived and the answer has not: aioquic would go back to an
        address that may be dead (RFC 9000, section 8.2.1)."""
        super()._on_path_challenge_delivery(delivery, network_path)
        if network_path is self._network_paths[0] and not network_path.is_validated:
            network_path.local_challenge_sent = False

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        """aioquic makes room for half a megabyte when a byte comes that far ahead."""
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        if end - self._crypto_streams[context.epoch].receiver.starting_offset() > self._most_crypto:
            raise QuicConnectionError(
                error_code=QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
                frame_type=frame_type,
                reason_phrase="a message of the handshake is too large",
            )
        super()._handle_crypto_frame(context, frame_type, buf)

    def _probe_preferred_address(self) -> None:
        """A server may name another address of its own, and a client then writes there. Nobody in libp2p
        does, and whoever we dial must not send us into our own network."""
        self._remote_preferred_address = None

    def _replenish_connection_ids(self) -> None:
        self._remote_active_connection_id_limit = min(
            self._remote_active_connection_id_limit, self._local_active_connection_id_limit
        )
        known = len(self._host_cids)
        super()._replenish_connection_ids()
        for connection_id in self._host_cids[known:]:
            connection_id.stateless_reset_token = self._token_of(connection_id.cid)
            self.issued.append(connection_id.cid)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        data, streams = self._local_max_data, self._local_max_streams_bidi
        streams.value = self._streams_allowed  # aioquic has added those that it has discarded
        send_data = data.value - data.sent >= self._data_step
        send_streams = streams.sent - streams.used < streams.value - streams.sent
        for limit in ([data] if send_data else []) + ([streams] if send_streams else []):
            buffer = builder.start_frame(
                limit.frame_type,
                capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                handler=self._on_connection_limit_delivery,
                handler_args=(limit,),
            )
            buffer.push_uint_var(limit.value)
            limit.sent = limit.value

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        if (
            stream.max_stream_data_local_sent == stream.max_stream_data_local
            or stream.receiver.is_finished
            or stream.stream_id is None
        ):
            return
        buffer = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buffer.push_uint_var(stream.stream_id)
        buffer.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local


CERTIFICATE_REQUIRED: Final = int(QuicErrorCode.CRYPTO_ERROR) + 116
BAD_CERTIFICATE: Final = int(QuicErrorCode.CRYPTO_ERROR) + int(tls.AlertDescription.bad_certificate)
NO_APPLICATION_PROTOCOL: Final = int(QuicErrorCode.CRYPTO_ERROR) + 120
"""Codes of CONNECTION_CLOSE: alerts of TLS (RFC 8446, section 6) in the space of QUIC (RFC 9001, 4.8)."""
