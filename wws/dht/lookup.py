"""A look-up: asks its way, step by step, to the peers closest to a position.

    IDLE --Start--> ASKING --(the closest have all answered)--> DONE
                      '----Stop----> DONE --Widen--> ASKING

Ends when the k closest known peers have answered (libp2p specifications, kad-dht/README.md, "Peer
routing"), however few there are: with no peer at all it ends at once. Beyond the specification:

- *Disjoint paths* (S/Kademlia, Baumgart and Mies 2007). Where enough peers are known they are dealt to
  several paths at first. A path follows only what its own peers answered, and ends by itself, so peers who
  lie on one path cannot crowd out what the others find. A peer is asked once, by whichever path needs it
  first.
- *Slow peers* give their place among the concurrent queries away after a round trip or two, so that peers who
  must be dialled first do not make the others queue. *Late peers*, who take longer than their like, are not
  waited for at the end once enough others answered. Should they answer yet, they count.
- *A crowd of one prefix* counts only as far as `per_prefix` allows: twenty peers of one /24 nearest to a
  key are three, and the rest are never asked.
- *Hearsay.* Whoever names peers that do not answer is believed less and less: after a few of them the others
  that nobody else named are not asked. Made-up peers nearest to the key would else use up the look-up.
- *Density.* Within `radius` every peer is asked, not only k: twenty identities placed right beside a key
  (a Sybil attack) stand closer together than honest ones do, and do not end the look-up. Answers may name
  as many, because a peer who knows of the crowd names those behind it too. Where far more stand near the
  target than chance puts there, the look-up is after twice as many, and waits for late ones until as many
  have answered.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.dht.candidates import Candidate, Hearsay, Standing, prefixes_of
from wws.dht.messages import WirePeer
from wws.dht.positions import position_of_peer
from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event


@dataclass(frozen=True, slots=True)
class LookupConfig:
    k: int = 20
    """Peers that a look-up is after."""
    alpha: int = 10
    """Queries on their way at once, over all paths."""
    paths: int = 3
    """Disjoint paths where enough peers are known."""
    paths_from: int = 20
    """Peers known at the start from which on paths are kept apart. Below it there is one path."""
    widest: int = 60
    """Peers asked within the radius, at most."""
    dense_k: int = 40
    """Peers that a look-up is after where a crowd stands at the target: as many again as the crowd hides."""
    per_prefix: int = 3
    """Peers of one public /24 or /56 that count among the closest."""
    believed: int = 4
    """Peers that failed or are slow, named by one peer, after which what only it named is not asked. Each
    that answers makes up for two."""
    max_candidates: int = 512
    """Peers remembered in one look-up; the farthest are forgotten first."""
    max_queries: int = 160
    """Peers asked in one look-up."""
    enough: int = 8
    """Answers from which on late peers are not waited for. The quorum of a put."""
    patience: float = 2.5
    """Seconds after which a peer without an answer is not waited for, however few others there are."""


class State(Enum):
    IDLE = auto()
    ASKING = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Start(Event):
    seeds: Sequence[WirePeer]
    """The closest peers known, closest first."""


@dataclass(frozen=True, slots=True)
class Answered(Event):
    peer: PeerId
    closer: Sequence[WirePeer]


@dataclass(frozen=True, slots=True)
class Failed(Event):
    peer: PeerId


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    pass


@dataclass(frozen=True, slots=True)
class Widen(Event):
    """Look further out: for the `k` closest instead of as many as before."""

    k: int


@dataclass(frozen=True, slots=True)
class Stop(Event):
    """Ask nobody further. Answers on their way still count."""


@dataclass(frozen=True, slots=True)
class Ask(Command):
    peer: PeerId
    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class Finished(Command):
    """The closest have answered, or there is nobody left to ask."""


TRANSITIONS: dict[tuple[State, type[Event]], State] = {
    (State.IDLE, Start): State.ASKING,
    (State.ASKING, Answered): State.ASKING,
    (State.ASKING, Failed): State.ASKING,
    (State.ASKING, TimerFired): State.ASKING,
    (State.ASKING, Widen): State.ASKING,
    (State.ASKING, Stop): State.DONE,
    (State.DONE, Answered): State.DONE,
    (State.DONE, Failed): State.DONE,
    (State.DONE, TimerFired): State.DONE,
    (State.DONE, Widen): State.ASKING,
    (State.DONE, Stop): State.DONE,
}


class Pace(NamedTuple):
    """How long a peer may take."""

    slow: float
    """Seconds after which it gives its place among the concurrent queries away."""
    late: float
    """Seconds after which it is not waited for where there are enough others."""
    patience: float = math.inf
    """Seconds after which it is not waited for at all; at most those of the look-up's configuration."""


