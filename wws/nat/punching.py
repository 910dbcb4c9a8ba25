"""Hole punching: what both sides of it share (libp2p "DCUtR"; the messages are in `wws.nat.dcutr`).

The side that accepted a circuit takes the initiative (`wws.nat.punch_initiator`), the one that dialled it
answers (`wws.nat.punch_receiver`). In the punched connection the side that dialled the circuit is the client.
Over TCP both sides dial at once; over QUIC the client dials, and the other side only opens its NAT, with
datagrams of random bytes, 10 to 200 ms apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.machine import Command
from wws.nat.dcutr import Here, TargetLimits, Targets, choose_targets
from wws.nat.kind import NatKind
from wws.nat.punch_budget import PunchBudget
from wws.nat.punch_events import CloseExchange, CountRefusal, Result, Stop


@dataclass(frozen=True, slots=True)
class HolePunchConfig:
    limits: TargetLimits = field(default_factory=TargetLimits)
    attempts: int = 3
    """Attempts before we rest, as the specification asks; one where both NATs map ports by destination."""
    identify_timeout: float = 15.0
    """Seconds that a peer gets to say who it is."""
    reversal_timeout: float = 3.0
    """Seconds to dial a peer that seems to be reachable, before we punch."""
    connect_timeout: float = 5.0
    """Seconds to wait for the peer's CONNECT."""
    sync_timeout: float = 5.0
    """Seconds to wait for the SYNC after our CONNECT."""
    punch_timeout: float = 5.0
    """Seconds that one punch lasts."""
    expect_timeout: float = 8.0
    """Seconds in which the peer should take the initiative, at first and after a punch that failed."""
    pause: float = 1.0
    """Seconds before the next attempt when an exchange broke."""
    busy_pause: float = 3.0
    """Seconds after which we look again for a place among the punches under way."""
    retry_after: float = 30.0
    """Seconds of rest after all attempts failed; doubled each time."""
    max_retry_after: float = 600.0
    """Longest rest in seconds."""
    min_rest: float = 5.0
    """Shortest rest in seconds, when addresses have changed before the rest was over."""
    datagram_interval: tuple[float, float] = (0.01, 0.2)
    """Seconds between two datagrams to one target, drawn evenly: the figures of the specification."""
    max_datagrams: int = 96
    """Datagrams to one target in one punch."""


class Role(StrEnum):
    INITIATOR = "initiator"
    """We accepted the circuit."""
    RECEIVER = "receiver"
    """We dialled it."""


class State(StrEnum):
    """The states of both machines."""

    IDENTIFYING = "identifying"
    REVERSING = "reversing"
    CONNECTING = "connecting"
    SYNCING = "syncing"
    PUNCHING = "punching"
    PAUSING = "pausing"
    RESTING = "resting"
    IDLE = "idle"
    EXPECTING = "expecting"
    OPENED = "opened"
    ANSWERED = "answered"
    DIRECT = "direct"
    ENDED = "ended"


class Spray:
    """When to send which target its next datagram."""

    def __init__(
        self, targets: tuple[Multiaddr, ...], now: float, config: HolePunchConfig, rng: random.Random
    ) -> None:
        self._config = config
        self._rng = rng
        self._left = dict.fromkeys(targets, config.max_datagrams)
        self._next = dict.fromkeys(targets, now)

    def due(self, now: float) -> list[Multiaddr]:
        """The targets whose time has come; each is put off by its next interval."""
        due = [target for target, at in self._next.items() if at <= now]
        for target in due:
            self._left[target] -= 1
            if self._left[target]:
                self._next[target] = now + self._rng.uniform(*self._config.datagram_interval)
            else:
                del self._next[target]
        return due

    def next_wakeup(self) -> float | None:
        return min(self._next.values(), default=None)


