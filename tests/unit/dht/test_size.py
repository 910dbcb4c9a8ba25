"""The estimate of the swarm's size: exact where all are met, honest about its error elsewhere."""

from __future__ import annotations

import random

import pytest

from wws.dht.positions import KEY_SPACE
from wws.dht.size import SizeConfig, SwarmSize

K = 20


def look_ups(nodes: int, count: int, seed: int = 1) -> SwarmSize:
    rng = random.Random(seed)
    positions = [rng.randrange(KEY_SPACE) for _ in range(nodes)]
    size = SwarmSize(K)
    for _ in range(count):
        target = rng.randrange(KEY_SPACE)
        size.saw(target, sorted(position ^ target for position in positions)[:K], 0)
    return size


@pytest.mark.parametrize("nodes", [100, 1_000, 10_000])
def test_the_estimate_is_near_and_its_bounds_hold(nodes: int) -> None:
    estimate = look_ups(nodes, 16).estimate(known=20, serving=False, now=1)
    assert estimate.method == "density"
    assert nodes * 0.75 <= estimate.count <= nodes * 1.33
    assert estimate.low <= nodes <= estimate.high
    assert estimate.high - estimate.low < nodes * 0.6


def test_the_bounds_hold_nineteen_times_of_twenty() -> None:
    inside = 0
    for seed in range(100):
        estimate = look_ups(300, 8, seed).estimate(known=0, serving=False, now=1)
        inside += estimate.low <= 300 <= estimate.high
    assert inside >= 90


@pytest.mark.parametrize("others", [0, 1, 2, 19])
def test_a_small_swarm_is_counted(others: int) -> None:
    size = SwarmSize(K)
    if others:
        size.saw(5, list(range(others)), 0)
    for serving in (True, False):
        estimate = size.estimate(known=others, serving=serving, now=0)
        assert estimate.count == estimate.low == estimate.high == others + serving
        assert estimate.method == "counted"


def test_it_is_never_below_what_is_known() -> None:
    size = SwarmSize(K)
    size.saw(0, [KEY_SPACE - 1] * K, 0)
    estimate = size.estimate(known=50, serving=True, now=0)
    assert estimate.low >= 51
    assert estimate.low <= estimate.count <= estimate.high


def test_a_crowd_at_a_few_keys_does_not_move_it() -> None:
    size = look_ups(1_000, 11)
    for target in range(5):
        size.saw(target, list(range(K)), 0)
    assert 700 <= size.estimate(known=0, serving=False, now=0).count <= 1_500


def test_samples_age_and_are_bounded() -> None:
    size = SwarmSize(K, SizeConfig(max_samples=2, sample_lifetime=10))
    for target, distance in enumerate([1, KEY_SPACE // 2, KEY_SPACE // 2]):
        size.saw(target, [distance] * K, target)
    share = size.share(5)
    assert share is not None
    assert share == pytest.approx(0.5)
    assert size.share(100) is None
    assert size.estimate(known=7, serving=True, now=100).count == 8


def test_few_look_ups_at_crowded_places_are_balanced_by_narrow_ones() -> None:
    """A node that has only looked for itself, beside an attacked key, must not believe in a dense swarm."""
    size = SwarmSize(20)
    crowded = [KEY_SPACE >> 40] * 20
    size.saw(1, crowded, 0)
    assert size.share(0) == pytest.approx(2**-40, rel=0.1)
    for target in range(2, 6):
        size.saw_narrowly(target, [KEY_SPACE // 250] * 8, 1)
    assert size.share(1) == pytest.approx(20 / 8 / 250)
    assert size.estimate(5, True, 1).method == "density"
    # Once there are enough good samples the rough ones do not count.
    for target in range(10, 20):
        size.saw(target, [KEY_SPACE // 50] * 20, 2)
    assert size.share(2) == pytest.approx(1 / 50)


def test_a_swarm_that_shrank_is_counted_again() -> None:
    size = look_ups(100, 5)
    size.saw(1, [1, 2, 3], 1)
    assert size.estimate(known=3, serving=True, now=1).count == 4
