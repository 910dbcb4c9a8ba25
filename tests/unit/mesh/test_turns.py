"""Turns: one after the other at a pace, given back by who goes away."""

from hypothesis import given
from hypothesis import strategies as st

from wws.mesh.turns import Turns


def test_turns_come_at_their_pace() -> None:
    turns = Turns(10)
    assert [round(turns.take("alice", 5.0), 6) for _ in range(4)] == [5.0, 5.1, 5.2, 5.3]
    assert turns.take("bob", 5.0) == 5.0  # has turns of its own
    assert turns.take("alice", 9.0) == 9.0


def test_a_burst_comes_at_once() -> None:
    turns = Turns(10, burst=3)
    assert [round(turns.take("alice", 0.0), 6) for _ in range(5)] == [0, 0, 0, 0.1, 0.2]


def test_who_goes_away_keeps_nobody_waiting() -> None:
    turns = Turns(10)
    for _ in range(1000):
        turns.take("alice", 0.0)
    for _ in range(999):
        turns.give_back("alice", 0.0)
    assert round(turns.take("alice", 0.0), 6) == 0.1
    turns.give_back("nobody", 0.0)
    assert len(turns) == 1


def test_who_was_forgotten_begins_anew() -> None:
    turns = Turns(0.001)
    turns.take("alice", 0.0)
    turns.forget("alice")
    turns.forget("alice")
    assert turns.take("alice", 0.0) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.02)), max_size=60), st.integers(1, 5))
def test_never_faster_than_the_pace(steps: list[tuple[bool, float]], burst: int) -> None:
    """However turns are taken and given back: in a second there are never more than the pace and a burst."""
    turns, now, had = Turns(100, burst), 0.0, []
    for gives_back, passed in steps:
        now += passed
        at = turns.take("alice", now)
        assert at >= now
        if gives_back:
            turns.give_back("alice", now)
        else:
            had.append(at)
    had.sort()
    for first, last in zip(had, had[burst:], strict=False):
        assert last - first >= 1 / 100 - 1e-9


def test_it_remembers_no_more_than_those_of_late() -> None:
    turns = Turns(1_000)
    for number in range(20_000):
        turns.take(number, number / 1_000)
        assert len(turns) <= 1_025
