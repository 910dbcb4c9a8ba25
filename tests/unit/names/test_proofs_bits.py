"""Every single bit of everything that is signed, flipped; every end cut off; every byte more.

All of them, at every scale. Who flips may be on the way (then the signature ends it), or the owner itself,
who can sign what is around: a receipt or a transfer entry that was changed then counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.discovery.bundle import Bundle, BundleEntry, BundleError
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import Network, parse_network_file
from wws.discovery.publishers import PublisherKey
from wws.errors import ParseError
from wws.mesh.envelope import open_envelope, seal
from wws.names.errors import RecordRefused
from wws.names.peer_record import validate_peer
from wws.names.receipts import Receipt, is_witnessed
from wws.names.record import NAME_DOMAIN, NameRecord, name_key, validate
from wws.names.signed import with_signature
from wws.names.transfers import Transfer
from wws.relay.voucher import make_voucher, open_voucher
from wws.testing.names import NOW, name_record, peer_record, person, receipt, transfer

DOMAIN = "example.org"
W3 = frozenset(person(label).peer_id for label in ("w0", "w1", "w2"))
NOBODY: frozenset = frozenset()
PUBLISHER, SECOND = person("publisher"), person("second")


def damaged(data: bytes) -> Iterator[bytes]:
    """Each bit flipped, each end cut off, and a byte behind."""
    for index in range(len(data)):
        for bit in range(8):
            yield data[:index] + bytes((data[index] ^ 1 << bit,)) + data[index + 1 :]
    for length in range(len(data)):
        yield data[:length]
    for more in (b"\x00", b" ", b"\n", b"}", data[:1]):
        yield data + more


def a_name_record() -> NameRecord:
    chain = [transfer("alice", "bob", seq=NOW)]
    return name_record("bob", issued_at=NOW + 5, transfers=chain, witnesses=["w0", "w1"], released=True)


def refused_everywhere(data: bytes, parse: Callable[[bytes], object], refusal: type[Exception]) -> None:
    parse(data)
    for changed in damaged(data):
        try:
            parse(changed)
        except refusal:
            continue
        pytest.fail(f"accepted: {changed!r}")


@pytest.mark.parametrize("record", [name_record("alice"), a_name_record()], ids=["plain", "with everything"])
def test_a_name_record(record: NameRecord) -> None:
    refused_everywhere(record.value, lambda data: validate(name_key("alice"), data, NOW + 5), RecordRefused)


def test_a_peer_record() -> None:
    record = peer_record("alice")
    refused_everywhere(record.value, lambda data: validate_peer(record.key, data, NOW), RecordRefused)


def test_the_key_it_lies_under() -> None:
    record = name_record("alice", addresses=())
    for changed in damaged(record.key.encode()):
        with pytest.raises(RecordRefused):
            validate(changed.decode("latin-1"), record.value, NOW)


def test_a_receipt_of_a_witness() -> None:
    """Parsed or not: a changed receipt is not the witness's word, also in a record that its owner signs."""
    record = name_record("alice", lifetime=60, receipts=[receipt("w0", "alice"), receipt("w1", "alice")])
    assert is_witnessed(record, W3, NOBODY)
    parsed = 0
    for changed in damaged(canonical.dumps(record.receipts[1].to_members())):
        try:
            found = Receipt.parse(canonical.loads(changed, max_bytes=8_192))
        except ParseError:
            continue
        parsed += 1
        assert found != record.receipts[1]
        assert not found.is_signed_by_witness
        assert not is_witnessed(replace(record, receipts=(record.receipts[0], found)), W3, NOBODY)
    assert parsed > 500, "else this proved little"


def test_a_transfer_entry() -> None:
    entry = transfer("alice", "bob", seq=NOW)
    record = name_record("bob", issued_at=NOW + 5, transfers=[entry], addresses=())
    members: JsonObject = canonical.loads(record.value, max_bytes=8_192)
    parsed = 0
    for number, changed in enumerate(damaged(canonical.dumps(entry.to_members()))):
        try:
            value = canonical.loads(changed, max_bytes=8_192)
            found = Transfer.parse(value)
        except ParseError:
            continue
        parsed += 1
        assert not found.is_signed_by_giver()
        if number % 10:
            continue  # the new owner, who signs the record around it, has no more luck
        with pytest.raises(RecordRefused):
            NameRecord.parse(
                canonical.dumps(with_signature(person("bob"), NAME_DOMAIN, {**members, "transfers": [value]}))
            )
    assert parsed > 500


def bundle(*signers: object) -> Bundle:
    entries = (
        BundleEntry(person("w0").peer_id, "a.example.org", 9000),
        BundleEntry(person("w1").peer_id, "203.0.113.7", 443, "/t"),
        BundleEntry(person("w2").peer_id, "2001:db8::1", 9000, "/q"),
    )
    keys = (PublisherKey(PUBLISHER.public_key), PublisherKey(SECOND.public_key))
    return Bundle(NOW, NOW, NOW + 86_400, keys, entries).sign(DOMAIN, signers)  # type: ignore[arg-type]


def test_a_bundle() -> None:
    """A signature under another key id is nobody's: of two, the other still vouches for the same text."""
    keys = [PublisherKey(PUBLISHER.public_key), PublisherKey(SECOND.public_key)]
    for signed, may_lose_one in ((bundle(PUBLISHER), False), (bundle(PUBLISHER, SECOND), True)):
        accepted = 0
        for changed in damaged(signed.text.encode()):
            try:
                found = BundleState(DOMAIN, keys).accept(changed.decode("latin-1"), NOW)
            except BundleError:
                continue
            accepted += 1
            assert found.body == signed.body
        assert bool(accepted) is may_lose_one


def test_a_bundle_of_another_domain() -> None:
    text = bundle(PUBLISHER).text
    with pytest.raises(BundleError):
        BundleState("example.net", [PublisherKey(PUBLISHER.public_key)]).accept(text, NOW)


def test_a_network_file() -> None:
    address = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000").with_peer(person("w0").peer_id)
    network = Network("demo", DOMAIN, (PublisherKey(PUBLISHER.public_key),), (address,), NOW, "public", NOW)
    refused_everywhere(network.to_file([PUBLISHER]), parse_network_file, ParseError)


def test_a_signed_envelope_and_a_voucher() -> None:
    address = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")
    refused_everywhere(seal(person("alice"), 7, (address,)).envelope, open_envelope, ParseError)
    refused_everywhere(make_voucher(person("w0"), person("bob").peer_id, NOW), open_voucher, ParseError)
