"""Keeps the node's own peer record in the DHT, so that its DID and PeerId resolve (wire.md section 4a).

    IDLE ──Start──> STORING ──Stored──> PUBLISHED ──a third of its life, new addresses──> STORING
                       '──StoreFailed──> WAITING ──TimerFired──> STORING
    PUBLISHED ──hourly──> CHECKING ──ours found──> PUBLISHED
                              '──missing, older──> STORING

Nobody can take a peer record away, so nothing has to be confirmed; but holders come and go, and a record of
ours with a higher `seq` (from before the clock was set back) would hide the one we publish now.

A record of ours that another machine signed (see `wws.names.twins`) is reported, and left to stand until our
own is due again: two who outbid each other at every look would never end.
"""

from __future__ import annotations

import enum
from random import Random

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.machine import Command, Event
from wws.names.errors import RecordRefused
from wws.names.events import (
    AddressesChanged,
    IdentityAlone,
    IdentityInUse,
    LookedUp,
    LookUp,
    LookUpFailed,
    MetOurselves,
    RetryScheduled,
    Start,
    Stored,
    StoreFailed,
    StoreRecord,
    TimerFired,
)
from wws.names.peer_record import PeerRecord, peer_key, validate_peer
from wws.names.rules import MAX_ADDRESSES, next_seq
from wws.names.schedule import Backoff, Moved, Upkeep, UpkeepConfig
from wws.names.twins import Twins


class State(enum.Enum):
    """Where the keeper stands."""

    IDLE = "idle"
    STORING = "storing"
    PUBLISHED = "published"
    CHECKING = "checking"
    WAITING = "waiting"


ACCEPTED: dict[type[Event], frozenset[State]] = {
    Start: frozenset(State),
    AddressesChanged: frozenset(State),
    MetOurselves: frozenset(State),
    TimerFired: frozenset(State),
    Stored: frozenset({State.STORING}),
    StoreFailed: frozenset({State.STORING}),
    LookedUp: frozenset({State.CHECKING}),
    LookUpFailed: frozenset({State.CHECKING}),
}
"""In which states an event may come; anywhere else it is a `LocalProtocolError` and nothing changes."""


