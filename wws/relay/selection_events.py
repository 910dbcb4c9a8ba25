"""What the selection of relays hears and wants: see `wws.relay.selection`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event


class Failure(StrEnum):
    """Why there is no reservation; the label of counters."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    """The connection or the stream ended."""
    REFUSED = "refused"
    RESOURCE_LIMIT = "resource_limit"
    PERMISSION_DENIED = "permission_denied"
    MALFORMED = "malformed"
    """What the relay said makes no sense."""
    VOUCHER = "voucher"
    """The voucher is wrong: the relay is broken or lies."""
    LEASE = "lease"
    """The slot has ended already, or ends too soon to be of use."""
    NO_ADDRESS = "no_address"
    """The relay has no address that makes sense in this mesh."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A slot that is held for us now."""

    relay: PeerId
    addresses: tuple[Multiaddr, ...]
    """Full circuit addresses, without our own PeerId."""
    expires_at: int
    """Unix seconds."""


# Events


@dataclass(frozen=True, slots=True)
class SetWanted(Event):
    """Whether we need relays: yes while nobody can reach us directly."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class CandidateSeen(Event):
    """A peer of our network is connected directly and offers to relay; again when that has changed."""

    relay: PeerId
    prefix: str | None = None
    """The /24 or /56 it is in; `None` where prefixes mean nothing."""
    is_entry_point: bool = False
    round_trip: float | None = None


@dataclass(frozen=True, slots=True)
class CandidateLeaving(Event):
    """It says that it relays no more, and is still connected: it is about to stop."""

    relay: PeerId


@dataclass(frozen=True, slots=True)
class CandidateLost(Event):
    """It is not connected directly any more, or not one of us."""

    relay: PeerId


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """A relay answered a probe, ours or another."""

    relay: PeerId
    round_trip: float | None = None


@dataclass(frozen=True, slots=True)
class Reserved(Event):
    """A relay has given a slot, and everything in its answer was checked."""

    relay: PeerId
    attempt: int
    expires_at: int
    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class ReserveFailed(Event):
    relay: PeerId
    attempt: int
    reason: Failure


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """`next_wakeup()` is reached."""


# Commands


@dataclass(frozen=True, slots=True)
class Reserve(Command):
    """Ask a relay for a slot, and report `Reserved` or `ReserveFailed` with this attempt."""

    relay: PeerId
    attempt: int


@dataclass(frozen=True, slots=True)
class Probe(Command):
    """Find out whether a relay is alive; report `Answered` when it is."""

    relay: PeerId


@dataclass(frozen=True, slots=True)
class Suspect(Command):
    """A relay did not answer: let nothing new begin on this connection to it."""

    relay: PeerId


@dataclass(frozen=True, slots=True)
class Protect(Command):
    """Keep the connections to this relay."""

    relay: PeerId


@dataclass(frozen=True, slots=True)
class LetGo(Command):
    """This relay is like any other peer again; what is under way with it may be dropped."""

    relay: PeerId


@dataclass(frozen=True, slots=True)
class SeekCandidates(Command):
    """Too few relays are connected, or those that are do not answer: connect to more."""


@dataclass(frozen=True, slots=True)
class ReservationsChanged(Command):
    """`reservations` names other relays or addresses than before."""
