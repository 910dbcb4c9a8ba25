"""How often a thing may be done: one token bucket for all, or one a party and a bounded number of them."""

from __future__ import annotations

from collections.abc import Hashable


class Bucket:
    """A token bucket: `rate` tokens a second, at most `burst` saved up."""

    __slots__ = ("_burst", "_last", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._last = now

    def reconfigure(self, rate: float, burst: float) -> None:
        """Fill at another pace from the last look on; what is saved up beyond the new burst is lost."""
        self._rate, self._burst = rate, burst

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Rates:
    """Token buckets by key. The key that has been idle for longest is forgotten first: it starts anew."""

    def __init__(self, per_second: float, burst: float, max_tracked: int) -> None:
        self._buckets: dict[Hashable, Bucket] = {}
        self.reconfigure(per_second, burst, max_tracked)

    def reconfigure(self, per_second: float, burst: float, max_tracked: int) -> None:
        """Let other bounds hold from now on; who has used its tokens up does not get them back by this."""
        self._per_second = per_second
        self._burst = max(1.0, burst)
        self._max_tracked = max_tracked
        for bucket in self._buckets.values():
            bucket.reconfigure(self._per_second, self._burst)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """Whether the party may do it once more now."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = Bucket(self._per_second, self._burst, now)
            while len(self._buckets) >= self._max_tracked:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket  # at the end: the dictionary is in order of last use
        return bucket.take(now)