class PeerRecordKeeper:
    """The machine for one identity's peer record. Keeps no state over a restart: `seq` follows the clock."""

    def __init__(
        self,
        identity: Identity,
        *,
        rng: Random,
        config: UpkeepConfig | None = None,
        addresses: tuple[Multiaddr, ...] = (),
        twins: Twins | None = None,
    ) -> None:
        self.key = peer_key(identity.peer_id.did)
        self.state = State.IDLE
        self._identity = identity
        self._config = config or UpkeepConfig()
        self._upkeep = Upkeep(self._config, rng)
        self._backoff = Backoff(self._config, rng)
        self.twins = twins or Twins()
        """Whether another machine uses this identity."""
        self._addresses = self._own(addresses)
        self.twins.announced(self._addresses)
        self._record: PeerRecord | None = None
        self._seq = 0
        self._wakeup: float | None = None

    @property
    def record(self) -> PeerRecord | None:
        """The record signed last, stored or not."""
        return self._record

    def next_wakeup(self) -> float | None:
        """The monotonic time for the next `TimerFired`; `None` while an answer is awaited."""
        return self._wakeup

    def handle(self, event: Event, now: float, unix_now: int) -> list[Command]:
        """What to do about `event`. Where it cannot come: `LocalProtocolError`, and nothing changes."""
        if self.state not in ACCEPTED.get(type(event), frozenset()):
            raise LocalProtocolError(f"{type(event).__name__} for the peer record while {self.state.name}")
        match event:
            case MetOurselves(addresses=addresses):
                return [IdentityInUse(addresses)] if self.twins.seen(now) else []
            case Start():
                self.twins.started(now)
                return self._publish(now, unix_now) if self.state is State.IDLE else []
            case AddressesChanged(addresses=addresses):
                return self._move(addresses, now, unix_now)
            case Stored():
                self._backoff.reset()
                return self._rest(now, unix_now)
            case StoreFailed(reason=reason):
                return self._wait(reason or "too few holders stored the peer record", now)
            case LookedUp(value=value):
                return self._compare(value, now, unix_now)
            case LookUpFailed():
                return self._rest(now, unix_now)
            case _:
                return self._timer_fired(now, unix_now)

    def _publish(self, now: float, unix_now: int) -> list[Command]:
        self._seq = next_seq(self._seq, unix_now)
        record = PeerRecord.sign(
            self._identity,
            addresses=self._addresses,
            seq=self._seq,
            issued_at=unix_now,
            expires_at=unix_now + self._config.lifetime,
        )
        self._upkeep.signed(unix_now, record.expires_at, now)
        self._record = record
        self.twins.signed(record)
        return self._store(record)

    def _store(self, record: PeerRecord) -> list[Command]:
        self._wakeup = None
        self.state = State.STORING
        return [StoreRecord(self.key, record.value)]

    def _compare(self, value: bytes | None, now: float, unix_now: int) -> list[Command]:
        ours = self._record
        assert ours is not None, "CHECKING is entered with a record"
        found = self._read(value, unix_now)
        reports: list[Command] = []
        if found is not None and self.twins.is_foreign(found, now, unix_now):
            if self.twins.seen(now):
                reports.append(IdentityInUse(found.addresses))
        elif self.twins.has_gone(now):
            reports.append(IdentityAlone())
        return reports + self._follow(ours, found, now, unix_now)

    def _follow(self, ours: PeerRecord, found: PeerRecord | None, now: float, unix_now: int) -> list[Command]:
        """What to do about the record that won; our own is at most as good."""
        if found is not None and found.value == ours.value:
            return self._rest(now, unix_now)
        if found is not None:
            self._seq = max(self._seq, found.seq)
            is_due = self._upkeep.is_due(now, unix_now, moved=self._has_moved())
            if found.rank < ours.rank and not is_due and self.twins.is_foreign(found, now, unix_now):
                return self._rest(now, unix_now)
        is_hidden = found is not None and found.rank < ours.rank
        if is_hidden or self._upkeep.is_due(now, unix_now, moved=self._has_moved()):
            return self._publish(now, unix_now)
        return self._store(ours)

    def _rest(self, now: float, unix_now: int) -> list[Command]:
        self._upkeep.checked(now, again_after=self._config.check_interval)
        self.state = State.PUBLISHED
        self._wakeup = self._upkeep.wakeup(now, unix_now, moved=self._has_moved())
        return []

    def _wait(self, reason: str, now: float) -> list[Command]:
        delay = self._backoff.next_delay()
        self._wakeup = now + delay
        self.state = State.WAITING
        return [RetryScheduled(reason, delay)]

    def _timer_fired(self, now: float, unix_now: int) -> list[Command]:
        record = self._record
        if record is None or self._wakeup is None:
            return []
        if self.state is State.WAITING and now < self._wakeup:
            return []
        moved = self._has_moved()
        if self._upkeep.is_due(now, unix_now, moved=moved) or (
            moved is not Moved.NOT and self.state is State.WAITING
        ):
            return self._publish(now, unix_now)
        if self.state is State.WAITING:
            return self._store(record)
        if self._upkeep.is_check_due(now):
            self._wakeup = None
            self.state = State.CHECKING
            return [LookUp(self.key)]
        self._wakeup = self._upkeep.wakeup(now, unix_now, moved=moved)
        return []

    def _move(self, addresses: tuple[Multiaddr, ...], now: float, unix_now: int) -> list[Command]:
        self._addresses = self._own(addresses)
        self.twins.announced(self._addresses)
        if self.state is State.PUBLISHED:
            self._wakeup = self._upkeep.wakeup(now, unix_now, moved=self._has_moved())
        return []

    def _has_moved(self) -> Moved:
        return Moved.NOT if self._record is None else Moved.since(self._record.addresses, self._addresses)

    def _read(self, value: bytes | None, unix_now: int) -> PeerRecord | None:
        if value is None:
            return None
        try:
            return validate_peer(self.key, value, unix_now)
        except RecordRefused:
            return None

    def _own(self, addresses: tuple[Multiaddr, ...]) -> tuple[Multiaddr, ...]:
        ours = dict.fromkeys(address.with_peer(self._identity.peer_id) for address in addresses)
        return tuple(ours)[:MAX_ADDRESSES]
