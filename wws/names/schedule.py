"""When to renew, to look again, to try again: shared by the machines that keep a record published.

Whether a renewal has come is decided by the wall clock, which goes on while a machine sleeps and may be set;
the monotonic clock may do neither, so it only says when to look at the wall clock again. All times carry
jitter, so that a swarm that was started together does not act in step for ever.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from random import Random

from wws.addresses.multiaddr import Multiaddr
from wws.names.rules import CLOCK_TOLERANCE, MAX_LEASE


@dataclass(frozen=True, slots=True)
class UpkeepConfig:
    """The pace at which a record is kept published."""

    lifetime: int = MAX_LEASE
    """Seconds from a record's issue to its expiry."""
    renew_share: float = 1 / 3
    """Share of its life after which a record is renewed."""
    jitter: float = 0.1
    """Share by which renewals, checks and retries are spread."""
    check_interval: float = 3_600.0
    """Seconds between looks whether the DHT still has our record winning."""
    settle_after: float = 30.0
    """Seconds after a claim until the first such look: a rival's record may have been on its way."""
    retry_first: float = 5.0
    """Seconds to wait after a first failure; doubled after each further one."""
    retry_limit: float = 300.0
    """Seconds to wait at most."""
    addresses_interval: float = 10.0
    """Seconds between two records that differ only in addresses, at least."""
    lost_interval: float = 2.0
    """The same when none of the addresses published is right any more: nobody reaches us meanwhile."""
    clock_check: float = 60.0
    """Seconds after which the wall clock is looked at again, at most."""


@dataclass(frozen=True, slots=True)
class CoverConfig:
    """How an owner deals with its witnesses."""

    contest_pause: tuple[float, float] = (1.0, 10.0)
    """Seconds, at random between these, until a contested claim is tried again (wire.md section 5)."""
    contests: int = 20
    """Tries after which a contested claim is given up: about two minutes."""
    work_rounds: int = 3
    """Times that witnesses may ask for more work, one after the other."""
    renew_after_change: float = 540.0
    """Seconds within which the new witnesses are asked; wire.md section 5 gives ten minutes."""
    longest_delay: float = 3_600.0
    """Seconds to wait at most when a witness names a time: a budget is full for a day at the longest, but its
    witness may change its mind, and others may join."""
    searches: int = 10
    """Times that the record of who gives a name to us may be missing before that is given up."""


class Moved(Enum):
    """What has become of the addresses in a record."""

    NOT = "not"
    PARTLY = "partly"
    """They are others now, and some of the old ones may still do."""
    AWAY = "away"
    """None of the old ones is right any more, and there are new ones."""

    @classmethod
    def since(cls, published: Collection[Multiaddr], own: Collection[Multiaddr]) -> Moved:
        """From the addresses of a record to ours, in their order."""
        if tuple(published) == tuple(own):
            return cls.NOT
        return cls.AWAY if own and not set(published) & set(own) else cls.PARTLY


class Upkeep:
    """The times of one record: signed, due, to be checked."""

    def __init__(self, config: UpkeepConfig, rng: Random) -> None:
        self.config = config
        self._rng = rng
        self._issued_at = 0
        self._renew_at = 0
        self._signed_at = 0.0
        self._check_at = 0.0

    def signed(self, issued_at: int, expires_at: int, now: float) -> None:
        """A record was signed: from this its renewal is reckoned."""
        until_renewal = (expires_at - issued_at) * self.config.renew_share
        self._issued_at = issued_at
        self._renew_at = issued_at + int(self._jittered(until_renewal))
        self._signed_at = now

    def resigned(self, issued_at: int, now: float) -> None:
        """The record was signed anew for the same time: its renewal does not move away for that."""
        self._issued_at = issued_at
        self._signed_at = now

    def postponed(self, unix_now: int, delay: float) -> None:
        """The renewal did not succeed: it is due again after `delay` seconds."""
        self._issued_at = min(self._issued_at, unix_now)
        self._renew_at = unix_now + max(1, int(delay))

    def checked(self, now: float, *, again_after: float) -> None:
        """The record was seen in the DHT, and is to be looked at again."""
        self._check_at = now + self._jittered(again_after)

    def checked_until(self, at: float) -> None:
        """It is to be looked at by then."""
        self._check_at = min(self._check_at, at)

    def is_due(self, now: float, unix_now: int, *, moved: Moved) -> bool:
        """Whether to sign anew: a third of the life is over, the clock was set back, or we have moved."""
        if unix_now >= self._renew_at or unix_now < self._issued_at - CLOCK_TOLERANCE:
            return True
        return moved is not Moved.NOT and now >= self._moving_at(moved)

    def is_check_due(self, now: float) -> bool:
        """Whether to look again."""
        return now >= self._check_at

    def wakeup(self, now: float, unix_now: int, *, moved: Moved) -> float:
        """The next time at which something may be due."""
        times = [now + self.config.clock_check, self._check_at, now + max(0, self._renew_at - unix_now)]
        if moved is not Moved.NOT:
            times.append(max(now, self._moving_at(moved)))
        return min(times)

    def _moving_at(self, moved: Moved) -> float:
        away = moved is Moved.AWAY
        return self._signed_at + (self.config.lost_interval if away else self.config.addresses_interval)

    def _jittered(self, value: float) -> float:
        return jittered(self._rng, value, self.config.jitter)


class Backoff:
    """Growing delays: doubled after each failure up to a limit, back to the first after a success."""

    __slots__ = ("_config", "_delay", "_rng")

    def __init__(self, config: UpkeepConfig, rng: Random) -> None:
        self._config = config
        self._rng = rng
        self._delay = config.retry_first

    def next_delay(self) -> float:
        """Seconds to wait after this failure."""
        delay = jittered(self._rng, self._delay, self._config.jitter)
        self._delay = min(self._delay * 2, self._config.retry_limit)
        return delay

    def reset(self) -> None:
        """Something succeeded."""
        self._delay = self._config.retry_first


def jittered(rng: Random, value: float, share: float) -> float:
    """`value`, more or less by up to `share` of it."""
    return value * rng.uniform(1 - share, 1 + share)
