"""QUIC connections as conversations on simulated time: handshake, streams, windows, ends, moves."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPreferredAddress
from aioquic.quic.packet_builder import QuicPacketBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from wws.identity.keys import Identity
from wws.mesh.bans import OFFENCES
from wws.testing.quic_link import ALICE_AT, BOB_AT, TOKENS, UNIX_START, QuicLink, credentials_of
from wws.testing.scale import scale
from wws.transport.muxed import (
    ConnectionClosed,
    DataReceived,
    Established,
    Phase,
    PongReceived,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamRefused,
    StreamReset,
    WindowOpened,
)
from wws.transport.noise import PeerIdMismatch
from wws.transport.quic.config import DEFAULT_CONFIG, QuicConfig
from wws.transport.quic.engine import Address, Engine
from wws.transport.quic.machine import (
    QuicHandshakeTimeout,
    QuicIdleTimeout,
    QuicMachine,
    QuicViolation,
)
from wws.transport.tls import ALPN, CertificateInvalid, make_certificate

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
CAROL = Identity.from_label("carol").peer_id

SMALL = QuicConfig(stream_window=8192, connection_window=16384, stream_buffer=8192, connection_buffer=16384)


def send_all(link: QuicLink, sender: str, stream_id: int, data: bytes) -> None:
    """Write `data` as windows open, and let it arrive."""
    machine = link.alice if sender == "alice" else link.answering()
    receiver = "bob" if sender == "alice" else "alice"
    expected = len(link.taken(receiver, stream_id)) + len(data)
    rest = data
    while rest:
        accepted = machine.send(stream_id, rest)
        rest = rest[accepted:]
        if not accepted:
            link.events[sender].clear()
            link.run_until(lambda: WindowOpened(stream_id) in link.events[sender])
    link.run_until(lambda: len(link.taken(receiver, stream_id)) >= expected)


# Handshake


def test_both_prove_who_they_are() -> None:
    link = QuicLink.established()
    alice, bob = link.alice, link.answering()
    assert (alice.remote_peer, bob.remote_peer) == (BOB, ALICE)
    assert link.events["alice"][0] == Established(BOB)
    assert link.events["bob"][0] == Established(ALICE)
    assert alice.phase is bob.phase is Phase.ESTABLISHED
    assert alice.remote_address == BOB_AT
    assert bob.remote_address == ALICE_AT


def test_a_handshake_takes_one_round_trip() -> None:
    link = QuicLink.between()
    link.latency = 0.5
    link.run_until(lambda: link.alice.phase is Phase.ESTABLISHED)
    assert link.now < 1.1
    link.run_until(lambda: link.both is not None)
    assert link.now < 1.6


def test_who_is_not_the_expected_peer_is_left_at_once() -> None:
    link = QuicLink.between(expected=CAROL)
    link.run_until(lambda: "alice" in link.errors and "bob" not in link.errors)
    error = link.errors["alice"]
    assert isinstance(error, PeerIdMismatch)
    assert (error.expected, error.found) == (CAROL, BOB)
    link.run(1.0)
    bob = link.answering()
    assert bob.phase is Phase.CLOSED
    assert bob.ending is not None
    assert bob.ending.by_peer
    assert bob.remote_peer is None


def test_a_lossy_path_only_costs_time() -> None:
    for seed in range(scale(40, least=6)):
        link = QuicLink.between()
        link.rng = random.Random(seed)
        link.loss = 0.2
        link.run_until(lambda link=link: link.both is not None and link.alice.phase is Phase.ESTABLISHED)
        stream_id = link.alice.open_stream(link.now)
        send_all(link, "alice", stream_id, bytes(range(256)) * 200)
        assert link.taken("bob", stream_id) == bytes(range(256)) * 200


def test_silence_in_the_handshake_has_an_end() -> None:
    link = QuicLink.between()
    link.loss = 1.0
    link.run(60.0)
    assert isinstance(link.errors["alice"], QuicHandshakeTimeout)
    assert link.alice.next_wakeup() is None


def test_who_answers_without_finishing_is_left() -> None:
    """Bob hears the first flight only: his handshake ends by itself."""
    link = QuicLink.between()
    link.run_until(lambda: link.bob is not None)
    link.loss = 1.0
    link.run(60.0)
    assert isinstance(link.errors["bob"], QuicHandshakeTimeout)


def foreign_client(**settings_of: object) -> QuicConnection:
    configuration = QuicConfiguration(is_client=True, verify_mode=0, supported_versions=[1], **settings_of)  # type: ignore[arg-type]
    return QuicConnection(configuration=configuration)


def answer_to(client: QuicConnection, *, config: QuicConfig = DEFAULT_CONFIG) -> QuicMachine:
    """Let a client of plain aioquic talk to a machine of ours; what became of the machine."""
    client.connect(BOB_AT, 0.0)
    first = client.datagrams_to_send(0.0)
    bob = QuicMachine(
        is_initiator=False,
        credentials=credentials_of("bob"),
        config=config,
        now=0.0,
        unix_now=UNIX_START,
        token_of=TOKENS.of,
        original_id=first[0][0][6 : 6 + first[0][0][5]],
    )
    waiting = first
    for turn in range(20):
        now = turn * 0.01
        try:
            bob.receive_datagrams([(data, ALICE_AT) for data, _ in waiting], now)
        except (CertificateInvalid, QuicViolation) as error:
            for data, _ in bob.datagrams_to_send(now):
                client.receive_datagram(data, BOB_AT, now)
            raise error
        for data, _ in bob.datagrams_to_send(now):
            client.receive_datagram(data, BOB_AT, now)
        waiting = client.datagrams_to_send(now)
    return bob


def test_an_aborted_connection_keeps_nothing_that_was_buffered() -> None:
    """Not even until the collector comes by: aioquic's connection refers to itself."""
    link = QuicLink.between()
    link.is_consuming = False
    link.run_until(lambda: link.alice.phase is Phase.ESTABLISHED)
    link.run_until(lambda: link.answering().phase is Phase.ESTABLISHED)
    machine = link.alice
    stream_id = machine.open_stream(link.now)
    machine.send(stream_id, bytes(500_000))
    machine.datagrams_to_send(link.now)  # some of it is on its way
    stream = machine._engine.stream(stream_id)
    assert stream is not None
    assert len(stream.sender._buffer) == machine.kept == 500_000
    machine.abort()
    assert len(stream.sender._buffer) == machine.kept == 0
    assert machine._engine.stream(stream_id) is None
    assert machine.datagrams_to_send(link.now) == []


