"""The two times, and the clock that tests hold in their hands."""

import pytest

from wws.runtime.clock import Clock, SystemClock
from wws.testing.clock import ManualClock


def test_the_manual_clock_moves_both_times_or_one():
    clock: Clock = (manual := ManualClock(now=5.0, unix_now=100))
    manual.advance(1.5)
    assert (clock.monotonic(), clock.unix()) == (6.5, 101)
    manual.set_unix(50)
    assert (clock.monotonic(), clock.unix()) == (6.5, 50)
    with pytest.raises(ValueError, match="never goes back"):
        manual.advance(-1)


def test_the_clock_of_this_machine_does_not_go_back():
    clock: Clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert isinstance(clock.unix(), int)
