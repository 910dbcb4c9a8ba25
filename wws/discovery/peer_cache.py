"""Peers that worked, remembered over restarts: the way back without DNS and without bootstrap nodes.

What makes a cached peer trustworthy is not that it answered, but through whom it was met: `through` is the
entry point behind it, `met_at` the last time that it was met while this one was there. A node that comes
back through a cached peer passes on its `through` and `met_at`, so trust never renews itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.codec.canonical import MAX_INTEGER, JsonObject, JsonValue
from wws.errors import ParseError
from wws.identity.peer_id import PeerId

SCHEMA = 1


class PeerCacheMalformed(ParseError):
    """The file of remembered peers cannot be read; the node starts without it and keeps it aside."""

    code = "peer_cache_malformed"


@dataclass(frozen=True, slots=True)
class PeerCacheConfig:
    """The bounds of the cache."""

    max_peers: int = 500
    """Most peers kept; those that worked last stay."""
    max_addresses: int = 8
    """Most addresses kept of a peer."""
    max_age: int = 30 * 86_400
    """Seconds after which a peer is forgotten, and after which having been met counts no more."""
    touch_after: int = 3_600
    """Seconds after which another success of a known peer is worth writing down."""


@dataclass(frozen=True, slots=True)
class CachedPeer:
    """One peer that worked. Times are Unix seconds."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]
    last_success: int
    through: PeerId
    met_at: int


class PeerCache:
    """The peers of one network, by domain (empty for all ad hoc networks); the runtime keeps the file."""

    def __init__(
        self, domain: str, peers: Iterable[CachedPeer] = (), config: PeerCacheConfig | None = None
    ) -> None:
        self.domain = domain
        self.skipped = 0
        """Entries of the file that could not be read and were left out."""
        self._config = config or PeerCacheConfig()
        self._peers = {peer.peer_id: peer for peer in peers}
        self._trim()

    def __len__(self) -> int:
        return len(self._peers)

    def find(self, peer_id: PeerId) -> CachedPeer | None:
        """What is remembered of a peer."""
        return self._peers.get(peer_id)

    def fresh(self, unix_now: int) -> list[CachedPeer]:
        """The peers whose time has not passed, those that worked last first."""
        fresh = [peer for peer in self._peers.values() if self.is_fresh(peer, unix_now)]
        return sorted(fresh, key=lambda peer: (-peer.last_success, peer.peer_id))

    def is_fresh(self, peer: CachedPeer, unix_now: int) -> bool:
        """Whether a peer has worked, and was vouched for, recently enough."""
        return min(peer.last_success, peer.met_at) >= unix_now - self._config.max_age

    def record(
        self, peer_id: PeerId, addresses: Iterable[Multiaddr], *, through: PeerId, met_at: int, unix_now: int
    ) -> bool:
        """A peer works now, and `through` vouched for it at `met_at`. Returns whether to save that."""
        known = self._peers.get(peer_id)
        merged = [address.with_peer(peer_id) for address in addresses]
        if known is not None:
            merged += known.addresses
            if known.met_at > met_at:
                through, met_at = known.through, known.met_at
        kept = tuple(dict.fromkeys(merged))[: self._config.max_addresses]
        if not kept:
            return False
        self._peers[peer_id] = CachedPeer(peer_id, kept, unix_now, through, met_at)
        self._trim()
        return (
            known is None
            or set(known.addresses) != set(kept)
            or unix_now - known.last_success >= self._config.touch_after
        )

    def to_json(self) -> JsonObject:
        """What is to be remembered, as JSON with its schema number."""
        peers: list[JsonValue] = [
            {
                "peer_id": str(peer.peer_id),
                "addresses": [str(address) for address in peer.addresses],
                "last_success": peer.last_success,
                "through": str(peer.through),
                "met_at": peer.met_at,
            }
            for peer in sorted(self._peers.values(), key=lambda peer: (-peer.last_success, peer.peer_id))
        ]
        return {"schema": SCHEMA, "domain": self.domain, "peers": peers}

    @classmethod
    def from_json(
        cls, value: JsonObject, domain: str, unix_now: int, config: PeerCacheConfig | None = None
    ) -> PeerCache:
        """What `to_json` wrote, here or in one version later; empty when it is of another network.

        Raises `PeerCacheMalformed` when the file as a whole is not of that form. An entry that cannot be
        read, or that lies in the future or too far back, is left out and counted.
        """
        schema, peers = value.get("schema"), value.get("peers")
        if isinstance(schema, bool) or schema not in (SCHEMA, SCHEMA + 1) or not isinstance(peers, list):
            raise PeerCacheMalformed(f"file of remembered peers has schema {schema!r}, not {SCHEMA}")
        if value.get("domain") != domain:
            return cls(domain, config=config)
        config = config or PeerCacheConfig()
        read: list[CachedPeer] = []
        skipped = 0
        for item in peers:
            try:
                peer = _cached_peer(item, config)
            except ParseError:
                skipped += 1
                continue
            if (
                unix_now - config.max_age <= peer.last_success <= unix_now + 86_400
                and peer.met_at <= peer.last_success
            ):
                read.append(peer)
            else:
                skipped += 1
        cache = cls(domain, read, config)
        cache.skipped = skipped
        return cache

    def _trim(self) -> None:
        excess = len(self._peers) - self._config.max_peers
        if excess > 0:
            oldest = sorted(self._peers.values(), key=lambda peer: (peer.last_success, peer.peer_id))[:excess]
            for peer in oldest:
                del self._peers[peer.peer_id]


def _cached_peer(item: JsonValue, config: PeerCacheConfig) -> CachedPeer:
    if not isinstance(item, dict):
        raise ParseError("an entry is an object")
    peer_id = PeerId.parse(_text(item, "peer_id"))
    addresses = item.get("addresses")
    if not isinstance(addresses, list):
        raise ParseError("addresses is a list")
    parsed: list[Multiaddr] = []
    for text in addresses[: config.max_addresses]:
        if not isinstance(text, str):
            raise ParseError("an address is a text")
        parsed.append(Multiaddr.parse(text).with_peer(peer_id))
    if not parsed:
        raise ParseError("no address")
    through = PeerId.parse(_text(item, "through"))
    return CachedPeer(peer_id, tuple(parsed), _time(item, "last_success"), through, _time(item, "met_at"))


def _text(item: JsonObject, member: str) -> str:
    value = item.get(member)
    if not isinstance(value, str):
        raise ParseError(f"{member} is a text")
    return value


def _time(item: JsonObject, member: str) -> int:
    value = item.get(member)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
        raise ParseError(f"{member} is a time")
    return value