def test_a_client_without_a_certificate_is_refused() -> None:
    client = foreign_client(alpn_protocols=[ALPN])
    with pytest.raises(CertificateInvalid, match="no certificate"):
        answer_to(client)
    assert client._close_event is not None
    assert client._close_event.error_code == 0x100 + 116  # certificate_required


def test_a_client_with_two_certificates_is_refused() -> None:
    certificate, key = make_certificate(Identity.from_label("alice"), UNIX_START)
    client = foreign_client(
        alpn_protocols=[ALPN], certificate=certificate, private_key=key, certificate_chain=[certificate]
    )
    with pytest.raises(CertificateInvalid, match="more than one"):
        answer_to(client)


def test_a_handshake_message_without_end_is_not_collected() -> None:
    certificate, key = make_certificate(Identity.from_label("alice"), UNIX_START)
    client = foreign_client(
        alpn_protocols=[ALPN], certificate=certificate, private_key=key, certificate_chain=[certificate] * 30
    )
    with pytest.raises(QuicViolation, match="too large"):
        answer_to(client, config=replace(DEFAULT_CONFIG, max_handshake_message=4096))


@pytest.mark.parametrize("protocols", [None, ["h3"], ["libp2p2", "h3"]])
def test_a_client_that_does_not_speak_libp2p_is_refused(protocols: list[str] | None) -> None:
    certificate, key = make_certificate(Identity.from_label("alice"), UNIX_START)
    client = foreign_client(alpn_protocols=protocols, certificate=certificate, private_key=key)
    with pytest.raises(QuicViolation):
        answer_to(client)


def test_no_session_is_ever_resumed() -> None:
    """A server of ours gives no tickets, and a client of ours would not take them."""
    certificate, key = make_certificate(Identity.from_label("alice"), UNIX_START)
    tickets: list[object] = []
    client = foreign_client(alpn_protocols=[ALPN], certificate=certificate, private_key=key)
    client._session_ticket_handler = tickets.append
    bob = answer_to(client)
    assert bob.phase is Phase.ESTABLISHED
    assert tickets == []


# Streams


