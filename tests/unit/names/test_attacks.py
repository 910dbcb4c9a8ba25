"""Who has read the source and wants a name: former owners, takers, liars, who hold back answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.unit.names.lease_world import DAY, HOUR, World
from tests.unit.names.test_lease_handover import give
from wws.identity.peer_id import PeerId
from wws.names.events import Accept, AcceptRefused, Claim, NameLost
from wws.names.kinds import NameRecords
from wws.names.lease import State
from wws.names.pins import Pins
from wws.names.receipts import Receipt
from wws.names.record import NameRecord
from wws.names.resolve import OwnerChanged, Resolved, resolve_name
from wws.names.transfers import Transfer
from wws.names.uri import NameTarget
from wws.names.witness.book import BookConfig
from wws.names.witness.messages import Op, Why, WitnessRefusal
from wws.names.witness.proofs import take_over
from wws.testing.names import ADDRESS, NOW, name_record, person, receipt, solved_work, transfer
from wws.testing.simulated_witnesses import SimulatedWitnesses
from wws.testing.witnesses import THREE, WitnessGroup, receipts_in


def record_with(
    owner: str,
    receipts: tuple[Receipt, ...],
    transfers: tuple[Transfer, ...] = (),
    *,
    issued_at: int,
    registered_at: int = NOW,
) -> NameRecord:
    """What the owner of these receipts can sign, whatever has happened since they were given."""
    return NameRecord.sign(
        person(owner),
        name="alice",
        swarm="public",
        addresses=(ADDRESS,),
        seq=issued_at,
        registered_at=registered_at,
        issued_at=issued_at,
        expires_at=min(receipt.expires_at for receipt in receipts),
        nonce=solved_work(owner),
        receipts=receipts,
        transfers=transfers,
    )


def round_trip(giver: str, seq: int) -> tuple[Transfer, ...]:
    """Eight transfers among keys of one person, back to the first."""
    keys = [giver, *(f"{giver} {number}" for number in range(7)), giver]
    return tuple(transfer(one, other, seq=seq + number) for number, (one, other) in enumerate(pairwise(keys)))


def test_a_giver_does_not_take_back_with_old_receipts_and_a_longer_chain() -> None:
    world = World(*THREE)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    entry = give(alice, "bob")
    old = alice.signed[-1].receipts
    bob.tell(Accept(entry))
    assert world.resolves_to("bob")
    alice.is_asleep = True
    rival = record_with("alice", old, round_trip("alice", NOW), issued_at=world.time.unix_now)
    world.put(rival.value)
    assert world.resolves_to("bob")
    world.run(2 * HOUR)
    assert not bob.said(NameLost)
    world.run(3 * DAY)
    assert world.resolves_to("bob")


def test_nor_a_middle_owner_with_a_record_that_leaves_out_or_makes_up_what_came_before() -> None:
    """Witnesses sign for the last transfer alone; what a record says came before it could pick any root."""
    world = World(*THREE)
    alice, bob, carol = world.owner(), world.owner("bob"), world.owner("carol")
    alice.tell(Claim())
    bob.tell(Accept(first := give(alice, "bob")))
    old = bob.signed[-1].receipts
    carol.tell(Accept(give(bob, "carol")))
    assert world.resolves_to("carol")
    alice.is_asleep = bob.is_asleep = True
    bare = record_with("bob", old, issued_at=world.time.unix_now)
    assert not world.kind.is_witnessed(bare)
    made_up = [
        record_with(
            "bob", old, (transfer(f"nobody {number}", "alice", seq=NOW - 9), first),
            issued_at=world.time.unix_now,
        )
        for number in range(8)
    ]  # fmt: skip
    assert world.record is not None
    for rival in (bare, *made_up):
        world.put(rival.value)
        assert world.resolves_to("carol")
    assert all(map(world.kind.is_witnessed, made_up))
    world.run(3 * DAY)
    assert carol.lease.state is not State.LOST
    assert world.resolves_to("carol")
    assert world.is_witnessed


def test_an_old_transfer_does_not_move_a_name_that_was_claimed_anew() -> None:
    group = WitnessGroup()
    kept = transfer("alice", "mallory", seq=NOW, at=NOW)
    group.claim("alice")
    group.advance(3 * DAY)
    group.claim("alice")
    answers = group.ask(Op.TRANSFER, "mallory", transfers=[kept])
    assert receipts_in(answers) == {}
    for answer in answers.values():
        assert isinstance(answer, WitnessRefusal)
        assert answer.error == Why.TRANSFER_REFUSED


def test_a_witness_that_missed_a_transfer_learns_of_it_at_the_next_renewal() -> None:
    """Else the giver, who is still its owner there, needs but one more witness with a lost disk."""
    group = WitnessGroup()
    given = group.claim("alice")
    link = transfer("alice", "bob", seq=group.unix_now)
    moved = group.ask(
        Op.TRANSFER, "bob", registered_at=NOW, transfers=[link], receipts=given.values(), only=THREE[:2]
    )
    renewed = group.ask(
        Op.RENEW, "bob", registered_at=NOW, transfers=[link], receipts=receipts_in(moved).values()
    )
    assert set(receipts_in(renewed)) == set(THREE)
    assert {receipt.via for receipt in receipts_in(renewed).values()} == {link.digest}
    # And with a fresh disk somewhere the giver gets no majority back.
    group.forget(THREE[0])
    back = group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=given.values())
    assert len(receipts_in(back)) <= 1
    healed = group.ask(
        Op.RENEW, "bob", registered_at=NOW, transfers=[link], receipts=receipts_in(renewed).values()
    )
    assert set(receipts_in(healed)) == set(THREE)


def test_an_old_transfer_does_not_move_a_pin_where_there_are_witnesses() -> None:
    """Bob had the name once, and gave it back. Alice's lease is dead, and he shows the entry of then."""
    kept = transfer("alice", "bob", seq=NOW)
    for labels in (THREE, ()):
        kind = NameRecords(SimulatedWitnesses(labels).sets)
        pins = Pins()
        pins.trust("wws.example", "public", "alice", person("alice").peer_id, NOW)
        record = name_record("bob", registered_at=NOW, issued_at=NOW + 9 * DAY, transfers=[kept])

        def resolved(record: NameRecord = record, kind: NameRecords = kind, pins: Pins = pins) -> Resolved:
            return resolve_name(
                NameTarget("alice"), record.value, NOW + 9 * DAY, kind=kind, pins=pins, domain="wws.example"
            )

        if not labels:  # the longer chain wins at once; the documentation says so
            assert resolved().owner_changed
            continue
        with pytest.raises(OwnerChanged):
            resolved()
        done = name_record(
            "bob", registered_at=NOW, issued_at=NOW + 9 * DAY, transfers=[kept], witnesses=THREE
        )
        assert resolved(done).owner_changed


