"""The links of the lab: when a frame arrives that is sent over one with a rate."""

import random

import pytest

from tests.lab.slow_links import _Direction, _Wire

FRAME = 1_250
"""Bytes: 10 ms at a million bits a second."""


def direction(**spec: float) -> _Direction:
    wire = _Wire()
    wire.set({"delay": 0.0, "jitter": 0.0, "loss": 0.0, "rate": 0.0, **spec})
    return _Direction(wire, to=0)


def arrivals(made: _Direction, *times: float) -> list[float | None]:
    rng = random.Random(1)
    return [made.arrival(time, FRAME, rng) for time in times]


def test_without_a_rate_frames_do_not_wait_for_each_other() -> None:
    assert arrivals(direction(delay=0.5), 1.0, 1.0, 1.25) == [1.5, 1.5, 1.75]


def test_frames_are_sent_one_after_the_other() -> None:
    made = direction(rate=1e6, delay=0.5)
    assert arrivals(made, 1.0, 1.0, 1.0) == pytest.approx([1.51, 1.52, 1.53])
    assert arrivals(made, 2.0) == pytest.approx([2.51]), "the link has been free meanwhile"


def test_the_queue_has_an_end() -> None:
    found = arrivals(direction(rate=1e6), *[1.0] * 30)
    taken = [time for time in found if time is not None]
    assert 20 <= len(taken) <= 21
    assert found[len(taken) :] == [None] * (30 - len(taken))
    assert max(taken) <= 1.0 + 0.2 + 0.01 + 1e-9
