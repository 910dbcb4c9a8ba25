"""Who is meant by a name, a DID or a PeerId: the look-up, what is remembered of it, and what judges it.

    resolve ─► remembered? ──yes──────────────► judge (clock, deny list, witnesses, pins, proofs) ─► answer
                  no └─► one look-up in the DHT, however many ask ─► remember ─┘

What is remembered are the bytes that the DHT showed, for a minute at most. They are judged anew at each use,
so a pin that moved, a name that was denied or a lease that ended meanwhile decides at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from wws.dht.events import GetDone
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.mesh.rates import Rates
from wws.names.cache import CacheConfig, ResolutionCache
from wws.names.equivocation import Equivocation
from wws.names.errors import RecordRefused
from wws.names.kinds import NameRecords, PeerRecords, WitnessSets
from wws.names.pins import Pins
from wws.names.record import name_key
from wws.names.resolve import (
    LookUpUnanswered,
    NameDenied,
    NameNotFound,
    OwnerChanged,
    Resolved,
    resolve_name,
    resolve_peer,
    target_key,
)
from wws.names.state import StateUnreadable
from wws.names.uri import DidTarget, NameTarget, PeerTarget
from wws.runtime.dht_driver import DhtDriver
from wws.runtime.host import Host
from wws.runtime.logs import logger
from wws.runtime.pin_store import PinStore
from wws.runtime.state_files import StateFile


@dataclass(frozen=True, slots=True)
class ResolutionConfig:
    """How names are resolved."""

    cache: CacheConfig = field(default_factory=CacheConfig)
    enough_answers: int = 3
    """Peers that must have answered before "there is none" is remembered; fewer where fewer are connected."""
    max_refreshes: int = 8
    """Look-ups at once that nobody waits for."""
    save_interval: float = 10.0
    """Seconds between two writes of the proofs, at least."""
    saves_at_once: float = 6.0
    """Writes of the proofs in a row. All of them together are two megabytes, and a key costs nothing."""
    saves_per_second: float = 1 / 600
    """Writes that there may be after those: who floods us with proofs wears out no disk."""
    lines_at_once: float = 20.0
    """Proofs told in the log in a row."""
    lines_per_second: float = 1 / 60
    """Proofs told in the log after those; all are shown by `swarm.equivocations`."""


class PinsFull(WwsError):
    """This home remembers as many names as it may."""

    code = "pins_full"
    hint = "Stop its nodes, and take names that nobody needs any more out of known_names.json."


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look-up brought."""

    value: bytes | None
    is_answered: bool
    """Whether anybody answered at all."""


