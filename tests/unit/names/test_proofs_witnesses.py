"""What an attacker with a copy of our source tries against a witnessed name, and what comes of it.

Alice holds the name with receipts of w0 and w1, two of three witnesses. Mallory wants it. What she can get is
listed where she gets it: from who lies with her, and never from who is honest.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, permutations

import pytest

from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.discovery.witness_sets import WitnessesBefore
from wws.identity.peer_id import PeerId
from wws.names import errors
from wws.names.errors import RecordRefused
from wws.names.pins import Pins, Verdict
from wws.names.receipts import SEEN_WITHIN, Receipt, is_witnessed, majority
from wws.names.record import GRACE, NAME_DOMAIN, NameRecord, name_key, validate
from wws.names.select import is_equivocation, select
from wws.names.signed import with_signature
from wws.names.transfers import Transfer
from wws.names.witness.log import contradict
from wws.testing.names import NOW, name_record, person, receipt, solved_work, transfer
from wws.testing.scale import scale

MEMBERS = [f"w{number}" for number in range(7)]


def ids(*labels: str) -> frozenset[PeerId]:
    return frozenset(person(label).peer_id for label in labels)


W3 = ids("w0", "w1", "w2")
NOBODY: frozenset[PeerId] = frozenset()
HONEST = name_record("alice", witnesses=["w0", "w1"])


def wins(record: NameRecord, other: NameRecord, now: int = NOW, before: frozenset[PeerId] = NOBODY) -> bool:
    """Against the other in both orders."""
    found = {([record, other], [other, record])[turn][select(pair, now, W3, before)].value
             for turn, pair in enumerate(([record, other], [other, record]))}  # fmt: skip
    assert len(found) == 1
    return record.value in found


# Replay


def test_an_older_record_loses_to_a_newer_one_in_every_state() -> None:
    ages = [name_record("alice", issued_at=NOW + 100 * n, witnesses=["w0", "w1"]) for n in range(4)]
    for older in range(4):
        for newer in range(older + 1, 4):
            assert wins(ages[newer], ages[older], NOW + 400)
            assert wins(ages[newer], ages[older], NOW + 2 * GRACE)


def test_a_record_from_before_a_release_loses_to_it() -> None:
    release = name_record("alice", issued_at=NOW + 9, released=True, witnesses=["w0", "w1"])
    assert wins(release, HONEST, NOW + 9)


def test_a_record_from_before_a_transfer_loses_to_it() -> None:
    entry = transfer("alice", "bob", seq=NOW)
    given = name_record("bob", issued_at=NOW, seq=NOW + 1, transfers=[entry], witnesses=["w0", "w1"])
    assert wins(given, HONEST)


def test_until_a_majority_has_signed_a_transfer_the_old_owner_stays() -> None:
    entry = transfer("alice", "mallory", seq=NOW)
    for signers in ([], ["w0"], ["s0", "s1", "s2"]):
        taken = name_record("mallory", seq=NOW + 1, transfers=[entry], witnesses=signers)
        assert wins(HONEST, taken)


def test_an_older_covered_record_outlives_an_uncovered_renewal() -> None:
    """Witnesses away: the owner renews uncovered, and the last covered record resolves to its death."""
    uncovered = name_record("alice", issued_at=NOW + 86_000)
    assert wins(HONEST, uncovered, NOW + 86_400 + GRACE - 1)
    assert wins(uncovered, HONEST, NOW + 86_400 + GRACE)


def test_the_same_record_under_another_name_or_swarm_is_refused() -> None:
    for key in (name_key("bob"), name_key("alice", "lab")):
        with pytest.raises(errors.RecordKeyMismatch):
            validate(key, HONEST.value, NOW)


# Back-dating


@pytest.mark.parametrize("years_before", [0, 1, 50])
def test_back_dating_a_witnessed_name_loses(years_before: int) -> None:
    registered_at = max(0, NOW - 1 - years_before * 31_000_000)
    assert wins(HONEST, name_record("mallory", registered_at=registered_at, issued_at=NOW))


def test_a_back_dated_record_with_honest_receipts_of_now_is_not_covered() -> None:
    """Honest witnesses write down what they saw: beyond ten minutes before, their receipts do not count."""
    for back, counts in ((0, True), (SEEN_WITHIN, True), (SEEN_WITHIN + 1, False), (86_400, False)):
        registered_at = NOW - back
        receipts = [
            receipt(who, "mallory", registered_at=registered_at, first_seen=NOW, expires_at=NOW + 60)
            for who in ("w0", "w1", "w2")
        ]
        record = name_record(
            "mallory", registered_at=registered_at, issued_at=NOW, lifetime=60, receipts=receipts
        )
        assert is_witnessed(record, W3, NOBODY) is counts


def test_receipts_do_not_survive_a_change_of_the_claims_time() -> None:
    later = name_record("alice", registered_at=NOW - 1, issued_at=NOW, receipts=HONEST.receipts)
    assert not is_witnessed(later, W3, NOBODY)


# Receipts that do not count

DEFECTS = [
    "stranger", "twin", "owner", "name", "swarm", "registered_at", "expired", "early", "late", "provisional",
    "forged", "signed by another", "of an old lease",
]  # fmt: skip


def with_defect(defect: str, witness: str, counted: Sequence[str], rng: random.Random) -> Receipt:
    """A receipt for mallory's record of an hour that must not count."""
    until = NOW + 3_600
    good = receipt(witness, "mallory", expires_at=until)
    match defect:
        case "stranger":
            return receipt(rng.choice(["s0", "s1", "s2"]), "mallory", expires_at=until)
        case "twin":  # another receipt of a witness that is counted already, or a defective one
            if not counted:
                return with_defect("stranger", witness, counted, rng)
            return receipt(counted[0], "mallory", first_seen=NOW + rng.randint(0, 3), expires_at=until + 5)
        case "owner":
            return receipt(witness, "alice", expires_at=until)
        case "name":
            return receipt(witness, "mallory", name="another", expires_at=until)
        case "swarm":
            return receipt(witness, "mallory", swarm="lab", expires_at=until)
        case "registered_at":
            moved = NOW + rng.choice([-1, 1])
            return receipt(witness, "mallory", registered_at=moved, first_seen=NOW, expires_at=until)
        case "expired":
            return receipt(witness, "mallory", expires_at=until - 1)
        case "early":
            return receipt(witness, "mallory", first_seen=NOW - SEEN_WITHIN - 1, expires_at=until)
        case "late":
            return receipt(witness, "mallory", first_seen=NOW + SEEN_WITHIN + 1, expires_at=until)
        case "provisional":
            return receipt(witness, "mallory", provisional=True, expires_at=until)
        case "forged":
            return replace(good, signature=bytes(64))
        case "signed by another":
            return replace(receipt("s0", "mallory", expires_at=until), witness=person(witness).peer_id)
        case _:
            return receipt(witness, "mallory", registered_at=NOW - 200_000, expires_at=NOW - 100_000)


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_alone_keeps_a_receipt_from_counting(defect: str) -> None:
    rng = random.Random(defect)
    good = receipt("w0", "mallory", expires_at=NOW + 3_600)
    bad = with_defect(defect, "w1", ["w0"], rng)
    record = name_record("mallory", lifetime=3_600, receipts=[good, bad])
    assert not is_witnessed(record, W3, NOBODY)
    assert not is_witnessed(record, NOBODY, W3)
    assert wins(HONEST, record)
    other = receipt("w1", "mallory", expires_at=NOW + 3_600)
    assert is_witnessed(replace(record, receipts=(bad, good, other)), W3, NOBODY), "nor does it harm"


