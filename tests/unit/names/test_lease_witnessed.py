"""A lease and its witnesses: claims, renewals, what happens while they are away, and what is never signed."""

from __future__ import annotations

from random import Random

import pytest

from tests.unit.names.lease_world import DAY, HOUR, World
from wws.names.events import (
    Claim,
    CoverDelayed,
    LookUp,
    NameContested,
    NameHeld,
    NameLost,
    NameReleased,
    NameTaken,
    Release,
    Renew,
    WitnessesChanged,
)
from wws.names.lease import State
from wws.names.record import GRACE
from wws.names.witness.messages import Op, WitnessRequest
from wws.testing.names import NOW, name_record, person, solved_work
from wws.testing.scale import scale

THREE = ("w1", "w2", "w3")


def test_a_claim_with_a_majority_of_witnesses() -> None:
    world = World(*THREE)
    alice = world.owner()
    [held] = alice.tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed
    assert [one.request.op for one in alice.asked] == [Op.CLAIM, Op.RENEW]
    assert len(alice.signed[0].receipts) == 3
    assert world.is_witnessed
    assert held.expires_at <= NOW + DAY + 1


def test_one_witness_of_three_may_be_away() -> None:
    world = World(*THREE)
    world.witnesses["w2"].is_away = True
    [held] = world.owner().tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed


def test_away_witnesses_leave_the_name_uncovered_and_cover_it_when_they_are_back() -> None:
    world = World(*THREE)
    for label in ("w1", "w2"):
        world.witnesses[label].is_away = True
    alice = world.owner()
    delayed, held = alice.tell(Claim())
    assert isinstance(delayed, CoverDelayed)
    assert delayed.code == "witnesses_away"
    assert isinstance(held, NameHeld)
    assert not held.witnessed
    for _ in range(40):
        world.run(60)
        assert world.resolves_to("alice")
    assert all(delay.delay <= 330 for delay in alice.delays)
    assert len(alice.delays) >= 8
    world.witnesses["w1"].is_away = False
    world.run(400)
    assert world.is_witnessed
    assert alice.lease.witnessed
    assert alice.signed[-1].registered_at > alice.signed[0].registered_at


def test_where_witnesses_decide_a_claim_does_not_search_far_and_wide() -> None:
    for labels in ((), THREE):
        world = World(*labels)
        lease = world.owner().lease
        assert lease.handle(Claim(), 0, NOW) == [LookUp(world.key, widely=not labels)]


def test_a_name_of_another_is_taken() -> None:
    world = World(*THREE)
    world.owner("bob").tell(Claim())
    alice = world.owner()
    [taken] = alice.tell(Claim())
    assert isinstance(taken, NameTaken)
    assert alice.asked == []
    # The same when only the witnesses know.
    world.value = None
    [taken] = alice.tell(Claim())
    assert isinstance(taken, NameTaken)
    assert taken.holder == person("bob").peer_id


def test_a_record_without_cover_does_not_stop_a_claim_while_witnesses_can_be_asked() -> None:
    world = World(*THREE)
    back_dated = name_record("bob", registered_at=NOW - 50_000, issued_at=NOW - 10)
    world.value = back_dated.value
    [held] = world.owner().tell(Claim())
    assert isinstance(held, NameHeld)
    assert world.resolves_to("alice")


def test_a_record_without_cover_stops_a_claim_that_gets_none_either() -> None:
    world = World(*THREE)
    for witness in world.witnesses.all:
        witness.is_away = True
    world.value = name_record("bob", registered_at=NOW - 50).value
    [taken] = world.owner().tell(Claim())
    assert isinstance(taken, NameTaken)
    assert taken.holder == person("bob").peer_id


