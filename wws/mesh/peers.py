"""What is known of other peers: addresses and what they said in identify. Bounded; connected peers stay."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.mesh.identify import Identification


@dataclass(frozen=True, slots=True)
class PeerStoreConfig:
    max_peers: int = 4096
    """Peers remembered; over it the longest unused that is not connected is forgotten."""
    max_addresses: int = 16
    """Addresses remembered of one peer, those learnt last first."""
    max_bytes: int = 32 * 1024 * 1024
    """Bytes of all addresses remembered, about: names may be long. Over it peers are forgotten as above."""


_ADDRESS = 300
"""Bytes of an address beside its host, about."""


@dataclass(slots=True)
class PeerInfo:
    """All we know of one peer."""

    addresses: OrderedDict[Multiaddr, None] = field(default_factory=OrderedDict)
    identification: Identification | None = None
    cost: int = 0
    """Bytes that the addresses take, about."""


class PeerStore:
    """Peers by PeerId. Those that are not connected are kept in order of last use, so that forgetting the
    longest unused one costs the same however many there are."""

    def __init__(self, config: PeerStoreConfig) -> None:
        self._config = config
        self._connected: dict[PeerId, PeerInfo] = {}
        self._others: OrderedDict[PeerId, PeerInfo] = OrderedDict()
        self.bytes_held = 0
        """Bytes that all addresses take, about."""

    def __len__(self) -> int:
        return len(self._connected) + len(self._others)

    def find(self, peer: PeerId) -> PeerInfo | None:
        return self._connected.get(peer) or self._others.get(peer)

    def addresses(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """The addresses known, those learnt last first."""
        info = self.find(peer)
        return tuple(reversed(info.addresses)) if info else ()

    def learn(self, peer: PeerId, addresses: tuple[Multiaddr, ...]) -> None:
        """Remember addresses of a peer, first one best."""
        info = self._touch(peer)
        for address in reversed(addresses[: self._config.max_addresses]):
            full = address if address.peer_id == peer else address.with_peer(peer)
            info.addresses.pop(full, None)
            info.addresses[full] = None
        while len(info.addresses) > self._config.max_addresses:
            info.addresses.popitem(last=False)
        self._weigh(info)
        while self.bytes_held > self._config.max_bytes and self._evict_oldest(peer):
            pass

    def forget_address(self, peer: PeerId, address: Multiaddr) -> None:
        info = self.find(peer)
        if info is not None:
            info.addresses.pop(address if address.peer_id == peer else address.with_peer(peer), None)
            self._weigh(info)

    def identified(self, peer: PeerId, identification: Identification) -> None:
        """What a connected peer says of itself; of another nothing is kept but addresses."""
        if (info := self._connected.get(peer)) is not None:
            info.identification = identification

    def set_connected(self, peer: PeerId, connected: bool) -> None:
        if connected:
            if peer not in self._connected:
                self._connected[peer] = self._others.pop(peer, PeerInfo())
                self._evict(peer)
        elif (info := self._connected.pop(peer, None)) is not None:
            info.identification = None  # the largest part, and out of date by the next time
            self._others[peer] = info

    def _touch(self, peer: PeerId) -> PeerInfo:
        info = self._connected.get(peer)
        if info is not None:
            return info
        info = self._others.get(peer)
        if info is None:
            info = self._others[peer] = PeerInfo()
            self._evict(peer)
        else:
            self._others.move_to_end(peer)
        return info

    def _evict(self, newcomer: PeerId) -> None:
        if len(self) > self._config.max_peers:
            self._evict_oldest(newcomer)

    def _evict_oldest(self, newcomer: PeerId) -> bool:
        """Forget the peer that is not connected and was unused for longest, unless it is the new one."""
        oldest = next(iter(self._others), newcomer)
        if oldest == newcomer:
            return False
        self.bytes_held -= self._others.pop(oldest).cost
        return True

    def _weigh(self, info: PeerInfo) -> None:
        cost = sum(_ADDRESS + len(address.host) for address in info.addresses)
        self.bytes_held += cost - info.cost
        info.cost = cost
