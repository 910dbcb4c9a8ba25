"""Is the peer still there, and how far away? The pings of a yamux session.

quiet ──silent for `keep_alive_interval`, or asked to──► pinged ──answer──► quiet
                                                           '──silent for `ping_timeout`──► overdue
"""

from __future__ import annotations

from enum import Enum

from wws.transport.yamux_frames import MAX_WINDOW
from wws.transport.yamux_limits import YamuxConfig


class Due(Enum):
    """What a timer asks for."""

    NOTHING = 0
    PING = 1
    TIMEOUT = 2


class KeepAlive:
    """One ping at a time; who wants one while it is under way joins it."""

    __slots__ = ("_config", "_pinged_at", "heard_at", "round_trip", "token")

    heard_at: float
    """When the last byte of the peer came."""
    round_trip: float | None
    """The smoothed round-trip time in seconds, once measured."""
    token: int
    """The value of the last ping."""

    def __init__(self, config: YamuxConfig, now: float) -> None:
        self._config = config
        self._pinged_at: float | None = None
        self.heard_at = now
        self.round_trip = None
        self.token = 0

    def begin_ping(self, now: float) -> bool:
        """Whether a ping with `token` is to be sent; not when one is under way."""
        if self._pinged_at is not None:
            return False
        self._pinged_at = now
        self.token = (self.token + 1) & MAX_WINDOW
        return True

    def take_pong(self, token: int, now: float) -> float | None:
        """The round trip that this answer tells; `None` when it answers nothing."""
        if self._pinged_at is None or token != self.token:
            return None
        sample = max(0.0, now - self._pinged_at)
        self._pinged_at = None
        self.round_trip = sample if self.round_trip is None else (self.round_trip + sample) / 2
        return sample

    def next_wakeup(self) -> float:
        """When `due` may give something else than NOTHING."""
        if self._pinged_at is None:
            return self.heard_at + self._config.keep_alive_interval
        # Whatever the peer sends shows that it lives: a pong may wait behind much data.
        return max(self._pinged_at, self.heard_at) + self._config.ping_timeout

    def due(self, now: float) -> Due:
        """What is to be done at `now`."""
        if now < self.next_wakeup():
            return Due.NOTHING
        return Due.PING if self._pinged_at is None else Due.TIMEOUT