PaceOf: TypeAlias = Callable[[PeerId, tuple[Multiaddr, ...], float], Pace]

_HEARD, _ASKED, _SLOW, _LATE, _ANSWERED, _FAILED = Standing
_WAITING = (_ASKED, _SLOW, _LATE)


class Lookup:
    """One look-up. `pace_of` says how long a peer may take that is asked now, at these addresses."""

    def __init__(
        self,
        target: int,
        local: PeerId,
        config: LookupConfig,
        pace_of: PaceOf,
        *,
        radius: int = 0,
        expected: float = 12.0,
    ) -> None:
        """`expected` honest peers stand within `radius` on average; 0 is an unknown radius."""
        self.state = State.IDLE
        self.target = target
        self._local = local
        self._config = config
        self._pace_of = pace_of
        self._radius = radius
        self._too_many = [
            (radius >> step, int(1.5 * (expected / 2**step) + 3 * math.sqrt(expected / 2**step)))
            for step in (1, 2, 3)
            if radius
        ]
        self._is_dense = False
        self._hearsay = Hearsay(config.believed)
        self.k = config.k
        """How many peers it is after."""
        self._path_count = 1
        self._candidates: dict[PeerId, Candidate] = {}
        self._prefixes: dict[str, int] = {}
        self._crowded = False
        """Whether some prefix has more candidates than count, so that they must be told apart."""
        self._ordered: list[tuple[int, Candidate]] = []
        self._in_flight = [0]
        self._timers: list[tuple[float, int, Candidate]] = []
        self.asked = 0
        """Peers asked so far."""
        self.answered = 0
        """Peers that answered so far."""

    def handle(self, event: Event, now: float) -> list[Ask | Finished]:
        """Take an event; what to do about it. Raises `LocalProtocolError` for one that cannot be now."""
        try:
            following = TRANSITIONS[self.state, type(event)]
        except KeyError:
            raise LocalProtocolError(f"{type(event).__name__} while {self.state.name}") from None
        match event:
            case Start(seeds=seeds):
                self._deal(seeds)
            case Answered(peer=peer, closer=closer):
                candidate = self._conclude(peer, _ANSWERED)
                self.answered += 1
                # As many as an honest answer may name; of a longer one the rest is passed over.
                for named in closer[: self._config.widest]:
                    self._hear(named, candidate.path, peer)
            case Failed(peer=peer):
                self._conclude(peer, _FAILED)
            case Widen(k=k):
                self.k = max(self.k, k)
            case TimerFired():
                self._expire(now)
            case _:
                pass
        self.state = following
        return self._advance(now) if following is State.ASKING else []

    def next_wakeup(self) -> float | None:
        """When some peer becomes slow or late, or is given up."""
        while self._timers and self._timers[0][2].standing not in _WAITING:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def closest(self, count: int) -> list[WirePeer]:
        """The closest that answered, closest first; of one prefix only as many as count."""
        return [WirePeer(c.peer, c.addresses) for c in self._nearest(count, 0, answered=True)]

    def spread(self, count: int) -> list[WirePeer]:
        """The closest that answered, and of each path its own share of them, so that one lying path does not
        decide alone where a value goes."""
        chosen = {c.peer: c for c in self._nearest(count, 0, answered=True)}
        if self._path_count > 1:
            share = -(-count // self._path_count)
            for path in range(self._path_count):
                chosen.update((c.peer, c) for c in self._nearest(share, 1 << path, answered=True))
        return [WirePeer(c.peer, c.addresses) for c in sorted(chosen.values(), key=lambda c: c.distance)]

    def is_among_closest(self, peer: PeerId, count: int) -> bool:
        """Whether no more than `count - 1` peers heard of are closer, those that failed left out."""
        candidate = self._candidates.get(peer)
        if candidate is None:
            return False
        closer = 0
        for distance, other in self._ordered:
            if distance >= candidate.distance:
                return True
            if other.standing is not _FAILED:
                closer += 1
                if closer >= count:
                    return False
        return False

    def belongs(self, peer: PeerId) -> bool:
        """Whether the peer should hold what belongs at the target: among the closest that a look-up is after,
        or within the radius, where everybody should."""
        candidate = self._candidates.get(peer)
        if candidate is not None and candidate.distance <= self._radius:
            return True
        return self.is_among_closest(peer, self.k if self._is_dense else self._config.k)

    @property
    def is_dense(self) -> bool:
        """Whether somebody seems to have placed peers here: within a half, a quarter or an eighth of the
        radius stand more than chance and a wrong estimate put there in one look-up of hundreds. It stays."""
        if not self._is_dense:
            known = self._ordered
            self._is_dense = any(
                len(known) > most and known[most][0] <= radius for radius, most in self._too_many
            )
        return self._is_dense

    def diversity(self, peers: Iterable[PeerId]) -> int:
        """How many parties the peers are at least, as far as addresses tell: those of one prefix are one."""
        parties: set[object] = set()
        for peer in peers:
            candidate = self._candidates.get(peer)
            parties.update(candidate.prefixes if candidate is not None and candidate.prefixes else (peer,))
        return len(parties)

    def distances(self, count: int) -> list[int]:
        """The distances of the closest that answered, for the estimate of the swarm's size."""
        return [c.distance for c in self._nearest(count, 0, answered=True)][:count]

    def addresses_of(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """Where a peer is said to be."""
        candidate = self._candidates.get(peer)
        return candidate.addresses if candidate is not None else ()

    @property
    def exhausted(self) -> bool:
        """Whether every peer heard of has answered or failed: there are no others."""
        return all(c.standing is _ANSWERED or c.standing is _FAILED for _, c in self._ordered)

    def _deal(self, seeds: Sequence[WirePeer]) -> None:
        if len(seeds) >= self._config.paths_from:
            self._path_count = max(1, min(self._config.paths, self._config.alpha))
        self._in_flight = [0] * self._path_count
        for index, named in enumerate(seeds):
            self._hear(named, 1 << index % self._path_count)

    def _hear(self, named: WirePeer, paths: int, namer: PeerId | None = None) -> None:
        peer = named.peer_id
        known = self._candidates.get(peer)
        if known is not None:
            known.paths |= paths
            if namer is not None and known.namers is not None and known.standing is _HEARD:
                known.namers.append(namer)
            if known.standing is _HEARD and named.addresses is not known.addresses:
                self._learn_addresses(known, named)
            return
        distance = position_of_peer(peer) ^ self.target
        if len(self._ordered) >= self._config.max_candidates:
            farthest = self._ordered[-1]
            if distance >= farthest[0] or farthest[1].standing is not _HEARD:
                return
            self._ordered.pop()
            del self._candidates[farthest[1].peer]
        if peer == self._local:
            return
        candidate = Candidate(named, distance, paths)
        candidate.namers = None if namer is None else [namer]
        self._count_prefixes(candidate.prefixes)
        self._candidates[peer] = candidate
        insort(self._ordered, (distance, candidate), key=_distance_of)

    def _learn_addresses(self, known: Candidate, named: WirePeer) -> None:
        merged = tuple(dict.fromkeys(known.addresses + named.addresses))
        if len(merged) > len(known.addresses):
            known.addresses = merged[:16]
            known.prefixes = prefixes_of(known.addresses)
            self._count_prefixes(known.prefixes)

    def _count_prefixes(self, prefixes: tuple[str, ...]) -> None:
        # Never counted down: at worst candidates are told apart where they need not be.
        for prefix in prefixes:
            count = self._prefixes[prefix] = self._prefixes.get(prefix, 0) + 1
            if count > self._config.per_prefix:
                self._crowded = True

    def _conclude(self, peer: PeerId, standing: Standing) -> Candidate:
        candidate = self._candidates.get(peer)
        if candidate is None or candidate.standing not in _WAITING:
            raise LocalProtocolError(f"an answer of {peer}, which was not asked")
        if candidate.standing is _ASKED:
            self._in_flight[candidate.path.bit_length() - 1] -= 1
        if standing is _ANSWERED:
            self._hearsay.answered(candidate)
        elif candidate.standing is _ASKED:
            self._hearsay.missed(candidate)
        candidate.standing = standing
        return candidate

    def _expire(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            candidate = heapq.heappop(self._timers)[2]
            if candidate.standing is _ASKED:
                candidate.standing = _SLOW
                self._hearsay.missed(candidate)
                self._in_flight[candidate.path.bit_length() - 1] -= 1
                self._set_timer(max(now, candidate.late_at), candidate)
            elif candidate.standing is _SLOW:
                candidate.standing = _LATE
                # Once more when patience ends, should it still be waited for then.
                self._set_timer(max(now, candidate.given_up_at), candidate)

    def _advance(self, now: float) -> list[Ask | Finished]:
        commands: list[Ask | Finished] = []
        if self.is_dense:
            self.k = max(self.k, self._config.dense_k)
        complete, believes = True, self._hearsay.believes
        for path in range(self._path_count):
            budget = self._config.alpha // self._path_count
            if path < self._config.alpha % self._path_count:
                budget += 1
            for candidate in self._nearest(self.k, 1 << path, now=now):
                standing = candidate.standing
                if standing is _ANSWERED or (standing is _HEARD and not believes(candidate)):
                    continue
                if standing is _HEARD and self.asked >= self._config.max_queries:
                    break
                complete = False
                if standing is not _HEARD:
                    continue
                if self._in_flight[path] >= budget:
                    break
                self._ask(candidate, path, now)
                commands.append(Ask(candidate.peer, candidate.addresses))
        if complete and not any(self._in_flight):
            self.state = State.DONE
            commands.append(Finished())
        return commands

    def _ask(self, candidate: Candidate, path: int, now: float) -> None:
        candidate.standing = _ASKED
        candidate.path = 1 << path
        self.asked += 1
        self._in_flight[path] += 1
        pace = self._pace_of(candidate.peer, candidate.addresses, now)
        patience = min(pace.patience, self._config.patience)
        candidate.given_up_at = now + patience
        candidate.late_at = now + min(pace.late, patience)
        self._set_timer(min(now + pace.slow, candidate.late_at), candidate)

    def _set_timer(self, when: float, candidate: Candidate) -> None:
        # The distance breaks ties, so that the order never depends on how objects lie in memory.
        heapq.heappush(self._timers, (when, candidate.distance, candidate))

    def _nearest(
        self, count: int, paths: int, *, now: float | None = None, answered: bool = False
    ) -> list[Candidate]:
        """The closest `count` (and all within the radius) that count, of one path or of all (0).

        With `answered`: of those that answered. With `now`: as far as the look-up still has to wait for
        them, which leaves out late ones where enough others answered.
        """
        found: list[Candidate] = []
        prefixes: dict[str, int] = {}
        crowded, doubts = self._crowded, self._hearsay.doubts
        enough = self._config.dense_k if self._is_dense else self._config.enough
        give_up = now is not None and self.answered >= enough
        for distance, candidate in self._ordered:
            if len(found) >= count and (distance > self._radius or len(found) >= self._config.widest):
                break
            if paths and not candidate.paths & paths:
                continue
            standing = candidate.standing
            if standing is _FAILED or (answered and standing is not _ANSWERED):
                continue
            if standing is _LATE and now is not None and (give_up or now >= candidate.given_up_at):
                continue
            if doubts and standing is _HEARD and not self._hearsay.believes(candidate):
                continue
            if crowded and candidate.prefixes and not self._admit(candidate, prefixes):
                continue
            found.append(candidate)
        return found

    def _admit(self, candidate: Candidate, prefixes: dict[str, int]) -> bool:
        limit = self._config.per_prefix
        if any(prefixes.get(prefix, 0) >= limit for prefix in candidate.prefixes):
            return False
        for prefix in candidate.prefixes:
            prefixes[prefix] = prefixes.get(prefix, 0) + 1
        return True


def _distance_of(entry: tuple[int, Candidate]) -> int:
    return entry[0]
