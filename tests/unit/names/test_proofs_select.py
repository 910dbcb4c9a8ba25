"""Select over random sets of records: one winner, whatever the order and however the holders compare.

Records come in every state that Select tells apart: alive and dead, covered by honest, forged, provisional,
foreign and duplicated receipts, with chains and without, released, signed twice. They are put together from
receipts and transfers that are signed once; the records themselves are not parsed, because Select never
looks at a record's own signature.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from functools import cache
from itertools import pairwise, permutations

import pytest

from wws.codec import canonical
from wws.identity.peer_id import PeerId
from wws.names.kinds import NameRecords
from wws.names.receipts import Receipt
from wws.names.record import GRACE, NameRecord, name_key
from wws.names.select import rank, select
from wws.names.transfers import Transfer
from wws.testing.names import NOW, name_record, person, receipt, transfer
from wws.testing.scale import scale

OWNERS = ["alice", "bob", "carol"]
MEMBERS = [f"w{number}" for number in range(5)]
STRANGERS = ["s0", "s1"]
CLAIMED = [NOW, NOW, NOW, NOW + 1, NOW + 700, NOW + 90_000]
LIVES = [60, 86_400]


def ids(labels: Sequence[str]) -> frozenset[PeerId]:
    return frozenset(person(label).peer_id for label in labels)


SETS = [ids(MEMBERS[start:end]) for start, end in ((0, 0), (0, 1), (0, 3), (1, 4), (2, 5), (0, 5))]


@cache
def chain_of(*people: str) -> tuple[Transfer, ...]:
    return tuple(
        transfer(giver, taker, seq=NOW + number) for number, (giver, taker) in enumerate(pairwise(people))
    )


CHAINS = [("alice", "bob"), ("alice", "carol"), ("alice", "bob", "carol"), ("bob", "alice")]


@cache
def receipt_of(
    witness: str, owner: str, registered_at: int, seen: int, until: int, via: str | None, fault: str
) -> Receipt:
    """A receipt with one fault, or with none."""
    good = receipt(
        witness,
        "carol" if fault == "owner" else owner,
        name="another" if fault == "name" else "alice",
        swarm="lab" if fault == "swarm" else "public",
        registered_at=registered_at + (1 if fault == "registered_at" else 0),
        first_seen=seen,
        expires_at=until - (1 if fault == "short" else 0),
        provisional=fault == "provisional",
        via=("f" * 64 if via is None else None) if fault == "via" else via,
    )
    return replace(good, signature=bytes(64)) if fault == "forged" else good


FAULTS = ["", "", "", "", "owner", "name", "swarm", "registered_at", "short", "provisional", "via", "forged"]


def random_record(rng: random.Random) -> NameRecord:
    chain = () if rng.random() < 0.7 else rng.choice(CHAINS)
    owner = chain[-1] if chain else rng.choice(OWNERS)
    registered_at = rng.choice(CLAIMED)
    issued_at = registered_at + rng.choice((0, 30))
    expires_at = issued_at + rng.choice(LIVES)
    if rng.random() < 0.3:  # by honest witnesses, most often of the set that is asked about
        signers, faults = rng.sample(MEMBERS, rng.choice((2, 3, 4))), [""]
    else:
        signers, faults = rng.choices(MEMBERS + STRANGERS, k=rng.choice((0, 0, 1, 2, 3, 4, 5))), FAULTS
    members = (owner, chain, registered_at, issued_at, expires_at, tuple(signers), rng.random())
    return NameRecord(
        swarm="public",
        name="alice",
        peer_id=person(owner).peer_id,
        addresses=(),
        seq=issued_at + rng.choice((0, 0, 1, 60)),
        registered_at=registered_at,
        issued_at=issued_at,
        expires_at=expires_at,
        nonce=0,
        receipts=tuple(
            receipt_of(
                signer,
                owner,
                registered_at,
                registered_at + rng.choice((0, 0, 600, 601)),
                expires_at,
                chain_of(*chain)[-1].digest if chain else None,
                rng.choice(faults),
            )
            for signer in signers
        ),
        transfers=chain_of(*chain) if chain else (),
        released=rng.random() < 0.1,
        value=repr(members).encode(),
    )


def is_covered(record: NameRecord, group: Set[PeerId]) -> bool:
    """wire.md section 4, word by word, and not as the product has it."""
    counted: list[PeerId] = []
    for found in record.receipts:
        if found.witness not in group or found.witness in counted or found.provisional:
            continue
        if (found.swarm, found.name, found.registered_at) != (
            record.swarm,
            record.name,
            record.registered_at,
        ):
            continue
        if found.owner != record.peer_id or found.expires_at < record.expires_at:
            continue
        if found.via != (record.transfers[-1].digest if record.transfers else None):
            continue
        if not record.registered_at - 600 <= found.first_seen <= record.registered_at + 600:
            continue
        if found.is_signed_by_witness:
            counted.append(found.witness)
    return 2 * len(counted) > len(group)


def expected(records: Sequence[NameRecord], now: int, *sets: frozenset[PeerId]) -> NameRecord:
    """The winner by elimination: one rule after the other, until one value is left."""
    rules: list[Callable[[NameRecord], object]] = [
        lambda record: now >= record.expires_at + GRACE,
        lambda record: not any(is_covered(record, group) for group in sets),
        lambda record: record.registered_at,
        lambda record: last_transfer(record) if any(is_covered(record, group) for group in sets) else 0,
        lambda record: record.claim_digest,
        lambda record: -len(record.transfers),
        chain_digest,
        lambda record: -record.seq,
        lambda record: record.value_digest,
    ]
    left = list(records)
    for rule in rules:
        best = min(map(rule, left))  # type: ignore[type-var]
        left = [record for record in left if rule(record) == best]
    assert len({record.value for record in left}) == 1
    return left[0]


def last_transfer(record: NameRecord) -> int:
    """The later the witnessed transfer by which a name came to its owner, the better."""
    return -max((entry.seq for entry in record.transfers), default=0)


def chain_digest(record: NameRecord) -> bytes:
    return hashlib.sha256(canonical.dumps([entry.to_members() for entry in record.transfers])).digest()


def winner(records: Sequence[NameRecord], now: int, *sets: frozenset[PeerId]) -> NameRecord:
    return records[select(records, now, *sets)]


MOMENTS = [NOW, NOW + 500, NOW + 60 + GRACE, *(NOW + days * GRACE + 31 for days in (2, 3, 9))]


@pytest.mark.timeout(900)
def test_one_winner_whatever_the_order() -> None:
    """Total, order-independent, idempotent, associative; and nothing that lost decides anything."""
    rng = random.Random(5)
    records_made: list[NameRecord] = []
    for number in range(scale(100_000, least=1_000)):
        # Each set has some records that are new and some that were in sets before.
        records_made[number % 4_000 : number % 4_000 + 1] = [random_record(rng)]
        records = rng.choices(records_made, k=rng.randint(2, 6))
        now, sets = rng.choice(MOMENTS), (rng.choice(SETS), rng.choice(SETS))
        won = winner(records, now, *sets)

        # Total: of different bytes, one is before the other.
        by_rank = {rank(record, now, *sets): record.value for record in records}
        assert len(by_rank) == len({record.value for record in records})
        assert by_rank[min(by_rank)] == won.value

        # Independent of the order of arrival.
        assert winner(rng.sample(records, len(records)), now, *sets).value == won.value

        # Associative: however the records lie over holders, and whoever merges with whom first.
        cut = rng.randint(1, len(records) - 1)
        left, right = records[:cut], records[cut:]
        merged = winner([winner(left, now, *sets), winner(right, now, *sets)], now, *sets)
        assert merged.value == won.value

        # Idempotent, and independent of the losers.
        assert winner([won, merged, won], now, *sets).value == won.value
        some = [record for record in records if rng.random() < 0.5]
        assert winner([*some, won], now, *sets).value == won.value


@pytest.mark.timeout(900)
def test_the_winner_is_the_one_that_the_rules_name() -> None:
    rng = random.Random(6)
    for _ in range(scale(20_000, least=500)):
        records = [random_record(rng) for _ in range(rng.randint(1, 4))]
        now, sets = rng.choice(MOMENTS), (rng.choice(SETS), rng.choice(SETS))
        assert winner(records, now, *sets).value == expected(records, now, *sets).value


def test_the_sets_have_every_kind_of_record() -> None:
    """Else the properties above would say little."""
    rng = random.Random(5)
    records = [random_record(rng) for _ in range(500)]
    w3 = SETS[2]
    covered = sum(is_covered(record, w3) for record in records)
    assert 40 < covered < 400
    assert any(record.is_dead(NOW + 2 * GRACE) for record in records)
    assert {len(record.transfers) for record in records} == {0, 1, 2}


@pytest.mark.parametrize("group", [SETS[0], SETS[2]])
def test_holders_agree_on_real_bytes(group: frozenset[PeerId]) -> None:
    """The same through the store's own door: values in, index out, in every order."""
    kind = NameRecords(lambda: (group, frozenset()))
    values = [
        name_record("alice", addresses=()).value,
        name_record("alice", addresses=(), issued_at=NOW + 5).value,
        name_record("bob", addresses=(), witnesses=MEMBERS[:2]).value,
        name_record("carol", addresses=(), issued_at=NOW + 9, transfers=chain_of("alice", "carol")).value,
    ]
    winners = {order[kind.select(name_key("alice"), order, NOW + 10)] for order in permutations(values)}
    assert len(winners) == 1
    assert (values[2] in winners) is bool(group)
