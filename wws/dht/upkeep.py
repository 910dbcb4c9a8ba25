"""What a node does without being asked: keeps its table true, and keeps records where they belong.

- *Refresh.* A look-up of our own position at the first peer and every `refresh_interval` after, for the
  neighbourhood is what must be right; soon after newcomers appear in it; and one narrow look-up at a time
  into buckets that are thin.
- *Check.* Peers without a connection that were not heard from lately are asked whether they still are.
- *Republish.* A holder brings each record to the peers closest to it about once an hour, unless it received
  it meanwhile: then another holder just did (Kademlia, section 2.5). Owners renew by themselves.
- *Hand over.* A newcomer nearer to a record than we are gets it at once from the few holders nearest to it.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from wws.dht.positions import KEY_BITS, position_of_peer
from wws.dht.region import Region
from wws.dht.routing import Contact, RoutingTable
from wws.dht.store import HeldRecord, RecordStore
from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId


@dataclass(frozen=True, slots=True)
class UpkeepConfig:
    tick: float = 15.0
    """Seconds between looks at what is due."""
    busy_tick: float = 0.5
    """The same while work is queued."""
    refresh_interval: float = 600.0
    """Seconds between look-ups of our own position."""
    newcomer_refresh_after: float = 5.0
    """Seconds after a newcomer in the neighbourhood until such a look-up is made early."""
    newcomer_refresh_spacing: float = 120.0
    """Seconds between early ones."""
    ask_newcomer_spacing: float = 60.0
    """Seconds between newcomers that are asked who is near us. Two parts of a network that grow together
    learn of each other in this way, whoever of them met first."""
    bucket_refresh_interval: float = 600.0
    """Seconds between look-ups into a bucket that stays thin."""
    wanted_peers: int = 160
    """Peers to be connected with where there are as many: a warm connection answers in one round trip, a
    peer that must be dialled takes four. Well below the connection limit of an agent (256)."""
    widen_spacing: float = 15.0
    """Seconds between look-ups for a random key to reach that number, as long as they bring newcomers."""
    max_refreshed_bucket: int = 12
    """Deeper buckets are filled by looking for ourselves; finding a key for them costs 2^depth hashes."""
    check_interval: float = 600.0
    """Seconds without a word after which a peer without a connection is asked."""
    check_spacing: float = 60.0
    """Seconds between looks for such peers."""
    checks_at_once: int = 16
    """Peers asked at once."""
    republish_interval: float = 3600.0
    """Seconds between republishing of a record that nobody else brought."""
    jitter: float = 0.2
    """Each interval is drawn anew from this share around it, so that nodes do not act in step."""
    records_per_tick: int = 16
    """Records republished or handed over at once."""
    neighbourhood: int = 20
    """Closest peers to ourselves; a newcomer among them brings the look-up of ourselves forward."""
    record_neighbourhood: int = 60
    """Closest peers to ourselves whose coming may concern our records. More than k, because who is among the
    k closest to a record is not always among the k closest to its holder."""
    handing_over: int = 3
    """Holders nearest to a record that hand it to a newcomer."""
    max_handovers: int = 4_096
    """Hand-overs waiting; further ones are left to republishing."""
    max_newcomers: int = 256
    """Newcomers whom records wait to be looked through for; further ones are left to republishing."""
    records_looked_at: int = 512
    """Records looked at for newcomers in one tick: who comes and goes must not make us go through all."""
    provide_interval: float = 22 * 3600.0
    """Seconds between announcements of what this node provides (kad-dht specification: 22 h)."""


@dataclass(frozen=True, slots=True)
class LookForSelf:
    pass


@dataclass(frozen=True, slots=True)
class LookForKey:
    """A narrow look-up, to get to know peers where the key is."""

    key: bytes


@dataclass(frozen=True, slots=True)
class AskNewcomer:
    """Ask a newcomer who is near us."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class CheckPeer:
    contact: Contact


@dataclass(frozen=True, slots=True)
class BringRecord:
    key: bytes
    to: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class Provide:
    key: bytes


Task: TypeAlias = LookForSelf | LookForKey | AskNewcomer | CheckPeer | BringRecord | Provide


