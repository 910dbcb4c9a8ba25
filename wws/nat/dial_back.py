"""One request of AutoNAT v2 at the server, without its sockets: which address, what it costs, how it went.

    READING --Asked--> PAYING --Paid--> WAITING --TimerFired--> DIALLING --Dialled--> CALLING --Called--> DONE
               |-------------------------------------------------^ |                      '(nonce handed over)
               '-------> DONE (refused)                            '----> DONE (not reached)

PAYING and WAITING are for an address at another IP than the requester is seen at: it costs the requester
30 to 100 kB, and comes at a time that it cannot tell (libp2p specifications, autonat/autonat-v2.md,
"Amplification Attack Prevention"). What may be dialled at all is `dial_back_rules`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.machine import Command, Event
from wws.nat.autonat_v2 import DialDataRequest, DialRequest, DialResponse, DialStatus, ResponseStatus
from wws.nat.dial_back_rules import (
    Budget,
    DialBackConfig,
    DialBackRefused,
    DialDataTooSmall,
    Reason,
    Requester,
    Surroundings,
    refusal_of,
)


class State(Enum):
    READING = auto()
    PAYING = auto()
    WAITING = auto()
    DIALLING = auto()
    CALLING = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Asked(Event):
    """The request has come."""

    request: DialRequest
    around: Surroundings


@dataclass(frozen=True, slots=True)
class Paid(Event):
    """A message with this many bytes of dial data has come."""

    byte_count: int


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """`next_wakeup()` may have come."""


class DialResult(Enum):
    CONNECTED = auto()
    """To the requester: it has proven its key."""
    UNREACHABLE = auto()
    NOT_DIALLED = auto()
    """Something at our end kept us from it, which says nothing about the address."""


@dataclass(frozen=True, slots=True)
class Dialled(Event):
    """The dial has ended."""

    result: DialResult


@dataclass(frozen=True, slots=True)
class Called(Event):
    """Handing the nonce over has ended; `delivered`: the peer has confirmed it."""

    delivered: bool


@dataclass(frozen=True, slots=True)
class AskForData(Command):
    """Send this, and read `DialDataResponse`s."""

    message: DialDataRequest


@dataclass(frozen=True, slots=True)
class Dial(Command):
    """Connect to the requester at this address, from a socket that has never sent to it."""

    address: Multiaddr


@dataclass(frozen=True, slots=True)
class Call(Command):
    """Hand the nonce over on that connection."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Answer(Command):
    """Send this; the request is done. `reason` when it was refused."""

    message: DialResponse
    reason: Reason | None = None


TRANSITIONS: dict[tuple[State, type[Event]], frozenset[State]] = {
    (State.READING, Asked): frozenset({State.PAYING, State.DIALLING, State.DONE}),
    (State.PAYING, Paid): frozenset({State.PAYING, State.WAITING}),
    (State.WAITING, TimerFired): frozenset({State.WAITING, State.DIALLING}),
    (State.DIALLING, Dialled): frozenset({State.CALLING, State.DONE}),
    (State.CALLING, Called): frozenset({State.DONE}),
}


class DialBackRequest:
    """One request of AutoNAT v2, admitted by the budget."""

    def __init__(
        self, requester: Requester, budget: Budget, config: DialBackConfig, rng: random.Random
    ) -> None:
        self.state = State.READING
        self._requester = requester
        self._budget = budget
        self._config = config
        self._rng = rng
        self._index = 0
        self._address: Multiaddr | None = None
        self._nonce = 0
        self._owed = 0
        self._wakeup: float | None = None

    def next_wakeup(self) -> float | None:
        return self._wakeup

    def handle(self, event: Event, now: float) -> list[Command]:
        """Raises `LocalProtocolError` for an event that has no place now, `DialDataTooSmall`."""
        if (self.state, type(event)) not in TRANSITIONS:
            raise LocalProtocolError(f"{type(event).__name__} while {self.state.name}")
        match event:
            case Asked(request=request, around=around):
                return self._asked(request, around, now)
            case Paid(byte_count=byte_count):
                return self._paid(byte_count, now)
            case TimerFired():
                return self._dial() if self._wakeup is not None and now >= self._wakeup else []
            case Dialled(result=result):
                return self._dialled(result)
            case Called(delivered=delivered):
                return self._done(DialStatus.OK if delivered else DialStatus.E_DIAL_BACK_ERROR)
        raise AssertionError("the table above names every event")

    def _asked(self, request: DialRequest, around: Surroundings, now: float) -> list[Command]:
        self._nonce = request.nonce
        first: Reason | None = None
        for index, reason in enumerate(self._judged(request.addresses, around)):
            if reason is None:
                self._index, self._address = index, request.addresses[index]
                break
            first = first or reason
        else:
            return self._refuse(DialBackRefused(first or Reason.NO_ADDRESS))
        if self._address is not None and self._address.host == self._requester.ip:
            return self._dial()
        try:
            self._budget.admit_paid(self._requester, now)
        except DialBackRefused as refusal:
            return self._refuse(refusal)
        self._owed = self._rng.randint(self._config.min_cost, self._config.max_cost)
        self.state = State.PAYING
        return [AskForData(DialDataRequest(self._index, self._owed))]

    def _judged(self, addresses: Sequence[Multiaddr | None], around: Surroundings) -> Iterator[Reason | None]:
        for address in addresses:
            if address is None:
                yield Reason.ADDRESS_KIND
            else:
                yield refusal_of(address, self._requester, around, self._config)

    def _paid(self, byte_count: int, now: float) -> list[Command]:
        if byte_count < min(self._owed, self._config.min_piece):
            raise DialDataTooSmall(f"{byte_count} bytes of dial data in one message")
        self._owed -= byte_count
        if self._owed <= 0:
            self.state = State.WAITING
            self._wakeup = now + self._rng.uniform(0, self._config.max_wait)
        return []

    def _dial(self) -> list[Command]:
        if self._address is None:
            raise LocalProtocolError("nothing was chosen to be dialled")
        self.state, self._wakeup = State.DIALLING, None
        return [Dial(self._address.without_peer())]

    def _dialled(self, result: DialResult) -> list[Command]:
        match result:
            case DialResult.CONNECTED:
                self.state = State.CALLING
                return [Call(self._nonce)]
            case DialResult.UNREACHABLE:
                return self._done(DialStatus.E_DIAL_ERROR)
            case DialResult.NOT_DIALLED:
                self.state = State.DONE
                return [Answer(DialResponse(ResponseStatus.E_INTERNAL_ERROR))]

    def _refuse(self, refusal: DialBackRefused) -> list[Command]:
        self.state = State.DONE
        return [Answer(DialResponse(refusal.status), refusal.reason)]

    def _done(self, status: DialStatus) -> list[Command]:
        self.state = State.DONE
        return [Answer(DialResponse(ResponseStatus.OK, self._index, status))]
