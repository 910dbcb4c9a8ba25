"""What happens to the machines of names (events), and what they ask of their driver (commands).

The driver owes them one thing: each `LookUp`, `StoreRecord`, `SolveProofOfWork` and `AskWitnesses` is
answered exactly once, and a machine has at most one of them open. The last group of commands are reports:
they ask for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.identity.proof_of_work import LEAST_BITS
from wws.machine import Command, Event
from wws.names import transfers
from wws.names.lease_state import LeaseState
from wws.names.witness.messages import WitnessAnswers, WitnessRequest

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
class Transfer(Event):
    """Give the name away: sign an entry with which `to` can take it up. Reported by `TransferSigned`."""

    to: PeerId


@dataclass(frozen=True, slots=True)
class Accept(Event):
    """Take up the name that `entry` gives to us; `bits` of work where a new proof is needed."""

    entry: transfers.Transfer
    bits: int = LEAST_BITS


@dataclass(frozen=True, slots=True)
class WitnessesChanged(Event):
    """The network has other witnesses from now on: they are to hear of the lease soon."""


@dataclass(frozen=True, slots=True)
class Start(Event):
    """Begin to keep the peer record published."""


@dataclass(frozen=True, slots=True)
class AddressesChanged(Event):
    """What the node announces as its own addresses from now on, most useful first."""

    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class MetOurselves(Event):
    """Another process has proven that it has our key, on a connection with `addresses` at its end."""

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


@dataclass(frozen=True, slots=True)
class WitnessesAnswered(Event):
    """The round with the witnesses is over."""

    answers: WitnessAnswers


# Commands


@dataclass(frozen=True, slots=True)
class LookUp(Command):
    """Get the value of a key from the DHT; answered by `LookedUp` or `LookUpFailed`.

    Not `widely`: that there is none need not be certain, because others are asked after it.
    """

    key: str
    widely: bool = True


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
class AskWitnesses(Command):
    """Ask every witness, all at once and bounded in time; answered by `WitnessesAnswered`."""

    request: WitnessRequest


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
class NameContested(Command):
    """Others came for the name at the same time, and nobody has a majority of the witnesses yet.

    It is tried again after `retry_after` seconds; `None`: not any more, the claim is given up.
    """

    holder: PeerId | None
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class CoverDelayed(Command):
    """The name is ours, but the witnesses do not say so, or not for longer: `code` is theirs or
    `witnesses_away`, `reason` is for people. They are asked again after `delay` seconds."""

    code: str
    reason: str
    delay: float


@dataclass(frozen=True, slots=True)
class TransferSigned(Command):
    """The word that gives the name away; its taker accepts it. Until then the name stays ours."""

    entry: transfers.Transfer


@dataclass(frozen=True, slots=True)
class NameTransferred(Command):
    """The name has gone to `to`, as we signed it: we do not hold it any longer."""

    to: PeerId


@dataclass(frozen=True, slots=True)
class AcceptRefused(Command):
    """A transfer to us cannot be taken up, for good: `code` is a stable word, `reason` is for people."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class NameLost(Command):
    """A claim of another peer wins over ours: we do not hold the name any longer."""

    holder: PeerId
    expires_at: int


@dataclass(frozen=True, slots=True)
class IdentityInUse(Command):
    """Another machine uses our key, and says it is at `addresses`. Reported once an episode."""

    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class IdentityAlone(Command):
    """Nothing was seen of the other machine for long: the episode is over."""


@dataclass(frozen=True, slots=True)
class NameReleased(Command):
    """The name is given back; others may claim it from `free_at` on."""

    free_at: int


@dataclass(frozen=True, slots=True)
class RetryScheduled(Command):
    """Something failed, for `reason`; it is tried again after `delay` seconds."""

    reason: str
    delay: float
