"""What look-ups found a moment ago, and all that makes it void (contract: cached answers, targets.md)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wws.names.cache import CacheConfig, Cached, ResolutionCache

KEY = "/wws/names/alice"
NOW = 1_800_000_000
FAR = NOW + 86_400


def filled(config: CacheConfig | None = None) -> ResolutionCache:
    cache = ResolutionCache(config)
    cache.found(KEY, b"record", "w", 0, NOW, good_until=FAR)
    return cache


@pytest.mark.parametrize(
    "seconds, clock, judges, found",
    [
        (0, 0, "w", Cached(b"record")),
        (29, 29, "w", Cached(b"record")),
        (30, 30, "w", Cached(b"record", is_ageing=True)),
        (59, 59, "w", Cached(b"record", is_ageing=True)),
        (60, 60, "w", None),
        (10, 10, "other witnesses", None),
        (10, 15, "w", Cached(b"record")),
        (10, 16, "w", None),
        (10, 4, "w", None),
        (10, 86_410, "w", None),
        (10, -86_390, "w", None),
    ],
)
def test_how_long_an_answer_is_good(seconds: int, clock: int, judges: str, found: Cached | None) -> None:
    assert filled().find(KEY, judges, seconds, NOW + clock) == found


def test_what_is_void_is_gone() -> None:
    cache = filled()
    assert cache.find(KEY, "other", 1, NOW + 1) is None
    assert cache.find(KEY, "w", 1, NOW + 1) is None
    assert len(cache) == 0


def test_never_beyond_the_life_of_the_record() -> None:
    cache = ResolutionCache()
    cache.found(KEY, b"record", "w", 0, NOW, good_until=NOW + 20)
    assert cache.find(KEY, "w", 19, NOW + 19) is not None
    assert cache.find(KEY, "w", 20, NOW + 20) is None


def test_what_was_not_found_is_good_for_seconds() -> None:
    cache = ResolutionCache()
    cache.missing(KEY, "w", 0, NOW)
    assert cache.find(KEY, "w", 4, NOW + 4) == Cached(None)
    assert cache.find(KEY, "w", 5, NOW + 5) is None


def test_the_later_of_two_look_ups_counts() -> None:
    cache = filled()
    cache.missing(KEY, "w", 1, NOW + 1)
    assert cache.find(KEY, "w", 2, NOW + 2) == Cached(None)
    cache.found(KEY, b"again", "w", 3, NOW + 3, good_until=FAR)
    assert cache.find(KEY, "w", 4, NOW + 4) == Cached(b"again")
    assert len(cache) == 1
    cache.forget(KEY)
    assert cache.find(KEY, "w", 4, NOW + 4) is None


def test_the_least_recently_used_goes_first() -> None:
    cache = ResolutionCache(CacheConfig(most=2, most_missing=2))
    for key in "ab":
        cache.found(key, b"", "w", 0, NOW, good_until=FAR)
        cache.missing(key * 2, "w", 0, NOW)
    cache.find("a", "w", 0, NOW)
    cache.find("aa", "w", 0, NOW)
    cache.found("c", b"", "w", 0, NOW, good_until=FAR)
    cache.missing("cc", "w", 0, NOW)
    assert [key for key in ("a", "b", "c", "aa", "bb", "cc") if cache.find(key, "w", 0, NOW)] == [
        "a", "c", "aa", "cc",
    ]  # fmt: skip
    cache.clear()
    assert len(cache) == 0


class Life(RuleBasedStateMachine):
    """Any life of a cache beside a plain account of what was learned last."""

    def __init__(self) -> None:
        super().__init__()
        self.config = CacheConfig(most=3, most_missing=3)
        self.cache = ResolutionCache(self.config)
        self.now, self.unix_now, self.judges = 0.0, NOW, 0
        self.learned: dict[str, tuple[bytes | None, float, int, int, int]] = {}

    keys = st.sampled_from(["a", "b", "c", "d", "e"])

    @rule(key=keys, life=st.integers(-10, 200))
    def find_record(self, key: str, life: int) -> None:
        good_until = self.unix_now + life
        self.cache.found(key, key.encode(), self.judges, self.now, self.unix_now, good_until=good_until)
        self.learned[key] = (key.encode(), self.now, self.unix_now, self.judges, good_until)

    @rule(key=keys)
    def find_nothing(self, key: str) -> None:
        self.cache.missing(key, self.judges, self.now, self.unix_now)
        self.learned[key] = (None, self.now, self.unix_now, self.judges, self.unix_now + 6)

    @rule(key=keys)
    def forget(self, key: str) -> None:
        self.cache.forget(key)
        self.learned.pop(key, None)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.unix_now += int(seconds)

    @rule(seconds=st.sampled_from([-86_400, -4, 4, 86_400]))
    def set_clock(self, seconds: int) -> None:
        self.unix_now += seconds

    @rule()
    def change_witnesses(self) -> None:
        self.judges += 1

    @rule(key=keys)
    def use(self, key: str) -> None:
        cached = self.cache.find(key, self.judges, self.now, self.unix_now)
        if cached is None:
            return
        value, at, unix_at, judges, good_until = self.learned[key]
        life = self.config.lifetime if value is not None else self.config.missing_lifetime
        assert cached.value == value
        assert judges == self.judges
        assert self.now - at < life
        assert self.unix_now < good_until
        assert abs((self.unix_now - unix_at) - (self.now - at)) <= self.config.clock_slack

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.cache) <= 6


TestLife = Life.TestCase


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60))
def test_no_key_is_both_found_and_missing(steps: list[tuple[str, bool]]) -> None:
    cache = ResolutionCache(CacheConfig(most=3, most_missing=3))
    for key, there in steps:
        if there:
            cache.found(key, b"", "w", 0, NOW, good_until=FAR)
        else:
            cache.missing(key, "w", 0, NOW)
        assert cache.find(key, "w", 0, NOW) == Cached(b"" if there else None)
