"""Every vector about names, positive and negative (vectors/name-record, select, refused-records, pow)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from wws.codec import canonical
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.errors import RecordRefused
from wws.names.peer_record import PeerRecord, peer_key, validate_peer
from wws.names.receipts import is_witnessed
from wws.names.record import NameRecord, name_key, validate
from wws.names.select import select

VECTORS = Path(__file__).parents[2] / "vectors"
RECORD = json.loads((VECTORS / "name-record.json").read_text())
SELECT = json.loads((VECTORS / "select.json").read_text())["cases"]
REFUSED = json.loads((VECTORS / "refused-records.json").read_text())
WORK = json.loads((VECTORS / "pow.json").read_text())["cases"]
ALICE = Identity.from_label("alice")

CODES = {
    "not canonical: a space": "record_not_canonical",
    "duplicate key": "record_not_canonical",
    "1.0 for 1": "record_not_canonical",
    "signed by another key": "record_signature_wrong",
    "did of another": "record_did_mismatch",
    "lease over a day": "record_lease_too_long",
    "issued in the future": "record_from_future",
    "registered after issued": "record_registered_late",
    "name not of the key": "record_key_mismatch",
    "upper case name": "record_name_malformed",
    "17 addresses": "record_addresses_too_many",
    "address of another peer": "record_address_foreign",
    "pow too weak": "record_work_too_weak",
    "unknown version": "record_version_unknown",
    "unknown member": "record_members_wrong",
    "trailing bytes": "record_not_canonical",
    "integer beyond 2^53-1": "record_not_canonical",
    "signature in base64url": "record_type_wrong",
}


def test_the_record_of_alice() -> None:
    value = canonical.dumps(RECORD["record"])
    assert len(value) == RECORD["dht_value_length"]
    record = validate(RECORD["dht_key"], value, RECORD["now"])
    assert record.value_digest.hex() == RECORD["dht_value_sha256"]
    assert record.key == name_key("alice") == RECORD["dht_key"]
    assert name_key("alice", "lab") == RECORD["dht_key_in_swarm_lab"]
    assert record.peer_id == ALICE.peer_id
    witnesses = frozenset(PeerId.parse(text) for text in RECORD["witnesses"])
    assert is_witnessed(record, witnesses, frozenset())
    assert not is_witnessed(record, frozenset(), frozenset())


def test_signing_gives_the_bytes_of_the_vector() -> None:
    record = NameRecord.parse(canonical.dumps(RECORD["record"]))
    again = NameRecord.sign(
        ALICE,
        name="alice",
        swarm="public",
        addresses=record.addresses,
        seq=record.seq,
        registered_at=record.registered_at,
        issued_at=record.issued_at,
        expires_at=record.expires_at,
        nonce=record.nonce,
        receipts=record.receipts,
    )
    assert again.value == record.value
    signed = b"wws-name-v1\0" + canonical.dumps(
        {k: v for k, v in RECORD["record"].items() if k != "signature"}
    )
    assert hashlib.sha256(signed).hexdigest() == RECORD["signed_bytes_sha256"]


def test_the_peer_record_of_alice() -> None:
    value = canonical.dumps(RECORD["peer_record"])
    record = validate_peer(RECORD["peer_dht_key"], value, RECORD["now"])
    assert record.key == peer_key(ALICE.peer_id.did) == RECORD["peer_dht_key"]
    again = PeerRecord.sign(
        ALICE,
        addresses=record.addresses,
        seq=record.seq,
        issued_at=record.issued_at,
        expires_at=record.expires_at,
    )
    assert again == record
    assert again.value == value


@pytest.mark.parametrize("case", SELECT, ids=lambda case: case["what"])
def test_select(case: dict) -> None:
    key = name_key("alice")
    records = [validate(key, canonical.dumps(record), case["now"]) for record in case["records"]]
    witnesses = frozenset(PeerId.parse(text) for text in case["witnesses"])
    before = frozenset(PeerId.parse(text) for text in case["witnesses_before"])
    winner = records[case["winner"]]
    assert select(records, case["now"], witnesses, before) == case["winner"]
    backwards = records[::-1]
    assert backwards[select(backwards, case["now"], witnesses, before)] == winner


def test_the_valid_one_among_the_refused() -> None:
    validate(REFUSED["dht_key"], REFUSED["valid"].encode(), REFUSED["now"])


@pytest.mark.parametrize("case", REFUSED["refused"], ids=lambda case: case["why"])
def test_refused(case: dict) -> None:
    with pytest.raises(RecordRefused) as refusal:
        validate(REFUSED["dht_key"], case["value"].encode(), REFUSED["now"])
    assert refusal.value.code == CODES[case["why"]]


@pytest.mark.parametrize("case", WORK, ids=lambda case: f"{case['context']}-{case['label']}")
def test_work(case: dict) -> None:
    context, did, nonce = case["context"], case["did"], case["smallest_nonce"]
    assert did == Identity.from_label(case["label"]).peer_id.did
    assert proof_of_work.solve(context, did, case["bits"]) == nonce
    assert proof_of_work.leading_zero_bits(context, did, nonce) == case["leading_zero_bits"]
    assert proof_of_work.verify(context, did, nonce, case["leading_zero_bits"])
    assert not proof_of_work.verify(context, did, nonce, case["leading_zero_bits"] + 1)
    assert not proof_of_work.verify(context + "x", did, nonce, case["bits"])
