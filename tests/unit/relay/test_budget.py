"""The byte budget of a day: alerts once each, the turn of the day, clocks that jump, restarts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import ParseError
from wws.relay.budget import DAY, DailyBudget

NOON = 20_000 * DAY + DAY // 2


def test_alerts_come_once_each() -> None:
    budget = DailyBudget(1000)
    assert budget.spend(799, NOON) == 0
    assert budget.spend(1, NOON) == 80
    assert budget.spend(199, NOON) == 0
    assert not budget.is_spent(NOON)
    assert budget.spend(1, NOON) == 100
    assert budget.is_spent(NOON)
    assert budget.spend(5000, NOON) == 0
    assert budget.used(NOON) == 6000


def test_one_step_over_both_alerts_gives_the_higher() -> None:
    assert DailyBudget(1000).spend(2000, NOON) == 100


def test_a_new_day_begins_anew() -> None:
    budget = DailyBudget(1000)
    budget.spend(1000, NOON)
    assert budget.seconds_to_reset(NOON) == DAY // 2
    assert budget.is_spent(NOON + DAY // 2 - 1)
    assert not budget.is_spent(NOON + DAY // 2)
    assert budget.used(NOON + DAY // 2) == 0
    assert budget.spend(800, NOON + DAY) == 80


def test_a_clock_that_goes_back_forgives_nothing() -> None:
    budget = DailyBudget(1000)
    budget.spend(1000, NOON + 10 * DAY)  # the clock was wrong
    assert budget.is_spent(NOON)
    assert not budget.is_spent(NOON + DAY)  # and does not hold it back for ten days


def test_without_a_limit_nothing_is_spent() -> None:
    budget = DailyBudget(0)
    assert budget.spend(2**60, NOON) == 0
    assert not budget.is_spent(NOON)
    assert budget.percent(NOON) == 0
    assert budget.used(NOON) == 2**60


def test_a_restart_forgives_nothing() -> None:
    budget = DailyBudget(1000)
    budget.spend(900, NOON)
    after = DailyBudget(1000)
    after.restore({**budget.to_json(), "schema": 1, "added_later": True})
    assert after.used(NOON + 60) == 900
    assert after.percent(NOON) == 90
    assert after.spend(1, NOON) == 0  # 80 % were told before
    assert after.used(NOON + DAY) == 0


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"day": 1},
        {"day": 1, "bytes": -1},
        {"day": 1, "bytes": 1.5},
        {"day": True, "bytes": 1},
        {"day": "1", "bytes": 1},
        {"day": 1, "bytes": 2**63},
    ],
)
def test_what_is_no_state_is_refused(value: dict[str, object]) -> None:
    budget = DailyBudget(10)
    budget.spend(3, NOON)
    with pytest.raises(ParseError):
        budget.restore(value)  # type: ignore[arg-type]
    assert budget.used(NOON) == 3


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 3 * DAY)), max_size=30))
def test_a_day_is_spent_exactly_when_its_bytes_reach_the_limit(steps: list[tuple[int, int]]) -> None:
    budget, used, day, told = DailyBudget(1000), 0, -1, list[int]()
    for count, moment in sorted(steps, key=lambda step: step[1]):
        if moment // DAY > day:
            day, used, told = moment // DAY, 0, []
        level = budget.spend(count, moment)
        used += count
        told += [level] if level else []
        assert budget.used(moment) == used
        assert budget.is_spent(moment) == (used >= 1000) == (100 in told)
        assert told == sorted(set(told))


def test_a_party_uses_up_its_share_and_gets_it_anew_each_day() -> None:
    budget = DailyBudget(1000, share=0.25)
    budget.spend(249, NOON, "alice's")
    budget.spend(500, NOON)  # nobody in particular: no share of anybody
    assert not budget.is_share_spent("alice's", NOON)
    assert not budget.is_share_spent(None, NOON)
    budget.spend(1, NOON, "alice's")
    assert budget.is_share_spent("alice's", NOON)
    assert not budget.is_share_spent("bob's", NOON)
    assert not budget.is_spent(NOON)
    assert not budget.is_share_spent("alice's", NOON + DAY)
    assert not DailyBudget(0, share=0.25).is_share_spent("alice's", NOON)


def test_parties_are_remembered_in_bounded_number() -> None:
    budget = DailyBudget(1000, share=0.1, max_parties=3)
    for party in ("1", "2", "3", "1", "4"):
        budget.spend(100, NOON, party)
    assert [budget.is_share_spent(party, NOON) for party in "1234"] == [True, False, True, True]


def test_what_was_carried_before_the_file_was_read_counts_as_well() -> None:
    yesterday, budget = DailyBudget(1000), DailyBudget(1000)
    yesterday.spend(100, NOON - DAY)
    budget.spend(5, NOON)
    budget.restore(yesterday.to_json())
    assert budget.used(NOON) == 5
    today = DailyBudget(1000)
    today.spend(200, NOON)
    budget.restore(today.to_json())
    assert budget.used(NOON) == 205
