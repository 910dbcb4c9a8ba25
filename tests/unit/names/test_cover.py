"""Which receipts cover a record, and for how long; and what a round of answers amounts to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.names.cover import Cover, Panel, fitting
from wws.names.covering import (
    Contested,
    Covered,
    Covering,
    HeldByOther,
    NobodyKnows,
    Outcome,
    TransferRefused,
    Unsettled,
    WorkWanted,
)
from wws.names.events import AskWitnesses
from wws.names.lease_state import LeaseState
from wws.names.receipts import Receipt
from wws.names.record import NameRecord
from wws.names.rules import MAX_BYTES, MAX_LEASE
from wws.names.transfers import Transfer
from wws.names.witness.messages import Dropped, Op, Why, WitnessAnswer, WitnessAnswers, WitnessRefusal
from wws.testing.names import NOW, person, receipt, solved_work, transfer

ALICE, BOB = person("alice").peer_id, person("bob").peer_id


def peers(*labels: str) -> frozenset[PeerId]:
    return frozenset(person(label).peer_id for label in labels)


def cover(panel: Panel, *receipts: Receipt) -> Cover:
    return Cover.of(panel, receipts, owner=ALICE, name="alice", swarm="public", registered_at=NOW)


def lasting(witness: str, seconds: int) -> Receipt:
    return receipt(witness, "alice", expires_at=NOW + seconds)


THREE = Panel(peers("w1", "w2", "w3"))
CHANGED = Panel(peers("w4", "w5", "w6"), peers("w1", "w2", "w3"))


@pytest.mark.parametrize(
    "panel, agreeing, chosen",
    [
        (THREE, ["w1", "w2"], 2),
        (THREE, ["w1", "w2", "w3"], 2),
        (THREE, ["w1", "w4"], 0),
        (CHANGED, ["w4", "w5", "w6"], 0),
        (CHANGED, ["w1", "w2", "w3", "w4"], 0),
        (CHANGED, ["w1", "w2", "w4", "w5", "w6"], 4),
        (Panel(peers("w1", "w2", "w4"), peers("w1", "w2", "w3")), ["w1", "w2", "w3", "w4"], 2),
        (Panel(), ["w1"], 0),
    ],
)
def test_a_first_claim_takes_a_majority_of_each_set(panel: Panel, agreeing: list[str], chosen: int) -> None:
    found = panel.majorities(peers(*agreeing))
    assert found <= peers(*agreeing)
    assert len(found) == chosen


def test_a_majority_of_one_set_rules_a_first_claim_out() -> None:
    old = peers("w1", "w2")
    assert not CHANGED.is_ruled_out(old)
    assert CHANGED.is_ruled_out(old, first_claim=True)
    assert not CHANGED.is_ruled_out(peers("w1", "w4"), first_claim=True)
    assert not Panel().is_ruled_out(old, first_claim=True)


@pytest.mark.parametrize(
    "panel, receipts, ends",
    [
        (THREE, [("w1", 90), ("w2", 50), ("w3", 10)], 50),
        (THREE, [("w1", 90), ("w2", 50)], 50),
        (THREE, [("w1", 90)], 0),
        (THREE, [("w1", 90), ("w1", 80)], 0),
        (THREE, [("w1", 90), ("w4", 80)], 0),
        (Panel(peers("w1", "w2", "w3", "w4")), [("w1", 90), ("w2", 50), ("w3", 10)], 10),
        (CHANGED, [("w1", 90), ("w2", 50), ("w4", 70), ("w5", 60)], 60),
        (CHANGED, [("w1", 90), ("w4", 80), ("w5", 0)], 0),
        (Panel(), [("w1", 90)], 0),
    ],
)
def test_cover_ends_with_the_mth_largest_expiry(
    panel: Panel, receipts: list[tuple[str, int]], ends: int
) -> None:
    held = cover(panel, *(lasting(witness, seconds) for witness, seconds in receipts))
    assert held.expires_at == (NOW + ends if ends or held.expires_at else 0)
    chosen, needed = held.for_record(held.expires_at or NOW)
    assert (needed > 0) is (held.expires_at > 0)
    assert all(one.expires_at >= held.expires_at for one in chosen)
    assert held.for_record(held.expires_at + 1)[1] == 0 or held.expires_at == 0


@pytest.mark.parametrize(
    "bad",
    [
        receipt("w2", "bob", expires_at=NOW + 90),
        receipt("w2", "alice", name="bob", expires_at=NOW + 90),
        receipt("w2", "alice", swarm="lab", expires_at=NOW + 90),
        receipt("w2", "alice", registered_at=NOW - 1, expires_at=NOW + 90),
        receipt("w2", "alice", first_seen=NOW + 601, expires_at=NOW + 90),
        receipt("w2", "alice", provisional=True, expires_at=NOW + 90),
        replace(lasting("w2", 90), expires_at=NOW + 99),
        replace(lasting("w2", 90), signature=bytes(64)),
        lasting("stranger", 90),
    ],
)
def test_what_does_not_count(bad: Receipt) -> None:
    assert cover(THREE, lasting("w1", 90), bad).expires_at == 0
    assert cover(THREE, lasting("w1", 90), bad, lasting("w2", 40)).expires_at == NOW + 40


def test_the_best_receipt_of_each_witness_is_kept() -> None:
    held = cover(THREE, lasting("w1", 10), lasting("w1", 90), lasting("w2", 30), lasting("w1", 50))
    assert [one.expires_at - NOW for one in held.receipts] == [90, 30]


def test_a_panel_without_members_decides_nothing() -> None:
    assert not Panel().is_majority(peers("w1"))
    assert not Panel().is_ruled_out(peers("w1"))
    assert THREE.is_ruled_out(peers("w1", "w2"))
    assert not THREE.is_ruled_out(peers("w1"))
    assert not CHANGED.is_ruled_out(peers("w1", "w2", "w4"))


@pytest.mark.parametrize("witnesses, hands", [(3, 0), (3, 8), (9, 0), (16, 0), (16, 8)])
def test_whatever_is_in_it_a_record_fits_into_8_kib(witnesses: int, hands: int) -> None:
    """The longest names, sixteen long addresses, many witnesses, the longest chain."""
    name = swarm = "n" * 32
    labels = [f"w{number}" for number in range(witnesses)]
    panel = Panel(peers(*labels))
    chain = tuple(
        transfer(["alice", "bob"][i % 2], ["alice", "bob"][(i + 1) % 2], name=name, swarm=swarm, seq=NOW + i)
        for i in range(hands)
    )
    via = chain[-1].digest if chain else None
    receipts = [receipt(one, "alice", name=name, swarm=swarm, via=via) for one in labels]
    held = Cover.of(panel, receipts, owner=ALICE, name=name, swarm=swarm, registered_at=NOW, via=via)
    relay = f"/ip6/2001:db8:ffff:ffff:ffff:ffff:ffff:ff{{:02x}}/udp/65000/quic-v1/p2p/{BOB}/p2p-circuit"
    addresses = tuple(Multiaddr.parse(relay.format(i)).with_peer(ALICE) for i in range(16))
    chosen, needed = held.for_record(held.expires_at)
    kept, fitted = fitting(addresses, chosen, chain, needed=needed)
    record = NameRecord.sign(
        person("alice"),
        name=name,
        swarm=swarm,
        addresses=kept,
        seq=NOW + 100,
        registered_at=NOW,
        issued_at=NOW,
        expires_at=held.expires_at - 1,
        nonce=solved_work("alice", name, swarm),
        receipts=fitted,
        transfers=chain,
    )
    assert len(record.value) <= MAX_BYTES
    if (witnesses, hands) != (16, 8):
        assert len(fitted) >= needed
        assert kept


# Rounds


LEASE = LeaseState("alice", "public", NOW, NOW, solved_work("alice"), NOW)


def refused(why: str, **more: object) -> WitnessRefusal:
    return WitnessRefusal(why, **more)  # type: ignore[arg-type]


TAKEN = refused(Why.NAME_TAKEN, holder=BOB)
RIVAL = refused(Why.NAME_CONTESTED, holder=BOB, retry_after=60)
WEAK = refused(Why.WORK_TOO_WEAK, required_bits=18)
BUDGET = refused(Why.BUDGET_OWNER, retry_after=900)
LOST = refused(Why.NO_FIRST_CLAIMS, retry_after=MAX_LEASE)
GRANTED = "granted"
FULL = "full"


def said(
    word: object, label: str, *, registered_at: int = NOW, via: str | None = None
) -> WitnessAnswer | None:
    if word in (GRANTED, FULL):
        return receipt(
            label, "alice", registered_at=registered_at, provisional=word == GRANTED, via=via,
            first_seen=NOW, expires_at=NOW + MAX_LEASE,
        )  # fmt: skip
    assert word is None or isinstance(word, WitnessRefusal | Dropped)
    return word


def answers(*words: object, via: str | None = None) -> WitnessAnswers:
    return tuple(
        (person(f"w{number}").peer_id, said(word, f"w{number}", via=via))
        for number, word in enumerate(words, 1)
    )


def covering() -> Covering:
    return Covering(ALICE, "alice", "public", lambda: (THREE.witnesses, THREE.before))


@pytest.mark.parametrize(
    "words, outcome",
    [
        ((TAKEN, TAKEN, None), HeldByOther(BOB)),
        ((TAKEN, TAKEN, GRANTED), HeldByOther(BOB)),
        ((TAKEN, RIVAL, GRANTED), Contested(BOB)),
        ((RIVAL, RIVAL, None), Contested(BOB)),
        ((WEAK, WEAK, GRANTED), WorkWanted(18)),
        ((WEAK, GRANTED, None), WorkWanted(18)),
        ((WEAK, WEAK, TAKEN), WorkWanted(18)),
        ((WEAK, None, None), Unsettled(LEASE, "witnesses_away")),
        ((BUDGET, BUDGET, None), Unsettled(LEASE, "budget_owner", 900)),
        ((LOST, LOST, GRANTED), Unsettled(LEASE, "no_first_claims", MAX_LEASE)),
        ((LOST, None, GRANTED), Unsettled(LEASE, "no_first_claims")),
        # One that lies does not tell us how long to wait for one that is away.
        ((BUDGET, GRANTED, None), Unsettled(LEASE, "budget_owner")),
        ((TAKEN, None, None), Unsettled(LEASE, "witnesses_away")),
        ((None, None, None), Unsettled(LEASE, "witnesses_away")),
        ((Dropped(), Dropped(), Dropped()), Unsettled(LEASE, "witnesses_away")),
        # Nobody is told to work for what no work can bring, nor more than anybody does.
        ((replace(WEAK, required_bits=60),) * 3, Unsettled(LEASE, "work_too_weak")),
        ((replace(WEAK, required_bits=1),) * 3, Unsettled(LEASE, "work_too_weak")),
        # Nonsense: that it is ours does not speak against us.
        ((replace(TAKEN, holder=ALICE),) * 3, Unsettled(LEASE, "name_taken")),
    ],
)
def test_what_a_claim_comes_to(words: tuple[object, ...], outcome: Outcome) -> None:
    conversation = covering()
    asked = conversation.begin(LEASE, NOW)
    assert asked.request.op is Op.CLAIM
    result = conversation.answered(answers(*words), NOW + 1)
    if GRANTED in words:
        # What was granted is given back first.
        assert isinstance(result, AskWitnesses)
        assert result.request.op is Op.DROP
        result = conversation.answered(answers(Dropped(), Dropped(), None), NOW + 2)
    assert result == outcome


def test_one_witness_that_lies_about_work_costs_nothing() -> None:
    conversation = covering()
    conversation.begin(LEASE, NOW)
    result = conversation.answered(answers(GRANTED, GRANTED, replace(WEAK, required_bits=24)), NOW + 1)
    assert isinstance(result, AskWitnesses)
    assert result.request.op is Op.RENEW
    assert len(result.request.receipts) == 2


@pytest.mark.parametrize("later", [60, 300])
def test_a_claim_that_one_made_full_goes_on_where_it_was(later: int) -> None:
    """Two granted, one heard that both had. The next try is as of the same time, so that the third can join;
    when that is too long ago, it shows the same receipts again."""
    conversation = covering()
    conversation.begin(LEASE, NOW)
    first = conversation.answered(answers(GRANTED, GRANTED, None), NOW + 1)
    assert isinstance(first, AskWitnesses)
    assert conversation.answered(answers(FULL, None, None), NOW + 2) == Unsettled(LEASE, "witnesses_away")
    again: object = conversation.begin(replace(LEASE, seq=NOW + 9), NOW + later)
    assert isinstance(again, AskWitnesses)
    assert again.request.registered_at == NOW
    if later == 60:
        assert again.request.op is Op.CLAIM
        again = conversation.answered(answers(FULL, None, GRANTED), NOW + later + 1)
        assert isinstance(again, AskWitnesses)
        assert len(again.request.receipts) == 2
    else:
        assert again.request == first.request
    covered = conversation.answered(answers(FULL, FULL, None), NOW + later + 2)
    assert isinstance(covered, Covered)
    assert (covered.lease.registered_at, len(covered.lease.receipts)) == (NOW, 2)


def test_a_renewal_adds_to_what_is_held_and_a_claim_follows_when_all_is_forgotten() -> None:
    held = replace(LEASE, receipts=(lasting("w1", 500), lasting("w2", 500)))
    unknown = refused(Why.NOT_CLAIMED)
    conversation = covering()
    assert conversation.begin(held, NOW + 100).request.op is Op.RENEW
    covered = conversation.answered(answers(FULL, FULL, None), NOW + 101)
    assert isinstance(covered, Covered)
    assert conversation.cover_of(covered.lease).expires_at == NOW + MAX_LEASE
    conversation.begin(held, NOW + 100)
    kept = conversation.answered(answers(None, FULL, None), NOW + 101)
    assert isinstance(kept, Unsettled)
    assert conversation.cover_of(kept.lease).expires_at == NOW + 500
    conversation.begin(held, NOW + 100)
    assert isinstance(conversation.answered(answers(unknown, unknown, unknown), NOW + 101), Unsettled)
    conversation.begin(held, NOW + 600)
    claim = conversation.answered(answers(unknown, unknown, None), NOW + 601)
    assert isinstance(claim, AskWitnesses)
    assert (claim.request.op, claim.request.registered_at) == (Op.CLAIM, NOW + 601)


ENTRY: Transfer = transfer("bob", "alice", seq=NOW - 9)
DOUBLE = refused(Why.DOUBLE_TRANSFER, holder=BOB)


@pytest.mark.parametrize(
    "words, via, outcome",
    [
        ((FULL, FULL, None), ENTRY.digest, Covered),
        ((FULL, FULL, FULL), None, Unsettled),
        ((FULL, FULL, FULL), "0" * 64, Unsettled),
        ((FULL, None, None), ENTRY.digest, Unsettled),
        ((DOUBLE, DOUBLE, FULL), ENTRY.digest, TransferRefused("double_transfer", BOB)),
        ((DOUBLE, FULL, FULL), ENTRY.digest, Covered),
        ((refused(Why.TRANSFER_REFUSED),) * 2 + (None,), None, TransferRefused("transfer_refused", None)),
        ((refused(Why.NOT_CLAIMED),) * 2 + (None,), None, NobodyKnows()),
        ((WEAK, WEAK, FULL), ENTRY.digest, WorkWanted(18)),
        ((TAKEN, TAKEN, None), None, HeldByOther(BOB)),
        ((RIVAL, RIVAL, None), None, Unsettled),
    ],
)
def test_what_taking_up_a_transfer_comes_to(
    words: tuple[object, ...], via: str | None, outcome: Outcome | type[Outcome]
) -> None:
    conversation = covering()
    asked = conversation.begin(replace(LEASE, transfers=(ENTRY,)), NOW, given_by=(receipt("w1", "bob"),))
    assert (asked.request.op, asked.request.transfers) == (Op.TRANSFER, (ENTRY,))
    result = conversation.answered(answers(*words, via=via), NOW + 1)
    assert isinstance(result, outcome) if isinstance(outcome, type) else result == outcome


def test_receipts_of_a_transfer_add_up_over_several_tries() -> None:
    conversation = covering()
    first = conversation.begin(replace(LEASE, transfers=(ENTRY,)), NOW, given_by=())
    assert first.request.op is Op.TRANSFER
    result = conversation.answered(answers(FULL, None, None, via=ENTRY.digest), NOW + 1)
    assert isinstance(result, Unsettled)
    conversation.begin(result.lease, NOW + 60, given_by=())
    assert isinstance(conversation.answered(answers(None, None, FULL, via=ENTRY.digest), NOW + 61), Covered)
