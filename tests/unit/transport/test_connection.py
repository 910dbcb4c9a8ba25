"""The whole stack in memory: two connections, every cut, every phase broken off, every message garbled."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wws.transport
from wws.errors import RemoteProtocolError
from wws.identity.keys import Identity
from wws.testing.connections import Pair, bytewise, whole
from wws.transport import noise
from wws.transport.connection import (
    CONNECTION_ERROR_CODES,
    ConnectionConfig,
    HandshakeTimeout,
    SecureConnection,
)
from wws.transport.multistream import NegotiationFailed, Negotiator, ProtocolNotSupported, encode_line
from wws.transport.muxed import (
    ByteStreamConnection,
    ConnectionClosed,
    ConnectionEvent,
    DataReceived,
    Established,
    GoneAway,
    Phase,
    PongReceived,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from wws.transport.noise import NoiseHandshake, NoiseHandshakeFailed, NoiseStatic, PeerIdMismatch
from wws.transport.noise_frames import CipherPair, NoiseDecryptionFailed, NonceExhausted
from wws.transport.yamux_frames import HEADER, KeepAliveTimeout, UnknownStream, YamuxError
from wws.transport.yamux_limits import YamuxConfig

ALICE, BOB, CAROL = (Identity.from_label(name) for name in ("alice", "bob", "carol"))
STATIC = {name: NoiseStatic(Identity.from_label(name)) for name in ("alice", "bob", "carol")}
HELLO = encode_line("/multistream/1.0.0")


def closed(connection: SecureConnection) -> None:
    """Nothing holds, nothing happens, nothing breaks."""
    assert connection.phase is Phase.CLOSED
    connection.data_to_send()
    assert connection.data_to_send() == []
    assert connection.receive_data(b"anything", 1.0) == []
    assert connection.handle_timer(1e9) == []
    assert connection.next_wakeup() is None
    assert connection.open_streams == connection.unread == connection.buffered_to_send == 0
    assert connection.send_capacity(1) == 0
    connection.reset_stream(1)
    connection.consumed(1, 1, 0.0)
    connection.go_away()
    for call in (lambda: connection.send(1, b"x"), lambda: connection.close_stream(1)):
        with pytest.raises(StreamClosed):
            call()
    for call in (lambda: connection.open_stream(0.0), lambda: connection.ping(0.0)):
        with pytest.raises(ConnectionClosed):
            call()
    connection.abort()
    connection.abort()


def known(error: RemoteProtocolError) -> None:
    assert error.code in CONNECTION_ERROR_CODES


# The way up


@pytest.mark.parametrize("cut", [whole, bytewise])
@pytest.mark.parametrize("optimistic", [True, False])
@pytest.mark.parametrize("early", ["both", "alice", "bob", "none"])
def test_the_way_to_established(cut: object, optimistic: bool, early: str) -> None:
    assert callable(cut)
    pair = Pair(
        alice=NoiseStatic(ALICE, muxers=(noise.YAMUX,) if early in ("both", "alice") else ()),
        bob=NoiseStatic(BOB, muxers=(noise.YAMUX,) if early in ("both", "bob") else ()),
        alice_config=ConnectionConfig(optimistic=optimistic),
    )
    for connection in (pair.alice, pair.bob):
        assert connection.phase is Phase.NEGOTIATING
        assert connection.remote_peer is None
        with pytest.raises(ConnectionClosed):
            connection.open_stream(0.0)
    heard = pair.exchange(cut=cut)
    assert heard == ([Established(BOB.peer_id)], [Established(ALICE.peer_id)])
    assert pair.alice.remote_peer == BOB.peer_id
    for connection in (pair.alice, pair.bob):
        assert connection.phase is Phase.ESTABLISHED
        assert connection.early_muxer is (early == "both")
        assert connection._handshake is connection._negotiator is None  # the memory is free again


def test_it_is_what_the_runtime_expects() -> None:
    connection: ByteStreamConnection = Pair.established().alice
    assert connection.is_initiator


def test_the_flights_of_an_early_muxer() -> None:
    """Alice may send streams with her second flight: one round trip after the first."""
    pair = Pair()
    (first,) = pair.alice.data_to_send()
    assert first.startswith(HELLO + encode_line("/noise") + b"\x00\x20")
    assert len(first) == len(HELLO) + 8 + 34
    assert pair.bob.receive_data(first, 0.0) == []
    second = b"".join(pair.bob.data_to_send())
    assert pair.alice.receive_data(second, 0.0) == [Established(BOB.peer_id)]
    stream = pair.alice.open_stream(0.0)
    pair.alice.send(stream, b"hello")
    third = b"".join(pair.alice.data_to_send())
    assert pair.bob.receive_data(third, 0.0) == [
        Established(ALICE.peer_id),
        StreamOpened(stream),
        DataReceived(stream, b"hello"),
    ]


def test_streams_may_follow_the_muxer_in_one_read() -> None:
    pair = Pair(bob=NoiseStatic(BOB, muxers=()))
    pair.bob.receive_data(b"".join(pair.alice.data_to_send()), 0.0)
    pair.alice.receive_data(b"".join(pair.bob.data_to_send()), 0.0)
    assert pair.bob.receive_data(b"".join(pair.alice.data_to_send()), 0.0) == [Established(ALICE.peer_id)]
    stream = pair.bob.open_stream(0.0)
    pair.bob.send(stream, bytes(100_000))  # in Noise messages of its own, behind the one with the answer
    flight = b"".join(pair.bob.data_to_send())
    events = pair.alice.receive_data(flight, 0.0)
    assert events[:2] == [Established(BOB.peer_id), StreamOpened(stream)]
    assert sum(len(event.data) for event in events if isinstance(event, DataReceived)) == 100_000


def test_a_listener_says_nothing_first() -> None:
    assert Pair().bob.data_to_send() == []


def test_only_what_was_told_is_sent_and_only_once() -> None:
    pair = Pair()
    assert pair.alice.buffered_to_send == len(HELLO) + 8 + 34
    assert pair.alice.data_to_send()
    assert pair.alice.buffered_to_send == 0
    assert pair.alice.data_to_send() == []


# Streams


@pytest.mark.parametrize("cut", [whole, bytewise])
def test_echo_over_a_negotiated_stream(cut: object) -> None:
    assert callable(cut)
    pair = Pair.established()
    stream = pair.alice.open_stream(0.0)
    proposal = Negotiator.propose("/echo/1")
    pair.alice.send(stream, proposal.data_to_send() + b"hello")
    _, heard = pair.exchange(cut=cut)
    assert heard[0] == StreamOpened(stream)
    answer = Negotiator.answer({"/echo/1"})
    for event in heard[1:]:
        assert isinstance(event, DataReceived)
        answer.receive_data(event.data)
    pair.bob.send(stream, answer.data_to_send() + answer.take_leftover())
    heard, _ = pair.exchange(cut=cut)
    for event in heard:
        assert isinstance(event, DataReceived)
        proposal.receive_data(event.data)
    assert (proposal.protocol, proposal.take_leftover()) == ("/echo/1", b"hello")


def test_a_hundred_streams_at_once() -> None:
    pair = Pair.established()
    streams = [pair.alice.open_stream(0.0) for _ in range(100)]
    for stream in streams:
        pair.alice.send(stream, b"%d" % stream * 1_000)
        pair.alice.close_stream(stream)
    _, heard = pair.exchange()
    received: dict[int, bytes] = {}
    for event in heard:
        if isinstance(event, DataReceived):
            received[event.stream_id] = received.get(event.stream_id, b"") + event.data
            pair.bob.consumed(event.stream_id, len(event.data), 0.0)
    assert received == {stream: b"%d" % stream * 1_000 for stream in streams}
    for stream in streams:
        pair.bob.close_stream(stream)
    heard, _ = pair.exchange()
    assert [event.stream_id for event in heard if isinstance(event, StreamEnded)] == streams
    assert (pair.alice.open_streams, pair.bob.open_streams) == (0, 0)


def test_back_pressure_reaches_the_sender() -> None:
    pair = Pair.established()
    stream = pair.alice.open_stream(0.0)
    sent = 0
    while accepted := pair.alice.send(stream, bytes(100_000)):
        sent += accepted
        pair.exchange()
    assert sent == 256 * 1024
    assert pair.bob.unread == sent
    pair.bob.consumed(stream, sent, 0.0)
    pair.exchange()
    assert pair.bob.unread == 0
    assert pair.alice.send(stream, bytes(100_000)) == 100_000


def test_a_full_yamux_frame_is_one_noise_message() -> None:
    pair = Pair.established()
    pair.alice.send(pair.alice.open_stream(0.0), bytes(256 * 1024))
    sizes = [len(message) for message in pair.alice.data_to_send()]
    assert sizes == [65_537] * 4 + [2 + 12 + 256 * 1024 - 4 * 65_507 + 16]


def test_reset_ping_and_farewell() -> None:
    pair = Pair.established()
    stream = pair.alice.open_stream(0.0)
    pair.alice.send(stream, b"x")
    pair.exchange()
    pair.bob.reset_stream(stream)
    assert pair.exchange() == ([StreamReset(stream)], [])
    token = pair.bob.ping(1.0)
    assert pair.exchange(1.5) == ([], [PongReceived(token, 0.5)])
    assert pair.bob.round_trip == 0.5
    pair.alice.go_away()
    assert pair.exchange() == ([], [GoneAway(0)])


def test_a_stream_over_the_limit_is_counted() -> None:
    config = ConnectionConfig(yamux=YamuxConfig(max_inbound_streams=1))
    pair = Pair.established(bob_config=config)
    for _ in range(2):
        pair.alice.send(pair.alice.open_stream(0.0), b"x")
    assert pair.exchange() == ([StreamReset(3)], [StreamOpened(1), DataReceived(1, b"x")])
    assert pair.bob.refused_streams == 1


# Faults


def test_the_wrong_peer_learns_nothing_of_us() -> None:
    bob = SecureConnection(is_initiator=False, static=STATIC["bob"], now=0.0)
    alice = SecureConnection(is_initiator=True, static=STATIC["alice"], expected_peer=CAROL.peer_id, now=0.0)
    bob.receive_data(b"".join(alice.data_to_send()), 0.0)
    with pytest.raises(PeerIdMismatch) as caught:
        alice.receive_data(b"".join(bob.data_to_send()), 0.0)
    assert (caught.value.expected, caught.value.found) == (CAROL.peer_id, BOB.peer_id)
    assert alice.data_to_send() == []
    closed(alice)


def flights(*, early: bool = True) -> tuple[bytes, bytes, bytes, bytes]:
    """What goes over the wire in a handshake, in turn: alice, bob, alice, bob."""
    pair = Pair(bob=NoiseStatic(BOB, muxers=(noise.YAMUX,) if early else ()))
    out: list[bytes] = []
    for sender, receiver in ((pair.alice, pair.bob), (pair.bob, pair.alice)) * 2:
        out.append(b"".join(sender.data_to_send()))
        receiver.receive_data(out[-1], 0.0)
    return out[0], out[1], out[2], out[3]


@pytest.mark.parametrize("early", [True, False])
def test_every_flight_cut_at_every_byte_waits_and_times_out(early: bool) -> None:
    lengths = [len(flight) for flight in flights(early=early)]
    for index, length in enumerate(lengths):
        for cut in range(0, length, 1 if index == 0 else 23):
            pair = Pair(bob=NoiseStatic(BOB, muxers=(noise.YAMUX,) if early else ()))
            order = ((pair.alice, pair.bob), (pair.bob, pair.alice)) * 2
            for sender, receiver in order[:index]:
                receiver.receive_data(b"".join(sender.data_to_send()), 0.0)
            sender, receiver = order[index]
            receiver.receive_data(b"".join(sender.data_to_send())[:cut], 0.0)
            assert receiver.phase in (Phase.NEGOTIATING, Phase.SECURING, Phase.MUXING)
            assert receiver.next_wakeup() == 10.0
            assert receiver.handle_timer(9.9) == []
            with pytest.raises(HandshakeTimeout, match=receiver.phase.value):
                receiver.handle_timer(10.0)
            closed(receiver)


@given(st.integers(0, 3), st.integers(0, 10_000), st.integers(0, 7), st.booleans())
def test_a_flipped_bit_in_any_flight_never_passes(index: int, position: int, bit: int, early: bool) -> None:
    pair = Pair(bob=NoiseStatic(BOB, muxers=(noise.YAMUX,) if early else ()))
    order = ((pair.alice, pair.bob), (pair.bob, pair.alice)) * 2
    done: list[ConnectionEvent] = []
    try:
        for step, (sender, receiver) in enumerate(order):
            flight = bytearray(b"".join(sender.data_to_send()))
            if step == index and flight:
                flight[position % len(flight)] ^= 1 << bit
            heard = receiver.receive_data(flight, 0.0)
            if step == index and flight:
                # Whoever heard the changed flight is not established by it.
                assert not any(isinstance(event, Established) for event in heard)
            done += heard
    except RemoteProtocolError as error:
        known(error)
        for connection in (pair.alice, pair.bob):
            connection.abort()
            closed(connection)
        return
    if len(flights(early=early)[index]):
        # A changed length may leave a side waiting for the rest, which the time-out ends.
        assert len(done) < 2


@given(st.booleans(), st.lists(st.binary(max_size=200), max_size=8))
def test_garbage_from_the_first_byte(initiator: bool, chunks: list[bytes]) -> None:
    connection = SecureConnection(is_initiator=initiator, static=STATIC["alice"], now=0.0)
    try:
        for chunk in chunks:
            assert connection.receive_data(chunk, 0.0) == []
    except RemoteProtocolError as error:
        known(error)
        closed(connection)


@given(st.integers(1, 3), st.binary(min_size=1, max_size=300), st.booleans())
def test_garbage_in_place_of_any_later_flight(index: int, garbage: bytes, early: bool) -> None:
    pair = Pair(bob=NoiseStatic(BOB, muxers=(noise.YAMUX,) if early else ()))
    order = ((pair.alice, pair.bob), (pair.bob, pair.alice)) * 2
    for sender, receiver in order[:index]:
        receiver.receive_data(b"".join(sender.data_to_send()), 0.0)
    receiver = order[index][1]
    try:
        assert receiver.receive_data(garbage, 0.0) == []
    except RemoteProtocolError as error:
        known(error)
        closed(receiver)


def test_who_speaks_something_else_is_gone_at_the_first_wrong_byte() -> None:
    for data in (b"G", b"\x16\x03\x01", b"\0", b"SSH-2.0-OpenSSH", HELLO[:5] + b"x"):
        bob = Pair().bob
        with pytest.raises(NegotiationFailed):
            bob.receive_data(data, 0.0)
        assert bob.data_to_send() == []
        closed(bob)


def test_a_peer_without_noise() -> None:
    alice = Pair().alice
    with pytest.raises(ProtocolNotSupported):
        alice.receive_data(HELLO + encode_line("na"), 0.0)
    closed(alice)


def test_a_peer_that_only_offers_others_is_told_so() -> None:
    bob = Pair().bob
    bob.receive_data(HELLO + encode_line("/tls/1.0.0"), 0.0)
    assert bob.data_to_send() == [HELLO + encode_line("na")]
    assert bob.phase is Phase.NEGOTIATING


@pytest.mark.parametrize("length, accepted", [(4096, True), (4097, False)])
def test_an_oversized_handshake_message_is_refused_by_its_length(length: int, accepted: bool) -> None:
    bob = Pair().bob
    bob.receive_data(HELLO + encode_line("/noise"), 0.0)
    if accepted:
        bob.receive_data(length.to_bytes(2, "big"), 0.0)
        assert bob.phase is Phase.SECURING
    else:
        with pytest.raises(NoiseHandshakeFailed):
            bob.receive_data(length.to_bytes(2, "big"), 0.0)
        closed(bob)


def test_a_muxer_that_we_do_not_have() -> None:
    pair = Pair(alice=NoiseStatic(ALICE, muxers=()))
    pair.bob.receive_data(b"".join(pair.alice.data_to_send()), 0.0)
    pair.alice.receive_data(b"".join(pair.bob.data_to_send()), 0.0)
    assert pair.alice.phase is Phase.MUXING
    flight = b"".join(pair.alice.data_to_send())
    pair.bob.receive_data(flight, 0.0)
    assert pair.alice._ciphers is not None
    pair.bob.data_to_send()
    # Bob's answer, as he would give it had he no yamux.
    assert pair.bob._ciphers is not None
    fake = CipherPair(b"k" * 32, b"k" * 32)
    pair.alice._ciphers, sender = fake, CipherPair(b"k" * 32, b"k" * 32)
    with pytest.raises(ProtocolNotSupported):
        pair.alice.receive_data(sender.encrypt([HELLO + encode_line("na")])[0], 0.0)
    closed(pair.alice)


def test_a_broken_seal_ends_the_connection_without_a_word() -> None:
    pair = Pair.established()
    pair.alice.send(pair.alice.open_stream(0.0), b"x" * 100)
    pair.exchange()
    with pytest.raises(NoiseDecryptionFailed):
        pair.bob.receive_data(b"\x00\x20" + bytes(32), 0.0)
    assert pair.bob.data_to_send() == []
    closed(pair.bob)


def test_a_yamux_violation_is_told_to_the_peer() -> None:
    pair = Pair.established()
    pair.alice.send(pair.alice.open_stream(0.0), b"x" * 100)
    pair.exchange()
    assert pair.alice._ciphers is not None
    bad = pair.alice._ciphers.encrypt([HEADER.pack(0, 0, 0, 77, 0)])[0]
    with pytest.raises(UnknownStream):
        pair.bob.receive_data(bad, 0.0)
    (farewell,) = pair.bob.data_to_send()
    assert pair.alice.receive_data(farewell, 0.0) == [GoneAway(1)]
    closed(pair.bob)


@given(st.binary(min_size=1, max_size=200), st.booleans())
def test_any_yamux_bytes_in_a_sound_channel(data: bytes, to_bob: bool) -> None:
    pair = Pair.established()
    sender, receiver = (pair.alice, pair.bob) if to_bob else (pair.bob, pair.alice)
    assert sender._ciphers is not None
    try:
        receiver.receive_data(sender._ciphers.encrypt([data])[0], 0.0)
    except YamuxError as error:
        known(error)
        closed(receiver)


def test_a_silent_peer_is_given_up() -> None:
    pair = Pair.established()
    pair.alice.handle_timer(30.0)
    assert pair.alice.data_to_send()
    with pytest.raises(KeepAliveTimeout):
        pair.alice.handle_timer(40.0)
    closed(pair.alice)


def test_an_abort_in_every_phase() -> None:
    for steps in range(5):
        pair = Pair(bob=NoiseStatic(BOB, muxers=()))
        order = ((pair.alice, pair.bob), (pair.bob, pair.alice)) * 2
        for sender, receiver in order[:steps]:
            receiver.receive_data(b"".join(sender.data_to_send()), 0.0)
        for connection in (pair.alice, pair.bob):
            connection.abort()
            assert connection.data_to_send() == []
            closed(connection)


def test_nonces_run_out_once() -> None:
    pair = Pair.established()
    assert pair.alice._ciphers is not None
    pair.alice._ciphers._send_nonce = 2**64 - 1
    pair.alice.send(pair.alice.open_stream(0.0), b"x")
    with pytest.raises(NonceExhausted):
        pair.alice.data_to_send()
    closed(pair.alice)


def test_two_initiators_do_not_meet() -> None:
    alice, carol = (
        SecureConnection(is_initiator=True, static=STATIC[name], now=0.0) for name in ("alice", "carol")
    )
    with pytest.raises(RemoteProtocolError):
        alice.receive_data(b"".join(carol.data_to_send()), 0.0)
    closed(alice)


# What others rely on


def _all_errors(base: type[RemoteProtocolError]) -> set[type[RemoteProtocolError]]:
    return {base}.union(*(_all_errors(kind) for kind in base.__subclasses__()))


def test_the_codes_are_complete_and_distinct() -> None:
    elsewhere = ("wws.transport.quic", "wws.transport.tls")
    ours = [
        error
        for error in _all_errors(RemoteProtocolError)
        if error.__module__.startswith(wws.transport.__name__ + ".")
        and not error.__module__.startswith(elsewhere)
        and error is not YamuxError
    ]
    assert {error.code for error in ours} == CONNECTION_ERROR_CODES
    assert len({error.code for error in ours}) == len(ours)
    assert all(first is not second for first, second in pairwise(sorted(error.code for error in ours)))


def test_a_static_key_is_made_once_and_shared() -> None:
    static = STATIC["alice"]
    payload = static.payload
    for _ in range(2):
        NoiseHandshake(is_initiator=True, static=static)
    assert static.payload is payload
