"""The queries on their way, and how long peers take to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from wws.addresses.multiaddr import Multiaddr
from wws.dht.config import KademliaConfig
from wws.dht.events import SendQuery
from wws.dht.lookup import Pace
from wws.dht.messages import KadMessage
from wws.dht.operations import Operation, Outgoing, Purpose
from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId

_MOST_TRIED: Final = 64
"""Addresses remembered of a peer that was looked for in vain."""


class _Tried(NamedTuple):
    when: float
    at: frozenset[Multiaddr]


@dataclass(slots=True)
class Query:
    """A `SendQuery` on its way. `operation` is `None` for checks and for records brought to others."""

    operation: Operation | None
    peer: PeerId
    purpose: Purpose
    message: KadMessage
    sent_at: float
    connected: bool
    addresses: tuple[Multiaddr, ...]


class Queries:
    """Numbers queries, finds them again, and learns from their answers what a round trip takes."""

    def __init__(self, config: KademliaConfig) -> None:
        self._config = config
        self._under_way: dict[int, Query] = {}
        self._next_id = 0
        self._measured = False
        self.round_trip = config.first_round_trip
        """Smoothed seconds that connected peers take to answer."""
        self.connected: set[PeerId] = set()
        """The serving peers with a connection."""
        self._dialled: dict[PeerId, _Tried] = {}
        """Since when the answer of a peer without a connection is waited for, and where it was looked for."""
        self._silent: dict[PeerId, _Tried] = {}
        """When such a peer failed to answer, and where it was looked for; the oldest first."""

    def __len__(self) -> int:
        return len(self._under_way)

    def send(self, operation: Operation | None, outgoing: Outgoing, now: float) -> SendQuery:
        """Put a message on its way."""
        self._next_id += 1
        peer, message = outgoing.peer, outgoing.message
        connected = peer in self.connected
        if not connected:
            self._dialled.setdefault(peer, _Tried(now, frozenset(outgoing.addresses)))
        self._under_way[self._next_id] = Query(
            operation, peer, outgoing.purpose, message, now, connected, outgoing.addresses
        )
        timeout = self._config.query_timeout
        return SendQuery(self._next_id, peer, outgoing.addresses, message, outgoing.expects_answer, timeout)

    def conclude(self, query_id: int) -> Query:
        """Take out the query that is over. Raises `LocalProtocolError` for one that is not under way."""
        query = self._under_way.pop(query_id, None)
        if query is None:
            raise LocalProtocolError(f"the end of query {query_id}, which is not under way")
        self._dialled.pop(query.peer, None)
        return query

    def is_there(self, peer: PeerId) -> None:
        """The peer has answered, or has a connection."""
        self._silent.pop(peer, None)

    def failed(self, query: Query, now: float) -> None:
        """No answer came. One who had to be dialled, and has no connection now, was not found where it was
        looked for."""
        if query.connected or query.peer in self.connected:
            return
        before = self._silent.pop(query.peer, None)
        tried = frozenset(query.addresses)
        if before is not None and len(before.at) + len(tried) <= _MOST_TRIED:
            tried |= before.at
        if len(self._silent) >= self._config.max_silent:
            del self._silent[next(iter(self._silent))]
        self._silent[query.peer] = _Tried(now, tried)

    def drop(self, operation: Operation) -> list[int]:
        """Take out all queries of an operation; their numbers."""
        dropped = [number for number, query in self._under_way.items() if query.operation is operation]
        for number in dropped:
            self._dialled.pop(self._under_way.pop(number).peer, None)
        return dropped

    def measure(self, query: Query, now: float) -> None:
        """Learn from an answer. Where the peer had to be dialled first it says nothing of a round trip."""
        if query.connected:
            took = now - query.sent_at
            self.round_trip = took if not self._measured else 0.9 * self.round_trip + 0.1 * took
            self._measured = True

    def pace_of(self, peer: PeerId, addresses: tuple[Multiaddr, ...], now: float) -> Pace:
        """How long the peer may take in a look-up, asked now and said to be at these addresses."""
        config = self._config
        slow = max(config.least_late / 2, config.slow_round_trips * self.round_trip)
        if peer in self.connected:
            return Pace(slow, max(config.least_late, config.late_round_trips * self.round_trip))
        late = max(config.least_late, config.late_dial_round_trips * self.round_trip)
        return Pace(slow, late, late) if self._is_silent(peer, addresses, now) else Pace(slow, late)

    @property
    def silent(self) -> int:
        """Peers remembered for having given no answer."""
        return len(self._silent)

    def _is_silent(self, peer: PeerId, addresses: tuple[Multiaddr, ...], now: float) -> bool:
        """Whether it was looked for in vain, and nobody says that it is anywhere else: who lies about where a
        peer is must not take it the patience that it needs at its true address."""
        waiting, failed = self._dialled.get(peer), self._silent.get(peer)
        if waiting is not None and now - waiting.when >= self._config.lookup.patience:
            return waiting.at.issuperset(addresses)
        if failed is not None and now - failed.when < self._config.silent_for:
            return failed.at.issuperset(addresses)
        return False
