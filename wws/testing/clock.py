"""A clock that stands still until it is told to go on."""

from __future__ import annotations


class ManualClock:
    """A `wws.runtime.clock.Clock` for tests: both times move together, or one alone when told so."""

    def __init__(self, *, now: float = 0.0, unix_now: int = 1_800_000_000) -> None:
        self._now = now
        self._unix = float(unix_now)

    def monotonic(self) -> float:
        return self._now

    def unix(self) -> int:
        return int(self._unix)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Raises `ValueError` when that is less than none: time never goes back."""
        if seconds < 0:
            raise ValueError("time never goes back")
        self._now += seconds
        self._unix += seconds

    def set_unix(self, unix_now: int) -> None:
        """Set the wall clock, as a user or a time server does: also backwards, and `monotonic` unmoved."""
        self._unix = float(unix_now)
