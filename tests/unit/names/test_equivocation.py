"""Owners who sign two records under one number: found wherever the two meet, and kept as proof."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.codec.canonical import JsonObject, JsonValue
from wws.names.equivocation import Equivocation, Equivocations, EquivocationsConfig
from wws.names.errors import RecordRefused
from wws.names.kinds import KindsConfig, NameRecords
from wws.names.record import NameRecord, name_key
from wws.names.state import StateUnreadable
from wws.testing.names import ADDRESS, NOW, name_record, person

KEY = name_key("alice", "public")


def variant(port: int, *, owner: str = "alice", name: str = "alice", seq: int = NOW) -> NameRecord:
    """The owner's record number `seq`, with one address."""
    return name_record(owner, name=name, seq=seq, addresses=(ADDRESS.with_port(port),))


def test_two_that_come_one_after_the_other() -> None:
    kept = Equivocations()
    told: list[Equivocation] = []
    kept.on_found = told.append
    one, other, third = variant(1), variant(2), variant(3)
    for record in (one, one, other, one, other, third):
        kept.saw(record, NOW + 5)
    (proof,) = kept.all()
    assert (proof.name, proof.swarm, proof.peer_id) == ("alice", "public", person("alice").peer_id)
    assert (proof.seq, proof.found_at) == (NOW, NOW + 5)
    assert set(proof.records) == {one.value, other.value}
    assert told == [proof], "reported once"
    assert kept.concerns("alice", "public", proof.peer_id)
    assert not kept.concerns("bob12", "public", proof.peer_id)
    assert not kept.concerns("alice", "public", person("bob").peer_id)


@pytest.mark.parametrize(
    "other",
    [variant(1), variant(2, seq=NOW + 1), variant(2, owner="bob"), variant(2, name="alice2")],
    ids=["the same bytes", "another number", "another owner", "another name"],
)
def test_what_is_none(other: NameRecord) -> None:
    kept = Equivocations()
    kept.saw(variant(1), NOW)
    kept.saw(other, NOW)
    kept.compared([variant(1), other], NOW)
    assert kept.all() == []


def test_the_proof_is_the_same_in_any_order() -> None:
    proofs: set[tuple[bytes, bytes]] = set()
    for records in permutations([variant(1), variant(2)]):
        kept = Equivocations()
        for record in records:
            kept.saw(record, NOW)
        proofs.update(proof.records for proof in kept.all())
    assert len(proofs) == 1


def test_they_meet_in_validate_and_in_select() -> None:
    one, other = variant(1), variant(2)
    kind = NameRecords()
    kind.validate(KEY, one.value, NOW)
    kind.validate(KEY, other.value, NOW)
    assert len(kind.equivocations) == 1
    # A holder has kept the first for so long that it is not remembered.
    short = Equivocations(EquivocationsConfig(remembered=1))
    kind = NameRecords(config=KindsConfig(remembered=1), equivocations=short)
    kind.validate(KEY, one.value, NOW)
    kind.validate(name_key("bob12", "public"), variant(1, owner="bob", name="bob12").value, NOW)
    kind.validate(KEY, other.value, NOW)
    assert len(short) == 0
    kind.select(KEY, [one.value, other.value], NOW)
    assert len(short) == 1


def test_a_record_that_is_not_valid_proves_nothing() -> None:
    one, other = variant(1), variant(2)
    kind = NameRecords()
    kind.validate(KEY, one.value, NOW)
    forged = other.value.replace(b"/tcp/2/", b"/tcp/4/")
    with pytest.raises(RecordRefused):
        kind.validate(KEY, forged, NOW)
    assert len(kind.equivocations) == 0


def test_proofs_are_bounded_by_owner_and_in_total() -> None:
    kept = Equivocations(EquivocationsConfig(most=4, most_per_owner=3))
    for seq in range(NOW, NOW + 5):
        kept.compared([variant(1, seq=seq), variant(2, seq=seq)], NOW)
    assert [proof.seq for proof in kept.all()] == [NOW, NOW + 3, NOW + 4], "the first stays, and the latest"
    for number, owner in enumerate(("bob", "carol")):
        kept.compared([variant(1, owner=owner), variant(2, owner=owner)], NOW + number)
    assert len(kept) == 4
    assert [proof.peer_id for proof in kept.of(person("carol").peer_id)] == [person("carol").peer_id]


def test_what_is_remembered_is_bounded() -> None:
    kept = Equivocations(EquivocationsConfig(remembered=2))
    for seq in range(NOW, NOW + 3):
        kept.saw(variant(1, seq=seq), NOW)
    kept.saw(variant(2, seq=NOW + 2), NOW)
    kept.saw(variant(2, seq=NOW), NOW)
    assert [proof.seq for proof in kept.all()] == [NOW + 2]


def test_the_file_comes_back_and_is_proven_again() -> None:
    kept = Equivocations()
    kept.compared([variant(1), variant(2)], NOW)
    again = Equivocations()
    assert again.load(kept.to_json()) == 0
    assert again.all() == kept.all()
    assert again.revision == 0, "nothing to save"


ONE, OTHER = variant(1).value.decode(), variant(2).value.decode()


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {},
        {"found_at": NOW, "records": [ONE]},
        {"found_at": NOW, "records": [ONE, ONE]},
        {"found_at": NOW, "records": [ONE, OTHER, OTHER]},
        {"found_at": "now", "records": [ONE, OTHER]},
        {"found_at": NOW, "records": [ONE, variant(2, seq=NOW + 1).value.decode()]},
        {"found_at": NOW, "records": [ONE, OTHER.replace("/tcp/2/", "/tcp/4/")]},
        {"found_at": NOW, "records": [ONE, "\ud800"]},
    ],
)
def test_an_entry_that_proves_nothing_is_left_out(entry: JsonValue) -> None:
    kept = Equivocations()
    good: JsonObject = {"found_at": NOW, "records": [ONE, OTHER]}
    assert kept.load({"schema": 1, "equivocations": [entry, good]}) == 1
    assert len(kept) == 1


@pytest.mark.parametrize("state", [None, [], {}, {"schema": 3, "equivocations": []}, {"schema": 1}])
def test_a_file_that_is_none_is_refused(state: JsonValue) -> None:
    with pytest.raises(StateUnreadable):
        Equivocations().load(state)


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([0, 1, 2])), max_size=30))
def test_any_order_of_records(seen: list[tuple[int, int]]) -> None:
    kept = Equivocations(EquivocationsConfig(most=2, most_per_owner=2))
    records = [RECORDS[port, number] for port, number in seen]
    for record in records:
        kept.saw(record, NOW)
    twice = {r.seq for r in records if any(o.seq == r.seq and o.value != r.value for o in records)}
    assert {proof.seq for proof in kept.all()} <= twice
    assert len(kept) == min(2, len(twice))
    for proof in kept.all():
        assert proof.records[0] < proof.records[1]


RECORDS = {(port, number): variant(port, seq=NOW + number) for port in (1, 2, 3) for number in range(3)}
