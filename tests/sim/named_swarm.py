"""A swarm in which names are claimed and kept, for the tests that let something go wrong there."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from tests.sim.upkeep import CALM, HOUR
from wws.dht.kademlia import KademliaConfig
from wws.identity.keys import Identity
from wws.names.events import NameHeld, NameLost
from wws.names.kinds import KindsConfig, NameRecords
from wws.names.pins import Pins
from wws.names.record import NameRecord, name_key
from wws.names.resolve import Resolved, resolve_name
from wws.names.uri import NameTarget
from wws.testing.owners_watch import OwnersWatch
from wws.testing.simulated_names import SimulatedLease
from wws.testing.simulated_node import SimulatedNode
from wws.testing.simulated_witnesses import SimulatedWitnesses
from wws.testing.simulation import Simulation, SimulationConfig

QUIET = replace(
    CALM, refresh_interval=6 * HOUR, bucket_refresh_interval=6 * HOUR, check_interval=6 * HOUR, tick=300
)
"""As `CALM`, for days in which hardly anybody comes or goes. Who comes still meets those near it at once."""
THREE = ("w1", "w2", "w3")


class NamedSwarm:
    """Nodes that have joined, and witnesses at the entry points. THE invariant is watched all the time."""

    def __init__(
        self,
        nodes: int,
        *,
        seed: int,
        labels: Iterable[str] = THREE,
        entry_points: int = 3,
        half_life: float = 2 * HOUR,
    ) -> None:
        self.witnesses = SimulatedWitnesses(labels)
        self.kind = NameRecords(self.witnesses.sets, KindsConfig(remembered=8_192))
        self.simulation = Simulation(
            SimulationConfig(
                nodes=nodes,
                seed=seed,
                entry_points=entry_points,
                join_within=60,
                clients=0.2,
                half_life=half_life,
                kademlia=KademliaConfig(upkeep=QUIET),
            ),
            {self.kind.prefix: self.kind},
        )
        self.time = self.simulation.time
        self.watch = OwnersWatch(self.witnesses, self.time)
        self.rng = random.Random(seed)
        self.witnesses.settle(node.place for node in self.simulation.entry_points)
        self.simulation.join_all()

    def run(self, seconds: float) -> None:
        self.simulation.run_for(seconds)

    def lease(self, name: str, node: SimulatedNode | None = None) -> SimulatedLease:
        """A lease on a node, else on one of its own which stays while others come and go."""
        if node is None:
            node = self.join()
        return SimulatedLease(
            node,
            name,
            kind=self.kind,
            time=self.time,
            rng=random.Random(self.rng.random()),
            witnesses=self.witnesses,
        )

    def held(self, name: str, node: SimulatedNode | None = None) -> SimulatedLease:
        """A name that is claimed and held under cover."""
        lease = self.lease(name, node)
        self.run(20)
        lease.claim()
        self.run(15)
        assert lease.lease.is_held, lease.reports
        assert is_witnessed(lease), lease.reports
        return lease

    def join(self, identity: Identity | None = None) -> SimulatedNode:
        node = self.simulation.add_node(client=True, identity=identity)
        self.simulation.spared.add(node)
        return node

    def leave(self, lease: SimulatedLease) -> None:
        """The owner's machine goes to sleep."""
        self.simulation.remove(lease.node, silently=True)

    def come_back(self, lease: SimulatedLease) -> SimulatedLease:
        """The same owner at a new place, with what was on its disk."""
        again = SimulatedLease(
            self.join(lease.node.identity),
            lease.lease.name,
            kind=self.kind,
            time=self.time,
            rng=random.Random(self.rng.random()),
            witnesses=self.witnesses,
            state=lease.state,
        )
        self.run(20)
        again.claim()
        return again

    def find(self, name: str, node: SimulatedNode | None = None) -> NameRecord | None:
        """The record that a look-up brings, whatever it is worth."""
        reader = node or self.simulation.some_node()
        value = self.simulation.get(reader, name_key(name)).value
        return None if value is None else NameRecord.parse(value)

    def resolve(self, name: str, *, node: SimulatedNode | None = None, pins: Pins | None = None) -> Resolved:
        """The answer that a client gives. Raises `ResolveError`."""
        reader = node or self.simulation.some_node()
        record = self.find(name, reader)
        return resolve_name(
            NameTarget(name),
            None if record is None else record.value,
            reader.unix_now,
            kind=self.kind,
            pins=Pins() if pins is None else pins,
            domain="sim.example",
        )

    def part(self, *sides: Iterable[SimulatedNode]) -> None:
        """Divide the network into these, and who is in none of them belongs to the first."""
        side_of = {node: number for number, side in enumerate(sides) for node in side}
        self.simulation.part(lambda node: side_of.get(node, 0))

    def check(self) -> None:
        """What must hold at the end of every story, and was watched in all of it."""
        assert self.watch.receipts > 0
        assert self.watch.conflicts == []


def is_witnessed(lease: SimulatedLease) -> bool:
    """Whether the lease said last that witnesses cover it."""
    said = [report for report in lease.reports if isinstance(report, NameHeld | NameLost)]
    return bool(said) and isinstance(said[-1], NameHeld) and said[-1].witnessed


def said(lease: SimulatedLease, kind: type) -> list[object]:
    return [report for report in lease.reports if isinstance(report, kind)]
