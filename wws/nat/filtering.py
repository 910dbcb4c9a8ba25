"""Whom a NAT lets in to a mapping: found out with a probe (RFC 4787, section 5; wire.md section 2, AutoNAT).

A mapping that we use has sent to many peers, so that any of them may get through a NAT that filters: success
of a server on it would prove nothing. A probe is a fresh socket that has only ever sent to server *a*; then
other servers, the helpers, dial the address at which *a* sees it.

    RESTING --Start--> OPENING --ProbeOpened--> ASKING --Answered…--> RESTING
                          '------ProbeLost--------'----ProbeLost--------'

- A helper gets through: the filtering is endpoint-independent (`open`).
- None does: the NAT filters. *a* dials the probe too, from another port than the one that was sent to: if
  not even that passes, the NAT filters by port as well, and a dial to our real mapping can only succeed where
  somebody has opened the port by hand. Then, and only after two probes through different servers have shown
  it, the mapping is worth a question of its own (`may_be_forwarded`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal, TypeAlias

from wws.errors import LocalProtocolError
from wws.machine import Event
from wws.nat.observed import Party
from wws.nat.reachability_events import Answered, ProbeLost, ProbeOpened, ProbingConfig, Server

Filter: TypeAlias = Literal["open", "filtered", "unknown"]

_SHOWN_BY = 2
"""Servers through which a probe has to show that a NAT filters by port."""


class State(Enum):
    RESTING = auto()
    OPENING = auto()
    ASKING = auto()


@dataclass(frozen=True, slots=True)
class Start(Event):
    """Probe through this server; `probe` names the socket."""

    probe: int
    through: Server


TRANSITIONS: dict[tuple[State, type[Event]], frozenset[State]] = {
    (State.RESTING, Start): frozenset({State.OPENING}),
    (State.OPENING, ProbeOpened): frozenset({State.ASKING}),
    (State.OPENING, ProbeLost): frozenset({State.RESTING}),
    (State.ASKING, Answered): frozenset({State.ASKING, State.RESTING}),
    (State.ASKING, ProbeLost): frozenset({State.RESTING}),
}


class Filtering:
    """What is known of the filtering on one way, and the probe that is under way, if any."""

    def __init__(self, config: ProbingConfig, now: float) -> None:
        self._config = config
        self.state = State.RESTING
        self.filter: Filter = "unknown"
        self.confidence = 0
        """Probes in a row that showed it."""
        self.next_at = now
        """When to probe again."""
        self.probe: int | None = None
        self.through: Server | None = None
        """The server that the probe has sent to, now or the last time."""
        self._interval = config.retry
        self._contrary = 0
        self._asks: dict[int, bool] = {}  # ask: whether it went to `through` itself
        self._helped = False
        self._failed = 0
        self._own: bool | None = None
        self._port_filtered: set[Party] = set()

    @property
    def may_be_forwarded(self) -> bool:
        """Whether a success on our real mapping could only mean that the port is open to all."""
        return self.filter == "filtered" and len(self._port_filtered) >= _SHOWN_BY

    def handle(self, event: Event, now: float) -> None:
        """Raises `LocalProtocolError` for an event that has no place now."""
        if (self.state, type(event)) not in TRANSITIONS:
            raise LocalProtocolError(f"{type(event).__name__} while {self.state.name}")
        match event:
            case Start(probe=probe, through=through):
                self.state, self.probe, self.through = State.OPENING, probe, through
                self._asks, self._helped, self._failed, self._own = {}, False, 0, None
            case ProbeOpened():
                self.state = State.ASKING
            case ProbeLost():
                self._rest(now, None)
            case Answered(ask=ask, reached=reached):
                if ask not in self._asks:
                    raise LocalProtocolError(f"question {ask} is not one of this probe")
                self._answered(self._asks.pop(ask), reached, now)

    def asked(self, ask: int, server: Server) -> None:
        """A server was asked to dial the probe: a helper, or the one that the probe goes through."""
        if self.state is not State.ASKING or self.through is None:
            raise LocalProtocolError(f"a question while {self.state.name}")
        self._asks[ask] = server.peer == self.through.peer

    def give_up(self, now: float) -> None:
        """Nobody can be asked, so the probe is of no use."""
        self._rest(now, None)

    def _answered(self, is_own: bool, reached: bool | None, now: float) -> None:
        if is_own:
            self._own = reached
        elif reached:
            self._helped = True
        elif reached is False:
            self._failed += 1
        if self._helped:
            self._rest(now, True)  # nothing more to learn
        elif not self._asks:
            self._rest(now, False if self._failed else None)

    def _rest(self, now: float, got_through: bool | None) -> None:
        self.state, self.probe = State.RESTING, None
        self._asks = {}
        if got_through is None:
            self.next_at = now + self._interval
            self._interval = min(self._interval * 2, self._config.longest)
            return
        before = self.filter
        if got_through:
            self._contrary = 0
            self._port_filtered.clear()
            self.filter = "open"
        else:
            self._contrary += 1
            self._note_ports()
            if before != "open" or self._contrary >= self._config.contrary:
                self.filter = "filtered"
        if self.filter != before:
            self.confidence, self._interval = 1, self._config.second_look
        elif got_through != (self.filter == "open"):
            self.confidence, self._interval = max(0, self.confidence - 1), self._config.second_look
        else:
            self.confidence = min(self.confidence + 1, self._config.max_confidence)
            self._interval = max(self._config.recheck, min(self._interval * 2, self._config.longest))
        self.next_at = now + self._interval

    def _note_ports(self) -> None:
        if self._own is True:
            self._port_filtered.clear()
        elif self._own is False and self.through is not None:
            self._port_filtered.add(self.through.party)
