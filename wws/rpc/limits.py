"""How often a caller may call: token buckets, by caller and by method.

    take([(key, rate), …], now)    from all of them, or from none and `RateLimited`

A bucket begins full, holds `rate.times`, and fills evenly in `rate.per` seconds. What has filled again is
forgotten, so the table holds those alone who called lately; callers are bounded before they come here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from wws.errors import WwsError
from wws.rpc.policy import Rate


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """The general rates, by who calls."""

    owner: Rate = field(default=Rate(300_000, 60.0))
    """The user's own calls: it stops a program that has run wild, and nobody else."""
    agent: Rate = field(default=Rate(60, 60.0))
    """A registered agent."""
    newcomers: Rate = field(default=Rate(120, 60.0))
    """All agents together that register by their own signature."""
    max_buckets: int = 16_384
    """Buckets that are not full; over it calls are refused."""


class RateLimited(WwsError):
    """Called more often than allowed. Wait as many seconds as `retry_after` says."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after: float) -> None:
        seconds = max(1, math.ceil(retry_after))
        super().__init__(f"{message}: again in {seconds} s")
        self.details = {"retry_after": seconds}


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float
    rate: Rate

    def filled(self, now: float) -> float:
        added = max(0.0, now - self.at) * self.rate.times / self.rate.per
        return min(float(self.rate.times), self.level + added)


class Limits:
    """The buckets of one node. `now` is monotonic."""

    def __init__(self, config: LimitsConfig) -> None:
        self._config = config
        self._buckets: dict[str, _Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, wanted: Sequence[tuple[str, Rate]], now: float) -> None:
        """One from the bucket of each key. Raises `RateLimited`, and then nothing is taken."""
        levels = [self._level(key, rate, now) for key, rate in wanted]
        for (key, rate), level in zip(wanted, levels, strict=True):
            if level < 1.0:
                raise RateLimited(f"more than {rate}", (1.0 - level) * rate.per / rate.times)
            if key not in self._buckets and len(self._buckets) >= self._config.max_buckets:
                self._forget_full(now)
                if len(self._buckets) >= self._config.max_buckets:
                    raise RateLimited("too many callers at a time", rate.per)
        for (key, rate), level in zip(wanted, levels, strict=True):
            self._buckets[key] = _Bucket(level - 1.0, now, rate)

    def _level(self, key: str, rate: Rate, now: float) -> float:
        bucket = self._buckets.get(key)
        return float(rate.times) if bucket is None else min(bucket.filled(now), float(rate.times))

    def _forget_full(self, now: float) -> None:
        self._buckets = {
            key: bucket for key, bucket in self._buckets.items() if bucket.filled(now) < bucket.rate.times
        }
