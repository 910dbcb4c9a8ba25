"""The words of the search for a network: states, what happens to it, what it wants done (`race.py`)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.codec.canonical import JsonObject
from wws.discovery.bundle import Bundle
from wws.discovery.entry_points import Source
from wws.discovery.guidance import SearchReport
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event

LOST_ALL_PEERS = "Lost all peers, reconnecting..."


class State(enum.Enum):
    """Where the search stands."""

    IDLE = enum.auto()
    SEARCHING = enum.auto()
    WAITING = enum.auto()
    LAN_ONLY = enum.auto()
    JOINED = enum.auto()
    STOPPED = enum.auto()


MOVES = frozenset(
    {
        (State.IDLE, State.SEARCHING),
        (State.SEARCHING, State.JOINED),
        (State.SEARCHING, State.LAN_ONLY),
        (State.SEARCHING, State.WAITING),
        (State.WAITING, State.SEARCHING),
        (State.WAITING, State.JOINED),
        (State.WAITING, State.LAN_ONLY),
        (State.LAN_ONLY, State.JOINED),
        (State.LAN_ONLY, State.SEARCHING),
        (State.LAN_ONLY, State.WAITING),
        (State.JOINED, State.SEARCHING),
        (State.JOINED, State.WAITING),
        *((state, State.STOPPED) for state in State),
    }
)
"""Every move there is. Which one an event makes depends on the peer that it speaks of."""


class DnsKind(enum.StrEnum):
    """What DNS is asked for."""

    BUNDLE = "bundle"
    SEED = "seed"
    DNSADDR = "dnsaddr"


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The node runs and can dial."""


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """The node is leaving: nothing more is to be done."""


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """`next_wakeup()` has come."""


@dataclass(frozen=True, slots=True)
class RetryRequested(Event):
    """Somebody wants the next round now: a user, or a network interface that came up."""


@dataclass(frozen=True, slots=True)
class DnsAnswered(Event):
    """The TXT records of a `QueryDns`, or the code of why there are none."""

    kind: DnsKind
    texts: tuple[str, ...] = ()
    error: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MdnsFound(Event):
    """A peer has announced itself on the local network."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class DialSucceeded(Event):
    """A `Dial` led to an authenticated connection."""

    peer_id: PeerId
    address: Multiaddr


@dataclass(frozen=True, slots=True)
class DialFailed(Event):
    """A `Dial` did not, for the reason `code`."""

    peer_id: PeerId
    address: Multiaddr
    code: str


@dataclass(frozen=True, slots=True)
class PeerConnected(Event):
    """A connection of any origin: an entry point that dials us is as good as one that we dial."""

    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class PeerIdentified(Event):
    """A connected peer of this network has said where it listens: worth remembering."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class PeerDisconnected(Event):
    """The last connection to a peer has gone."""

    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class PeerCountChanged(Event):
    """So many peers are connected now, entry points or not."""

    count: int


EVENTS: tuple[type[Event], ...] = (
    Started, Stopped, TimerFired, RetryRequested, DnsAnswered, MdnsFound, DialSucceeded, DialFailed,
    PeerConnected, PeerIdentified, PeerDisconnected, PeerCountChanged,
)  # fmt: skip


# --- commands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueryDns(Command):
    """Ask for the TXT records at `name`; answer with `DnsAnswered` of the same `kind`."""

    kind: DnsKind
    name: str
    timeout: float


@dataclass(frozen=True, slots=True)
class StartMdns(Command):
    """Announce ourselves on the local network and listen for others."""


@dataclass(frozen=True, slots=True)
class Dial(Command):
    """Connect to this address, and to this peer only; answer with `DialSucceeded` or `DialFailed`."""

    peer_id: PeerId
    address: Multiaddr
    timeout: float


@dataclass(frozen=True, slots=True)
class Joined(Command):
    """Tell the node that the network is entered; with `lan_only` only the local part of it."""

    peer_id: PeerId
    source: Source
    lan_only: bool


@dataclass(frozen=True, slots=True)
class LostAllPeers(Command):
    """Tell the node that nobody is connected any more; the search goes on by itself."""

    message: str = LOST_ALL_PEERS


@dataclass(frozen=True, slots=True)
class NoWayIn(Command):
    """Tell the node that a round has failed, why, and in how many seconds the next one begins."""

    report: SearchReport
    retry_in: float


@dataclass(frozen=True, slots=True)
class Warn(Command):
    """Tell the user something that does not stop the search."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class BundleTaken(Command):
    """Tell the node that another bundle is in force: other entry points, other witnesses."""

    bundle: Bundle


@dataclass(frozen=True, slots=True)
class SaveNetworkState(Command):
    """Write what bundles have settled, whole or not at all."""

    value: JsonObject


@dataclass(frozen=True, slots=True)
class SavePeerCache(Command):
    """Write the peers that worked, whole or not at all."""

    value: JsonObject
