"""One request of AutoNAT v2 at the server: conversations, and every pair of state and event."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.machine import Command, Event
from wws.nat.autonat_v2 import DialRequest, DialResponse, DialStatus, ResponseStatus
from wws.nat.dial_back import (
    TRANSITIONS,
    Answer,
    Asked,
    AskForData,
    Call,
    Called,
    Dial,
    DialBackRequest,
    Dialled,
    DialResult,
    Paid,
    State,
    TimerFired,
)
from wws.nat.dial_back_rules import Budget, DialBackConfig, DialDataTooSmall, Reason, Requester, Surroundings

ALICE = Identity.from_label("alice").peer_id
HOME = Multiaddr.parse("/ip4/203.0.113.1/tcp/9000")
ELSEWHERE = Multiaddr.parse("/ip4/198.51.100.7/tcp/9000")
INSIDE = Multiaddr.parse("/ip4/192.168.1.2/tcp/9000")
REQUESTER = Requester(ALICE, "203.0.113.1", "203.0.113.0/24")
AROUND = Surroundings(Scope.PUBLIC, frozenset({"tcp", "quic-v1"}))
CONFIG = DialBackConfig()
NONCE = 77


def request(config: DialBackConfig = CONFIG, seed: int = 1) -> DialBackRequest:
    return DialBackRequest(REQUESTER, Budget(config), config, random.Random(seed))


def asked(*addresses: Multiaddr | None) -> Asked:
    return Asked(DialRequest(addresses, NONCE), AROUND)


def cost_of(commands: list[Command]) -> int:
    (command,) = commands
    assert isinstance(command, AskForData)
    return command.message.byte_count


def answered(status: DialStatus, index: int = 0) -> list[Command]:
    return [Answer(DialResponse(ResponseStatus.OK, index, status))]


def test_the_ip_that_is_seen_is_dialled_at_once() -> None:
    bob = request()
    assert bob.handle(asked(HOME), 0) == [Dial(HOME)]
    assert bob.handle(Dialled(DialResult.CONNECTED), 1) == [Call(NONCE)]
    assert bob.handle(Called(True), 2) == answered(DialStatus.OK)
    assert bob.state is State.DONE


def test_another_ip_is_dialled_once_it_is_paid_for_and_after_a_wait() -> None:
    bob = request()
    cost = cost_of(bob.handle(asked(None, INSIDE, ELSEWHERE, HOME), 0))
    assert CONFIG.min_cost <= cost <= CONFIG.max_cost
    assert bob.handle(Paid(cost - 1), 1) == []
    assert bob.state is State.PAYING
    assert bob.next_wakeup() is None
    assert bob.handle(Paid(1), 2) == []
    due = bob.next_wakeup()
    assert due is not None
    assert 2 <= due <= 2 + CONFIG.max_wait
    assert bob.handle(TimerFired(), due - 0.001) == []
    assert bob.handle(TimerFired(), due) == [Dial(ELSEWHERE)]
    assert bob.next_wakeup() is None
    assert bob.handle(Dialled(DialResult.CONNECTED), 5) == [Call(NONCE)]
    assert bob.handle(Called(True), 6) == answered(DialStatus.OK, 2)


def test_the_last_piece_may_be_larger_than_what_is_owed() -> None:
    bob = request()
    bob.handle(Paid(cost_of(bob.handle(asked(ELSEWHERE), 0)) + 4000), 1)
    assert bob.state is State.WAITING


def test_crumbs_are_refused_but_for_the_last() -> None:
    bob = request()
    cost = cost_of(bob.handle(asked(ELSEWHERE), 0))
    with pytest.raises(DialDataTooSmall):
        bob.handle(Paid(CONFIG.min_piece - 1), 1)
    bob.handle(Paid(CONFIG.min_piece), 1)
    bob.handle(Paid(cost - CONFIG.min_piece - 1), 1)
    with pytest.raises(DialDataTooSmall):
        bob.handle(Paid(0), 1)
    bob.handle(Paid(1), 1)
    assert bob.state is State.WAITING


@given(st.integers(0), st.lists(st.integers(100, 4096), min_size=1, max_size=400))
def test_nobody_is_dialled_for_less_than_the_price(seed: int, pieces: list[int]) -> None:
    bob = request(seed=seed)
    cost = cost_of(bob.handle(asked(ELSEWHERE), 0))
    assert CONFIG.min_cost <= cost <= CONFIG.max_cost
    paid = 0
    for piece in pieces:
        if bob.state is not State.PAYING:
            break
        bob.handle(Paid(piece), 0)
        paid += piece
    assert (bob.state is State.WAITING) == (paid >= cost)


@pytest.mark.parametrize(
    "events, answer",
    [
        ([Dialled(DialResult.UNREACHABLE)], answered(DialStatus.E_DIAL_ERROR)),
        ([Dialled(DialResult.NOT_DIALLED)], [Answer(DialResponse(ResponseStatus.E_INTERNAL_ERROR))]),
        ([Dialled(DialResult.CONNECTED), Called(False)], answered(DialStatus.E_DIAL_BACK_ERROR)),
    ],
)
def test_what_goes_wrong_is_told_precisely(events: list[Event], answer: list[Command]) -> None:
    bob = request()
    bob.handle(asked(HOME), 0)
    assert [bob.handle(event, 1) for event in events][-1] == answer
    assert bob.state is State.DONE


@pytest.mark.parametrize(
    "addresses, reason",
    [
        ((), Reason.NO_ADDRESS),
        ((None,), Reason.ADDRESS_KIND),
        ((INSIDE, None, HOME.with_port(22)), Reason.SCOPE),
    ],
)
def test_a_refusal_names_the_reason_of_the_first_address(
    addresses: tuple[Multiaddr | None, ...], reason: Reason
) -> None:
    assert request().handle(asked(*addresses), 0) == [
        Answer(DialResponse(ResponseStatus.E_DIAL_REFUSED), reason)
    ]


def test_paid_dials_are_bounded_for_all_together() -> None:
    budget = Budget(CONFIG)

    def ask(now: float, prefix: str) -> Command:
        bob = DialBackRequest(replace(REQUESTER, prefix=prefix), budget, CONFIG, random.Random(1))
        (command,) = bob.handle(asked(ELSEWHERE), now)
        return command

    refusal = Answer(DialResponse(ResponseStatus.E_REQUEST_REJECTED), Reason.PAID_RATE)
    for index in range(CONFIG.paid_per_minute):
        assert isinstance(ask(index / 10, f"prefix {index % 3}"), AskForData)
    assert ask(59.9, "another") == refusal
    assert isinstance(ask(60, "another"), AskForData)
    assert ask(60, "another") == refusal


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", None])
def test_one_party_cannot_use_up_the_paid_dials_without_paying(prefix: str | None) -> None:
    budget = Budget(CONFIG)
    mallory = replace(REQUESTER, prefix=prefix)
    answers = [
        DialBackRequest(mallory, budget, CONFIG, random.Random(1)).handle(asked(ELSEWHERE), 0)[0]
        for _ in range(CONFIG.paid_per_minute)
    ]
    refusal = Answer(DialResponse(ResponseStatus.E_REQUEST_REJECTED), Reason.PAID_RATE)
    assert answers.count(refusal) == CONFIG.paid_per_minute - CONFIG.paid_per_minute_prefix
    honest = replace(REQUESTER, peer=Identity.from_label("honest").peer_id, prefix=prefix and "192.0.2.0/24")
    (answer,) = DialBackRequest(honest, budget, CONFIG, random.Random(1)).handle(asked(ELSEWHERE), 0)
    assert isinstance(answer, AskForData)


EVENTS: tuple[Event, ...] = (
    asked(HOME),
    asked(ELSEWHERE),
    asked(INSIDE),
    Paid(4096),
    Paid(100_000),
    TimerFired(),
    *map(Dialled, DialResult),
    Called(True),
    Called(False),
)


def in_state(state: State) -> DialBackRequest:
    bob = request()
    if state in (State.PAYING, State.WAITING):
        bob.handle(asked(ELSEWHERE), 0)
        if state is State.WAITING:
            bob.handle(Paid(100_000), 0)
    elif state is not State.READING:
        bob.handle(asked(HOME), 0)
        if state is State.CALLING:
            bob.handle(Dialled(DialResult.CONNECTED), 0)
        elif state is State.DONE:
            bob.handle(Dialled(DialResult.UNREACHABLE), 0)
    assert bob.state is state
    return bob


@pytest.mark.parametrize("now", [0.0, 1000.0])
@pytest.mark.parametrize("state, event", list(product(State, EVENTS)))
def test_every_pair_moves_or_refuses(state: State, event: Event, now: float) -> None:
    bob = in_state(state)
    wakeup = bob.next_wakeup()
    allowed = TRANSITIONS.get((state, type(event)))
    if allowed is None:
        with pytest.raises(LocalProtocolError):
            bob.handle(event, now)
        assert (bob.state, bob.next_wakeup()) == (state, wakeup)
    else:
        commands = bob.handle(event, now)
        assert bob.state in allowed
        assert len(commands) <= 1
        assert (bob.state is State.DONE) == (bool(commands) and isinstance(commands[0], Answer))
        assert (bob.next_wakeup() is not None) == (bob.state is State.WAITING)
