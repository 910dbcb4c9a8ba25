"""The side of hole punching that takes the initiative: the one that accepted the circuit.

    IDENTIFYING ─Identified─► REVERSING ─DialEnded─► CONNECTING ◄──────── next attempt, three in all
         │       (it seems        │   (it is not)       │ its CONNECT          ▲         │
         │        reachable)      │                     ▼ measures the RTT     │         ▼ none left
         └──Identified────────────┼─────────────► … SYNCING ─RTT/2─► PUNCHING ─┴─► RESTING ─► again, later
                                  └──DirectEstablished, in any state──► DIRECT

One thing goes beyond the specification: when our own NAT maps ports by destination, we dial as a client too.
Nobody could reach us at the address we were seen at, but we may reach a peer that lets in whom it sent to.
"""

from __future__ import annotations

import random

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.nat.dcutr import Here, HolePunch, Targets, Type, UnexpectedMessage
from wws.nat.punch_budget import PunchBudget
from wws.nat.punch_events import (
    AddressesChanged,
    CircuitClosed,
    CloseExchange,
    CountRefusal,
    DialDirect,
    DialEnded,
    DirectEstablished,
    DirectLost,
    ExchangeFailed,
    Identified,
    MessageReceived,
    Punch,
    Report,
    Result,
    SendConnect,
    SendDatagram,
    SendSync,
    Stop,
    TimerFired,
    Yielded,
)
from wws.nat.punching import HolePunchConfig, HolePunching, Role, Spray, State, result_of_attempt


