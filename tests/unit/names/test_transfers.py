"""Chains of transfers: linked, rising, signed by who gives (wire.md section 4)."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from wws.codec import canonical
from wws.errors import LocalProtocolError
from wws.names import errors
from wws.names.errors import RecordRefused
from wws.names.record import name_key, validate
from wws.names.select import select
from wws.names.transfers import MAX_TRANSFERS, Transfer, check_chain, parse_chain
from wws.testing.names import NOW, name_record, person, transfer

AB = transfer("alice", "bob", seq=NOW)
BC = transfer("bob", "carol", seq=NOW + 5)
CAROL = person("carol").peer_id


def judge(*chain: Transfer, seq: int = NOW + 9) -> None:
    check_chain(chain, name="alice", swarm="public", owner=CAROL, seq=seq)


def test_a_chain_of_two() -> None:
    judge(AB, BC)
    record = name_record("carol", issued_at=NOW + 9, transfers=[AB, BC])
    assert validate(name_key("alice"), record.value, NOW + 9).transfers == (AB, BC)
    assert record.root == person("alice").peer_id
    assert AB.digest == hashlib.sha256(canonical.dumps(AB.to_members())).hexdigest()


def test_a_name_may_come_back() -> None:
    record = name_record("alice", issued_at=NOW + 9, transfers=[AB, transfer("bob", "alice", seq=NOW + 5)])
    assert select([name_record("alice"), record], NOW + 9, frozenset()) == 1


@pytest.mark.parametrize(
    "chain, seq, error",
    [
        ((AB,), NOW + 9, errors.TransferUnlinked),
        ((BC, AB), NOW + 9, errors.TransferUnlinked),
        ((transfer("alice", "dave", seq=NOW), BC), NOW + 9, errors.TransferUnlinked),
        ((AB, transfer("bob", "carol", seq=NOW)), NOW + 9, errors.TransferSeqNotRising),
        ((AB, BC), NOW + 5, errors.TransferSeqNotRising),
        ((AB, transfer("bob", "carol", name="bob", seq=NOW + 5)), NOW + 9, errors.TransferOfOtherName),
        ((AB, transfer("bob", "carol", swarm="lab", seq=NOW + 5)), NOW + 9, errors.TransferOfOtherName),
        ((AB, replace(BC, at=BC.at + 1)), NOW + 9, errors.TransferSignatureWrong),
        ((replace(AB, signature=BC.signature), BC), NOW + 9, errors.TransferSignatureWrong),
    ],
)
def test_each_rule_refuses(chain: tuple[Transfer, ...], seq: int, error: type[RecordRefused]) -> None:
    with pytest.raises(RecordRefused) as refusal:
        judge(*chain, seq=seq)
    assert type(refusal.value) is error


def test_eight_and_no_more() -> None:
    people = ["alice", "bob"] * 5
    chain = [transfer(people[i], people[i + 1], seq=NOW + i) for i in range(9)]
    name_record(people[8], issued_at=NOW + 9, transfers=chain[:MAX_TRANSFERS])
    with pytest.raises(LocalProtocolError):
        name_record(people[9], issued_at=NOW + 9, transfers=chain)


@pytest.mark.parametrize(
    "change",
    [{"x": 1}, {"seq": "1"}, {"from": "alice"}, {"signature": ""}, {"signature": "AA=="}, {"to": None}],
)
def test_malformed_entries(change: dict) -> None:
    with pytest.raises(RecordRefused):
        parse_chain([{**AB.to_members(), **change}])
    with pytest.raises(RecordRefused):
        parse_chain(["entry"])


def test_without_witnesses_the_longer_chain_wins_at_once_and_with_them_the_majority() -> None:
    old = name_record("alice", witnesses=["w1", "w2"])
    new = name_record("bob", issued_at=NOW + 9, transfers=[AB], witnesses=["w3"])
    witnesses = frozenset(person(label).peer_id for label in ("w1", "w2", "w3"))
    assert select([old, new], NOW + 9, frozenset()) == 1
    assert select([old, new], NOW + 9, witnesses) == 0
    done = name_record("bob", issued_at=NOW + 9, transfers=[AB], witnesses=["w3", "w1"])
    assert select([old, done], NOW + 9, witnesses) == 1
