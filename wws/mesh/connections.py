"""Which connections are kept: one useful connection a peer, the useful peers first when room is short.

The table knows every established connection. It decides, and the driver closes:

- *Duplicates.* Of several connections to one peer the oldest that answers is kept. When both sides dial at
  once each sees its own as the older one; so the side with the larger PeerId decides, and the other only
  when nothing has happened for a while (a foreign implementation may not care). A new connection may also
  mean that the peer has restarted and the old one is dead: so the old one is probed before the new one goes.
- *Circuits.* A direct connection supersedes those through relays: new streams go over it, and a circuit is
  closed once it carries none.
- *A bound per peer*, at once, on direct connections and on circuits: these cannot keep those away.
- *Trimming.* Above `high_water` connections the least useful go, down to `low_water`: never protected peers
  (entry points, relays, close neighbours of the DHT), never young ones, and those with open streams last.

    established --'opened'--> KEPT ----------------------------------.
                    '--> DUPLICATE --ProbeAnswered--> close the newer |--'closed'--> gone
                              '-----ProbeFailed----> close the older -'
    circuit --direct one 'opened'--> SUPERSEDED --no streams, after `settle`--> close the circuit
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.machine import Command


@dataclass(frozen=True, slots=True)
class ConnectionTableConfig:
    max_per_peer: int = 4
    """Direct connections of one peer at any time, and as many circuits; the newest over it goes at once."""
    high_water: int = 256
    """Trimming begins above this many connections."""
    low_water: int = 224
    """Trimming ends at this many."""
    grace: float = 30.0
    """Seconds during which a new connection is not trimmed."""
    trim_interval: float = 1.0
    """Seconds between two rounds of trimming: one round looks at every connection."""
    settle: float = 1.0
    """Seconds after which the deciding side settles a duplicate."""
    settle_other: float = 30.0
    """Seconds after which the other side settles it, if it is still there."""


@dataclass(frozen=True, slots=True)
class Close(Command):
    """Close a connection; `reason` is a label for logs and counters."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class Probe(Command):
    """Find out whether a connection is alive, and report `probe_answered` or close it."""

    connection: int


@dataclass(slots=True)
class Entry:
    """One established connection."""

    connection: int
    peer: PeerId
    outbound: bool
    opened_at: float
    is_circuit: bool = False
    is_retired: bool = False
    streams: int = 0
    last_useful: float = 0.0
    probing: bool = False


@dataclass(slots=True)
class _Peer:
    entries: list[Entry] = field(default_factory=list)  # direct ones before circuits, oldest first
    settle_at: float | None = None

    def sort(self) -> None:
        self.entries.sort(key=lambda one: (one.is_circuit, one.is_retired))