class Upkeep:
    """Says what is due. Kademlia does it."""

    def __init__(
        self, local: PeerId, routing: RoutingTable, region: Region, records: RecordStore,
        config: UpkeepConfig, k: int, rng: random.Random,
    ) -> None:  # fmt: skip
        self._local_position = position_of_peer(local)
        self._routing = routing
        self._region = region
        self._records = records
        self._config = config
        self._k = k
        self._rng = rng
        self._next_tick: float | None = None
        self._refresh_at: float | None = None
        self._last_refresh = float("-inf")
        self._widen_at = 0.0
        self._last_newcomer: PeerId | None = None
        self._ask_newcomer_at = 0.0
        self._last_met = float("-inf")
        self._check_at = 0.0
        self._peers_when_widened = 0
        self._bucket_due: dict[int, float] = {}
        self._republish_at: dict[bytes, float] = {}
        self._republish_queue: list[tuple[float, bytes]] = []
        self._handovers: deque[tuple[bytes, PeerId]] = deque()
        self._newcomers: deque[PeerId] = deque()
        """Newcomers for whom the records are still to be looked through; the last one taken from there, and
        what is left to look at for it, stand below."""
        self._newcomer = local
        self._not_looked_at: list[HeldRecord] = []
        self._provided: dict[int, tuple[bytes, float]] = {}
        self.handovers_dropped = 0

    def next_wakeup(self) -> float | None:
        """When to ask `due` again; `None` before the first peer."""
        return self._next_tick

    def peer_added(self, peer: PeerId, now: float) -> None:
        """A newcomer got a place in the table."""
        if self._refresh_at is None:
            self._refresh_at = now
            self._next_tick = now
        else:
            self._last_newcomer = peer
        if self._routing.is_near(peer, self._config.neighbourhood):
            early = max(
                now + self._config.newcomer_refresh_after,
                self._last_refresh + self._config.newcomer_refresh_spacing * (1 + self._rng.random()),
            )
            self._refresh_at = min(self._refresh_at, early)
        elif not self._routing.is_near(peer, self._config.record_neighbourhood):
            return
        if peer not in self._newcomers and len(self._records):
            if len(self._newcomers) >= self._config.max_newcomers:
                self.handovers_dropped += 1
                return
            self._newcomers.append(peer)
            self._next_tick = min(self._next_tick or now, now + self._config.busy_tick)

    def may_refresh(self, now: float) -> bool:
        """Whether strangers may be looked among now: not more often than newcomers are asked."""
        if now - self._last_met < self._config.ask_newcomer_spacing / 2:
            return False
        self._last_met = now
        return True

    def record_heard(self, key: bytes, now: float) -> None:
        """A record was stored or brought again: our own republishing of it can wait."""
        when = now + self._spread(self._config.republish_interval)
        known = key in self._republish_at
        self._republish_at[key] = when
        if not known:
            heapq.heappush(self._republish_queue, (when, key))
        if self._next_tick is None:
            self._next_tick = now + self._config.tick

    def provided(self, op: int, key: bytes, now: float) -> None:
        """Announce `key` again and again from now on."""
        self._provided[op] = (key, now + self._spread(self._config.provide_interval))

    def forget_provided(self, op: int) -> bytes | None:
        """Stop announcing what was started under `op`; its key."""
        entry = self._provided.pop(op, None)
        return entry[0] if entry is not None else None

    @property
    def provided_count(self) -> int:
        return len(self._provided)

    def due(self, now: float, *, serving: bool) -> list[Task]:
        """What to do now."""
        if self._next_tick is None or now < self._next_tick:
            return []
        tasks: list[Task] = []
        tasks += self._due_refresh(now)
        if self._check_at <= now:
            self._check_at = now + self._spread(self._config.check_spacing)
            stale = self._routing.to_check(now, self._config.check_interval, self._config.checks_at_once)
            tasks += [CheckPeer(contact) for contact in stale]
        if self._last_newcomer is not None and self._ask_newcomer_at <= now:
            self._ask_newcomer_at = now + self._spread(self._config.ask_newcomer_spacing)
            tasks.append(AskNewcomer(self._last_newcomer))
            self._last_newcomer = None
        self._look_for_handovers(now)
        tasks += self._due_handovers()
        tasks += self._due_republish(now, serving)
        for op, (key, when) in self._provided.items():
            if when <= now:
                self._provided[op] = (key, now + self._spread(self._config.provide_interval))
                tasks.append(Provide(key))
        waiting = self._newcomers or self._not_looked_at or self._handovers
        busy = waiting or (self._republish_queue and self._republish_queue[0][0] <= now)
        self._next_tick = now + (self._config.busy_tick if busy else self._spread(self._config.tick))
        if self._refresh_at is not None:
            self._next_tick = min(self._next_tick, max(self._refresh_at, now + self._config.busy_tick))
        return tasks

    def _due_refresh(self, now: float) -> list[Task]:
        if self._refresh_at is None or not len(self._routing):
            return []
        if self._refresh_at <= now:
            self._refresh_at = now + self._spread(self._config.refresh_interval)
            self._last_refresh = now
            return [LookForSelf()]
        if len(self._routing) < self._k:
            return []  # a look-up of ourselves asks all of so few
        for bucket in self._routing.thin_buckets():
            if bucket > self._config.max_refreshed_bucket:
                break
            if now < self._bucket_due.get(bucket, now):
                continue
            self._bucket_due[bucket] = now + self._spread(self._config.bucket_refresh_interval)
            return [LookForKey(self._key_in_bucket(bucket))]
        if len(self._routing) < self._config.wanted_peers and self._widen_at <= now:
            grown = len(self._routing) > self._peers_when_widened
            self._peers_when_widened = len(self._routing)
            pause = self._config.widen_spacing if grown else self._config.refresh_interval
            self._widen_at = now + self._spread(pause)
            return [LookForKey(self._rng.randbytes(32))]
        return []

    def _key_in_bucket(self, bucket: int) -> bytes:
        # Positions are hashes, so one in the bucket is found by trying: 2^(bucket + 1) times on average.
        first = self._rng.getrandbits(64)
        shift = KEY_BITS - 64
        local = self._local_position >> shift
        for number in range(first, first + (1 << 32)):
            key = number.to_bytes(16, "big")
            near = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
            if 64 - (near ^ local).bit_length() == bucket:
                return key
        raise LocalProtocolError(f"no key found for bucket {bucket}")

    def _look_for_handovers(self, now: float) -> None:
        for _ in range(self._config.records_looked_at):
            while not self._not_looked_at:
                if not self._newcomers:
                    return
                self._newcomer = self._newcomers.popleft()
                self._not_looked_at = list(self._records)
            self._queue_handover(self._not_looked_at.pop(), self._newcomer, now)

    def _queue_handover(self, record: HeldRecord, newcomer: PeerId, now: float) -> None:
        holders = self._region.known(record.position, now)
        if not any(contact.peer == newcomer for contact in holders):
            return
        own = record.position ^ self._local_position
        others = [contact.position ^ record.position for contact in holders if contact.peer != newcomer]
        # Where a crowd may stand nearer than we do, its hand-overs cannot be counted on.
        few = self._config.handing_over
        if len(holders) <= self._k and len(others) >= few and own > others[few - 1]:
            return
        if len(self._handovers) >= self._config.max_handovers:
            self.handovers_dropped += 1
            return
        self._handovers.append((record.key, newcomer))

    def _due_handovers(self) -> list[Task]:
        count = min(self._config.records_per_tick, len(self._handovers))
        pairs = [self._handovers.popleft() for _ in range(count)]
        return [BringRecord(key, (peer,)) for key, peer in pairs]

    def _due_republish(self, now: float, serving: bool) -> list[Task]:
        tasks: list[Task] = []
        held = {record.key: record for record in self._records} if self._due_now(now) else {}
        while self._due_now(now) and len(tasks) < self._config.records_per_tick:
            _, key = heapq.heappop(self._republish_queue)
            if key not in held:
                del self._republish_at[key]
                continue
            when = self._republish_at[key]
            if when > now:  # it was brought by another holder meanwhile
                heapq.heappush(self._republish_queue, (when, key))
                continue
            again = now + self._spread(self._config.republish_interval)
            self._republish_at[key] = again
            heapq.heappush(self._republish_queue, (again, key))
            holders = self._region.known(held[key].position, now)
            own = held[key].position ^ self._local_position
            is_holder = (
                len(holders) < self._k
                or own < holders[-1].position ^ held[key].position
                or own <= self._region.radius(now)
            )
            if serving and is_holder and holders:
                tasks.append(BringRecord(key, tuple(contact.peer for contact in holders)))
        return tasks

    def _due_now(self, now: float) -> bool:
        return bool(self._republish_queue) and self._republish_queue[0][0] <= now

    def _spread(self, interval: float) -> float:
        return interval * (1 + self._config.jitter * (2 * self._rng.random() - 1))
