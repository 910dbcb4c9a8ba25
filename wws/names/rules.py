"""The rules that name records and peer records share (wire.md sections 4 and 4a)."""

from __future__ import annotations

from wws.addresses.multiaddr import Multiaddr
from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.errors import ParseError, TooLarge
from wws.identity.peer_id import PeerId
from wws.names.errors import (
    RecordAddressesTooMany,
    RecordAddressForeign,
    RecordAddressMalformed,
    RecordDidMismatch,
    RecordFromFuture,
    RecordLeaseEmpty,
    RecordLeaseTooLong,
    RecordNotCanonical,
    RecordSeqTooLow,
    RecordTooLarge,
)
from wws.names.signed import Members

MAX_BYTES = 8 * 1024
MAX_ADDRESSES = 16
MAX_LEASE = 86_400
"""Seconds from `issued_at` to `expires_at`, at most."""
CLOCK_TOLERANCE = 300
"""Seconds by which a record may come from the future."""


def read_object(value: bytes) -> JsonObject:
    """The canonical JSON object in `value`, at most 8 KiB."""
    try:
        return canonical.loads(value, max_bytes=MAX_BYTES)
    except TooLarge as error:
        raise RecordTooLarge(str(error)) from None
    except ParseError as error:
        raise RecordNotCanonical(str(error)) from None


def read_addresses(members: Members, peer_id: PeerId) -> tuple[Multiaddr, ...]:
    """The member `addresses`: at most 16, each in its canonical text and ending in `/p2p/<peer_id>`."""
    texts = members.items("addresses")
    if len(texts) > MAX_ADDRESSES:
        raise RecordAddressesTooMany(f"{len(texts)} addresses, at most {MAX_ADDRESSES} are accepted")
    addresses: list[Multiaddr] = []
    for text in texts:
        if not isinstance(text, str):
            raise RecordAddressMalformed("an address is not a string")
        try:
            address = Multiaddr.parse(text)
        except ParseError as error:
            raise RecordAddressMalformed(str(error)) from None
        if str(address) != text:
            raise RecordAddressMalformed(f"the canonical text of {text[:200]!r} is {str(address)!r}")
        if address.peer_id != peer_id:
            raise RecordAddressForeign(f"{text[:200]!r} does not lead to {peer_id}")
        addresses.append(address)
    return tuple(addresses)


def check_did(peer_id: PeerId, did: object) -> None:
    """Raises `RecordDidMismatch` unless `did` is that of `peer_id`."""
    if did != peer_id.did:
        raise RecordDidMismatch(f"{str(did)[:90]!r} is not the DID of {peer_id}")


def check_lease(*, issued_at: int, expires_at: int) -> None:
    """The rules between the times of a record, without a clock."""
    if expires_at <= issued_at:
        raise RecordLeaseEmpty(f"issued at {issued_at}, expires at {expires_at}")
    if expires_at > issued_at + MAX_LEASE:
        raise RecordLeaseTooLong(f"a lease of {expires_at - issued_at} s, at most {MAX_LEASE} s are accepted")


def check_issued(*, issued_at: int, seq: int, unix_now: int) -> None:
    """Raises `RecordFromFuture` when the issuer's clock is ahead of ours by more than clocks may differ,
    `RecordSeqTooLow` when the sequence number does not follow the clock.

    In this order: a clock that ran ahead is the cause to name when both are wrong.
    """
    if issued_at > unix_now + CLOCK_TOLERANCE:
        raise RecordFromFuture(f"issued {issued_at - unix_now} s from now: one of the two clocks is wrong")
    if seq < issued_at:
        raise RecordSeqTooLow(f"sequence number {seq} is below the time of issue {issued_at}")


def next_seq(previous: int, issued_at: int) -> int:
    """The sequence number after `previous`: never below the time, so that lost state does not matter."""
    return max(previous + 1, issued_at)
