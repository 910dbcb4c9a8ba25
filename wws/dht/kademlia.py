"""Kademlia: one machine for each node, which keeps its routing table, answers others, and looks things up.

libp2p specifications, kad-dht/README.md; wire.md sections 2 and 4. The driver calls
`handle(event, now, unix_now)`, carries the commands out, and sleeps until `next_wakeup()`.

                     RequestReceived ─►┌───────────┐─► Reply
       PeerJoined, PeerLeft, SetMode ─►│ Kademlia  │─► PeerUseless
      StartGet, StartPut, StartFind… ─►│  routing  │─► GetDone, PutDone, FindDone…
        QueryAnswered, QueryFailed ───►│  store    │─► SendQuery, DropQuery
                        TimerFired ───►│ operations│
                                       └───────────┘
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.dht.config import KademliaConfig
from wws.dht.events import (
    AddressesChanged,
    Cancel,
    DropQuery,
    EntryPointRegained,
    FindDone,
    GetDone,
    PeerJoined,
    PeerLeft,
    PeerUseless,
    ProvidersDone,
    PutDone,
    QueryAnswered,
    QueryFailed,
    Reply,
    RequestReceived,
    SendQuery,
    SetMode,
    StartFind,
    StartFindProviders,
    StartGet,
    StartProvide,
    StartPut,
    TimerFired,
)
from wws.dht.lookup import Lookup
from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.dht.operations import Operation, Outgoing, Purpose, Step
from wws.dht.planner import Planner
from wws.dht.positions import KEY_SPACE, position_of_peer
from wws.dht.queries import Queries, Query
from wws.dht.region import Region
from wws.dht.routing import RoutingTable
from wws.dht.serving import Serving
from wws.dht.size import SwarmSize, SwarmSizeEstimate
from wws.dht.store import Outcome, ProviderStore, RecordKind, RecordStore, StoreRefused
from wws.dht.upkeep import (
    AskNewcomer,
    BringRecord,
    CheckPeer,
    LookForKey,
    LookForSelf,
    Provide,
    Task,
    Upkeep,
)
from wws.errors import LocalProtocolError, WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Event

__all__ = [
    "AddressesChanged", "Cancel", "DropQuery", "EntryPointRegained", "FindDone", "GetDone", "Kademlia",
    "KademliaCommand", "KademliaConfig", "PeerJoined", "PeerLeft", "PeerUseless", "ProvidersDone",
    "PutDone", "QueryAnswered", "QueryFailed", "RecordKind", "Reply", "RequestReceived", "SendQuery",
    "SetMode", "StartFind", "StartFindProviders", "StartGet", "StartProvide", "StartPut",
    "SwarmSizeEstimate", "TimerFired", "TooManyOperations",
]  # fmt: skip

KademliaCommand: TypeAlias = (
    SendQuery | DropQuery | Reply | GetDone | PutDone | FindDone | ProvidersDone | PeerUseless
)


class TooManyOperations(WwsError):
    """The node has as many look-ups under way as it does at once. Try again in a moment."""

    code = "busy"


class Kademlia:
    """The machine. `kinds` says which records exist; a key outside of them is neither kept nor looked up."""

    def __init__(
        self, local: PeerId, config: KademliaConfig, rng: random.Random, validators: Mapping[str, RecordKind]
    ) -> None:
        self.local = local
        self.config = config
        self.routing = RoutingTable(position_of_peer(local), config.routing)
        self.records = RecordStore(local, validators, config.store)
        self.providers = ProviderStore(config.store)
        self.refusals: Counter[str] = Counter()
        """What was refused or skipped, by reason."""
        self.serving = False
        self.addresses: tuple[Multiaddr, ...] = ()
        self._size = SwarmSize(config.lookup.k, config.size)
        self._queries = Queries(config)
        self._region = Region(self.routing, self._size, config.lookup, dense_share=config.dense_share)
        self._plan = Planner(
            local,
            config,
            self._size,
            self._region,
            self.records,
            self.providers,
            self._queries.pace_of,
            lambda: self.operations_in_flight,
        )
        self._upkeep = Upkeep(
            local, self.routing, self._region, self.records, config.upkeep, config.lookup.k, rng
        )
        self._served = Serving(local, self._region, self.records, self.providers, self.refusals)
        self._operations: dict[int, Operation] = {}
        self._background: list[Operation] = []
        self.joined = False
        """Whether a look-up of ourselves has come to its end with at least one answer."""

    # What the outside may ask

    @property
    def round_trip(self) -> float:
        """Smoothed seconds that connected peers take to answer."""
        return self._queries.round_trip

    @property
    def queries_in_flight(self) -> int:
        return len(self._queries)

    @property
    def peers_remembered_as_silent(self) -> int:
        return self._queries.silent

    @property
    def operations_in_flight(self) -> int:
        """Operations not over, those that go on in the background included."""
        return len(self._operations) + len(self._background)

    def swarm_size(self, now: float) -> SwarmSizeEstimate:
        """How many nodes serve this swarm."""
        return self._size.estimate(len(self.routing), self.serving, now)

    def protects(self, peer: PeerId) -> bool:
        """Whether a peer's connection is worth keeping: it has a bucket's place or is a neighbour."""
        return self.routing.has_place(peer) or self.routing.is_near(peer, self.config.lookup.k)

    # The machine

    def handle(self, event: Event, now: float, unix_now: int) -> list[KademliaCommand]:
        """Take an event; what is to be done about it. Raises `LocalProtocolError` for what cannot be."""
        match event:
            case RequestReceived(request_id=request_id, sender=sender, message=message):
                return [Reply(request_id, self._serve(sender, message, now, unix_now))]
            case QueryAnswered(query_id=query_id, message=message):
                return self._query_answered(query_id, message, now, unix_now)
            case QueryFailed(query_id=query_id):
                return self._conclude_failed(self._queries.conclude(query_id), now, unix_now)
            case TimerFired():
                return self._timer_fired(now, unix_now)
            case PeerJoined(peer=peer, addresses=addresses, prefix=prefix):
                return self._peer_joined(peer, addresses, prefix, now)
            case PeerLeft(peer=peer, for_good=for_good):
                self._queries.connected.discard(peer)
                if for_good:
                    self.routing.remove(peer)
                else:
                    self.routing.disconnected(peer)
                return []
            case EntryPointRegained(peer=peer):
                return self._ask_newcomer(peer, now)
            case StartGet():
                return self._start_get(event, now, unix_now)
            case StartPut(op=op, key=key, value=value):
                return self._start_put(op, key, value, now, unix_now)
            case StartFind(op=op, peer=peer):
                self._check_new(op)
                return self._begin(self._plan.find(op, peer.to_bytes(), peer, now), now, unix_now)
            case StartProvide(op=op, key=key):
                return self._start_provide(op, key, now, unix_now)
            case StartFindProviders(op=op, key=key):
                return self._start_find_providers(op, key, now, unix_now)
            case Cancel(op=op):
                return self._cancel(op)
            case AddressesChanged(addresses=addresses):
                self.addresses = addresses
                return []
            case SetMode(server=server):
                self.serving = server
                return []
            case _:
                raise LocalProtocolError(f"{type(event).__name__} is no event of Kademlia")

    def next_wakeup(self) -> float | None:
        """The `now` at which to hand in `TimerFired`, or `None` when nothing is waited for."""
        earliest = self._upkeep.next_wakeup()
        for operation in (*self._operations.values(), *self._background):
            wakeup = operation.next_wakeup()
            if wakeup is not None and (earliest is None or wakeup < earliest):
                earliest = wakeup
        return earliest

    # Peers and requests

    def _peer_joined(
        self, peer: PeerId, addresses: tuple[Multiaddr, ...], prefix: str | None, now: float
    ) -> list[KademliaCommand]:
        if peer == self.local:
            return []
        self._queries.connected.add(peer)
        self._queries.is_there(peer)
        contact = self.routing.find(peer)
        # One that was long out of reach, say behind a partition, has missed as much as a newcomer.
        away = contact is None or (not contact.connected and now - contact.last_seen > self.config.long_away)
        if not self.routing.add(peer, addresses, prefix, now):
            return [PeerUseless(peer)]
        if away:
            self._upkeep.peer_added(peer, now)
        return []

    def _serve(self, sender: PeerId, message: KadMessage, now: float, unix_now: int) -> KadMessage | None:
        if not self.serving:
            self.refusals["client_mode"] += 1
            return None
        self.refusals["skipped_entries"] += message.skipped
        answer, heard = self._served.answer(sender, message, now, unix_now)
        if heard is not None:
            self._upkeep.record_heard(heard, now)
        return answer

    # Starting operations

    def _check_new(self, op: int) -> None:
        if op in self._operations:
            raise LocalProtocolError(f"operation {op} is under way already")
        if len(self._operations) >= self.config.max_operations:
            raise TooManyOperations

    def _start_get(self, start: StartGet, now: float, unix_now: int) -> list[KademliaCommand]:
        self._check_new(start.op)
        key, round_trip = start.key.encode("ascii"), self._queries.round_trip
        operation = self._plan.get(start.op, key, round_trip, now, unix_now, widely=start.widely)
        return self._begin(operation, now, unix_now)

    def _start_put(self, op: int, key: str, value: bytes, now: float, unix_now: int) -> list[KademliaCommand]:
        self._check_new(op)
        raw = key.encode("ascii")
        # Raises for a value that nobody would keep; that we have no room for it does not matter.
        self.records.check(raw, value, unix_now)
        own = 1 if self._offer(raw, value, unix_now) in (Outcome.STORED, Outcome.HELD) else 0
        self._upkeep.record_heard(raw, now)
        return self._begin(self._plan.put(op, raw, value, own, now), now, unix_now)

    def _start_provide(self, op: int, key: bytes, now: float, unix_now: int) -> list[KademliaCommand]:
        self._check_new(op)
        if self._upkeep.provided_count >= self.config.max_provided:
            raise TooManyOperations(f"this node announces {self.config.max_provided} keys already")
        self._upkeep.provided(op, key, now)
        return self._provide(op, key, now, unix_now)

    def _start_find_providers(self, op: int, key: bytes, now: float, unix_now: int) -> list[KademliaCommand]:
        self._check_new(op)
        return self._begin(self._plan.find_providers(op, key, now), now, unix_now)

    def _provide(self, op: int | None, key: bytes, now: float, unix_now: int) -> list[KademliaCommand]:
        if self.serving:
            self.providers.add(key, self.local, self.addresses, now)
        ourselves = WirePeer(self.local, self.addresses)
        return self._begin(self._plan.provide(op, key, ourselves, now), now, unix_now)

    def _look_for_self(
        self, now: float, unix_now: int, *, seeds: Sequence[WirePeer] | None = None
    ) -> list[KademliaCommand]:
        operation = self._plan.find(None, self.local.to_bytes(), None, now)
        return self._begin(operation, now, unix_now, seeds=seeds)

    def _begin(
        self, operation: Operation, now: float, unix_now: int, *, seeds: Sequence[WirePeer] | None = None
    ) -> list[KademliaCommand]:
        if operation.op is not None:
            self._operations[operation.op] = operation
        else:
            self._background.append(operation)
        if seeds is None:
            seeds = [contact.named for contact in self._region.seeds(operation.lookup.target, now)]
        steps = operation.start(seeds, now, unix_now)
        return self._carry_out(operation, steps, now, unix_now)

    def _cancel(self, op: int) -> list[KademliaCommand]:
        provided = self._upkeep.forget_provided(op)
        if provided is not None:
            self.providers.remove(provided, self.local)
        operation = self._operations.pop(op, None)
        if operation is None:
            # A reported one may go on in the background under nobody's number.
            operation = next((o for o in self._background if o.op == op), None)
            if operation is None:
                return []
            self._background.remove(operation)
        return [DropQuery(query_id) for query_id in self._queries.drop(operation)]

    # What comes of queries

    def _query_answered(
        self, query_id: int, message: KadMessage | None, now: float, unix_now: int
    ) -> list[KademliaCommand]:
        query = self._queries.conclude(query_id)
        if message is not None and message.type is not query.message.type:
            self.refusals["wrong_answer"] += 1
            return self._conclude_failed(query, now, unix_now)
        self.routing.answered(query.peer, now)
        self._queries.is_there(query.peer)
        if message is not None:
            self.refusals["skipped_entries"] += message.skipped
            self._queries.measure(query, now)
        operation = query.operation
        if operation is None:
            self._take_rival(query.message, message, unix_now)
            return self._meet_neighbours(message, now, unix_now)
        steps = operation.answered(query.peer, query.purpose, message, now, unix_now)
        return self._carry_out(operation, steps, now, unix_now)

    def _conclude_failed(self, query: Query, now: float, unix_now: int) -> list[KademliaCommand]:
        # A connected peer that ends a put's stream refuses the record. It is alive, and keeps its place.
        if query.purpose is Purpose.ASK or query.peer not in self._queries.connected:
            self.routing.failed(query.peer, now)
        self._queries.failed(query, now)
        if query.operation is None:
            return []
        steps = query.operation.failed(query.peer, query.purpose, now, unix_now)
        return self._carry_out(query.operation, steps, now, unix_now)

    def _take_rival(self, sent: KadMessage, answer: KadMessage | None, unix_now: int) -> None:
        """A holder that keeps another value than the one brought shows it: keep it too, if it wins."""
        if sent.record is None or answer is None or answer.record is None:
            return
        if answer.record.value != sent.record.value:
            self._offer(sent.key, answer.record.value, unix_now)

    def _ask_newcomer(self, peer: PeerId, now: float) -> list[KademliaCommand]:
        """Ask one peer who is near us: it may come from a part of the network that nobody here knows."""
        contact = self.routing.find(peer)
        if contact is None:
            return []
        message = KadMessage(MessageType.FIND_NODE, self.local.to_bytes())
        return [self._queries.send(None, Outgoing(peer, contact.named.addresses, message, Purpose.ASK), now)]

    def _meet_neighbours(
        self, message: KadMessage | None, now: float, unix_now: int
    ) -> list[KademliaCommand]:
        """Look for ourselves among strangers, when an answer names several who are our neighbours."""
        if message is None or message.key != self.local.to_bytes():
            return []
        k, own = self.config.lookup.k, position_of_peer(self.local)
        known = self.routing.closest(own, k)
        reach = known[-1].position ^ own if len(known) >= k else KEY_SPACE
        strangers = [
            named
            for named in message.closer_peers[:k]
            if named.peer_id not in self.routing
            and named.peer_id != self.local
            and position_of_peer(named.peer_id) ^ own < reach
        ]
        if len(strangers) < min(self.config.strangers, k) or not self._upkeep.may_refresh(now):
            return []
        return self._look_for_self(now, unix_now, seeds=strangers)

    def _offer(self, key: bytes, value: bytes, unix_now: int) -> Outcome | None:
        """Keep a value that we put, or found, if it wins; `None` when it is refused."""
        try:
            return self.records.offer(key, value, self.local, unix_now)
        except StoreRefused as error:
            self.refusals[error.code] += 1
            return None

    # Time, and carrying out

    def _timer_fired(self, now: float, unix_now: int) -> list[KademliaCommand]:
        commands: list[KademliaCommand] = []
        for operation in (*self._operations.values(), *self._background):
            wakeup = operation.next_wakeup()
            if wakeup is not None and wakeup <= now:
                commands += self._carry_out(operation, operation.timer(now, unix_now), now, unix_now)
        tasks = self._upkeep.due(now, serving=self.serving)
        if tasks:
            self.records.expire(unix_now)
            self.providers.expire(now)
        for task in tasks:
            commands += self._do(task, now, unix_now)
        return commands

    def _do(self, task: Task, now: float, unix_now: int) -> Iterable[KademliaCommand]:
        match task:
            case LookForSelf():
                return self._look_for_self(now, unix_now)
            case LookForKey(key=key):
                return self._begin(self._plan.explore(key), now, unix_now)
            case AskNewcomer(peer=peer):
                return self._ask_newcomer(peer, now)
            case CheckPeer(contact=contact):
                message = KadMessage(MessageType.FIND_NODE, self.local.to_bytes())
                return [
                    self._queries.send(
                        None, Outgoing(contact.peer, contact.named.addresses, message, Purpose.ASK), now
                    )
                ]
            case BringRecord(key=key, to=peers):
                value = self.records.find(key, unix_now)
                if value is None:
                    return []
                message = KadMessage(MessageType.PUT_VALUE, key, KadRecord(key, value))
                contacts = [known for peer in peers if (known := self.routing.find(peer)) is not None]
                return [
                    self._queries.send(None, Outgoing(c.peer, c.named.addresses, message, Purpose.STORE), now)
                    for c in contacts
                ]
            case Provide(key=key):
                return self._provide(None, key, now, unix_now)

    def _carry_out(
        self, operation: Operation, steps: list[Step], now: float, unix_now: int
    ) -> list[KademliaCommand]:
        commands: list[KademliaCommand] = []
        for step in steps:
            if isinstance(step, Outgoing):
                commands.append(self._queries.send(operation, step, now))
                continue
            if isinstance(step, PutDone) and step.winner is not None:
                won = self._offer(operation.key, step.winner, unix_now) is Outcome.STORED
                step = step if won else PutDone(step.op, step.stored, step.reachable)
            elif isinstance(step, GetDone) and step.value is not None:
                self._keep_if_held(operation.key, step.value, unix_now)
            commands.append(step)
        if operation.complete and not operation.sampled:
            operation.sampled = True
            self._sample(operation.lookup, now)
            if operation.lookup.answered and operation.lookup.target == position_of_peer(self.local):
                self.joined = True
        op = operation.op
        if operation.reported and op is not None and self._operations.get(op) is operation:
            # The number is the caller's again; what is left to do goes on without it.
            del self._operations[op]
            self._background.append(operation)
        if operation.finished and operation in self._background:
            self._background.remove(operation)
        return commands

    def _keep_if_held(self, key: bytes, value: bytes, unix_now: int) -> None:
        """A holder takes a newer value that its own look-up found."""
        held = self.records.find(key, unix_now)
        if held is not None and held != value:
            self._offer(key, value, unix_now)

    def _sample(self, lookup: Lookup, now: float) -> None:
        k = self.config.lookup.k
        distances = lookup.distances(k)
        if lookup.k < k:
            if len(distances) >= lookup.k:
                self._size.saw_narrowly(lookup.target, distances[: lookup.k], now)
            return
        # Met everybody: nobody heard of is left, and we know of no k peers that a crowd may have hidden.
        alone = lookup.exhausted and len(self.routing.closest(lookup.target, k, proven=True)) < k
        if len(distances) >= k or alone:
            self._size.saw(lookup.target, distances, now)
