"""A thousand partitions that heal: names taken on all sides, at any time, with any claim to them.

One swarm is divided again and again, each time in another way and for another time. On each side records of
one name are published that compete in every way that Select knows: age, cover, transfers, renewals, releases.
After the healing the first look-up finds the one that holds, and leaves it with everybody who is asked next.
"""

from __future__ import annotations

import random

import pytest

from wws.identity.peer_id import PeerId
from wws.names.kinds import KindsConfig, NameRecords
from wws.names.record import NameRecord, name_key
from wws.names.select import select
from wws.testing.names import name_record, person, transfer
from wws.testing.scale import scale
from wws.testing.simulated_node import SimulatedNode
from wws.testing.simulation import Simulation, SimulationConfig

PARTITIONS = 1_000
NODES = 24
"""More than the twenty that hold a record."""
IN_ONE_SWARM = 20
"""Partitions of one swarm, before another begins: records would pile up, and with them upkeep."""
OWNERS = ["alice", "bob", "carol", "dave"]
WITNESSES = ["w0", "w1", "w2"]
W: frozenset[PeerId] = frozenset(person(label).peer_id for label in WITNESSES)
NOBODY: frozenset[PeerId] = frozenset()


def competing(rng: random.Random, name: str, now: int) -> list[NameRecord]:
    """Two to five records of one name, as they may come to be on sides that do not see each other."""
    records: list[NameRecord] = []
    for owner in rng.sample(OWNERS, rng.randint(1, 3)):
        registered_at = now - rng.choice([0, 0, 1, 30, 300, 500])
        for _ in range(rng.randint(1, 2)):
            chain = []
            giver = rng.choice(OWNERS)
            if giver != owner and rng.random() < 0.25:
                chain = [transfer(giver, owner, name=name, seq=registered_at - 1)]
            records.append(
                name_record(
                    owner,
                    name=name,
                    registered_at=registered_at,
                    issued_at=now,
                    seq=now + rng.randint(0, 2),
                    lifetime=rng.choice([600, 3_600, 86_400]),
                    addresses=(),
                    witnesses=rng.sample(WITNESSES, rng.choice([0, 0, 1, 2, 3])),
                    transfers=chain,
                    released=rng.random() < 0.1,
                )
            )
    return records


def divide(rng: random.Random, simulation: Simulation) -> list[list[SimulatedNode]]:
    """Two or three sides with an entry point each, one of them perhaps small."""
    count = rng.choice([2, 2, 2, 3])
    weights = [rng.choice([1, 2, 6]) for _ in range(count)]
    side_of = {node.place.index: rng.choices(range(count), weights)[0] for node in simulation.nodes}
    for number, node in enumerate(simulation.entry_points):
        side_of[node.place.index] = number % count
    simulation.part(lambda node: side_of[node.place.index])
    return [
        [node for node in simulation.nodes if side_of[node.place.index] == side and node.joined_at]
        for side in range(count)
    ]


def swarm(kind: NameRecords, seed: int) -> Simulation:
    config = SimulationConfig(nodes=NODES, seed=seed, entry_points=3, clients=0.2, join_within=20)
    simulation = Simulation(config, {kind.prefix: kind})
    simulation.join_all()
    return simulation


def values_of(simulation: Simulation, key: str) -> set[bytes]:
    """The different values that lie under a key, anywhere."""
    found = (node.kademlia.records.find(key.encode(), simulation.time.unix_now) for node in simulation.nodes)
    return {value for value in found if value is not None}


@pytest.mark.timeout(3_600)
def test_every_partition_that_heals_is_one_look_up_away_from_one_owner() -> None:
    kind = NameRecords(lambda: (W, NOBODY), KindsConfig(remembered=256))
    rng = random.Random(22)
    split = 0
    for number in range(scale(PARTITIONS, least=20)):
        if number % IN_ONE_SWARM == 0:
            simulation = swarm(kind, number)
        name = f"agent-{number}"
        sides = divide(rng, simulation)
        simulation.run_for(rng.choice([0, 1, 20]))
        records = competing(rng, name, simulation.time.unix_now)
        for record in records:
            rng.choice(rng.choice(sides)).put(record.key, record.value, lambda _: None)
            simulation.run_for(rng.choice([0.0, 0.01, 1.0, 20.0]))
        simulation.run_for(rng.choice([5, 30]))
        held = values_of(simulation, name_key(name))
        split += len(held) > 1
        simulation.heal()
        simulation.run_for(rng.choice([60, 120]))

        now = simulation.time.unix_now
        stored = [NameRecord.parse(value) for value in held]
        expected = stored[select(stored, now, W, NOBODY)].value
        first = simulation.get(simulation.some_node(), name_key(name)).value
        assert first == expected, f"partition {number}: the first look-up finds the one that holds"
        again = [simulation.get(simulation.some_node(), name_key(name)).value for _ in range(2)]
        assert again == [expected] * 2, f"partition {number}: and so does everybody after it"
    assert split > scale(PARTITIONS, least=20) / 4, "the sides did differ"