def test_streams_both_ways_carry_bytes_and_ends() -> None:
    link = QuicLink.established()
    for sender, receiver, machine in (("alice", "bob", link.alice), ("bob", "alice", link.answering())):
        stream_id = machine.open_stream(link.now)
        assert machine.send(stream_id, b"hello") == 5
        machine.close_stream(stream_id)
        link.run_until(lambda r=receiver, s=stream_id: StreamEnded(s) in link.events[r])
        heard = [e for e in link.events[receiver] if getattr(e, "stream_id", None) == stream_id]
        assert heard == [StreamOpened(stream_id), DataReceived(stream_id, b"hello"), StreamEnded(stream_id)]
        other = link.answering() if sender == "alice" else link.alice
        other.send(stream_id, b"world")
        other.close_stream(stream_id)
        link.run_until(lambda s=stream_id, n=sender: StreamEnded(s) in link.events[n])
        assert link.taken(sender, stream_id) == b"world"
    link.run(1.0)
    assert link.alice.open_streams == link.answering().open_streams == 0
    assert link.alice.buffered_to_send == link.answering().buffered_to_send == 0
    assert link.alice.all_acknowledged


def test_opening_says_nothing_before_the_first_byte() -> None:
    link = QuicLink.established()
    before = link.carried["alice"]
    stream_id = link.alice.open_stream(link.now)
    link.run(0.1)
    assert link.carried["alice"] == before
    link.alice.close_stream(stream_id)
    link.run_until(lambda: StreamEnded(stream_id) in link.events["bob"])


def test_a_reset_ends_both_directions_on_both_sides() -> None:
    link = QuicLink.established()
    stream_id = link.alice.open_stream(link.now)
    link.alice.send(stream_id, b"x" * 1000)
    link.run_until(lambda: len(link.taken("bob", stream_id)) == 1000)
    link.alice.reset_stream(stream_id)
    link.alice.reset_stream(stream_id)
    with pytest.raises(StreamClosed):
        link.alice.send(stream_id, b"more")
    assert link.alice.send_capacity(stream_id) == 0
    link.run_until(lambda: StreamReset(stream_id) in link.events["bob"])
    with pytest.raises(StreamClosed):
        link.answering().send(stream_id, b"more")
    link.run(1.0)
    assert link.alice.open_streams == link.answering().open_streams == 0
    assert StreamReset(stream_id) not in link.events["alice"]


def test_stop_sending_swallows_an_answer_and_then_says_so() -> None:
    """What go and rust send when they close a stream for reading."""
    link = QuicLink.established(bob_config=replace(DEFAULT_CONFIG, discarded_after_stop=100))
    stream_id = link.alice.open_stream(link.now)
    link.alice.send(stream_id, b"question")
    link.alice._engine.stop_stream(stream_id, 0)
    link.alice.close_stream(stream_id)
    link.run_until(lambda: StreamEnded(stream_id) in link.events["bob"])
    bob = link.answering()
    assert bob.send_capacity(stream_id) == 100
    assert bob.send(stream_id, b"a" * 60) == 60
    assert bob.send(stream_id, b"a" * 60) == 60
    with pytest.raises(StreamClosed, match="does not read"):
        bob.send(stream_id, b"a")
    bob.close_stream(stream_id)
    link.run(1.0)
    assert bob.open_streams == 0
    assert "bob" not in link.errors


def test_a_writer_that_waits_hears_of_stop_sending() -> None:
    link = QuicLink.established(alice_config=SMALL, bob_config=SMALL)
    link.is_consuming = False
    bob = link.answering()
    stream_id = bob.open_stream(link.now)
    while bob.send(stream_id, bytes(4096)):
        link.run(0.1)
    link.alice._engine.stop_stream(stream_id, 0)
    link.run_until(lambda: WindowOpened(stream_id) in link.events["bob"])


def test_more_streams_than_allowed_are_refused_and_slots_come_back() -> None:
    config = replace(DEFAULT_CONFIG, max_inbound_streams=4)
    link = QuicLink.established(bob_config=config)
    bob = link.answering()
    for _ in range(scale(50, least=5)):
        opened = [link.alice.open_stream(link.now) for _ in range(4)]
        with pytest.raises(StreamRefused):
            link.alice.open_stream(link.now)
        for stream_id in opened:
            link.alice.send(stream_id, b"x")
            link.alice.close_stream(stream_id)
        link.run_until(lambda: bob.open_streams == 4)
        for stream_id in opened:
            bob.close_stream(stream_id)
        link.run_until(lambda: link.alice.open_streams == 0)
        link.run(1.0)
    assert bob.open_streams == 0


