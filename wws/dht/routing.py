"""The routing table: who is where, kept so that any position can be approached in few steps.

One bucket for each length of common prefix with our own position (Kademlia, Maymounkov and Mazières 2002,
sections 2.2 and 2.4). A bucket keeps places for `bucket_size` peers; connected peers beyond that stay as
long as their connection does, because asking them costs one round trip and no dial. Proven peers stay: a
newcomer never displaces one that answers, only one that failed.

No party gets many places: at most `per_prefix_in_bucket` and `per_prefix_in_table` peers share a /24 or
/56 (design.md section 6). Peers without a prefix (loopback, link, private) are exempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from wws.addresses.multiaddr import Multiaddr
from wws.dht.messages import WirePeer
from wws.dht.positions import KEY_BITS, position_of_peer
from wws.identity.peer_id import PeerId


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    bucket_size: int = 20
    """Places in a bucket, Kademlia's k."""
    max_peers: int = 192
    """Peers in the whole table from which on only the buckets' places are given, and none beyond them."""
    per_prefix_in_bucket: int = 2
    """Peers of one /24 or /56 in a bucket."""
    per_prefix_in_table: int = 3
    """Peers of one /24 or /56 in the table."""
    max_addresses: int = 16
    """Addresses kept of one peer."""
    max_failures: int = 3
    """Failures in a row after which a peer goes, even when nobody else wants its place."""


class Contact:
    """A peer in the table."""

    __slots__ = ("connected", "failures", "last_checked", "last_seen", "named", "peer", "position", "prefix")

    def __init__(
        self, peer: PeerId, addresses: tuple[Multiaddr, ...], prefix: str | None, now: float
    ) -> None:
        self.peer = peer
        self.position = position_of_peer(peer)
        self.named = WirePeer(peer, addresses)
        """The peer as it is named to others."""
        self.prefix = prefix
        self.connected = True
        self.failures = 0
        self.last_seen = now
        self.last_checked = now

    def __repr__(self) -> str:
        return f"Contact({self.peer}, connected={self.connected}, failures={self.failures})"


