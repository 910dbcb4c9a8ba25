"""Witnesses that are away, forget, lie, or are replaced, while names are claimed and kept in a swarm.

What is promised after each failure: names go on, nobody else gets them, and when the witnesses are back they
are under cover again by themselves.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.sim.named_swarm import THREE, NamedSwarm, is_witnessed, said
from tests.sim.upkeep import HOUR
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.names.events import CoverDelayed, NameHeld, NameLost, NameTaken, WitnessesChanged
from wws.names.pins import Pins
from wws.names.receipts import Receipt
from wws.names.record import NameRecord, work_context
from wws.names.resolve import OwnerChanged
from wws.names.rules import MAX_LEASE
from wws.names.witness.log import contradict
from wws.names.witness.messages import Op, WitnessRequest
from wws.testing.scale import scale
from wws.testing.simulated_names import SimulatedLease

COVERED_AGAIN = 600
"""Seconds until names are witnessed again once enough witnesses are back: pauses grow to five minutes."""
NODES = 16


def owners(swarm: NamedSwarm) -> list[SimulatedLease]:
    return [swarm.held(f"agent-{number}") for number in range(scale(30, least=3))]


def ages(leases: list[SimulatedLease]) -> list[int]:
    records = [lease.lease.record for lease in leases]
    return [record.registered_at for record in records if record is not None]


def kept(swarm: NamedSwarm, leases: list[SimulatedLease], *, witnessed: bool) -> None:
    """Every name resolves to its owner, live, with or without cover."""
    for lease in leases:
        answer = swarm.resolve(lease.lease.name)
        assert (answer.peer_id, answer.witnessed, answer.stale) == (lease.node.peer_id, witnessed, False)
        assert said(lease, NameLost) == []


def refused(swarm: NamedSwarm, name: str) -> None:
    """A rival comes, and does not get the name."""
    rival = swarm.lease(name)
    swarm.run(20)
    rival.claim()
    swarm.run(60)
    assert not rival.lease.is_held
    assert said(rival, NameTaken) != [], rival.reports
    swarm.leave(rival)


def test_with_one_witness_of_three_dead_all_goes_on() -> None:
    swarm = NamedSwarm(NODES, seed=71)
    leases = owners(swarm)
    began = ages(leases)
    swarm.witnesses["w2"].is_away = True
    for _ in range(3):
        swarm.run(12 * HOUR)
        kept(swarm, leases, witnessed=True)
    new = swarm.held("new")
    refused(swarm, leases[0].lease.name)
    assert ages(leases) == began
    assert all(said(lease, CoverDelayed) == [] for lease in [*leases, new])
    swarm.check()


def test_with_two_of_three_dead_names_go_on_and_are_covered_when_one_is_back() -> None:
    swarm = NamedSwarm(NODES, seed=72)
    leases = owners(swarm)
    began = ages(leases)
    swarm.run(6 * HOUR)
    swarm.witnesses["w1"].is_away = swarm.witnesses["w2"].is_away = True
    # The receipts at hand are used up to their end: a day after the last renewal.
    swarm.run(14 * HOUR)
    kept(swarm, leases, witnessed=True)
    new = swarm.lease("new")
    swarm.run(20)
    new.claim()
    swarm.run(60)
    assert new.lease.is_held
    assert not is_witnessed(new)
    # Then names go on without; the last covered record resolves as stale until the owner's new one wins.
    swarm.run(12 * HOUR)
    assert not any(is_witnessed(lease) for lease in leases)
    for lease in leases:
        assert lease.lease.is_held
        assert swarm.resolve(lease.lease.name).peer_id == lease.node.peer_id
    swarm.witnesses["w2"].is_away = False
    swarm.run(COVERED_AGAIN)
    assert all(is_witnessed(lease) for lease in [*leases, new])
    kept(swarm, [*leases, new], witnessed=True)
    assert ages(leases) == began
    swarm.check()


def test_all_dead_for_days_and_one_disk_lost() -> None:
    """A day without witnesses, and one of them comes back knowing nothing: it learns from the receipts."""
    swarm = NamedSwarm(NODES, seed=73)
    leases = owners(swarm)
    began = ages(leases)
    for label in THREE:
        swarm.witnesses[label].is_away = True
    swarm.run(20 * HOUR)
    swarm.witnesses["w3"].lose_disk()
    for label in THREE:
        swarm.witnesses[label].is_away = False
    # Even before the owners come: the two who remember are a majority.
    refused(swarm, leases[0].lease.name)
    swarm.run(COVERED_AGAIN)
    kept(swarm, leases, witnessed=True)
    assert ages(leases) == began
    entries = swarm.witnesses["w3"].book.entries
    for lease, registered_at in zip(leases, began, strict=True):
        entry = entries["public", lease.lease.name]
        assert (entry.owner, entry.registered_at) == (lease.node.peer_id, registered_at)
    swarm.check()


# Witnesses that lie


class Mallory:
    """An attacker who asks lying witnesses, and signs and stores what a shipped node would not."""

    def __init__(self, swarm: NamedSwarm, name: str) -> None:
        self.swarm = swarm
        self.name = name
        self.identity = Identity.from_label("mallory")
        self.node = swarm.join(self.identity)
        self.nonce = proof_of_work.solve(
            work_context(name, "public"), self.identity.peer_id.did, proof_of_work.LEAST_BITS
        )
        swarm.run(20)

    def claim(self) -> list[Receipt]:
        """The full receipts that come of a claim at all witnesses, whatever the DHT says."""
        swarm, unix_now = self.swarm, self.swarm.time.unix_now
        receipts: tuple[Receipt, ...] = ()
        for op in (Op.CLAIM, Op.RENEW):
            request = WitnessRequest(op, "public", self.name, self.nonce, unix_now, receipts=receipts)
            answers = swarm.witnesses.ask(request, self.identity.peer_id, swarm.time.now, unix_now)
            receipts = tuple(answer for _, answer in answers if isinstance(answer, Receipt))
        return [receipt for receipt in receipts if not receipt.provisional]

    def steal(self, registered_at: int) -> NameRecord:
        """The best record that the witnesses give to this claim, as old as it likes; stored."""
        swarm, unix_now = self.swarm, self.swarm.time.unix_now
        request = WitnessRequest(Op.CLAIM, "public", self.name, self.nonce, registered_at)
        answers = swarm.witnesses.ask(request, self.identity.peer_id, swarm.time.now, unix_now)
        record = NameRecord.sign(
            self.identity,
            name=self.name,
            swarm="public",
            addresses=(self.node.place.address,),
            seq=unix_now,
            registered_at=registered_at,
            issued_at=unix_now,
            expires_at=unix_now + MAX_LEASE,
            nonce=self.nonce,
            receipts=[answer for _, answer in answers if isinstance(answer, Receipt)],
        )
        swarm.simulation.put(self.node, record.key, record.value)
        swarm.run(10)
        return record


@pytest.mark.parametrize("older", [HOUR, 0])
def test_one_witness_that_lies_changes_nothing(older: int) -> None:
    swarm = NamedSwarm(NODES, seed=74)
    leases = owners(swarm)
    alice = leases[0]
    swarm.witnesses["w2"].lies = True
    stolen = Mallory(swarm, alice.lease.name).steal(ages([alice])[0] - older)
    assert len(stolen.receipts) == 1
    swarm.run(9 * HOUR)
    kept(swarm, leases, witnessed=True)
    assert swarm.watch.witnessed(alice.lease.name) == {alice.node.peer_id}
    swarm.check()


def test_two_witnesses_that_lie_steal_what_nobody_has_pinned_and_leave_the_proof() -> None:
    swarm = NamedSwarm(NODES, seed=75)
    alice, *others = owners(swarm)
    name = alice.lease.name
    pins = Pins()
    swarm.resolve(name, pins=pins)
    before = swarm.find(name)
    swarm.witnesses["w1"].lies = swarm.witnesses["w3"].lies = True
    mallory = Mallory(swarm, name)
    mallory.steal(ages([alice])[0] - HOUR)

    # Who has never met the name is deceived: that is what a majority can do...
    assert swarm.resolve(name).peer_id == mallory.identity.peer_id
    # ... who has met it is not...
    for _ in range(3):
        with pytest.raises(OwnerChanged):
            swarm.resolve(name, pins=pins)
    # ... and whoever has seen both records has the proof of who did it, and against nobody else.
    after = swarm.find(name)
    assert before is not None
    assert after is not None
    proven = {
        one.witness for one, other in product(before.receipts, after.receipts) if contradict(one, other)
    }
    assert proven == {swarm.witnesses["w1"].peer_id, swarm.witnesses["w3"].peer_id}
    assert swarm.watch.conflicts != []
    assert {conflict.name for conflict in swarm.watch.conflicts} == {name}
    # The owner is told, and nobody else's name is touched.
    swarm.run(2 * HOUR)
    assert isinstance(alice.reports[-1], CoverDelayed | NameLost)
    kept(swarm, others, witnessed=True)


# Other witnesses


def replaced(swarm: NamedSwarm, leases: list[SimulatedLease], labels: list[str]) -> None:
    """The bundle names others from now on; everybody hears of it within a minute or so."""
    known = set(swarm.witnesses.all)
    swarm.witnesses.change(labels)
    swarm.watch.check_all()
    places = [node.place for node in swarm.simulation.entry_points]
    for number, witness in enumerate(one for one in swarm.witnesses.all if one not in known):
        witness.place = places[number % len(places)]
    for lease in leases:
        swarm.time.after(swarm.rng.uniform(0, 60), lease.tell, WitnessesChanged())


@pytest.mark.parametrize("labels", [["w1", "w2", "w4"], ["w1", "w4", "w5"], ["w4", "w5", "w6"]])
def test_no_name_is_without_cover_while_witnesses_change(labels: list[str]) -> None:
    swarm = NamedSwarm(NODES, seed=76)
    leases = owners(swarm)
    began = ages(leases)
    swarm.run(5 * HOUR)
    replaced(swarm, leases, labels)
    for _ in range(8):
        kept(swarm, leases, witnessed=True)
        swarm.run(90)
    # Within ten minutes all of the new ones know: W' is not needed any more.
    for label, lease in product(labels, leases):
        assert swarm.witnesses[label].book.entries["public", lease.lease.name].owner == lease.node.peer_id
    for _ in range(4):
        swarm.run(12 * HOUR)
        kept(swarm, leases, witnessed=True)
    swarm.witnesses.forget_before()
    swarm.watch.check_all()
    kept(swarm, leases, witnessed=True)
    swarm.run(10 * HOUR)
    kept(swarm, leases, witnessed=True)
    assert ages(leases) == began
    assert all(isinstance(lease.reports[-1], NameHeld) for lease in leases)
    swarm.check()


def test_an_owner_who_sleeps_while_one_witness_is_replaced_keeps_the_name() -> None:
    swarm = NamedSwarm(NODES, seed=77)
    lease = swarm.held("agent")
    (began,) = ages([lease])
    swarm.leave(lease)
    replaced(swarm, [], ["w1", "w2", "w4"])
    refused(swarm, "agent")
    swarm.run(20 * HOUR)
    refused(swarm, "agent")
    back = swarm.come_back(lease)
    swarm.run(30)
    assert is_witnessed(back)
    assert ages([back]) == [began]
    swarm.witnesses.forget_before()
    kept(swarm, [back], witnessed=True)
    swarm.check()


@pytest.mark.parametrize("is_awake", [True, False])
@pytest.mark.parametrize("labels", [["w1", "w2", "w4"], ["w1", "w4", "w5"], ["w4", "w5", "w6"]])
def test_nobody_gets_a_name_from_new_witnesses_before_its_owner_comes(
    labels: list[str], is_awake: bool
) -> None:
    """The attacker asks them in the very moment in which they are named, and the old ones again and again."""
    swarm = NamedSwarm(NODES, seed=78)
    lease = swarm.held("agent")
    (began,) = ages([lease])
    swarm.run(HOUR)
    if not is_awake:
        swarm.leave(lease)
    mallory = Mallory(swarm, "agent")
    replaced(swarm, [lease] if is_awake else [], labels)
    assert mallory.claim() == []
    for _ in range(3):
        swarm.run(5 * HOUR)
        assert mallory.claim() == []
    if not is_awake:
        lease = swarm.come_back(lease)
        swarm.run(30)
    assert ages([lease]) == [began]
    swarm.run(48 * HOUR - swarm.time.now % HOUR)
    swarm.witnesses.forget_before()
    swarm.watch.check_all()
    assert mallory.claim() == []
    kept(swarm, [lease], witnessed=True)
    swarm.check()


def test_new_names_are_covered_while_witnesses_change_and_after_most_of_the_old_ones_died() -> None:
    """A first claim takes a majority of both sets: where the old one is dead it is covered two days later."""
    swarm = NamedSwarm(NODES, seed=79)
    replaced(swarm, [], ["w1", "w4", "w5"])
    assert is_witnessed(swarm.held("early"))
    swarm.witnesses["w2"].is_away = swarm.witnesses["w3"].is_away = True
    late = swarm.lease("late")
    swarm.run(20)
    late.claim()
    swarm.run(60)
    assert late.lease.is_held
    assert not is_witnessed(late)
    assert swarm.resolve("late").peer_id == late.node.peer_id
    swarm.run(48 * HOUR)
    swarm.witnesses.forget_before()
    late.tell(WitnessesChanged())
    swarm.run(COVERED_AGAIN)
    kept(swarm, [late], witnessed=True)
    swarm.check()
