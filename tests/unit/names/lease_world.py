"""A small world for leases: one holder that keeps what Select says, witnesses, owners, clocks that jump."""

from __future__ import annotations

import json
from random import Random

from wws.identity import proof_of_work
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.names.errors import RecordRefused
from wws.names.events import (
    AskWitnesses,
    CoverDelayed,
    LookedUp,
    LookUp,
    LookUpFailed,
    ProofSolved,
    SaveState,
    SolveProofOfWork,
    Stored,
    StoreFailed,
    StoreRecord,
    TimerFired,
    WitnessesAnswered,
)
from wws.names.kinds import NameRecords
from wws.names.lease import Lease
from wws.names.lease_state import LeaseState
from wws.names.record import NameRecord, name_key, validate
from wws.names.witness.messages import WitnessAnswer, WitnessRequest
from wws.testing.names import ADDRESS, NOW, person
from wws.testing.simulated_time import SimulatedTime
from wws.testing.simulated_witnesses import SimulatedWitness, SimulatedWitnesses

HOUR = 3_600
DAY = 86_400


class World:
    """The holder of one name, its witnesses, and the owners who want it. `beside`: another name there."""

    def __init__(self, *labels: str, name: str = "alice", beside: World | None = None) -> None:
        self.name = name
        self.key = name_key(name)
        self.time = SimulatedTime(NOW) if beside is None else beside.time
        self.witnesses = SimulatedWitnesses(labels) if beside is None else beside.witnesses
        self.kind = NameRecords(self.witnesses.sets)
        self.rng = Random(f"{name} {labels}")
        self.witness_delay = 0.0
        """Seconds within which the witnesses are reached, each after another time."""
        self.value: bytes | None = None
        self.is_offline = False
        """Whether nobody answers look-ups and stores."""

    def owner(self, label: str = "alice", *, state: LeaseState | None = None) -> Owner:
        return Owner(self, label, state)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.time.run_until(self.time.now + seconds)

    @property
    def record(self) -> NameRecord | None:
        """What a look-up finds; dropped when its time is over."""
        if self.value is not None and self.time.unix_now >= self.kind.keep_until(self.key, self.value):
            self.value = None
        return None if self.value is None else NameRecord.parse(self.value)

    @property
    def is_witnessed(self) -> bool:
        return self.record is not None and self.kind.is_witnessed(self.record)

    def resolves_to(self, label: str) -> bool:
        """Whether the name resolves, and to whom."""
        record = self.record
        return (
            record is not None
            and record.peer_id == person(label).peer_id
            and not record.released
            and not record.is_dead(self.time.unix_now)
        )

    def put(self, value: bytes) -> bool:
        """Whether the holder keeps it."""
        unix_now = self.time.unix_now
        try:
            validate(self.key, value, unix_now)
        except RecordRefused:
            return False
        values = [value] if self.record is None or self.value is None else [self.value, value]
        self.value = values[self.kind.select(self.key, values, unix_now)]
        return self.value == value


