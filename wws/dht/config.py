"""All bounds and times of the Kademlia machine in one record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wws.dht.lookup import LookupConfig
from wws.dht.operations import OperationConfig
from wws.dht.routing import RoutingConfig
from wws.dht.size import SizeConfig
from wws.dht.store import StoreConfig
from wws.dht.upkeep import UpkeepConfig


@dataclass(frozen=True, slots=True)
class KademliaConfig:
    lookup: LookupConfig = field(default_factory=LookupConfig)
    operation: OperationConfig = field(default_factory=OperationConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    size: SizeConfig = field(default_factory=SizeConfig)
    upkeep: UpkeepConfig = field(default_factory=UpkeepConfig)
    query_timeout: float = 10.0
    """Seconds for one query, dialling included."""
    max_operations: int = 256
    """Operations of callers at once; one more is refused with `TooManyOperations`."""
    max_candidates: int = 16_384
    """Peers remembered in all look-ups together, about; each has room for twice those whom it may ask."""
    max_provided: int = 1_024
    """Keys that this node announces."""
    strangers: int = 3
    """Unknown peers among our closest k, named by one answer, that make us look for ourselves among them."""
    long_away: float = 60.0
    """Seconds without a connection or a word after which a peer that comes back is a newcomer."""
    bucket_lookup_k: int = 8
    """Peers that a look-up into a thin bucket is after."""
    silent_for: float = 120.0
    """Seconds for which a peer that was looked for in vain gets no patience in look-ups, unless it is said
    to be elsewhere. Others name who has gone until they notice, and in a small network too few answer to go
    on without."""
    max_silent: int = 1_024
    """Such peers remembered; the oldest are forgotten first."""
    first_round_trip: float = 0.2
    """Assumed seconds for a round trip before one was measured."""
    slow_round_trips: float = 2.0
    """Round trips after which a peer gives its place among the concurrent queries away."""
    late_round_trips: float = 3.0
    """Round trips after which a connected peer counts as late."""
    late_dial_round_trips: float = 8.0
    """Round trips after which a peer that must be dialled (about four) counts as late."""
    least_late: float = 0.25
    """Seconds before which nobody counts as late. Half of it for slow."""
    sure_share: float = 0.5
    """Peers within this share of the distance where k are expected are among the closest beyond doubt."""
    dense_share: float = 0.6
    """Within this share of that distance all peers are asked, also when they are more than k."""

    def narrow_lookup(self) -> LookupConfig:
        """The look-up for learning peers in a region, not for finding all who hold something."""
        k = self.bucket_lookup_k
        return replace(self.lookup, k=k, paths=1, widest=k, enough=min(self.lookup.enough, k))
