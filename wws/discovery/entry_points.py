"""Whom a network may be entered through, and in which order they are tried (wire.md 3, "Entry points").

    network with publishers   typed and pinned peers, peers of the bundle, cached peers met through these
                              hints only add addresses for those ids: an id that only a hint names is counted,
                              never dialled (fail closed)
    network without           hints are entry points too
    last resort               peers of the last good bundle, past its time
    lan                       mDNS peers: further ones once an entry point is connected, alone as `lan_only`

Everything is decided when asked, from what is known then: a hint that comes before the bundle which vouches
for its id is neither lost nor trusted early.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from wws.addresses.dial_order import in_dial_order
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.addresses.scope import AddressRefused, Scope, prefix_of, scope_of
from wws.discovery.bundle import Bundle
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import Network
from wws.discovery.peer_cache import PeerCache
from wws.identity.peer_id import PeerId


class Source(enum.StrEnum):
    """How a peer is known, as `wws join` says it."""

    BOOTSTRAP = "bootstrap"
    """Typed with `--bootstrap`."""
    PINNED = "pinned"
    """In the network file."""
    CACHE = "cache"
    BUNDLE = "bundle"
    DNS = "dns"
    """A hint, in a network without publishers."""
    EXPIRED_BUNDLE = "expired_bundle"
    MDNS = "mdns"


@dataclass(frozen=True, slots=True)
class EntryPointConfig:
    """The bounds of what is remembered and tried."""

    transports: frozenset[Transport] = frozenset({"tcp"})
    """The transports that this node can dial."""
    max_addresses: int = 8
    """Most addresses of a peer that are tried."""
    max_candidates: int = 48
    """Most peers that are tried in a round."""
    max_hints: int = 128
    """Most hint addresses that are remembered."""
    max_lan_peers: int = 64
    """Most mDNS peers that are remembered."""
    max_lan_addresses: int = 8
    """Most addresses of an mDNS peer that are remembered."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer to try, at these addresses in this order."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]
    source: Source


