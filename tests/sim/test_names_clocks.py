"""Clocks that jump by a day, forward and back: at owners, holders, a witness, a client of a swarm.

While a clock is wrong its own machine may see names wrongly, or not at all; everybody else sees every name
with its owner, and no rival gets one. Once it is right again all is as before within `RECOVERED`, with the
same `registered_at`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.sim.named_swarm import NamedSwarm, is_witnessed, said
from tests.sim.upkeep import HOUR
from wws.names.events import NameLost
from wws.names.pins import Pins
from wws.names.resolve import NameNotFound
from wws.testing.scale import scale
from wws.testing.simulated_names import SimulatedLease
from wws.testing.simulated_node import SimulatedNode

DAY = 24 * HOUR
RECOVERED = 600
"""Seconds from the moment in which a clock is right again until all is as if it had never been wrong."""
NODES = 24


class Stories:
    """Owners who have held their names for a while, and rivals who would like to."""

    def __init__(self, seed: int) -> None:
        self.swarm = NamedSwarm(NODES, seed=seed)
        self.leases = [self.swarm.held(f"agent-{number}") for number in range(scale(30, least=3))]
        self.began = [self.age(lease) for lease in self.leases]
        self.swarm.run(5 * HOUR)
        self.wrong: list[SimulatedNode] = []

    def age(self, lease: SimulatedLease) -> int:
        record = lease.lease.record
        assert record is not None
        return record.registered_at

    def jump(self, nodes: Iterable[SimulatedNode], seconds: int) -> None:
        for node in nodes:
            node.ahead += seconds
            self.wrong.append(node)

    def set_right(self) -> None:
        for node in self.wrong:
            node.ahead = 0
        self.wrong = []

    def right_node(self) -> SimulatedNode:
        """One whose clock was never touched."""
        while (node := self.swarm.simulation.some_node()).ahead:
            pass
        return node

    def seen_by_others(self) -> None:
        """Whoever has the right time sees every name with its owner, live, and rivals get none."""
        for lease in self.leases:
            answer = self.swarm.resolve(lease.lease.name, node=self.right_node())
            assert (answer.peer_id, answer.stale) == (lease.node.peer_id, False)
        rival = self.swarm.lease(self.leases[0].lease.name)
        self.swarm.run(20)
        rival.claim()
        self.swarm.run(60)
        assert not rival.lease.is_held, rival.reports
        self.swarm.leave(rival)

    def as_before(self) -> None:
        """All names are held, covered, live, and as old as they were."""
        for lease, began in zip(self.leases, self.began, strict=True):
            assert lease.lease.is_held, lease.reports
            assert is_witnessed(lease), lease.reports
            assert self.age(lease) == began
            assert said(lease, NameLost) == []
            answer = self.swarm.resolve(lease.lease.name)
            assert (answer.peer_id, answer.witnessed, answer.stale) == (lease.node.peer_id, True, False)
        self.swarm.check()


@pytest.mark.parametrize("jump", [DAY, -DAY])
@pytest.mark.parametrize("hours", [0.2, 3])
def test_owners_whose_clocks_jump_keep_their_names(jump: int, hours: float) -> None:
    stories = Stories(seed=81)
    stories.jump([lease.node for lease in stories.leases[1:]], jump)
    for _ in range(3):
        stories.swarm.run(hours * HOUR / 3)
        stories.seen_by_others()
    stories.set_right()
    stories.swarm.run(RECOVERED)
    stories.as_before()


@pytest.mark.parametrize("jump", [DAY, -DAY])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_holders_whose_clocks_jump_lose_no_name(jump: int, share: float) -> None:
    """Half of all nodes, or all but the owners: then nobody is left to ask until the clocks are right."""
    stories = Stories(seed=82)
    swarm = stories.swarm
    owners = {lease.node for lease in stories.leases}
    others = [node for node in swarm.simulation.nodes if node not in owners]
    stories.jump(swarm.rng.sample(others, round(share * len(others))), jump)
    for _ in range(3):
        swarm.run(HOUR)
        if share < 1:
            stories.seen_by_others()
    stories.set_right()
    swarm.run(RECOVERED)
    stories.as_before()


@pytest.mark.parametrize("jump", [DAY, -DAY])
@pytest.mark.parametrize("when", [0, 20])
def test_a_witness_whose_clock_jumps_changes_nothing(jump: int, when: int) -> None:
    stories = Stories(seed=83)
    swarm = stories.swarm
    swarm.run(when * HOUR)
    witness = swarm.witnesses["w2"]
    witness.ahead = jump
    for _ in range(4):
        swarm.run(6 * HOUR)
        stories.seen_by_others()
    new = swarm.held("new")
    witness.ahead = 0
    swarm.run(RECOVERED)
    stories.leases.append(new)
    stories.began.append(stories.age(new))
    stories.as_before()
    # Its receipts of that time free nothing and hold nothing longer than others' do, for long.
    swarm.run(12 * HOUR)
    stories.seen_by_others()
    stories.as_before()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_client_whose_clock_jumps_is_never_shown_another_owner(jump: int) -> None:
    stories = Stories(seed=84)
    swarm, pins = stories.swarm, Pins()
    client = swarm.join()
    swarm.run(30)
    for lease in stories.leases[1:]:
        swarm.resolve(lease.lease.name, node=client, pins=pins)
    stories.jump([client], jump)
    for lease in stories.leases:
        try:
            answer = swarm.resolve(lease.lease.name, node=client, pins=pins)
        except NameNotFound:
            assert jump < 0, "a day behind, what was signed since is from the future"
        else:
            assert answer.peer_id == lease.node.peer_id
            assert answer.stale is (jump > 0)
    stories.set_right()
    for lease in stories.leases:
        answer = swarm.resolve(lease.lease.name, node=client, pins=pins)
        assert (answer.peer_id, answer.stale, answer.owner_changed) == (lease.node.peer_id, False, False)
    stories.as_before()


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_rival_whose_clock_is_wrong_gets_no_name_of_an_owner_who_sleeps(jump: int) -> None:
    """A day ahead the name looks free to it, a day behind its claim looks older than the owner's."""
    stories = Stories(seed=85)
    swarm, lease = stories.swarm, stories.leases[0]
    swarm.leave(lease)
    swarm.run(26 * HOUR)
    rival = swarm.lease(lease.lease.name)
    swarm.run(20)
    stories.jump([rival.node], jump)
    rival.claim()
    for _ in range(2):
        swarm.run(HOUR)
        assert not rival.lease.is_held
        answer = swarm.resolve(lease.lease.name, node=stories.right_node())
        assert (answer.peer_id, answer.stale, answer.witnessed) == (lease.node.peer_id, True, True)
    stories.set_right()
    swarm.run(RECOVERED)
    assert not rival.lease.is_held
    stories.leases[0] = swarm.come_back(lease)
    swarm.run(30)
    stories.as_before()