def test_a_slot_is_held_while_something_is_unread() -> None:
    link = QuicLink.established(bob_config=replace(DEFAULT_CONFIG, max_inbound_streams=1))
    link.is_consuming = False
    bob = link.answering()
    stream_id = link.alice.open_stream(link.now)
    link.alice.send(stream_id, b"unread")
    link.alice.close_stream(stream_id)
    link.run_until(lambda: bob.unread == 6)
    bob.close_stream(stream_id)
    link.run(2.0)
    assert bob.open_streams == 1
    with pytest.raises(StreamRefused):
        link.alice.open_stream(link.now)
    bob.consumed(stream_id, 6, link.now)
    assert bob.open_streams == bob.unread == 0
    link.run(1.0)
    link.alice.open_stream(link.now)


def test_our_own_streams_have_a_limit() -> None:
    link = QuicLink.established(alice_config=replace(DEFAULT_CONFIG, max_outbound_streams=3))
    for _ in range(3):
        link.alice.open_stream(link.now)
    with pytest.raises(StreamRefused):
        link.alice.open_stream(link.now)


# Flow control


def test_the_peer_gets_no_more_than_a_window_ahead_of_the_reader() -> None:
    link = QuicLink.established(bob_config=SMALL)
    link.is_consuming = False
    stream_id = link.alice.open_stream(link.now)
    link.alice.send(stream_id, bytes(200_000))
    link.run(5.0)
    bob = link.answering()
    assert bob.unread == SMALL.stream_window
    bob.consumed(stream_id, 5000, link.now)
    link.run(5.0)
    assert bob.unread == SMALL.stream_window
    bob.consumed(stream_id, 1, link.now)  # too little to be worth a frame
    link.run(5.0)
    assert bob.unread == SMALL.stream_window - 1


def test_all_streams_together_get_no_more_than_the_connection_window() -> None:
    link = QuicLink.established(bob_config=SMALL)
    link.is_consuming = False
    streams = [link.alice.open_stream(link.now) for _ in range(5)]
    for stream_id in streams:
        link.alice.send(stream_id, bytes(100_000))
    link.run(5.0)
    bob = link.answering()
    assert bob.unread == SMALL.connection_window
    for stream_id in streams[:2]:
        link.alice.reset_stream(stream_id)
    link.run(5.0)  # what was unread of them is given back
    assert bob.unread == SMALL.connection_window


def test_windows_follow_for_as_long_as_it_takes() -> None:
    link = QuicLink.established(alice_config=SMALL, bob_config=SMALL)
    link.latency = 0.001
    stream_id = link.alice.open_stream(link.now)
    data = random.Random(7).randbytes(scale(2_000_000, least=300_000))
    send_all(link, "alice", stream_id, data)
    assert link.taken("bob", stream_id) == data


def test_resets_give_their_window_back() -> None:
    """Many streams that are given up in the middle, by either side, must not use the connection up."""
    link = QuicLink.established(bob_config=SMALL)
    link.is_consuming = False
    for turn in range(scale(60, least=12)):
        stream_id = link.alice.open_stream(link.now)
        link.alice.send(stream_id, bytes(8000))
        link.run_until(lambda: link.answering().unread > 0)
        if turn % 2:
            link.alice.reset_stream(stream_id)
        else:
            link.answering().reset_stream(stream_id)
        link.run(0.5)
        assert link.answering().unread == 0
        assert link.alice.open_streams == link.answering().open_streams == 0


def test_what_is_sent_is_bounded_and_says_when_there_is_room() -> None:
    link = QuicLink.established(alice_config=SMALL)
    stream_id = link.alice.open_stream(link.now)
    other = link.alice.open_stream(link.now)
    third = link.alice.open_stream(link.now)
    assert link.alice.send(stream_id, bytes(20_000)) == SMALL.stream_buffer
    assert link.alice.send_capacity(stream_id) == 0
    assert link.alice.send(other, bytes(20_000)) == SMALL.connection_buffer - SMALL.stream_buffer
    assert link.alice.send(third, b"x") == 0
    assert link.alice.buffered_to_send == SMALL.connection_buffer
    link.run_until(lambda: {WindowOpened(s) for s in (stream_id, other, third)} <= {*link.events["alice"]})
    link.run(1.0)
    assert link.alice.buffered_to_send == 0
    assert link.alice.send_capacity(third) == SMALL.stream_buffer


