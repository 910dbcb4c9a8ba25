"""What the two machines of hole punching are told, what they ask for, and how a punch may end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wws.addresses.multiaddr import Multiaddr
from wws.machine import Command, Event
from wws.nat.dcutr import HolePunch

# Events


@dataclass(frozen=True, slots=True)
class Identified(Event):
    """The peer has said what it speaks and where it listens."""

    addresses: tuple[Multiaddr, ...]
    speaks: bool


@dataclass(frozen=True, slots=True)
class DialEnded(Event):
    """No address of `DialDirect` led to the peer."""

    exchange: int


@dataclass(frozen=True, slots=True)
class CircuitOpened(Event):
    """We have a circuit to the peer that we dialled: it should take the initiative."""


@dataclass(frozen=True, slots=True)
class ExchangeOpened(Event):
    """The peer opened a stream for an exchange; it replaces one that is open."""

    exchange: int


@dataclass(frozen=True, slots=True)
class MessageReceived(Event):
    exchange: int
    message: HolePunch


@dataclass(frozen=True, slots=True)
class ExchangeFailed(Event):
    """The stream of an exchange ended or broke."""

    exchange: int
    reason: str
    unsupported: bool = False
    """The peer turned the protocol down."""


@dataclass(frozen=True, slots=True)
class DirectEstablished(Event):
    """There is a direct connection with the peer."""

    transport: str


@dataclass(frozen=True, slots=True)
class DirectLost(Event):
    """The last direct connection is gone; the circuit still lives."""


@dataclass(frozen=True, slots=True)
class AddressesChanged(Event):
    """Others see us elsewhere than before."""


@dataclass(frozen=True, slots=True)
class Yielded(Event):
    """Both sides took the initiative, and the peer's goes on."""


@dataclass(frozen=True, slots=True)
class CircuitClosed(Event):
    """There is no way left to talk to the peer."""


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    pass


# Commands


@dataclass(frozen=True, slots=True)
class DialDirect(Command):
    """Dial the peer like anybody; `DialEnded` when that failed."""

    exchange: int
    targets: tuple[Multiaddr, ...]
    until: float


@dataclass(frozen=True, slots=True)
class SendConnect(Command):
    """Initiator: on a new stream. Receiver: on the stream of that exchange."""

    exchange: int
    message: HolePunch


@dataclass(frozen=True, slots=True)
class SendSync(Command):
    exchange: int


@dataclass(frozen=True, slots=True)
class CloseExchange(Command):
    """Give the stream up."""

    exchange: int


@dataclass(frozen=True, slots=True)
class Punch(Command):
    """Dial all targets until then: TCP with simultaneous open, QUIC only as the client.

    `private` targets are in our own network and are dialled like any address, as the client.
    """

    targets: tuple[Multiaddr, ...]
    private: tuple[Multiaddr, ...]
    as_client: bool
    until: float


@dataclass(frozen=True, slots=True)
class SendDatagram(Command):
    """Send random bytes there, to open our NAT for what comes back."""

    target: Multiaddr


@dataclass(frozen=True, slots=True)
class Stop(Command):
    """End every dial of `DialDirect` and `Punch` that is under way."""


@dataclass(frozen=True, slots=True)
class CountRefusal(Command):
    reason: str


class Result(StrEnum):
    """How a punch ended; the `result` label of the metrics."""

    REVERSED = "reversed"
    """We could dial the peer; nothing was punched."""
    FIRST = "first_attempt"
    SECOND = "second_attempt"
    LATER = "later_attempt"
    UNASKED = "unasked"
    """A direct connection came about without us."""
    FAILED = "failed"
    """Every attempt was made, and nothing came through."""
    UNSUPPORTED = "unsupported"
    UNIDENTIFIED = "unidentified"
    NO_ADDRESS = "no_address"
    """We do not know how others see us."""
    BUSY = "busy"
    YIELDED = "yielded"
    NO_SYNC = "no_sync"
    """The peer asked, got its answer, and never said go."""
    NOT_ASKED = "not_asked"
    """The peer, whose part it is, did not take the initiative."""


@dataclass(frozen=True, slots=True)
class Report(Command):
    """A punch has ended."""

    result: Result
    transport: str = ""
