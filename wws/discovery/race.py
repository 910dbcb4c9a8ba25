"""Discovery: every source at once, so that none can hold up or break another (contract.md section 5).

A *round* tries all that is known: typed and pinned peers in parallel, the others 250 ms apart, while DNS is
asked and mDNS listens; what they bring joins the round. When it has run dry without an entry point, the peers
of an expired bundle are tried, then those of the local network, then the round has failed.

    IDLE --Started--> SEARCHING --entry point connected--> JOINED
                       |  ^  ^                               |
           round failed|  |  '------- all peers lost --------'    (a peer that throws us out at once: WAITING)
                       v  |retry
                     WAITING            SEARCHING or WAITING --local peer connected--> LAN_ONLY

LAN_ONLY goes on searching in rounds until it is JOINED. Retries: after a failed join 60 s, after lost peers
at once and then 30 s, each time doubled, at most 15 min. The words of it are in `race_events.py`.
"""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import Bundle, BundleExpired
from wws.discovery.bundle_state import BundleState
from wws.discovery.dials import DialConfig, Dials
from wws.discovery.entry_points import Candidate, EntryPointConfig, EntryPoints, Source
from wws.discovery.guidance import SearchReport, SourceReport, advise
from wws.discovery.memory import Memory
from wws.discovery.network import Network
from wws.discovery.peer_cache import PeerCache
from wws.discovery.questions import QuestionConfig, Questions
from wws.discovery.race_events import (
    EVENTS,
    Dial,
    DialFailed,
    DialSucceeded,
    DnsAnswered,
    Joined,
    LostAllPeers,
    MdnsFound,
    NoWayIn,
    PeerConnected,
    PeerCountChanged,
    PeerDisconnected,
    PeerIdentified,
    RetryRequested,
    Started,
    StartMdns,
    State,
    Stopped,
    TimerFired,
    Warn,
)
from wws.discovery.witness_sets import WitnessesBefore, witness_sets
from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """The times and bounds of the search; times in seconds."""

    dials: DialConfig = field(default_factory=DialConfig)
    """The pacing of dials."""
    questions: QuestionConfig = field(default_factory=QuestionConfig)
    """The times of asking DNS."""
    enough_entry_points: int = 3
    """With so many entry points connected the rest of a round is left out."""
    lan_patience: float = 3.0
    """How long a round waits for mDNS before it does without entry points."""
    first_retry: float = 60.0
    """Until the next round after a join that failed."""
    first_reconnect: float = 30.0
    """Until the next round after lost peers, when the one at once has failed."""
    longest_retry: float = 900.0
    """Longest time between two rounds."""
    retry_jitter: float = 0.2
    """Each wait is shorter by a random share of at most this."""
    stable_after: float = 30.0
    """Peers lost sooner after a join than this were no way in: no retry at once."""
    max_lan_dials: int = 8
    """Most mDNS peers that are dialled in a round, or at a time while joined."""
    max_lan_addresses: int = 3
    """Most addresses of an mDNS peer that are dialled outside a round."""
    max_connected: int = 20_000
    """Most connected peers that are remembered: far above what a node holds."""
    save_interval: float = 5.0
    """Least time between two writes of the peer cache."""


class _Tier(enum.IntEnum):
    ENTRY_POINTS = 0
    EXPIRED_BUNDLE = 1
    LAN = 2


@dataclass(slots=True)
class _Round:
    """One pass over all that is known."""

    started_at: float
    tier: _Tier = _Tier.ENTRY_POINTS