# Time


def test_a_ping_measures_the_round_trip() -> None:
    link = QuicLink.between()
    link.latency = 0.05
    link.run_until(lambda: link.both is not None)
    link.run(1.0)
    token = link.alice.ping(link.now)
    assert link.alice.ping(link.now) == token  # joined
    link.run_until(lambda: any(isinstance(e, PongReceived) for e in link.events["alice"]))
    [pong] = [e for e in link.events["alice"] if isinstance(e, PongReceived)]
    assert pong.token == token
    assert 0.1 <= pong.round_trip < 0.13
    assert link.alice.ping(link.now) != token


def test_an_idle_connection_lives_by_few_datagrams() -> None:
    link = QuicLink.established()
    before = dict(link.carried)
    link.run(3600.0)
    assert link.alice.phase is link.answering().phase is Phase.ESTABLISHED
    for who in ("alice", "bob"):
        assert link.carried[who] - before[who] < 3600 / 15 * 100
    assert not any(isinstance(e, PongReceived) for e in link.events["alice"])


def test_a_silent_peer_is_lost_after_the_idle_timeout() -> None:
    link = QuicLink.established()
    start = link.now
    link.loss = 1.0
    link.run_until(lambda: len(link.errors) == 2, within=120.0)
    assert isinstance(link.errors["alice"], QuicIdleTimeout)
    assert isinstance(link.errors["bob"], QuicIdleTimeout)
    assert link.now - start <= 70.0
    assert link.alice.phase is Phase.CLOSED


def test_who_gets_no_answer_does_not_wait_for_the_idle_timeout() -> None:
    link = QuicLink.established()
    stream_id = link.alice.open_stream(link.now)
    link.alice.send(stream_id, b"are you there?")
    start = link.now
    link.loss = 1.0
    link.run_until(lambda: "alice" in link.errors)
    assert isinstance(link.errors["alice"], QuicIdleTimeout)
    assert 10.0 <= link.now - start < 12.0
    assert link.answering().phase is Phase.ESTABLISHED  # he has asked for nothing


def test_an_outage_that_is_shorter_is_survived() -> None:
    link = QuicLink.established()
    stream_id = link.alice.open_stream(link.now)
    for said in (b"once", b"again"):
        link.alice.send(stream_id, said)
        link.loss = 1.0
        link.run(5.0)
        link.loss = 0.0
        link.run_until(lambda: link.alice.all_acknowledged)
    link.run(60.0)
    assert link.taken("bob", stream_id) == b"onceagain"
    assert not link.errors


# Ends


def test_a_close_is_heard_with_all_that_was_said_before() -> None:
    link = QuicLink.established()
    stream_id = link.alice.open_stream(link.now)
    link.alice.send(stream_id, b"last words")
    link.run_until(lambda: link.alice.all_acknowledged)
    link.alice.go_away()
    with pytest.raises(StreamRefused):
        link.alice.open_stream(link.now)
    link.alice.close("leaving")
    link.alice.close("leaving")
    assert link.alice.phase is Phase.CLOSED
    link.run(1.0)
    bob = link.answering()
    assert link.taken("bob", stream_id) == b"last words"
    assert bob.phase is Phase.CLOSED
    assert bob.ending is not None
    assert (bob.ending.code, bob.ending.reason, bob.ending.by_peer) == (0, "leaving", True)
    assert "bob" not in link.errors


def test_a_reason_is_shortened_and_cannot_speak_to_terminals() -> None:
    link = QuicLink.established()
    link.alice.close("\x1b[2J" + "x" * 500)
    link.run(1.0)
    ending = link.answering().ending
    assert ending is not None
    assert ending.reason == "[2J" + "x" * 116


def test_a_server_cannot_send_us_to_another_address() -> None:
    link = QuicLink.between()
    link.run_until(lambda: link.both is not None)
    engine = link.alice._engine
    engine._remote_preferred_address = QuicPreferredAddress(
        ipv4_address=("198.51.100.9", 99),
        ipv6_address=None,
        connection_id=b"8 bytes!",
        stateless_reset_token=bytes(16),
    )
    link.alice.ping(link.now)
    assert {target for _, target in link.alice.datagrams_to_send(link.now)} == {BOB_AT}
    link.run(1.0)
    assert len(engine._network_paths) == 1


