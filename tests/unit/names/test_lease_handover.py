"""A name that changes hands: given away, taken up, refused; with witnesses and without."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.unit.names.lease_world import DAY, HOUR, Owner, World
from wws.machine import Command
from wws.names import transfers
from wws.names.errors import DoubleTransfer, NotHeldHere, RecordRefused, TransferImpossible
from wws.names.events import (
    Accept,
    AcceptRefused,
    Claim,
    NameHeld,
    NameLost,
    NameReleased,
    NameTaken,
    NameTransferred,
    Release,
    Renew,
    RetryScheduled,
    Transfer,
    TransferSigned,
)
from wws.names.lease import State
from wws.names.transfers import MAX_TRANSFERS
from wws.names.witness.messages import Op
from wws.testing.names import NOW, person, transfer

THREE = ("w1", "w2", "w3")
BOB = person("bob").peer_id
CAROL = person("carol").peer_id


def give(owner: Owner, to: str) -> transfers.Transfer:
    owner.tell(Transfer(person(to).peer_id), 0)
    signed = owner.said(TransferSigned)[-1]
    assert isinstance(signed, TransferSigned)
    return signed.entry


def settled(reports: list[Command]) -> list[Command]:
    return [report for report in reports if not isinstance(report, RetryScheduled)]


@pytest.mark.parametrize("labels", [(), THREE])
def test_a_name_goes_to_another(labels: tuple[str, ...]) -> None:
    world = World(*labels)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    entry = give(alice, "bob")
    assert (entry.from_peer, entry.to_peer, entry.seq) == (
        person("alice").peer_id,
        BOB,
        alice.signed[-1].seq,
    )
    assert alice.state is not None
    assert alice.state.given == entry
    assert world.resolves_to("alice")
    [held] = bob.tell(Accept(entry))
    assert isinstance(held, NameHeld)
    assert held.witnessed is bool(labels)
    assert world.resolves_to("bob")
    assert world.record is not None
    assert world.record.registered_at == NOW
    assert world.record.transfers == (entry,)
    for receipt in world.record.receipts:
        assert receipt.via == entry.digest
    world.run(60)  # it looks again soon, not only with its hourly look
    assert alice.said(NameTransferred) == [NameTransferred(BOB)]
    assert alice.lease.state is State.TRANSFERRED
    assert alice.state is None
    # A name that came by transfer lives on like any other.
    world.run(3 * DAY)
    assert world.resolves_to("bob")
    assert world.is_witnessed is bool(labels)
    back = give(bob, "alice")
    [held] = settled(alice.tell(Accept(back)))
    assert isinstance(held, NameHeld)
    assert world.resolves_to("alice")
    assert world.record.transfers == (entry, back)
    [released] = settled(alice.tell(Release()))
    assert isinstance(released, NameReleased)
    assert world.record.released
    world.run(2 * HOUR)
    assert bob.said(NameTransferred)


def test_the_same_promise_again_and_no_second_one() -> None:
    world = World(*THREE)
    alice = world.owner()
    with pytest.raises(NotHeldHere):
        alice.tell(Transfer(BOB))
    alice.tell(Claim())
    with pytest.raises(TransferImpossible):
        alice.tell(Transfer(person("alice").peer_id))
    entry = give(alice, "bob")
    world.run(12 * HOUR)
    assert give(alice, "bob") == entry
    with pytest.raises(DoubleTransfer) as refusal:
        alice.tell(Transfer(CAROL))
    assert refusal.value.code == "double_transfer"
    alice.restart()
    alice.tell(Claim())
    assert give(alice, "bob") == entry
    with pytest.raises(DoubleTransfer):
        alice.tell(Transfer(CAROL))
    # The entry is older than the records since; it goes on all the same.
    [held] = world.owner("bob").tell(Accept(entry))
    assert isinstance(held, NameHeld)


def test_the_giver_keeps_the_name_until_it_is_taken_up() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    give(alice, "bob")
    world.run(3 * DAY)
    assert world.resolves_to("alice")
    assert world.is_witnessed
    assert alice.lease.is_held


def test_without_a_majority_the_giver_has_it_and_the_taker_goes_on_trying() -> None:
    world = World(*THREE)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    entry = give(alice, "bob")
    world.witnesses["w1"].is_away = world.witnesses["w2"].is_away = True
    reports = bob.tell(Accept(entry), 1_800)
    assert all(isinstance(report, RetryScheduled) for report in reports)
    assert world.resolves_to("alice")
    world.run(12 * HOUR)
    assert world.resolves_to("alice")
    assert alice.lease.is_held
    world.witnesses["w1"].is_away = False
    world.run(400)
    assert world.resolves_to("bob")
    assert bob.lease.witnessed
    world.run(2 * HOUR)
    assert alice.lease.state is State.TRANSFERRED


def test_the_taker_goes_on_after_a_restart() -> None:
    world = World(*THREE)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    entry = give(alice, "bob")
    for witness in world.witnesses.all:
        witness.is_away = True
    bob.tell(Accept(entry), 60)
    bob.restart()
    for witness in world.witnesses.all:
        witness.is_away = False
    bob.tell(Claim(), 20)
    assert world.resolves_to("bob")
    assert bob.state is not None
    assert bob.state.accepting is None
    bob.restart()
    [held] = bob.tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed


def test_the_witnesses_refuse_a_second_transfer() -> None:
    """Alice has promised the name twice: with another machine, or another program."""
    world = World(*THREE)
    alice, bob, carol = world.owner(), world.owner("bob"), world.owner("carol")
    alice.tell(Claim())
    first = give(alice, "bob")
    second = transfer("alice", "carol", seq=first.seq, at=world.time.unix_now)
    bob.tell(Accept(first))
    [taken] = settled(carol.tell(Accept(second)))
    assert isinstance(taken, NameTaken)
    assert taken.holder == BOB
    # Even when the record of the first is not found yet.
    world.value = alice.signed[-1].value
    [refused] = settled(carol.tell(Accept(second)))
    assert isinstance(refused, AcceptRefused)
    assert refused.code == "double_transfer"
    assert carol.lease.state is State.TAKEN


def test_who_gave_it_away_while_no_one_looked_is_told_by_the_witnesses() -> None:
    """The giver slept until its cover had passed; the record of the taker is not in its half of the mesh."""
    world = World(*THREE)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    old = alice.signed[-1].value
    entry = give(alice, "bob")
    alice.is_asleep = True
    bob.tell(Accept(entry))
    world.run(DAY + HOUR)
    bob.is_asleep = True
    world.value = old
    alice.wake()
    world.run(120)
    assert alice.said(NameTransferred) == [NameTransferred(BOB)]


def test_while_its_receipts_last_the_giver_looks_before_it_gives_up() -> None:
    world = World(*THREE)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    old = alice.signed[-1].value
    bob.tell(Accept(give(alice, "bob")))
    newer, world.value = world.value, old
    alice.tell(Renew(), 30)
    assert alice.lease.is_held
    world.value = newer
    alice.tell(Renew(), 30)
    assert alice.said(NameTransferred) == [NameTransferred(BOB)]


def test_a_transfer_of_what_no_witness_ever_covered() -> None:
    """The longer chain wins at once; the taker gets cover by a claim of its own, which begins with it: no
    witness has seen the transfer."""
    world = World(*THREE)
    for witness in world.witnesses.all:
        witness.is_away = True
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    entry = give(alice, "bob")
    alice.is_asleep = True
    world.run(60)
    for witness in world.witnesses.all:
        witness.is_away = False
    bob.tell(Accept(entry), 600)
    assert world.resolves_to("bob")
    assert world.is_witnessed
    assert world.record is not None
    assert any(one.transfers == (entry,) for one in bob.signed)
    assert world.record.transfers == ()
    assert Op.TRANSFER in [one.request.op for one in bob.asked]
    alice.wake()
    world.run(2 * HOUR)
    assert alice.lease.state is State.TRANSFERRED


def test_witnesses_that_lost_their_disks_learn_from_the_givers_receipts() -> None:
    world = World(*THREE)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    entry = give(alice, "bob")
    for witness in world.witnesses.all:
        witness.lose_disk()
    [held] = bob.tell(Accept(entry))
    assert isinstance(held, NameHeld)
    assert held.witnessed
    assert world.record is not None
    assert world.record.registered_at == NOW


def test_offers_that_are_none() -> None:
    world = World()
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    for entry in (
        transfer("alice", "carol"),
        transfer("alice", "bob", name="bob"),
        transfer("alice", "bob", swarm="lab"),
    ):
        with pytest.raises(RecordRefused):
            bob.tell(Accept(entry))
    assert bob.lease.state is State.IDLE
    [taken] = settled(bob.tell(Accept(transfer("carol", "bob"))))
    assert isinstance(taken, NameTaken)
    assert taken.holder == person("alice").peer_id
    with pytest.raises(TransferImpossible):
        alice.tell(Accept(transfer("bob", "alice")))
    # Given back before it was taken up.
    entry = give(alice, "bob")
    alice.tell(Release())
    [refused] = settled(bob.tell(Accept(entry)))
    assert isinstance(refused, AcceptRefused)
    assert refused.code == "transfer_refused"


def test_an_offer_whose_giver_is_not_found_is_given_up_in_the_end() -> None:
    world = World()
    bob = world.owner("bob")
    bob.tell(Accept(transfer("alice", "bob")), 3 * HOUR)
    assert isinstance(bob.reports[-1], AcceptRefused)
    assert bob.lease.state is State.TAKEN
    assert bob.state is None
    assert len(bob.said(RetryScheduled)) == 9


def test_accepting_can_be_called_off_and_waits_for_what_is_under_way() -> None:
    world = World()
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    entry = give(alice, "bob")
    bob.tell(Claim(), 0.05)
    assert bob.lease.state is State.LOOKING
    bob.tell(Accept(entry), 0.1)
    assert bob.tell(Accept(entry), 0) == []
    [released] = bob.tell(Release())
    assert isinstance(released, NameReleased)
    assert world.resolves_to("alice")
    [held] = bob.tell(Accept(entry))
    assert isinstance(held, NameHeld)
    assert bob.tell(Accept(entry)) == [held]


@pytest.mark.parametrize("labels", [(), THREE])
def test_eight_hands_and_no_more(labels: tuple[str, ...]) -> None:
    world = World(*labels)
    people = ["alice", "bob"] * 5
    owners = {label: world.owner(label) for label in ("alice", "bob")}
    owners["alice"].tell(Claim())
    for giver, taker in pairwise(people[: MAX_TRANSFERS + 1]):
        entry = give(owners[giver], taker)
        assert isinstance(settled(owners[taker].tell(Accept(entry), 30))[-1], NameHeld)
        world.run(2 * HOUR)
        assert owners[giver].lease.state is State.TRANSFERRED
        assert world.is_witnessed is bool(labels)
    assert world.record is not None
    assert len(world.record.transfers) == MAX_TRANSFERS
    with pytest.raises(TransferImpossible) as refusal:
        owners["alice"].tell(Transfer(CAROL))
    assert refusal.value.code == "transfer_refused"
    world.run(DAY)
    assert world.resolves_to("alice")
    assert world.is_witnessed is bool(labels)
    assert not owners["alice"].said(NameLost)


def test_several_names_of_one_owner_do_not_touch_each_other() -> None:
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    second = World(name="second", beside=world)
    [held] = second.owner().tell(Claim())
    assert isinstance(held, NameHeld)
    assert held.witnessed
    bob = world.owner("bob")
    bob.tell(Accept(give(alice, "bob")))
    world.run(2 * DAY)
    assert world.resolves_to("bob")
    assert second.resolves_to("alice")
    assert world.is_witnessed
    assert second.is_witnessed
