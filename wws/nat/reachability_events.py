"""What `wws.nat.reachability` is told, what it wants done, and its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.nat.kind import NatKind
from wws.nat.observed import Party, Way, party_of
from wws.nat.verdict import JudgementConfig, Source


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address of ours that may be worth announcing, without our PeerId."""

    address: Multiaddr
    source: Source
    mapping: NatKind = "unknown"
    """How the NAT maps our socket of this way; matters for `observed` ones."""

    @property
    def is_mapped_by_chance(self) -> bool:
        """Whether it is a mapping that a NAT made because we dialled: then who may come in depends on whom we
        dialled, and a server's word about it says nothing before the NAT's filtering is known."""
        return self.source == "observed"


@dataclass(frozen=True, slots=True)
class Server:
    """A connected peer that dials for others."""

    peer: PeerId
    ip: str
    version: int
    """Of the family it is connected over: 4 or 6."""
    is_preferred: bool = False
    """Whether it is an entry point: asked first."""
    probe_ways: frozenset[Way] = frozenset()
    """How a fresh socket of ours could reach it."""
    keeps_apart: bool = False
    """Whether it dials each question from a host of its own, as ours do. go answers one question over the
    connection that it has opened for another; so of such a server only one is asked at a time."""

    @property
    def party(self) -> Party:
        return party_of(self.peer, self.ip)


# Events


@dataclass(frozen=True, slots=True)
class CandidatesChanged(Event):
    """All candidates there are now, the most wanted first."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class ServersChanged(Event):
    """All servers that are connected now."""

    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class NetworkChanged(Event):
    """The addresses of this machine have changed: nothing that was found out holds."""


@dataclass(frozen=True, slots=True)
class Answered(Event):
    """What came of an `Ask`. `reached`: the nonce arrived, or the server could not get through; `None`: it
    did not try, or nothing can be said, and `reason` is why."""

    ask: int
    reached: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ProbeOpened(Event):
    """A fresh socket has sent to the one server, which sees it at `address`."""

    probe: int
    address: Multiaddr


@dataclass(frozen=True, slots=True)
class ProbeLost(Event):
    """No such socket, or not any more."""

    probe: int
    reason: str


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """`next_wakeup()` has come."""


# Commands


@dataclass(frozen=True, slots=True)
class Ask(Command):
    """Ask a server, over the connection there is, to dial `address`; `Answered` follows."""

    ask: int
    server: PeerId
    address: Multiaddr
    probe: int | None = None
    """Where the nonce has to arrive: at this probe, or at our own sockets."""


@dataclass(frozen=True, slots=True)
class OpenProbe(Command):
    """Open a fresh socket that listens, and dial this server and nobody else from it; `ProbeOpened` or
    `ProbeLost` follows."""

    probe: int
    server: PeerId
    way: Way


@dataclass(frozen=True, slots=True)
class CloseProbe(Command):
    """The probe is done with, open or not yet."""

    probe: int


@dataclass(frozen=True, slots=True)
class VerdictsChanged(Command):
    """`addresses` says something new."""


@dataclass(frozen=True, slots=True)
class ServersConfig:
    """Whom to ask, and how much."""

    max_servers: int = 64
    """Servers that are considered, preferred ones first."""
    in_flight_per_server: int = 3
    """Requests of ours at one server at once; servers take four."""
    per_minute_per_server: int = 12
    """Requests to one server in any 60 seconds."""
    in_flight: int = 12
    """Requests under way in total."""
    per_minute: int = 40
    """Requests in any 60 seconds in total."""
    pause: float = 15.0
    """Seconds without questions for a server that gave no answer; doubles each time."""
    longest_pause: float = 600.0
    """And that at most; also for what a server refuses to dial."""


@dataclass(frozen=True, slots=True)
class ProbingConfig:
    """How often a NAT's filtering is looked at."""

    helpers: int = 2
    """Servers that dial one probe."""
    retry: float = 5.0
    """Seconds until the next try after one that told nothing; doubles each time."""
    second_look: float = 10.0
    """Seconds from the first finding to the second, through another server."""
    recheck: float = 120.0
    """Seconds to the one after it; doubles each time."""
    longest: float = 1800.0
    """And that at most."""
    contrary: int = 2
    """Probes in a row that have to fail before a NAT found open counts as filtering."""
    max_confidence: int = 3
    """As confident as we get."""


@dataclass(frozen=True, slots=True)
class ReachabilityConfig:
    servers: ServersConfig = field(default_factory=ServersConfig)
    probing: ProbingConfig = field(default_factory=ProbingConfig)
    judgement: JudgementConfig = field(default_factory=JudgementConfig)
    max_candidates: int = 16
    """Addresses that are judged: as many as a record holds."""
    retry: float = 10.0
    """Seconds until the next round after one that told too little; doubles each time."""
    recheck: float = 60.0
    """Seconds from a new verdict, or a new contradiction, to the next round; doubles each time."""
    longest: float = 1800.0
    """And that at most."""
    jitter: float = 0.2
    """Each of these times is longer or shorter by up to this share."""