def test_everything_after_the_end_is_refused_or_nothing() -> None:
    link = QuicLink.established()
    stream_id = link.alice.open_stream(link.now)
    link.alice.abort()
    link.alice.abort()
    for call in (
        lambda: link.alice.open_stream(link.now),
        lambda: link.alice.ping(link.now),
    ):
        with pytest.raises(ConnectionClosed):
            call()
    for call in (lambda: link.alice.send(stream_id, b"x"), lambda: link.alice.close_stream(stream_id)):
        with pytest.raises(StreamClosed):
            call()
    link.alice.reset_stream(stream_id)
    link.alice.consumed(stream_id, 1, link.now)
    assert link.alice.send_capacity(stream_id) == link.alice.open_streams == link.alice.unread == 0
    assert link.alice.next_wakeup() is None
    assert link.alice.handle_timer(link.now) == []
    assert link.alice.receive_datagrams([(b"\x40" + bytes(30), BOB_AT)], link.now) == []


def test_nothing_can_be_opened_before_the_peer_is_known() -> None:
    link = QuicLink.between()
    with pytest.raises(ConnectionClosed):
        link.alice.open_stream(0.0)
    with pytest.raises(ConnectionClosed):
        link.alice.ping(0.0)


# Sizes of datagrams


def upload_over(link: QuicLink, size: int) -> None:
    stream_id = link.alice.open_stream(link.now)
    send_all(link, "alice", stream_id, bytes(size))


@pytest.mark.parametrize(
    "carried, found", [(9000, 1452), (1452, 1452), (1451, 1326), (1326, 1326), (1300, 1200)]
)
def test_the_largest_datagram_that_the_path_carries(carried: int, found: int) -> None:
    link = QuicLink.established()
    link.tamper = lambda datagram: datagram if len(datagram) <= carried else None
    for _ in range(4):
        upload_over(link, 400_000)
    assert link.alice._engine._path_mtu.size == found
    assert link.answering()._engine._path_mtu.size == 1200  # had little to say


def test_looking_for_the_size_is_no_congestion() -> None:
    link = QuicLink.established()
    link.tamper = lambda datagram: datagram if len(datagram) <= 1200 else None
    upload_over(link, 600_000)
    assert link.alice._engine._loss._cc.ssthresh is None


def test_a_path_that_shrinks_is_noticed() -> None:
    link = QuicLink.established()
    upload_over(link, 400_000)
    assert link.alice._engine._path_mtu.size == 1452
    link.tamper = lambda datagram: datagram if len(datagram) <= 1250 else None
    upload_over(link, 400_000)
    assert link.alice._engine._path_mtu.size == 1200


def test_another_path_is_looked_at_anew() -> None:
    link = QuicLink.established()
    answer = link.answering().open_stream(link.now)
    send_all(link, "bob", answer, bytes(400_000))
    assert link.answering()._engine._path_mtu.size == 1452
    link.alice_at = ("192.0.2.1", 999)
    link.tamper = lambda datagram: datagram if len(datagram) <= 1200 else None
    link.alice.ping(link.now)
    send_all(link, "bob", answer, bytes(400_000))
    assert link.answering()._engine._path_mtu.size == 1200


def test_who_says_little_does_not_look() -> None:
    link = QuicLink.established()
    link.run(600.0)
    assert link.alice._engine._path_mtu.size == 1200


# Moves


def test_a_peer_behind_a_nat_that_forgets_goes_on() -> None:
    """Alice's datagrams come from another port in the middle of an upload (RFC 9000, section 9.3.3)."""
    link = QuicLink.established()
    stream_id = link.alice.open_stream(link.now)
    data = random.Random(3).randbytes(400_000)
    link.alice.send(stream_id, data)
    link.run_until(lambda: len(link.taken("bob", stream_id)) > 50_000)
    link.alice_at = ("192.0.2.1", 4321)
    link.run_until(lambda: len(link.taken("bob", stream_id)) == len(data))
    assert link.taken("bob", stream_id) == data
    bob = link.answering()
    assert bob.remote_address == ("192.0.2.1", 4321)
    answer = bob.open_stream(link.now)
    bob.send(answer, b"still there")
    link.run_until(lambda: link.taken("alice", answer) == b"still there")


