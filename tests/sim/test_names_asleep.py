"""Names whose owners are away for a day and a half, in a swarm that changes its nodes meanwhile.

A lease lasts a day, its grace another. For so long the witnesses keep the name for its owner, and the holders
its record; then, and only then, others can have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.sim.named_swarm import NamedSwarm, is_witnessed, said
from tests.sim.upkeep import HOUR
from wws.names.events import NameTaken
from wws.names.resolve import NameNotFound
from wws.testing.scale import scale
from wws.testing.simulated_names import SimulatedLease

FAST, SLOW = 2 * HOUR, 64 * HOUR
"""Half-lives: half of the nodes leave within two hours once names are claimed, and at that pace they go on
when names are looked for and rivals come. Fewer leave in the hours between, in which records are handed on
and nothing else would be proved."""
LEASE = GRACE = 24 * HOUR
UNTIL_FREE = LEASE + 87_000
"""Seconds from a receipt to the moment at which its witness lets others have the name."""


@dataclass
class Sleeper:
    lease: SimulatedLease
    registered_at: int
    free_at: float


def asleep(swarm: NamedSwarm, name: str) -> Sleeper:
    """A name that is claimed, and whose owner goes away at once."""
    lease = swarm.held(name)
    swarm.leave(lease)
    record = lease.lease.record
    assert record is not None
    return Sleeper(lease, record.registered_at, swarm.time.now + UNTIL_FREE)


def claimed_in_vain(swarm: NamedSwarm, name: str, owner: SimulatedLease) -> None:
    """A rival comes, is told whose the name is, and leaves."""
    rival = swarm.lease(name)
    swarm.run(20)
    rival.claim()
    swarm.run(10)
    (taken,) = said(rival, NameTaken)
    assert isinstance(taken, NameTaken)
    assert taken.holder == owner.node.peer_id
    swarm.leave(rival)


@pytest.mark.timeout(1_800)
def test_owners_offline_for_36_hours_keep_their_names_and_no_longer_than_48() -> None:
    swarm = NamedSwarm(scale(1_000, least=100), seed=31)
    simulation, time = swarm.simulation, swarm.time
    simulation.churn(half_life=FAST)
    sleepers = [asleep(swarm, f"agent-{number}") for number in range(scale(60, least=6))]
    first = {id(node) for node in simulation.nodes}
    began = time.now
    swarm.run(began + 2 * HOUR - time.now)
    simulation.churn(half_life=SLOW)
    swarm.run(began + 35.5 * HOUR - time.now)
    simulation.churn(half_life=FAST)
    swarm.run(began + 36 * HOUR - time.now)
    left = sum(id(node) in first for node in simulation.nodes)
    assert left < 0.6 * len(first)

    for number, sleeper in enumerate(sleepers):
        name = sleeper.lease.lease.name
        answer = swarm.resolve(name)
        assert answer.peer_id == sleeper.lease.node.peer_id
        assert (answer.stale, answer.witnessed) == (True, True)
        if number % 2 == 0:
            claimed_in_vain(swarm, name, sleeper.lease)

    # A third come back in time. They renew what they had: `registered_at` stays, and with it their age.
    back = [swarm.come_back(sleeper.lease) for sleeper in sleepers[::3]]
    swarm.run(30)
    for lease, sleeper in zip(back, sleepers[::3], strict=True):
        assert is_witnessed(lease), lease.reports
        record = swarm.find(lease.lease.name)
        assert record is not None
        assert record.registered_at == sleeper.registered_at
        answer = swarm.resolve(lease.lease.name)
        assert (answer.peer_id, answer.stale) == (lease.node.peer_id, False)
    away = [sleeper for sleeper in sleepers if sleeper not in sleepers[::3]]

    # Ten minutes before the witnesses let go nobody can have the others' names, and then anybody.
    simulation.churn(half_life=SLOW)
    swarm.run(min(sleeper.free_at for sleeper in away) - 600 - time.now)
    for sleeper in away[:: scale(10, least=1)]:
        if time.now < sleeper.free_at - 60:
            claimed_in_vain(swarm, sleeper.lease.lease.name, sleeper.lease)
    swarm.run(max(sleeper.free_at for sleeper in away) + 60 - time.now)
    for sleeper in away:
        name = sleeper.lease.lease.name
        with pytest.raises(NameNotFound):
            swarm.resolve(name)
        new = swarm.held(name)
        assert swarm.resolve(name).peer_id == new.node.peer_id
    late = swarm.come_back(away[0].lease)
    swarm.run(30)
    assert said(late, NameTaken), late.reports

    # Who came back keeps the name for as long as it stays.
    for lease in back:
        answer = swarm.resolve(lease.lease.name)
        assert (answer.peer_id, answer.witnessed, answer.stale) == (lease.node.peer_id, True, False)
    swarm.check()
