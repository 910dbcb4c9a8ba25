"""Validate: every rule of wire.md section 4, at its limit and beyond it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.names import errors
from wws.names.errors import RecordRefused
from wws.names.record import NAME_DOMAIN, NameRecord, name_key, validate
from wws.names.signed import with_signature
from wws.testing.names import ADDRESS, NOW, name_record, person, receipt, solved_work, transfer
from wws.testing.scale import scale

KEY = name_key("alice")
RECORD = name_record("alice", witnesses=["w1", "w2"])
MEMBERS: JsonObject = canonical.loads(RECORD.value, max_bytes=10_000)
HIGHEST = 2**53 - 1


def signed(changes: JsonObject, *, without: str = "", by: str = "alice") -> bytes:
    """The record with other members, signed again."""
    members = {key: value for key, value in {**MEMBERS, **changes}.items() if key != without}
    return canonical.dumps(with_signature(person(by), NAME_DOMAIN, members))


def test_a_record_that_keeps_all_rules() -> None:
    record = validate(KEY, RECORD.value, NOW)
    assert record == RECORD
    assert (record.name, record.swarm, record.did) == ("alice", "public", person("alice").peer_id.did)
    assert record.addresses == (ADDRESS.with_peer(person("alice").peer_id),)
    assert not record.released
    assert record.transfers == ()


RECEIPT: JsonObject = receipt("w1", "alice").to_members()
SHOUTED = f"/ip6/2001:DB8::1/tcp/1/p2p/{person('alice').peer_id}"
CHAIN = [transfer("bob", "alice", seq=NOW - 5).to_members()]

REFUSALS: list[tuple[str, bytes, type[RecordRefused]]] = [
    *(
        (f"without {member}", signed({}, without=member), errors.RecordMembersWrong)
        for member in sorted(MEMBERS.keys() - {"signature"})
    ),
    ("one member more", signed({"colour": "blue"}), errors.RecordMembersWrong),
    ("version 2", signed({"v": 2}), errors.RecordVersionUnknown),
    ("version true", signed({"v": True}), errors.RecordTypeWrong),
    ("version as text", signed({"v": "1"}), errors.RecordTypeWrong),
    ("name too short", signed({"name": "al"}), errors.RecordNameMalformed),
    ("reserved name", signed({"name": "did"}), errors.RecordNameMalformed),
    ("reserved swarm", signed({"swarm": "wws"}), errors.RecordNameMalformed),
    ("Cyrillic name", signed({"name": "\u0430lice"}), errors.RecordNameMalformed),
    ("name with a line break", signed({"name": "alice\n"}), errors.RecordNameMalformed),
    (
        "other swarm",
        signed({"swarm": "lab", "pow": solved_work("alice", "alice", "lab")}),
        errors.RecordKeyMismatch,
    ),
    ("did of bob", signed({"did": person("bob").peer_id.did}), errors.RecordDidMismatch),
    ("did as a number", signed({"did": 1}), errors.RecordTypeWrong),
    ("PeerId in its CID form", signed({"peer_id": person("alice").peer_id.cid}), errors.RecordTypeWrong),
    ("PeerId of nobody", signed({"peer_id": "alice"}), errors.RecordTypeWrong),
    ("PeerId without end", signed({"peer_id": "1" * 4000}), errors.RecordTypeWrong),
    ("signed by bob", signed({}, by="bob"), errors.RecordSignatureWrong),
    ("addresses as text", signed({"addresses": ""}), errors.RecordTypeWrong),
    ("address as a number", signed({"addresses": [7]}), errors.RecordAddressMalformed),
    ("address without peer", signed({"addresses": [str(ADDRESS)]}), errors.RecordAddressForeign),
    ("address of another kind", signed({"addresses": ["/unix/tmp"]}), errors.RecordAddressMalformed),
    ("address in another spelling", signed({"addresses": [SHOUTED]}), errors.RecordAddressMalformed),
    ("issued after 300 s", signed({"issued_at": NOW + 301, "seq": NOW + 301}), errors.RecordFromFuture),
    ("registered after issue", signed({"registered_at": NOW + 1}), errors.RecordRegisteredLate),
    ("expires when issued", signed({"expires_at": NOW}), errors.RecordLeaseEmpty),
    ("a lease of a day and a second", signed({"expires_at": NOW + 86_401}), errors.RecordLeaseTooLong),
    ("seq below its issue", signed({"seq": NOW - 1}), errors.RecordSeqTooLow),
    ("negative seq", signed({"seq": -1}), errors.RecordTypeWrong),
    ("negative time", signed({"registered_at": -1}), errors.RecordTypeWrong),
    ("no work", signed({"pow": 0}), errors.RecordWorkTooWeak),
    ("work of bob", signed({"pow": solved_work("bob")}), errors.RecordWorkTooWeak),
    ("work as text", signed({"pow": "9924"}), errors.RecordTypeWrong),
    ("released: false", signed({"released": False}), errors.RecordTypeWrong),
    ("no transfers, but the member", signed({"transfers": []}), errors.TransfersTooMany),
    ("transfers as an object", signed({"transfers": {}}), errors.RecordTypeWrong),
    ("receipts as null", signed({"receipts": None}), errors.RecordTypeWrong),
    ("a receipt as text", signed({"receipts": ["receipt"]}), errors.RecordTypeWrong),
    (
        "a receipt with one member more",
        signed({"receipts": [{**RECEIPT, "x": 1}]}),
        errors.RecordMembersWrong,
    ),
    ("a receipt of version 2", signed({"receipts": [{**RECEIPT, "v": 2}]}), errors.RecordVersionUnknown),
    (
        "a receipt with provisional: false",
        signed({"receipts": [{**RECEIPT, "provisional": False}]}),
        errors.RecordTypeWrong,
    ),
    (
        "a receipt with a via that is no hash",
        signed({"receipts": [{**RECEIPT, "via": "AB"}]}),
        errors.RecordTypeWrong,
    ),
    (
        "a receipt with a short signature",
        signed({"receipts": [{**RECEIPT, "signature": "AAAA"}]}),
        errors.RecordTypeWrong,
    ),
    (
        "a receipt of an owner who is none",
        signed({"receipts": [{**RECEIPT, "owner": "bob"}]}),
        errors.RecordTypeWrong,
    ),
    ("nine transfers", signed({"transfers": CHAIN * 9}), errors.TransfersTooMany),
]


@pytest.mark.parametrize("value, error", [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_each_rule_refuses(value: bytes, error: type[RecordRefused]) -> None:
    with pytest.raises(RecordRefused) as refusal:
        validate(KEY, value, NOW)
    assert type(refusal.value) is error


@pytest.mark.parametrize(
    "value",
    [
        signed({"issued_at": NOW + 300, "seq": NOW + 300, "expires_at": NOW + 300 + 86_400}),
        signed({"expires_at": NOW + 1}),
        signed({"registered_at": 0}),
        signed({"seq": HIGHEST}),
        signed({"addresses": []}),
        signed(
            {"addresses": [str(ADDRESS.with_port(port).with_peer(RECORD.peer_id)) for port in range(1, 17)]}
        ),
        signed({"receipts": []}),
        signed({"released": True}),
        signed({"receipts": [{**RECEIPT, "name": "someone-else", "first_seen": 0}]}),
    ],
)
def test_each_limit_is_allowed(value: bytes) -> None:
    assert validate(KEY, value, NOW).value == value


def test_the_dead_stay_valid() -> None:
    assert validate(KEY, RECORD.value, NOW + 10**9).is_dead(NOW + 10**9)


def test_a_receipt_that_does_not_verify_is_no_reason_to_refuse() -> None:
    forged: JsonObject = {**RECEIPT, "signature": receipt("w2", "alice").to_members()["signature"]}
    record = validate(KEY, signed({"receipts": [forged]}), NOW)
    assert not record.receipts[0].is_signed_by_witness


def test_size_comes_first() -> None:
    for length, error in ((8192, errors.RecordNotCanonical), (8193, errors.RecordTooLarge)):
        with pytest.raises(RecordRefused) as refusal:
            validate(KEY, b"{" * length, NOW)
        assert type(refusal.value) is error


def test_ages() -> None:
    assert RECORD.is_live(RECORD.expires_at - 1)
    assert not RECORD.is_live(RECORD.expires_at)
    assert not RECORD.is_dead(RECORD.expires_at + 86_399)
    assert RECORD.is_dead(RECORD.expires_at + 86_400)


def test_the_swarm_is_part_of_the_key() -> None:
    lab = name_record("alice", swarm="lab")
    assert validate(name_key("alice", "lab"), lab.value, NOW) == lab
    with pytest.raises(errors.RecordKeyMismatch):
        validate(KEY, lab.value, NOW)


def test_a_release() -> None:
    release = name_record("alice", issued_at=NOW + 5, released=True, witnesses=["w1"])
    assert validate(KEY, release.value, NOW + 5).released


@pytest.mark.parametrize(
    "sign",
    [
        lambda: name_record("alice", lifetime=86_401),
        lambda: name_record("alice", lifetime=0),
        lambda: name_record("alice", seq=NOW - 1),
        lambda: name_record("alice", issued_at=NOW - 1),
        lambda: name_record("alice", addresses=[ADDRESS.with_port(port) for port in range(1, 18)]),
        lambda: name_record("alice", transfers=[transfer("bob", "carol", seq=1)]),
        lambda: name_record("alice", receipts=[receipt("w1", "alice")] * 25),
    ],
)
def test_we_sign_nothing_that_others_refuse(sign: Callable[[], NameRecord]) -> None:
    with pytest.raises(LocalProtocolError):
        sign()


def test_every_single_bit_counts() -> None:
    """Each bit of the value, and each of the key: the flipped record is refused."""
    bits = len(RECORD.value) * 8
    chosen = random.Random(4).sample(range(bits), min(bits, scale(bits)))
    for bit in chosen:
        flipped = bytearray(RECORD.value)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordRefused):
            validate(KEY, bytes(flipped), NOW)
    for bit in range(len(KEY) * 7):
        key = "".join(chr(ord(c) ^ (1 << bit % 7 if i == bit // 7 else 0)) for i, c in enumerate(KEY))
        with pytest.raises(errors.RecordKeyMismatch):
            validate(key, RECORD.value, NOW)


@given(st.binary(max_size=300))
def test_any_bytes(value: bytes) -> None:
    with pytest.raises(RecordRefused):
        validate(KEY, value, NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-HIGHEST, HIGHEST) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(MEMBERS)), JSON)
def test_any_value_of_any_member(member: str, value: canonical.JsonValue) -> None:
    """Whatever stands in a member, signed by its owner: a record or a typed refusal."""
    members = {**MEMBERS, member: value}
    encoded = canonical.dumps(
        members if member == "signature" else with_signature(person("alice"), NAME_DOMAIN, members)
    )
    try:
        record = validate(KEY, encoded, NOW)
    except RecordRefused:
        return
    assert record.value == encoded


def test_each_reason_has_its_own_word() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RecordRefused)
    ]
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)


def test_people_come_from_labels() -> None:
    assert person("alice").peer_id == Identity.from_label("alice").peer_id
