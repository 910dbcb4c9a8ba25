"""Names in the simulation: the shipped lease machine on a simulated node.

A pattern for anything above the DHT: its commands become `get` and `put` of the node, their results its
events. Witnesses are no nodes of the simulation. Those that have a place in the network are asked over it, as
`wws.runtime.witness.client` does; the others by a call that takes a round trip.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from wws.dht.kademlia import GetDone, PutDone
from wws.errors import WwsError
from wws.identity import proof_of_work
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.names.cache import ResolutionCache
from wws.names.events import (
    AskWitnesses,
    Claim,
    LookedUp,
    LookUp,
    LookUpFailed,
    NameHeld,
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
from wws.names.pins import Pins
from wws.names.receipts import majority
from wws.names.record import name_key
from wws.names.resolve import Resolved, ResolveError, resolve_name
from wws.names.uri import NameTarget
from wws.names.witness.messages import WitnessAnswer, WitnessRequest
from wws.testing.simulated_network import Place
from wws.testing.simulated_node import Result, SimulatedNode
from wws.testing.simulated_time import SimulatedTime
from wws.testing.simulated_witnesses import SimulatedWitness, SimulatedWitnesses
from wws.testing.simulation import Simulation

ROUND_TRIP = 0.2
"""Seconds for a round of questions to witnesses that have no place."""
TIMEOUT = 6.0
"""Seconds for a round (`WitnessClientConfig`)."""
PATIENCE = 1.0
"""Seconds that the others get once a majority of each set has answered."""
WRITING = 0.01
"""Seconds for a witness to write down what it answers."""


class SimulatedLease:
    """A node's lease of one name, kept for as long as the node is online."""

    def __init__(
        self,
        node: SimulatedNode,
        name: str,
        *,
        kind: NameRecords,
        time: SimulatedTime,
        rng: random.Random,
        swarm: str = "public",
        witnesses: SimulatedWitnesses | None = None,
        state: LeaseState | None = None,
    ) -> None:
        """`kind` must know the same witnesses: `NameRecords(witnesses.sets)`. `state`: of an earlier life."""
        self.node = node
        self.reports: list[Command] = []
        """What the lease said: `NameHeld`, `NameTaken`, `NameLost`…"""
        self.held_after: float | None = None
        """Seconds from the claim to `NameHeld`."""
        self._claimed_at = time.now
        self.state = state
        """What was saved last: with it the lease goes on at a node that comes back."""
        self._time = time
        self._witnesses = witnesses
        self.lease = Lease(
            node.identity,
            name,
            swarm,
            kind=kind,
            rng=rng,
            state=state,
            addresses=(node.place.address.with_peer(node.peer_id),),
            witnesses=None if witnesses is None else witnesses.sets,
        )
        self._wakeup: float | None = None

    def claim(self) -> None:
        """Claim the name, and go on from there."""
        self._claimed_at = self._time.now
        self._tell(Claim())

    def tell(self, event: Event) -> None:
        """Hand the lease another event: `Release`, `Transfer`, `Accept`, `WitnessesChanged`…"""
        self._tell(event)

    def _tell(self, event: Event) -> None:
        if not self.node.place.online:
            return
        for command in self.lease.handle(event, self._time.now, self.node.unix_now):
            self._carry_out(command)
        wakeup = self.lease.next_wakeup()
        if wakeup is not None and wakeup != self._wakeup:
            self._wakeup = wakeup
            self._time.at(wakeup, self._timer, wakeup)

    def _timer(self, scheduled: float) -> None:
        if scheduled == self._wakeup:
            self._wakeup = None
            self._tell(TimerFired())

    def _carry_out(self, command: Command) -> None:
        match command:
            case LookUp(key=key, widely=widely):
                self.node.get(key, self._looked_up, widely=widely)
            case StoreRecord(key=key, value=value):
                try:
                    self.node.put(key, value, self._stored)
                except WwsError as error:  # our own node refuses it first
                    self._time.after(0, self._tell, StoreFailed(str(error)))
            case SolveProofOfWork(context=context, did=did, bits=bits):
                nonce = proof_of_work.solve(context, did, bits)
                self._time.after(0.05, self._tell, ProofSolved(nonce))
            case AskWitnesses(request=request):
                if self._witnesses is not None:
                    Round(self.node, self._witnesses, request, self._time, self._tell)
                else:
                    self._time.after(ROUND_TRIP, self._tell, WitnessesAnswered(()))
            case SaveState(state=state):
                self.state = state
            case _:
                if isinstance(command, NameHeld) and self.held_after is None:
                    self.held_after = self._time.now - self._claimed_at
                self.reports.append(command)

    def _looked_up(self, result: Result) -> None:
        # Nobody's silence says that a name is free, or that a record is gone.
        answered = isinstance(result, GetDone) and result.asked
        self._tell(LookedUp(result.value) if answered and isinstance(result, GetDone) else LookUpFailed())

    def _stored(self, result: Result) -> None:
        stored = result.stored if isinstance(result, PutDone) else 0
        self._tell(Stored(stored) if stored else StoreFailed("no holder kept it"))