class Initiator(HolePunching):
    """One a peer: made when it has a circuit to us, handed `CircuitClosed` when the last of them is gone."""

    role = Role.INITIATOR
    _at_work = frozenset({State.REVERSING, State.CONNECTING, State.SYNCING, State.PUNCHING, State.PAUSING})

    def __init__(
        self, peer: PeerId, config: HolePunchConfig, budget: PunchBudget, rng: random.Random, now: float
    ) -> None:
        super().__init__(peer, config, budget, rng, State.IDENTIFYING)
        self._wakeup = now + config.identify_timeout
        self._addresses: tuple[Multiaddr, ...] = ()
        self._speaks = False
        self._sent_at = 0.0
        self._until = 0.0
        self._rested_at = now
        self._rests = 0
        self._same_network = False
        self._spray: Spray | None = None

    def handle(self, event: Event, now: float, here: Here) -> list[Command]:
        """What to do now. Events of an exchange or dial that is over change nothing."""
        if self.state is State.ENDED:
            return []
        match event:
            case TimerFired():
                return self._timer(now, here) if self._wakeup is not None and now >= self._wakeup else []
            case Identified(addresses=addresses, speaks=speaks):
                return self._identified(addresses, speaks, now, here)
            case DialEnded(exchange=exchange):
                if self.state is State.REVERSING and exchange == self._exchange:
                    return self._next_attempt(now, here)
                return []
            case MessageReceived(exchange=exchange, message=message):
                return self._message(message, now, here) if exchange == self._exchange else []
            case ExchangeFailed(exchange=exchange, reason=reason, unsupported=unsupported):
                if self.state is State.CONNECTING and exchange == self._exchange:
                    return self._broken(reason, now, here, unsupported=unsupported)
                return []
            case DirectEstablished(transport=transport):
                return self._direct(transport)
            case DirectLost():
                if self.state is State.DIRECT:
                    self.reason = "the direct connection was lost"
                    self._rested_at = now
                    self._move(State.RESTING, now + self._config.min_rest)
                return []
            case AddressesChanged():
                self._sooner(now)
                return []
            case Yielded():
                if not self.is_at_work:
                    return []
                return self._rest(
                    Result.YIELDED, "hole punching is the peer's turn", now, self._config.retry_after
                )
            case CircuitClosed():
                commands = self._clear()
                self._move(State.ENDED, None)
                return commands
        return []

    def _timer(self, now: float, here: Here) -> list[Command]:
        match self.state:
            case State.IDENTIFYING:
                return self._rest(Result.UNIDENTIFIED, "the peer does not say what it speaks", now, None)
            case State.REVERSING:
                return [Stop(), *self._next_attempt(now, here)]
            case State.CONNECTING:
                return [CloseExchange(self._exchange), *self._failed(now, here)]
            case State.SYNCING:
                return self._punch(now, here)
            case State.PUNCHING:
                if now >= self._until:
                    return [Stop(), *self._failed(now, here)]
                return self._datagrams(now)
            case State.PAUSING:
                return self._next_attempt(now, here)
            case _:  # resting: nothing else has a wake-up
                return self._begin(now, here)

    def _identified(
        self, addresses: tuple[Multiaddr, ...], speaks: bool, now: float, here: Here
    ) -> list[Command]:
        changed = (addresses, speaks) != (self._addresses, self._speaks)
        self._addresses, self._speaks = addresses, speaks
        if self.state is State.IDENTIFYING:
            return self._begin(now, here)
        if changed:
            self._sooner(now)
        return []

    def _begin(self, now: float, here: Here) -> list[Command]:
        """A new series of attempts: dial the peer if that may do, else punch."""
        self._attempt = 0
        self._exchange += 1
        refusal = self._budget.enter((self.role, self.peer)) or self._budget.take_attempt(self.peer, now)
        if refusal is not None:
            wait = self._config.busy_pause * self._rng.uniform(1, 2)
            rest = self._rest(Result.BUSY, "too many hole punches are under way", now, wait)
            return [CountRefusal(refusal.value), *rest]
        self._choose(self._addresses, now, here)
        dialable = (*self._targets.punched, *self._targets.private)
        if not dialable:
            return self._next_attempt(now, here)
        until = now + self._config.reversal_timeout
        self._move(State.REVERSING, until)
        return [DialDirect(self._exchange, dialable, until)]

    def _next_attempt(self, now: float, here: Here) -> list[Command]:
        if not self._speaks:
            reason = "the peer does not speak /libp2p/dcutr"
            return self._rest(Result.UNSUPPORTED, reason, now, None)
        if not here.observed:
            return self._rest(
                Result.NO_ADDRESS, "nobody has told us yet how our address looks from outside", now, None
            )
        self._attempt += 1
        self._exchange += 1
        self._sent_at = now
        self._targets = Targets()
        self._move(State.CONNECTING, now + self._config.connect_timeout)
        return [SendConnect(self._exchange, here.connect(same_network=self._same_network))]

    def _message(self, message: HolePunch, now: float, here: Here) -> list[Command]:
        if self.state is State.CONNECTING and message.type is Type.CONNECT:
            self._peer_nat = message.nat
            # From now on the peer is told our private addresses too: it has just told us where it is.
            self._same_network = here.shares_network(message.addresses)
            self._choose(message.addresses, now, here)
            self._move(State.SYNCING, now + (now - self._sent_at) / 2)
            return [*self._refused(), SendSync(self._exchange)]
        refusal: list[Command] = [CountRefusal(UnexpectedMessage.code)]
        if self.state is State.CONNECTING:
            return [*refusal, *self._broken("the peer answered out of turn", now, here)]
        if self.state in (State.SYNCING, State.PUNCHING):  # it may say what it likes, we go on
            return [*refusal, CloseExchange(self._exchange)]
        return []

    def _punch(self, now: float, here: Here) -> list[Command]:
        self._until = now + self._config.punch_timeout
        targets = self._targets
        # Every second attempt as the specification has it, should our NAT be another than we think; the other
        # way about while too few peers have seen us to know.
        as_client = self._attempt % 2 == {"address_dependent": 1, "unknown": 0}.get(here.nat, 2)
        udp = tuple(target for target in targets.punched if target.transport == "quic-v1")
        self._spray = Spray(udp, now, self._config, self._rng)
        self.state = State.PUNCHING
        return [Punch(targets.punched, targets.private, as_client, self._until), *self._datagrams(now)]

    def _datagrams(self, now: float) -> list[Command]:
        assert self._spray is not None
        commands: list[Command] = []
        for target in self._spray.due(now):
            if self._budget.take_datagram(self.peer, target, now):
                commands.append(SendDatagram(target))
            else:
                commands.append(CountRefusal("datagram_rate"))
        wakeup = self._spray.next_wakeup()
        self._wakeup = self._until if wakeup is None else min(wakeup, self._until)
        return commands

    def _broken(self, reason: str, now: float, here: Here, *, unsupported: bool = False) -> list[Command]:
        """The exchange came to nothing: what to do next, not at once."""
        close: list[Command] = [CloseExchange(self._exchange)]
        if unsupported:
            self._speaks = False
            return [*close, *self._next_attempt(now, here)]
        if self._attempt >= self._config.attempts:
            return [*close, *self._give_up(f"{self._attempt} attempts failed: {reason}", now)]
        self._move(State.PAUSING, now + self._config.pause)
        return close

    def _failed(self, now: float, here: Here) -> list[Command]:
        if self._attempt < self._config.attempts and not self._is_hopeless(here):
            return self._next_attempt(now, here)
        if self.state is State.CONNECTING:
            return self._give_up(f"{self._attempt} attempts failed: the peer does not answer", now)
        return self._give_up(self._why_failed(here), now)

    def _give_up(self, reason: str, now: float) -> list[Command]:
        wait = min(self._config.retry_after * 2**self._rests, self._config.max_retry_after)
        self._rests += 1
        return self._rest(Result.FAILED, reason, now, wait * self._rng.uniform(0.8, 1.2))

    def _rest(self, result: Result, reason: str, now: float, wait: float | None) -> list[Command]:
        """Nothing more for now: until `wait` is over, or until something changes."""
        commands = self._clear() if result is Result.YIELDED else []
        self._budget.leave((self.role, self.peer))
        self.reason = reason
        self._rested_at = now
        self._move(State.RESTING, None if wait is None else now + wait)
        return [*commands, Report(result)]

    def _sooner(self, now: float) -> None:
        """What made the attempts fail may have changed: rest no longer than needed."""
        if self.state is State.RESTING:
            soon = max(now, self._rested_at + self._config.min_rest)
            self._wakeup = soon if self._wakeup is None else min(self._wakeup, soon)
            self._rests = 0

    def _direct(self, transport: str) -> list[Command]:
        if self.state is State.DIRECT:
            return []
        result = Result.UNASKED
        if self.state is State.REVERSING:
            result = Result.REVERSED
        elif self.state in (State.SYNCING, State.PUNCHING):
            result = result_of_attempt(self._attempt)
        commands = self._clear()
        self.reason = ""
        self._rests = 0
        self._move(State.DIRECT, None)
        return [*commands, Report(result, transport)]
