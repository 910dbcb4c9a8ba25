"""Reservation vouchers: known bytes, and every way in which one is not what the relay owes us."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.codec.protobuf import encode_bytes, encode_varint
from wws.codec.varint import frame
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.mesh.envelope import EnvelopeRefused, open_envelope, seal, seal_payload
from wws.relay.voucher import DOMAIN, PAYLOAD_TYPE, Voucher, VoucherRefused, check_voucher, make_voucher

RELAY = Identity.from_label("relay")
ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
EXPIRES = 1_700_003_600
GOOD = make_voucher(RELAY, ALICE, EXPIRES)


def test_the_envelope_is_that_of_the_specification() -> None:
    made = make_voucher(RELAY, ALICE, EXPIRES)
    payload = (
        bytes.fromhex("0a26") + RELAY.peer_id.to_bytes() + bytes.fromhex("1226") + ALICE.to_bytes()
        + bytes.fromhex("1890fecfaa06")
    )  # fmt: skip
    signed = frame(b"libp2p-relay-rsvp") + frame(b"\x03\x02") + frame(payload)
    assert made == (
        bytes.fromhex("0a24") + RELAY.peer_id.public_key_protobuf + bytes.fromhex("12020302")
        + bytes.fromhex("1a56") + payload + bytes.fromhex("2a40") + RELAY.sign(signed)
    )  # fmt: skip


def test_a_voucher_that_holds() -> None:
    voucher = check_voucher(GOOD, relay=RELAY.peer_id, peer=ALICE, unix_now=EXPIRES - 1)
    assert voucher == Voucher(RELAY.peer_id, ALICE, EXPIRES)


def _payload(relay: bytes, peer: bytes, *rest: bytes) -> bytes:
    return encode_bytes(1, relay) + encode_bytes(2, peer) + b"".join(rest)


_RIGHT = _payload(RELAY.peer_id.to_bytes(), ALICE.to_bytes(), encode_varint(3, EXPIRES))


@pytest.mark.parametrize(
    "voucher, error",
    [
        (make_voucher(RELAY, BOB, EXPIRES), VoucherRefused),
        (make_voucher(RELAY, ALICE, EXPIRES - 100), VoucherRefused),
        (make_voucher(Identity.from_label("mallory"), ALICE, EXPIRES), VoucherRefused),
        # mallory signs in the relay's name
        (seal_payload(Identity.from_label("mallory"), DOMAIN, PAYLOAD_TYPE, _RIGHT), VoucherRefused),
        (seal_payload(RELAY, b"libp2p-peer-record", PAYLOAD_TYPE, _RIGHT), EnvelopeRefused),
        (seal_payload(RELAY, DOMAIN, b"\x03\x01", _RIGHT), EnvelopeRefused),
        (seal(RELAY, 1, ()).envelope, EnvelopeRefused),
        (seal_payload(RELAY, DOMAIN, PAYLOAD_TYPE, b""), ParseError),
        (seal_payload(RELAY, DOMAIN, PAYLOAD_TYPE, _RIGHT[:-6]), ParseError),
        (GOOD[:-1], ParseError),
        (b"", ParseError),
        (GOOD + encode_bytes(9, b"x" * 9000), EnvelopeRefused),
    ],
)
def test_a_voucher_that_does_not_hold(voucher: bytes, error: type[ParseError]) -> None:
    with pytest.raises(error):
        check_voucher(voucher, relay=RELAY.peer_id, peer=ALICE, unix_now=EXPIRES - 100)


def test_a_voucher_is_no_peer_record() -> None:
    with pytest.raises(EnvelopeRefused):
        open_envelope(GOOD)


@given(st.integers(0, len(GOOD) * 8 - 1))
def test_every_changed_bit_is_seen(bit: int) -> None:
    changed = bytearray(GOOD)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ParseError):
        check_voucher(bytes(changed), relay=RELAY.peer_id, peer=ALICE, unix_now=EXPIRES - 1)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        check_voucher(data, relay=RELAY.peer_id, peer=ALICE, unix_now=0)
