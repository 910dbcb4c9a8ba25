"""Names in the simulation: the shipped lease machine on a simulated node.

A pattern for anything above the DHT: its commands become `get` and `put` of the node, their results its
events. Witnesses are not nodes of the simulation: they are asked by a call that takes a round trip.
"""

from __future__ import annotations

import random

from wws.dht.kademlia import GetDone, PutDone
from wws.identity import proof_of_work
from wws.machine import Command, Event
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
from wws.names.witness.messages import WitnessRequest
from wws.testing.simulated_node import Result, SimulatedNode
from wws.testing.simulated_time import SimulatedTime
from wws.testing.simulated_witnesses import SimulatedWitnesses
from wws.testing.simulation import Simulation

ROUND_TRIP = 0.2
"""Seconds for a round of questions to the witnesses."""


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
        for command in self.lease.handle(event, self._time.now, self._time.unix_now):
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
            case LookUp(key=key):
                self.node.get(key, self._looked_up)
            case StoreRecord(key=key, value=value):
                self.node.put(key, value, self._stored)
            case SolveProofOfWork(context=context, did=did, bits=bits):
                nonce = proof_of_work.solve(context, did, bits)
                self._time.after(0.05, self._tell, ProofSolved(nonce))
            case AskWitnesses(request=request):
                self._time.after(ROUND_TRIP / 2, self._ask, request)
            case SaveState(state=state):
                self.state = state
            case _:
                if isinstance(command, NameHeld) and self.held_after is None:
                    self.held_after = self._time.now - self._claimed_at
                self.reports.append(command)

    def _ask(self, request: WitnessRequest) -> None:
        time, owner = self._time, self.node.peer_id
        answers = (
            () if self._witnesses is None else self._witnesses.ask(request, owner, time.now, time.unix_now)
        )
        time.after(ROUND_TRIP / 2, self._tell, WitnessesAnswered(answers))

    def _looked_up(self, result: Result) -> None:
        found = isinstance(result, GetDone) and (result.asked or result.value is not None)
        self._tell(LookedUp(result.value) if found and isinstance(result, GetDone) else LookUpFailed())

    def _stored(self, result: Result) -> None:
        stored = result.stored if isinstance(result, PutDone) else 0
        self._tell(Stored(stored) if stored else StoreFailed("no holder kept it"))


def measure_claims(
    simulation: Simulation,
    kind: NameRecords,
    count: int,
    *,
    within: float,
    witnesses: SimulatedWitnesses | None = None,
) -> list[float]:
    """Let `count` random nodes claim a name each, spread over `within` seconds; the seconds from each claim
    to `NameHeld`, sorted. A claim that is not held a minute after the last one has no time."""
    leases: list[SimulatedLease] = []

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

    start = simulation.time.now
    for number in range(count):
        simulation.time.at(start + number * within / count, claim, number)
    simulation.run_for(within + 60.0)
    return sorted(lease.held_after for lease in leases if lease.held_after is not None)