class Round:
    """One question to all witnesses, and when it ends: `then` is told what they answered until then."""

    def __init__(
        self,
        node: SimulatedNode,
        witnesses: SimulatedWitnesses,
        request: WitnessRequest,
        time: SimulatedTime,
        then: Callable[[WitnessesAnswered], None],
    ) -> None:
        self._node = node
        self._request = request
        self._time = time
        self._then: Callable[[WitnessesAnswered], None] | None = then
        self._groups = [group for group in witnesses.sets() if group]
        self._answers: dict[PeerId, WitnessAnswer | None] = dict.fromkeys(
            sorted((witness.peer_id for witness in witnesses.all), key=str)
        )
        self._is_hurried = False
        for witness in witnesses.all:
            place = witness.place
            delay = ROUND_TRIP / 2 if place is None else node.network.one_way(node.place, place)
            time.after(delay + WRITING, self._arrived, witness)
        time.after(TIMEOUT, self._end)

    def _arrived(self, witness: SimulatedWitness) -> None:
        place, network = witness.place, self._node.network
        if not self._reaches(place):
            return
        owner, now, unix_now = self._node.peer_id, self._time.now, self._time.unix_now
        answer = witness.answer(self._request, owner, now, unix_now)
        if answer is not None:
            delay = ROUND_TRIP / 2 if place is None else network.one_way(place, self._node.place)
            self._time.after(delay, self._returned, witness, answer)

    def _returned(self, witness: SimulatedWitness, answer: WitnessAnswer) -> None:
        if not self._reaches(witness.place):
            return
        self._answers[witness.peer_id] = answer
        answered = {peer for peer, one in self._answers.items() if one is not None}
        if len(answered) == len(self._answers):
            self._end()
        elif not self._is_hurried and all(len(answered & one) >= majority(one) for one in self._groups):
            self._is_hurried = True
            self._time.after(PATIENCE, self._end)

    def _reaches(self, place: Place | None) -> bool:
        return place is None or self._node.network.can_reach(self._node.place, place)

    def _end(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(WitnessesAnswered(tuple(self._answers.items())))


@dataclass(frozen=True, slots=True)
class NameFigures:
    """What came of claims, and of looking each name up once from elsewhere. Sorted seconds."""

    claims: int
    registered: list[float]
    """From the claim to `NameHeld`, of those that came to it."""
    witnessed: int
    asked: int
    resolved: list[float]
    """From the question to the answer, over the DHT; those that were answered rightly."""
    cached: list[float]
    """The same once more from memory, in seconds of this machine."""


def measure_names(
    simulation: Simulation,
    kind: NameRecords,
    count: int,
    *,
    within: float,
    witnesses: SimulatedWitnesses | None = None,
) -> NameFigures:
    """Let `count` random nodes claim a name each, spread over `within` seconds, and as many others resolve
    one each. What is not held, or not answered, a minute after the last one has no time."""
    leases: list[SimulatedLease] = []
    asked: list[str] = []
    resolved: list[float] = []
    cached: list[float] = []

    def claim(number: int) -> None:
        lease = SimulatedLease(
            simulation.some_node(),
            f"claimed-{number}",
            kind=kind,
            time=simulation.time,
            rng=random.Random(simulation.rng.random()),
            witnesses=witnesses,
        )
        leases.append(lease)
        lease.claim()

    def resolve(lease: SimulatedLease) -> None:
        node, began = simulation.some_node(), simulation.time.now
        name = lease.lease.name

        def done(result: Result) -> None:
            value = result.value if isinstance(result, GetDone) else None
            asked.append(name)
            pins, cache = Pins(), ResolutionCache()
            try:
                answer = _judged(name, value, kind, pins, node.unix_now)
            except ResolveError:
                return
            if answer.peer_id == lease.node.peer_id and value is not None:
                resolved.append(simulation.time.now - began)
                key = name_key(name)
                judges, now, unix_now = kind.witness_sets, simulation.time.now, node.unix_now
                cache.found(key, value, judges, now, unix_now, good_until=answer.expires_at)
                real = time.perf_counter()
                known = cache.find(key, judges, now, unix_now)
                _judged(name, known.value if known is not None else None, kind, pins, unix_now)
                cached.append(time.perf_counter() - real)

        node.get(name_key(name), done)

    start = simulation.time.now
    for number in range(count):
        simulation.time.at(start + number * within / count, claim, number)
    simulation.run_for(within + 60.0)
    for index, lease in enumerate(lease for lease in leases if lease.held_after is not None):
        simulation.time.after(index * within / count, resolve, lease)
    simulation.run_for(within + 30.0)
    held = [report for lease in leases for report in lease.reports[:1] if isinstance(report, NameHeld)]
    return NameFigures(
        # A claim whose node left meanwhile, and a question, has no result, and is nobody's failure.
        sum(lease.held_after is not None or lease.node.place.online for lease in leases),
        sorted(lease.held_after for lease in leases if lease.held_after is not None),
        sum(report.witnessed for report in held),
        len(asked),
        sorted(resolved),
        sorted(cached),
    )


def _judged(name: str, value: bytes | None, kind: NameRecords, pins: Pins, unix_now: int) -> Resolved:
    return resolve_name(NameTarget(name), value, unix_now, kind=kind, pins=pins, domain="sim.example")
