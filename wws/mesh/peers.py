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


@dataclass(slots=True)
class PeerInfo:
    """All we know of one peer."""

    addresses: OrderedDict[Multiaddr, None] = field(default_factory=OrderedDict)
    identification: Identification | None = None


class PeerStore:
    """Peers by PeerId. Those that are not connected are kept in order of last use, so that forgetting the
    longest unused one costs the same however many there are."""

    def __init__(self, config: PeerStoreConfig) -> None:
        self._config = config
        self._connected: dict[PeerId, PeerInfo] = {}
        self._others: OrderedDict[PeerId, PeerInfo] = OrderedDict()

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

    def forget_address(self, peer: PeerId, address: Multiaddr) -> None:
        info = self.find(peer)
        if info is not None:
            info.addresses.pop(address if address.peer_id == peer else address.with_peer(peer), None)

    def identified(self, peer: PeerId, identification: Identification) -> None:
        self._touch(peer).identification = identification

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
        if len(self) > self._config.max_peers and self._others:
            oldest = next(iter(self._others))
            if oldest != newcomer:
                del self._others[oldest]
