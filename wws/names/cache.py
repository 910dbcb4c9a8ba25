"""What look-ups found a moment ago: the bytes of the winner, or that there was none.

Only what the DHT showed is kept, never a judgement: pins, witnesses' receipts, the deny list and the clock
are consulted anew at every use, so an answer from here can never say what they no longer do. What would have
changed the look-up itself makes an entry void: other witnesses (they decide which record wins), and a clock
that was set, or stood still while the machine slept.

    look-up ──found──> fresh ──half its life──> ageing (answers, and asks for a new look-up) ──> gone
            ──nothing──> missing ──a few seconds──> gone
            ──no answer──> nothing is remembered
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Bounds of the cache."""

    most: int = 1_024
    """Answers kept, each up to 8 KiB; the least recently used goes first."""
    most_missing: int = 1_024
    """Names kept that were looked for and not found."""
    lifetime: float = 60.0
    """Seconds for which an answer is good. An owner who moves is found again after as many at most, or at the
    first dial that fails."""
    refresh_share: float = 0.5
    """Share of this life from which on a use asks for a new look-up meanwhile: who is used often is never
    waited for."""
    missing_lifetime: float = 5.0
    """The same for what was not found. Short: somebody may be about to claim it."""
    clock_slack: float = 5.0
    """Seconds by which the two clocks may drift apart before it counts as a set clock."""


@dataclass(frozen=True, slots=True)
class Cached:
    """What a look-up had found. `value` is `None` where it had found nothing."""

    value: bytes | None
    is_ageing: bool = False
    """A new look-up is due, and need not be waited for."""


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes | None
    at: float
    unix_at: int
    lifetime: float
    good_until: int
    """Unix time at which the record's own life is over."""
    judges: Hashable


class ResolutionCache:
    """Answers by DHT key. `judges` is what decided between records, the sets of witnesses: one taken by
    others is void."""

    def __init__(self, config: CacheConfig | None = None) -> None:
        self._config = config or CacheConfig()
        self._found: OrderedDict[str, _Entry] = OrderedDict()
        self._missing: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found) + len(self._missing)

    def find(self, key: str, judges: Hashable, now: float, unix_now: int) -> Cached | None:
        """What is known under a key, if it may still be used."""
        for table in (self._found, self._missing):
            entry = table.get(key)
            if entry is None:
                continue
            if not self._is_good(entry, judges, now, unix_now):
                del table[key]
                continue
            table.move_to_end(key)
            age = now - entry.at
            return Cached(
                entry.value, entry.value is not None and age >= self._config.refresh_share * entry.lifetime
            )
        return None

    def found(
        self, key: str, value: bytes, judges: Hashable, now: float, unix_now: int, *, good_until: int
    ) -> None:
        """A look-up found a record whose life is over at `good_until`."""
        self._missing.pop(key, None)
        self._put(
            self._found,
            self._config.most,
            key,
            _Entry(value, now, unix_now, self._config.lifetime, good_until, judges),
        )

    def missing(self, key: str, judges: Hashable, now: float, unix_now: int) -> None:
        """A look-up was answered, and nobody has anything. Never to be said of one that was not answered."""
        self._found.pop(key, None)
        lifetime = self._config.missing_lifetime
        self._put(
            self._missing,
            self._config.most_missing,
            key,
            _Entry(None, now, unix_now, lifetime, unix_now + int(lifetime) + 1, judges),
        )

    def forget(self, key: str) -> None:
        """What is known under a key is not true any more: a dial failed, an owner changed, we claimed it."""
        self._found.pop(key, None)
        self._missing.pop(key, None)

    def clear(self) -> None:
        self._found.clear()
        self._missing.clear()

    def _is_good(self, entry: _Entry, judges: Hashable, now: float, unix_now: int) -> bool:
        age = now - entry.at
        drift = abs((unix_now - entry.unix_at) - age)
        return (
            0 <= age < entry.lifetime
            and unix_now < entry.good_until
            and drift <= self._config.clock_slack
            and entry.judges == judges
        )

    @staticmethod
    def _put(table: OrderedDict[str, _Entry], most: int, key: str, entry: _Entry) -> None:
        table.pop(key, None)
        table[key] = entry
        if len(table) > most:
            table.popitem(last=False)