class NameResolver:
    """Resolves targets for one node. `is_denied` takes a DHT key of a name, `is_peer_denied` a PeerId."""

    def __init__(
        self,
        host: Host,
        dht: DhtDriver,
        *,
        names: NameRecords,
        peers: PeerRecords,
        pins: PinStore,
        domain: str,
        proofs: StateFile,
        is_denied: Callable[[str], bool] = lambda key: False,
        is_peer_denied: Callable[[PeerId], bool] = lambda peer: False,
        config: ResolutionConfig | None = None,
    ) -> None:
        self._host = host
        self._dht = dht
        self._names = names
        self._peers = peers
        self._pins = pins
        self._domain = domain
        self._is_denied = is_denied
        self._is_peer_denied = is_peer_denied
        self._config = config or ResolutionConfig()
        self._cache = ResolutionCache(self._config.cache)
        self._under_way: dict[str, asyncio.Future[_Found]] = {}
        self._refreshing: set[str] = set()
        self._proofs = ProofKeeper(host, names, proofs, self._config)

    async def resolve(
        self, target: NameTarget | DidTarget | PeerTarget, *, only_pinned: bool = False, fresh: bool = False
    ) -> Resolved:
        """Who a target is and where. With `fresh` nothing remembered is used.

        Raises `ResolveError` and what the DHT raises. A caller that is cancelled leaves the look-up to the
        others who wait for it; without any it still ends by itself, and is remembered.
        """
        key = target_key(target)
        # Before anybody is asked: that we look for it is nobody's business.
        if self._denies(target, key):
            raise NameDenied(target)
        found = await self._value(key, fresh=fresh)
        if found.value is None and not found.is_answered and self._host.table.peer_count:
            raise LookUpUnanswered(target)
        try:
            resolved = self._judge(target, found.value, only_pinned)
        except OwnerChanged:
            # Remembered or not, the next one who asks (after `trust`, say) shall see what is true then.
            self._cache.forget(key)
            raise
        if self._is_peer_denied(resolved.peer_id):
            raise NameDenied(target)
        return resolved

    def forget(self, target: NameTarget | DidTarget | PeerTarget) -> None:
        """What is remembered of a target is not true any more: its addresses were dialled in vain, or we
        have claimed, renewed, released or transferred it. A look-up under way says nothing new either."""
        key = target_key(target)
        self._cache.forget(key)
        self._under_way.pop(key, None)

    def forget_all(self) -> None:
        """Another network, or long without one: nothing that is remembered is worth anything."""
        self._cache.clear()
        self._under_way.clear()

    async def trust(self, target: NameTarget, owner: PeerId | None) -> tuple[PeerId, PeerId | None]:
        """Pin a name to `owner`, or to whoever holds it now; that owner, and the one it was pinned to before.

        Raises `NameNotFound`, `LookUpUnanswered` where nobody can be seen to hold it, `PinsFull`.
        """
        if owner is None:
            owner = await self.holder(target)
        unix_now = self._host.clock.unix()

        def pin(pins: Pins) -> PeerId | None:
            before = pins.find(self._domain, target.swarm, target.name)
            if not pins.trust(self._domain, target.swarm, target.name, owner, unix_now):
                raise PinsFull("this home remembers as many names as it may")
            return None if before is None else before.owner

        before = self._pins.use(pin)
        self.forget(target)
        return owner, before

    async def holder(self, target: NameTarget) -> PeerId:
        """Whose a name is now, whatever the pins say: a fresh look-up. Raises as `resolve` does."""
        key = target_key(target)
        if self._denies(target, key):
            raise NameDenied(target)
        found = await self._value(key, fresh=True)
        if found.value is None and not found.is_answered:
            raise LookUpUnanswered(target)
        unix_now = self._host.clock.unix()
        try:
            record = self._names.read(key, found.value, unix_now) if found.value is not None else None
        except RecordRefused:
            record = None
        if record is None or record.is_dead(unix_now) or record.released:
            raise NameNotFound(target)
        return record.peer_id

    def equivocations(self) -> list[Equivocation]:
        """The proofs against owners who signed two records under one number, oldest first."""
        return self._names.equivocations.all()

    async def close(self) -> None:
        """Save what is not saved yet."""
        self._under_way.clear()
        await self._proofs.close()

    # Inside

    def _denies(self, target: NameTarget | DidTarget | PeerTarget, key: str) -> bool:
        match target:
            case NameTarget(name=name, swarm=swarm):
                return self._is_denied(name_key(name, swarm))
            case PeerTarget(peer_id=peer):
                return self._is_peer_denied(peer)
            case _:
                return self._is_denied(key)

    def _judge(
        self, target: NameTarget | DidTarget | PeerTarget, value: bytes | None, only_pinned: bool
    ) -> Resolved:
        unix_now = self._host.clock.unix()
        if isinstance(target, NameTarget):
            return self._pins.use(
                lambda pins: resolve_name(
                    target,
                    value,
                    unix_now,
                    kind=self._names,
                    pins=pins,
                    domain=self._domain,
                    only_pinned=only_pinned,
                )
            )
        return resolve_peer(target, value, unix_now, kind=self._peers)

    async def _value(self, key: str, *, fresh: bool) -> _Found:
        now, unix_now = self._host.clock.monotonic(), self._host.clock.unix()
        if not fresh:
            cached = self._cache.find(key, self._names.witness_sets, now, unix_now)
            if cached is not None and not self._is_outdated(key, cached.value, unix_now):
                if cached.is_ageing:
                    self._refresh(key)
                return _Found(cached.value, True)
        return await asyncio.shield(self._look_up(key, fresh=fresh))

    def _is_outdated(self, key: str, value: bytes | None, unix_now: int) -> bool:
        """Whether this node holds a better record itself: as a holder it hears of changes by themselves."""
        own = self._dht.machine.records.find(key.encode(), unix_now)
        if own is None or own == value:
            return False
        if value is None:
            return True
        kind = self._names if key.startswith(self._names.prefix) else self._peers
        return kind.select(key, [value, own], unix_now) == 1

    def _look_up(self, key: str, *, fresh: bool = False) -> asyncio.Future[_Found]:
        outcome = self._under_way.get(key)
        if outcome is None or fresh:
            outcome = asyncio.get_running_loop().create_future()
            self._under_way[key] = outcome
            # Whoever waits for it gets what went wrong; where nobody does any more, it is nobody's business.
            outcome.add_done_callback(_passed_over)
            self._host.spawn(self._ask(key, outcome), "resolve")
        return outcome

    async def _ask(self, key: str, outcome: asyncio.Future[_Found]) -> None:
        judges = self._names.witness_sets
        try:
            done = await self._dht.get(key)
        except WwsError as error:
            outcome.set_exception(error)
        else:
            # Forgotten meanwhile, it was begun before what made it untrue: who waits gets it, nobody later.
            if self._under_way.get(key) is outcome:
                self._remember(key, done, judges)
            outcome.set_result(_Found(done.value, bool(done.asked)))
        finally:
            if self._under_way.get(key) is outcome:
                del self._under_way[key]
            outcome.cancel()  # where the host ends meanwhile; else it has its result

    def _remember(self, key: str, done: GetDone, judges: WitnessSets) -> None:
        """Keep what the look-up brought, stamped with the witnesses at its beginning."""
        now, unix_now = self._host.clock.monotonic(), self._host.clock.unix()
        good_until = self._good_until(key, done.value, unix_now)
        enough = min(self._config.enough_answers, max(1, self._host.table.peer_count))
        if done.value is not None and good_until is not None:
            self._cache.found(key, done.value, judges, now, unix_now, good_until=good_until)
        elif done.value is None and done.asked >= enough:
            self._cache.missing(key, judges, now, unix_now)
        else:
            # Released, stale, or seen by too few: the next one who asks looks for himself.
            self._cache.forget(key)

    def _good_until(self, key: str, value: bytes | None, unix_now: int) -> int | None:
        """When the life of a record that may be remembered ends."""
        if value is None:
            return None
        try:
            if key.startswith(self._names.prefix):
                record = self._names.read(key, value, unix_now)
                return record.expires_at if record.is_live(unix_now) and not record.released else None
            return self._peers.read(key, value, unix_now).expires_at
        except RecordRefused:
            return None

    def _refresh(self, key: str) -> None:
        if key not in self._under_way and len(self._refreshing) < self._config.max_refreshes:
            self._refreshing.add(key)
            self._look_up(key).add_done_callback(lambda _: self._refreshing.discard(key))