class ConnectionTable:
    """All established connections of one node. Pure: `now` comes in, commands go out."""

    def __init__(self, local: PeerId, config: ConnectionTableConfig) -> None:
        self._local = local
        self._config = config
        self._entries: dict[int, Entry] = {}
        self._peers: dict[PeerId, _Peer] = {}
        self._protected: dict[PeerId, set[str]] = {}
        self._duplicates: set[PeerId] = set()
        self._trim_at = 0.0
        self._circuits = 0

    def reconfigure(self, config: ConnectionTableConfig) -> None:
        """Let other bounds hold from now on."""
        self._config = config

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, connection: int) -> bool:
        return connection in self._entries

    @property
    def peer_count(self) -> int:
        return len(self._peers)

    def peers(self) -> list[PeerId]:
        """Every connected peer, in the order of first connection."""
        return list(self._peers)

    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    def of_peer(self, peer: PeerId) -> list[int]:
        """The connections of a peer, the one to use first: the oldest direct one, else the oldest circuit."""
        known = self._peers.get(peer)
        return [entry.connection for entry in known.entries] if known else []

    def is_direct(self, peer: PeerId) -> bool:
        """Whether a peer is connected other than through relays."""
        known = self._peers.get(peer)
        return known is not None and not known.entries[0].is_circuit

    @property
    def circuits(self) -> int:
        """How many of the connections go through relays."""
        return self._circuits

    def opened(
        self, connection: int, peer: PeerId, now: float, *, outbound: bool, is_circuit: bool = False
    ) -> list[Command]:
        """A connection was established and authenticated."""
        if connection in self._entries:
            raise LocalProtocolError(f"connection {connection} was opened twice")
        known = self._peers.setdefault(peer, _Peer())
        entry = Entry(connection, peer, outbound, now, is_circuit, last_useful=now)
        self._entries[connection] = entry
        self._circuits += is_circuit
        known.entries.append(entry)
        known.sort()
        commands: list[Command] = []
        if sum(one.is_circuit == is_circuit for one in known.entries) > self._config.max_per_peer:
            commands.append(Close(connection, "connections_per_peer"))
        elif len(known.entries) > 1:
            self._duplicates.add(peer)
            decides = self._local > peer or (known.entries[-1].is_circuit and not known.entries[0].is_circuit)
            known.settle_at = now + (self._config.settle if decides else self._config.settle_other)
        return commands + self._trim(now)

    def closed(self, connection: int) -> PeerId | None:
        """A connection is gone, for whatever reason. The peer, when it was its last one."""
        entry = self._entries.pop(connection, None)
        if entry is None:
            return None
        known = self._peers[entry.peer]
        self._circuits -= entry.is_circuit
        known.entries.remove(entry)
        if len(known.entries) < 2:
            known.settle_at = None
            self._duplicates.discard(entry.peer)
        elif entry.probing:
            known.settle_at = entry.opened_at  # at once, for nobody will answer for the others any more
        if known.entries:
            return None
        del self._peers[entry.peer]
        return entry.peer

    def streams_changed(self, connection: int, streams: int, now: float) -> None:
        """How many streams a connection carries now; carrying some is being useful."""
        entry = self._entries.get(connection)
        if entry is not None:
            entry.streams = streams
            entry.last_useful = now

    def idle_since(self, connection: int) -> float | None:
        """Since when a connection carries no streams; `None` while it carries some, or is not here."""
        entry = self._entries.get(connection)
        return None if entry is None or entry.streams else entry.last_useful

    def retire(self, connection: int) -> None:
        """A connection that ends soon: any other of its kind with the peer comes before it."""
        entry = self._entries.get(connection)
        if entry is not None:
            entry.is_retired = True
            self._peers[entry.peer].sort()

    def protect(self, peer: PeerId, tag: str) -> None:
        """Keep this peer when trimming, until every tag is taken away. May be called before it connects."""
        self._protected.setdefault(peer, set()).add(tag)

    def unprotect(self, peer: PeerId, tag: str) -> None:
        tags = self._protected.get(peer)
        if tags is not None:
            tags.discard(tag)
            if not tags:
                del self._protected[peer]

    def is_protected(self, peer: PeerId, tags: Collection[str] | None = None) -> bool:
        """Whether a peer is kept when trimming; with `tags`: for one of these reasons."""
        own = self._protected.get(peer)
        return own is not None and (tags is None or not own.isdisjoint(tags))

    def next_wakeup(self) -> float | None:
        """When `timer_fired` is wanted: the earliest duplicate to settle, or the next round of trimming."""
        times = [time for peer in self._duplicates if (time := self._peers[peer].settle_at) is not None]
        if len(self._entries) > self._config.high_water:
            times.append(self._trim_at)
        return min(times, default=None)

    def timer_fired(self, now: float) -> list[Command]:
        """Settle the duplicates that are due: probe the oldest connection of each. Trim.

        A full node admits nobody, so no newcomer would ever set the trimming off.
        """
        commands = self._trim(now)
        for peer in list(self._duplicates):
            known = self._peers[peer]
            if known.settle_at is not None and known.settle_at <= now:
                known.settle_at = None
                commands += self._settle(known, now)
        return commands

    def probe_answered(self, connection: int, now: float) -> list[Command]:
        """The oldest connection of a peer is alive: its duplicates go, the busy ones when they are done."""
        entry = self._entries.get(connection)
        if entry is None or not entry.probing:
            return []
        entry.probing = False
        known = self._peers[entry.peer]
        commands: list[Command] = []
        for other in known.entries:
            if other is entry or other.is_circuit != entry.is_circuit:
                continue
            if other.streams:
                known.settle_at = now + self._config.settle_other
            else:
                commands.append(Close(other.connection, "duplicate"))
        return commands

    def _settle(self, known: _Peer, now: float) -> list[Command]:
        commands: list[Command] = []
        alike = [entry for entry in known.entries if entry.is_circuit == known.entries[0].is_circuit]
        for circuit in known.entries[len(alike) :]:
            if circuit.streams:
                known.settle_at = now + self._config.settle
            else:
                commands.append(Close(circuit.connection, "superseded"))
        if len(alike) > 1:
            alike[0].probing = True
            commands.append(Probe(alike[0].connection))
        return commands

    def _trim(self, now: float) -> list[Command]:
        excess = len(self._entries) - self._config.high_water
        if excess <= 0 or now < self._trim_at:
            return []
        self._trim_at = now + self._config.trim_interval
        excess += self._config.high_water - self._config.low_water
        candidates = [
            entry
            for entry in self._entries.values()
            if entry.peer not in self._protected and now - entry.opened_at >= self._config.grace
        ]
        candidates.sort(key=lambda entry: (entry.streams > 0, entry.last_useful))
        return [Close(entry.connection, "trimmed") for entry in candidates[:excess]]