class Owner:
    """A lease and its driver. `skew` is what its clock is off; `asleep`: it neither acts nor hears."""

    def __init__(self, world: World, label: str, state: LeaseState | None) -> None:
        self.world = world
        self.label = label
        self.reports: list[Command] = []
        self.asked: list[AskWitnesses] = []
        self.signed: list[NameRecord] = []
        self.state = state
        self.skew = 0
        self.is_asleep = False
        self.lease = self._lease(state)
        self._wakeup: float | None = None
        self._slept: list[Event] = []
        self._open: Command | None = None

    def _lease(self, state: LeaseState | None) -> Lease:
        return Lease(
            person(self.label),
            self.world.name,
            "public",
            kind=self.world.kind,
            rng=Random(f"{self.label} {len(self.reports)}"),
            state=state,
            addresses=(ADDRESS,),
            witnesses=self.world.witnesses.sets,
        )

    def restart(self, *, forgets: bool = False) -> None:
        """A new machine from the saved state, through its JSON; what was open is lost."""
        saved = None if self.state is None or forgets else self.state.to_json()
        self.state = None if saved is None else LeaseState.from_json(json.loads(json.dumps(saved)))
        self.lease = self._lease(self.state)
        self._open = self._wakeup = None

    def tell(self, event: Event, seconds: float = 5.0) -> list[Command]:
        """Hand the event over and let a few seconds pass; what was reported since."""
        before = len(self.reports)
        self._hear(event)
        self.world.run(seconds)
        return self.reports[before:]

    def said(self, kind: type[Command]) -> list[Command]:
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def delays(self) -> list[CoverDelayed]:
        return [report for report in self.reports if isinstance(report, CoverDelayed)]

    def wake(self) -> None:
        self.is_asleep = False
        slept, self._slept = self._slept, []
        for event in slept:
            self._hear(event)

    def _hear(self, event: Event) -> None:
        if self.is_asleep:
            self._slept.append(event)
            return
        time = self.world.time
        lease = self.lease
        for command in lease.handle(event, time.now, time.unix_now + self.skew):
            self._carry_out(lease, command)
        wakeup = lease.next_wakeup()
        if wakeup is not None and wakeup != self._wakeup:
            self._wakeup = wakeup
            time.at(wakeup, self._timer, wakeup)

    def _timer(self, scheduled: float) -> None:
        if scheduled == self._wakeup:
            self._wakeup = None
            self._hear(TimerFired())

    def _carry_out(self, lease: Lease, command: Command) -> None:
        match command:
            case LookUp():
                found = LookedUp(self.world.value if self.world.record is not None else None)
                self._later(lease, command, LookUpFailed() if self.world.is_offline else found)
            case StoreRecord(value=value):
                self.check(NameRecord.parse(value))
                is_kept = not self.world.is_offline and self.world.put(value)
                self._later(lease, command, Stored(1) if is_kept else StoreFailed("not kept"))
            case SolveProofOfWork(context=context, did=did, bits=bits):
                self._later(lease, command, ProofSolved(proof_of_work.solve(context, did, bits)))
            case AskWitnesses(request=request):
                self.asked.append(command)
                self._ask(lease, command, request)
            case SaveState(state=state):
                self.state = state
            case _:
                self.reports.append(command)

    def check(self, record: NameRecord) -> None:
        """What holds for every record that leaves: it was saved, it is new, its receipts cover it."""
        assert self.state is not None
        assert (self.state.seq, self.state.expires_at) == (record.seq, record.expires_at)
        if self.signed and self.signed[-1].value != record.value:
            assert record.seq > self.signed[-1].seq
        self.signed.append(record)
        if record.receipts:
            assert self.world.kind.is_witnessed(record)

    def _ask(self, lease: Lease, command: Command, request: WitnessRequest) -> None:
        """Each witness hears of it at another moment; the round ends a little later."""
        world, owner = self.world, person(self.label).peer_id
        answers: dict[PeerId, WitnessAnswer | None] = {}

        def ask(witness: SimulatedWitness) -> None:
            time = world.time
            answers[witness.peer_id] = witness.answer(request, owner, time.now, time.unix_now)

        def end() -> None:
            self._deliver(lease, WitnessesAnswered(tuple(answers.items())))

        assert self._open is None, f"{command} while {self._open} is open"
        self._open = command
        for witness in world.witnesses.all:
            world.time.after(world.rng.uniform(0, world.witness_delay), ask, witness)
        world.time.after(world.witness_delay + 0.1, end)

    def _deliver(self, lease: Lease, answer: Event) -> None:
        if lease is self.lease:
            self._open = None
            self._hear(answer)

    def _later(self, lease: Lease, command: Command, answer: Event) -> None:
        assert self._open is None, f"{command} while {self._open} is open"
        self._open = command
        self.world.time.after(0.1, self._deliver, lease, answer)
