"""The book of a witness: conversations, every operation in every state, budgets, clocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from wws.identity import proof_of_work
from wws.identity.proof_of_work import bits_for
from wws.names.receipts import Receipt
from wws.names.record import work_context
from wws.names.witness.book import BookConfig
from wws.names.witness.budget import Budget, BudgetConfig, Turns
from wws.names.witness.entry import Caller, Counted, Entry
from wws.names.witness.log import Kind
from wws.names.witness.messages import Dropped, Op, Why, WitnessAnswer, WitnessRefusal, WitnessRequest
from wws.names.witness.steady import SteadyClock
from wws.testing.names import NOW, person, receipt, solved_work, transfer
from wws.testing.witnesses import THREE, WitnessGroup, receipts_in

DAY = 86_400
ONE, TWO, LAST = THREE
ALICE, BOB, CAROL = (person(label).peer_id for label in ("alice", "bob", "carol"))


def words(answers: dict[str, WitnessAnswer]) -> set[str]:
    """What was refused, by word; `receipt` and `dropped` for what was not."""
    return {
        str(answer.error) if isinstance(answer, WitnessRefusal) else type(answer).__name__.lower()
        for answer in answers.values()
    }


def only(answers: dict[str, WitnessAnswer]) -> WitnessRefusal:
    """The refusal that all of them gave."""
    (answer,) = set(answers.values())
    assert isinstance(answer, WitnessRefusal)
    return answer


def one_receipt(answers: dict[str, WitnessAnswer]) -> Receipt:
    (answer,) = answers.values()
    assert isinstance(answer, Receipt), answer
    return answer


# Conversations


def test_a_name_is_claimed_and_renewed() -> None:
    group = WitnessGroup()
    provisional = receipts_in(group.ask(Op.CLAIM, "alice"))
    assert len(provisional) == 3
    for label, given in provisional.items():
        assert given.provisional
        assert (given.owner, given.witness) == (ALICE, person(label).peer_id)
        assert (given.registered_at, given.first_seen, given.expires_at) == (NOW, NOW, NOW + 600)
        assert given.is_signed_by_witness
    group.advance(2)
    few = [provisional[ONE]]
    assert words(group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=few)) == {"not_claimed"}
    full = receipts_in(group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=provisional.values()))
    assert len(full) == 3
    for given in full.values():
        assert not given.provisional
        assert (given.registered_at, given.first_seen, given.expires_at) == (NOW, NOW, NOW + 2 + DAY)
        assert given.via is None
    group.advance(DAY // 3)
    again = receipts_in(group.ask(Op.RENEW, "alice", registered_at=NOW))
    assert {(one.first_seen, one.expires_at) for one in again.values()} == {(NOW, group.unix_now + DAY)}
    assert [logged.kind for logged in group.log[ONE]] == [Kind.CLAIMED, Kind.RENEWED]


def test_a_majority_is_enough_and_less_is_not() -> None:
    group = WitnessGroup()
    two = receipts_in(group.ask(Op.CLAIM, "alice", only=[ONE, TWO]))
    full = group.ask(Op.RENEW, "alice", receipts=two.values())
    assert set(receipts_in(full)) == {ONE, TWO}
    assert isinstance(full[LAST], WitnessRefusal)
    # The third has missed the claim: it takes over what the two say.
    shown = receipts_in(full).values()
    late = one_receipt(group.ask(Op.RENEW, "alice", receipts=shown, only=[LAST]))
    assert (late.registered_at, late.first_seen, late.provisional) == (NOW, NOW, False)
    assert group.log[LAST][-1].kind is Kind.TAKEN_OVER
    assert set(group.log[LAST][-1].receipts) == set(shown)


def test_two_claimants_split_the_witnesses_drop_and_one_wins() -> None:
    group = WitnessGroup((*THREE, "fourth witness"))
    group.ask(Op.CLAIM, "alice", only=[ONE, TWO])
    bobs = group.ask(Op.CLAIM, "bob")
    assert words(bobs) == {"name_contested", "receipt"}
    refusal = bobs[ONE]
    assert refusal == WitnessRefusal(Why.NAME_CONTESTED, holder=ALICE, retry_after=600)
    assert words(group.ask(Op.RENEW, "bob", receipts=receipts_in(bobs).values())) == {
        "name_contested", "not_claimed",
    }  # fmt: skip
    group.advance(1)
    assert set(group.ask(Op.DROP, "bob", registered_at=NOW, only=receipts_in(bobs)).values()) == {Dropped()}
    assert len(group.claim("alice", registered_at=NOW)) == 4
    taken = only(group.ask(Op.CLAIM, "bob"))
    assert taken == WitnessRefusal(Why.NAME_TAKEN, holder=ALICE, retry_after=DAY + 87_000)


def test_a_transfer_moves_the_name_once() -> None:
    group = WitnessGroup()
    group.claim("alice")
    group.advance(60)
    to_bob, to_carol = transfer("alice", "bob", seq=NOW), transfer("alice", "carol", seq=NOW)
    moved = receipts_in(group.ask(Op.TRANSFER, "bob", registered_at=NOW, transfers=[to_bob]))
    assert {(one.owner, one.via, one.registered_at, one.first_seen) for one in moved.values()} == {
        (BOB, to_bob.digest, NOW, NOW)
    }
    assert len(moved) == 3
    refused = only(group.ask(Op.TRANSFER, "carol", registered_at=NOW, transfers=[to_carol]))
    assert refused == WitnessRefusal(Why.DOUBLE_TRANSFER, holder=BOB)
    again = group.ask(Op.TRANSFER, "bob", registered_at=NOW, transfers=[to_bob])  # the answer got lost
    assert words(again) == {"receipt"}
    renewed = receipts_in(group.ask(Op.RENEW, "bob", registered_at=NOW))
    assert {one.via for one in renewed.values()} == {to_bob.digest}
    assert only(group.ask(Op.RENEW, "alice", registered_at=NOW)).holder == BOB
    onwards = [to_bob, transfer("bob", "carol", seq=NOW + 70)]
    assert words(group.ask(Op.TRANSFER, "carol", registered_at=NOW, transfers=onwards)) == {"receipt"}
    back = only(group.ask(Op.TRANSFER, "bob", registered_at=NOW, transfers=[to_bob]))
    assert back == WitnessRefusal(Why.DOUBLE_TRANSFER, holder=CAROL)


def test_a_chain_may_be_longer_than_what_the_witness_has_seen() -> None:
    group = WitnessGroup()
    group.claim("alice")
    chain = [transfer("alice", "bob", seq=NOW), transfer("bob", "carol", seq=NOW + 1)]
    moved = receipts_in(group.ask(Op.TRANSFER, "carol", registered_at=NOW, transfers=chain))
    assert {one.via for one in moved.values()} == {chain[-1].digest}


@pytest.mark.parametrize(
    "chain",
    [
        [],
        [transfer("bob", "carol", seq=NOW)],  # not from the owner
        [transfer("alice", "bob", seq=NOW)],  # not to the caller
        [transfer("alice", "carol", name="bob", seq=NOW)],
        [transfer("alice", "bob", seq=NOW), transfer("bob", "carol", seq=NOW)],
        [replace(transfer("alice", "carol", seq=NOW), at=1)],
    ],
)
def test_chains_that_move_nothing(chain: list[object]) -> None:
    group = WitnessGroup()
    group.claim("alice")
    answers = group.ask(Op.TRANSFER, "carol", registered_at=NOW, transfers=chain)  # type: ignore[arg-type]
    assert words(answers) == {"transfer_refused"}
    assert words(group.ask(Op.RENEW, "alice", registered_at=NOW)) == {"receipt"}


def test_a_witness_that_lost_its_disk_learns_from_a_majority() -> None:
    group = WitnessGroup()
    full = group.claim("alice")
    group.forget(LAST)
    group.advance(DAY // 3)
    assert words(group.ask(Op.RENEW, "alice", registered_at=NOW, only=[LAST])) == {"not_claimed"}
    taken = one_receipt(group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=full.values(), only=[LAST]))
    assert (taken.first_seen, taken.expires_at) == (NOW, group.unix_now + DAY)
    assert words(group.ask(Op.CLAIM, "bob")) == {"name_taken"}


def test_a_rival_is_not_in_the_way_of_a_take_over() -> None:
    group = WitnessGroup()
    full = group.claim("alice")
    group.forget(LAST)
    assert words(group.ask(Op.CLAIM, "bob", only=[LAST])) == {"receipt"}
    shown = group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=full.values(), only=[LAST])
    assert words(shown) == {"receipt"}
    assert only(group.ask(Op.CLAIM, "bob", only=[LAST])).holder == ALICE


def test_a_transfer_reaches_a_witness_that_lost_its_disk() -> None:
    group = WitnessGroup()
    full = group.claim("alice")
    group.forget(LAST)
    chain = [transfer("alice", "bob", seq=NOW)]
    ask = {"registered_at": NOW, "transfers": chain}
    assert words(group.ask(Op.TRANSFER, "bob", only=[LAST], **ask)) == {"not_claimed"}  # type: ignore[arg-type]
    moved = group.ask(Op.TRANSFER, "bob", receipts=full.values(), **ask)  # type: ignore[arg-type]
    assert words(moved) == {"receipt"}
    assert group.log[LAST][-1].kind is Kind.TRANSFERRED
    # And by receipts for the taker, after the others have moved.
    group.forget(LAST)
    shown = [receipts_in(moved)[ONE], receipts_in(moved)[TWO]]
    late = one_receipt(group.ask(Op.TRANSFER, "bob", receipts=shown, only=[LAST], **ask))  # type: ignore[arg-type]
    assert (late.owner, late.via, group.log[LAST][-1].kind) == (BOB, chain[0].digest, Kind.TAKEN_OVER)


@pytest.mark.parametrize("brings_chain", [True, False])
def test_a_name_that_was_given_is_taken_over_with_its_via(brings_chain: bool) -> None:
    group = WitnessGroup()
    group.claim("alice")
    chain = [transfer("alice", "bob", seq=NOW)]
    moved = receipts_in(group.ask(Op.TRANSFER, "bob", registered_at=NOW, transfers=chain))
    group.forget(LAST)
    taken = group.ask(
        Op.RENEW, "bob", registered_at=NOW, receipts=moved.values(), only=[LAST],
        transfers=chain if brings_chain else [],
    )  # fmt: skip
    assert one_receipt(taken).via == chain[0].digest
    other = [transfer("alice", "carol", seq=NOW)]
    assert words(group.ask(Op.TRANSFER, "carol", registered_at=NOW, transfers=other)) == {"double_transfer"}
    onwards = [*chain, transfer("bob", "carol", seq=NOW + 9)]
    assert words(group.ask(Op.TRANSFER, "carol", registered_at=NOW, transfers=onwards)) == {"receipt"}


def test_witnesses_of_before_count_too() -> None:
    group = WitnessGroup(before=("old witness", "older witness"))
    old = ["old witness", "older witness"]
    members, group.members = group.members, (group.members[1], frozenset())
    provisional = receipts_in(group.ask(Op.CLAIM, "alice", only=old))
    full = receipts_in(group.ask(Op.RENEW, "alice", receipts=provisional.values(), only=old))
    assert len(full) == 2
    group.members = members
    taken = group.ask(Op.RENEW, "alice", receipts=full.values(), only=THREE)
    assert words(taken) == {"receipt"}
    mixed = [full["old witness"], receipts_in(taken)[ONE]]  # a minority of each
    group.forget(LAST)
    assert words(group.ask(Op.RENEW, "alice", receipts=mixed, only=[LAST])) == {"not_claimed"}


def test_a_first_claim_takes_a_majority_of_both_sets() -> None:
    """New witnesses know nothing yet: alone they would give any name to whoever comes before its owner."""
    old = ["old witness", "older witness"]
    group = WitnessGroup(before=old)
    new = receipts_in(group.ask(Op.CLAIM, "alice", only=THREE))
    assert words(group.ask(Op.RENEW, "alice", receipts=new.values())) == {"not_claimed"}
    both = {**new, **receipts_in(group.ask(Op.CLAIM, "alice", only=old[:1]))}
    assert words(group.ask(Op.RENEW, "alice", receipts=both.values(), only=THREE)) == {"not_claimed"}
    both |= receipts_in(group.ask(Op.CLAIM, "alice", only=old))
    assert words(group.ask(Op.RENEW, "alice", receipts=both.values())) == {"receipt"}
    again = WitnessGroup(before=old)
    alone = receipts_in(again.ask(Op.CLAIM, "alice", only=old))
    assert words(again.ask(Op.RENEW, "alice", receipts=alone.values(), only=old)) == {"not_claimed"}


def test_the_median_first_seen_is_taken_over() -> None:
    group = WitnessGroup((*THREE, "fourth witness"))
    seen = dict(zip((ONE, TWO, "fourth witness"), (NOW + 300, NOW, NOW + 20), strict=True))
    shown = [receipt(label, "alice", first_seen=at) for label, at in seen.items()]
    assert one_receipt(group.ask(Op.RENEW, "alice", receipts=shown, only=[LAST])).first_seen == NOW + 20


@pytest.mark.parametrize(
    "bad",
    [
        receipt(TWO, "bob"),
        receipt(TWO, "alice", name="bob"),
        receipt(TWO, "alice", swarm="lab"),
        receipt(TWO, "alice", registered_at=NOW - 1),
        receipt(TWO, "alice", provisional=True),
        receipt(TWO, "alice", first_seen=NOW - 601),
        receipt(TWO, "alice", first_seen=NOW, expires_at=NOW - DAY),
        receipt("stranger", "alice"),
        receipt(ONE, "alice", first_seen=NOW + 2),  # the first witness a second time
        replace(receipt(TWO, "alice"), signature=receipt(ONE, "alice").signature),
        receipt(TWO, "alice", via="0f" * 32),
    ],
)
def test_receipts_that_do_not_count(bad: Receipt) -> None:
    group = WitnessGroup()
    shown = [receipt(ONE, "alice"), bad]
    assert words(group.ask(Op.RENEW, "alice", receipts=shown)) == {"not_claimed"}
    assert words(group.ask(Op.RENEW, "alice", receipts=[receipt(ONE, "alice"), receipt(TWO, "alice")])) == {
        "receipt"
    }


def test_an_owner_that_lost_its_memory_gets_its_lease_back() -> None:
    group = WitnessGroup()
    group.claim("alice")
    group.advance(40_000)
    back = receipts_in(group.ask(Op.CLAIM, "alice"))
    assert {(one.registered_at, one.first_seen, one.provisional) for one in back.values()} == {
        (NOW, NOW, False)
    }
    assert words(group.ask(Op.RENEW, "alice", registered_at=group.unix_now)) == {"registered_at_mismatch"}


def test_one_witness_of_another_mind_follows_the_majority() -> None:
    group = WitnessGroup()
    provisional = receipts_in(group.ask(Op.CLAIM, "alice"))
    group.ask(Op.RENEW, "alice", receipts=provisional.values(), only=[LAST])  # only the third made it full
    group.advance(700)
    begun = group.unix_now
    anew = group.ask(Op.CLAIM, "alice")
    assert {one.registered_at for one in receipts_in(anew).values()} == {NOW, begun}
    fresh = [receipts_in(anew)[label] for label in (ONE, TWO)]
    full = group.ask(Op.RENEW, "alice", registered_at=begun, receipts=fresh)
    assert words(full) == {"receipt", "registered_at_mismatch"}
    shown = [receipts_in(full)[label] for label in (ONE, TWO)]
    assert one_receipt(
        group.ask(Op.RENEW, "alice", registered_at=begun, receipts=shown, only=[LAST])
    ).first_seen == begun  # fmt: skip


# Every operation in every state

ONLY = "witness"


def provisional_of(owner: str) -> Callable[[WitnessGroup], None]:
    return lambda group: _do(group, owner, full=False)


def full_of(owner: str) -> Callable[[WitnessGroup], None]:
    return lambda group: _do(group, owner, full=True)


def _do(group: WitnessGroup, owner: str, *, full: bool) -> None:
    given = group.ask(Op.CLAIM, owner)
    assert words(given) == {"receipt"}
    if full:
        group.ask(Op.RENEW, owner, receipts=receipts_in(given).values())


def moved_on(owner: str, taker: str) -> Callable[[WitnessGroup], None]:
    def prepare(group: WitnessGroup) -> None:
        _do(group, owner, full=True)
        moved = group.ask(Op.TRANSFER, taker, transfers=[transfer(owner, taker, seq=NOW)])
        assert words(moved) == {"receipt"}

    return prepare


def given_up(owner: str) -> Callable[[WitnessGroup], None]:
    def prepare(group: WitnessGroup) -> None:
        _do(group, owner, full=True)
        assert words(group.ask(Op.DROP, owner)) == {"dropped"}

    return prepare


STATES: dict[str, Callable[[WitnessGroup], None]] = {
    "free": lambda group: None,
    "my first claim": provisional_of("alice"),
    "mine": full_of("alice"),
    "mine, given up": given_up("alice"),
    "mine by transfer": moved_on("bob", "alice"),
    "bob's first claim": provisional_of("bob"),
    "bob's": full_of("bob"),
    "bob's, given up": given_up("bob"),
    "mine before, bob's now": moved_on("alice", "bob"),
}

TABLE = {
    # state:     claim, renew, renew with receipts, transfer, drop
    "free": "first not_claimed full not_claimed not_claimed",
    "my first claim": "first not_claimed full not_claimed dropped",
    "mine": "full full full transfer_refused dropped",
    "mine, given up": "full full full transfer_refused dropped",
    "mine by transfer": "registered_at_mismatch full full full dropped",
    "bob's first claim": "name_contested name_contested full name_contested name_contested",
    "bob's": "name_taken name_taken name_taken full name_taken",
    "bob's, given up": "name_taken name_taken name_taken full name_taken",
    "mine before, bob's now": "name_taken name_taken name_taken double_transfer name_taken",
}
"""Alice asks; the transfer is one from Bob to her. The witness is alone, so its own word is a majority."""


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("column", range(5))
def test_every_operation_in_every_state(state: str, column: int) -> None:
    group = WitnessGroup([ONLY])
    STATES[state](group)
    before = dict(group.books[ONLY].entries)
    shown = [receipt(ONLY, "alice", first_seen=NOW)]
    answers = (
        lambda: group.ask(Op.CLAIM, "alice"),
        lambda: group.ask(Op.RENEW, "alice"),
        lambda: group.ask(Op.RENEW, "alice", receipts=shown),
        lambda: group.ask(Op.TRANSFER, "alice", transfers=[transfer("bob", "alice", seq=NOW)]),
        lambda: group.ask(Op.DROP, "alice"),
    )[column]()
    (answer,) = answers.values()
    if isinstance(answer, Receipt):
        outcome = "first" if answer.provisional else "full"
    else:
        (outcome,) = words(answers)
    assert outcome == TABLE[state].split()[column]
    if isinstance(answer, WitnessRefusal):
        assert group.books[ONLY].entries == before
    if outcome.startswith("name_"):
        assert isinstance(answer, WitnessRefusal)
        assert answer.holder == BOB
        assert answer.retry_after == (600 if outcome == "name_contested" else DAY + 87_000)


# What a request must show


@pytest.mark.parametrize("off, word", [(-301, False), (-300, True), (300, True), (301, False)])
def test_a_claim_says_now(off: int, word: bool) -> None:
    expected = {"receipt" if word else "registered_at_off"}
    assert words(WitnessGroup().ask(Op.CLAIM, "alice", registered_at=NOW + off)) == expected


@pytest.mark.parametrize(
    "size, bits", [(0, 12), (199, 12), (200, 14), (1_999, 14), (2_000, 16), (40_000, 18)]
)
def test_the_work_grows_with_half_the_swarm(size: int, bits: int) -> None:
    group = WitnessGroup([ONLY], swarm_size=size)
    assert group.books[ONLY].required_bits == bits == max(12, bits_for(size // 2))
    nonce, context = 0, work_context("alice", "public")
    while proof_of_work.verify(context, ALICE.did, nonce, 12):
        nonce += 1
    weak = WitnessRequest(Op.CLAIM, "public", "alice", nonce, NOW)
    assert group.tell(ONLY, weak, "alice") == WitnessRefusal(Why.WORK_TOO_WEAK, required_bits=bits)


def test_who_is_here_already_need_not_work_more() -> None:
    group = WitnessGroup()
    full = group.claim("alice")
    group.swarm_size = 10_000
    assert not proof_of_work.verify(work_context("alice", "public"), ALICE.did, solved_work("alice"), 16)
    assert words(group.ask(Op.RENEW, "alice")) == {"receipt"}
    assert words(group.ask(Op.CLAIM, "alice")) == {"receipt"}
    group.forget(LAST)
    assert words(group.ask(Op.RENEW, "alice", receipts=full.values())) == {"receipt"}
    refused = only(group.ask(Op.TRANSFER, "bob", transfers=[transfer("alice", "bob", seq=NOW)]))
    assert refused == WitnessRefusal(Why.WORK_TOO_WEAK, required_bits=16)


def test_names_that_the_operator_refuses() -> None:
    group = WitnessGroup([ONLY], denied=["alice", "bob@lab"])
    assert words(group.ask(Op.CLAIM, "bob")) == {"name_denied"}
    assert words(group.ask(Op.RENEW, "bob")) == {"name_denied"}
    assert words(group.ask(Op.DROP, "bob")) == {"not_claimed"}
    for name, word in (("bob", "name_denied"), ("alice", "receipt")):
        nonce = solved_work("bob", name, "lab")
        answer = group.tell(ONLY, WitnessRequest(Op.CLAIM, "lab", name, nonce, NOW), "bob")
        assert words({ONLY: answer}) == {word}
    assert words(group.ask(Op.CLAIM, "bob", name="bob")) == {"receipt"}


# Times


def test_a_name_is_free_for_others_a_day_and_ten_minutes_after_it_lapsed() -> None:
    group = WitnessGroup()
    group.claim("alice")
    expires_at = NOW + DAY
    group.unix_now, group.now = expires_at + 87_000 - 1, DAY + 87_000
    assert words(group.ask(Op.CLAIM, "bob")) == {"name_taken"}
    assert words(group.ask(Op.RENEW, "bob", receipts=[receipt(ONE, "bob")])) == {"name_taken"}
    group.advance(1)
    assert words(group.ask(Op.CLAIM, "bob")) == {"receipt"}
    assert words(group.ask(Op.RENEW, "alice", registered_at=NOW)) == {"name_contested"}


def test_the_owner_may_renew_in_its_grace() -> None:
    group = WitnessGroup()
    group.claim("alice")
    group.advance(2 * DAY)
    assert words(group.ask(Op.RENEW, "alice", registered_at=NOW)) == {"receipt"}


def test_dropping_a_full_lease_frees_nothing_before_its_time() -> None:
    """Else two owners would have receipts that overlap, and an honest witness would look like a liar."""
    group = WitnessGroup()
    group.claim("alice")
    assert words(group.ask(Op.DROP, "alice")) == {"dropped"}
    assert words(group.ask(Op.CLAIM, "bob")) == {"name_taken"}
    assert words(group.ask(Op.CLAIM, "alice")) == {"receipt"}


def test_a_first_claim_goes_by_itself() -> None:
    group = WitnessGroup()
    provisional = receipts_in(group.ask(Op.CLAIM, "alice"))
    group.advance(599)
    assert only(group.ask(Op.CLAIM, "bob")).retry_after == 1
    group.advance(1)
    late = group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=provisional.values())
    assert words(late) == {"not_claimed"}
    assert words(group.ask(Op.CLAIM, "bob")) == {"receipt"}


def test_claiming_again_does_not_lengthen_a_turn() -> None:
    group = WitnessGroup()
    group.ask(Op.CLAIM, "alice")
    group.advance(500)
    again = receipts_in(group.ask(Op.CLAIM, "alice"))
    assert {(one.registered_at, one.expires_at) for one in again.values()} == {(NOW + 500, NOW + 600)}
    group.advance(100)
    assert words(group.ask(Op.CLAIM, "bob")) == {"receipt"}


@pytest.mark.parametrize("drops", [True, False])
def test_one_rival_cannot_block_a_name_all_day(drops: bool) -> None:
    """Mallory takes a turn whenever she may; a name is hers for a small part of the day."""
    group = WitnessGroup([ONLY])
    blocked = turns = 0
    while group.unix_now < NOW + DAY:
        answer = group.ask(Op.CLAIM, "mallory", prefix="203.0.113.0/24")[ONLY]
        if isinstance(answer, Receipt):
            turns += 1
            assert words(group.ask(Op.CLAIM, "bob")) == {"name_contested"}
            group.advance(590 if drops else 600)
            blocked += 600
            if drops:
                group.ask(Op.DROP, "mallory", registered_at=answer.registered_at)
        else:
            assert isinstance(answer, WitnessRefusal)
            assert answer.error == "rate_limited"
            assert answer.retry_after
            group.advance(answer.retry_after)
    assert turns >= 2
    assert blocked < DAY / 6


def test_other_keys_of_the_same_prefix_rest_too() -> None:
    group = WitnessGroup([ONLY])
    group.ask(Op.CLAIM, "mallory", prefix="203.0.113.0/24")
    assert words(group.ask(Op.CLAIM, "bob")) == {"name_contested"}
    group.advance(600)
    sybil = group.ask(Op.CLAIM, "sybil", prefix="203.0.113.0/24")[ONLY]
    assert sybil == WitnessRefusal(Why.RATE_LIMITED, retry_after=600)
    assert words(group.ask(Op.CLAIM, "bob", prefix="198.51.100.0/24")) == {"receipt"}


def test_honest_rivals_come_again_within_seconds() -> None:
    group = WitnessGroup([ONLY])
    for _ in range(3):
        assert words(group.ask(Op.CLAIM, "alice")) == {"receipt"}
        assert words(group.ask(Op.CLAIM, "bob")) == {"name_contested"}
        group.advance(1)
        assert words(group.ask(Op.DROP, "alice", registered_at=group.unix_now - 1)) == {"dropped"}
        group.advance(5)


def test_a_turn_that_kept_nobody_from_the_name_is_no_reason_to_rest() -> None:
    group = WitnessGroup([ONLY])
    for _ in range(3):
        assert words(group.ask(Op.CLAIM, "alice")) == {"receipt"}
        group.advance(600)


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_clock_that_jumps_by_a_day_frees_nothing_that_lives(jump: int) -> None:
    group = WitnessGroup()
    full = group.claim("alice")
    group.advance(DAY - 10)  # the lease has ten seconds left
    group.unix_now += jump
    for _ in range(3):
        assert words(group.ask(Op.CLAIM, "bob")) == {"name_taken"}
        assert words(group.ask(Op.DROP, "bob")) == {"name_taken"}
        group.advance(3)
    assert words(group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=full.values())) == {"receipt"}
    group.unix_now -= jump
    for book in group.books.values():
        book.sweep(group.now, group.unix_now)
    assert words(group.ask(Op.RENEW, "alice", registered_at=NOW)) == {"receipt"}
    assert words(group.ask(Op.CLAIM, "bob")) == {"name_taken"}


def test_a_jump_ends_no_grace_either_while_the_witness_runs() -> None:
    group = WitnessGroup()
    group.claim("alice")
    group.advance(DAY + DAY // 2)  # half of the grace is over
    assert words(group.ask(Op.CLAIM, "bob")) == {"name_taken"}
    group.unix_now += DAY
    for _ in range(5):
        assert words(group.ask(Op.CLAIM, "bob")) == {"name_taken"}
        group.advance(60)


def test_first_claims_from_a_future_that_was_none() -> None:
    group = WitnessGroup([ONLY])
    group.unix_now += DAY
    assert words(group.ask(Op.CLAIM, "bob")) == {"receipt"}
    group.unix_now -= DAY
    assert words(group.ask(Op.CLAIM, "alice")) == {"receipt"}


def test_a_lease_from_a_clock_that_was_years_ahead_blocks_nothing() -> None:
    group = WitnessGroup([ONLY])
    group.unix_now += 3_650 * DAY
    given = group.claim("bob")
    assert given
    group.unix_now -= 3_650 * DAY
    assert words(group.ask(Op.CLAIM, "alice")) == {"receipt"}


def test_the_steady_clock() -> None:
    clock = SteadyClock()
    assert clock.read(0, 1_000_000) == 1_000_000
    assert clock.read(100, 1_000_100) == 1_000_100
    assert clock.read(100, 1_000_100 + DAY) == 1_000_100
    assert clock.read(200, 1_000_200 + DAY) == 1_000_300  # twice as fast, until it has caught up
    assert clock.read(200, 1_000_200) == 1_000_200  # set right
    assert clock.read(200, 1_000_200 - DAY) == 1_000_200 - DAY
    assert clock.read(200, 1_000_200 + 3 * DAY) == 1_000_200 + 2 * DAY  # no more than a day behind


# Budgets and room


def test_five_new_names_a_day_and_owner() -> None:
    group = WitnessGroup([ONLY])
    names = [f"name-{number}" for number in range(7)]
    for name in names[:5]:
        assert group.claim("alice", name=name)
        group.advance(100)
    spent = only(group.ask(Op.CLAIM, "alice", name=names[5]))
    assert spent == WitnessRefusal(Why.BUDGET_OWNER, retry_after=DAY - 500)
    assert words(group.ask(Op.CLAIM, "bob", name=names[5])) == {"receipt"}
    # Renewing, claiming again and taking over cost nothing.
    assert words(group.ask(Op.RENEW, "alice", name=names[0], registered_at=NOW)) == {"receipt"}
    assert words(group.ask(Op.CLAIM, "alice", name=names[1])) == {"receipt"}
    group.advance(DAY - 500)
    assert words(group.ask(Op.CLAIM, "alice", name=names[6])) == {"receipt"}


def test_a_name_counts_once_a_day() -> None:
    group = WitnessGroup([ONLY])
    for _ in range(8):
        assert words(group.ask(Op.CLAIM, "alice")) == {"receipt"}
        group.advance(1)
        group.ask(Op.DROP, "alice", registered_at=group.unix_now - 1)
        group.advance(20)
    for name in ("bob", "carol", "dave", "erin"):
        assert words(group.ask(Op.CLAIM, "alice", name=name)) == {"receipt"}
    assert words(group.ask(Op.CLAIM, "alice", name="frank")) == {"budget_owner"}


def test_twenty_new_names_a_day_and_prefix() -> None:
    group = WitnessGroup([ONLY])
    for number in range(20):
        answers = group.ask(Op.CLAIM, f"owner {number}", name=f"name-{number}", prefix="203.0.113.0/24")
        assert words(answers) == {"receipt"}
    spent = only(group.ask(Op.CLAIM, "alice", prefix="203.0.113.0/24"))
    assert spent == WitnessRefusal(Why.BUDGET_PREFIX, retry_after=DAY)
    assert words(group.ask(Op.CLAIM, "alice", prefix="198.51.100.0/24")) == {"receipt"}
    assert words(group.ask(Op.CLAIM, "bob", name="bob")) == {"receipt"}  # below public scope


def test_a_budget_survives_clocks_that_jump() -> None:
    budget = Budget(BudgetConfig(names_per_owner=1))
    budget.count(Counted(ALICE, ("public", "alice"), None, NOW))
    assert budget.owner_waits(ALICE, NOW - DAY + 1) == DAY
    assert budget.lapsed(NOW - DAY + 1) == []
    assert len(budget.lapsed(NOW - DAY)) == 1
    assert budget.owner_waits(ALICE, NOW) == 0
    assert len(budget) == 0


def test_turns_are_bounded() -> None:
    turns = Turns(10)
    for number in range(30):
        turns.ended(person(f"owner {number}").peer_id, None, ("public", "alice"), 600, now=number)
    assert len(turns) == 10
    assert turns.rest(Caller(person("owner 29").peer_id), ("public", "alice"), now=29) == 600
    turns.sweep(now=29 + 600 + DAY)
    assert len(turns) == 0


def test_a_full_book_refuses_and_keeps_what_lives() -> None:
    config = BookConfig(max_entries=3, max_provisional=2)
    group = WitnessGroup([ONLY], config)
    assert group.claim("alice", name="one")
    for owner, name in (("bob", "two"), ("carol", "three")):
        assert words(group.ask(Op.CLAIM, owner, name=f"{name}-x")) == {"receipt"}
    assert words(group.ask(Op.CLAIM, "dave", name="four")) == {"witness_full"}
    shown = [receipt(ONLY, "dave", name="four")]
    assert words(group.ask(Op.RENEW, "dave", name="four", receipts=shown)) == {"witness_full"}
    assert words(group.ask(Op.RENEW, "alice", name="one")) == {"receipt"}
    group.advance(600)  # the first claims are over: there is room
    assert words(group.ask(Op.CLAIM, "dave", name="four")) == {"receipt"}
    assert len(group.books[ONLY].entries) == 2


def test_first_claims_do_not_take_the_room_of_names() -> None:
    group = WitnessGroup([ONLY], BookConfig(max_entries=100, max_provisional=2))
    for name in ("one-x", "two-x"):
        assert words(group.ask(Op.CLAIM, "alice", name=name)) == {"receipt"}
    assert words(group.ask(Op.CLAIM, "bob", name="three-x")) == {"witness_full"}
    shown = [receipt(ONLY, "bob", name="three-x", first_seen=NOW)]
    assert words(group.ask(Op.RENEW, "bob", name="three-x", receipts=shown)) == {"receipt"}


def test_a_day_of_names_is_bounded() -> None:
    group = WitnessGroup([ONLY], BookConfig(budget=BudgetConfig(max_counted=2)))
    for owner in ("alice", "bob"):
        assert words(group.ask(Op.CLAIM, owner, name=owner)) == {"receipt"}
    assert words(group.ask(Op.CLAIM, "carol", name="carol")) == {"witness_full"}


def test_what_could_not_be_written_never_was() -> None:
    group = WitnessGroup([ONLY])
    group.claim("alice")
    book = group.books[ONLY]
    before, counted = dict(book.entries), len(book._budget)
    requests = [
        (WitnessRequest(Op.RENEW, "public", "alice", solved_work("alice"), NOW), "alice"),
        (WitnessRequest(Op.DROP, "public", "alice", 0, NOW), "alice"),
        (WitnessRequest(Op.CLAIM, "public", "bob", solved_work("bob", "bob"), NOW), "bob"),
        (WitnessRequest(Op.DROP, "public", "bob", 0, NOW), "bob"),
        (WitnessRequest(Op.CLAIM, "public", "bob", solved_work("carol", "bob"), NOW), "carol"),
    ]
    later = NOW + 300  # before, a renewal changes nothing
    changes = [book.decide(what, Caller(person(who).peer_id), 0, later).changes for what, who in requests]
    assert all(changes)
    assert dict(book.entries) != before
    book.undo(changes)
    assert dict(book.entries) == before
    assert len(book._budget) == counted
    assert book.provisional == 0


def test_who_lost_its_promises_makes_no_new_ones_for_long() -> None:
    group = WitnessGroup()
    full = group.claim("alice")
    group.forget(LAST)
    group.books[LAST].restore((), (), claims_from=NOW + DAY)
    assert group.ask(Op.CLAIM, "bob", only=[LAST])[LAST] == WitnessRefusal(
        Why.NO_FIRST_CLAIMS, retry_after=DAY
    )
    taken = group.ask(Op.RENEW, "alice", registered_at=NOW, receipts=full.values(), only=[LAST])
    assert words(taken) == {"receipt"}
    group.advance(DAY)
    assert words(group.ask(Op.CLAIM, "bob", name="bob", only=[LAST])) == {"receipt"}


def test_a_book_goes_on_from_what_was_on_disk() -> None:
    group = WitnessGroup([ONLY])
    group.claim("alice")
    held = [*group.books[ONLY].entries.values()]
    group.forget(ONLY)
    group.books[ONLY].restore(held, [Counted(ALICE, ("public", "alice"), None, NOW)])
    assert words(group.ask(Op.CLAIM, "bob")) == {"name_taken"}
    assert words(group.ask(Op.RENEW, "alice")) == {"receipt"}
    assert isinstance(held[0], Entry)


def test_a_lease_that_is_followed_forgets_no_receipt_of_before() -> None:
    """Also when the clock was set back in between: the name stays the owner's to the end of the longest."""
    group = WitnessGroup()
    provisional = receipts_in(group.ask(Op.CLAIM, "alice"))
    group.ask(Op.RENEW, "alice", receipts=provisional.values(), only=[LAST])
    begun = NOW - 40_000
    shown = [receipt(label, "alice", registered_at=begun) for label in (ONE, TWO)]
    group.unix_now = begun
    followed = one_receipt(group.ask(Op.RENEW, "alice", registered_at=begun, receipts=shown, only=[LAST]))
    assert followed.expires_at == begun + DAY
    assert group.books[LAST].entries["public", "alice"].expires_at == NOW + DAY