def test_a_contested_name_goes_to_one_of_them() -> None:
    world = World(*THREE)
    owners = [world.owner(label) for label in ("alice", "bob", "carol")]
    # Each comes to another witness first: nobody has a majority.
    for owner, label in zip(owners, THREE, strict=True):
        for other in THREE:
            world.witnesses[other].is_away = other != label
        owner.tell(Claim(), 0.35)
    for other in THREE:
        world.witnesses[other].is_away = False
    for owner in owners:
        owner.tell(Claim(), 0)
    world.run(400)
    holding = [owner for owner in owners if owner.lease.is_held]
    assert len(holding) == 1
    assert world.is_witnessed
    assert world.resolves_to(holding[0].label)
    for owner in owners:
        assert owner in holding or owner.said(NameTaken) or owner.said(NameLost)


@pytest.mark.parametrize("seed", range(scale(200, least=10)))
def test_whoever_comes_when_one_gets_a_contested_name(seed: int) -> None:
    """Each witness hears of the claims in another order; now and then two leave for a while in between."""
    world = World("w1", "w2", "w3", "w4", "w5")
    world.rng = Random(seed)
    world.witness_delay = world.rng.choice([0.3, 1.0, 3.0])
    owners = [world.owner(label) for label in ("alice", "bob", "carol")]
    for owner in owners:
        owner.tell(Claim(), world.rng.choice([0.0, 0.1, 0.7]))
    for witness in world.witnesses.all[:2]:
        witness.is_away = world.rng.random() < 0.3
    world.run(300)
    for witness in world.witnesses.all:
        witness.is_away = False
    # A first claim that nobody could drop lasts ten minutes, and then its owner has to rest as long.
    world.run(HOUR)
    holding = [owner for owner in owners if owner.lease.is_held]
    assert len(holding) == 1
    assert world.is_witnessed
    assert world.resolves_to(holding[0].label)
    for owner in owners:
        assert owner in holding or owner.lease.state in (State.TAKEN, State.LOST)


def test_a_contest_is_given_up_after_a_while() -> None:
    world = World("w1")
    bob = world.owner("bob")
    bob.tell(Claim(), 0.25)
    bob.is_asleep = True
    alice = world.owner()
    alice.tell(Claim(), 60)
    contested = alice.said(NameContested)
    assert contested
    assert isinstance(contested[0], NameContested)
    assert contested[0].holder == person("bob").peer_id
    assert contested[0].retry_after is not None
    assert 1 <= contested[0].retry_after <= 10
    world.run(300)
    assert alice.lease.state is State.TAKEN
    assert alice.said(NameContested)[-1] == NameContested(person("bob").peer_id, None)
    assert len(alice.said(NameContested)) == 21


def test_more_work_is_done_when_a_majority_wants_it() -> None:
    world = World(*THREE)
    world.witnesses.swarm_size = 400
    alice = world.owner()
    [held] = alice.tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed
    assert [one.request.op for one in alice.asked] == [Op.CLAIM, Op.CLAIM, Op.RENEW]


def test_a_budget_that_is_spent_leaves_the_name_uncovered_until_it_is_not() -> None:
    world = World(*THREE)
    alice = world.owner()
    for number in range(5):
        for witness in world.witnesses.all:
            request = claim_of(f"other-{number}")
            witness.answer(request, person("alice").peer_id, 0, NOW)
    delayed, held = alice.tell(Claim())
    assert isinstance(delayed, CoverDelayed)
    assert delayed.code == "budget_owner"
    assert delayed.delay == 3_600
    assert isinstance(held, NameHeld)
    assert not held.witnessed
    world.run(DAY + HOUR)
    assert world.is_witnessed


def test_renewals_keep_it_covered_and_the_age_stays() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    for _ in range(72):
        world.run(HOUR)
        assert world.is_witnessed
        assert world.record is not None
        assert world.record.is_live(world.time.unix_now)
    assert {record.registered_at for record in alice.signed} == {NOW}
    renewals = [one for one in alice.asked[2:] if one.request.op is Op.RENEW]
    assert 8 <= len(renewals) <= 10