@pytest.mark.timeout(900)
def test_no_heap_of_bad_receipts_makes_a_majority() -> None:
    """Any number of receipts with defects, and one good one too few; with one more it is covered."""
    rng = random.Random(7)
    plain = name_record("mallory", lifetime=3_600)
    cache: dict[tuple[str, str], Receipt] = {}
    for _ in range(scale(20_000, least=500)):
        size = rng.randint(1, 7)
        group = MEMBERS[:size]
        needed = majority(ids(*group))
        good = rng.sample(group, needed)
        found = [
            cache.setdefault(("", who), receipt(who, "mallory", expires_at=NOW + 3_600))
            if ("", who) not in cache
            else cache["", who]
            for who in good
        ]
        bad: list[Receipt] = []
        for _ in range(rng.randint(0, 12)):
            defect, who = rng.choice(DEFECTS), rng.choice(group)
            if defect == "twin":
                bad += found[1:2] * 2 if needed > 1 else []
                continue
            if (defect, who) not in cache:
                cache[defect, who] = with_defect(defect, who, [], rng)
            bad.append(cache[defect, who])
        members = ids(*group)
        too_few = [*bad, *found[1:]]
        rng.shuffle(too_few)
        assert not is_witnessed(replace(plain, receipts=tuple(too_few)), members, NOBODY)
        assert is_witnessed(replace(plain, receipts=(*too_few, found[0])), members, NOBODY)


