"""When whose turn is: things that many want done come one after the other, at a pace of each party.

Who waits has taken his turn already, and gives it back when he does not want it any more; else the turns of
those who went away would keep everybody waiting who comes after them.
"""

from __future__ import annotations

from collections.abc import Hashable

_LOOK_AT = 1_024
"""Parties above which those are forgotten whose turns are all over."""


class Turns:
    """Turns by key. Pure; `now` is monotonic seconds. Holds no more keys than have had a turn lately."""

    def __init__(self, per_second: float, burst: int = 1) -> None:
        """`burst` turns of a key may come at once."""
        self._interval = 1 / per_second
        self._ahead = (burst - 1) * self._interval
        self._next: dict[Hashable, float] = {}
        self._look_at = _LOOK_AT

    def __len__(self) -> int:
        return len(self._next)

    def take(self, key: Hashable, now: float) -> float:
        """When the next turn of this key is: now, or later."""
        if len(self._next) >= self._look_at:
            self._next = {key: at for key, at in self._next.items() if at > now}
            self._look_at = max(_LOOK_AT, 2 * len(self._next))
        at = max(now, self._next.get(key, now))
        self._next[key] = at + self._interval
        return max(now, at - self._ahead)

    def give_back(self, key: Hashable, now: float) -> None:
        """A turn that was taken is not wanted any more: who comes later comes sooner for it."""
        at = self._next.get(key)
        if at is not None:
            self._next[key] = max(now, at - self._interval)

    def forget(self, key: Hashable) -> None:
        """Nobody asks for turns of this key any more."""
        self._next.pop(key, None)