def test_first_claims_that_go_nowhere_do_not_keep_others_from_new_names() -> None:
    """Names of its own, claimed again and again, cost whoever has many addresses nothing after the first."""
    group = WitnessGroup(THREE, BookConfig(max_provisional=5))
    squatters = [(f"mallory {number}", f"squat-{number}") for number in range(5)]
    for _ in range(3):
        for owner, name in squatters:
            group.ask(Op.CLAIM, owner, name=name)
        refused = group.ask(Op.CLAIM, "alice")
        assert {getattr(answer, "error", None) for answer in refused.values()} == {Why.WITNESS_FULL}
        group.advance(60)
        assert set(group.claim("alice", name="alice")) == set(THREE)
        group.advance(3 * DAY)


def test_nor_does_a_crowd_push_out_who_is_quick() -> None:
    group = WitnessGroup(THREE, BookConfig(max_provisional=5))
    provisional = receipts_in(group.ask(Op.CLAIM, "alice"))
    group.advance(59)
    for number in range(20):
        group.ask(Op.CLAIM, f"mallory {number}", name=f"squat-{number}")
    full = group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=provisional.values())
    assert set(receipts_in(full)) == set(THREE)


@pytest.mark.parametrize("below", [1, 2, 3])
@pytest.mark.parametrize("labels", [THREE, ()])
def test_a_name_with_a_number_that_cannot_be_followed_is_not_taken(
    labels: tuple[str, ...], below: int
) -> None:
    """Who gives it away chooses its number; of 2^53-1 there is no next one, and no renewal."""
    world = World(*labels)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    alice.is_asleep = True
    last = alice.signed[-1]
    number = 2**53 - below
    poisoned = NameRecord.sign(
        person("alice"),
        name="alice",
        swarm="public",
        addresses=(),
        seq=number,
        registered_at=last.registered_at,
        issued_at=last.issued_at,
        expires_at=last.expires_at,
        nonce=last.nonce,
        receipts=last.receipts,
    )
    world.put(poisoned.value)
    bob.tell(Accept(transfer("alice", "bob", seq=number)))
    [refused] = bob.said(AcceptRefused)
    assert isinstance(refused, AcceptRefused)
    assert refused.code == "transfer_refused"