class EntryPoints:
    """What is known of the ways into one network."""

    def __init__(
        self,
        local: PeerId,
        network: Network,
        cache: PeerCache,
        *,
        typed: Iterable[Multiaddr] = (),
        bundles: BundleState | None = None,
        config: EntryPointConfig | None = None,
    ) -> None:
        self._local = local
        self._network = network
        self._cache = cache
        self._bundles = bundles
        self._config = config or EntryPointConfig()
        self._typed = _by_peer(typed)
        self._pinned = _by_peer(network.peers)
        self._hints: dict[Multiaddr, PeerId] = {}
        self._lan: dict[PeerId, tuple[Multiaddr, ...]] = {}
        self.mesh_scope: Scope | None = None
        """The scope of the mesh, once the driver knows it: hints below it are not dialled."""

    @property
    def is_signed(self) -> bool:
        """Whether publishers decide who the entry points are."""
        return bool(self._network.publishers)

    def add_hints(self, addresses: Iterable[Multiaddr]) -> None:
        """Remember what DNS hinted at; the oldest hints make room."""
        for address in addresses:
            if address.peer_id is not None:
                self._hints.pop(address, None)
                self._hints[address] = address.peer_id
        while len(self._hints) > self._config.max_hints:
            del self._hints[next(iter(self._hints))]

    def add_lan(self, peer_id: PeerId, addresses: Sequence[Multiaddr]) -> bool:
        """Remember a peer that mDNS found. Returns whether anything of it is new and can be dialled."""
        known = self._lan.pop(peer_id, ())
        if peer_id == self._local:
            return False
        merged = tuple(dict.fromkeys((*self._dialable(a.with_peer(peer_id) for a in addresses), *known)))
        if not merged:
            return False
        self._lan[peer_id] = merged[: self._config.max_lan_addresses]
        while len(self._lan) > self._config.max_lan_peers:
            del self._lan[next(iter(self._lan))]
        return set(self._lan[peer_id]) != set(known)

    def source_of(self, peer_id: PeerId, unix_now: int) -> Source | None:
        """By what right a peer is an entry point now; `None` when it is none.

        `EXPIRED_BUNDLE` is the last resort: whether it counts is for the caller to say.
        """
        if peer_id in self._typed:
            return Source.BOOTSTRAP
        if peer_id in self._pinned:
            return Source.PINNED
        if self._is_cached(peer_id, unix_now):
            return Source.CACHE
        bundle, expired = self._bundle(unix_now)
        if bundle is not None and peer_id in bundle.peers:
            return Source.BUNDLE
        if not self.is_signed and not self._network.is_ad_hoc and peer_id in self._hints.values():
            return Source.DNS
        if expired is not None and peer_id in expired.peers:
            return Source.EXPIRED_BUNDLE
        return None

    def is_root(self, peer_id: PeerId, unix_now: int) -> bool:
        """Whether peers met through this one may be trusted later: it is an entry point of its own right."""
        source = self.source_of(peer_id, unix_now)
        if source is Source.CACHE:  # cached, and perhaps more than that
            bundle, expired = self._bundle(unix_now)
            vouched = (bundle.peers if bundle else frozenset()) | (expired.peers if expired else frozenset())
            return peer_id in vouched or (not self.is_signed and peer_id in self._hints.values())
        return source is not None

    def candidates(self, unix_now: int) -> list[Candidate]:
        """Whom to try now, best first and diverse. An id that only a hint names is not among them."""
        bundle, _ = self._bundle(unix_now)
        cached = [
            peer.peer_id for peer in self._cache.fresh(unix_now) if self._is_cached(peer.peer_id, unix_now)
        ]
        sourced: dict[PeerId, Source] = {}
        groups: list[list[PeerId]] = [
            list(self._typed),
            list(self._pinned),
            cached,
            [] if bundle is None else list(dict.fromkeys(entry.peer_id for entry in bundle.entries)),
            [] if self.is_signed or self._network.is_ad_hoc else list(self._hints.values()),
        ]
        for source, group in zip(_ORDER, groups, strict=True):
            for peer_id in group:
                if peer_id != self._local:
                    sourced.setdefault(peer_id, source)
        by_source = [
            [self._candidate(p, s, unix_now) for p, s in sourced.items() if s is source] for source in _ORDER
        ]
        certain = [c for c in (*by_source[0], *by_source[1]) if c.addresses]
        others = _round_robin([_diverse([c for c in group if c.addresses]) for group in by_source[2:]])
        return (certain + others)[: self._config.max_candidates]

    def last_resort(self, unix_now: int) -> list[Candidate]:
        """The peers of the last good bundle when its time has passed and none is in force."""
        bundle, expired = self._bundle(unix_now)
        if bundle is not None or expired is None:
            return []
        peers = dict.fromkeys(entry.peer_id for entry in expired.entries)
        found = [
            self._candidate(peer, Source.EXPIRED_BUNDLE, unix_now) for peer in peers if peer != self._local
        ]
        return _diverse([candidate for candidate in found if candidate.addresses])

    def lan(self, unix_now: int) -> list[Candidate]:
        """The mDNS peers that are no entry points, those heard last first."""
        return [
            Candidate(peer, in_dial_order(addresses)[: self._config.max_addresses], Source.MDNS)
            for peer, addresses in reversed(self._lan.items())
            if self.source_of(peer, unix_now) in (None, Source.EXPIRED_BUNDLE)
        ]

    def addresses_of(self, peer_id: PeerId, unix_now: int) -> tuple[Multiaddr, ...]:
        """Where an entry point is, as far as is known; of any other peer nothing is."""
        source = self.source_of(peer_id, unix_now)
        return () if source is None else self._candidate(peer_id, source, unix_now).addresses

    def lan_addresses(self, peer_id: PeerId) -> tuple[Multiaddr, ...]:
        """Where mDNS found a peer."""
        return in_dial_order(self._lan.get(peer_id, ()))

    def local_is_one(self, unix_now: int) -> bool:
        """Whether this node is an entry point itself."""
        return self.source_of(self._local, unix_now) is not None

    def ignored_hints(self, unix_now: int) -> int:
        """How many ids only a hint names: counted, never dialled."""
        hinted = set(self._hints.values()) - {self._local}
        return sum(self.source_of(peer, unix_now) is None for peer in hinted)

    def _bundle(self, unix_now: int) -> tuple[Bundle | None, Bundle | None]:
        """The bundle in force, and the last good one when its time has passed."""
        if self._bundles is None or not self.is_signed:
            return None, None
        bundle = self._bundles.in_force(unix_now)
        return bundle, None if bundle is not None else self._bundles.last

    def _is_cached(self, peer_id: PeerId, unix_now: int) -> bool:
        cached = self._cache.find(peer_id)
        if cached is None or not self._cache.is_fresh(cached, unix_now):
            return False
        if not self.is_signed and not self._network.is_ad_hoc:
            return True
        last = self._bundles.last if self._bundles is not None else None
        return (
            cached.through in self._typed
            or cached.through in self._pinned
            or (last is not None and cached.through in last.peers)
        )

    def _candidate(self, peer_id: PeerId, source: Source, unix_now: int) -> Candidate:
        bundle, expired = self._bundle(unix_now)
        known = bundle or expired
        cached = self._cache.find(peer_id)
        trusted = (
            *self._typed.get(peer_id, ()),
            *self._pinned.get(peer_id, ()),
            *(known.addresses_of(peer_id) if known is not None else ()),
            *(cached.addresses if cached is not None and self._is_cached(peer_id, unix_now) else ()),
        )
        floor = self.mesh_scope
        hinted = [
            address for address, peer in self._hints.items() if peer == peer_id and _reaches(address, floor)
        ]
        addresses = dict.fromkeys(
            chain(self._dialable(trusted), self._dialable((*self._lan.get(peer_id, ()), *hinted)))
        )
        return Candidate(peer_id, in_dial_order(tuple(addresses))[: self._config.max_addresses], source)

    def _dialable(self, addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
        return [
            address
            for address in addresses
            if not address.is_circuit
            and (address.transport in self._config.transports or address.host_kind == "dnsaddr")
            and address.port != 0
            and _reaches(address, None)
        ]


_ORDER = (Source.BOOTSTRAP, Source.PINNED, Source.CACHE, Source.BUNDLE, Source.DNS)


def _by_peer(addresses: Iterable[Multiaddr]) -> dict[PeerId, tuple[Multiaddr, ...]]:
    found: dict[PeerId, tuple[Multiaddr, ...]] = {}
    for address in addresses:
        if address.peer_id is not None:
            found[address.peer_id] = (*found.get(address.peer_id, ()), address)
    return found


def _reaches(address: Multiaddr, floor: Scope | None) -> bool:
    try:
        scope = scope_of(address)
    except AddressRefused:
        return False
    return scope is None or floor is None or scope >= floor


def _diverse(candidates: list[Candidate]) -> list[Candidate]:
    """The same candidates, so ordered that neighbours lie in different prefixes as far as possible."""
    prefixes: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        first = candidate.addresses[0]
        prefixes.setdefault(prefix_of(first.host) if first.is_ip else first.host, []).append(candidate)
    return _round_robin(list(prefixes.values()))


def _round_robin(groups: list[list[Candidate]]) -> list[Candidate]:
    return [candidate for row in zip_longest(*groups) for candidate in row if candidate is not None]
