"""One QUIC connection as a machine without I/O: aioquic inside, a `MuxedConnection` outside.

    SECURING ──handshake done, the peer's certificate proves who it is──► ESTABLISHED
    any phase ──the peer closes or breaks a protocol, silence, abort()──► CLOSED

Datagrams go in with `receive_datagrams` and come out of `datagrams_to_send`; each carries its address,
because a peer may come from another one tomorrow (RFC 9000, section 9). Streams are those of QUIC
(bidirectional only) with the rules of `wws.transport.muxed`:

- the peer may send as much as our application has consumed and a window more, a stream and in total;
- what we send is bounded by buffers, which hold it until it is acknowledged;
- a stream whose peer stops reading (STOP_SENDING) swallows a little more and then says so;
- a ping is a PING frame, answered by its acknowledgement.

After a `RemoteProtocolError`, or once `ending` is set, the driver fetches `datagrams_to_send` a last time: it
tells the peer why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

from aioquic.quic import events as quic
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from wws.errors import RemoteProtocolError
from wws.identity.peer_id import PeerId
from wws.transport.muxed import (
    ConnectionClosed,
    ConnectionEvent,
    DataReceived,
    Established,
    Phase,
    PongReceived,
    StreamClosed,
    StreamRefused,
)
from wws.transport.noise import PeerIdMismatch
from wws.transport.quic.config import DEFAULT_CONFIG, QuicConfig
from wws.transport.quic.engine import (
    BAD_CERTIFICATE,
    CERTIFICATE_REQUIRED,
    NO_APPLICATION_PROTOCOL,
    Address,
    Credentials,
    Ending,
    Engine,
)
from wws.transport.quic.ranges import TooFragmented
from wws.transport.quic.streams import StreamTable
from wws.transport.tls import ALPN, CertificateInvalid, peer_of_certificate

_NO_ERROR: Final = int(QuicErrorCode.NO_ERROR)


class QuicViolation(RemoteProtocolError):
    """The peer broke a rule of QUIC or of TLS."""

    code = "quic_violation"


class QuicFragmented(RemoteProtocolError):
    """So much of a stream was missing in between that no more pieces are kept. Whoever drops datagrams on the
    way can bring that about."""

    code = "quic_fragmented"


class QuicFault(RemoteProtocolError):
    """What the peer sent made the QUIC library fail. Worth a report to the developers of WWS."""

    code = "quic_fault"


class QuicHandshakeTimeout(RemoteProtocolError):
    """The peer did not complete the QUIC handshake in time."""

    code = "handshake_timeout"


class QuicIdleTimeout(RemoteProtocolError):
    """Nothing was heard of the peer for too long, although it was asked."""

    code = "keep_alive_timeout"


class QuicMachine:
    """One side of a QUIC connection: a `MuxedConnection` over datagrams."""

    __slots__ = (
        "_config",
        "_deadline",
        "_engine",
        "_expected_peer",
        "_freed",
        "_is_leaving",
        "_is_proven",
        "_last_chance_until",
        "_last_heard",
        "_last_ping",
        "_next_token",
        "_ping",
        "_streams",
        "_unanswered_since",
        "_unix_offset",
        "ending",
        "is_initiator",
        "phase",
        "remote_peer",
        "retired",
    )

    ending: Ending | None
    """Why the connection is over, once it is."""
    retired: list[bytes]
    """Connection ids that do no more. The driver takes them away."""

    def __init__(
        self,
        *,
        is_initiator: bool,
        credentials: Credentials,
        expected_peer: PeerId | None = None,
        config: QuicConfig = DEFAULT_CONFIG,
        now: float,
        unix_now: float,
        token_of: Callable[[bytes], bytes],
        original_id: bytes | None = None,
        retry_id: bytes | None = None,
    ) -> None:
        """`token_of` makes the token by which the peer knows that we have lost the state of a connection id.

        `original_id` and `retry_id`, for a responder: the connection ids that the initiator's first
        datagram, and our answer that asked for a token, were for. A token shows where the initiator is."""
        self.is_initiator = is_initiator
        self.phase = Phase.SECURING
        self.remote_peer: PeerId | None = None
        self.ending = None
        self._config = config
        self._expected_peer = expected_peer
        self._unix_offset = unix_now - now
        self._deadline = now + config.handshake_timeout
        self._streams = StreamTable(config, is_initiator=is_initiator)
        self._engine = Engine(
            credentials=credentials,
            config=config,
            is_client=is_initiator,
            stream_discarded=self._streams.discarded,
            token_of=token_of,
            original_id=original_id,
            retry_id=retry_id,
        )
        self._streams.attach(self._engine)
        self.retired = []
        self._is_proven = retry_id is not None
        self._is_leaving = False
        self._freed = False
        self._last_heard = now
        self._last_ping = now
        self._next_token = 1
        self._ping: tuple[int, float] | None = None
        self._unanswered_since: float | None = None
        self._last_chance_until: float | None = None

    # Datagrams

    def connect(self, address: Address, now: float) -> None:
        """Begin, as the initiator, with who is at `address`."""
        self._engine.connect(address, now)

    def receive_datagrams(self, datagrams: list[tuple[bytes, Address]], now: float) -> list[ConnectionEvent]:
        """Take what the socket brought for this connection; what came of it, in order.

        Raises a `RemoteProtocolError` when the peer broke a protocol or is not who it should be; the phase is
        CLOSED then. It is also CLOSED, and `ending` says why, when the peer has closed the connection.
        """
        if self.phase is Phase.CLOSED:
            return []
        engine = self._engine
        silence = engine.deadline_of_silence
        try:
            for data, address in datagrams:
                engine.receive_datagram(data, address, now)
        except Exception as error:
            raise self._broken(error) from error
        if self.phase is Phase.SECURING:
            self._check_handshake()
        if engine.deadline_of_silence != silence:
            self._last_heard = now
            self._unanswered_since = self._last_chance_until = None
        if self.phase is Phase.ESTABLISHED and not self._streams:
            engine.acknowledge_now(now)  # a keep-alive: nothing will go with it, and a timer costs more
        if self._is_proven:
            engine.trust_path()
            self._is_proven = False
        return self._take_events(now)

    def _check_handshake(self) -> None:
        if self.remote_address is not None and (
            self._engine.unfinished_message > self._config.max_handshake_message
        ):
            code = int(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED)
            self._engine.close(code, frame_type=QuicFrameType.CRYPTO)
            raise self._fail(QuicViolation("a message of the handshake is too large"))

    @property
    def issued(self) -> list[bytes]:
        """Connection ids that lead to this connection from now on. The driver takes them out."""
        return self._engine.issued

    @property
    def peer_reset_token(self) -> bytes | None:
        """What ends a datagram, of no connection id that we know, by which the peer says that it has lost the
        state of this connection (RFC 9000, section 10.3)."""
        return self._engine.peer_reset_token

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent now, and where to; only once. Also after the end: the word that it is over.

        Raises `QuicFault`, which is the end.
        """
        if self.remote_address is None or (self.phase is Phase.CLOSED and not self._engine.may_send_close):
            return []
        try:
            return self._engine.datagrams_to_send(now)
        except Exception as error:
            if self.phase is Phase.CLOSED:
                return []  # not even the word that it is over
            raise self._broken(error) from error

    @property
    def remote_address(self) -> Address | None:
        """Where datagrams go to; `None` before the first valid one has come."""
        address: Address | None = self._engine.get_peer_address()
        return address

    @property
    def proven_address(self) -> Address | None:
        """Where the peer has shown that it is: anybody can send a datagram in another's name. `None` while
        that is open."""
        return self._engine.peer_address

    # Streams

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def refused_streams(self) -> int:
        """None ever: the peer knows how many it may open, and more end the connection."""
        return 0

    @property
    def unread(self) -> int:
        """Also what was received ahead of its turn: it takes memory, too."""
        return self._streams.unread + (0 if self.phase is Phase.CLOSED else self._engine.out_of_order)

    @property
    def kept(self) -> int:
        """Bytes that are unread, ahead of their turn, or not acknowledged. Handshakes are bounded apart."""
        return self.unread + self.buffered_to_send

    @property
    def round_trip(self) -> float | None:
        return self._engine.round_trip

    @property
    def heard_at(self) -> float:
        return self._last_heard

    @property
    def buffered_to_send(self) -> int:
        """Bytes that were written and are not acknowledged."""
        return self._streams.buffered

    @property
    def all_acknowledged(self) -> bool:
        """Whether the peer has every byte and every end of a stream that we sent."""
        return self._streams.all_acknowledged

    def open_stream(self, now: float) -> int:
        self._check_established()
        if self._is_leaving:
            raise StreamRefused("the connection is being closed")
        return self._streams.open()

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        self._check_writable(stream_id)
        return self._streams.send(stream_id, data)

    def send_capacity(self, stream_id: int) -> int:
        return self._streams.capacity(stream_id) if self.phase is Phase.ESTABLISHED else 0

    def close_stream(self, stream_id: int) -> None:
        self._check_writable(stream_id)
        self._streams.finish(stream_id)

    def reset_stream(self, stream_id: int) -> None:
        self._streams.reset(stream_id)

    def consumed(self, stream_id: int, count: int, now: float) -> None:
        self._streams.consumed(stream_id, count)

    # Pings and ends

    def ping(self, now: float) -> int:
        self._check_established()
        if self._ping is None:
            self._ping = (self._next_token, now)
            self._next_token += 1
            self._last_ping = now
            self._engine.send_ping(self._ping[0])
        return self._ping[0]

    def go_away(self, code: int = 0) -> None:
        """Open no more streams. QUIC has no word for it; the peer hears it when the connection closes."""
        self._is_leaving = True

    def close(self, reason: str = "") -> None:
        """Close with a word to the peer, which `datagrams_to_send` has. What is not acknowledged is lost."""
        if self.phase is not Phase.CLOSED:
            self._engine.close(_NO_ERROR, reason_phrase=reason)
            self._end()

    def abort(self) -> None:
        self._end()
        self._streams.clear()
        self._engine.forget_streams()

    def next_wakeup(self) -> float | None:
        if self.phase is Phase.CLOSED:
            return None
        timer = self._engine.get_timer()
        own = self._deadline if self.phase is Phase.SECURING else self._keep_alive_at()
        if (doubtful_at := self._doubtful_at()) is not None:
            own = min(own, doubtful_at)
        return own if timer is None else min(own, timer)

    def handle_timer(self, now: float) -> list[ConnectionEvent]:
        if self.phase is Phase.CLOSED:
            return []
        if self.phase is Phase.SECURING and now >= self._deadline:
            seconds = self._config.handshake_timeout
            raise self._fail(QuicHandshakeTimeout(f"no QUIC handshake within {seconds:g} s"))
        try:
            self._engine.look_at_timers(now)
        except Exception as error:
            raise self._broken(error) from error
        if self.phase is Phase.ESTABLISHED:
            self._look_for_life(now)
        if self.phase is Phase.ESTABLISHED and now >= self._keep_alive_at():
            self._last_ping = now
            self._engine.send_ping(0)
        return self._take_events(now)

    # Inside

    def _keep_alive_at(self) -> float:
        lag = 0.0 if self.is_initiator else self._config.keep_alive_lag
        return max(self._last_heard, self._last_ping) + self._config.keep_alive_interval + lag

    def _look_for_life(self, now: float) -> None:
        if not self._engine.unanswered_probes:
            self._unanswered_since = self._last_chance_until = None
        elif self._unanswered_since is None:
            self._unanswered_since = now
        doubtful_at = self._doubtful_at()
        if doubtful_at is None or now < doubtful_at:
            return
        if self._last_chance_until is not None:
            seconds = now - (self._unanswered_since or now)
            raise self._fail(QuicIdleTimeout(f"what was sent has had no answer for {seconds:.0f} s"))
        self._last_chance_until = now + self._config.last_chance
        self._last_ping = now
        self._engine.send_ping(0)

    def _doubtful_at(self) -> float | None:
        """When to ask a peer that does not answer a last time, or to give it up; `None` while all is well."""
        if self._last_chance_until is not None:
            return self._last_chance_until
        if self._unanswered_since is None or self._engine.unanswered_probes < self._config.unanswered_probes:
            return None
        return self._unanswered_since + self._config.unanswered_timeout

    def _check_established(self) -> None:
        if self.phase is not Phase.ESTABLISHED:
            raise ConnectionClosed(f"the connection is {self.phase.value}")

    def _check_writable(self, stream_id: int) -> None:
        if self.phase is not Phase.ESTABLISHED:
            raise StreamClosed(f"stream {stream_id} of a connection that is {self.phase.value}")

    def _end(self) -> None:
        self.phase = Phase.CLOSED

    def _fail(self, error: RemoteProtocolError) -> RemoteProtocolError:
        self._end()
        return error

    def _broken(self, error: Exception) -> RemoteProtocolError:
        """aioquic or a parser below it stumbled over what the peer sent: whatever that was, and in whatever
        state aioquic is left, the price is this connection and nothing else."""
        if isinstance(error, TooFragmented):
            return self._fail(QuicFragmented(f"a stream came in {error}"))
        return self._fail(QuicFault(f"aioquic failed: {error!r}"))

    def _take_events(self, now: float) -> list[ConnectionEvent]:
        out: list[ConnectionEvent] = []
        engine, streams = self._engine, self._streams
        while (event := engine.next_event()) is not None:
            match event:
                case quic.StreamDataReceived():
                    streams.data_received(event, out)
                case quic.PingAcknowledged(uid=token):
                    if self._ping is not None and self._ping[0] == token:
                        out.append(PongReceived(token, now - self._ping[1]))
                        self._ping = None
                case quic.HandshakeCompleted():
                    self._handshake_completed(event, now, out)
                case quic.StreamReset(stream_id=stream_id):
                    streams.peer_reset(stream_id, out)
                case quic.StopSendingReceived(stream_id=stream_id):
                    streams.peer_stopped(stream_id)
                case quic.ConnectionIdRetired(connection_id=connection_id):
                    self.retired.append(connection_id)
                case _:  # those that say nothing new: ids are in `issued`, the end is seen below, and sooner
                    pass
        if not self._freed and self.phase is Phase.ESTABLISHED and engine.is_confirmed:
            self._freed = True
            engine.free_handshake()
        streams.open_windows(out)
        if (ending := engine.ending) is not None:
            self._end()
            self.ending = ending
            if ending.was_idle:
                raise QuicIdleTimeout(f"nothing was heard within {self._config.idle_timeout:g} s")
            if not ending.by_peer:
                raise QuicViolation(f"{ending.reason} (code {ending.code:#x})")
        return _joined(out) if len(out) > 1 else out

    def _handshake_completed(
        self, event: quic.HandshakeCompleted, now: float, out: list[ConnectionEvent]
    ) -> None:
        engine = self._engine
        certificate = engine.peer_certificate
        if event.alpn_protocol != ALPN or event.session_resumed or event.early_data_accepted:
            self._refuse(NO_APPLICATION_PROTOCOL, QuicViolation("the peer does not speak libp2p"))
        if certificate is None:
            self._refuse(CERTIFICATE_REQUIRED, CertificateInvalid("the peer showed no certificate"))
        if engine.has_chain:
            self._refuse(BAD_CERTIFICATE, CertificateInvalid("the peer sent more than one certificate"))
        try:
            peer = peer_of_certificate(certificate, now + self._unix_offset)
        except CertificateInvalid as error:
            self._refuse(BAD_CERTIFICATE, error)
        if self._expected_peer is not None and peer != self._expected_peer:
            self._refuse(BAD_CERTIFICATE, PeerIdMismatch(self._expected_peer, peer))
        self.remote_peer = peer
        self.phase = Phase.ESTABLISHED
        out.append(Established(peer))

    def _refuse(self, code: int, error: RemoteProtocolError) -> NoReturn:
        self._engine.close(code, frame_type=QuicFrameType.CRYPTO, reason_phrase=error.code)
        raise self._fail(error)


def _joined(events: list[ConnectionEvent]) -> list[ConnectionEvent]:
    """The same events, with neighbouring pieces of one stream as one: datagrams are small."""
    joined: list[ConnectionEvent] = []
    pieces: list[bytes] = []
    last = -1
    for event in events:
        if pieces and not (isinstance(event, DataReceived) and event.stream_id == last):
            joined.append(DataReceived(last, b"".join(pieces)))
            pieces = []
        if isinstance(event, DataReceived):
            last = event.stream_id
            pieces.append(event.data)
        else:
            joined.append(event)
    if pieces:
        joined.append(DataReceived(last, b"".join(pieces)))
    return joined
