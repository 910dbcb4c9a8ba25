"""Transfers: how a name goes to another key without losing its age (wire.md section 4).

    {from, to, name, swarm, seq, at, signature}     signed by `from`, domain "wws-transfer-v1"

Each owner who gives the name away adds an entry; the chain stays in all later records. `seq` is that of the
record which `from` published last, so an entry cannot be kept back and used after a later renewal of the
chain. Whether a transfer *counts* while witnesses exist is their word and Select's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from wws.codec import base64, canonical
from wws.codec.canonical import JsonObject, JsonValue
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.errors import (
    RecordTypeWrong,
    TransferOfOtherName,
    TransferSeqNotRising,
    TransferSignatureWrong,
    TransfersTooMany,
    TransferUnlinked,
)
from wws.names.signed import SIGNATURE_MEMBER, Members, is_signed, with_signature

TRANSFER_DOMAIN = b"wws-transfer-v1"
MAX_TRANSFERS = 8

_REQUIRED = frozenset({"from", "to", "name", "swarm", "seq", "at", "signature"})


@dataclass(frozen=True, slots=True)
class Transfer:
    """One owner's signed word that the name goes to `to_peer`."""

    from_peer: PeerId
    to_peer: PeerId
    name: str
    swarm: str
    seq: int
    at: int
    signature: bytes

    @classmethod
    def parse(cls, value: JsonValue) -> Transfer:
        """From a member of `transfers`. Raises `RecordRefused` when malformed; checks no signature."""
        if not isinstance(value, dict):
            raise RecordTypeWrong("a transfer entry is not an object")
        members = Members("a transfer entry", value, required=_REQUIRED)
        return cls(
            from_peer=members.peer_id("from"),
            to_peer=members.peer_id("to"),
            name=members.text("name"),
            swarm=members.text("swarm"),
            seq=members.integer("seq"),
            at=members.integer("at"),
            signature=members.signature(),
        )

    @classmethod
    def sign(cls, giver: Identity, taker: PeerId, *, name: str, swarm: str, seq: int, at: int) -> Transfer:
        """The entry by which `giver`, whose last record has `seq`, gives the name to `taker`."""
        unsigned = cls(giver.peer_id, taker, name, swarm, seq, at, b"")
        return cls.parse(with_signature(giver, TRANSFER_DOMAIN, unsigned._unsigned_members()))

    def is_signed_by_giver(self) -> bool:
        """Whether the signature verifies."""
        return is_signed(self.from_peer, TRANSFER_DOMAIN, self._unsigned_members(), self.signature)

    def to_members(self) -> JsonObject:
        """As it stands in `transfers`."""
        return {**self._unsigned_members(), SIGNATURE_MEMBER: base64.encode(self.signature)}

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the entry: what receipts call `via`."""
        return hashlib.sha256(canonical.dumps(self.to_members())).hexdigest()

    def _unsigned_members(self) -> JsonObject:
        return {
            "from": str(self.from_peer),
            "to": str(self.to_peer),
            "name": self.name,
            "swarm": self.swarm,
            "seq": self.seq,
            "at": self.at,
        }


def parse_chain(values: Sequence[JsonValue]) -> tuple[Transfer, ...]:
    """The entries of a member `transfers`, one to eight. Raises `RecordRefused`."""
    if not 1 <= len(values) <= MAX_TRANSFERS:
        raise TransfersTooMany(
            f"a chain of {len(values)} transfers: it has 1 to {MAX_TRANSFERS} or is absent"
        )
    return tuple(Transfer.parse(value) for value in values)


def check_chain(chain: Sequence[Transfer], *, name: str, swarm: str, owner: PeerId, seq: int) -> None:
    """Raises `RecordRefused` unless `chain` leads to `owner`, whose record has `seq`."""
    for entry in chain:
        if (entry.name, entry.swarm) != (name, swarm):
            raise TransferOfOtherName(f"a transfer of {entry.name[:40]!r} in a record of {name!r}")
    takers = [entry.to_peer for entry in chain]
    givers = [entry.from_peer for entry in chain]
    if chain and takers != [*givers[1:], owner]:
        raise TransferUnlinked(f"the transfers of {name!r} do not lead to {owner}")
    numbers = [*(entry.seq for entry in chain), seq]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise TransferSeqNotRising(f"the sequence numbers in the transfers of {name!r} do not rise")
    for entry in chain:
        if not entry.is_signed_by_giver():
            raise TransferSignatureWrong(f"{entry.from_peer} has not signed its transfer of {name!r}")
