"""The side of hole punching that answers: the one that dialled the circuit.

EXPECTING ─ExchangeOpened─► OPENED ─CONNECT─► ANSWERED ─SYNC─► PUNCHING ─time-out─► EXPECTING … ─► IDLE
                                                   DirectEstablished, in any state ─► DIRECT
"""

from __future__ import annotations

import random

from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.nat.dcutr import Here, HolePunch, Type, UnexpectedMessage
from wws.nat.punch_budget import PunchBudget
from wws.nat.punch_events import (
    CircuitClosed,
    CircuitOpened,
    CloseExchange,
    CountRefusal,
    DirectEstablished,
    DirectLost,
    ExchangeFailed,
    ExchangeOpened,
    Identified,
    MessageReceived,
    Punch,
    Report,
    Result,
    SendConnect,
    Stop,
    TimerFired,
)
from wws.nat.punching import HolePunchConfig, HolePunching, Role, State, result_of_attempt


class Receiver(HolePunching):
    """One a peer: made when we have a circuit to it, handed `CircuitClosed` when the last of them is gone."""

    role = Role.RECEIVER
    _at_work = frozenset({State.OPENED, State.ANSWERED, State.PUNCHING})

    def __init__(
        self, peer: PeerId, config: HolePunchConfig, budget: PunchBudget, rng: random.Random, now: float
    ) -> None:
        super().__init__(peer, config, budget, rng, State.EXPECTING)
        self._wakeup = now + config.expect_timeout
        self._punches = 0

    def handle(self, event: Event, now: float, here: Here) -> list[Command]:
        """What to do now. Events of an exchange that was replaced change nothing."""
        if self.state is State.ENDED:
            return []
        match event:
            case TimerFired():
                return self._timer(now, here) if self._wakeup is not None and now >= self._wakeup else []
            case CircuitOpened():
                if self.state is State.IDLE:
                    self._expect_anew(now)
                return []
            case Identified(speaks=speaks):
                return self._identified(speaks, now)
            case ExchangeOpened(exchange=exchange):
                return self._opened(exchange, now)
            case MessageReceived(exchange=exchange, message=message):
                if exchange != self._exchange or self.state is State.DIRECT:
                    return []
                return self._message(message, now, here)
            case ExchangeFailed(exchange=exchange, reason=reason):
                if exchange == self._exchange and self.state in (State.OPENED, State.ANSWERED):
                    return self._round_over(f"the peer broke off: {reason}", now)
                return []
            case DirectEstablished(transport=transport):
                return self._direct(transport)
            case DirectLost():
                if self.state is State.DIRECT:
                    self._expect_anew(now)
                return []
            case CircuitClosed():
                commands = self._clear()
                self._move(State.ENDED, None)
                return commands
        return []

    def _timer(self, now: float, here: Here) -> list[Command]:
        match self.state:
            case State.OPENED:
                return self._round_over("the peer opened an exchange and said nothing", now)
            case State.ANSWERED:
                over = self._round_over("the peer asked for a punch and never said go", now)
                return [*over, Report(Result.NO_SYNC)]
            case State.PUNCHING:
                over = self._round_over(self._why_failed(here), now)
                if self._punches < self._config.attempts and not self._is_hopeless(here):
                    return over
                self._move(State.IDLE, None)
                return [*over, Report(Result.FAILED)]
            case _:  # expecting: nothing else has a wake-up
                self._move(State.IDLE, None)
                if self._punches:
                    return [Report(Result.FAILED)]
                self.reason = self.reason or "the peer has not started hole punching"
                return [] if self._attempt else [Report(Result.NOT_ASKED)]

    def _identified(self, speaks: bool, now: float) -> list[Command]:
        """Nothing is expected of a peer that does not know how; go learns it once it knows its address."""
        if speaks and self.state is State.IDLE and not self._attempt:
            self._expect_anew(now)
        elif not speaks and self.state is State.EXPECTING and not self._attempt:
            self.reason = "the peer does not speak /libp2p/dcutr"
            self._move(State.IDLE, None)
            return [Report(Result.UNSUPPORTED)]
        return []

    def _opened(self, exchange: int, now: float) -> list[Command]:
        if self.state is State.DIRECT:
            return [CloseExchange(exchange)]
        if self.state is State.IDLE:
            self._expect_anew(now)
        commands = self._clear()
        self._exchange = exchange
        self._move(State.OPENED, now + self._config.connect_timeout)
        return commands

    def _message(self, message: HolePunch, now: float, here: Here) -> list[Command]:
        if message.type is Type.SYNC and self.state is State.ANSWERED:
            until = now + self._config.punch_timeout
            self._punches += 1
            self._move(State.PUNCHING, until)
            return [Punch(self._targets.punched, self._targets.private, True, until)]
        if message.type is Type.CONNECT and self.state is not State.ANSWERED:
            return self._connect(message, now, here)
        refusal = CountRefusal(UnexpectedMessage.code)
        if self.state in (State.OPENED, State.ANSWERED):
            return [refusal, *self._round_over("the peer spoke out of turn", now)]
        return [refusal, CloseExchange(self._exchange)]  # a punch goes on: it was asked for in good order

    def _connect(self, message: HolePunch, now: float, here: Here) -> list[Command]:
        """A round begins; it may be on the stream of the last one, as the specification has it."""
        if self.state is State.IDLE:
            self._expect_anew(now)
        stop: list[Command] = [Stop()] if self.state is State.PUNCHING else []
        refusal = self._budget.take_attempt(self.peer, now) or self._budget.enter((self.role, self.peer))
        if refusal is not None:
            self._move(State.OPENED, now)
            over = self._round_over("too many hole punches are under way", now)
            return [*stop, CountRefusal(refusal.value), *over]
        self._attempt += 1
        self._peer_nat = message.nat
        self._choose(message.addresses, now, here)
        same_network = here.shares_network(message.addresses)
        self._move(State.ANSWERED, now + self._config.sync_timeout)
        answer = SendConnect(self._exchange, here.connect(same_network=same_network))
        return [*stop, *self._refused(), answer]

    def _round_over(self, reason: str, now: float) -> list[Command]:
        """The peer may begin another."""
        commands = self._clear()
        self.reason = reason
        self._move(State.EXPECTING, now + self._config.expect_timeout)
        return commands

    def _expect_anew(self, now: float) -> None:
        self._attempt = self._punches = 0
        self._move(State.EXPECTING, now + self._config.expect_timeout)

    def _direct(self, transport: str) -> list[Command]:
        if self.state is State.DIRECT:
            return []
        result = Result.UNASKED
        if self.state in (State.ANSWERED, State.PUNCHING):
            result = result_of_attempt(self._attempt)
        commands = self._clear()
        self.reason = ""
        self._move(State.DIRECT, None)
        return [*commands, Report(result, transport)]