class RoutingTable:
    """Peers by their distance from `local_position`."""

    def __init__(self, local_position: int, config: RoutingConfig | None = None) -> None:
        self._local = local_position
        self._config = config or RoutingConfig()
        self._buckets: list[dict[PeerId, Contact]] = [{} for _ in range(KEY_BITS)]
        self._contacts: dict[PeerId, Contact] = {}
        self._prefixes: Counter[str] = Counter()
        self._deepest = 0

    def __len__(self) -> int:
        return len(self._contacts)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._contacts

    def __iter__(self) -> Iterator[Contact]:
        return iter(self._contacts.values())

    def find(self, peer: PeerId) -> Contact | None:
        """The entry of `peer`, if it has one."""
        return self._contacts.get(peer)

    def add(self, peer: PeerId, addresses: tuple[Multiaddr, ...], prefix: str | None, now: float) -> bool:
        """Take a connected peer in, or refresh the entry it has. Whether it has a place now."""
        contact = self._contacts.get(peer)
        if contact is not None:
            if prefix != contact.prefix:
                if not self._has_room_for_prefix(prefix, self._bucket_of(contact.position), leaving=contact):
                    self.remove(peer)
                    return False
                self._count_prefix(contact.prefix, -1)
                self._count_prefix(prefix, 1)
                contact.prefix = prefix
            if addresses and addresses != contact.named.addresses:
                contact.named = WirePeer(peer, addresses[: self._config.max_addresses])
            contact.connected = True
            self.answered(peer, now)
            return True
        position = position_of_peer(peer)
        if position == self._local:
            return False
        bucket = self._bucket_of(position)
        displaced: Contact | None = None
        if len(bucket) >= self._config.bucket_size:
            displaced = _worst(bucket)
            if displaced is None and len(self._contacts) >= self._config.max_peers:
                return False
        if not self._has_room_for_prefix(prefix, bucket, leaving=displaced):
            return False
        if displaced is not None:
            self.remove(displaced.peer)
        contact = Contact(peer, addresses[: self._config.max_addresses], prefix, now)
        bucket[peer] = contact
        self._contacts[peer] = contact
        self._count_prefix(prefix, 1)
        self._deepest = max(self._deepest, self._index(position))
        return True

    def remove(self, peer: PeerId) -> None:
        """Take a peer out. Nothing happens when it is not in."""
        contact = self._contacts.pop(peer, None)
        if contact is None:
            return
        del self._bucket_of(contact.position)[peer]
        self._count_prefix(contact.prefix, -1)

    def answered(self, peer: PeerId, now: float) -> None:
        """The peer was heard from: what it failed before is forgiven."""
        contact = self._contacts.get(peer)
        if contact is not None:
            contact.failures = 0
            contact.last_seen = contact.last_checked = now

    def disconnected(self, peer: PeerId) -> None:
        """The peer's connection is gone: it stays only where its bucket has a place for it."""
        contact = self._contacts.get(peer)
        if contact is None:
            return
        contact.connected = False
        bucket = self._bucket_of(contact.position)
        if len(bucket) > self._config.bucket_size:
            self.remove(peer)

    def failed(self, peer: PeerId, now: float) -> None:
        """The peer did not answer. It goes when its bucket is full of others, or after `max_failures`."""
        contact = self._contacts.get(peer)
        if contact is None:
            return
        contact.failures += 1
        contact.last_checked = now
        crowded = len(self._bucket_of(contact.position)) > self._config.bucket_size
        if crowded or contact.failures >= self._config.max_failures:
            self.remove(peer)

    def closest(self, position: int, count: int, *, proven: bool = False) -> list[Contact]:
        """Up to `count` peers, closest to `position` first; with `proven` only such as did not fail last."""
        # In the bucket that `position` falls into all are closer to it than in any other; those in deeper
        # buckets come next, all alike; then the shallower buckets one by one.
        index = self._index(position)
        same = self._buckets[index].values() if index < KEY_BITS else ()
        found = _sorted_by_distance(same, position, proven)
        if len(found) >= count:
            return found[:count]
        deeper = [c for bucket in self._buckets[index + 1 : self._deepest + 1] for c in bucket.values()]
        found += _sorted_by_distance(deeper, position, proven)
        if len(found) >= count:
            return found[:count]
        for shallower in range(min(index - 1, self._deepest), -1, -1):
            if bucket := self._buckets[shallower]:
                found += _sorted_by_distance(bucket.values(), position, proven)
                if len(found) >= count:
                    break
        return found[:count]

    def region(
        self, position: int, count: int, radius: int, widest: int, *, proven: bool = False
    ) -> list[Contact]:
        """The `count` closest, and further ones as long as they are within `radius`, up to `widest` in all:
        those who hold what belongs at `position`, also where a crowd stands in front of them."""
        found = self.closest(position, count, proven=proven)
        if len(found) < count or found[-1].position ^ position > radius:
            return found
        wider = self.closest(position, widest, proven=proven)
        return [c for index, c in enumerate(wider) if index < count or c.position ^ position <= radius]

    def is_near(self, peer: PeerId, count: int) -> bool:
        """Whether the peer is among the `count` in the table that are closest to ourselves."""
        contact = self._contacts.get(peer)
        if contact is None:
            return False
        closer = 0
        index = self._index(contact.position)
        for bucket in self._buckets[index + 1 : self._deepest + 1]:
            closer += len(bucket)
            if closer >= count:
                return False
        distance = contact.position ^ self._local
        closer += sum(1 for c in self._buckets[index].values() if c.position ^ self._local < distance)
        return closer < count

    def has_place(self, peer: PeerId) -> bool:
        """Whether the peer has one of its bucket's places, and is not merely a connected one beyond them."""
        contact = self._contacts.get(peer)
        if contact is None:
            return False
        for place, other in enumerate(self._bucket_of(contact.position)):
            if place >= self._config.bucket_size:
                return False
            if other == peer:
                return True
        return False

    def useful(self, near: int) -> set[PeerId]:
        """Peers that have a bucket's place, and the `near` closest to ourselves: bounded, whoever comes."""
        placed = {
            peer
            for bucket in self._buckets[: self._deepest + 1]
            for peer in islice(bucket, self._config.bucket_size)
        }
        return placed | {contact.peer for contact in self.closest(self._local, near)}

    def to_check(self, now: float, interval: float, limit: int) -> list[Contact]:
        """Up to `limit` peers without a connection and not heard from for `interval`."""
        due = [c for c in self._contacts.values() if not c.connected and now - c.last_checked >= interval]
        due.sort(key=lambda contact: contact.last_checked)
        return due[:limit]

    def thin_buckets(self) -> list[int]:
        """Buckets with fewer than half their places taken, although the deeper ones together would fill one.

        Deeper than these, a look-up of ourselves meets everybody there is.
        """
        thin: list[int] = []
        deeper = len(self._contacts)
        for index in range(self._deepest + 1):
            deeper -= len(self._buckets[index])
            if deeper < self._config.bucket_size:
                break
            if len(self._buckets[index]) < self._config.bucket_size // 2:
                thin.append(index)
        return thin

    def bucket_sizes(self) -> dict[int, int]:
        """Peers by length of common prefix, empty buckets left out."""
        return {index: len(bucket) for index, bucket in enumerate(self._buckets) if bucket}

    def _index(self, position: int) -> int:
        return KEY_BITS - (position ^ self._local).bit_length()

    def _bucket_of(self, position: int) -> dict[PeerId, Contact]:
        return self._buckets[self._index(position)]

    def _has_room_for_prefix(
        self, prefix: str | None, bucket: dict[PeerId, Contact], *, leaving: Contact | None
    ) -> bool:
        if prefix is None:
            return True
        spared = 1 if leaving is not None and leaving.prefix == prefix else 0
        if self._prefixes[prefix] - spared >= self._config.per_prefix_in_table:
            return False
        if self._prefixes[prefix] - spared < self._config.per_prefix_in_bucket:
            return True
        in_bucket = sum(1 for contact in bucket.values() if contact.prefix == prefix)
        return in_bucket - spared < self._config.per_prefix_in_bucket

    def _count_prefix(self, prefix: str | None, change: int) -> None:
        if prefix is None:
            return
        self._prefixes[prefix] += change
        if self._prefixes[prefix] <= 0:
            del self._prefixes[prefix]


def _worst(bucket: dict[PeerId, Contact]) -> Contact | None:
    """The peer that a newcomer may displace: the one that failed most, if any did."""
    worst = max(bucket.values(), key=lambda contact: contact.failures, default=None)
    return worst if worst is not None and worst.failures else None


def _sorted_by_distance(contacts: Iterable[Contact], position: int, proven: bool) -> list[Contact]:
    # Pairs, because no two distances are equal and comparing them needs no call for each.
    pairs = [(c.position ^ position, c) for c in contacts if not (proven and c.failures)]
    pairs.sort()
    return [contact for _, contact in pairs]
