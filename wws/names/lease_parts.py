"""What all parts of a lease share: what it knows, and the few things it does with that.

Here records are signed. Whatever leads to it, three things hold: the sequence number is above that of every
record signed before, and is saved before the record leaves; a record with receipts ends no later than its
cover; and one that is not covered carries no receipts.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.machine import Command
from wws.names.cover import Cover, fitting
from wws.names.covering import Covering
from wws.names.errors import RecordRefused
from wws.names.events import (
    Accept,
    Claim,
    LookUp,
    NameHeld,
    Release,
    RetryScheduled,
    SaveState,
    StoreRecord,
)
from wws.names.kinds import NameRecords, Witnesses, WitnessSets
from wws.names.lease_state import LeaseState
from wws.names.lease_table import State
from wws.names.receipts import Receipt
from wws.names.record import NameRecord, name_key, work_context
from wws.names.rules import MAX_ADDRESSES, MAX_LEASE, next_seq
from wws.names.schedule import Backoff, CoverConfig, Moved, Upkeep, UpkeepConfig
from wws.names.select import NO_WITNESSES
from wws.names.transfers import Transfer


class LeaseParts:
    """The memory of a lease. Resumes from `state`, what the last `SaveState` said."""

    def __init__(
        self,
        identity: Identity,
        name: str,
        swarm: str,
        *,
        kind: NameRecords,
        rng: Random,
        config: UpkeepConfig | None = None,
        state: LeaseState | None = None,
        addresses: tuple[Multiaddr, ...] = (),
        witnesses: Witnesses | None = None,
        cover_config: CoverConfig | None = None,
    ) -> None:
        if state is not None and (state.name, state.swarm) != (name, swarm):
            raise LocalProtocolError(f"the state of {state.name!r} was given to the lease of {name!r}")
        self.name = name
        self.swarm = swarm
        self.key = name_key(name, swarm)
        self.state = State.IDLE
        self._identity = identity
        self._did = identity.peer_id.did
        self._context = work_context(name, swarm)
        self._kind = kind
        self._rng = rng
        self._config = config or UpkeepConfig()
        self._cover_config = cover_config or CoverConfig()
        self._upkeep = Upkeep(self._config, rng)
        self._backoff = Backoff(self._config, rng)
        self._bits = proof_of_work.LEAST_BITS
        self._addresses = self._own(addresses)
        # A state whose proof is not ours is worth nothing, and losing state does no harm.
        self._lease = state if state is not None and self._is_worked(state) else None
        self._record: NameRecord | None = None
        """The record signed last."""
        self._intended: tuple[Multiaddr, ...] = ()
        """The addresses that it was to have."""
        self._last_seq = state.seq if state is not None else 0
        """Its number. A lease that is forgotten does not take this with it: numbers must not come twice."""
        self._confirmed: NameRecord | None = None
        """The record that a look-up has found to win."""
        self._retry = State.LOOKING
        """What failed, when WAITING."""
        self._wanted: Claim | Release | Accept | None = None
        """What the user wants instead of what is under way."""
        self._wakeup: float | None = None

        self._covering = Covering(identity.peer_id, name, swarm, witnesses or no_witnesses)
        self._cover_backoff = Backoff(self._config, rng)
        self._candidate: LeaseState | None = None
        """The lease that is being worked or covered, before a record is signed for it."""
        self._ask_at: float | None = None
        """When to ask the witnesses apart from renewals: for cover that we lack, or because they changed."""
        self._rival: NameRecord | None = None
        """Another's record that no witness covers: it stands in our way only if we get no cover either."""
        self._contests = 0
        self._work_rounds = 0
        self._is_giving_back = False
        """Whether a release waits for the witnesses, in ASKING."""
        self._offer: Transfer | None = state.accepting if state is not None else None
        """The transfer to us that is being taken up."""
        self._giver: NameRecord | None = None
        self._searches = 0

    @property
    def record(self) -> NameRecord | None:
        """The record signed last, confirmed or not."""
        return self._record

    @property
    def is_held(self) -> bool:
        """Whether the name was confirmed to be ours, and has not been lost, given back or let die since."""
        return self._confirmed is not None

    @property
    def expires_at(self) -> int | None:
        """When the lease ends by the record signed last, or by the state resumed from."""
        return self._lease.expires_at if self._lease is not None else None

    @property
    def given(self) -> Transfer | None:
        """The entry by which we give the name away; it is ours until its taker has taken it up."""
        return self._lease.given if self._lease is not None else None

    @property
    def witnessed(self) -> bool:
        """Whether a majority of witnesses covers the confirmed record."""
        return self._confirmed is not None and self._kind.is_witnessed(self._confirmed)

    def next_wakeup(self) -> float | None:
        """The monotonic time for the next `TimerFired`; `None` while an answer is awaited or all is over."""
        return self._wakeup

    # Signing

    def _sign(self, lease: LeaseState, now: float, unix_now: int, *, released: bool = False) -> list[Command]:
        """The next record of `lease`, with cover where there is some; saved, then stored."""
        lease = self._latest(lease)
        cover = self._covering.cover_of(lease)
        if released:
            # Not before the end of what it releases, or holders that are away would bring that back.
            expires_at = min(max(lease.expires_at, unix_now + 1), unix_now + MAX_LEASE)
        else:
            expires_at = unix_now + self._config.lifetime
        # Registered later than now: our clock was ahead at the claim, and nobody took that record.
        issued_at, registered_at = unix_now, min(lease.registered_at, unix_now)
        addresses = self._addresses
        receipts: tuple[Receipt, ...] = ()
        lasts = cover.expires_at > max(unix_now, lease.registered_at)
        if lasts and (not released or cover.expires_at >= expires_at):
            # With cover it is the other way round: our clock is behind now, and the witnesses' word stands.
            issued_at, registered_at = max(unix_now, lease.registered_at), lease.registered_at
            expires_at = min(max(expires_at, issued_at + 1), cover.expires_at)
            addresses, receipts = self._fitting(lease, cover, expires_at)
        record = NameRecord.sign(
            self._identity,
            name=self.name,
            swarm=self.swarm,
            addresses=() if released else addresses,
            seq=next_seq(max(lease.seq, self._last_seq), issued_at),
            registered_at=registered_at,
            issued_at=issued_at,
            expires_at=expires_at,
            nonce=lease.nonce,
            receipts=receipts,
            transfers=lease.transfers,
            released=released,
        )
        self._remember(record, lease, cover, now, unix_now)
        self._wakeup = None
        self.state = State.RELEASING if released else State.STORING
        return [SaveState(self._lease), StoreRecord(self.key, record.value)]

    def _remember(
        self, record: NameRecord, lease: LeaseState, cover: Cover, now: float, unix_now: int
    ) -> None:
        before, end = self._record, record.expires_at
        if before is not None and before.receipts and record.receipts and before.expires_at == end:
            self._upkeep.resigned(unix_now, now)
        else:
            self._upkeep.signed(unix_now, record.expires_at, now)
        receipts = lease.receipts if self._covering.panel.is_empty else cover.receipts
        self._record, self._intended, self._last_seq = record, self._addresses, record.seq
        self._lease = replace(LeaseState.of(record), receipts=receipts, given=lease.given)
        self._candidate = None
        self._is_giving_back = False

    def _latest(self, lease: LeaseState) -> LeaseState:
        """`lease` with what has happened to ours while it was worked and covered."""
        ours = self._lease
        if ours is None or ours is lease:
            return lease
        return replace(lease, seq=max(lease.seq, ours.seq), given=ours.given)

    def _fitting(
        self, lease: LeaseState, cover: Cover, expires_at: int
    ) -> tuple[tuple[Multiaddr, ...], tuple[Receipt, ...]]:
        receipts, needed = cover.for_record(expires_at)
        return fitting(self._addresses, receipts, lease.transfers, needed=needed)

    # Small parts

    def _is_alive(self, unix_now: int) -> bool:
        """Whether there is a lease of ours that nobody else may have yet."""
        return self._lease is not None and unix_now < self._lease.dead_at

    def _look_up(self, state: State) -> list[Command]:
        self._wakeup = None
        self.state = state
        # Where witnesses decide who may claim, that nobody has the name takes no search far and wide.
        they_decide = state is State.LOOKING and self._offer is None and not self._covering.panel.is_empty
        return [LookUp(self.key, widely=not they_decide)]

    def _wait(self, retry: State, reason: str, now: float) -> list[Command]:
        delay = self._backoff.next_delay()
        self._wait_for(retry, delay, now)
        return [RetryScheduled(reason, delay)]

    def _wait_for(self, retry: State, delay: float, now: float) -> None:
        self._retry = retry
        self._wakeup = now + delay
        self.state = State.WAITING

    def _end(self, state: State, report: Command, lease: LeaseState | None = None) -> list[Command]:
        self._lease = lease
        self._record = self._confirmed = self._candidate = None
        self._rival = self._giver = self._offer = None
        self._contests = self._work_rounds = self._searches = 0
        self._is_giving_back = False
        self._ask_at = self._wakeup = None
        self.state = state
        return [SaveState(lease), report]

    def _hold(self, record: NameRecord, now: float, unix_now: int) -> list[Command]:
        """The name is ours by `record`."""
        is_first, is_news = self._confirmed is None, self._confirmed is not record
        # Who is to have it may take it up any moment, and we are to know soon.
        is_watched = is_first or self.given is not None
        interval = self._config.settle_after if is_watched else self._config.check_interval
        self._upkeep.checked(now, again_after=interval)
        self._backoff.reset()
        self._confirmed = record
        self._rest(record, now, unix_now)
        return [self._held(record)] if is_news else []

    def _rest(self, record: NameRecord, now: float, unix_now: int) -> None:
        """HELD until something is due."""
        self.state = State.HELD
        if self._ask_at is None and not self._covering.panel.is_empty and not self._kind.is_witnessed(record):
            self._ask_at = now + self._cover_backoff.next_delay()
        wakeup = self._upkeep.wakeup(now, unix_now, moved=self._has_moved(record))
        self._wakeup = wakeup if self._ask_at is None else min(wakeup, max(now, self._ask_at))

    def _read(self, value: bytes | None, unix_now: int) -> NameRecord | None:
        """What a look-up found, where it is still valid: the DHT validated it a moment ago."""
        if value is None:
            return None
        try:
            return self._kind.read(self.key, value, unix_now)
        except RecordRefused:
            return None

    def _is_worked(self, lease: LeaseState) -> bool:
        return proof_of_work.verify(self._context, self._did, lease.nonce, self._bits)

    def _adopted(self, found: NameRecord) -> LeaseState:
        """Our own lease as another record of ours tells it, with a sequence number above both."""
        given = None if self._lease is None else self._lease.given
        return replace(LeaseState.of(found), seq=max(found.seq, self._last_seq), given=given)

    def _held(self, record: NameRecord) -> NameHeld:
        return NameHeld(record.expires_at, self._kind.is_witnessed(record))

    def _has_moved(self, record: NameRecord) -> Moved:
        # Not by the record itself: beside many receipts it may not hold all addresses.
        return Moved.since(self._intended if record is self._record else record.addresses, self._addresses)

    def _own(self, addresses: tuple[Multiaddr, ...]) -> tuple[Multiaddr, ...]:
        ours = dict.fromkeys(address.with_peer(self._identity.peer_id) for address in addresses)
        return tuple(ours)[:MAX_ADDRESSES]


def no_witnesses() -> WitnessSets:
    """W = ∅, as in an ad hoc network."""
    return NO_WITNESSES, NO_WITNESSES
