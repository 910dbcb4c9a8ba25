"""Signed envelopes, and the peer record inside one (libp2p RFC 0002 and RFC 0003).

An envelope is the protobuf `{public_key 1, payload_type 2, payload 3, signature 5}`. The signature covers
the domain string, the payload type and the payload, each behind its length as a varint. The payload of a
peer record is `{peer_id 1, seq 2, addresses 3: {multiaddr 1}}`.
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.codec import protobuf, varint
from wws.errors import ParseError
from wws.identity.keys import Identity, verify
from wws.identity.peer_id import PeerId

DOMAIN = b"libp2p-peer-record"
PAYLOAD_TYPE = b"\x03\x01"
MAX_ENVELOPE = 8192
"""Largest envelope that is parsed, in bytes."""
MAX_ADDRESSES = 32
"""Addresses that are read from one record; further ones are left out."""


class EnvelopeRefused(ParseError):
    """The envelope does not hold what was asked for, signed by its own key."""

    code = "envelope_refused"


@dataclass(frozen=True, slots=True)
class SignedPeerRecord:
    """A verified peer record, with the envelope it came in, so that it can be handed on."""

    peer_id: PeerId
    seq: int
    addresses: tuple[Multiaddr, ...]
    envelope: bytes


def seal(identity: Identity, seq: int, addresses: tuple[Multiaddr, ...]) -> SignedPeerRecord:
    """Our own record, signed; addresses are written without their PeerId, as the record names it."""
    payload = protobuf.encode_bytes(1, identity.peer_id.to_bytes()) + protobuf.encode_varint(2, seq)
    for address in addresses:
        payload += protobuf.encode_bytes(
            3, protobuf.encode_bytes(1, _bare(address, identity.peer_id).to_bytes())
        )
    envelope = seal_payload(identity, DOMAIN, PAYLOAD_TYPE, payload)
    return SignedPeerRecord(identity.peer_id, seq, addresses, envelope)


def open_envelope(data: bytes) -> SignedPeerRecord:
    """The record in an envelope, once its signature is verified and its key is that of the record.

    Raises `EnvelopeRefused` for another domain or payload type, a bad signature, a record of somebody
    else; `ParseError` for anything malformed. Addresses of kinds we do not speak are left out.
    """
    signer, payload = open_payload(data, DOMAIN, PAYLOAD_TYPE)
    seq, owner, addresses = 0, None, list[Multiaddr]()
    for field in protobuf.parse(payload, max_fields=256):
        if field.number == 1:
            owner = PeerId.from_bytes(field.as_bytes())
        elif field.number == 2:
            seq = field.as_int()
        elif field.number == 3 and len(addresses) < MAX_ADDRESSES:
            addresses += _address_info(field.as_bytes())
    if owner != signer:
        raise EnvelopeRefused("peer record is signed by another key than its owner's")
    return SignedPeerRecord(signer, seq, tuple(addresses), data)


def seal_payload(identity: Identity, domain: bytes, payload_type: bytes, payload: bytes) -> bytes:
    """An envelope of any kind around `payload`, signed."""
    return (
        protobuf.encode_bytes(1, identity.peer_id.public_key_protobuf)
        + protobuf.encode_bytes(2, payload_type)
        + protobuf.encode_bytes(3, payload)
        + protobuf.encode_bytes(5, identity.sign(_signed_bytes(domain, payload_type, payload)))
    )


def open_payload(data: bytes, domain: bytes, payload_type: bytes) -> tuple[PeerId, bytes]:
    """Who signed an envelope of this kind, and its payload, once the signature is verified.

    Raises `EnvelopeRefused` for another domain or payload type and for a bad signature; `ParseError` for
    anything malformed.
    """
    if len(data) > MAX_ENVELOPE:
        raise EnvelopeRefused(f"envelope of {len(data)} bytes is too large")
    parts = {field.number: field.as_bytes() for field in protobuf.parse(data, max_fields=16)}
    if parts.get(2) != payload_type:
        raise EnvelopeRefused("envelope holds another kind of payload")
    signer, payload = PeerId.from_protobuf(parts.get(1, b"")), parts.get(3, b"")
    if not verify(signer.public_key, _signed_bytes(domain, payload_type, payload), parts.get(5, b"")):
        raise EnvelopeRefused("signature of the envelope does not verify")
    return signer, payload


def _address_info(data: bytes) -> list[Multiaddr]:
    for field in protobuf.parse(data, max_fields=8):
        if field.number == 1:
            try:
                return [Multiaddr.from_bytes(field.as_bytes())]
            except ParseError:
                return []  # a transport that we do not speak: the peer may have others
    return []


def _bare(address: Multiaddr, peer_id: PeerId) -> Multiaddr:
    return address.without_peer() if address.peer_id == peer_id and not address.is_circuit else address


def _signed_bytes(domain: bytes, payload_type: bytes, payload: bytes) -> bytes:
    return varint.frame(domain) + varint.frame(payload_type) + varint.frame(payload)
