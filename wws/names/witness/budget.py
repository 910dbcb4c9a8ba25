"""How many new names a witness lets one owner, and one prefix, claim in a day; and turns at one name.

A first claim blocks a name for ten minutes without proving anything but work. Once a day and owner it is
paid for from the budget (wire.md section 5), so nothing would keep one rival from blocking the same name
again and again all day. Therefore a turn that has kept others from a name, and ended without a majority, is
followed by a rest of its owner, and of the prefix it came from, at that name: as long as the turn was, times
the turns so far. Who drops within a second may try again within seconds; who sat there for ten minutes leaves
ten to others, then twenty, and so on: about fifteen turns a day.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from wws.identity.peer_id import PeerId
from wws.names.witness.entry import Caller, Counted, Key

DAY = 86_400

_Claim: TypeAlias = tuple[PeerId, Key]
_PartyT = TypeVar("_PartyT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    names_per_owner: int = 5
    """New names a day of one owner."""
    names_per_prefix: int = 20
    """New names a day of all owners of one IPv4 /24 or IPv6 /56."""
    max_counted: int = 50_000
    """New names a day of everybody: what is counted must be remembered for a day."""
    max_turns: int = 20_000
    """Turns at names that are remembered; the oldest is forgotten first."""


class Budget:
    """Counts new names by day. Sliding: each counts for a day from its claim on."""

    def __init__(self, config: BudgetConfig) -> None:
        self._config = config
        self._claims: dict[_Claim, Counted] = {}
        """In the order in which they were counted."""
        self._owners: dict[PeerId, dict[_Claim, Counted]] = {}
        self._prefixes: dict[str, dict[_Claim, Counted]] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def reconfigure(self, config: BudgetConfig) -> None:
        """Let other bounds hold from now on."""
        self._config = config

    def is_counted(self, owner: PeerId, key: Key, unix_now: int) -> bool:
        """Whether this owner has paid for this name within the last day."""
        counted = self._claims.get((owner, key))
        return counted is not None and abs(unix_now - counted.at) < DAY

    @property
    def is_full(self) -> bool:
        return len(self._claims) >= self._config.max_counted

    def owner_waits(self, owner: PeerId, unix_now: int) -> int:
        """Seconds until the owner may have a new name; 0: at once."""
        return _wait(self._owners.get(owner, {}), self._config.names_per_owner, unix_now)

    def prefix_waits(self, prefix: str | None, unix_now: int) -> int:
        """Seconds until anybody of the prefix may have a new name; 0: at once, and always without one."""
        if prefix is None:
            return 0
        return _wait(self._prefixes.get(prefix, {}), self._config.names_per_prefix, unix_now)

    def count(self, counted: Counted) -> None:
        """Count a new name. What it counted before, a day or more ago, is forgotten."""
        claim = (counted.owner, counted.key)
        if (before := self._claims.get(claim)) is not None:
            self.uncount(before)
        self._claims[claim] = counted
        self._owners.setdefault(counted.owner, {})[claim] = counted
        if counted.prefix is not None:
            self._prefixes.setdefault(counted.prefix, {})[claim] = counted

    def uncount(self, counted: Counted) -> None:
        """Forget a name that was counted."""
        claim = (counted.owner, counted.key)
        if self._claims.get(claim) != counted:
            return
        del self._claims[claim]
        _forget(self._owners, counted.owner, claim)
        if counted.prefix is not None:
            _forget(self._prefixes, counted.prefix, claim)

    def lapsed(self, unix_now: int, *, everywhere: bool = False) -> list[Counted]:
        """What has been counted for a day, and is not any more: from the oldest to the first that stays, or
        `everywhere`. A clock that was set back by a day forgives too: what it said before means nothing."""
        over: list[Counted] = []
        for counted in self._claims.values():
            if abs(unix_now - counted.at) >= DAY:
                over.append(counted)
            elif not everywhere:
                break
        for counted in over:
            self.uncount(counted)
        return over


class Turns:
    """Who has had turns at a name without getting it, and must rest. In memory only: a restart forgives."""

    def __init__(self, max_turns: int) -> None:
        self._max_turns = max_turns
        self._turns: dict[tuple[Hashable, Key], tuple[int, float]] = {}
        """Party and name → turns so far, and when the rest is over (monotonic)."""

    def __len__(self) -> int:
        return len(self._turns)

    def rest(self, caller: Caller, key: Key, now: float) -> int:
        """Seconds that the caller has to leave the name to others; 0: none."""
        ends = [self._turns.get((party, key), (0, now))[1] for party in _parties(caller.peer, caller.prefix)]
        return max(0, round(max(ends) - now))

    def ended(self, owner: PeerId, prefix: str | None, key: Key, held: float, now: float) -> None:
        """A turn of so many seconds has ended, and the name was not won."""
        for party in _parties(owner, prefix):
            count, _ = self._turns.pop((party, key), (0, 0.0))
            while len(self._turns) >= self._max_turns:
                del self._turns[next(iter(self._turns))]
            rest = max(0.0, held) * (count + 1)
            self._turns[party, key] = (count + 1, now + min(rest, DAY))

    def sweep(self, now: float) -> None:
        """Forget the turns of those who have not come again for a day after their rest."""
        for place in [place for place, (_, ends) in self._turns.items() if now >= ends + DAY]:
            del self._turns[place]


def _parties(peer: PeerId, prefix: str | None) -> Iterable[Hashable]:
    return (peer,) if prefix is None else (peer, prefix)


def _wait(claims: Mapping[_Claim, Counted], limit: int, unix_now: int) -> int:
    if len(claims) < limit:
        return 0
    return min(DAY, max(1, min(counted.at for counted in claims.values()) + DAY - unix_now))


def _forget(table: dict[_PartyT, dict[_Claim, Counted]], party: _PartyT, claim: _Claim) -> None:
    del table[party][claim]
    if not table[party]:
        del table[party]