def test_forged_receipts_of_one_witness_are_not_all_verified() -> None:
    good = [receipt(label, "alice") for label in THREE[:2]]
    forged = [replace(good[0], signature=bytes([number]) * 64) for number in range(30)]
    sets = (frozenset(person(label).peer_id for label in THREE), frozenset[PeerId]())
    key = ("public", "alice")
    assert take_over([*forged[:1], *good], sets, key, NOW, NOW) is not None
    assert take_over([*forged, *good], sets, key, NOW, NOW) is None
    looked_at = [one for one in forged if "is_signed_by_witness" in vars(one)]
    assert len(looked_at) <= 2


def test_an_owner_does_not_give_up_for_a_back_dated_record_that_no_witness_covers() -> None:
    """Cover ends while the witnesses are away; then it would be for them to say, not for a date."""
    world = World(*THREE)
    alice = world.owner()
    alice.tell(Claim())
    for witness in world.witnesses.all:
        witness.is_away = True
    world.run(3 * DAY)
    assert world.resolves_to("alice")
    assert not world.is_witnessed
    world.put(name_record("mallory", registered_at=NOW - DAY, issued_at=world.time.unix_now).value)
    assert world.resolves_to("mallory")  # the documentation says so
    world.run(6 * HOUR)
    assert not alice.said(NameLost)
    assert alice.delays[-1].code == Why.NAME_CONTESTED or alice.delays[-1].code == "witnesses_away"
    for witness in world.witnesses.all:
        witness.is_away = False
    world.run(HOUR)
    assert world.resolves_to("alice")
    assert world.is_witnessed


def test_who_renews_again_and_again_does_not_fill_the_log_of_a_witness() -> None:
    group = WitnessGroup(THREE[:1])
    (first,) = group.claim("mallory").values()
    rows = len(group.log[THREE[0]])
    for _ in range(299):
        group.advance(1)
        (again,) = receipts_in(group.ask(Op.RENEW, "mallory", registered_at=NOW)).values()
        assert again == first
    group.ask(Op.DROP, "mallory", registered_at=NOW)
    (again,) = receipts_in(group.ask(Op.CLAIM, "mallory")).values()
    assert again == first
    assert len(group.log[THREE[0]]) == rows
    group.advance(1)
    (later,) = receipts_in(group.ask(Op.RENEW, "mallory", registered_at=NOW)).values()
    assert later.expires_at == first.expires_at + 300
    assert len(group.log[THREE[0]]) == rows + 1


def test_who_has_lost_the_chain_of_a_name_gets_cover_when_the_old_lease_is_over() -> None:
    """State and record gone: what the witnesses know can cover nothing any more, and must not live on."""
    world = World(*THREE)
    alice, bob = world.owner(), world.owner("bob")
    alice.tell(Claim())
    bob.tell(Accept(give(alice, "bob")))
    world.run(2 * HOUR)
    bob.restart(forgets=True)
    world.value = None
    bob.tell(Claim())
    assert world.resolves_to("bob")
    assert not world.is_witnessed
    world.run(3 * DAY)
    assert world.resolves_to("bob")
    assert world.is_witnessed
