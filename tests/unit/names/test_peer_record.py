"""Peer records: where a node is, by its DID (wire.md section 4a)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.errors import LocalProtocolError
from wws.names import errors
from wws.names.errors import RecordRefused
from wws.names.peer_record import PEER_DOMAIN, peer_key, select_peer, validate_peer
from wws.names.record import NAME_DOMAIN
from wws.names.signed import with_signature
from wws.testing.names import ADDRESS, NOW, peer_record, person
from wws.testing.scale import scale

RECORD = peer_record("alice")
KEY = RECORD.key
MEMBERS: JsonObject = canonical.loads(RECORD.value, max_bytes=10_000)


def signed(changes: JsonObject, *, without: str = "", domain: bytes = PEER_DOMAIN) -> bytes:
    members = {key: value for key, value in {**MEMBERS, **changes}.items() if key != without}
    return canonical.dumps(with_signature(person("alice"), domain, members))


def test_the_key_is_the_did() -> None:
    assert peer_key(person("alice").peer_id.did) == "/wws/peers/" + person("alice").peer_id.did[10:]
    assert validate_peer(KEY, RECORD.value, NOW) == RECORD
    with pytest.raises(errors.RecordKeyMismatch):
        validate_peer(peer_key(person("bob").peer_id.did), RECORD.value, NOW)


@pytest.mark.parametrize(
    "value, error",
    [
        *(
            (signed({}, without=member), errors.RecordMembersWrong)
            for member in sorted(MEMBERS.keys() - {"signature"})
        ),
        (signed({"name": "alice"}), errors.RecordMembersWrong),
        (signed({"v": 2}), errors.RecordVersionUnknown),
        (signed({"did": person("bob").peer_id.did}), errors.RecordDidMismatch),
        (signed({"addresses": [str(ADDRESS)]}), errors.RecordAddressForeign),
        (signed({"addresses": [str(ADDRESS.with_peer(RECORD.peer_id))] * 17}), errors.RecordAddressesTooMany),
        (signed({"expires_at": NOW}), errors.RecordLeaseEmpty),
        (signed({"expires_at": NOW + 86_401}), errors.RecordLeaseTooLong),
        (signed({"issued_at": NOW + 301, "seq": NOW + 301}), errors.RecordFromFuture),
        (signed({"seq": NOW - 1}), errors.RecordSeqTooLow),
        (signed({}, domain=NAME_DOMAIN), errors.RecordSignatureWrong),
        (RECORD.value + b" ", errors.RecordNotCanonical),
        (b"{" * 8_193, errors.RecordTooLarge),
    ],
)
def test_each_rule_refuses(value: bytes, error: type[RecordRefused]) -> None:
    with pytest.raises(RecordRefused) as refusal:
        validate_peer(KEY, value, NOW)
    assert type(refusal.value) is error


def test_no_grace() -> None:
    validate_peer(KEY, RECORD.value, RECORD.expires_at + 299)
    with pytest.raises(errors.RecordExpired):
        validate_peer(KEY, RECORD.value, RECORD.expires_at + 300)


def test_every_single_bit_counts() -> None:
    bits = len(RECORD.value) * 8
    for bit in random.Random(4).sample(range(bits), scale(bits)):
        flipped = bytearray(RECORD.value)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordRefused):
            validate_peer(KEY, bytes(flipped), NOW)


@given(
    st.permutations(
        [peer_record("alice", seq=NOW + n) for n in (0, 1, 2)]
        + [peer_record("alice", addresses=(), seq=NOW + 2)]
    )
)
def test_the_higher_seq_then_the_lower_hash(records: list) -> None:
    winner = records[select_peer(records)]
    assert winner.seq == NOW + 2
    assert winner.rank == min(record.rank for record in records)


def test_nothing_to_select_from_and_nothing_wrong_to_sign() -> None:
    with pytest.raises(LocalProtocolError):
        select_peer([])
    with pytest.raises(LocalProtocolError):
        peer_record("alice", seq=NOW - 1)
