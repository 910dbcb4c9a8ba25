"""Many owners who want one name at the same moment, and networks that part owners from witnesses.

Whatever happens: no two owners are ever witnessed at once. `OwnersWatch` looks at every receipt that leaves.
"""

from __future__ import annotations

import pytest

from tests.sim.named_swarm import THREE, NamedSwarm, is_witnessed, said
from tests.sim.upkeep import HOUR
from wws.names.events import Claim, NameContested, NameLost, NameTaken, Release
from wws.names.lease import State
from wws.names.record import KEPT_AFTER_EXPIRY
from wws.names.rules import MAX_LEASE
from wws.testing.scale import scale
from wws.testing.simulated_names import SimulatedLease

ROUNDS = 10
"""Times that a claimant is told `contested`, at most, before somebody has the name."""


def ready(swarm: NamedSwarm, name: str, count: int) -> list[SimulatedLease]:
    """Claimants, joined each at a place of its own."""
    claimants = [swarm.lease(name) for _ in range(count)]
    swarm.run(30)
    return claimants


def winners(claimants: list[SimulatedLease]) -> list[SimulatedLease]:
    return [one for one in claimants if one.lease.is_held and is_witnessed(one)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [2, 3, 5, scale(100, least=10)])
@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_of_all_who_come_at_once_one_gets_the_name(count: int, spread: float) -> None:
    """Without `spread` they come at the same instant, each of them beside another witness: none of them is
    the first at two, as long as they are lucky."""
    swarm = NamedSwarm(16, seed=40 + count)
    for number in range(scale(50, least=3)):
        name = f"agent-{number}"
        claimants = ready(swarm, name, count)
        for index, one in enumerate(claimants):
            beside = swarm.simulation.entry_points[index % 3].place
            if not spread:
                one.node.place.x, one.node.place.y = beside.x, beside.y
            swarm.time.after(swarm.rng.uniform(0, spread), one.claim)
        swarm.run(150)
        assert len(winners(claimants)) == 1, [one.reports for one in claimants]
        (winner,) = winners(claimants)
        assert max(len(said(one, NameContested)) for one in claimants) <= ROUNDS
        for one in claimants:
            if one is not winner:
                assert isinstance(one.reports[-1], NameTaken | NameLost), one.reports
        assert swarm.resolve(name).peer_id == winner.node.peer_id
        for one in claimants:
            swarm.leave(one)
    swarm.check()


def test_who_is_on_the_side_of_two_witnesses_has_the_name() -> None:
    """The other side's owner publishes what no witness covers, and gives way when the network is whole."""
    swarm = NamedSwarm(30, seed=51)
    alice, bob = ready(swarm, "agent", 2)
    nodes = swarm.simulation.nodes
    others = [node for node in nodes if node.place.index >= 3 and node not in (alice.node, bob.node)]
    small = [swarm.simulation.entry_points[2], bob.node, *others[::2]]
    swarm.part([], small)
    swarm.run(60)
    bob.claim()
    swarm.run(60)
    assert bob.lease.is_held
    assert not is_witnessed(bob)
    alice.claim()
    swarm.run(60)
    assert is_witnessed(alice)
    swarm.simulation.heal()
    swarm.run(2 * HOUR)
    assert is_witnessed(alice)
    assert isinstance(bob.reports[-1], NameLost), bob.reports
    assert swarm.resolve("agent").peer_id == alice.node.peer_id
    swarm.check()


def test_three_sides_with_a_witness_each_cover_nobody_until_they_meet() -> None:
    swarm = NamedSwarm(36, seed=52)
    claimants = ready(swarm, "agent", 3)
    side_of = {one.node: number for number, one in enumerate(claimants)}
    side_of |= {node: number for number, node in enumerate(swarm.simulation.entry_points)}
    swarm.simulation.part(lambda node: side_of.get(node, node.place.index % 3))
    swarm.run(60)
    for one in claimants:
        one.claim()
    swarm.run(HOUR)
    assert winners(claimants) == []
    assert swarm.watch.witnessed("agent") == frozenset()
    swarm.simulation.heal()
    swarm.run(2 * HOUR)
    (winner,) = winners(claimants)
    assert [one.lease.is_held for one in claimants].count(True) == 1
    assert swarm.resolve("agent").peer_id == winner.node.peer_id
    swarm.check()


@pytest.mark.timeout(1_800)
def test_no_two_owners_are_ever_witnessed_whatever_fails_and_whenever() -> None:
    """Witnesses cut off, deaf and mute, and one that loses its disk, at random moments of claims, renewals
    and releases. It takes no first claims until what it may have promised is over: where another was away
    when it did, it alone had known."""
    for seed in range(scale(20, least=2)):
        swarm = NamedSwarm(12, seed=60 + seed)
        rng, names = swarm.rng, [f"agent-{number}" for number in range(4)]
        owners = [swarm.lease(name) for name in names for _ in range(3)]
        swarm.run(30)
        for step in range(scale(200, least=30)):
            trouble(swarm, step)
            for one in rng.sample(owners, 4):
                act(swarm, one)
            swarm.run(rng.choice([1, 3, 10, 60, 1_800, 8 * HOUR]))
        swarm.simulation.heal()
        for label in THREE:
            swarm.witnesses[label].is_away = swarm.witnesses[label].loses_answers = False
        swarm.run(2 * HOUR)
        for name in names:
            assert len(swarm.watch.witnessed(name)) <= 1
            held = [one for one in owners if one.lease.name == name and one.lease.state is State.HELD]
            assert len(held) <= 1
            if swarm.watch.witnessed(name):
                assert all(is_witnessed(one) for one in held), [one.reports[-3:] for one in held]
        swarm.check()


def trouble(swarm: NamedSwarm, step: int) -> None:
    """Something else is wrong from now on."""
    rng = swarm.rng
    witness = swarm.witnesses[rng.choice(THREE)]
    match rng.randrange(6):
        case 0:
            witness.is_away = not witness.is_away
        case 1:
            witness.loses_answers = not witness.loses_answers
        case 2 if step % 8 == 0:
            over = swarm.time.unix_now + MAX_LEASE + KEPT_AFTER_EXPIRY
            swarm.witnesses["w3"].lose_disk(claims_from=over)
        case 3:
            side = {node.place.index: rng.randrange(2) for node in swarm.simulation.nodes}
            swarm.simulation.part(lambda node: side[node.place.index])
        case _:
            swarm.simulation.heal()


def act(swarm: NamedSwarm, one: SimulatedLease) -> None:
    """An owner gives its name back, or wants it."""
    one.tell(Release() if one.lease.is_held and swarm.rng.random() < 0.3 else Claim())
