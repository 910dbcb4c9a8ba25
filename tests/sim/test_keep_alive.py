"""Names whose owners are away: kept alive by their holders, and by the holders after those."""

from __future__ import annotations

import pytest

from tests.sim.upkeep import CALM, HOUR
from wws.dht.kademlia import KademliaConfig
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.names.kinds import KindsConfig, NameRecords
from wws.names.record import NameRecord, work_context
from wws.names.rules import MAX_LEASE
from wws.testing.scale import scale
from wws.testing.simulation import Simulation, SimulationConfig


def claim(simulation: Simulation, owner: Identity, name: str) -> NameRecord:
    """A name's record, stored by its owner's node, which then is gone."""
    now = simulation.time.unix_now
    record = NameRecord.sign(
        owner,
        name=name,
        swarm="public",
        addresses=(),
        seq=now,
        registered_at=now,
        issued_at=now,
        expires_at=now + MAX_LEASE,
        nonce=proof_of_work.solve(work_context(name, "public"), owner.peer_id.did, proof_of_work.LEAST_BITS),
    )
    node = simulation.add_node(client=True)
    simulation.run_for(30)
    assert simulation.put(node, record.key, record.value).stored >= 8
    simulation.remove(node, silently=True)
    return record


@pytest.mark.timeout(1_200)
def test_names_live_as_long_as_their_leases_while_owners_sleep_and_holders_come_and_go() -> None:
    kind = NameRecords(config=KindsConfig(remembered=4_096))
    simulation = Simulation(
        SimulationConfig(
            nodes=scale(300, least=36),
            seed=21,
            join_within=60,
            half_life=4 * HOUR,
            clients=0.2,
            kademlia=KademliaConfig(upkeep=CALM),
        ),
        {kind.prefix: kind},
    )
    simulation.join_all()
    began = simulation.time.now
    records = [
        claim(simulation, Identity.from_label(f"owner {number}"), f"agent-{number}")
        for number in range(scale(60, least=4))
    ]
    first = {id(node) for record in records for node in simulation.holders_of(record.key)}
    simulation.churn()

    simulation.run_for(began + 20 * HOUR - simulation.time.now)
    left = sum(id(node) in first for node in simulation.nodes if node not in simulation.entry_points)
    assert left <= len(first) / 5, "nearly all of the first holders are gone"
    for record in records:
        assert record.is_live(simulation.time.unix_now)
        assert simulation.get(simulation.some_node(), record.key).value == record.value

    # In the grace after the lease only the owner can come back to it: the record is still there to say so.
    simulation.run_for(began + 47 * HOUR - simulation.time.now)
    for record in records:
        assert not record.is_live(simulation.time.unix_now)
        assert simulation.get(simulation.some_node(), record.key).value == record.value

    simulation.run_for(began + 48 * HOUR + 1_200 - simulation.time.now)
    for record in records:
        assert simulation.get(simulation.some_node(), record.key).value is None
        assert simulation.holders_of(record.key) == []