def test_an_address_counts_once_it_is_shown() -> None:
    """One datagram in another's name must not make that other the peer's address."""
    link = QuicLink.established()
    bob = link.answering()
    assert bob.proven_address == ALICE_AT
    link.alice.ping(link.now)
    [(datagram, _)] = link.alice.datagrams_to_send(link.now)
    bob.receive_datagrams([(datagram, ("198.51.100.7", 7))], link.now)
    assert bob.proven_address is None
    link.run(30.0)  # alice herself goes on from where she was
    assert bob.phase is Phase.ESTABLISHED
    assert bob.proven_address == ALICE_AT


def test_keys_are_changed_before_they_are_used_up() -> None:
    link = QuicLink.established()
    link.alice._engine._keys_until = link.alice._engine._packet_number + 20
    phase = link.answering()._engine._cryptos[tls.Epoch.ONE_RTT].key_phase
    upload_over(link, 300_000)
    assert link.answering()._engine._cryptos[tls.Epoch.ONE_RTT].key_phase != phase
    assert link.alice._engine._keys_until > 1 << 22


def test_moving_again_and_again_uses_nothing_up() -> None:
    link = QuicLink.established()
    for port in range(2000, 2000 + scale(200, least=20)):
        link.alice_at = ("192.0.2.1", port)
        link.alice.ping(link.now)
        link.events["alice"].clear()
        link.run_until(lambda: any(isinstance(e, PongReceived) for e in link.events["alice"]))
        link.run(2.0)
    bob = link.answering()
    assert len(bob._engine._network_paths) <= 8
    assert len(bob._engine._host_cids) <= DEFAULT_CONFIG.active_connection_ids


def test_connection_ids_are_few_and_reported() -> None:
    link = QuicLink.established()
    bob = link.answering()
    known = {*bob.issued} - {*bob.retired}
    assert {connection_id.cid for connection_id in bob._engine._host_cids} == known
    assert len(known) <= DEFAULT_CONFIG.active_connection_ids


# Hostile datagrams


