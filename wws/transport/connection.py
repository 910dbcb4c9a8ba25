"""The whole stack over one byte stream as ONE machine: multistream-select, Noise, the multiplexer, yamux.

    NEGOTIATING ──/noise agreed──► SECURING ──early muxer agreed──────────────► ESTABLISHED
                                      └──none offered──► MUXING ──yamux agreed──────┘
    any phase ──the peer breaks a protocol, a time-out, abort()──► CLOSED

The initiator proposes `/noise` and sends its first Noise message behind it in one write; with an early
muxer it may open streams one round trip after that. Handshake state is freed when the phase is left, so
that an idle connection costs little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wws.errors import LocalProtocolError, RemoteProtocolError
from wws.identity.peer_id import PeerId
from wws.transport import noise, yamux_frames
from wws.transport.multistream import (
    MultistreamConfig,
    NegotiationFailed,
    Negotiator,
    ProtocolNotSupported,
)
from wws.transport.muxed import ConnectionClosed, ConnectionEvent, Established, Phase, StreamClosed
from wws.transport.noise import YAMUX, NoiseHandshake, NoiseStatic
from wws.transport.noise_frames import CipherPair, NoiseDecryptionFailed, NonceExhausted
from wws.transport.yamux import Yamux
from wws.transport.yamux_limits import YamuxConfig


class HandshakeTimeout(RemoteProtocolError):
    """The peer did not complete the handshake in time."""

    code = "handshake_timeout"


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """The bounds of one connection and its parts."""

    multistream: MultistreamConfig = field(default_factory=MultistreamConfig)
    yamux: YamuxConfig = field(default_factory=YamuxConfig)
    handshake_timeout: float = 10.0
    """Seconds from the start to ESTABLISHED."""
    optimistic: bool = True
    """Send the first Noise message in one write with the proposal of `/noise`, before it is agreed to."""


DEFAULT_CONFIG: Final = ConnectionConfig()

CONNECTION_ERROR_CODES: Final = frozenset(
    error.code
    for error in (
        HandshakeTimeout,
        NegotiationFailed,
        ProtocolNotSupported,
        noise.NoCommonMuxer,
        noise.NoiseHandshakeFailed,
        noise.NoisePayloadMalformed,
        noise.NoiseSignatureInvalid,
        noise.PeerIdMismatch,
        NoiseDecryptionFailed,
        NonceExhausted,
        yamux_frames.FrameFlood,
        yamux_frames.InvalidFrame,
        yamux_frames.InvalidStreamId,
        yamux_frames.KeepAliveTimeout,
        yamux_frames.StreamHasEnded,
        yamux_frames.UnknownStream,
        yamux_frames.WindowExceeded,
        yamux_frames.WindowOverflow,
    )
)
"""The code of every `RemoteProtocolError` that a connection can end with."""

_SECURITY_PROTOCOLS: Final = frozenset({noise.PROTOCOL})
_MUXERS: Final = frozenset({YAMUX})


class SecureConnection:
    """One side of a secured, multiplexed connection over a byte stream: a `ByteStreamConnection`."""

    __slots__ = (
        "_buffer",
        "_ciphers",
        "_config",
        "_deadline",
        "_expected_peer",
        "_handshake",
        "_negotiator",
        "_outgoing",
        "_room",
        "_static",
        "_yamux",
        "early_muxer",
        "is_initiator",
        "phase",
        "remote_peer",
    )

    early_muxer: bool
    """Whether the multiplexer was agreed on within the Noise handshake."""

    def __init__(
        self,
        *,
        is_initiator: bool,
        static: NoiseStatic,
        expected_peer: PeerId | None = None,
        config: ConnectionConfig = DEFAULT_CONFIG,
        now: float,
        room: Callable[[], bool] | None = None,
    ) -> None:
        """`room` says whether the receive windows may grow; without it they always may."""
        self.is_initiator = is_initiator
        self.phase = Phase.NEGOTIATING
        self.remote_peer: PeerId | None = None
        self.early_muxer = False
        self._config = config
        self._static: NoiseStatic | None = static
        self._room = room
        self._expected_peer = expected_peer
        self._deadline = now + config.handshake_timeout
        self._outgoing: list[bytes | bytearray] = []
        self._buffer = b""
        self._handshake: NoiseHandshake | None = None
        self._ciphers: CipherPair | None = None
        self._yamux: Yamux | None = None
        self._negotiator: Negotiator | None
        if is_initiator:
            self._negotiator = Negotiator.propose(noise.PROTOCOL, config=config.multistream)
            first = self._negotiator.data_to_send()
            if config.optimistic:
                first += self._start_noise()
            self._outgoing.append(first)
        else:
            self._negotiator = Negotiator.answer(_SECURITY_PROTOCOLS, config.multistream)

    # ------------------------------------------------------------------------------- bytes

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> list[ConnectionEvent]:
        """Take what the socket brought; what came of it, in order. `data` is not kept.

        Raises a `RemoteProtocolError` with one of `CONNECTION_ERROR_CODES` when the peer breaks a protocol;
        the phase is CLOSED then. In that phase nothing happens and nothing comes back.
        """
        events: list[ConnectionEvent] = []
        if self.phase is Phase.CLOSED:
            return events
        try:
            if self.phase is Phase.NEGOTIATING:
                data = self._negotiate(data)
            if self.phase is Phase.SECURING:
                data = self._secure(data, now, events)
            if self._ciphers is not None and len(data):
                plaintexts = self._ciphers.decrypt(data)
                if self.phase is Phase.MUXING:
                    plaintexts = [self._agree_on_muxer(plaintext, now, events) for plaintext in plaintexts]
                if self._yamux is not None:
                    for plaintext in plaintexts:
                        self._yamux.receive_data(plaintext, now, events)
        except RemoteProtocolError:
            self._fail()
            raise
        return events

    def data_to_send(self) -> list[bytes | bytearray]:
        """What is to be written now, in order, and only once. After a failure: the go-away, if any.

        Raises `NonceExhausted`, and the phase is CLOSED, after 2^64 messages.
        """
        outgoing, self._outgoing = self._outgoing, []
        if self._yamux is not None and self._yamux.buffered and self._ciphers is not None:
            try:
                outgoing += self._ciphers.encrypt(self._yamux.frames_to_send())
            except NonceExhausted:
                self._fail()
                raise
        return outgoing

    @property
    def buffered_to_send(self) -> int:
        """Bytes that wait for `data_to_send`, tags and length prefixes not counted."""
        return sum(map(len, self._outgoing)) + (self._yamux.buffered if self._yamux is not None else 0)

    # ------------------------------------------------------------------------------- streams

    @property
    def open_streams(self) -> int:
        return 0 if self._yamux is None else self._yamux.open_streams

    @property
    def refused_streams(self) -> int:
        """Streams of the peer that were reset at a limit."""
        return 0 if self._yamux is None else self._yamux.refused_streams

    @property
    def unread(self) -> int:
        """Received bytes that the application has not consumed."""
        return 0 if self._yamux is None else self._yamux.unread

    @property
    def kept(self) -> int:
        """Bytes that are unread, that wait to be sent, or that wait for the end of their message."""
        kept = len(self._buffer)
        if self._outgoing:
            kept += sum(map(len, self._outgoing))
        if self._ciphers is not None:
            kept += self._ciphers.incomplete
        if self._yamux is not None:
            kept += self._yamux.unread + self._yamux.buffered
        return kept

    @property
    def round_trip(self) -> float | None:
        return None if self._yamux is None else self._yamux.round_trip

    @property
    def heard_at(self) -> float:
        return 0.0 if self._yamux is None else self._yamux.heard_at

    def open_stream(self, now: float) -> int:
        return self._muxer().open_stream(now)

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        if self._yamux is None:
            raise StreamClosed(f"stream {stream_id} of a connection that is {self.phase.value}")
        return self._yamux.send(stream_id, data)

    def send_capacity(self, stream_id: int) -> int:
        return 0 if self._yamux is None else self._yamux.send_capacity(stream_id)

    def close_stream(self, stream_id: int) -> None:
        if self._yamux is None:
            raise StreamClosed(f"stream {stream_id} of a connection that is {self.phase.value}")
        self._yamux.close_stream(stream_id)

    def reset_stream(self, stream_id: int) -> None:
        if self._yamux is not None:
            self._yamux.reset_stream(stream_id)

    def consumed(self, stream_id: int, count: int, now: float) -> None:
        if self._yamux is not None:
            self._yamux.consumed(stream_id, count, now)

    def ping(self, now: float) -> int:
        return self._muxer().ping(now)

    def go_away(self, code: int = 0) -> None:
        if self._yamux is not None:
            self._yamux.go_away(code)

    # ------------------------------------------------------------------------------- life

    def abort(self) -> None:
        """Close at once, without a word to the peer. Safe at any time, also twice."""
        self._fail()
        self._outgoing = []
        self._ciphers = self._yamux = None

    def pause(self, now: float) -> float:
        return 0.0 if self._yamux is None else self._yamux.pause(now)

    def next_wakeup(self) -> float | None:
        if self.phase is Phase.CLOSED:
            return None
        return self._deadline if self._yamux is None else self._yamux.next_wakeup()

    def handle_timer(self, now: float) -> list[ConnectionEvent]:
        if self.phase is Phase.CLOSED:
            return []
        try:
            if self._yamux is not None:
                self._yamux.handle_timer(now)
            elif now >= self._deadline:
                raise HandshakeTimeout(
                    f"the peer was still {self.phase.value} after {self._config.handshake_timeout:g} s"
                )
        except RemoteProtocolError:
            self._fail()
            raise
        return []

    def _fail(self) -> None:
        """Drop everything but a go-away that is still to be sent."""
        self.phase = Phase.CLOSED
        self._negotiator = self._handshake = self._static = None
        self._buffer = b""
        if self._yamux is None:
            self._ciphers = None
            self._outgoing = []
        else:
            self._yamux.close()  # one that has failed by itself keeps its go-away

    def _muxer(self) -> Yamux:
        if self._yamux is None or self.phase is Phase.CLOSED:
            raise ConnectionClosed(f"the connection is {self.phase.value}")
        return self._yamux

    # ------------------------------------------------------------------------------- phases

    def _negotiate(self, data: bytes | bytearray | memoryview) -> bytes:
        negotiator = self._negotiator
        assert negotiator is not None
        agreed = negotiator.receive_data(data)
        answer = negotiator.data_to_send()
        if answer:
            self._outgoing.append(answer)
        if agreed is None:
            return b""
        self._negotiator = None
        self.phase = Phase.SECURING
        if self._handshake is None:
            first = self._start_noise()
            if first:
                self._outgoing.append(first)
        return negotiator.take_leftover()

    def _start_noise(self) -> bytes:
        assert self._static is not None
        self._handshake = NoiseHandshake(
            is_initiator=self.is_initiator, static=self._static, expected_peer=self._expected_peer
        )
        return _framed(self._handshake.start()) if self.is_initiator else b""

    def _secure(
        self, data: bytes | bytearray | memoryview, now: float, events: list[ConnectionEvent]
    ) -> bytes | memoryview:
        """Feed whole Noise messages to the handshake; what stands behind its last one is given back."""
        handshake = self._handshake
        assert handshake is not None
        rest = memoryview(self._buffer + data)
        self._buffer = b""
        while handshake.ciphers is None:
            if len(rest) < 2:
                break
            length = rest[0] << 8 | rest[1]
            if length > noise.MAX_HANDSHAKE_MESSAGE:
                raise noise.NoiseHandshakeFailed(f"a Noise handshake message of {length} bytes")
            if len(rest) < 2 + length:
                break
            answer = handshake.receive_message(bytes(rest[2 : 2 + length]))
            rest = rest[2 + length :]
            if answer:
                self._outgoing.append(_framed(answer))
        if handshake.ciphers is None:
            self._buffer = bytes(rest)
            return b""
        self._ciphers = handshake.ciphers
        self.remote_peer = handshake.remote_peer
        self.early_muxer = handshake.early_muxer is not None
        self._handshake = self._static = self._expected_peer = None
        if self.early_muxer:
            self._establish(now, events)
        else:
            self.phase = Phase.MUXING
            if self.is_initiator:
                self._negotiator = Negotiator.propose(YAMUX, config=self._config.multistream)
                self._outgoing += self._ciphers.encrypt([self._negotiator.data_to_send()])
            else:
                self._negotiator = Negotiator.answer(_MUXERS, self._config.multistream)
        return rest

    def _agree_on_muxer(self, plaintext: bytes, now: float, events: list[ConnectionEvent]) -> bytes:
        """What of `plaintext` is yamux already."""
        negotiator = self._negotiator
        if negotiator is None:
            return plaintext
        assert self._ciphers is not None
        agreed = negotiator.receive_data(plaintext)
        answer = negotiator.data_to_send()
        if answer:
            self._outgoing += self._ciphers.encrypt([answer])
        if agreed is None:
            return b""
        self._negotiator = None
        self._establish(now, events)
        return negotiator.take_leftover()

    def _establish(self, now: float, events: list[ConnectionEvent]) -> None:
        if self.remote_peer is None:
            raise LocalProtocolError("a connection was established without an identity")
        self.phase = Phase.ESTABLISHED
        self._yamux = Yamux(
            is_initiator=self.is_initiator, config=self._config.yamux, now=now, room=self._room
        )
        events.append(Established(self.remote_peer))


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message
