"""What happens to the Kademlia machine (events), and what it asks of its driver (commands).

A driver owes the machine two things. Each `SendQuery` is concluded by exactly one `QueryAnswered` or
`QueryFailed` with its id, unless the machine said `DropQuery` for it. And a peer is only `PeerJoined` when
it serves the protocol, belongs to the right network and its addresses passed the scope rules (wire.md
section 2); the same filter holds for addresses in a `SendQuery`, which are hearsay.
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.dht.messages import KadMessage, WirePeer
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event

# Events


@dataclass(frozen=True, slots=True)
class PeerJoined(Event):
    """A connected peer turned out to serve our DHT. `prefix` is that of the address it is connected from, or
    `None` where the prefix limits do not apply (loopback, link, private)."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    prefix: str | None


@dataclass(frozen=True, slots=True)
class PeerLeft(Event):
    """The connection to a peer is gone. With `for_good` the peer does not serve our DHT any longer, and its
    place in the routing table is free at once; without, it stays until it fails to answer."""

    peer: PeerId
    for_good: bool = False


@dataclass(frozen=True, slots=True)
class EntryPointRegained(Event):
    """An entry point that was lost is connected again. The network may have been divided, and have another
    half whose peers nobody here knows: the entry point is asked at once who of them is near us."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class RequestReceived(Event):
    """A peer asks us something. One `Reply` with the same id comes back from the same `handle` call."""

    request_id: int
    sender: PeerId
    message: KadMessage


@dataclass(frozen=True, slots=True)
class QueryAnswered(Event):
    """A query has its answer; `None` for one that expected none and was sent."""

    query_id: int
    message: KadMessage | None


@dataclass(frozen=True, slots=True)
class QueryFailed(Event):
    """A query got no answer: not reached, timed out, or the stream ended without one."""

    query_id: int


@dataclass(frozen=True, slots=True)
class StartFind(Event):
    """Find a peer and those closest to it; ends with `FindDone`."""

    op: int
    peer: PeerId


@dataclass(frozen=True, slots=True)
class StartGet(Event):
    """Look a value up; ends with `GetDone`."""

    op: int
    key: str
    widely: bool = True
    """Whether to ask further out before saying that there is none: for those to whom "none" matters."""


@dataclass(frozen=True, slots=True)
class StartPut(Event):
    """Store a value at the peers closest to its key; ends with `PutDone`."""

    op: int
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class StartProvide(Event):
    """Announce that this node has what `key` (a multihash or CID) names, now and every 22 hours until
    `Cancel(op)`; the first time ends with `PutDone`."""

    op: int
    key: bytes


@dataclass(frozen=True, slots=True)
class StartFindProviders(Event):
    """Find who has what `key` names; ends with `ProvidersDone`."""

    op: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Cancel(Event):
    """Forget an operation: nothing more comes of it. Unknown and finished ones are ignored."""

    op: int


@dataclass(frozen=True, slots=True)
class AddressesChanged(Event):
    """What this node announces as its own addresses from now on."""

    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class SetMode(Event):
    """Serve others (a node that can be dialled), or only ask."""

    server: bool


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """`next_wakeup()` has come."""


# Commands


@dataclass(frozen=True, slots=True)
class SendQuery(Command):
    """Ask a peer: over its connection when there is one, else dial it at `addresses` (hearsay) first.
    `timeout` covers dialling and answering. With `expects_answer` false, sent is answered."""

    query_id: int
    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    message: KadMessage
    expects_answer: bool
    timeout: float


@dataclass(frozen=True, slots=True)
class DropQuery(Command):
    """Nobody waits for this query any longer: it may be abandoned, and must not be concluded."""

    query_id: int


@dataclass(frozen=True, slots=True)
class Reply(Command):
    """Answer a request; `None`: end the stream without an answer, which is how a refusal looks."""

    request_id: int
    message: KadMessage | None


@dataclass(frozen=True, slots=True)
class GetDone(Command):
    """A look-up's end. `answers` peers (this node's store included) had a valid value, `holders` of them the
    one that won; `asked` peers answered at all."""

    op: int
    key: str
    value: bytes | None
    answers: int
    holders: int
    asked: int = 0


@dataclass(frozen=True, slots=True)
class PutDone(Command):
    """A value is stored at `stored` holders, this node's store included, of `reachable` ones. The operation
    goes on at the rest. `winner` is a value that some holders keep instead, when they said so."""

    op: int
    stored: int
    reachable: int
    winner: bytes | None = None


@dataclass(frozen=True, slots=True)
class FindDone(Command):
    """The peers closest to the one sought, closest first; it is the first of them when it was found."""

    op: int
    peers: tuple[WirePeer, ...]


@dataclass(frozen=True, slots=True)
class ProvidersDone(Command):
    """Who provides a key."""

    op: int
    providers: tuple[WirePeer, ...]


@dataclass(frozen=True, slots=True)
class PeerUseless(Command):
    """A connected peer has no place in the routing table: its connection needs no protection."""

    peer: PeerId