def test_amplification_stays_below_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the peer has shown that it is where it says, it gets at most thrice what it sent."""
    link = QuicLink.between()
    link.run_until(lambda: link.bob is not None)
    link.loss = 1.0
    sent = link.carried["alice"]
    link.alice.abort()  # says nothing more
    link.run(9.0)
    assert 0 < link.carried["bob"] <= 3 * sent


@given(st.data())
def test_flipped_bits_in_a_handshake_end_nothing_but_it(data: st.DataObject) -> None:
    link = QuicLink.between()
    victim = data.draw(st.integers(0, 6))
    count = 0

    def flip(datagram: bytes) -> bytes:
        nonlocal count
        count += 1
        if count != victim + 1:
            return datagram
        bit = data.draw(st.integers(0, len(datagram) * 8 - 1))
        changed = bytearray(datagram)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    link.tamper = flip
    link.run(5.0)
    for machine, peer in ((link.alice, BOB), (link.bob, ALICE)):
        assert machine is None or machine.remote_peer in (None, peer)


@given(st.lists(st.binary(max_size=1500), max_size=5), st.booleans())
def test_garbage_is_dropped(garbage: list[bytes], established: bool) -> None:
    link = QuicLink.established() if established else QuicLink.between()
    for machine, origin in ((link.alice, BOB_AT), (link.bob, ALICE_AT)):
        if machine is not None:
            prefix = b"\x40" + machine._engine.host_cid
            datagrams = [(data, origin) for data in garbage] + [(prefix + data, origin) for data in garbage]
            assert machine.receive_datagrams(datagrams, link.now) == []
    link.run_until(lambda: link.both is not None and link.alice.phase is Phase.ESTABLISHED)


class Liar(Engine):
    """A client that proves who it is and then sends whatever frames it likes."""

    frames: bytes = b""

    def _write_connection_limits(self, builder: object, space: object) -> None:
        if self.frames:
            frames, self.frames = self.frames, b""
            buffer: Buffer = builder.start_frame(frames[0], capacity=len(frames))  # type: ignore[attr-defined]
            buffer.push_bytes(frames[1:])


def lying_link(frames: bytes) -> QuicLink:
    link = QuicLink.established()
    link.alice._engine.__class__ = Liar
    link.alice._engine.frames = frames  # type: ignore[attr-defined]
    link.run(2.0)
    return link


@pytest.mark.parametrize(
    "frames",
    [
        bytes.fromhex("0a 02 01 78"),  # data on a unidirectional stream: none are allowed
        bytes.fromhex("0a 01 01 78"),  # on a stream that bob would have to open
        bytes.fromhex("0a 5000 01 78"),  # on more streams than allowed
        bytes.fromhex("0e 00 8fffffff 01 78"),  # beyond every window
        bytes.fromhex("04 00 00 8fffffff"),  # a reset that claims as much
        bytes.fromhex("18 05 04 00") + bytes(16),  # a connection id without length
        bytes.fromhex("18 02 03 04 01020304") + bytes(16),  # retires what it does not yet have
        bytes.fromhex("18 07 07 04 01020304") + bytes(16),
        bytes.fromhex("19 40"),
        bytes.fromhex("1e"),  # the word that only servers say
        bytes.fromhex("07 01 00"),
        bytes.fromhex("31 01 00"),  # a datagram: not agreed on
        bytes.fromhex("21"),
        bytes.fromhex("06 00 04 01000000"),  # TLS after the handshake
        bytes.fromhex("02 40ff 00 40ff 00"),
    ],
)
def test_frames_that_break_a_rule_end_the_connection_only(frames: bytes) -> None:
    link = lying_link(frames)
    bob = link.answering()
    assert bob.phase is Phase.CLOSED or bob.phase is Phase.ESTABLISHED
    if bob.phase is Phase.CLOSED:
        assert link.errors["bob"].code in ("quic_violation", "quic_fault")


def test_what_comes_ahead_of_its_turn_counts_as_waiting() -> None:
    """One byte at the end of a window makes aioquic keep the whole of it."""
    link = lying_link(bytes.fromhex("0e 00 800ffff0 01 78"))
    assert link.answering().unread == 0xFFFF0 + 1
    link.alice.reset_stream(0)


def test_every_other_byte_of_a_window_is_too_much() -> None:
    link = QuicLink.established()
    link.alice._engine.__class__ = Liar
    for start in range(0, 12_000, 120):
        frames = b"".join(
            bytes([0x0E, 0]) + (0x8000_0001 + at).to_bytes(4) + b"\x01x"
            for at in range(start, start + 120, 2)
        )
        link.alice._engine.frames = frames  # type: ignore[attr-defined]
        link.run(0.1)
    assert link.errors["bob"].code == "quic_fragmented"  # which loss on the way may be, too
    assert OFFENCES["quic_fragmented"] is None
    assert "4096 pieces" in str(link.errors["bob"])


def test_a_handshake_byte_far_ahead_is_refused() -> None:
    link = lying_link(bytes.fromhex("06 80010000 01 78"))
    assert "too large" in str(link.errors["bob"])


@settings(max_examples=scale(400, least=40))
@given(st.integers(1, 0x1E), st.binary(max_size=60))
def test_any_frames_end_the_connection_at_most(kind: int, body: bytes) -> None:
    link = lying_link(bytes([kind]) + body)
    bob = link.answering()
    assert bob.unread <= DEFAULT_CONFIG.connection_window
    if "bob" in link.errors:
        assert link.errors["bob"].code in ("quic_violation", "quic_fault")


def test_an_answer_to_a_challenge_that_gets_lost_is_asked_for_again() -> None:
    """aioquic asks again only when the question is lost. It gives the new address up then, and goes back to
    the old one, where nobody hears it: a peer that has nothing more to say would never learn of that."""
    link = QuicLink.established()
    bob = link.answering()
    moved: Address = ("192.0.2.77", 4077)
    answer = link.alice._engine._write_path_response_frame
    lost: list[int] = []
    is_next = [False]

    def answer_once(builder: QuicPacketBuilder, challenge: bytes) -> None:
        answer(builder=builder, challenge=challenge)
        is_next[0] = not lost

    def lose_the_answer(data: bytes) -> bytes | None:
        if not is_next[0]:
            return data
        is_next[0] = False
        lost.append(len(data))
        return None

    link.alice._engine._write_path_response_frame = answer_once  # type: ignore[method-assign]
    link.tamper = lose_the_answer
    link.alice_at = moved
    link.alice.send(link.alice.open_stream(link.now), bytes(8000))  # thrice that may be answered
    link.run_until(lambda: bool(lost))
    bob.ping(link.now)  # whose acknowledgement says that the question has arrived, too
    link.run(5.0)
    assert bob.proven_address == moved
