"""Token buckets, for all and by party."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wws.mesh.rates import Bucket, Rates


def test_a_bucket_saves_up_to_its_burst() -> None:
    bucket = Bucket(rate=1, burst=2, now=0)
    assert [bucket.take(100) for _ in range(3)] == [True, True, False]
    assert bucket.take(101)


@given(st.lists(st.integers(0, 20), max_size=100))
def test_rates_are_remembered_for_so_many_parties(keys: list[int]) -> None:
    rates = Rates(1.0, 1, max_tracked=5)
    for now, key in enumerate(keys):
        rates.take(key, now / 1000)
        assert len(rates) <= 5
    for key in range(6):  # the one that was idle for longest is forgotten
        rates.take(key, 1.0)
    assert not rates.take(5, 1.0)
    assert rates.take(0, 1.0)
