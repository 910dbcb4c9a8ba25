"""Hole punching in virtual time: one side, both sides together, and every event in every state."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.identity.keys import Identity
from wws.machine import Command, Event
from wws.nat.dcutr import Here, HolePunch, Targets, Type
from wws.nat.punch_budget import PunchBudget, PunchBudgetConfig
from wws.nat.punch_events import (
    AddressesChanged,
    CircuitClosed,
    CircuitOpened,
    CloseExchange,
    CountRefusal,
    DialDirect,
    DialEnded,
    DirectEstablished,
    DirectLost,
    ExchangeFailed,
    ExchangeOpened,
    Identified,
    MessageReceived,
    Punch,
    Report,
    Result,
    SendConnect,
    SendDatagram,
    SendSync,
    Stop,
    TimerFired,
    Yielded,
)
from wws.nat.punch_initiator import Initiator
from wws.nat.punch_receiver import Receiver
from wws.nat.punching import HolePunchConfig, State

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
CONFIG = HolePunchConfig()

A_TCP, A_UDP = map(Multiaddr.parse, ("/ip4/198.51.100.7/tcp/4001", "/ip4/198.51.100.7/udp/4001/quic-v1"))
B_TCP, B_UDP = map(Multiaddr.parse, ("/ip4/203.0.113.5/tcp/9000", "/ip4/203.0.113.5/udp/9000/quic-v1"))
A_LAN, B_LAN = map(Multiaddr.parse, ("/ip4/192.168.1.7/tcp/4001", "/ip4/192.168.1.5/tcp/9000"))
AT_ALICE = Here((A_UDP, A_TCP), (A_LAN,), frozenset({"198.51.100.7"}))
AT_BOB = Here((B_UDP, B_TCP), (B_LAN,), frozenset({"203.0.113.5"}))
CONNECT = HolePunch(Type.CONNECT, (A_UDP, A_TCP))
SYNC = HolePunch(Type.SYNC)
FOR_BOB = HolePunch(Type.CONNECT, AT_BOB.observed)


def budget(**limits: float) -> PunchBudget:
    return PunchBudget(PunchBudgetConfig(**limits), 0.0)  # type: ignore[arg-type]


def initiator(config: HolePunchConfig = CONFIG, bounds: PunchBudget | None = None) -> Initiator:
    """Bob, to whom alice has come over a circuit."""
    return Initiator(ALICE, config, bounds or budget(), random.Random(1), 0.0)


def receiver(config: HolePunchConfig = CONFIG, bounds: PunchBudget | None = None) -> Receiver:
    """Alice, who has come to bob over a circuit."""
    return Receiver(BOB, config, bounds or budget(), random.Random(1), 0.0)


class Bob:
    """An initiator with its place, in brief."""

    def __init__(self, config: HolePunchConfig = CONFIG, bounds: PunchBudget | None = None) -> None:
        self.here = AT_BOB
        self.machine = initiator(config, bounds)

    def __call__(self, event: Event, now: float) -> list[Command]:
        return self.machine.handle(event, now, self.here)

    def timer(self) -> tuple[float, list[Command]]:
        at = self.machine.next_wakeup()
        assert at is not None
        return at, self(TimerFired(), at)

    def until(self, kind: type[Command]) -> tuple[float, Command]:
        """Let the timer fire until a command of this kind comes."""
        for _ in range(2000):
            at, commands = self.timer()
            for command in commands:
                if isinstance(command, kind):
                    return at, command
        raise AssertionError(f"no {kind.__name__} comes")


class Alice(Bob):
    """A receiver with its place."""

    def __init__(self, config: HolePunchConfig = CONFIG, bounds: PunchBudget | None = None) -> None:
        self.here = AT_ALICE
        self.machine = receiver(config, bounds)  # type: ignore[assignment]


def punching() -> tuple[Bob, Punch]:
    """Bob in the midst of his first punch, begun at 1.3."""
    bob = Bob()
    [sent] = bob(Identified((), speaks=True), 1.0)
    assert isinstance(sent, SendConnect)
    assert bob(MessageReceived(sent.exchange, CONNECT), 1.2) == [SendSync(sent.exchange)]
    _, commands = bob.timer()
    punch = commands[0]
    assert isinstance(punch, Punch)
    return bob, punch


# The side that accepted the circuit


def test_bob_punches_half_a_round_trip_after_the_sync() -> None:
    bob = Bob()
    assert bob(Identified((), speaks=True), 1.0) == [SendConnect(2, FOR_BOB)]
    assert bob(MessageReceived(2, CONNECT), 1.2) == [SendSync(2)]
    assert bob.machine.next_wakeup() == pytest.approx(1.3)
    assert bob(TimerFired(), 1.25) == []
    at, commands = bob.timer()
    assert at == pytest.approx(1.3)
    # Over TCP as the server, over QUIC only by datagrams.
    assert commands == [Punch((A_UDP, A_TCP), (), False, at + 5), SendDatagram(A_UDP)]
    assert bob(DirectEstablished("quic-v1"), 1.5) == [Stop(), Report(Result.FIRST, "quic-v1")]
    assert bob.machine.state is State.DIRECT
    assert bob.machine.next_wakeup() is None
    assert bob.machine.reason == ""


def test_datagrams_follow_10_to_200_ms_apart_and_end_with_the_punch() -> None:
    bob, punch = punching()
    times = [1.3]
    while bob.machine.state is State.PUNCHING:
        at, commands = bob.timer()
        if SendDatagram(A_UDP) in commands:
            times.append(at)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(0.01 <= gap <= 0.2 + 1e-9 for gap in gaps)
    assert times[-1] <= punch.until


def test_who_can_be_dialled_is_dialled_first() -> None:
    bob = Bob()
    assert bob(Identified((A_UDP, A_TCP), speaks=True), 1.0) == [DialDirect(1, (A_UDP, A_TCP), 4.0)]
    assert bob(DirectEstablished("tcp"), 1.2) == [Stop(), Report(Result.REVERSED, "tcp")]


def test_when_that_dial_fails_bob_punches() -> None:
    bob = Bob()
    bob(Identified((A_UDP, A_TCP), speaks=True), 1.0)
    assert bob(DialEnded(1), 1.4) == [SendConnect(2, FOR_BOB)]


def test_a_dial_without_an_answer_is_given_up_after_three_seconds() -> None:
    bob = Bob()
    bob(Identified((A_TCP,), speaks=True), 1.0)
    assert bob.timer() == (4.0, [Stop(), SendConnect(2, FOR_BOB)])
    assert bob(DialEnded(1), 4.1) == []


def test_a_peer_that_can_be_dialled_need_not_speak_the_protocol() -> None:
    bob = Bob()
    assert bob(Identified((A_TCP,), speaks=False), 1.0) == [DialDirect(1, (A_TCP,), 4.0)]
    assert bob(DialEnded(1), 1.5) == [Report(Result.UNSUPPORTED)]
    assert bob.machine.reason == "the peer does not speak /libp2p/dcutr"


def test_three_attempts_each_with_its_own_round_trip_then_a_rest() -> None:
    bob = Bob()
    [sent] = bob(Identified((), speaks=True), 0.0)
    for attempt in range(3):
        assert isinstance(sent, SendConnect)
        now = bob.machine._sent_at
        rtt = 0.1 * (attempt + 1)
        bob(MessageReceived(sent.exchange, CONNECT), now + rtt)
        at, _ = bob.until(Punch)
        assert at == pytest.approx(now + rtt * 1.5)
        at, sent = bob.until(SendConnect) if attempt < 2 else bob.until(Report)
    assert sent == Report(Result.FAILED)
    assert bob.machine.reason == "3 attempts failed: nothing came through"
    assert bob.machine.is_settled
    wakeup = bob.machine.next_wakeup()
    assert wakeup is not None
    assert 24 <= wakeup - at <= 36


def test_rests_grow_up_to_ten_minutes() -> None:
    bob = Bob(replace(CONFIG, connect_timeout=0.1))
    bob(Identified((), speaks=True), 0.0)
    rests = []
    for _ in range(8):
        at, _ = bob.until(Report)
        wakeup = bob.machine.next_wakeup()
        assert wakeup is not None
        rests.append(wakeup - at)
    for rest, expected in zip(rests, (30, 60, 120, 240, 480, 600, 600, 600), strict=True):
        assert expected * 0.8 <= rest <= expected * 1.2
    assert bob.machine.reason == "3 attempts failed: the peer does not answer"


def test_a_connect_that_is_never_answered_is_given_up_after_five_seconds() -> None:
    bob = Bob()
    bob(Identified((), speaks=True), 1.0)
    assert bob.timer() == (6.0, [CloseExchange(2), SendConnect(3, FOR_BOB)])
    assert bob(MessageReceived(2, CONNECT), 6.1) == []  # late, on the stream that was given up


def test_an_exchange_that_breaks_is_tried_again_after_a_pause() -> None:
    bob = Bob()
    bob(Identified((), speaks=True), 1.0)
    assert bob(ExchangeFailed(2, "the peer reset the stream"), 1.5) == [CloseExchange(2)]
    assert bob.timer() == (2.5, [SendConnect(3, FOR_BOB)])
    bob(ExchangeFailed(3, "the peer reset the stream"), 3.0)
    bob.timer()
    assert bob(ExchangeFailed(4, "no"), 5.0) == [CloseExchange(4), Report(Result.FAILED)]
    assert bob.machine.reason == "3 attempts failed: no"


def test_a_peer_that_turns_the_protocol_down_is_left_alone() -> None:
    bob = Bob()
    bob(Identified((), speaks=True), 1.0)
    failed = ExchangeFailed(2, "na", unsupported=True)
    assert bob(failed, 1.1) == [CloseExchange(2), Report(Result.UNSUPPORTED)]
    assert bob.machine.next_wakeup() is None


def test_a_peer_that_speaks_the_protocol_later_is_punched_then() -> None:
    """go-libp2p registers it once it knows its address (incident 7)."""
    bob = Bob()
    assert bob(Identified((), speaks=False), 1.0) == [Report(Result.UNSUPPORTED)]
    assert bob(Identified((), speaks=True), 2.0) == []
    assert bob.timer() == (6.0, [SendConnect(3, FOR_BOB)])


def test_a_peer_that_does_not_identify_itself_is_not_punched() -> None:
    bob = Bob()
    assert bob.timer() == (15.0, [Report(Result.UNIDENTIFIED)])
    assert bob.machine.next_wakeup() is None
    bob(Identified((), speaks=True), 16.0)
    assert bob.timer() == (20.0, [SendConnect(2, FOR_BOB)])


def test_without_an_address_bob_waits_until_he_has_one() -> None:
    bob = Bob()
    bob.here = Here()
    assert bob(Identified((), speaks=True), 1.0) == [Report(Result.NO_ADDRESS)]
    assert bob.machine.next_wakeup() is None
    bob.here = AT_BOB
    assert bob(AddressesChanged(), 1.5) == []
    assert bob.timer() == (6.0, [SendConnect(3, FOR_BOB)])


def test_new_addresses_end_a_rest_but_not_at_once() -> None:
    bob = Bob(replace(CONFIG, attempts=1, connect_timeout=1.0))
    bob(Identified((), speaks=True), 1.0)
    assert bob.timer()[1] == [CloseExchange(2), Report(Result.FAILED)]
    bob(AddressesChanged(), 2.1)
    bob(AddressesChanged(), 2.2)
    assert bob.timer() == (7.0, [SendConnect(4, FOR_BOB)])


def test_addresses_that_change_during_a_punch_change_the_next_attempt() -> None:
    bob, _ = punching()
    assert bob(AddressesChanged(), 2.0) == []
    bob.here = replace(AT_BOB, observed=(B_TCP,))
    _, sent = bob.until(SendConnect)
    assert sent == SendConnect(3, HolePunch(Type.CONNECT, (B_TCP,)))


def test_a_peer_that_names_nothing_useful_may_still_dial_us() -> None:
    bob = Bob()
    bob(Identified((), speaks=True), 1.0)
    named = HolePunch(Type.CONNECT, (Multiaddr.parse("/ip4/127.0.0.1/tcp/22"),))
    assert bob(MessageReceived(2, named), 1.2) == [CountRefusal("target_refused"), SendSync(2)]
    at, commands = bob.timer()
    assert commands == [Punch((), (), False, at + 5)]
    bob.until(SendConnect)


def test_a_sync_instead_of_a_connect_is_refused() -> None:
    bob = Bob()
    bob(Identified((), speaks=True), 1.0)
    assert bob(MessageReceived(2, SYNC), 1.2) == [CountRefusal("unexpected_message"), CloseExchange(2)]
    assert bob.timer() == (2.2, [SendConnect(3, FOR_BOB)])


@pytest.mark.parametrize("message", [CONNECT, SYNC])
def test_what_comes_after_the_sync_stops_no_punch(message: HolePunch) -> None:
    bob, _ = punching()
    assert bob(MessageReceived(2, message), 1.4) == [CountRefusal("unexpected_message"), CloseExchange(2)]
    assert bob(ExchangeFailed(2, "closed"), 1.4) == []
    assert bob.machine.state is State.PUNCHING


def test_a_connection_that_comes_before_our_own_timer_counts_as_punched() -> None:
    bob = Bob()
    bob(Identified((), speaks=True), 1.0)
    bob(MessageReceived(2, CONNECT), 1.2)
    assert bob(DirectEstablished("tcp"), 1.25) == [Report(Result.FIRST, "tcp")]


def test_when_the_circuit_closes_everything_stops() -> None:
    bob, _ = punching()
    assert bob(CircuitClosed(), 2.0) == [Stop()]
    assert bob.machine.next_wakeup() is None
    assert bob(Identified((), speaks=True), 3.0) == []


def test_a_direct_connection_that_is_lost_is_made_again() -> None:
    bob, _ = punching()
    bob(DirectEstablished("tcp"), 2.0)
    assert bob(DirectLost(), 100.0) == []
    assert bob.timer() == (105.0, [SendConnect(4, FOR_BOB)])


def test_of_two_initiatives_one_yields() -> None:
    bob, _ = punching()
    assert bob(Yielded(), 2.0) == [Stop(), Report(Result.YIELDED)]
    assert bob.machine.is_settled
    assert bob(Yielded(), 2.1) == []


def test_while_nobody_knows_our_nat_every_second_attempt_is_a_client_s() -> None:
    bob = Bob()
    bob.here = replace(AT_BOB, nat="unknown")
    [sent] = bob(Identified((), speaks=True), 0.0)
    as_client = []
    for _ in range(3):
        assert isinstance(sent, SendConnect)
        bob(MessageReceived(sent.exchange, CONNECT), bob.machine._sent_at + 0.1)
        _, punch = bob.until(Punch)
        assert isinstance(punch, Punch)
        as_client.append(punch.as_client)
        _, sent = bob.until(SendConnect) if len(as_client) < 3 else bob.until(Report)
    assert as_client == [False, True, False]


def test_behind_a_nat_that_maps_by_destination_bob_dials_as_a_client_too() -> None:
    bob = Bob()
    bob.here = replace(AT_BOB, nat="address_dependent")
    [sent] = bob(Identified((), speaks=True), 0.0)
    as_client = []
    for _ in range(3):
        assert isinstance(sent, SendConnect)
        assert sent.message.nat == "address_dependent"
        bob(MessageReceived(sent.exchange, CONNECT), bob.machine._sent_at + 0.1)
        _, punch = bob.until(Punch)
        assert isinstance(punch, Punch)
        as_client.append(punch.as_client)
        _, sent = bob.until(SendConnect) if len(as_client) < 3 else bob.until(Report)
    assert as_client == [True, False, True]
    assert bob.machine.reason == (
        "3 attempts failed: our NAT maps ports by destination (address-dependent), "
        "and the peer's lets nobody in"
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ("address_dependent", "address_dependent", "both NATs map ports by destination"),
        ("endpoint_independent", "address_dependent", "the peer's NAT maps ports by destination"),
        ("endpoint_independent", "endpoint_independent", "1 attempt failed: nothing came through"),
    ],
)
def test_people_are_told_which_nat_it_is(ours: str, theirs: str, words: str) -> None:
    bob = Bob(replace(CONFIG, attempts=1))
    bob.here = replace(AT_BOB, nat=ours)  # type: ignore[arg-type]
    bob(Identified((), speaks=True), 0.0)
    bob(MessageReceived(2, replace(CONNECT, nat=theirs)), 0.1)  # type: ignore[arg-type]
    bob.until(Report)
    assert words in bob.machine.reason


def test_without_an_ip_version_in_common_one_attempt_is_enough() -> None:
    bob = Bob()
    bob(Identified((), speaks=True), 0.0)
    theirs = HolePunch(Type.CONNECT, (Multiaddr.parse("/ip6/2001:db8::7/udp/4001/quic-v1"),))
    bob(MessageReceived(2, theirs), 0.1)
    at, _ = bob.until(Report)
    assert at == pytest.approx(5.15)
    assert bob.machine.reason == "one side has IPv4 only and the other IPv6 only"


def test_people_are_told_that_udp_is_blocked() -> None:
    bob = Bob(replace(CONFIG, attempts=1))
    bob.here = replace(AT_BOB, observed=(B_TCP,))
    bob(Identified((), speaks=True), 0.0)
    bob(MessageReceived(2, CONNECT), 0.1)
    bob.until(Report)
    assert "UDP is blocked" in bob.machine.reason


# The same network


def test_behind_one_public_address_private_ones_are_told_and_dialled() -> None:
    alice, bob = Alice(), Bob()
    alice.here = replace(AT_ALICE, public_ips=AT_BOB.public_ips, observed=(replace(B_TCP, port=7777),))
    bob(Identified((), speaks=True), 0.0)
    alice(ExchangeOpened(1), 0.1)
    # Bob does not know yet where alice is, and tells her nothing private; she sees where he is.
    [answer] = alice(MessageReceived(1, FOR_BOB), 0.1)
    assert isinstance(answer, SendConnect)
    assert answer.message.addresses == (replace(B_TCP, port=7777), A_LAN)
    bob(MessageReceived(2, answer.message), 0.2)
    _, punch = bob.until(Punch)
    assert isinstance(punch, Punch)
    assert punch.private == (A_LAN,)
    # Should that fail, both know by the second attempt.
    _, sent = bob.until(SendConnect)
    assert isinstance(sent, SendConnect)
    assert sent.message.addresses == (*AT_BOB.observed, B_LAN)


def test_strangers_are_told_nothing_private() -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 0.1)
    assert alice(MessageReceived(1, FOR_BOB), 0.1) == [
        SendConnect(1, HolePunch(Type.CONNECT, AT_ALICE.observed))
    ]


# The side that dialled the circuit


def test_alice_answers_and_punches_as_the_client_on_sync() -> None:
    alice = Alice()
    assert alice(ExchangeOpened(1), 1.0) == []
    assert alice(MessageReceived(1, FOR_BOB), 1.1) == [SendConnect(1, CONNECT)]
    assert alice(MessageReceived(1, SYNC), 1.3) == [Punch((B_UDP, B_TCP), (), True, 6.3)]
    assert alice(DirectEstablished("quic-v1"), 1.5) == [Stop(), Report(Result.FIRST, "quic-v1")]
    assert alice.machine.state is State.DIRECT


def test_a_sync_that_never_comes_ends_the_exchange() -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 1.0)
    alice(MessageReceived(1, FOR_BOB), 1.1)
    assert alice.timer() == (6.1, [CloseExchange(1), Report(Result.NO_SYNC)])
    assert alice.machine.reason == "the peer asked for a punch and never said go"
    assert alice.timer() == (14.1, [])
    assert alice.machine.is_settled


def test_an_exchange_without_a_word_is_closed_after_five_seconds() -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 1.0)
    assert alice.timer() == (6.0, [CloseExchange(1)])


def test_a_peer_that_does_not_take_the_initiative_is_waited_for_eight_seconds() -> None:
    alice = Alice()
    assert not alice.machine.is_settled
    assert alice.timer() == (8.0, [Report(Result.NOT_ASKED)])
    assert alice.machine.is_settled
    assert alice.machine.reason == "the peer has not started hole punching"
    alice(CircuitOpened(), 20.0)
    assert not alice.machine.is_settled


def test_of_a_peer_that_does_not_know_how_nothing_is_expected() -> None:
    alice = Alice()
    assert alice(Identified((), speaks=False), 1.0) == [Report(Result.UNSUPPORTED)]
    assert alice.machine.is_settled
    assert alice.machine.reason == "the peer does not speak /libp2p/dcutr"
    assert alice(Identified((), speaks=True), 2.0) == []  # go, once it knows its address (incident 7)
    assert alice.machine.next_wakeup() == 10.0


def test_who_pushes_another_identity_during_a_round_changes_nothing() -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 0.0)
    alice(MessageReceived(1, FOR_BOB), 0.1)
    assert alice(Identified((), speaks=False), 0.2) == []
    assert isinstance(alice(MessageReceived(1, SYNC), 0.3)[0], Punch)


@pytest.mark.parametrize("same_stream", [True, False])
def test_further_rounds_come_on_the_same_stream_or_on_another(same_stream: bool) -> None:
    alice = Alice()
    exchange = 1
    alice(ExchangeOpened(exchange), 0.0)
    for round_ in range(3):
        start = round_ * 6.0
        if round_ and not same_stream:
            exchange += 1
            assert alice(ExchangeOpened(exchange), start) == []
        assert alice(MessageReceived(exchange, FOR_BOB), start) == [SendConnect(exchange, CONNECT)]
        assert isinstance(alice(MessageReceived(exchange, SYNC), start + 0.1)[0], Punch)
        if round_ < 2:
            assert alice.timer()[1] == [Stop()]
    assert alice(DirectEstablished("tcp"), 13.0) == [Stop(), Report(Result.LATER, "tcp")]


def test_after_the_last_round_alice_settles() -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 0.0)
    alice(MessageReceived(1, FOR_BOB), 0.0)
    alice(MessageReceived(1, SYNC), 0.1)
    alice.timer()
    assert not alice.machine.is_settled
    assert alice.timer()[1] == [Report(Result.FAILED)]
    assert alice.machine.reason == "1 attempt failed: nothing came through"


def test_after_three_rounds_alice_settles_at_once_and_a_fourth_begins_anew() -> None:
    alice = Alice()
    for exchange in range(1, 4):
        alice(ExchangeOpened(exchange), exchange * 6.0)
        alice(MessageReceived(exchange, FOR_BOB), exchange * 6.0)
        alice(MessageReceived(exchange, SYNC), exchange * 6.0)
        assert not alice.machine.is_settled
        _, commands = alice.timer()
    assert commands == [Stop(), Report(Result.FAILED)]
    assert alice.machine.is_settled
    alice(ExchangeOpened(4), 60.0)
    alice(MessageReceived(4, FOR_BOB), 60.0)
    alice(MessageReceived(4, SYNC), 60.1)
    assert alice(DirectEstablished("tcp"), 60.2) == [Stop(), Report(Result.FIRST, "tcp")]


def test_between_two_nats_that_map_by_destination_alice_waits_for_no_second_round() -> None:
    alice = Alice()
    alice.here = replace(AT_ALICE, nat="address_dependent")
    alice(ExchangeOpened(1), 0.0)
    alice(MessageReceived(1, replace(FOR_BOB, nat="address_dependent")), 0.0)
    alice(MessageReceived(1, SYNC), 0.0)
    assert alice.timer()[1] == [Stop(), Report(Result.FAILED)]
    assert alice.machine.reason == "both NATs map ports by destination (address-dependent)"


def test_between_two_nats_that_map_by_destination_one_attempt_is_enough() -> None:
    bob = Bob()
    bob.here = replace(AT_BOB, nat="address_dependent")
    bob(Identified((), speaks=True), 0.0)
    bob(MessageReceived(2, replace(CONNECT, nat="address_dependent")), 0.1)
    at, _ = bob.until(Report)
    assert at == pytest.approx(5.15)
    assert bob.machine.reason == "both NATs map ports by destination (address-dependent)"


@pytest.mark.parametrize("early", [SYNC])
def test_a_sync_before_a_connect_is_refused(early: HolePunch) -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 0.0)
    assert alice(MessageReceived(1, early), 0.1) == [CountRefusal("unexpected_message"), CloseExchange(1)]


def test_a_second_connect_before_the_sync_is_refused() -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 0.0)
    alice(MessageReceived(1, FOR_BOB), 0.1)
    assert alice(MessageReceived(1, FOR_BOB), 0.2) == [CountRefusal("unexpected_message"), CloseExchange(1)]
    assert alice(MessageReceived(1, SYNC), 0.3) == [CountRefusal("unexpected_message"), CloseExchange(1)]


def test_a_second_sync_starts_no_second_punch() -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 0.0)
    alice(MessageReceived(1, FOR_BOB), 0.1)
    alice(MessageReceived(1, SYNC), 0.2)
    assert alice(MessageReceived(1, SYNC), 0.3) == [CountRefusal("unexpected_message"), CloseExchange(1)]
    assert alice.machine.state is State.PUNCHING


def test_a_new_exchange_replaces_the_one_that_is_open() -> None:
    alice = Alice()
    alice(ExchangeOpened(1), 0.0)
    alice(MessageReceived(1, FOR_BOB), 0.1)
    assert alice(ExchangeOpened(2), 0.2) == [CloseExchange(1)]
    assert alice(MessageReceived(1, SYNC), 0.3) == []
    assert alice(MessageReceived(2, FOR_BOB), 0.3) == [SendConnect(2, CONNECT)]


def test_with_a_direct_connection_there_is_nothing_to_punch() -> None:
    alice = Alice()
    assert alice(DirectEstablished("tcp"), 0.1) == [Report(Result.UNASKED, "tcp")]
    assert alice(ExchangeOpened(1), 0.2) == [CloseExchange(1)]


def test_without_an_address_of_her_own_alice_still_dials() -> None:
    alice = Alice()
    alice.here = Here()
    alice(ExchangeOpened(1), 0.0)
    assert alice(MessageReceived(1, FOR_BOB), 0.1) == [SendConnect(1, HolePunch(Type.CONNECT))]
    assert alice(MessageReceived(1, SYNC), 0.2) == [Punch((B_UDP, B_TCP), (), True, 5.2)]


# Bounds


def test_a_connect_flood_is_refused_by_rate() -> None:
    bounds = budget(attempts_per_minute_peer=3)
    alice = Alice(bounds=bounds)
    for exchange in range(1, 6):
        alice(ExchangeOpened(exchange), 0.0)
        commands = alice(MessageReceived(exchange, FOR_BOB), 0.0)
        if exchange <= 3:
            assert isinstance(commands[0], SendConnect)
        else:
            assert commands == [CountRefusal("punch_rate_peer"), CloseExchange(exchange)]
    assert bounds.under_way == 0


def test_punches_at_once_are_bounded() -> None:
    bounds = budget(max_concurrent=1)
    assert bounds.enter("another") is None
    bob = Bob(bounds=bounds)
    assert bob(Identified((), speaks=True), 0.0) == [CountRefusal("punches_total"), Report(Result.BUSY)]
    bounds.leave("another")
    at, commands = bob.timer()
    assert 3 <= at <= 6
    assert commands == [SendConnect(3, FOR_BOB)]
    assert bounds.under_way == 1


def test_attempts_in_total_are_bounded() -> None:
    bounds = budget(attempts_per_minute=1)
    assert bounds.take_attempt(ALICE, 0.0) is None
    assert bounds.take_attempt(BOB, 0.0) == "punch_rate"
    assert bounds.take_attempt(BOB, 60.0) is None


@pytest.mark.parametrize(
    "limits", [{"datagrams_per_minute": 3}, {"datagrams_per_minute_peer": 3}, {"datagrams_per_minute_ip": 3}]
)
def test_datagrams_are_bounded_in_total_by_peer_and_by_ip(limits: dict[str, float]) -> None:
    bounds = budget(**limits)
    assert [bounds.take_datagram(ALICE, A_UDP, 0.0) for _ in range(4)] == [True, True, True, False]


def test_datagrams_to_one_ip_are_bounded_whoever_names_it() -> None:
    bounds = budget(datagrams_per_minute_ip=2)
    assert bounds.take_datagram(ALICE, A_UDP, 0.0)
    assert bounds.take_datagram(BOB, replace(A_UDP, port=7), 0.0)
    assert not bounds.take_datagram(BOB, A_UDP, 0.0)
    assert bounds.take_datagram(BOB, B_UDP, 0.0)


def test_dials_to_one_ip_are_bounded_whoever_names_it() -> None:
    bounds = budget(targets_per_minute_ip=3)
    twice = Targets((A_TCP, A_UDP), refused=1)
    assert bounds.take_targets(twice, 0.0) == twice
    assert bounds.take_targets(twice, 0.0) == Targets((A_TCP,), refused=2)
    assert bounds.take_targets(Targets((B_TCP, A_UDP)), 0.0) == Targets((B_TCP,), refused=1)
    assert bounds.take_targets(twice, 60.0) == twice


def test_a_victim_with_many_addresses_is_one_victim() -> None:
    bounds = budget(targets_per_minute_ip=2, datagrams_per_minute_ip=2)
    many = [Multiaddr.parse(f"/ip6/2001:db8:0:{number}::{number}/tcp/9000") for number in range(9)]
    assert len(bounds.take_targets(Targets(tuple(many)), 0.0).punched) == 2
    assert sum(bounds.take_datagram(ALICE, one, 0.0) for one in many) == 2
    mapped = Multiaddr.parse("/ip6/::ffff:198.51.100.7/tcp/4001")
    assert bounds.take_targets(Targets((A_TCP, mapped, A_UDP)), 0.0).punched == (A_TCP, mapped)


def test_our_own_network_is_not_searched_for_a_crowd_that_says_it_is_in_it() -> None:
    bounds, dialled = budget(), 0
    said = AT_BOB.observed  # who pretends to be behind our own public address
    for number in range(100):
        mallory = Initiator(Identity.generate().peer_id, CONFIG, bounds, random.Random(1), 0.0)
        lan = Multiaddr.parse(f"/ip4/192.168.1.{number + 100}/tcp/8080")
        for command in mallory.handle(Identified((*said, lan), speaks=True), 0.0, AT_BOB):
            dialled += isinstance(command, DialDirect) and lan in command.targets
        mallory.handle(CircuitClosed(), 0.0, AT_BOB)
    assert dialled == 24
    assert bounds.under_way == 0


def test_datagrams_over_the_bound_are_counted_not_sent() -> None:
    bob = Bob(bounds=budget(datagrams_per_minute_peer=1))
    bob(Identified((), speaks=True), 1.0)
    bob(MessageReceived(2, CONNECT), 1.2)
    assert bob.timer()[1][-1] == SendDatagram(A_UDP)
    assert bob.timer()[1] == [CountRefusal("datagram_rate")]


def test_datagrams_to_one_target_in_one_punch_are_bounded() -> None:
    bob = Bob(replace(CONFIG, max_datagrams=5, attempts=1))
    bob(Identified((), speaks=True), 1.0)
    bob(MessageReceived(2, CONNECT), 1.2)
    sent = 0
    while bob.machine.state is not State.RESTING:
        sent += bob.timer()[1].count(SendDatagram(A_UDP))
    assert sent == 5


def test_rates_of_forgotten_peers_take_no_room() -> None:
    bounds = budget(max_tracked=2)
    for label in map(str, range(5)):
        bounds.take_attempt(Identity.from_label(label).peer_id, 0.0)
    assert len(bounds._peer_attempts._buckets) == 2


# Both sides together


@dataclass
class Outcome:
    alice: list[Report]
    bob: list[Report]
    skew: float | None
    """Seconds between the two first punches."""


def together(
    loses: Callable[[int, HolePunch], bool] = lambda number, message: False,
    *,
    delay: float = 0.05,
    opens: bool = True,
    until: float = 60.0,
) -> Outcome:
    """Alice and bob over a relay that is `delay` away; a punch comes through when both punch at once."""
    alice, bob = Alice(), Bob()
    order = itertools.count()
    queue: list[tuple[float, int, Bob, Event]] = []
    reports: dict[Bob, list[Report]] = {alice: [], bob: []}
    punches: dict[Bob, float] = {}
    first: dict[Bob, float] = {}
    messages = itertools.count(1)
    wakeups: dict[Bob, float | None] = {}

    def push(at: float, who: Bob, event: Event) -> None:
        heapq.heappush(queue, (at, next(order), who, event))

    def feed(who: Bob, event: Event, now: float) -> None:
        other = bob if who is alice else alice
        for command in who(event, now):
            match command:
                case SendConnect(exchange=exchange, message=message):
                    if who is bob:
                        push(now + delay, alice, ExchangeOpened(exchange))
                    deliver(other, exchange, message, now)
                case SendSync(exchange=exchange):
                    deliver(other, exchange, SYNC, now)
                case Punch(until=end):
                    punches[who] = end
                    first.setdefault(who, now)
                    if opens and punches.get(other, 0) > now:
                        push(now + delay / 2, who, DirectEstablished("quic-v1"))
                        push(now + delay / 2, other, DirectEstablished("quic-v1"))
                case Stop():
                    punches.pop(who, None)
                case Report():
                    reports[who].append(command)
        wakeup = who.machine.next_wakeup()
        if wakeup is not None and wakeup != wakeups.get(who):
            push(wakeup, who, TimerFired())
        wakeups[who] = wakeup

    def deliver(to: Bob, exchange: int, message: HolePunch, now: float) -> None:
        if not loses(next(messages), message):
            push(now + delay, to, MessageReceived(exchange, message))

    feed(bob, Identified((), speaks=True), 0.0)
    while queue and queue[0][0] <= until:
        at, _, who, event = heapq.heappop(queue)
        feed(who, event, at)
    skew = abs(first[alice] - first[bob]) if len(first) == 2 else None
    return Outcome(reports[alice], reports[bob], skew)


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.05, 0.3, 2.0])
def test_both_punch_at_the_same_moment_and_are_direct_at_once(delay: float) -> None:
    outcome = together(delay=delay)
    assert outcome.skew == pytest.approx(0, abs=1e-6)
    assert outcome.bob == outcome.alice == [Report(Result.FIRST, "quic-v1")]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_message_that_is_lost_costs_one_attempt(lost: int) -> None:
    outcome = together(lambda number, _: number == lost)
    assert outcome.bob == [Report(Result.SECOND, "quic-v1")]
    assert outcome.alice[-1].transport == "quic-v1"


def test_a_sync_that_is_always_lost_ends_in_failure_on_both_sides() -> None:
    outcome = together(lambda _, message: message.type is Type.SYNC, until=40.0)
    assert outcome.bob[0] == Report(Result.FAILED)
    assert outcome.alice[0] == Report(Result.NO_SYNC)


def test_nats_that_let_nothing_through_end_in_failure_on_both_sides() -> None:
    outcome = together(opens=False, until=30.0)
    assert outcome.bob == [Report(Result.FAILED)]
    assert outcome.alice == [Report(Result.FAILED)]


# Every event in every state

_EXCHANGES = st.integers(0, 4)
_HOSTILE = [
    CONNECT,
    SYNC,
    HolePunch(Type.CONNECT),
    HolePunch(Type.SYNC, (A_TCP,)),
    HolePunch(Type.CONNECT, tuple(Multiaddr.of(f"198.51.100.{i}", i + 1, "quic-v1") for i in range(16))),
    HolePunch(Type.CONNECT, (Multiaddr.parse("/ip4/127.0.0.1/tcp/22"), A_LAN), "address_dependent"),
    HolePunch(Type.CONNECT, (B_UDP, A_LAN)),
]
_EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Identified, st.sampled_from([(), (A_TCP,), (A_LAN,)]), st.booleans()),
    st.builds(DialEnded, _EXCHANGES),
    st.just(CircuitOpened()),
    st.builds(ExchangeOpened, _EXCHANGES),
    st.builds(MessageReceived, _EXCHANGES, st.sampled_from(_HOSTILE)),
    st.builds(ExchangeFailed, _EXCHANGES, st.just("broken"), st.booleans()),
    st.builds(DirectEstablished, st.sampled_from(["tcp", "quic-v1"])),
    st.just(DirectLost()),
    st.just(AddressesChanged()),
    st.just(Yielded()),
    st.just(TimerFired()),
)
_PLACES = st.sampled_from(
    [AT_BOB, Here(), replace(AT_BOB, nat="address_dependent"), replace(AT_BOB, speaks_quic=False)]
)
_STEPS = st.lists(st.tuples(_EVENTS, st.sampled_from([0.0, 0.01, 0.3, None]), _PLACES), max_size=40)


@given(st.booleans(), _STEPS, st.booleans())
def test_whatever_happens_in_whatever_order_the_promises_hold(
    takes_initiative: bool, steps: list[tuple[Event, float | None, Here]], narrow: bool
) -> None:
    bounds = budget(**({"max_concurrent": 0, "attempts_per_minute_peer": 2} if narrow else {}))
    machine = initiator(bounds=bounds) if takes_initiative else receiver(bounds=bounds)
    now, dialling = 0.0, False
    for event, wait, here in steps:
        wakeup = machine.next_wakeup()
        now = now + wait if wait is not None else max(now, wakeup if wakeup is not None else now)
        before = machine.state
        for command in machine.handle(event, now, here):
            match command:
                case Punch(targets=targets, private=private, until=until):
                    dialling = True
                    assert len(targets) <= 8
                    assert len(private) <= 4
                    assert now < until <= now + CONFIG.punch_timeout
                case DialDirect(targets=targets, until=until):
                    dialling = True
                    assert now < until
                    assert not set(targets) & {B_TCP, B_UDP}
                case Stop():
                    dialling = False
                case SendDatagram(target=target):
                    assert machine.state is State.PUNCHING
                    assert target.transport == "quic-v1"
        if isinstance(event, DirectEstablished):
            assert machine.state is State.DIRECT
        # What runs has an end: nobody punches or waits for ever, and nothing goes on behind our back.
        assert (machine.next_wakeup() is not None) or machine.is_settled
        if not dialling:
            assert machine.state not in (State.PUNCHING, State.REVERSING)
        if machine.is_settled:
            assert not dialling
            assert bounds.under_way == 0
        assert (machine.state in (State.DIRECT, State.RESTING, State.IDLE)) or before is not State.ENDED
    machine.handle(CircuitClosed(), now, AT_BOB)
    assert machine.state is State.ENDED
    assert machine.next_wakeup() is None
    assert bounds.under_way == 0
