"""How often each of many parties may do a thing: one token bucket a party, a bounded number of them."""

from __future__ import annotations

from collections.abc import Hashable

from wws.mesh.admission import Bucket


class Rates:
    """Token buckets by key. The key that has been idle for longest is forgotten first: it starts anew."""

    def __init__(self, per_second: float, burst: int, max_tracked: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._max_tracked = max_tracked
        self._buckets: dict[Hashable, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float) -> bool:
        """Whether the party may do it once more now."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = Bucket(self._per_second, max(1, self._burst), now)
            if len(self._buckets) >= self._max_tracked:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket  # at the end: the dictionary is in order of last use
        return bucket.take(now)