def test_one_witness_is_one_however_often_it_signs() -> None:
    many = [receipt("w0", "mallory", first_seen=NOW + n, expires_at=NOW + 60) for n in range(12)]
    record = name_record("mallory", lifetime=60, receipts=many)
    assert not is_witnessed(record, W3, NOBODY)
    assert is_witnessed(record, ids("w0"), NOBODY)
    assert is_witnessed(record, NOBODY, ids("w0"))


def test_the_cover_ends_with_the_mth_receipt() -> None:
    """An owner who writes a longer life than its witnesses gave is not covered at all."""
    ends = [NOW + 100, NOW + 200, NOW + 300]
    receipts = [receipt(f"w{n}", "alice", expires_at=end, first_seen=NOW) for n, end in enumerate(ends)]
    for lifetime, covered in ((100, True), (200, True), (201, False), (300, False)):
        assert is_witnessed(name_record("alice", lifetime=lifetime, receipts=receipts), W3, NOBODY) is covered


# A witness that lies


def test_one_liar_gives_no_name_away_and_leaves_the_proof() -> None:
    honest = name_record("alice", witnesses=["w0", "w1"])
    stolen = name_record("mallory", witnesses=["w0"])
    assert wins(honest, stolen)
    assert contradict(honest.receipts[0], stolen.receipts[0])
    assert not contradict(honest.receipts[1], stolen.receipts[0])


def test_a_majority_of_liars_gives_it_and_each_leaves_the_proof() -> None:
    """wire.md section 5 says so: what they cannot do is do it unseen, or to who has pinned the name."""
    honest = name_record("alice", witnesses=["w0", "w1"])
    stolen = name_record("mallory", registered_at=NOW - 10, issued_at=NOW, witnesses=["w0", "w1"])
    assert wins(stolen, honest)
    for before, after in zip(honest.receipts, stolen.receipts, strict=True):
        assert contradict(before, after)
        assert contradict(after, before)
    pins = Pins()
    assert pins.observe("", honest, NOW) is Verdict.NEW
    assert pins.observe("", stolen, NOW) is Verdict.CHANGED


def test_what_is_no_contradiction() -> None:
    good = receipt("w0", "alice", expires_at=NOW + 100)
    for other in (
        receipt("w0", "alice", first_seen=NOW + 2, expires_at=NOW + 100),  # the same owner
        receipt("w1", "mallory", expires_at=NOW + 100),  # another witness
        receipt("w0", "mallory", name="another", expires_at=NOW + 100),
        receipt("w0", "mallory", swarm="lab", expires_at=NOW + 100),
        receipt("w0", "mallory", provisional=True, expires_at=NOW + 100),
        receipt("w0", "mallory", via="0" * 64, expires_at=NOW + 100),  # a transfer
        receipt("w0", "mallory", registered_at=NOW + 101, first_seen=NOW + 101),  # after it was free
        replace(receipt("w0", "mallory", expires_at=NOW + 100), signature=bytes(64)),  # slander
    ):
        assert not contradict(good, other)
        assert not contradict(other, good)


