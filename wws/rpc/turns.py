"""How much of the node's time those may take who are not its owner.

To find out who calls, a line must be parsed and a signature checked; that happens on the one loop on which
the node does everything else, and costs milliseconds for the worst of lines. So it is counted: strangers,
agents and tokens have a share each, and wait in a queue of their own while theirs is used up. The owner never
waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from wws.rpc.policy import OWNER, Role


class Standing(IntEnum):
    """The most that the other end of a connection has shown of who it is."""

    STRANGER = 0
    """Nothing yet."""
    AGENT = 1
    """A signature of a registered agent. Anybody on this machine can become one, for some work."""
    PROGRAM = 2
    """A token."""
    OWNER = 3
    """That it is this user."""


def standing_of(role: Role) -> Standing:
    """What a caller of this role has shown."""
    if role in OWNER:
        return Standing.OWNER
    match role:
        case Role.TOKEN:
            return Standing.PROGRAM
        case Role.AGENT:
            return Standing.AGENT
        case _:
            return Standing.STRANGER


@dataclass(frozen=True, slots=True)
class TurnsConfig:
    """How much time each kind of caller gets."""

    share: float = 0.2
    """Of a second, in each second; for strangers and for agents."""
    programs: float = 0.4
    """The same for those who have a token: this user gave it to them, with a rate."""
    burst: float = 0.1
    """Seconds that may be used at once after a pause."""
    per_call: float = 0.0001
    """Seconds that a call is taken to cost beside parsing and proving: the rest cannot be measured apart."""


LIMITED: Final = (Standing.STRANGER, Standing.AGENT, Standing.PROGRAM)


class TimeShare:
    """What one kind of caller has used of its time. No I/O; `now` is monotonic."""

    def __init__(self, config: TurnsConfig, standing: Standing = Standing.STRANGER) -> None:
        self._config = config
        self._share = config.programs if standing is Standing.PROGRAM else config.share
        self._left = config.burst
        self._at = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next line may be read; 0 for at once."""
        self._fill(now)
        return 0.0 if self._left > 0 else -self._left / self._share + 0.001

    def spent(self, seconds: float, now: float) -> None:
        """So much time was used. It may be more than there was: the next line waits for it."""
        self._fill(now)
        self._left -= seconds

    def _fill(self, now: float) -> None:
        gained = max(0.0, now - self._at) * self._share
        self._left = min(self._config.burst, self._left + gained)
        self._at = max(self._at, now)
