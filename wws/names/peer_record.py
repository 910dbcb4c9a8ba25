"""The peer record: where a node is, by its DID (wire.md section 4a).

    {v, did, peer_id, addresses[<=16], seq, issued_at, expires_at, signature}     domain "wws-peer-v1"

It lies in the DHT under `/wws/peers/` + the 64 hex digits of the DID, so only its owner can write there and
nothing has to be decided between owners: the higher `seq` wins. It has no grace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from wws.addresses.multiaddr import Multiaddr
from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names import signed
from wws.names.errors import RecordExpired, RecordKeyMismatch, RecordRefused, RecordSignatureWrong
from wws.names.rules import (
    CLOCK_TOLERANCE,
    check_did,
    check_issued,
    check_lease,
    read_addresses,
    read_object,
)
from wws.names.signed import Members

PEER_DOMAIN = b"wws-peer-v1"
PEER_PREFIX = "/wws/peers/"
DID_PREFIX = "did:swarm:"
VERSION = 1
KEPT_AFTER_EXPIRY = CLOCK_TOLERANCE
"""Seconds after `expires_at` for which holders keep the value: what clocks may differ, no grace."""

_REQUIRED = frozenset({"v", "did", "peer_id", "addresses", "seq", "issued_at", "expires_at", "signature"})


@dataclass(frozen=True)
class PeerRecord:
    """A peer record whose signature has been checked. `value` is its one encoding."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]
    seq: int
    issued_at: int
    expires_at: int
    value: bytes

    @classmethod
    def parse(cls, value: bytes) -> PeerRecord:
        """From the bytes in the DHT. Raises the `RecordRefused` that says which rule they break."""
        json_object = read_object(value)
        members = Members("a peer record", json_object, required=_REQUIRED)
        members.version(VERSION)
        peer_id = members.peer_id("peer_id")
        did = members.text("did")
        record = cls(
            peer_id=peer_id,
            addresses=read_addresses(members, peer_id),
            seq=members.integer("seq"),
            issued_at=members.integer("issued_at"),
            expires_at=members.integer("expires_at"),
            value=value,
        )
        signature = members.signature()
        check_did(peer_id, did)
        check_lease(issued_at=record.issued_at, expires_at=record.expires_at)
        if not signed.is_signed(peer_id, PEER_DOMAIN, json_object, signature):
            raise RecordSignatureWrong(f"the peer record of {peer_id} is not signed by it")
        return record

    @classmethod
    def sign(
        cls,
        identity: Identity,
        *,
        addresses: Sequence[Multiaddr],
        seq: int,
        issued_at: int,
        expires_at: int,
    ) -> PeerRecord:
        """The record with these members, signed. Raises `LocalProtocolError` when it would break a rule."""
        members: JsonObject = {
            "v": VERSION,
            "did": identity.peer_id.did,
            "peer_id": str(identity.peer_id),
            "addresses": [str(address.with_peer(identity.peer_id)) for address in addresses],
            "seq": seq,
            "issued_at": issued_at,
            "expires_at": expires_at,
        }
        value = canonical.dumps(signed.with_signature(identity, PEER_DOMAIN, members))
        try:
            record = cls.parse(value)
            check_issued(issued_at=issued_at, seq=seq, unix_now=issued_at)
        except RecordRefused as refusal:
            raise LocalProtocolError(f"not signing what others would refuse: {refusal}") from refusal
        return record

    @property
    def did(self) -> str:
        return self.peer_id.did

    @property
    def key(self) -> str:
        """Where it lies in the DHT."""
        return peer_key(self.did)

    @property
    def keep_until(self) -> int:
        """From this Unix time on it is nothing any more: holders drop it, and Validate refuses it."""
        return self.expires_at + KEPT_AFTER_EXPIRY

    @cached_property
    def rank(self) -> tuple[int, bytes]:
        """The smallest of several wins: the higher `seq`, then the lower SHA-256."""
        return (-self.seq, hashlib.sha256(self.value).digest())


def peer_key(did: str) -> str:
    """The DHT key of the peer with this DID, `did:swarm:` and 64 hex digits."""
    return PEER_PREFIX + did.removeprefix(DID_PREFIX)


def validate_peer(key: str, value: bytes, unix_now: int) -> PeerRecord:
    """The peer record at `key`, or the `RecordRefused` that says what is wrong. Pure."""
    record = PeerRecord.parse(value)
    check_peer_at(record, key, unix_now)
    return record


def check_peer_at(record: PeerRecord, key: str, unix_now: int) -> None:
    """The part of `validate_peer` that depends on the key and the clock."""
    if key != record.key:
        raise RecordKeyMismatch(f"the peer record of {record.did} does not belong under {key[:90]!r}")
    check_issued(issued_at=record.issued_at, seq=record.seq, unix_now=unix_now)
    if unix_now >= record.keep_until:
        raise RecordExpired(f"the peer record of {record.did} expired {unix_now - record.expires_at} s ago")


def select_peer(records: Sequence[PeerRecord]) -> int:
    """The index of the winner among valid records of one peer; the first of equal bytes."""
    if not records:
        raise LocalProtocolError("there is nothing to select from")
    return min(range(len(records)), key=lambda index: records[index].rank)
