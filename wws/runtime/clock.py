"""The only place that reads the time.

`monotonic()` decides when to act, `unix()` whether a signed thing is still valid; they are never mixed.
A test hands in a clock of its own: `wws.testing.clock.ManualClock`.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def monotonic(self) -> float:
        """Seconds since some moment in the past; never goes back."""
        ...

    def unix(self) -> int:
        """Unix time in whole seconds, as this machine believes it."""
        ...


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def unix(self) -> int:
        return int(time.time())
