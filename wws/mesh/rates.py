"""How often a thing may be done: one token bucket for all, or one a party and a bounded number of them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from wws.errors import RemoteProtocolError

RATE_LIMITED = "rate_limited"
"""The reason of a refusal: this peer asks too often."""
RATE_LIMITED_PREFIX = "rate_limited_prefix"
"""The reason of a refusal: the peers of its prefix together do."""


class RateLimited(RemoteProtocolError):
    """The peer asks too often."""

    code = RATE_LIMITED


class RateLimitedPrefix(RemoteProtocolError):
    """The peers of the peer's prefix together ask too often."""

    code = RATE_LIMITED_PREFIX


@dataclass(frozen=True, slots=True)
class Share:
    """How often one peer may do a thing, and how much more all peers of its prefix together may."""

    per_second: float
    """Of one peer, in the long run."""
    burst: float
    """Of one peer, at once."""
    prefix_share: float = 16.0
    """Peers' worth of it that one public IPv4 /24 or IPv6 /56 gets: identities cost nothing, and yet many
    live behind one address of a provider."""


class SharedRates:
    """One `Share`, kept by peer and by prefix."""

    def __init__(self, share: Share, max_tracked: int) -> None:
        self._peers = Rates(share.per_second, share.burst, max_tracked)
        self._prefixes = Rates(
            share.per_second * share.prefix_share, share.burst * share.prefix_share, max_tracked
        )

    def reconfigure(self, share: Share, max_tracked: int) -> None:
        """Let another share hold from now on."""
        self._peers.reconfigure(share.per_second, share.burst, max_tracked)
        self._prefixes.reconfigure(
            share.per_second * share.prefix_share, share.burst * share.prefix_share, max_tracked
        )

    def take(self, peer: Hashable, prefix: str | None, now: float, count: float = 1) -> str | None:
        """`None` when the peer may, else the word of whose share is used up. `prefix` is `None` where limits
        by prefix do not apply. The peer's share first: a greedy one must not use up that of its prefix."""
        if not self._peers.take(peer, now, count):
            return RATE_LIMITED
        if prefix is not None and not self._prefixes.take(prefix, now, count):
            return RATE_LIMITED_PREFIX
        return None

    def check(self, peer: Hashable, prefix: str | None, now: float, count: float = 1) -> None:
        """The same for who handles errors: raises `RateLimited` or `RateLimitedPrefix`."""
        word = self.take(peer, prefix, now, count)
        if word is not None:
            raise RateLimited if word == RATE_LIMITED else RateLimitedPrefix


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

    def take(self, now: float, count: float = 1) -> bool:
        """Take `count` tokens if they are all there, else none."""
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now
        if self._tokens < count:
            return False
        self._tokens -= count
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

    def take(self, key: Hashable, now: float, count: float = 1) -> bool:
        """Whether the party may do it once more now, or `count` times."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = Bucket(self._per_second, self._burst, now)
            while len(self._buckets) >= self._max_tracked:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket  # at the end: the dictionary is in order of last use
        return bucket.take(now, count)
