"""The lease of one name: claim it, keep it, give it back (wire.md section 4).

    IDLE ──Claim──> LOOKING ──free──> SOLVING ──> STORING ──> CONFIRMING ──ours wins──> HELD
                       └──another's──> TAKEN         ^              └──another's wins──> LOST
                                                     └───────── renewal, addresses ────── HELD
    HELD ──hourly──> CONFIRMING      HELD ──Release──> RELEASING ──Stored──> RELEASED
    anything that fails ──> WAITING ──TimerFired──> the same again

A claim first looks whether the name is free, and after storing its record looks again: only when the own
record wins is the name held. So of two honest claimants who saw a free name, both see the same winner, and
the other one is told `NameLost`.

The record is renewed at a third of its life. Within the grace the owner renews as if nothing had happened; a
dead lease is claimed anew, with a new `registered_at`. A lease that another node of the same identity has
moved on is adopted.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from random import Random

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.machine import Command, Event
from wws.names.errors import RecordRefused
from wws.names.events import (
    AddressesChanged,
    Claim,
    LookedUp,
    LookUp,
    LookUpFailed,
    NameHeld,
    NameLost,
    NameReleased,
    NameTaken,
    ProofSolved,
    Release,
    Renew,
    RetryScheduled,
    SaveState,
    SolveProofOfWork,
    Stored,
    StoreFailed,
    StoreRecord,
    TimerFired,
)
from wws.names.kinds import NameRecords
from wws.names.lease_state import LeaseState
from wws.names.record import NameRecord, name_key, work_context
from wws.names.rules import MAX_ADDRESSES, MAX_LEASE, next_seq
from wws.names.schedule import Backoff, Moved, Upkeep, UpkeepConfig


class State(enum.Enum):
    """Where a lease stands."""

    IDLE = "idle"
    LOOKING = "looking"
    SOLVING = "solving"
    STORING = "storing"
    CONFIRMING = "confirming"
    HELD = "held"
    WAITING = "waiting"
    RELEASING = "releasing"
    RELEASED = "released"
    TAKEN = "taken"
    LOST = "lost"


_UNDER_WAY = frozenset({State.LOOKING, State.SOLVING, State.STORING, State.CONFIRMING})

ACCEPTED: dict[type[Event], frozenset[State]] = {
    Claim: frozenset(State),
    Renew: _UNDER_WAY | {State.HELD, State.WAITING, State.RELEASING},
    Release: frozenset(State) - {State.TAKEN, State.LOST},
    AddressesChanged: frozenset(State),
    TimerFired: frozenset(State),
    LookedUp: frozenset({State.LOOKING, State.CONFIRMING}),
    LookUpFailed: frozenset({State.LOOKING, State.CONFIRMING}),
    ProofSolved: frozenset({State.SOLVING}),
    Stored: frozenset({State.STORING, State.RELEASING}),
    StoreFailed: frozenset({State.STORING, State.RELEASING}),
}
"""In which states an event may come; anywhere else it is a `LocalProtocolError` and nothing changes."""

_NO_NONCE = -1
_ANSWERS = (LookedUp, LookUpFailed, ProofSolved, Stored, StoreFailed)


class Lease:
    """The machine for one name of one identity. Resumes from `state`, what the last `SaveState` said."""

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
        self._config = config or UpkeepConfig()
        self._upkeep = Upkeep(self._config, rng)
        self._backoff = Backoff(self._config, rng)
        self._bits = proof_of_work.LEAST_BITS
        self._addresses = self._own(addresses)
        # A state whose proof is not ours is worth nothing, and losing state does no harm.
        self._lease = state if state is not None and self._is_worked(state) else None
        self._record: NameRecord | None = None
        self._confirmed: NameRecord | None = None
        self._unworked: LeaseState | None = None
        self._retry = State.LOOKING
        self._wanted: Claim | Release | None = None
        self._wakeup: float | None = None

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
    def witnessed(self) -> bool:
        """Whether a majority of witnesses covers the confirmed record."""
        return self._confirmed is not None and self._kind.is_witnessed(self._confirmed)

    def next_wakeup(self) -> float | None:
        """The monotonic time for the next `TimerFired`; `None` while an answer is awaited or all is over."""
        return self._wakeup

    def handle(self, event: Event, now: float, unix_now: int) -> list[Command]:
        """What to do about `event`. Where it cannot come: `LocalProtocolError`, and nothing changes."""
        if self.state not in ACCEPTED.get(type(event), frozenset()):
            raise LocalProtocolError(f"{type(event).__name__} for {self.name!r} while {self.state.name}")
        if isinstance(event, _ANSWERS) and self._wanted is not None:
            return self._change_of_mind(now, unix_now)
        match event:
            case Claim(bits=bits):
                return self._claim(bits, now, unix_now)
            case Renew():
                return self._renew(now, unix_now)
            case Release():
                return self._release(now, unix_now)
            case AddressesChanged(addresses=addresses):
                return self._move(addresses, now, unix_now)
            case LookedUp(value=value) if self.state is State.LOOKING:
                return self._take(self._read(value, unix_now), now, unix_now)
            case LookedUp(value=value):
                return self._judge(self._read(value, unix_now), now, unix_now)
            case LookUpFailed():
                return self._wait(self.state, "nobody answered the look-up", now)
            case ProofSolved(nonce=nonce):
                return self._solved(nonce, now, unix_now)
            case Stored():
                return self._stored()
            case StoreFailed(reason=reason):
                return self._wait(self.state, reason or "too few holders stored the record", now)
            case _:
                return self._timer_fired(now, unix_now)

    # Claiming

    def _claim(self, bits: int, now: float, unix_now: int) -> list[Command]:
        if bits > proof_of_work.MOST_BITS:
            raise LocalProtocolError(f"{bits} bits of work are not attempted")
        self._bits = max(bits, proof_of_work.LEAST_BITS)
        if self.state is State.RELEASING:
            self._wanted = Claim(bits)
            return []
        self._wanted = None
        if self.state is State.HELD and self._confirmed is not None:
            return [self._held(self._confirmed)]
        if self.state in _UNDER_WAY:
            return []
        if self.state is State.WAITING and self._retry is not State.RELEASING:
            return self._again(now, unix_now)
        return self._start(now, unix_now)

    def _start(self, now: float, unix_now: int) -> list[Command]:
        """Renew what is ours until it is dead; otherwise look whether the name is free."""
        if self._lease is not None and unix_now < self._lease.dead_at:
            return self._publish(self._lease, now, unix_now)
        self._record = self._confirmed = None
        return self._look_up(State.LOOKING)

    def _take(self, found: NameRecord | None, now: float, unix_now: int) -> list[Command]:
        """Claim the name if it is free, go on with it if it is ours."""
        is_ours = found is not None and found.peer_id == self._identity.peer_id
        if found is not None and not found.is_dead(unix_now):
            if not is_ours:
                taken = NameTaken(found.peer_id, found.expires_at, found.dead_at, found.released)
                return self._end(State.TAKEN, taken)
            return self._publish(self._adopted(found), now, unix_now)
        seq = self._lease.seq if self._lease is not None else 0
        nonce = self._lease.nonce if self._lease is not None else _NO_NONCE
        if found is not None and is_ours:
            seq, nonce = max(seq, found.seq), found.nonce
        claim = LeaseState(self.name, self.swarm, unix_now, seq, nonce, expires_at=unix_now)
        return self._publish(claim, now, unix_now)

    def _publish(self, lease: LeaseState, now: float, unix_now: int) -> list[Command]:
        """Sign the next record of `lease` and store it; before that do the work, where there is no proof."""
        if not self._is_worked(lease):
            self._unworked = lease
            self._wakeup = None
            self.state = State.SOLVING
            return [SolveProofOfWork(self._context, self._did, self._bits)]
        commands = self._sign(lease, unix_now + self._config.lifetime, now, unix_now)
        self.state = State.STORING
        return commands

    def _solved(self, nonce: int, now: float, unix_now: int) -> list[Command]:
        assert self._unworked is not None, "SOLVING is entered with a lease that lacks its proof"
        lease = replace(self._unworked, nonce=nonce)
        if not self._is_worked(lease):
            raise LocalProtocolError(f"{nonce} is no proof of {self._bits} bits for {self.name!r}")
        self._unworked = None
        return self._publish(lease, now, unix_now)

    def _sign(
        self, lease: LeaseState, expires_at: int, now: float, unix_now: int, *, released: bool = False
    ) -> list[Command]:
        record = NameRecord.sign(
            self._identity,
            name=self.name,
            swarm=self.swarm,
            addresses=() if released else self._addresses,
            seq=next_seq(lease.seq, unix_now),
            # Later than now only when our clock was ahead at the claim: then nobody took that record.
            registered_at=min(lease.registered_at, unix_now),
            issued_at=unix_now,
            expires_at=expires_at,
            nonce=lease.nonce,
            transfers=lease.transfers,
            released=released,
        )
        self._upkeep.signed(unix_now, expires_at, now)
        self._record = record
        self._lease = LeaseState.of(record)
        self._wakeup = None
        return [SaveState(self._lease), StoreRecord(self.key, record.value)]

    # Confirming

    def _stored(self) -> list[Command]:
        self._backoff.reset()
        if self.state is State.RELEASING and self._lease is not None:
            return self._end(State.RELEASED, NameReleased(self._lease.dead_at), self._lease)
        return self._look_up(State.CONFIRMING)

    def _judge(self, found: NameRecord | None, now: float, unix_now: int) -> list[Command]:
        """Whose the name is, after a look-up that was to find our record."""
        ours = self._record
        assert ours is not None, "CONFIRMING is entered with a record"
        if found is None:
            return self._wait(State.STORING, "our record was not found", now)
        is_ours = found.peer_id == self._identity.peer_id
        if self._kind.winner((ours, found), unix_now) == 0:
            if is_ours:
                return self._hold(ours, now, unix_now)
            return self._wait(State.STORING, "a record that loses to ours was found in its place", now)
        if not is_ours:
            return self._end(State.LOST, NameLost(found.peer_id, found.expires_at))
        # Another node of this identity, or we ourselves before our state was lost.
        if found.released:
            return self._end(State.RELEASED, NameReleased(found.dead_at), LeaseState.of(found))
        self._lease, self._record = self._adopted(found), None
        return self._wait(State.STORING, "another record of this identity was found", now)

    def _hold(self, record: NameRecord, now: float, unix_now: int) -> list[Command]:
        is_first, is_news = self._confirmed is None, self._confirmed is not record
        interval = self._config.settle_after if is_first else self._config.check_interval
        self._upkeep.checked(now, again_after=interval)
        self._backoff.reset()
        self._confirmed = record
        self.state = State.HELD
        self._wakeup = self._upkeep.wakeup(now, unix_now, moved=self._has_moved(record))
        return [self._held(record)] if is_news else []

    # Keeping

    def _timer_fired(self, now: float, unix_now: int) -> list[Command]:
        record = self._record
        if self.state is State.WAITING and self._wakeup is not None and now >= self._wakeup:
            return self._again(now, unix_now)
        if self.state is not State.HELD or record is None:
            return []
        moved = self._has_moved(record)
        if record.is_dead(unix_now) or self._upkeep.is_due(now, unix_now, moved=moved):
            return self._start(now, unix_now)
        if self._upkeep.is_check_due(now):
            return self._look_up(State.CONFIRMING)
        self._wakeup = self._upkeep.wakeup(now, unix_now, moved=moved)
        return []

    def _renew(self, now: float, unix_now: int) -> list[Command]:
        if self.state is State.HELD:
            return self._start(now, unix_now)
        if self.state is State.WAITING and self._retry is not State.RELEASING:
            return self._again(now, unix_now)
        return []

    def _move(self, addresses: tuple[Multiaddr, ...], now: float, unix_now: int) -> list[Command]:
        self._addresses = self._own(addresses)
        if self.state is State.HELD and self._record is not None:
            self._wakeup = self._upkeep.wakeup(now, unix_now, moved=self._has_moved(self._record))
        return []

    # Failing and trying again

    def _wait(self, retry: State, reason: str, now: float) -> list[Command]:
        delay = self._backoff.next_delay()
        self._retry = retry
        self._wakeup = now + delay
        self.state = State.WAITING
        return [RetryScheduled(reason, delay)]

    def _again(self, now: float, unix_now: int) -> list[Command]:
        lease, record = self._lease, self._record
        if self._retry is State.RELEASING:
            return self._give_back(now, unix_now)
        if self._retry is State.LOOKING or lease is None or unix_now >= lease.dead_at:
            return self._start(now, unix_now)
        if (
            record is None
            or self._has_moved(record) is not Moved.NOT
            or self._upkeep.is_due(now, unix_now, moved=Moved.NOT)
        ):
            return self._publish(lease, now, unix_now)
        if self._retry is State.CONFIRMING:
            return self._look_up(State.CONFIRMING)
        self._wakeup = None
        self.state = State.STORING
        return [StoreRecord(self.key, record.value)]

    # Giving back

    def _release(self, now: float, unix_now: int) -> list[Command]:
        if self.state is State.IDLE and self._lease is None:
            raise LocalProtocolError(f"{self.name!r} is not ours to release")
        if self.state is State.RELEASED:
            return [NameReleased(self._lease.dead_at if self._lease is not None else unix_now)]
        if self.state in _UNDER_WAY:
            self._wanted = Release()
            return []
        self._wanted = None
        return [] if self.state is State.RELEASING else self._give_back(now, unix_now)

    def _change_of_mind(self, now: float, unix_now: int) -> list[Command]:
        """An answer has come for what is not wanted any longer; now the machine is free for what is."""
        wanted, self._wanted = self._wanted, None
        if isinstance(wanted, Claim):
            return self._start(now, unix_now)
        return self._give_back(now, unix_now)

    def _give_back(self, now: float, unix_now: int) -> list[Command]:
        lease = self._lease
        if lease is None or unix_now >= lease.dead_at:
            return self._end(State.RELEASED, NameReleased(unix_now))
        # Not before the end of what it releases, or holders that are away would bring that back.
        expires_at = min(max(lease.expires_at, unix_now + 1), unix_now + MAX_LEASE)
        commands = self._sign(lease, expires_at, now, unix_now, released=True)
        self.state = State.RELEASING
        return commands

    def _end(self, state: State, report: Command, lease: LeaseState | None = None) -> list[Command]:
        self._lease = lease
        self._record = self._confirmed = self._unworked = None
        self._wakeup = None
        self.state = state
        return [SaveState(lease), report]

    # Small parts

    def _look_up(self, state: State) -> list[Command]:
        self._wakeup = None
        self.state = state
        return [LookUp(self.key)]

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
        seq = max(found.seq, self._lease.seq if self._lease is not None else 0)
        return replace(LeaseState.of(found), seq=seq)

    def _held(self, record: NameRecord) -> NameHeld:
        return NameHeld(record.expires_at, self._kind.is_witnessed(record))

    def _has_moved(self, record: NameRecord) -> Moved:
        return Moved.since(record.addresses, self._addresses)

    def _own(self, addresses: tuple[Multiaddr, ...]) -> tuple[Multiaddr, ...]:
        ours = dict.fromkeys(address.with_peer(self._identity.peer_id) for address in addresses)
        return tuple(ours)[:MAX_ADDRESSES]
