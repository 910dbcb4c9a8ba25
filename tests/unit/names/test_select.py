"""Select: a total order, whatever the order of arrival (wire.md section 4)."""

from __future__ import annotations

import random
from itertools import pairwise, permutations

import pytest

from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.names.receipts import SEEN_WITHIN, is_witnessed, majority
from wws.names.record import GRACE, NameRecord
from wws.names.select import is_equivocation, rank, select
from wws.testing.names import NOW, name_record, person, receipt, transfer
from wws.testing.scale import scale

WITNESSES = [f"w{number}" for number in range(7)]


def ids(*labels: str) -> frozenset[PeerId]:
    return frozenset(person(label).peer_id for label in labels)


W3 = ids("w0", "w1", "w2")
NOBODY: frozenset[PeerId] = frozenset()


def _pool(rng: random.Random) -> list[NameRecord]:
    """Valid records of one name: several owners, ages, chains, covers, releases, equivocations."""
    pool: list[NameRecord] = []
    chains = [
        (),
        (transfer("alice", "bob", seq=NOW + 10),),
        (transfer("alice", "carol", seq=NOW + 10),),
        (transfer("alice", "bob", seq=NOW + 10), transfer("bob", "carol", seq=NOW + 50)),
        (transfer("bob", "alice", seq=NOW + 10),),
    ]
    for _ in range(240):
        chain = rng.choice(chains)
        owner = next(
            (who for who in ("alice", "bob", "carol") if chain and chain[-1].to_peer == person(who).peer_id),
            "",
        )
        owner = owner or rng.choice(["alice", "bob", "carol"])
        registered_at = NOW + rng.choice([0, 0, 0, 1, 100, 90_000, 200_000])
        issued_at = registered_at + rng.choice([0, 5, 60, 5_000])
        pool.append(
            name_record(
                owner,
                registered_at=registered_at,
                issued_at=issued_at,
                seq=issued_at + rng.choice([0, 60, 100])
                if not chain
                else max(issued_at, NOW + 60) + rng.choice([0, 7]),
                lifetime=rng.choice([60, 40_000, 86_400]),
                addresses=(),
                witnesses=rng.sample(WITNESSES, rng.choice([0, 0, 1, 2, 3, 5])),
                transfers=chain,
                released=rng.random() < 0.1,
            )
        )
    return pool


def test_total_order_independent_idempotent() -> None:
    """Random sets of records, witnesses and times: one winner, and nothing that lost matters."""
    rng = random.Random(2_026)
    pool = _pool(rng)
    sets_of_witnesses = [NOBODY, *(ids(*rng.sample(WITNESSES, size)) for size in (1, 2, 3, 3, 4, 5, 7))]
    for _ in range(scale(100_000, least=2_000)):
        records = rng.choices(pool, k=rng.randint(2, 6))
        unix_now = NOW + rng.choice([0, 500, 60_000, 87_000, 172_801, 260_000, 400_000])
        sets = rng.choice(sets_of_witnesses), rng.choice(sets_of_witnesses)
        ranks = [rank(record, unix_now, *sets) for record in records]
        winner = records[select(records, unix_now, *sets)]
        # Total: equal rank means equal bytes.
        for (one, left), (other, right) in pairwise(
            sorted(zip(ranks, records, strict=True), key=lambda p: p[0])
        ):
            assert one < other or left.value == right.value
        # Independent of order.
        shuffled = rng.sample(records, len(records))
        assert shuffled[select(shuffled, unix_now, *sets)].value == winner.value
        # The same whether holders compare one by one or all at once.
        kept = records[0]
        for record in records[1:]:
            kept = (kept, record)[select((kept, record), unix_now, *sets)]
        assert kept.value == winner.value
        # Idempotent, and nothing that lost matters.
        again = [winner, *rng.sample(records, rng.randint(0, len(records)))]
        assert again[select(again, unix_now, *sets)].value == winner.value


def test_nothing_to_select_from() -> None:
    with pytest.raises(LocalProtocolError):
        select([], NOW, NOBODY)


def test_the_first_of_equal_bytes() -> None:
    record = name_record("alice")
    assert select([record, record], NOW, NOBODY) == 0


def test_one_second_decides_and_then_a_hash() -> None:
    early, late = name_record("alice"), name_record("bob", registered_at=NOW + 1)
    assert select([late, early], NOW + 9, NOBODY) == 1
    rivals = [name_record(who) for who in ("alice", "bob", "carol")]
    winners = {order[select(order, NOW, NOBODY)].peer_id for order in permutations(rivals)}
    assert winners == {min(rivals, key=lambda record: record.claim_digest).peer_id}


