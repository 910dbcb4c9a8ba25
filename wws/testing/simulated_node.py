"""A node of the simulation: the shipped Kademlia machine, and what a driver does for it.

The driver's part is what `wws.runtime` does on sockets: dial, keep connections and trim them, tell the
machine who joined and left, carry its queries. Anything above the DHT runs on `get` and `put`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from wws.dht.kademlia import (
    AddressesChanged,
    DropQuery,
    EntryPointRegained,
    FindDone,
    GetDone,
    Kademlia,
    KademliaCommand,
    KademliaConfig,
    PeerJoined,
    PeerLeft,
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
from wws.dht.messages import KadMessage
from wws.dht.store import RecordKind
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.machine import Event
from wws.testing.simulated_network import Place, SimulatedNetwork

Result: TypeAlias = GetDone | PutDone | FindDone | ProvidersDone
Then: TypeAlias = Callable[[Result], None]


class Link:
    """A connection as one side has it."""

    __slots__ = ("last_used", "node", "waiting")

    def __init__(self, node: SimulatedNode, now: float) -> None:
        self.node = node
        self.last_used = now
        self.waiting: dict[int, SendQuery] = {}
        """Queries sent over it that have no answer yet."""


class SimulatedNode:
    """One node. `directory` finds any node by its PeerId, as a dial to a known address would."""

    def __init__(
        self,
        identity: Identity,
        place: Place,
        network: SimulatedNetwork,
        directory: Mapping[PeerId, SimulatedNode],
        kinds: Mapping[str, RecordKind],
        rng: random.Random,
        *,
        config: KademliaConfig,
        max_connections: int,
        entry_points: Sequence[SimulatedNode],
        encode_messages: bool = False,
    ) -> None:
        self.identity = identity
        self.peer_id = identity.peer_id
        self.place = place
        self.serving = place.dialable
        self.kademlia = Kademlia(identity.peer_id, config, rng, kinds)
        self.links: dict[PeerId, Link] = {}
        self.started_at = network.time.now
        self.joined_at: float | None = None
        self.ahead = 0
        """Seconds by which the node's wall clock is ahead."""
        self._network = network
        self._time = network.time
        self._directory = directory
        self._rng = rng
        self._max_connections = max_connections
        self._entry_points = entry_points
        self._encode_messages = encode_messages
        self._dialling: dict[PeerId, list[SendQuery]] = {}
        self._sent_at: dict[int, float] = {}
        """When each query that is under way was handed to us."""
        self._then: dict[int, Then] = {}
        self._next_op = 0
        self._wakeup: float | None = None

    @property
    def network(self) -> SimulatedNetwork:
        return self._network

    @property
    def unix_now(self) -> int:
        """What the node's wall clock says."""
        return self._time.unix_now + self.ahead

    # What a program above does

    def start(self) -> None:
        """Come up: serve if reachable, and go to the entry points."""
        self.tell(SetMode(self.serving))
        self.tell(AddressesChanged((self.place.address,)))
        self._keep_entry_points()

    def get(self, key: str, then: Then, *, widely: bool = True) -> int:
        """Look a value up; `then` is called with the `GetDone`."""
        return self._operate(lambda op: StartGet(op, key, widely), then)

    def put(self, key: str, value: bytes, then: Then) -> int:
        """Store a value; `then` is called with the `PutDone`."""
        return self._operate(lambda op: StartPut(op, key, value), then)

    def find(self, peer: PeerId, then: Then) -> int:
        """Find a peer; `then` is called with the `FindDone`."""
        return self._operate(lambda op: StartFind(op, peer), then)

    def provide(self, key: bytes, then: Then) -> int:
        """Announce a key; `then` is called with the `PutDone`."""
        return self._operate(lambda op: StartProvide(op, key), then)

    def find_providers(self, key: bytes, then: Then) -> int:
        """Find who provides a key; `then` is called with the `ProvidersDone`."""
        return self._operate(lambda op: StartFindProviders(op, key), then)

    def dial(self, other: SimulatedNode) -> None:
        """Connect to another node for no query's sake."""
        if self.place.online and other.peer_id not in self.links and other.peer_id not in self._dialling:
            self._dialling[other.peer_id] = []
            self._dial(other, 10.0)

    def leave(self, *, silently: bool) -> None:
        """Go offline: with a word to each peer, or as when the power fails."""
        self.place.online = False
        self.place.silent = silently
        for peer, link in list(self.links.items()):
            other = link.node
            if silently:
                self._time.after(self._network.detection_time(), other.lose, self.peer_id)
            else:
                delay = self._network.one_way(self.place, other.place)
                self._time.after(delay, other.lose, self.peer_id)
            del self.links[peer]
        self._dialling.clear()
        self._sent_at.clear()

    # The driver's part

    def tell(self, event: Event) -> None:
        """Hand an event to the machine, and do what it asks."""
        if self.place.online:
            self._carry_out(self.kademlia.handle(event, self._time.now, self.unix_now))

    def lose(self, peer: PeerId) -> None:
        """Notice that a connection is gone."""
        link = self.links.get(peer)
        if link is None or not self.place.online:
            return
        if self._network.can_reach(self.place, link.node.place) and self.peer_id in link.node.links:
            return  # another one came up meanwhile
        self._unlink(peer)

    def check_links(self) -> None:
        """Notice which peers went silent, as keep-alive does: after a partition."""
        for peer, link in list(self.links.items()):
            if not self._network.can_reach(self.place, link.node.place):
                self._unlink(peer)

    def _unlink(self, peer: PeerId) -> None:
        link = self.links.pop(peer)
        self.tell(PeerLeft(peer))
        for query_id in list(link.waiting):
            self._fail(query_id)

    def _operate(self, event_for: Callable[[int], Event], then: Then) -> int:
        self._next_op += 1
        self._then[self._next_op] = then
        self.tell(event_for(self._next_op))
        return self._next_op

    def _carry_out(self, commands: list[KademliaCommand]) -> None:
        for command in commands:
            if isinstance(command, SendQuery):
                self._query(command)
            elif isinstance(command, GetDone | PutDone | FindDone | ProvidersDone):
                self._then.pop(command.op)(command)
            elif isinstance(command, DropQuery):
                self._sent_at.pop(command.query_id, None)
        if self.joined_at is None and self.kademlia.joined:
            self.joined_at = self._time.now
        self._set_timer()

    def _set_timer(self) -> None:
        wakeup = self.kademlia.next_wakeup()
        if wakeup is not None and (self._wakeup is None or wakeup < self._wakeup):
            self._wakeup = wakeup
            self._time.at(wakeup, self._timer, wakeup)

    def _timer(self, scheduled: float) -> None:
        if scheduled != self._wakeup:
            return  # an earlier one took its place
        self._wakeup = None
        wakeup = self.kademlia.next_wakeup()
        if wakeup is not None and wakeup <= self._time.now:
            self.tell(TimerFired())
        elif self.place.online:
            self._set_timer()

    def _query(self, query: SendQuery) -> None:
        self._sent_at[query.query_id] = self._time.now
        link = self.links.get(query.peer)
        if link is not None:
            self._ask(link, query)
            return
        waiting = self._dialling.get(query.peer)
        if waiting is not None:
            waiting.append(query)
            return
        self._dialling[query.peer] = [query]
        self._dial(self._directory[query.peer], query.timeout)

    def _dial(self, other: SimulatedNode, timeout: float) -> None:
        self._network.dialled += 1
        place = other.place
        reachable = self._network.can_reach(self.place, place) and place.dialable
        if reachable:
            self._time.after(self._network.dial_time(self.place, place), self._dialled, other)
        elif place.online or place.silent or self.place.group != place.group:
            self._time.after(timeout, self._dial_failed, other.peer_id)
        else:
            delay = self._network.one_way(self.place, place) + self._network.one_way(place, self.place)
            self._time.after(delay, self._dial_failed, other.peer_id)

    def _dial_failed(self, peer: PeerId) -> None:
        if peer in self.links:
            return
        for query in self._dialling.pop(peer, []):
            self._fail(query.query_id)

    def _dialled(self, other: SimulatedNode) -> None:
        if not self.place.online:
            return
        if not self._network.can_reach(self.place, other.place):
            self._dial_failed(other.peer_id)
            return
        if other.peer_id not in self.links:
            self.link(other)
            other.link(self)
            if other in self._entry_points and self.joined_at is not None:
                self.tell(EntryPointRegained(other.peer_id))
        link = self.links[other.peer_id]
        for query in self._dialling.pop(other.peer_id, []):
            if query.query_id in self._sent_at:
                self._ask(link, query)

    def link(self, other: SimulatedNode) -> None:
        """A connection came up."""
        self.links[other.peer_id] = Link(other, self._time.now)
        if other.serving:
            self.tell(PeerJoined(other.peer_id, (other.place.address,), other.place.prefix))
        if len(self.links) > self._max_connections:
            self._trim()

    def _trim(self) -> None:
        """Close the least recently used connections that nothing protects, to nine tenths of the limit."""
        entry_points = {node.peer_id for node in self._entry_points}
        idle = [
            (link.last_used, peer)
            for peer, link in self.links.items()
            if not link.waiting and peer not in entry_points and not self.kademlia.protects(peer)
        ]
        idle.sort()
        for _, peer in idle[: len(self.links) - self._max_connections * 9 // 10]:
            other = self.links[peer].node
            delay = self._network.one_way(self.place, other.place)
            self._unlink(peer)
            self._time.after(delay, other.lose, self.peer_id)

    def _ask(self, link: Link, query: SendQuery) -> None:
        link.last_used = self._time.now
        if query.expects_answer:
            link.waiting[query.query_id] = query
        message = query.message
        other = link.node
        self._network.deliver(self.place, other.place, message.type, self._arrived, other, query)
        if not query.expects_answer and self._sent_at.pop(query.query_id, None) is not None:
            self.tell(QueryAnswered(query.query_id, None))

    def _arrived(self, other: SimulatedNode, query: SendQuery) -> None:
        """A query of ours is at the other's door."""
        if not self._network.can_reach(self.place, other.place):
            self._await_timeout(query)
            return
        answer = other.serve(self.peer_id, self._coded(query.message))
        if query.expects_answer:
            kind = 16 + query.message.type
            self._network.deliver(other.place, self.place, kind, self._returned, other, query, answer)

    def serve(self, sender: PeerId, message: KadMessage) -> KadMessage | None:
        """Answer a request, as the machine says."""
        link = self.links.get(sender)
        if link is not None:
            link.last_used = self._time.now
        event = RequestReceived(0, sender, message)
        reply, *rest = self.kademlia.handle(event, self._time.now, self.unix_now)
        if not isinstance(reply, Reply) or rest:
            raise TypeError("a request is answered by one Reply")
        self._set_timer()
        return self._coded(reply.message) if reply.message is not None else None

    def _returned(self, other: SimulatedNode, query: SendQuery, answer: KadMessage | None) -> None:
        if not self._network.can_reach(self.place, other.place):
            # A peer that went after it answered did answer; a partition swallows the answer.
            if other.place.group != self.place.group:
                self._await_timeout(query)
                return
            if not self.place.online:
                return
        link = self.links.get(query.peer)
        if link is not None:
            link.waiting.pop(query.query_id, None)
        if self._sent_at.pop(query.query_id, None) is None:
            return
        failed = answer is None
        self.tell(QueryFailed(query.query_id) if failed else QueryAnswered(query.query_id, answer))

    def _await_timeout(self, query: SendQuery) -> None:
        sent_at = self._sent_at.get(query.query_id)
        if sent_at is not None:
            self._time.at(sent_at + query.timeout, self._fail, query.query_id)

    def _fail(self, query_id: int) -> None:
        if self._sent_at.pop(query_id, None) is not None:
            self.tell(QueryFailed(query_id))

    def _coded(self, message: KadMessage) -> KadMessage:
        return KadMessage.parse(message.encode()) if self._encode_messages else message

    def _keep_entry_points(self) -> None:
        """Dial the entry points that we are not connected to, now and again and again."""
        if not self.place.online:
            return
        for node in self._entry_points:
            if node is not self:
                self.dial(node)
        self._time.after(45.0 + 30.0 * self._rng.random(), self._keep_entry_points)
