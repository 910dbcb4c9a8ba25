"""Ranges against the ones of aioquic, which are slow and right."""

from __future__ import annotations

import pytest
from aioquic.quic.rangeset import RangeSet
from hypothesis import given
from hypothesis import strategies as st

from wws.transport.quic.ranges import Ranges, TooFragmented

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "subtract", "shift"]), st.integers(0, 60), st.integers(1, 12)),
    max_size=40,
)


@given(STEPS)
def test_they_do_what_those_of_aioquic_do(steps: list[tuple[str, int, int]]) -> None:
    ours, theirs = Ranges(1000), RangeSet()
    for step, start, length in steps:
        if step == "shift":
            if len(theirs):
                assert ours.shift() == theirs.shift()
        else:
            getattr(ours, step)(start, start + length)
            getattr(theirs, step)(start, start + length)
        assert list(ours) == list(theirs)
        assert len(ours) == len(theirs)
        assert [number in ours for number in range(80)] == [number in theirs for number in range(80)]
        if len(theirs):
            assert ours.bounds() == theirs.bounds()
            assert (ours[0], ours[-1], ours[-2:]) == (theirs[0], theirs[-1], theirs[-2:])
        assert ours == theirs


def test_a_single_number() -> None:
    ranges = Ranges(10)
    ranges.add(5)
    assert list(ranges) == [range(5, 6)]


def test_one_range_too_many() -> None:
    ranges = Ranges(3)
    for number in (0, 2, 4):
        ranges.add(number)
    ranges.add(1)
    ranges.add(8)
    with pytest.raises(TooFragmented):
        ranges.add(6)
    ranges.add(5, 8)
    assert list(ranges) == [range(3), range(4, 9)]
