"""Whether a circuit still leads anywhere: as conversations, then with whatever comes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.machine import Command
from wws.relay.watch import CircuitWatch, Close, GiveUp, Ping, Retire, WatchConfig

CONFIG = WatchConfig()
LIMIT = 2 * 1024 * 1024


def watch(**parts: object) -> CircuitWatch:
    return CircuitWatch(CONFIG, 0, opened_by_us=bool(parts.pop("opened_by_us", True)), **parts)  # type: ignore[arg-type]


def look(watched: CircuitWatch, now: float, heard_at: float = 0.0, **parts: object) -> list[Command]:
    return watched.look(now, heard_at=heard_at, idle_since=None, **parts)  # type: ignore[arg-type]


def reasons(commands: Iterable[Command]) -> list[str]:
    return [command.reason for command in commands if isinstance(command, Retire)]


def test_silence_is_probed_and_then_believed() -> None:
    """Within five seconds."""
    watched = watch()
    assert look(watched, 0) == []
    assert watched.next_look() == 2
    assert look(watched, 2) == [Ping()]
    assert watched.next_look() == 4
    assert look(watched, 3) == []
    assert reasons(look(watched, 4)) == ["the peer does not answer through it"]
    assert watched.next_look() == 5
    assert look(watched, 4.5) == []
    assert look(watched, 5) == [GiveUp()]


def test_who_was_only_late_goes_on() -> None:
    watched = watch()
    look(watched, 2)
    assert reasons(look(watched, 4)) == ["the peer does not answer through it"]
    assert look(watched, 5, heard_at=4.5) == []
    assert look(watched, 6.5, heard_at=4.5) == [Ping()]
    assert look(watched, 8.5, heard_at=4.5) == []  # it was retired before
    assert look(watched, 9.5, heard_at=4.5) == [GiveUp()]


def test_who_is_heard_is_left_alone() -> None:
    watched = watch()
    for now in range(1, 100):
        assert look(watched, now, heard_at=now - 0.1) == []
        assert watched.next_look() == pytest.approx(now + 1.9)


def test_any_answer_will_do() -> None:
    watched = watch()
    assert look(watched, 2) == [Ping()]
    assert look(watched, 4.2, heard_at=2.1) == [Ping()]
    assert look(watched, 7, heard_at=6.9) == []
    assert watched.next_look() == 8.9


def test_the_other_end_leaves_the_probing_to_the_one_that_opened_the_circuit() -> None:
    opened, accepted = watch(), watch(opened_by_us=False)
    assert look(opened, 2) == [Ping()]
    assert look(accepted, 2.1, heard_at=2.05) == []
    assert accepted.next_look() == pytest.approx(5.05)
    assert look(accepted, 5.05, heard_at=2.05) == [Ping()]


def test_when_we_were_away_ourselves_the_peer_gets_another_chance() -> None:
    watched = watch()
    look(watched, 2)
    assert look(watched, 60) == [Ping()]
    assert reasons(look(watched, 62)) == ["the peer does not answer through it"]


@pytest.mark.parametrize(("round_trip", "patience"), [(None, 2.0), (0.1, 2.0), (0.75, 3.0), (9.0, 4.0)])
def test_who_is_far_away_has_more_time(round_trip: float | None, patience: float) -> None:
    watched = watch()
    look(watched, 2, round_trip=round_trip)
    assert watched.next_look() == 2 + patience


def test_bytes_run_out() -> None:
    watched = watch(limit_bytes=LIMIT)
    assert watched.retire_below == LIMIT / 4
    assert look(watched, 1, heard_at=1, bytes_left=LIMIT // 4) == []
    assert reasons(look(watched, 1, heard_at=1, bytes_left=LIMIT // 4 - 1)) == [
        "its bytes are nearly used up"
    ]
    assert look(watched, 1, heard_at=1, bytes_left=0) == []
    assert watched.retire_below < 0


@pytest.mark.parametrize(("seconds", "at"), [(600.0, 570.0), (20.0, 15.0), (86_400.0, 86_370.0)])
def test_time_runs_out(seconds: float, at: float) -> None:
    watched = watch(seconds_left=seconds)
    assert look(watched, at - 1, heard_at=at - 1) == []
    assert watched.next_look() == at
    assert reasons(look(watched, at, heard_at=at)) == ["its time is nearly over"]


def test_a_circuit_that_nobody_needs_is_closed_by_who_opened_it() -> None:
    opened, accepted = watch(), watch(opened_by_us=False)
    for watched in (opened, accepted):
        assert watched.look(100, heard_at=100, idle_since=50) == []
    assert opened.look(169, heard_at=169, idle_since=50) == []
    assert opened.next_look() == 170
    [close] = opened.look(170, heard_at=169, idle_since=50)
    assert isinstance(close, Close)
    assert accepted.look(1000, heard_at=1000, idle_since=50) == []
    # With streams it is not idle, however little goes over it.
    assert watch().look(1000, heard_at=1000, idle_since=None) == []


@given(
    st.lists(
        st.tuples(
            st.floats(0, 30),
            st.booleans(),
            st.booleans(),
            st.integers(0, LIMIT),
            st.none() | st.floats(0, 10),
        ),
        max_size=60,
    ),
    st.booleans(),
    st.none() | st.floats(1, 1000),
)
def test_whatever_comes(
    steps: list[tuple[float, bool, bool, int, float | None]], opened_by_us: bool, seconds: float | None
) -> None:
    """The next look lies ahead, a circuit is retired once, and not for silence while it is heard."""
    watched = watch(opened_by_us=opened_by_us, limit_bytes=LIMIT, seconds_left=seconds)
    now = heard_at = 0.0
    retired = 0
    for wait, heard, on_time, bytes_left, round_trip in steps:
        now = max(now, watched.next_look()) if on_time else now + wait
        heard_at = now if heard else heard_at
        commands = watched.look(
            now, heard_at=heard_at, idle_since=None, bytes_left=bytes_left, round_trip=round_trip
        )
        retired += len(reasons(commands))
        assert retired <= 1
        if GiveUp() in commands:
            assert not heard
            assert retired
            break
        assert watched.next_look() > now
        if heard:
            assert Ping() not in commands
            assert "the peer does not answer through it" not in reasons(commands)
