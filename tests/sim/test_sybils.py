"""Twenty identities ground to stand nearest to a key: reads find the value, and puts reach honest holders."""

from __future__ import annotations

from itertools import product

import pytest

from tests.sim.upkeep import CALM
from wws.dht.kademlia import KademliaConfig
from wws.identity.keys import Identity
from wws.testing.notes import note_key, write_note
from wws.testing.scale import scale, scale_factor
from wws.testing.simulation import Simulation, SimulationConfig
from wws.testing.sybils import Lie

SYBILS = 20
ALICE = Identity.from_label("alice")
ATTACKS = list(product(Lie, (None, 2)))
"""Each lie, from twenty prefixes and from two."""
FEW = [(Lie.CLIQUE, None), (Lie.OLD, 2), (Lie.FORGED, None), (Lie.SILENCE, None)]
"""The hardest of them."""


class Swarm:
    """A swarm in which Alice keeps a note under a key that is attacked."""

    def __init__(self, seed: int) -> None:
        self.simulation = Simulation(
            SimulationConfig(nodes=scale(1_000, least=300), seed=seed, join_within=60)
        )
        self.simulation.join_all()
        self.simulation.run_for(60)

    def put(self, key: str, seq: int) -> bytes:
        """The note number `seq`, stored from anywhere."""
        value = self.note(key, seq)
        self.simulation.put(self.simulation.some_honest_node(), key, value)
        return value

    def note(self, key: str, seq: int) -> bytes:
        expires_at = self.simulation.time.unix_now + 86_400
        return write_note(ALICE, key, f"number {seq}", seq=seq, expires_at=expires_at)

    def attack(self, key: str, lie: Lie, prefixes: int | None, old: bytes) -> None:
        self.simulation.add_sybils(key, SYBILS, lie=lie, prefixes=prefixes, old=old)

    def reads(self, key: str, value: bytes, times: int) -> int:
        """How many of so many reads, each by somebody else, bring the value."""
        simulation = self.simulation
        return sum(simulation.get(simulation.some_honest_node(), key).value == value for _ in range(times))

    def honest_holders(self, key: str, value: bytes) -> int:
        now = self.simulation.time.unix_now
        return sum(
            node.kademlia.records.find(key.encode(), now) == value
            for node in self.simulation.nodes
            if node not in self.simulation.sybils
        )


@pytest.mark.timeout(1_800)
def test_reads_and_puts_reach_behind_twenty_identities_that_lie() -> None:
    swarm = Swarm(seed=6)
    attacks = ATTACKS if scale_factor() >= 1 else FEW
    keys = {attack: note_key(f"{attack[0].value} from {attack[1]}") for attack in attacks}
    untouched = {key: swarm.put(key, 1) for key in keys.values()}
    for (lie, prefixes), key in keys.items():
        swarm.attack(key, lie, prefixes, untouched[key])
    swarm.simulation.run_for(90)

    times = scale(200, least=15)
    # What was put before the attack is there...
    before = {attack: swarm.reads(key, untouched[key], times) for attack, key in keys.items()}
    # ... and what is put under it comes to honest holders, and beats the old value that the Sybils show.
    values = {key: swarm.put(key, 2) for key in keys.values()}
    swarm.simulation.run_for(30)
    holders = {attack: swarm.honest_holders(key, values[key]) for attack, key in keys.items()}
    after = {attack: swarm.reads(key, values[key], times) for attack, key in keys.items()}

    assert min(holders.values()) >= 3, holders
    for reads in (before, after):
        assert min(reads.values()) >= 0.99 * times, reads

    # Who comes later, and knows the swarm only since then, reads as well.
    newcomers = [swarm.simulation.add_node(client=False) for _ in keys]
    swarm.simulation.run_for(30)
    for newcomer, (attack, key) in zip(newcomers, keys.items(), strict=True):
        assert swarm.simulation.get(newcomer, key).value == values[key], attack


def test_a_record_behind_a_crowd_outlives_its_first_holders() -> None:
    """Republishing and hand-overs go behind the crowd too, else churn would finish what Sybils began."""
    simulation = Simulation(
        SimulationConfig(nodes=60, seed=9, clients=0.1, join_within=30, kademlia=KademliaConfig(upkeep=CALM))
    )
    simulation.join_all()
    key = note_key("kept")
    author = simulation.some_node()
    expires_at = simulation.time.unix_now + 86_400
    value = write_note(ALICE, key, "kept", seq=1, expires_at=expires_at)
    simulation.put(author, key, value)
    simulation.run_for(10)
    first = {id(node) for node in simulation.holders_of(key)}
    sybils = simulation.add_sybils(key, SYBILS, lie=Lie.CLIQUE)
    for node in simulation.nodes[len(simulation.entry_points) :]:
        if node not in sybils:
            simulation.time.after(7_200 * simulation.rng.random(), simulation.replace, node)
    simulation.run_for(7_500)
    assert not any(id(n) in first for n in simulation.nodes if n not in simulation.entry_points)
    assert sum(simulation.get(simulation.some_honest_node(), key).value == value for _ in range(20)) == 20
