"""How much of the node's time those get who are not its owner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.rpc.policy import Role
from wws.rpc.turns import Standing, TimeShare, TurnsConfig, standing_of

CONFIG = TurnsConfig(share=0.25, burst=0.5, per_call=0.0)


def test_a_share_is_used_up_and_fills_again() -> None:
    share = TimeShare(CONFIG)
    assert share.delay(100.0) == 0
    share.spent(0.5, 100.0)
    assert 0 < share.delay(100.0) <= 0.01, "all is used up"
    share.spent(1.0, 100.0)
    assert share.delay(100.0) == pytest.approx(4.0, abs=0.01), "a second costs four"
    assert share.delay(102.0) == pytest.approx(2.0, abs=0.01)
    assert share.delay(104.1) == 0


def test_who_has_a_token_gets_more() -> None:
    share = TimeShare(TurnsConfig(share=0.25, programs=0.5, burst=0.5), Standing.PROGRAM)
    share.spent(1.5, 100.0)
    assert share.delay(100.0) == pytest.approx(2.0, abs=0.01)


def test_a_pause_gives_a_burst_and_no_more() -> None:
    share = TimeShare(CONFIG)
    assert share.delay(1e9) == 0
    share.spent(0.6, 1e9)
    assert share.delay(1e9) == pytest.approx(0.4, abs=0.01)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    share = TimeShare(CONFIG)
    share.spent(1.5, 100.0)
    assert share.delay(50.0) == share.delay(100.0)


@given(st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 1)), max_size=50))
def test_never_more_than_a_share_a_burst_and_one_line(lines: list[tuple[float, float]]) -> None:
    """However the lines come: whoever waits as he is told uses no more than that."""
    share, now, used = TimeShare(CONFIG), 10.0, 0.0
    for cost, pause in lines:
        now += pause
        now += share.delay(now)
        assert used <= CONFIG.burst + (now - 10.0) * CONFIG.share + 1e-6
        share.spent(cost, now)
        used += cost


@pytest.mark.parametrize(
    "role, standing",
    [
        (Role.SOCKET, Standing.OWNER),
        (Role.COOKIE, Standing.OWNER),
        (Role.NODE, Standing.OWNER),
        (Role.TOKEN, Standing.PROGRAM),
        (Role.AGENT, Standing.AGENT),
        (Role.NEWCOMER, Standing.STRANGER),
    ],
)
def test_what_each_role_has_shown(role: Role, standing: Standing) -> None:
    assert standing_of(role) is standing
