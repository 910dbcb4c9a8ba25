"""Makes operations ready to start: with the right question, the right width, and what is known beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from wws.dht.config import KademliaConfig
from wws.dht.getting import GetOperation, Judge
from wws.dht.lookup import Lookup, LookupConfig, PaceOf
from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.dht.operations import FindOperation, FindProvidersOperation
from wws.dht.positions import KEY_SPACE, position_of_key
from wws.dht.region import Region
from wws.dht.size import SwarmSize
from wws.dht.store import ProviderStore, RecordStore
from wws.dht.storing import StoreOperation
from wws.identity.peer_id import PeerId


class Planner:
    """The density of the swarm decides how wide a look-up is, and who is among the closest beyond doubt."""

    def __init__(
        self,
        local: PeerId,
        config: KademliaConfig,
        size: SwarmSize,
        region: Region,
        records: RecordStore,
        providers: ProviderStore,
        pace_of: PaceOf,
        operations: Callable[[], int],
    ) -> None:
        """`operations` says how many are under way."""
        self._local = local
        self._config = config
        self._size = size
        self._region = region
        self._records = records
        self._providers = providers
        self._pace_of = pace_of
        self._operations = operations
        self._narrow = config.narrow_lookup()

    def find(self, op: int | None, key: bytes, sought: PeerId | None, now: float) -> FindOperation:
        """Find the peers closest to where `key` is, and `sought` among them."""
        return FindOperation(op, key, self._lookup(key, now), self._config.operation, sought)

    def explore(self, key: bytes) -> FindOperation:
        """A narrow look-up of our own, to get to know peers where `key` is."""
        lookup = self._new_lookup(key, self._narrow, radius=0)
        return FindOperation(None, key, lookup, self._config.operation, None)

    def get(
        self, op: int, key: bytes, round_trip: float, now: float, unix_now: int, *, widely: bool = True
    ) -> GetOperation:
        """Find the value of `key`. Raises `UnknownNamespace` for one of no kind."""
        kind, text = self._records.kind_of(key)
        judge = Judge(kind, text, self._config.store.max_value_bytes)
        own = self._records.find(key, unix_now)
        lookup = self._lookup(key, now)
        return GetOperation(op, key, lookup, self._config.operation, judge, own, round_trip, widely=widely)

    def put(self, op: int, key: bytes, value: bytes, own: int, now: float) -> StoreOperation:
        """Bring a value to the closest; `own` is 1 where our own store has it."""
        return self._store(op, KadMessage(MessageType.PUT_VALUE, key, KadRecord(key, value)), own, now)

    def provide(self, op: int | None, key: bytes, ourselves: WirePeer, now: float) -> StoreOperation:
        """Tell the closest that we provide `key`."""
        message = KadMessage(MessageType.ADD_PROVIDER, key, provider_peers=(ourselves,))
        return self._store(op, message, 1, now)

    def find_providers(self, op: int, key: bytes, now: float) -> FindProvidersOperation:
        """Find who provides `key`."""
        known = self._providers.find(key, now)
        return FindProvidersOperation(op, key, self._lookup(key, now), self._config.operation, known)

    def _store(self, op: int | None, message: KadMessage, own: int, now: float) -> StoreOperation:
        share = self._size.share(now)
        sure = int(share * self._config.sure_share * KEY_SPACE) if share is not None else -1
        lookup = self._lookup(message.key, now)
        return StoreOperation(op, message.key, lookup, self._config.operation, message, own, sure)

    def _lookup(self, key: bytes, now: float) -> Lookup:
        return self._new_lookup(key, self._config.lookup, radius=self._region.radius(now))

    def _new_lookup(self, key: bytes, config: LookupConfig, *, radius: int) -> Lookup:
        expected = config.k * self._config.dense_share
        # What one remembers is a few megabytes when it is lied to, and there may be hundreds.
        share = self._config.max_candidates // (self._operations() + 1)
        if share < config.max_candidates:
            config = replace(config, max_candidates=max(share, 2 * config.widest))
        return Lookup(
            position_of_key(key), self._local, config, self._pace_of, radius=radius, expected=expected
        )
