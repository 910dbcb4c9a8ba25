"""What happens to the machines of names (events), and what they ask of their driver (commands).

The driver owes them one thing: each `LookUp`, `StoreRecord` and `SolveProofOfWork` is answered exactly once,
and a machine has at most one of them open. The last group of commands are reports: they ask for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.identity.proof_of_work import LEAST_BITS
from wws.machine import Command, Event
from wws.names.lease_state import LeaseState

# Events: what the user or the node wants


@dataclass(frozen=True, slots=True)
class Claim(Event):
    """Take the name, or go on holding it; `bits` of work where a new proof is needed."""

    bits: int = LEAST_BITS


@dataclass(frozen=True, slots=True)
class Renew(Event):
    """Renew now, not when a third of the lease has passed."""


@dataclass(frozen=True, slots=True)
class Release(Event):
    """Give the name back."""


@dataclass(frozen=True, slots=True)
class Start(Event):
    """Begin to keep the peer record published."""


@dataclass(frozen=True, slots=True)
class AddressesChanged(Event):
    """What the node announces as its own addresses from now on, most useful first."""

    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """`next_wakeup()` has come. Too early does no harm."""


# Events: what came of commands


@dataclass(frozen=True, slots=True)
class LookedUp(Event):
    """The look-up ended; `value` won among those found, `None`: nobody who answered has one."""

    value: bytes | None


@dataclass(frozen=True, slots=True)
class LookUpFailed(Event):
    """Nobody answered."""


@dataclass(frozen=True, slots=True)
class ProofSolved(Event):
    """The proof of work is done."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Stored(Event):
    """Enough holders keep the value, this node's own store counted."""

    holders: int


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """Too few holders keep the value; `reason` is for people."""

    reason: str = ""


# Commands


@dataclass(frozen=True, slots=True)
class LookUp(Command):
    """Get the value of a key from the DHT; answered by `LookedUp` or `LookUpFailed`."""

    key: str


@dataclass(frozen=True, slots=True)
class StoreRecord(Command):
    """Put a value into the DHT; answered by `Stored` or `StoreFailed`."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class SolveProofOfWork(Command):
    """Find a nonce, which takes CPU; answered by `ProofSolved`."""

    context: str
    did: str
    bits: int


@dataclass(frozen=True, slots=True)
class SaveState(Command):
    """Write this to disk before the commands after it are carried out; `None`: forget the lease."""

    state: LeaseState | None


# Commands that report


@dataclass(frozen=True, slots=True)
class NameHeld(Command):
    """The name is ours until `expires_at`: a look-up found our record winning."""

    expires_at: int
    witnessed: bool


@dataclass(frozen=True, slots=True)
class NameTaken(Command):
    """The name belongs to another: not claimed. It may be free from `free_at` on, unless renewed before."""

    holder: PeerId
    expires_at: int
    free_at: int
    released: bool


@dataclass(frozen=True, slots=True)
class NameLost(Command):
    """A claim of another peer wins over ours: we do not hold the name any longer."""

    holder: PeerId
    expires_at: int


@dataclass(frozen=True, slots=True)
class NameReleased(Command):
    """The name is given back; others may claim it from `free_at` on."""

    free_at: int


@dataclass(frozen=True, slots=True)
class RetryScheduled(Command):
    """Something failed, for `reason`; it is tried again after `delay` seconds."""

    reason: str
    delay: float
