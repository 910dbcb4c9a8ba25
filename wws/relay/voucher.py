"""Reservation vouchers: a relay's signature that it serves a peer until a time.

Source: libp2p specifications, relay/circuit-v2.md, "Reservation Vouchers", and RFC 0002 (signed envelopes).
A voucher is an envelope of domain `libp2p-relay-rsvp` and payload type 0x0302 around `{relay 1, peer 2,
expiration 3}`, its fields in this order. Nobody has to show one yet; a client that gets a wrong one knows
that its relay is broken or lies, and drops it (wire.md section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.codec import protobuf
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.mesh.envelope import open_payload, seal_payload

DOMAIN = b"libp2p-relay-rsvp"
PAYLOAD_TYPE = b"\x03\x02"
MAX_FIELDS = 16
"""Fields of the payload."""


class VoucherRefused(ParseError):
    """The voucher of a reservation was not signed by this relay, or is not about this reservation."""

    code = "voucher_refused"


@dataclass(frozen=True, slots=True)
class Voucher:
    """What a relay has signed."""

    relay: PeerId
    peer: PeerId
    expiration: int
    """Unix seconds."""


def make_voucher(relay: Identity, peer: PeerId, expiration: int) -> bytes:
    """The envelope in which `relay` says that it serves `peer` until `expiration`, in Unix seconds."""
    payload = (
        protobuf.encode_bytes(1, relay.peer_id.to_bytes())
        + protobuf.encode_bytes(2, peer.to_bytes())
        + protobuf.encode_varint(3, expiration)
    )
    return seal_payload(relay, DOMAIN, PAYLOAD_TYPE, payload)


def open_voucher(data: bytes) -> Voucher:
    """The voucher in an envelope, once its signature is verified and its key is that of the relay it names.

    Raises `ParseError`: `EnvelopeRefused` for another domain or payload type and for a bad signature,
    `VoucherRefused` when somebody else than the relay has signed.
    """
    signer, payload = open_payload(data, DOMAIN, PAYLOAD_TYPE)
    relay: PeerId | None = None
    peer: PeerId | None = None
    expiration: int | None = None
    for field in protobuf.parse(payload, max_fields=MAX_FIELDS):
        match field.number:
            case 1:
                relay = PeerId.from_bytes(field.as_bytes())
            case 2:
                peer = PeerId.from_bytes(field.as_bytes())
            case 3:
                expiration = field.as_int()
            case _:
                pass
    if relay is None or peer is None or expiration is None:
        raise ParseError("voucher without relay, peer or expiration")
    if relay != signer:
        raise VoucherRefused("voucher is signed by another key than the relay's")
    return Voucher(relay, peer, expiration)


def check_voucher(data: bytes, *, relay: PeerId, peer: PeerId, unix_now: int) -> Voucher:
    """The voucher, when it is what `relay` owes `peer` for a reservation that holds now.

    Raises `ParseError` as `open_voucher` does, and `VoucherRefused` for another relay, another peer, and one
    that has expired.
    """
    voucher = open_voucher(data)
    if voucher.relay != relay:
        raise VoucherRefused("voucher is of another relay")
    if voucher.peer != peer:
        raise VoucherRefused("voucher is for another peer")
    if voucher.expiration <= unix_now:
        raise VoucherRefused("voucher has expired")
    return voucher