class ProofKeeper:
    """Keeps `equivocations.json`, and says once of each proof that it was found."""

    def __init__(self, host: Host, names: NameRecords, file: StateFile, config: ResolutionConfig) -> None:
        self._host = host
        self._proofs = names.equivocations
        self._file = file
        self._save_interval = config.save_interval
        self._saves = Rates(config.saves_per_second, config.saves_at_once, 1)
        self._lines = Rates(config.lines_per_second, config.lines_at_once, 1)
        self._saving: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._load()
        self._saved = self._proofs.revision
        self._proofs.on_found = self._found

    async def close(self) -> None:
        """Nothing more is watched; what is not on the disk yet is written."""
        self._proofs.on_found = None
        self._closing.set()
        if self._saving is not None:
            await self._saving
        await self._save()

    def _load(self) -> None:
        value = self._file.read()
        if value is None:
            return
        try:
            skipped = self._proofs.load(value)
        except StateUnreadable as error:
            logger("names").warning("equivocations unreadable", error=str(error))
            return
        if skipped:
            logger("names").warning("equivocations that prove nothing were left out", count=skipped)

    def _found(self, proof: Equivocation) -> None:
        if self._lines.take(None, self._host.clock.monotonic()):
            logger("names").warning(
                "equivocation", name=proof.name, swarm=proof.swarm, owner=str(proof.peer_id), seq=proof.seq
            )
        if self._saving is None or self._saving.done():
            self._saving = self._host.spawn(self._save_soon(), "save equivocations")

    async def _save_soon(self) -> None:
        while self._saved != self._proofs.revision and not self._closing.is_set():
            if self._saves.take(None, self._host.clock.monotonic()):
                await self._save()
            try:
                async with asyncio.timeout(self._save_interval):
                    await self._closing.wait()
            except TimeoutError:
                continue

    async def _save(self) -> None:
        revision = self._proofs.revision
        if revision == self._saved:
            return
        members = self._proofs.to_json()
        try:
            await asyncio.to_thread(self._file.write, members)
        except WwsError as error:
            logger("names").warning("equivocations not saved", error=str(error))
        else:
            self._saved = revision


def _passed_over(outcome: asyncio.Future[_Found]) -> None:
    if not outcome.cancelled():
        outcome.exception()
