"""Simulated time: a heap of what happens when. Nothing waits; the clock jumps to the next thing."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class SimulatedTime:
    """Monotonic and Unix seconds of a simulated world. Things due at the same moment happen in the order in
    which they were asked for, so that a run depends on nothing but its seed."""

    def __init__(self, unix_start: int = 1_800_000_000) -> None:
        self.now = 0.0
        self._unix_start = unix_start
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._serial = 0

    @property
    def unix_now(self) -> int:
        return self._unix_start + int(self.now)

    def at(self, when: float, action: Callable[..., None], *arguments: object) -> None:
        """Do something at `when`, or at once when that has passed."""
        self._serial += 1
        heapq.heappush(self._queue, (max(when, self.now), self._serial, action, arguments))

    def after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Do something in `delay` seconds."""
        self.at(self.now + delay, action, *arguments)

    def run_until(self, when: float) -> None:
        """Let everything happen that is due up to `when`; it is `when` then."""
        while self._queue and self._queue[0][0] <= when:
            self.now, _, action, arguments = heapq.heappop(self._queue)
            action(*arguments)
        self.now = max(self.now, when)

    def run_while(self, condition: Callable[[], bool], *, limit: float) -> bool:
        """Let things happen for as long as `condition` holds, until `limit`; whether it ended before."""
        while condition():
            if not self._queue or self._queue[0][0] > limit:
                self.now = max(self.now, limit)
                return False
            self.now, _, action, arguments = heapq.heappop(self._queue)
            action(*arguments)
        return True
