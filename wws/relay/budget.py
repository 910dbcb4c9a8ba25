"""How many bytes a relay carries in a day, for those who pay for its traffic.

Every byte that is carried counts once, in whichever direction; it comes in once and goes out once, so the
host's traffic is about twice the budget. A small piece counts for more, as there is much around it. The day
is that of UTC. The count survives a restart through `to_json` and `restore`; a clock that goes back keeps the
count, for that is the cheaper mistake.

One party, the /24 or /56 that asks for circuits, gets no more than its share of the day: else a single
household could spend in an hour what all others are served with. Shares are counted anew after a restart.
"""

from __future__ import annotations

from typing import TypeGuard

from wws.codec.canonical import JsonObject
from wws.errors import ParseError

DAY = 86_400
ALERTS = (80, 100)
"""Percents of the budget at which the operator is told."""


class DailyBudget:
    """Bytes carried today, against a limit; a limit of 0 is none."""

    def __init__(self, limit: int, share: float = 1.0, max_parties: int = 8192) -> None:
        """:param share: the part of the limit that one party may use.
        :param max_parties: whose use is remembered; who has used nothing for longest is forgotten first.
        """
        self.limit = limit
        self.share = share
        self.max_parties = max_parties
        self._day = 0
        self._used = 0
        self._used_by: dict[str, int] = {}  # in the order of last use

    def used(self, unix_now: int) -> int:
        """Bytes carried today."""
        self._turn(unix_now)
        return self._used

    def is_spent(self, unix_now: int) -> bool:
        """Whether nothing more may be carried today."""
        return 0 < self.limit <= self.used(unix_now)

    def is_share_spent(self, party: str | None, unix_now: int) -> bool:
        """Whether nothing more may be carried for a party today; `None` is nobody in particular."""
        self._turn(unix_now)
        used = 0 if party is None else self._used_by.get(party, 0)
        return self.limit > 0 and used > 0 and used >= self.limit * self.share

    def percent(self, unix_now: int) -> int:
        """How much of the budget is used; 0 without one."""
        return self.used(unix_now) * 100 // self.limit if self.limit else 0

    @staticmethod
    def seconds_to_reset(unix_now: int) -> int:
        """Seconds until the next day begins."""
        return DAY - unix_now % DAY

    def spend(self, count: int, unix_now: int, party: str | None = None) -> int:
        """Count bytes carried for a party. The highest of `ALERTS` that has been reached with them, or 0."""
        before = self.used(unix_now)
        self._used += count
        if party is not None:
            self._used_by[party] = self._used_by.pop(party, 0) + count
            while len(self._used_by) > self.max_parties:
                del self._used_by[next(iter(self._used_by))]
        if not self.limit:
            return 0
        return max((of for of in ALERTS if before * 100 < of * self.limit <= self._used * 100), default=0)

    def to_json(self) -> JsonObject:
        """What has to survive a restart."""
        return {"day": self._day, "bytes": self._used}

    def restore(self, value: JsonObject) -> None:
        """Go on from what `to_json` gave; what was carried meanwhile counts as well, for peers are served
        before the file is read. Raises `ParseError` for anything else, and nothing has changed."""
        day, used = value.get("day"), value.get("bytes")
        if not _is_count(day) or not _is_count(used):
            raise ParseError("not the state of a byte budget")
        if day >= self._day:
            self._day, self._used = day, used + (self._used if day == self._day else 0)

    def _turn(self, unix_now: int) -> None:
        day = unix_now // DAY
        if day > self._day:
            self._used = 0
            self._used_by.clear()
        self._day = day


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
