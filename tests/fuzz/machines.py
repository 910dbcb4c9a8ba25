"""Byte streams and datagrams: each machine fed with what is not quite a conversation, cut in every way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnectionError, QuicReceiveContext
from aioquic.quic.packet import QuicFrameType
from aioquic.tls import Epoch

from tests.fuzz.target import Target
from wws.errors import ParseError, RemoteProtocolError
from wws.testing.connections import Pair
from wws.testing.names import NOW, person
from wws.testing.quic_link import ALICE_AT, TOKENS, UNIX_START, QuicLink, credentials_of
from wws.transport.connection import SecureConnection
from wws.transport.multistream import LIST, Negotiator, encode_line
from wws.transport.muxed import ConnectionEvent, Phase
from wws.transport.noise import NoiseHandshake, NoiseStatic
from wws.transport.noise_frames import CipherPair
from wws.transport.quic.config import DEFAULT_CONFIG
from wws.transport.quic.endpoint import Endpoint
from wws.transport.quic.machine import QuicMachine
from wws.transport.tls import encode_signed_key, make_certificate, parse_signed_key, peer_of_chain
from wws.transport.yamux import Yamux
from wws.transport.yamux_frames import ACK, DATA, FIN, GO_AWAY, HEADER, PING, RST, SYN, WINDOW_UPDATE

SUPPORTED = ("/noise", "/yamux/1.0.0", "/ipfs/ping/1.0.0")
HELLO = encode_line("/multistream/1.0.0")
SECRET = bytes(range(32))


@cache
def static(label: str) -> NoiseStatic:
    return NoiseStatic(person(label), secret=person(label).seed)


def pieces(data: bytes) -> Iterator[bytes]:
    """`data` cut in a way that depends on it: whole, in bytes, in halves, in pieces that grow."""
    way = (len(data) + sum(data[:4])) % 4
    if way == 0 or len(data) > 600:
        yield data
    elif way == 1:
        for index in range(len(data)):
            yield data[index : index + 1]
    elif way == 2:
        yield data[: len(data) // 2]
        yield data[len(data) // 2 :]
    else:
        start, length = 0, 1
        while start < len(data):
            yield data[start : start + length]
            start, length = start + length, length + 1 + length // 2


# multistream


def _proposals() -> list[bytes]:
    return [
        HELLO + encode_line("/noise"),
        HELLO + encode_line("/tls/1.0.0") + encode_line("/noise"),
        HELLO + encode_line(LIST) + encode_line("/yamux/1.0.0") + b"data behind",
        HELLO + encode_line("na") + encode_line("na"),
        HELLO + encode_line("na") + encode_line("/b/2"),
        b"GET / HTTP/1.1\r\n\r\n",
    ]


def _multistream(data: bytes) -> None:
    for machine in (Negotiator.answer(SUPPORTED), Negotiator.propose("/a/1", "/b/2")):
        try:
            for piece in pieces(data):
                machine.receive_data(piece)
                machine.data_to_send()
        except RemoteProtocolError:
            continue
        machine.take_leftover()


# yamux


def frame(kind: int, flags: int, stream: int, length: int, body: bytes = b"", version: int = 0) -> bytes:
    return HEADER.pack(version, kind, flags, stream, length) + body


def _sessions() -> list[bytes]:
    opened = frame(WINDOW_UPDATE, SYN, 1, 0)
    return [
        opened + frame(DATA, 0, 1, 5, b"hello") + frame(DATA, FIN, 1, 0),
        frame(DATA, SYN, 1, 3, b"abc") + frame(WINDOW_UPDATE, 0, 1, 1000) + frame(WINDOW_UPDATE, RST, 1, 0),
        opened + frame(WINDOW_UPDATE, SYN, 3, 0) + frame(DATA, FIN, 3, 2, b"ab") + frame(PING, SYN, 0, 7),
        frame(WINDOW_UPDATE, ACK, 2, 0) + frame(DATA, 0, 2, 4, b"data") + frame(DATA, FIN, 2, 0),
        frame(PING, SYN, 0, 1) + frame(PING, ACK, 0, 1) + frame(GO_AWAY, 0, 0, 0),
        b"".join(frame(WINDOW_UPDATE, SYN, number, 0) for number in range(1, 41, 2)),
    ]


def _yamux(data: bytes) -> None:
    machine = Yamux(is_initiator=False, now=0.0)
    ours = machine.open_stream(0.0)
    machine.send(ours, b"from us")
    now = 0.0
    events: list[ConnectionEvent] = []
    for piece in pieces(data):
        now += 0.01
        machine.receive_data(piece, now, events)
    machine.frames_to_send()
    assert machine.unread <= len(data)
    assert machine.open_streams <= 1 + len(data) // HEADER.size


# Noise


@cache
def _noise_messages() -> tuple[bytes, bytes, bytes]:
    alice = NoiseHandshake(is_initiator=True, static=static("alice"), ephemeral=b"\x01" * 32)
    bob = NoiseHandshake(is_initiator=False, static=static("bob"), ephemeral=b"\x02" * 32)
    first = alice.start()
    second = bob.receive_message(first)
    return first, second, alice.receive_message(second)


def _noise(data: bytes) -> None:
    """As each of the three messages; whose turn it is says the length, as good as anything."""
    first, _, _ = _noise_messages()
    if len(data) % 2:
        alice = NoiseHandshake(is_initiator=True, static=static("alice"), ephemeral=b"\x01" * 32)
        alice.start()
        alice.receive_message(data)
        return
    bob = NoiseHandshake(is_initiator=False, static=static("bob"), ephemeral=b"\x02" * 32)
    if len(data) <= 64:
        bob.receive_message(data)
    else:
        bob.receive_message(first)
        bob.receive_message(data)


def _noise_corpus() -> list[bytes]:
    first, second, third = _noise_messages()
    return [
        first,
        first + b"payload",
        second,
        second + b"x" * (1 - len(second) % 2),
        third,
        third + b"x" * (len(third) % 2),
    ]


def _sealed_frames() -> list[bytes]:
    def sealed(*plaintexts: bytes) -> bytes:
        pair = CipherPair(SECRET, SECRET)
        return b"".join(bytes(part) for each in plaintexts for part in pair.encrypt([each]))

    return [sealed(b"hello"), sealed(b"hello", b"world" * 9, b""), sealed(b"x" * 400, b"y")]


def _noise_frames(data: bytes) -> None:
    pair = CipherPair(SECRET, SECRET)
    for piece in pieces(data):
        pair.decrypt(piece)


@cache
def _dialogue() -> tuple[bytes, bytes]:
    pair = Pair()
    to_bob = b"".join(pair.alice.data_to_send())
    pair.bob.receive_data(to_bob, 0.0)
    return to_bob, b"".join(pair.bob.data_to_send())


def _connection(data: bytes) -> None:
    """What a socket brings to who was dialled, and to who has dialled."""
    machine = SecureConnection(is_initiator=len(data) % 2 == 1, static=static("alice"), now=0.0)
    machine.data_to_send()
    try:
        for piece in pieces(data):
            machine.receive_data(piece, 0.0)
        machine.data_to_send()
    finally:
        assert machine.phase is not Phase.ESTABLISHED  # nobody gets there without our keys


def _connection_corpus() -> list[bytes]:
    to_bob, to_alice = _dialogue()
    return [
        to_bob,
        to_bob + b"\x00",
        to_alice,
        to_alice + b"\x00",
        HELLO + encode_line("/noise") + b"\x00\x20" + b"k" * 32,
    ]


# TLS


@cache
def _certificates() -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import Encoding

    return [make_certificate(person(who), NOW)[0].public_bytes(Encoding.DER) for who in ("alice", "bob")]


def _signed_keys() -> list[bytes]:
    return [
        encode_signed_key(person("alice").peer_id.public_key_protobuf, b"s" * 64),
        encode_signed_key(b"", b""),
        encode_signed_key(b"k" * 36, b"s" * 200),
    ]


# QUIC


@cache
def _datagrams() -> list[bytes]:
    """Everything that was sent on a link: handshake, data, and the end."""
    link = QuicLink.between()
    seen: list[bytes] = []

    def note(data: bytes) -> bytes:
        seen.append(data)
        return data

    link.tamper = note
    link.run_until(lambda: link.both is not None)
    stream = link.alice.open_stream(link.now)
    link.alice.send(stream, b"hello")
    link.run(1.0)
    link.alice.abort()
    link.run(1.0)
    return seen[:12]


def _strangers() -> Callable[[bytes], None]:
    endpoint = Endpoint(TOKENS, noise_key=b"noise", now=0.0)
    now = 0.0

    def judge(data: bytes) -> None:
        nonlocal now
        now += 0.1
        endpoint.judge(data, ALICE_AT, now, half_open=len(data) % 40, half_open_there=len(data) % 3)
        if len(data) % 7 == 0:
            endpoint.remember_closed([data[1:9]], b"closed", now)

    return judge


class _QuicTalk:
    """An established machine that garbled datagrams are sent to; another one when it has closed."""

    def __init__(self) -> None:
        self._bob: QuicMachine | None = None
        self._now = 0.0

    def datagram(self, data: bytes) -> None:
        bob = self._machine()
        try:
            bob.receive_datagrams([(data, ALICE_AT)], self._now)
        finally:
            bob.datagrams_to_send(self._now)

    def frames(self, data: bytes) -> None:
        """The content of a packet that decrypts: what an authenticated peer can say."""
        bob = self._machine()
        engine = bob._engine
        engine.frames_left = DEFAULT_CONFIG.max_frames
        context = QuicReceiveContext(
            epoch=Epoch.ONE_RTT,
            host_cid=engine.host_cid,
            network_path=engine._network_paths[0],
            quic_logger_frames=None,
            time=self._now,
            version=1,
        )
        try:
            engine._payload_received(context, data)
        except QuicConnectionError:
            if self._now % 1 < 0.02:
                self._bob = None
            raise
        if len(bob._streams) > 40 or bob.phase is not Phase.ESTABLISHED:
            self._bob = None

    def _machine(self) -> QuicMachine:
        self._now += 0.01
        if self._bob is None or self._bob.phase is not Phase.ESTABLISHED:
            link = QuicLink.established()
            self._bob, self._now = link.answering(), link.now
        return self._bob


def _frame_corpus() -> list[bytes]:
    kinds = QuicFrameType

    def made(*parts: int | bytes) -> bytes:
        buffer = Buffer(capacity=1_500)
        for part in parts:
            if isinstance(part, bytes):
                buffer.push_bytes(part)
            else:
                buffer.push_uint_var(part)
        return buffer.data

    return [
        made(kinds.PING),
        made(kinds.PADDING, kinds.PADDING, kinds.PING),
        made(kinds.ACK, 0, 0, 0, 0),
        made(kinds.ACK_ECN, 1, 0, 1, 0, 0, 0, 0, 0, 0),
        made(kinds.RESET_STREAM, 0, 1, 5),
        made(kinds.STOP_SENDING, 0, 1),
        made(kinds.CRYPTO, 0, 3, b"abc"),
        made(kinds.NEW_TOKEN, 3, b"abc"),
        made(kinds.STREAM_BASE | 2, 0, 5, b"hello"),
        made(kinds.STREAM_BASE | 7, 4, 2, 3, b"abc"),
        made(kinds.MAX_DATA, 100_000),
        made(kinds.MAX_STREAM_DATA, 1, 1000),
        made(kinds.MAX_STREAMS_BIDI, 10),
        made(kinds.DATA_BLOCKED, 7),
        made(kinds.STREAM_DATA_BLOCKED, 0, 7),
        made(kinds.STREAMS_BLOCKED_BIDI, 7),
        made(kinds.NEW_CONNECTION_ID, 9, 8, 8, b"connecti" + b"t" * 16),
        made(kinds.RETIRE_CONNECTION_ID, 1),
        made(kinds.PATH_CHALLENGE, b"12345678"),
        made(kinds.PATH_RESPONSE, b"12345678"),
        made(kinds.STREAM_BASE | 2, 0, 2, b"hi", kinds.STREAM_BASE | 3, 4, 1, b"x", kinds.MAX_DATA, 1 << 40),
    ]


def _first_datagram(data: bytes) -> None:
    """Who is dialled, and the first thing that comes."""
    if len(data) < 6:
        return
    bob = QuicMachine(
        is_initiator=False,
        credentials=_credentials(),
        now=0.0,
        unix_now=UNIX_START,
        token_of=TOKENS.of,
        original_id=data[6 : 6 + data[5]],
    )
    try:
        bob.receive_datagrams([(data, ALICE_AT)], 0.0)
    finally:
        assert sum(len(out) for out, _ in bob.datagrams_to_send(0.0)) <= 3 * len(data)
    assert bob.phase is not Phase.ESTABLISHED


@cache
def _credentials() -> object:
    return credentials_of("bob")


def _hellos() -> list[bytes]:
    return [data for data in _datagrams() if len(data) >= 1_200][:2]


MACHINES = (
    Target("multistream", _proposals, _multistream, (), (Negotiator.receive_data,)),
    Target("yamux", _sessions, _yamux, (RemoteProtocolError,), (Yamux.receive_data,)),
    Target(
        "Noise handshake",
        _noise_corpus,
        _noise,
        (RemoteProtocolError,),
        (NoiseHandshake.receive_message,),
    ),
    Target("Noise frames", _sealed_frames, _noise_frames, (RemoteProtocolError,), (CipherPair.decrypt,)),
    Target(
        "connection",
        _connection_corpus,
        _connection,
        (RemoteProtocolError,),
        (SecureConnection.receive_data,),
    ),
    Target(
        "TLS certificate",
        _certificates,
        lambda data: peer_of_chain([data], NOW),
        (RemoteProtocolError,),
        (peer_of_chain,),
    ),
    Target("TLS signed key", _signed_keys, parse_signed_key, (ParseError,), (parse_signed_key,)),
    Target(
        "QUIC of strangers", _datagrams, _strangers(), (), (Endpoint.judge,), largest=1_500, is_stateful=True
    ),
    Target(
        "QUIC datagram",
        _datagrams,
        _QuicTalk().datagram,
        (RemoteProtocolError,),
        (QuicMachine.receive_datagrams,),
        largest=1_500,
        is_stateful=True,
    ),
    Target(
        "QUIC frames",
        _frame_corpus,
        _QuicTalk().frames,
        (QuicConnectionError,),
        (),
        largest=1_400,
        is_stateful=True,
    ),
    Target(
        "QUIC first datagram",
        _hellos,
        _first_datagram,
        (RemoteProtocolError,),
        (QuicMachine.receive_datagrams,),
        share=0.1,
        largest=1_500,
    ),
)