def test_leases_get_shorter_while_witnesses_are_away_and_then_go_uncovered() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    world.run(9 * HOUR)
    end = alice.signed[-1].expires_at
    world.witnesses["w1"].is_away = world.witnesses["w2"].is_away = True
    while world.time.unix_now < end:
        world.run(600)
        assert world.resolves_to("alice")
        assert all(record.expires_at <= end for record in alice.signed if record.receipts)
    covered = [record for record in alice.signed if record.receipts][-1]
    world.run(600)
    # The last covered record resolves until it is dead; what is signed meanwhile claims no cover.
    assert not alice.signed[-1].receipts
    assert world.record is not None
    assert world.record.expires_at == covered.expires_at
    assert alice.lease.is_held
    world.run(10 * HOUR)
    assert world.resolves_to("alice")
    world.witnesses["w1"].is_away = False
    world.run(400)
    assert world.is_witnessed
    assert world.record.is_live(world.time.unix_now)
    # The witnesses knew it still: it has its age.
    assert alice.signed[-1].registered_at == NOW


def test_away_for_days_the_name_is_kept_and_comes_back_by_a_new_claim() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    for witness in world.witnesses.all:
        witness.is_away = True
    # Seconds after the last covered record is dead the one without cover takes its place.
    world.run(60)
    for _ in range(4 * 24):
        world.run(HOUR)
        assert world.resolves_to("alice")
    assert not world.is_witnessed
    for witness in world.witnesses.all:
        witness.is_away = False
    world.run(400)
    assert world.is_witnessed
    assert world.record is not None
    assert world.record.registered_at > NOW + 4 * DAY - HOUR
    assert not alice.said(NameLost)


def test_receipts_of_yesterday_count_beside_those_of_today() -> None:
    """One witness after the other can be asked; the record follows the second best receipt."""
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    for awake in ("w1", "w2", "w3", "w1"):
        for label in THREE:
            world.witnesses[label].is_away = label != awake
        world.run(9 * HOUR)
        assert world.is_witnessed
        assert world.record is not None
        assert world.record.is_live(world.time.unix_now)
    assert {record.registered_at for record in alice.signed} == {NOW}


def test_a_majority_of_the_witnesses_before_counts_and_the_new_ones_are_told_soon() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    world.witnesses.change(["w4", "w5", "w6"])
    asked = len(alice.asked)
    alice.tell(WitnessesChanged(), 605)
    assert len(alice.asked) > asked
    assert world.is_witnessed
    world.witnesses.forget_before()
    assert world.is_witnessed
    assert {receipt.witness for receipt in alice.signed[-1].receipts} >= {
        person(label).peer_id for label in ("w4", "w5")
    }


def test_witnesses_that_appear_and_that_go() -> None:
    world = World()
    alice = world.owner()
    [held] = alice.tell(Claim())
    assert not held.witnessed  # type: ignore[attr-defined]
    world.witnesses.change(THREE)
    alice.tell(WitnessesChanged(), 600)
    assert world.is_witnessed
    world.witnesses.change([])
    world.witnesses.forget_before()
    alice.tell(WitnessesChanged(), 3 * DAY)
    assert world.resolves_to("alice")
    assert world.record is not None
    assert world.record.is_live(world.time.unix_now)


def test_a_lost_disk_is_taken_over_from_receipts() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    for label in THREE:
        world.witnesses[label].lose_disk()
    [held] = alice.tell(Renew())
    assert isinstance(held, NameHeld)
    assert held.witnessed
    assert alice.signed[-1].registered_at == NOW


@pytest.mark.parametrize("hours", [20, 30, 47])
def test_asleep_for_hours_keeps_the_name_and_its_age(hours: int) -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    alice.is_asleep = True
    world.run(hours * HOUR)
    bob = world.owner("bob")
    [taken] = bob.tell(Claim())
    assert isinstance(taken, NameTaken)
    assert world.resolves_to("alice")
    alice.wake()
    world.run(90)
    assert world.is_witnessed
    assert world.record is not None
    assert world.record.is_live(world.time.unix_now)
    assert world.record.registered_at == NOW


def test_after_the_grace_the_name_is_anybodys() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    alice.is_asleep = True
    world.run(2 * DAY + 1_000)
    bob = world.owner("bob")
    [held] = bob.tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed
    alice.wake()
    world.run(90)
    assert alice.lease.state in (State.TAKEN, State.LOST)