# W′


def test_two_halves_of_two_sets_are_no_majority() -> None:
    before = ids("w2", "w3", "w4")
    for signers, counts in (
        (["w0", "w3"], False),
        (["w2", "w0"], True),
        (["w2", "w4"], True),
        (["w4"], False),
    ):
        record = name_record("alice", witnesses=signers)
        assert is_witnessed(record, W3, before) is counts
        assert is_witnessed(record, before, W3) is counts


def test_the_set_before_counts_for_two_days() -> None:
    before = WitnessesBefore(ids("w3", "w4", "w5"), NOW)
    covered = name_record("alice", witnesses=["w3", "w4"])
    moments = [(NOW, True), (NOW + 172_799, True), (NOW + 172_800, False), (NOW + 10**7, False)]
    for now, counts in moments:
        assert is_witnessed(covered, W3, before.in_force(now)) is counts


def test_who_was_never_a_witness_counts_in_neither_set() -> None:
    record = name_record("mallory", witnesses=["s0", "s1", "s2"])
    assert not is_witnessed(record, W3, ids("w3", "w4"))
    assert not is_witnessed(record, NOBODY, NOBODY)


# Chains of transfers

PEOPLE = ["alice", "bob", "carol", "dave", "erin"]
CHAIN = [transfer(giver, taker, seq=NOW + number) for number, (giver, taker) in enumerate(pairwise(PEOPLE))]


def signed_by(owner: str, chain: Sequence[Transfer], **changes: object) -> bytes:
    """A record of `owner` around any chain, as somebody signs it who does not care for the rules."""
    plain = name_record(owner, issued_at=NOW + 50, addresses=())
    members: JsonObject = canonical.loads(plain.value, max_bytes=8_192)
    members |= {"transfers": [entry.to_members() for entry in chain], **changes}  # type: ignore[typeddict-item]
    return canonical.dumps(with_signature(person(owner), NAME_DOMAIN, members))


def refusal_of(value: bytes) -> type[RecordRefused] | None:
    try:
        validate(name_key("alice"), value, NOW + 60)
    except RecordRefused as refusal:
        return type(refusal)
    return None


def test_only_the_chain_in_its_order_is_accepted() -> None:
    for order in permutations(CHAIN):
        refused = refusal_of(signed_by("erin", order))
        assert (refused is None) is (list(order) == CHAIN)


def test_no_part_of_a_chain_stands_for_the_whole() -> None:
    """A tail is a chain of its own, with another root: it is younger than the name, and no claim to it."""
    for start in range(len(CHAIN)):
        for end in range(start + 1, len(CHAIN) + 1):
            part = CHAIN[start:end]
            refused = refusal_of(signed_by("erin", part))
            assert (refused is None) is (end == len(CHAIN))
    for left_out in range(1, len(CHAIN) - 1):
        gap = CHAIN[:left_out] + CHAIN[left_out + 1 :]
        assert refusal_of(signed_by("erin", gap)) is errors.TransferUnlinked
    whole = name_record("erin", issued_at=NOW + 50, transfers=CHAIN)
    tail = name_record("erin", issued_at=NOW + 50, transfers=CHAIN[1:])
    assert whole.root != tail.root
    assert whole.claim_digest != tail.claim_digest


def test_forged_links() -> None:
    first = CHAIN[0]
    forged = {
        "signed by the taker": replace(
            transfer("bob", "mallory", seq=NOW), from_peer=person("alice").peer_id
        ),
        "signature of another entry": replace(
            transfer("alice", "mallory", seq=NOW), signature=first.signature
        ),
        "another taker": replace(first, to_peer=person("mallory").peer_id),
        "another giver": replace(first, from_peer=person("carol").peer_id, to_peer=person("mallory").peer_id),
        "another number": replace(first, seq=first.seq + 1, to_peer=person("mallory").peer_id),
    }
    for what, entry in forged.items():
        assert refusal_of(signed_by("mallory", [entry])) is errors.TransferSignatureWrong, what
    other = {
        "another name": transfer("alice", "mallory", name="another"),
        "another swarm": transfer("alice", "mallory", swarm="lab"),
    }
    for what, entry in other.items():
        assert refusal_of(signed_by("mallory", [entry])) is errors.TransferOfOtherName, what


