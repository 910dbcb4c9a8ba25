"""Names: records, receipts, transfers, and what owners and witnesses say to each other.

A change to a signed record ends at its signature, so each corpus has also oddities that are signed anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from tests.fuzz.mutator import Mutator
from tests.fuzz.target import Form, Target
from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.errors import ParseError
from wws.names.errors import RecordRefused
from wws.names.peer_record import PEER_DOMAIN, PeerRecord, peer_key, validate_peer
from wws.names.receipts import RECEIPT_DOMAIN, Receipt, is_witnessed
from wws.names.record import NAME_DOMAIN, NameRecord, name_key, validate
from wws.names.select import rank
from wws.names.signed import with_signature
from wws.names.transfers import TRANSFER_DOMAIN, Transfer, check_chain, parse_chain
from wws.names.witness.log import Kind, LogEntry, conflicts, replay
from wws.names.witness.messages import (
    Dropped,
    Op,
    WitnessAnswer,
    WitnessRefusal,
    WitnessRequest,
    answer_bytes,
    parse_answer,
)
from wws.testing.names import NOW, name_record, peer_record, person, receipt, solved_work, transfer

KEY = name_key("alice")
W = frozenset(person(label).peer_id for label in ("w0", "w1", "w2"))
ODD = 60
"""Oddities in a corpus that are signed anew."""


def odd_and_signed(example: bytes, domain: bytes, signer: str) -> list[bytes]:
    """Objects that differ in members, each with a good signature."""
    members = json.loads(example)
    members.pop("signature")
    mutator = Mutator([canonical.dumps(members)], Form.JSON, f"odd {domain!r}")
    found: list[bytes] = []
    while len(found) < ODD:
        try:
            changed: JsonObject = json.loads(mutator.next())
            found.append(canonical.dumps(with_signature(person(signer), domain, changed)))
        except (ValueError, AttributeError, TypeError, RecursionError):  # not an object, or not one of JCS
            continue
    return found


@cache
def records() -> list[bytes]:
    chain = [transfer("alice", "bob", seq=NOW), transfer("bob", "carol", seq=NOW + 5)]
    plain = name_record("alice", addresses=())
    return [
        plain.value,
        name_record("alice", witnesses=["w0", "w1"]).value,
        name_record("carol", issued_at=NOW + 9, transfers=chain).value,
        name_record("alice", released=True).value,
        *odd_and_signed(plain.value, NAME_DOMAIN, "alice"),
    ]


@cache
def peers() -> list[bytes]:
    plain = peer_record("alice")
    return [
        plain.value,
        peer_record("bob", addresses=()).value,
        *odd_and_signed(plain.value, PEER_DOMAIN, "alice"),
    ]


@cache
def receipts() -> list[bytes]:
    found = [
        receipt("w0", "alice"),
        receipt("w0", "alice", provisional=True),
        receipt("w1", "bob", via="0" * 64),
    ]
    whole = [canonical.dumps(each.to_members()) for each in found]
    return [*whole, *odd_and_signed(whole[0], RECEIPT_DOMAIN, "w0")]


@cache
def entries() -> list[bytes]:
    whole = canonical.dumps(transfer("alice", "bob").to_members())
    return [whole, *odd_and_signed(whole, TRANSFER_DOMAIN, "alice")]


@cache
def requests() -> list[bytes]:
    return [
        WitnessRequest(
            op, "public", "alice", solved_work("alice"), NOW, tuple(transfers), tuple(found)
        ).to_bytes()
        for op in Op
        for transfers, found in (
            ([], []),
            ([transfer("alice", "bob")], []),
            ([], [receipt("w0", "alice"), receipt("w1", "alice")]),
        )
    ]


@cache
def answers() -> list[bytes]:
    found: list[WitnessAnswer] = [
        receipt("w0", "alice"),
        receipt("w0", "alice", provisional=True),
        Dropped(),
        WitnessRefusal("name_taken", holder=person("bob").peer_id),
        WitnessRefusal("name_contested", person("bob").peer_id, 7),
        WitnessRefusal("work_too_weak", required_bits=14),
    ]
    return [answer_bytes(each) for each in found]


@cache
def logged() -> list[bytes]:
    whole = [receipt("w0", "alice"), receipt("w1", "alice")]
    chain = (transfer("alice", "bob"),)
    given = receipt("w0", "bob", via=chain[0].digest)
    found = [
        *(LogEntry(NOW, kind, whole[0]) for kind in Kind),
        LogEntry(NOW, Kind.TRANSFERRED, given, chain),
        LogEntry(NOW, Kind.TAKEN_OVER, whole[0], (), tuple(whole)),
    ]
    return [entry.to_bytes() for entry in found]


def _logged(data: bytes) -> None:
    entry = LogEntry.parse(data)
    assert entry.to_bytes() == data
    replay([entry])
    conflicts([entry, entry])


def _record(data: bytes) -> None:
    record = NameRecord.parse(data)
    assert record.value == data
    rank(record, NOW, W)  # whatever was accepted can be compared
    validate(KEY, data, NOW)


def _peer(data: bytes) -> None:
    record = PeerRecord.parse(data)
    assert record.value == data
    validate_peer(peer_key(person("alice").peer_id.did), data, NOW)


def _receipt(data: bytes) -> None:
    value = canonical.loads(data, max_bytes=8_192)
    found = Receipt.parse(value)
    assert canonical.dumps(found.to_members()) == data
    if found.is_signed_by_witness:
        is_witnessed(_carrying(found), W, frozenset())


def _carrying(found: Receipt) -> NameRecord:
    return replace(NameRecord.parse(records()[0]), receipts=(found,))


def _entry(data: bytes) -> None:
    entry = Transfer.parse(canonical.loads(data, max_bytes=8_192))
    assert canonical.dumps(entry.to_members()) == data
    chain = parse_chain([entry.to_members()])
    check_chain(chain, name="alice", swarm="public", owner=person("bob").peer_id, seq=NOW + 1)


def _exact(parse: Callable[[bytes], WitnessRequest]) -> Callable[[bytes], None]:
    def checked(data: bytes) -> None:
        assert parse(data).to_bytes() == data

    return checked


def _answer(data: bytes) -> None:
    assert answer_bytes(parse_answer(data)) == data


SIGNED_NAMES = (
    Target("name record", records, _record, (RecordRefused,), (NameRecord.parse, validate), Form.JSON),
    Target("peer record", peers, _peer, (RecordRefused,), (PeerRecord.parse, validate_peer), Form.JSON),
    Target("receipt", receipts, _receipt, (ParseError,), (Receipt.parse,), Form.JSON),
    Target("transfer entry", entries, _entry, (ParseError,), (Transfer.parse, parse_chain), Form.JSON),
    Target(
        "witness request",
        requests,
        _exact(WitnessRequest.parse),
        (RecordRefused,),
        (WitnessRequest.parse,),
        Form.JSON,
    ),
    Target("witness log", logged, _logged, (RecordRefused,), (LogEntry.parse,), Form.JSON),
    Target("witness answer", answers, _answer, (RecordRefused,), (parse_answer,), Form.JSON),
)
