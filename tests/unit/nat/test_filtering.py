"""The probe of a NAT's filtering: every pair of state and event, and what each outcome means."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.machine import Event
from wws.nat.filtering import TRANSITIONS, Filtering, Start, State
from wws.nat.observed import Way
from wws.nat.reachability_events import (
    Answered,
    NetworkChanged,
    ProbeLost,
    ProbeOpened,
    ProbingConfig,
    Server,
    TimerFired,
)

CONFIG = ProbingConfig()
WAY = Way("tcp", 4)
ALICE, BOB, CAROL, DAVE = (
    Server(Identity.from_label(name).peer_id, f"20.0.{number}.1", 4, True, frozenset({WAY}))
    for number, name in enumerate(("alice", "bob", "carol", "dave"))
)
ADDRESS = Multiaddr.parse("/ip4/203.0.113.99/tcp/50000")
EVENTS: list[Event] = [
    Start(1, ALICE), ProbeOpened(1, ADDRESS), ProbeLost(1, "x"), Answered(1, True), TimerFired(),
    NetworkChanged(),
]  # fmt: skip


def probed(
    filtering: Filtering, own: bool | None, *helpers: bool | None, now: float = 0.0, through: Server = ALICE
) -> Filtering:
    """One whole probe with these answers, that of `through` itself first."""
    filtering.handle(Start(1, through), now)
    filtering.handle(ProbeOpened(1, ADDRESS), now)
    others = [server for server in (BOB, CAROL, DAVE, ALICE) if server is not through]
    for ask, server in enumerate((through, *others[: len(helpers)])):
        filtering.asked(ask, server)
    for ask, reached in enumerate((own, *helpers)):
        if filtering.state is State.ASKING:
            filtering.handle(Answered(ask, reached), now)
    assert filtering.state is State.RESTING
    return filtering


def opening() -> Filtering:
    filtering = Filtering(CONFIG, 0.0)
    filtering.handle(Start(1, ALICE), 0.0)
    return filtering


def asking() -> Filtering:
    filtering = opening()
    filtering.handle(ProbeOpened(1, ADDRESS), 0.0)
    filtering.asked(1, BOB)
    filtering.asked(2, ALICE)
    return filtering


STATES: dict[State, Callable[[], Filtering]] = {
    State.RESTING: lambda: Filtering(CONFIG, 0.0),
    State.OPENING: opening,
    State.ASKING: asking,
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_pair_moves_or_refuses(state: State, event: Event) -> None:
    filtering = STATES[state]()
    assert filtering.state is state
    allowed = TRANSITIONS.get((state, type(event)))
    if allowed is None:
        with pytest.raises(LocalProtocolError):
            filtering.handle(event, 1.0)
        assert filtering.state is state
    else:
        filtering.handle(event, 1.0)
        assert filtering.state in allowed


@pytest.mark.parametrize(
    "own, helpers, expected",
    [
        (False, (True, False), "open"),
        (None, (None, True), "open"),
        (True, (False, False), "filtered"),
        (False, (False,), "filtered"),
        (True, (None, False), "filtered"),
        (True, (None, None), "unknown"),
        (False, (None,), "unknown"),
    ],
)
def test_what_the_answers_show(own: bool | None, helpers: tuple[bool | None, ...], expected: str) -> None:
    filtering = probed(Filtering(CONFIG, 0.0), own, *helpers)
    assert filtering.filter == expected
    assert filtering.confidence == (0 if expected == "unknown" else 1)


def test_a_helper_that_gets_through_ends_the_probe() -> None:
    filtering = asking()
    filtering.handle(Answered(1, True), 1.0)
    assert filtering.state is State.RESTING
    assert filtering.next_at == 1.0 + CONFIG.second_look


def test_the_server_that_was_sent_to_proves_nothing_by_getting_through() -> None:
    filtering = asking()
    filtering.handle(Answered(2, True), 1.0)
    assert filtering.state is State.ASKING
    assert filtering.filter == "unknown"


def test_open_becomes_filtered_after_two_probes_and_back_after_one() -> None:
    filtering = Filtering(CONFIG, 0.0)
    seen = []
    for through, reached in ((ALICE, True), (BOB, False), (ALICE, False), (BOB, True)):
        probed(filtering, False, reached, through=through)
        seen.append(filtering.filter)
    assert seen == ["open", "open", "filtered", "open"]


def test_it_takes_two_servers_to_show_that_a_nat_filters_by_port() -> None:
    filtering = probed(Filtering(CONFIG, 0.0), False, False, False)
    assert not filtering.may_be_forwarded
    probed(filtering, False, False, False)  # through the same one
    assert not filtering.may_be_forwarded
    probed(filtering, False, False, False, through=BOB)
    assert filtering.may_be_forwarded
    probed(filtering, True, False, False, through=CAROL)  # it came in from another port: this was never so
    assert not filtering.may_be_forwarded
    probed(filtering, None, False, False, through=DAVE)
    assert not filtering.may_be_forwarded


def test_looks_become_rarer_while_they_show_the_same() -> None:
    filtering = Filtering(CONFIG, 0.0)
    waits = [probed(filtering, False, False).next_at for _ in range(8)]
    assert waits[:4] == [CONFIG.second_look, CONFIG.recheck, 2 * CONFIG.recheck, 4 * CONFIG.recheck]
    assert waits == sorted(waits)
    assert waits[-1] == CONFIG.longest
    assert filtering.confidence == CONFIG.max_confidence


def test_what_shows_nothing_is_tried_again_ever_more_rarely() -> None:
    filtering = Filtering(CONFIG, 0.0)
    waits = []
    for _ in range(12):
        filtering.handle(Start(1, ALICE), 0.0)
        filtering.handle(ProbeLost(1, "timeout"), 0.0)
        waits.append(filtering.next_at)
    assert waits[:3] == [CONFIG.retry, 2 * CONFIG.retry, 4 * CONFIG.retry]
    assert waits[-1] == CONFIG.longest


def test_questions_have_their_place() -> None:
    with pytest.raises(LocalProtocolError):
        Filtering(CONFIG, 0.0).asked(1, BOB)
    with pytest.raises(LocalProtocolError):
        asking().handle(Answered(7, True), 0.0)