def test_numbers_must_rise_to_the_record() -> None:
    level = [transfer("alice", "bob", seq=NOW + 5), transfer("bob", "carol", seq=NOW + 5)]
    falling = [transfer("alice", "bob", seq=NOW + 5), transfer("bob", "carol", seq=NOW + 4)]
    beyond = [transfer("alice", "bob", seq=NOW + 5), transfer("bob", "carol", seq=NOW + 50)]
    for chain in (level, falling, beyond):
        assert refusal_of(signed_by("carol", chain)) is errors.TransferSeqNotRising


def test_an_entry_goes_to_nobody_but_who_it_names() -> None:
    assert refusal_of(signed_by("mallory", CHAIN)) is errors.TransferUnlinked
    assert refusal_of(signed_by("bob", CHAIN)) is errors.TransferUnlinked


def test_a_chain_to_oneself_gives_no_age() -> None:
    """Mallory gives to herself as often as she likes: the root is hers, and the age is that of her claim."""
    rounds = [transfer("mallory", "mallory", seq=NOW + 100 + n) for n in range(8)]
    longer = name_record("mallory", registered_at=NOW + 1, issued_at=NOW + 200, transfers=rounds, lifetime=60)
    assert wins(name_record("alice", lifetime=3_600), longer, NOW + 200)
    assert wins(HONEST, longer, NOW + 200)
    nine = [*rounds, transfer("mallory", "mallory", seq=NOW + 150)]
    assert refusal_of(signed_by("mallory", nine)) is errors.TransfersTooMany


def test_a_second_transfer_by_the_same_owner_does_not_move_a_covered_name() -> None:
    to_bob = transfer("alice", "bob", seq=NOW)
    to_mallory = transfer("alice", "mallory", seq=NOW, at=NOW + 1)
    bob = name_record("bob", seq=NOW + 1, transfers=[to_bob], witnesses=["w0", "w1"])
    mallory = name_record("mallory", seq=NOW + 1, transfers=[to_mallory], witnesses=["w2"])
    assert wins(bob, mallory)
    longer = [to_mallory, transfer("mallory", "carol", seq=NOW + 1)]
    assert wins(bob, name_record("carol", seq=NOW + 2, transfers=longer, witnesses=["w2"]))


def test_a_pin_follows_no_chain_that_does_not_lead_on_from_it() -> None:
    pins = Pins()
    assert pins.observe("", name_record("bob"), NOW) is Verdict.NEW
    from_alice = name_record("carol", issued_at=NOW + 5, transfers=[transfer("alice", "carol", seq=NOW)])
    assert pins.observe("", from_alice, NOW) is Verdict.CHANGED
    from_bob = name_record("carol", issued_at=NOW + 5, transfers=[transfer("bob", "carol", seq=NOW)])
    assert pins.observe("", from_bob, NOW) is Verdict.MOVED


# Two records under one number


def test_equivocation_is_seen_whichever_holder_has_which() -> None:
    one = name_record("alice", witnesses=["w0", "w1"])
    other = name_record("alice", witnesses=["w0", "w1"], addresses=())
    assert is_equivocation(one, other)
    assert is_equivocation(other, one)
    assert wins(one, other) is not wins(other, one)


def test_the_work_is_worth_nothing_to_another() -> None:
    for stolen in (
        solved_work("alice"),
        solved_work("mallory", "another"),
        solved_work("mallory", "alice", "lab"),
    ):
        if stolen == solved_work("mallory"):
            continue
        assert refusal_of(signed_by("mallory", CHAIN[:1], pow=stolen)) is errors.RecordWorkTooWeak