class HolePunching:
    """What both sides share: the place in the budget, the time-out, the end of a punch."""

    role: ClassVar[Role]
    _at_work: ClassVar[frozenset[State]]

    def __init__(
        self, peer: PeerId, config: HolePunchConfig, budget: PunchBudget, rng: random.Random, state: State
    ) -> None:
        self.peer = peer
        self.state = state
        self.reason = ""
        """Why there is no direct connection, for people; empty while nothing has failed."""
        self._config = config
        self._budget = budget
        self._rng = rng
        self._wakeup: float | None = None
        self._exchange = 0
        self._attempt = 0
        self._targets = Targets()
        self._peer_nat: NatKind = "unknown"

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way or expected to begin at once."""
        return self.state in (State.DIRECT, State.ENDED, State.RESTING, State.IDLE)

    @property
    def progress(self) -> str:
        """What is under way, for people, and what has come of it so far."""
        attempt = f" (attempt {self._attempt} of {self._config.attempts})" if self._attempt else ""
        return f"hole punching is going on{attempt}" + (f"; {self.reason}" if self.reason else "")

    @property
    def is_at_work(self) -> bool:
        """Whether an attempt is under way."""
        return self.state in self._at_work

    def next_wakeup(self) -> float | None:
        """When to hand in the next `TimerFired`."""
        return self._wakeup

    def _move(self, state: State, wakeup: float | None) -> None:
        self.state, self._wakeup = state, wakeup

    def _clear(self) -> list[Command]:
        """Stop what is under way and give the place back."""
        self._budget.leave((self.role, self.peer))
        commands: list[Command] = []
        if self.state in (State.REVERSING, State.PUNCHING):
            commands.append(Stop())
        if self.state in (State.CONNECTING, State.OPENED, State.ANSWERED):
            commands.append(CloseExchange(self._exchange))
        return commands

    def _choose(self, addresses: Iterable[Multiaddr], now: float, here: Here) -> None:
        """Take what a peer names for our targets, as far as we send packets there."""
        self._targets = self._budget.take_targets(choose_targets(addresses, here, self._config.limits), now)

    def _refused(self) -> list[Command]:
        return [CountRefusal("target_refused")] * self._targets.refused

    def _is_hopeless(self, here: Here) -> bool:
        """Whether no further attempt can be better than the last one was."""
        nobody_knows_a_port = here.nat == self._peer_nat == "address_dependent"
        return (nobody_knows_a_port and not self._targets.private) or self._has_nothing_in_common(here)

    def _has_nothing_in_common(self, here: Here) -> bool:
        """Whether one has IPv4 only and the other IPv6 only, as far as either is seen by others."""
        ours = {address.host_kind for address in here.observed}
        theirs = {target.host_kind for target in self._targets.punched}
        return bool(ours and theirs) and not ours & theirs

    def _why_failed(self, here: Here) -> str:
        """Why no packet came through, as far as can be known here."""
        ours, theirs = here.nat == "address_dependent", self._peer_nat == "address_dependent"
        if ours and theirs:
            return "both NATs map ports by destination (address-dependent)"
        if not self._targets.punched and not self._targets.private:
            return "the peer named no address that can be dialled from here"
        if self._has_nothing_in_common(here):
            return "one side has IPv4 only and the other IPv6 only"
        tried = f"{self._attempt} attempt{'s' * (self._attempt != 1)} failed"
        by_destination = "NAT maps ports by destination (address-dependent), and"
        if ours:
            return f"{tried}: our {by_destination} the peer's lets nobody in"
        if theirs:
            return f"{tried}: the peer's {by_destination} ours lets nobody in"
        if here.speaks_quic and all(address.transport != "quic-v1" for address in here.observed):
            return f"UDP is blocked, it seems: nobody sees us there; over TCP {tried}"
        if here.speaks_quic and all(target.transport != "quic-v1" for target in self._targets.punched):
            return f"the peer cannot be reached over UDP; over TCP {tried}"
        return f"{tried}: nothing came through"


def result_of_attempt(attempt: int) -> Result:
    """How to report a punch that came through at this attempt."""
    return (Result.FIRST, Result.SECOND, Result.LATER)[min(attempt, 3) - 1]
