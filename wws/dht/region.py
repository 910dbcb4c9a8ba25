"""Who should hold what belongs at a position: the k closest, and everybody within the region's radius.

The radius follows the density of the swarm, told from look-ups for other positions. In an honest
neighbourhood fewer than k peers stand within it, and the k closest are the whole answer. A crowd ground to
stand beside a key (Sybils) fills the k closest places, but stands far closer together than chance puts
honest peers; those behind it, within the radius, are stored at and asked all the same. Puts, gets,
republishing and the closer peers that are named to others all go by this one rule: what one side stores is
where the other looks.

Left out on purpose: measuring how improbable the crowd is. Asking the few more peers of the region costs less
than being wrong about it.
"""

from __future__ import annotations

from wws.dht.lookup import LookupConfig
from wws.dht.positions import KEY_SPACE
from wws.dht.routing import Contact, RoutingTable
from wws.dht.size import SwarmSize
from wws.identity.peer_id import PeerId


class Region:
    """The rule, over what this node knows of the swarm."""

    def __init__(
        self, routing: RoutingTable, size: SwarmSize, lookup: LookupConfig, *, dense_share: float
    ) -> None:
        """`dense_share` is the share of the distance where k are expected that the region takes."""
        self._routing = routing
        self._size = size
        self._k = lookup.k
        self._widest = lookup.widest
        self._dense_share = dense_share

    def radius(self, now: float) -> int:
        """The distance within which everybody holds and is asked; 0 before anything was seen of the swarm."""
        share = self._size.share(now)
        return int(min(1.0, share * self._dense_share) * KEY_SPACE) if share is not None else 0

    def known(self, position: int, now: float) -> list[Contact]:
        """Those of the region that this node knows and that did not fail last, closest first."""
        return self._routing.region(position, self._k, self.radius(now), self._widest, proven=True)

    def named_to(self, asking: PeerId, position: int, now: float) -> list[Contact]:
        """The closer peers of an answer. Where the k closest are a crowd, as many of those behind it too:
        who asks may know nobody else."""
        found = self._closest_but(asking, position, self._k)
        if len(found) < self._k or found[-1].position ^ position > self.radius(now):
            return found
        return self._closest_but(asking, position, self._widest)

    def seeds(self, position: int, now: float) -> list[Contact]:
        """Where a look-up starts. Where the k closest may be a crowd, far more than k, so that it is not all
        that the look-up knows."""
        found = self._routing.closest(position, self._k, proven=True)
        if len(found) < self._k:
            return self._routing.closest(position, self._k)
        radius = self.radius(now)
        if radius and found[-1].position ^ position > radius:
            return found
        return self._routing.closest(position, self._widest, proven=True)

    def _closest_but(self, peer: PeerId, position: int, count: int) -> list[Contact]:
        contacts = self._routing.closest(position, count + 1, proven=True)
        return [contact for contact in contacts if contact.peer != peer][:count]