def test_lost_state_is_found_again_with_its_receipts() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    alice.restart(forgets=True)
    world.run(HOUR)
    [held] = alice.tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed
    assert (alice.signed[-1].registered_at, len(alice.signed)) == (NOW, 2)
    assert alice.state is not None
    assert len(alice.state.receipts) == 3


def test_lost_state_and_no_record_either() -> None:
    """The witnesses give the old lease back."""
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    alice.restart(forgets=True)
    world.value = None
    world.run(HOUR)
    [held] = alice.tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed
    assert alice.signed[-1].registered_at == NOW


def test_resumes_from_its_state_while_the_witnesses_are_away() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    for witness in world.witnesses.all:
        witness.is_away = True
    alice.restart()
    delayed, held = alice.tell(Claim())[:2]
    assert isinstance(delayed, CoverDelayed)
    assert isinstance(held, NameHeld)
    assert held.witnessed
    assert world.is_witnessed


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_clock_that_jumps_a_day_and_back(jump: int) -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    world.run(2 * DAY)
    alice.skew = jump
    world.run(3 * HOUR)
    assert world.resolves_to("alice")
    alice.skew = 0
    world.run(HOUR)
    assert alice.lease.is_held
    assert world.is_witnessed
    assert world.record is not None
    assert world.record.is_live(world.time.unix_now)
    assert world.record.registered_at == NOW
    assert not alice.said(NameLost)


def test_a_release_is_covered_to_the_end_of_what_it_releases() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    held = alice.signed[-1]
    [released] = alice.tell(Release())
    assert isinstance(released, NameReleased)
    assert world.record is not None
    assert world.record.released
    assert world.is_witnessed
    assert world.record.expires_at >= held.expires_at
    [taken] = world.owner("bob").tell(Claim())
    assert isinstance(taken, NameTaken)
    assert taken.released
    # The same owner may take it up again.
    [again] = alice.tell(Claim())
    assert isinstance(again, NameHeld)
    assert again.witnessed
    assert world.record.registered_at == NOW


def test_a_released_name_is_free_when_the_cool_down_is_over() -> None:
    world = World(*THREE)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    [released] = alice.tell(Release())
    assert isinstance(released, NameReleased)
    world.run(released.free_at - world.time.unix_now - 60)
    assert isinstance(bob.tell(Claim())[-1], NameTaken)
    world.run(1_200)
    [held] = bob.tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed


def test_a_release_in_the_grace_is_renewed_first() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    alice.is_asleep = True
    world.run(DAY + HOUR)
    alice.restart()
    alice.is_asleep = False
    asked = len(alice.asked)
    [released] = alice.tell(Release())
    assert isinstance(released, NameReleased)
    assert [one.request.op for one in alice.asked[asked:]] == [Op.RENEW]
    assert world.record is not None
    assert world.record.released
    assert world.is_witnessed
    assert released.free_at >= world.time.unix_now + GRACE - 60


def test_a_release_during_a_claim_leaves_no_entry_behind() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim(), 0.25)
    assert alice.lease.state is State.ASKING
    [released] = alice.tell(Release())
    assert isinstance(released, NameReleased)
    assert all(not witness.book.entries for witness in world.witnesses.all)
    assert world.value is None


def test_two_of_three_forget_and_the_receipts_at_hand_go_on() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    world.run(DAY)
    for witness in world.witnesses.all:
        witness.is_away = True
    world.run(HOUR)
    for witness in world.witnesses.all:
        witness.is_away = False
        witness.lose_disk()
    world.run(2 * DAY)
    assert world.is_witnessed
    assert alice.signed[-1].registered_at == NOW


def test_answers_that_get_lost_do_no_harm() -> None:
    """The witnesses have made the claim full, and the owner has not heard of it."""
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim(), 0.35)
    assert alice.asked[-1].request.op is Op.RENEW
    alice.restart(forgets=True)
    world.run(30)
    [held] = alice.tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed


def claim_of(name: str) -> WitnessRequest:
    return WitnessRequest(Op.CLAIM, "public", name, solved_work("alice", name), NOW)