class Discovery:
    """The search of one node for one network. Created, it is idle; all it knows is handed in."""

    def __init__(
        self,
        local: PeerId,
        network: Network,
        cache: PeerCache,
        rng: random.Random,
        *,
        typed: Iterable[Multiaddr] = (),
        bundles: BundleState | None = None,
        config: DiscoveryConfig | None = None,
        entry_point_config: EntryPointConfig | None = None,
    ) -> None:
        self.state = State.IDLE
        self.network = network
        self.cache = cache
        self._config = config or DiscoveryConfig()
        self._rng = rng
        if network.publishers and bundles is None:
            bundles = BundleState.of(network, None)
        self.bundles = bundles if network.publishers else None
        self.entry_points = EntryPoints(
            local, network, cache, typed=typed, bundles=self.bundles, config=entry_point_config
        )
        self._memory = Memory(cache, self.entry_points, self._config.save_interval)
        self._round: _Round | None = None
        self._dials = Dials(self._config.dials)
        self._questions = Questions(network, self.entry_points, self.bundles, rng, self._config.questions)
        self._connected: dict[PeerId, Source | None] = {}
        self._failures = 0
        self._after_loss = False
        self._joined_at = 0.0
        self._retry_at: float | None = None

    # What the node asks.

    def bundle(self, unix_now: int) -> Bundle | None:
        """The bundle in force."""
        return self.bundles.in_force(unix_now) if self.bundles is not None else None

    def witnesses(self, unix_now: int) -> tuple[frozenset[PeerId], frozenset[PeerId]]:
        """The witnesses of names: W, and W′ for a while after a change."""
        if self.bundles is None:
            return witness_sets(self.network, None, WitnessesBefore(), unix_now)
        return witness_sets(self.network, self.bundles.last, self.bundles.before, unix_now)

    def is_entry_point(self, peer_id: PeerId, unix_now: int) -> bool:
        """Whether a peer is an entry point; those of an expired bundle are while they are connected."""
        source = self.entry_points.source_of(peer_id, unix_now)
        return source is not None and (source is not Source.EXPIRED_BUNDLE or peer_id in self._connected)

    def report(self, unix_now: int) -> SearchReport:
        """What was tried in this round or the last one, and what came of it."""
        attempts = tuple(self._dials.failed)
        sources = tuple(self._source_reports(unix_now))
        ignored = self.entry_points.ignored_hints(unix_now)
        is_one = self.entry_points.local_is_one(unix_now)
        advice = advise(sources, attempts, ignored, local_is_entry_point=is_one)
        return SearchReport(self.network.name, sources, attempts, ignored, is_one, advice)

    def next_wakeup(self) -> float | None:
        """When, in monotonic seconds, a `TimerFired` is wanted."""
        if self.state in (State.IDLE, State.STOPPED):
            return None
        parts = (self._questions, self._memory, self._dials)
        times = [self._retry_at, *(part.next_wakeup() for part in parts)]
        if self._round is not None and self._dials.is_dry and not self._questions.are_open:
            times.append(self._round.started_at + self._config.lan_patience)
        return min((time for time in times if time is not None), default=None)

    def handle(self, event: Event, now: float, unix_now: int) -> list[Command]:
        """What is to be done about `event`. Raises `LocalProtocolError` when it cannot come."""
        if type(event) not in EVENTS:
            raise LocalProtocolError(f"{type(event).__name__} is no event of discovery")
        if self.state is State.STOPPED and not isinstance(event, Started):
            return []  # what was under way when the node left still comes in
        if (self.state is State.IDLE) != isinstance(event, Started) and not isinstance(event, Stopped):
            raise LocalProtocolError(f"{type(event).__name__} while {self.state.name}")
        match event:
            case Started():
                return [StartMdns(), *self._begin_round(now, unix_now)]
            case Stopped():
                return self._stop(now)
            case TimerFired():
                return self._on_timer(now, unix_now)
            case RetryRequested() if self.state in (State.WAITING, State.LAN_ONLY) and self._round is None:
                return self._begin_round(now, unix_now)
            case RetryRequested():
                return self._questions.ask_afresh(now)  # there may be a newer list
            case DnsAnswered():
                commands = self._questions.answered(event, now, unix_now) + self._recheck(now, unix_now)
                return commands + self._advance(now, unix_now)
            case MdnsFound(peer_id=peer_id, addresses=addresses):
                return self._on_mdns(peer_id, addresses, now, unix_now)
            case DialSucceeded(peer_id=peer_id, address=address):
                source = self._dials.succeeded((peer_id, address))
                commands = self._on_connected(peer_id, source, now, unix_now)
                commands += self._remember(peer_id, (address,), now, unix_now)
                return commands + self._advance(now, unix_now)
            case DialFailed(peer_id=peer_id, address=address, code=code):
                self._dials.fail((peer_id, address), code, now)
                return self._advance(now, unix_now)
            case PeerConnected(peer_id=peer_id):
                return self._on_connected(peer_id, None, now, unix_now) + self._advance(now, unix_now)
            case PeerIdentified(peer_id=peer_id, addresses=addresses):
                # Not the names among them: what is remembered is dialled at the next start whatever its
                # scope, and a name may lead into our own network by then.
                stated = [address for address in addresses if address.is_ip]
                return self._remember(peer_id, stated, now, unix_now)
            case PeerDisconnected(peer_id=peer_id):
                self._on_disconnected(peer_id, unix_now)
                self._look_again_if_cut_off(now)
            case PeerCountChanged(count=0) if self.state in (State.JOINED, State.LAN_ONLY):
                return self._on_lost(now, unix_now)
        return []

    # Rounds.

    def _begin_round(self, now: float, unix_now: int) -> list[Command]:
        self._retry_at = None
        self._dials.begin(now)
        self._round = _Round(now)
        if self.state not in (State.LAN_ONLY, State.JOINED):
            self.state = State.SEARCHING
        return self._questions.ask(now) + self._advance(now, unix_now)

    def _advance(self, now: float, unix_now: int) -> list[Command]:
        """Start what may be started now, and end the round when it has run dry."""
        commands: list[Command] = []
        while (search := self._round) is not None:
            entries = sum(source is not None for source in self._connected.values())
            if self.state is State.JOINED and entries >= self._config.enough_entry_points:
                self._end_round()
                break
            self._dials.order(self._candidates(search, unix_now), self._connected)
            commands += [Dial(*target, timeout) for target, timeout in self._dials.start(now)]
            if not self._dials.is_dry or self._questions.are_open:
                break
            if self.state is State.JOINED:
                self._end_round()
                self._look_again_if_cut_off(now)
                break
            further = self._next_tier(search, now, unix_now)
            if further is None:
                break
            commands += further
        return commands

    def _candidates(self, search: _Round, unix_now: int) -> list[Candidate]:
        candidates = self.entry_points.candidates(unix_now)
        if search.tier >= _Tier.EXPIRED_BUNDLE:
            candidates += self.entry_points.last_resort(unix_now)
        if search.tier >= _Tier.LAN:
            candidates += self.entry_points.lan(unix_now)[: self._config.max_lan_dials]
        return candidates

    def _end_round(self) -> None:
        self._round = None
        self._dials.end()

    def _next_tier(self, search: _Round, now: float, unix_now: int) -> list[Command] | None:
        """What follows when the round has run dry; `None` when it ends, or has to wait, here."""
        if search.tier is _Tier.ENTRY_POINTS:
            search.tier = _Tier.EXPIRED_BUNDLE
            bundle = self.bundles.last if self.bundles is not None else None
            if bundle is not None and self.entry_points.last_resort(unix_now):
                return [
                    Warn(
                        BundleExpired.code,
                        f"NO FRESH LIST OF BOOTSTRAP NODES: using one that expired at {bundle.expires_at}",
                        BundleExpired.hint,
                    )
                ]
        if search.tier is _Tier.EXPIRED_BUNDLE and self.state is not State.LAN_ONLY and self._may_use_lan:
            local = self.entry_points.lan(unix_now)
            if not local and now < search.started_at + self._config.lan_patience:
                return None
            search.tier = _Tier.LAN
            connected = next((candidate for candidate in local if candidate.peer_id in self._connected), None)
            if connected is not None:  # it dialled us
                return self._join_lan(connected.peer_id, now)
            return []
        self._end_round()
        self._failures += 1
        delay = self._retry_in(now)
        if self.state is State.LAN_ONLY:
            return None  # said when it began; the next round may find more
        self.state = State.WAITING
        return [NoWayIn(self.report(unix_now), delay)]

    def _retry_in(self, now: float) -> float:
        config = self._config
        first = config.first_reconnect if self._after_loss else config.first_retry
        longest = min(config.longest_retry, first * 2.0 ** min(self._failures - 1, 16))
        delay = longest * (1 - config.retry_jitter * self._rng.random())
        self._retry_at = now + delay
        return delay

    # Peers come and go.

    def _on_connected(
        self, peer_id: PeerId, dialled: Source | None, now: float, unix_now: int
    ) -> list[Command]:
        if peer_id not in self._connected and len(self._connected) >= self._config.max_connected:
            return []
        source = self.entry_points.source_of(peer_id, unix_now)
        last_resort = self._round is not None and self._round.tier >= _Tier.EXPIRED_BUNDLE
        if source is Source.EXPIRED_BUNDLE and not last_resort and dialled is not Source.EXPIRED_BUNDLE:
            source = None
        self._connected[peer_id] = source
        if source is None:
            if (
                dialled is Source.MDNS
                and self._may_use_lan
                and self.state in (State.SEARCHING, State.WAITING)
            ):
                return self._join_lan(peer_id, now)
            return []
        self._memory.entered(peer_id, unix_now)
        if self.state is State.JOINED:
            self._retry_at = None
            self._failures = 0
            return []
        self.state = State.JOINED
        self._joined_at = now
        self._retry_at = None
        return [Joined(peer_id, source, lan_only=False)]

    @property
    def _may_use_lan(self) -> bool:
        """Neighbours stand in for entry points out of reach, not for a key that fits no list."""
        return not self._questions.list_is_refused

    def _join_lan(self, peer_id: PeerId, now: float) -> list[Command]:
        self.state = State.LAN_ONLY
        self._joined_at = now
        self._end_round()
        self._failures += 1
        self._retry_in(now)
        return [Joined(peer_id, Source.MDNS, lan_only=True)]

    def _on_disconnected(self, peer_id: PeerId, unix_now: int) -> None:
        self._connected.pop(peer_id, None)
        self._memory.left(peer_id, unix_now)

    def _look_again_if_cut_off(self, now: float) -> None:
        """Joined, but without an entry point: those who still know each other may be half of the network.

        Only entry points lead to the other half, so they are looked for as long as there is none.
        """
        cut_off = not any(self._connected.values())
        if self.state is State.JOINED and cut_off and self._retry_at is None and self._round is None:
            self._after_loss = True
            self._failures += 1
            self._retry_in(now)

    def _on_lost(self, now: float, unix_now: int) -> list[Command]:
        for peer_id in list(self._connected):
            self._on_disconnected(peer_id, unix_now)
        self._after_loss = True
        if now - self._joined_at >= self._config.stable_after:
            self._failures = 0
            self.state = State.SEARCHING
            return [LostAllPeers(), *self._begin_round(now, unix_now)]
        # Peers that let us in and throw us out at once would be dialled without pause.
        self.state = State.WAITING
        self._end_round()
        self._failures += 1
        self._retry_in(now)
        return [LostAllPeers()]

    def _on_mdns(
        self, peer_id: PeerId, addresses: tuple[Multiaddr, ...], now: float, unix_now: int
    ) -> list[Command]:
        if not self.entry_points.add_lan(peer_id, addresses) or peer_id in self._connected:
            return []
        if self._round is not None and self.state is not State.JOINED:
            return self._advance(now, unix_now)
        if self._dials.count(Source.MDNS) >= self._config.max_lan_dials:
            return []
        return [
            Dial(*target, timeout)
            for address in self.entry_points.lan_addresses(peer_id)[: self._config.max_lan_addresses]
            for target, timeout in self._dials.start_beside((peer_id, address), Source.MDNS, now)
        ]

    def _remember(
        self, peer_id: PeerId, addresses: Iterable[Multiaddr], now: float, unix_now: int
    ) -> list[Command]:
        if self.state is not State.JOINED:
            return []  # who is met on the local network alone is vouched for by nobody
        return self._memory.remember(peer_id, addresses, now, unix_now)

    def _recheck(self, now: float, unix_now: int) -> list[Command]:
        """See whether a peer that is connected already has become an entry point."""
        commands: list[Command] = []
        for peer_id, source in list(self._connected.items()):
            if source is None and self.entry_points.source_of(peer_id, unix_now) is not None:
                commands += self._on_connected(peer_id, None, now, unix_now)
        return commands

    # Time, and the end.

    def _on_timer(self, now: float, unix_now: int) -> list[Command]:
        for target in self._dials.overdue(now):
            self._dials.fail(target, "timeout", now)
        commands = self._questions.time_passed(now) + self._memory.save_if_due(now)
        if self._retry_at is not None and self._retry_at <= now:
            return commands + self._begin_round(now, unix_now)
        return commands + self._advance(now, unix_now)

    def _stop(self, now: float) -> list[Command]:
        self.state = State.STOPPED
        self._end_round()
        return self._memory.flush(now)

    def _source_reports(self, unix_now: int) -> list[SourceReport]:
        counts = Counter(candidate.source for candidate in self.entry_points.candidates(unix_now))
        reports = [
            SourceReport(str(source), "ok" if counts[source] else "empty", f"{counts[source]} peers")
            for source in (Source.BOOTSTRAP, Source.PINNED, Source.CACHE)
        ]
        reports += self._questions.reports()
        local = len(self.entry_points.lan(unix_now))
        return [*reports, SourceReport("mdns", "ok" if local else "empty", f"{local} peers")]