def test_the_hash_is_that_of_who_claimed() -> None:
    """A tie between claims of one second is not decided anew by a transfer."""
    given_away = name_record("carol", issued_at=NOW + 60, transfers=[transfer("alice", "carol", seq=NOW)])
    assert given_away.claim_digest == name_record("alice").claim_digest


@pytest.mark.parametrize("of, needed", [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (16, 9)])
def test_majority(of: int, needed: int) -> None:
    assert majority(ids(*(f"w{number}" for number in range(of)))) == needed


def test_nobody_witnesses_where_there_are_no_witnesses() -> None:
    assert not is_witnessed(name_record("alice", witnesses=WITNESSES), NOBODY, NOBODY)


def test_majorities_of_two_sets_are_not_added() -> None:
    record = name_record("alice", witnesses=["w0", "w3"])
    assert not is_witnessed(record, W3, ids("w3", "w4", "w5"))
    assert is_witnessed(name_record("alice", witnesses=["w3", "w4"]), W3, ids("w3", "w4", "w5"))


@pytest.mark.parametrize(
    "receipts, counts",
    [
        ([receipt("w0", "alice"), receipt("w1", "alice")], True),
        ([receipt("w0", "alice")], False),
        ([receipt("w0", "alice"), receipt("w0", "alice", first_seen=NOW + 2)], False),
        ([receipt("w0", "alice"), receipt("w5", "alice")], False),
        ([receipt("w0", "alice"), receipt("w1", "bob")], False),
        ([receipt("w0", "alice"), receipt("w1", "alice", name="bob")], False),
        ([receipt("w0", "alice"), receipt("w1", "alice", swarm="lab")], False),
        ([receipt("w0", "alice"), receipt("w1", "alice", registered_at=NOW + 1)], False),
        ([receipt("w0", "alice"), receipt("w1", "alice", provisional=True)], False),
        ([receipt("w0", "alice"), receipt("w1", "alice", first_seen=NOW + SEEN_WITHIN)], True),
        ([receipt("w0", "alice"), receipt("w1", "alice", first_seen=NOW + SEEN_WITHIN + 1)], False),
        (
            [
                receipt("w0", "alice"),
                receipt("w1", "alice", first_seen=NOW - SEEN_WITHIN, expires_at=NOW + 60),
            ],
            True,
        ),
        (
            [
                receipt("w0", "alice"),
                receipt("w1", "alice", first_seen=NOW - SEEN_WITHIN - 1, expires_at=NOW + 60),
            ],
            False,
        ),
        ([receipt("w0", "alice"), receipt("w1", "alice", expires_at=NOW + 60)], True),
        ([receipt("w0", "alice"), receipt("w1", "alice", expires_at=NOW + 59)], False),
        ([receipt("w0", "alice"), receipt("w1", "alice", via="0" * 64)], False),
    ],
)
def test_which_receipts_count(receipts: list, counts: bool) -> None:
    assert is_witnessed(name_record("alice", lifetime=60, receipts=receipts), W3, NOBODY) is counts


def test_a_forged_receipt_does_not_count_and_does_not_stand_in_the_way() -> None:
    good, other = receipt("w0", "alice"), receipt("w1", "alice")
    forged = type(good)(
        **{field: getattr(other, field) for field in other.__dataclass_fields__ if field != "signature"},
        signature=good.signature,
    )
    assert not is_witnessed(name_record("alice", lifetime=60, receipts=[good, forged]), W3, NOBODY)
    assert is_witnessed(name_record("alice", lifetime=60, receipts=[forged, other, good]), W3, NOBODY)


def test_back_dating_a_witnessed_name_is_refused() -> None:
    honest = name_record("alice", witnesses=["w0", "w1"])
    back_dated = name_record("bob", registered_at=0, issued_at=NOW, witnesses=[])
    assert select([back_dated, honest], NOW, W3) == 1
    # Without witnesses it wins: the documentation says so, and pins are what helps.
    assert select([back_dated, honest], NOW, NOBODY) == 0


def test_a_replayed_older_record_loses() -> None:
    old = name_record("alice", witnesses=["w0", "w1"])
    new = name_record("alice", issued_at=NOW + 60, witnesses=["w0", "w1"])
    assert select([old, new], NOW + 60, W3) == 1


def test_grace_and_death() -> None:
    old = name_record("alice", lifetime=60)
    new = name_record("bob", registered_at=NOW + GRACE, lifetime=60)
    assert select([old, new], NOW + 60 + GRACE - 1, NOBODY) == 0
    assert select([old, new], NOW + 60 + GRACE, NOBODY) == 1


def test_equivocation() -> None:
    one, other = name_record("alice"), name_record("alice", lifetime=60)
    assert is_equivocation(one, other)
    assert not is_equivocation(one, one)
    assert not is_equivocation(one, name_record("alice", seq=NOW + 1))
    assert not is_equivocation(one, name_record("bob"))
