"""A clock that no jump forward hurries: it says when names become free for others.

    wall clock   12:00 ── jumps by a day ──► 12:00 next day
    steady       12:00, and from there two seconds a second until it has caught up

A wall clock that is set a day ahead would end the grace of every owner who renewed yesterday, and a minute
later is set right again. So what frees a name follows the wall clock at most twice as fast as monotonic time
goes, and lags by at most a day: that is the jump we stand, and longer would block names after a suspended
machine wakes up. Backwards it follows at once.
"""

from __future__ import annotations

_PACE = 2.0
_MOST_LAG = 86_400


class SteadyClock:
    """Made at the first look."""

    def __init__(self) -> None:
        self._unix: float | None = None
        self._now = 0.0

    def read(self, now: float, unix_now: int) -> int:
        """Unix time as far as it may free names, from the monotonic and the wall clock."""
        if self._unix is None:
            self._unix = unix_now
        else:
            allowed = self._unix + _PACE * max(0.0, now - self._now)
            self._unix = max(min(unix_now, allowed), unix_now - _MOST_LAG)
        self._now = now
        return int(self._unix)
