"""Receipts: what a witness says it has seen, and how many make a record witnessed (wire.md section 5).

    {v, swarm, name, owner, registered_at, first_seen, expires_at, provisional?, via?, witness, signature}

A record that carries a malformed receipt is refused. Whether a well-formed one verifies, and whether it
counts, is another question, asked only by Select: receipts that do not count do no harm either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from wws.codec import base64
from wws.codec.canonical import JsonObject, JsonValue
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.errors import RecordTypeWrong
from wws.names.signed import SIGNATURE_MEMBER, Members, is_signed, with_signature

RECEIPT_DOMAIN = b"wws-receipt-v1"
VERSION = 1
SEEN_WITHIN = 600
"""Seconds between what the owner says (`registered_at`) and what the witness saw (`first_seen`), at most."""

_REQUIRED = frozenset(
    "v swarm name owner registered_at first_seen expires_at witness signature".split()  # noqa: SIM905 - a table
)
_OPTIONAL = frozenset({"provisional", "via"})
_HASH = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Receipt:
    """One witness's word that `owner` came for a name at `first_seen`."""

    swarm: str
    name: str
    owner: PeerId
    registered_at: int
    first_seen: int
    expires_at: int
    witness: PeerId
    signature: bytes
    provisional: bool = False
    """A first claim: counts for nothing until a majority has made it full."""
    via: str | None = None
    """Hex SHA-256 of the last transfer entry, when the name came to `owner` by transfer."""

    @classmethod
    def parse(cls, value: JsonValue) -> Receipt:
        """From a member of `receipts`. Raises `RecordRefused` when it is malformed; checks no signature."""
        if not isinstance(value, dict):
            raise RecordTypeWrong("a receipt is not an object")
        members = Members("a receipt", value, required=_REQUIRED, optional=_OPTIONAL)
        members.version(VERSION)
        via = members.text("via") if "via" in members else None
        if via is not None and not _HASH.match(via):
            raise RecordTypeWrong("via of a receipt is not 64 lower-case hex digits")
        return cls(
            swarm=members.text("swarm"),
            name=members.text("name"),
            owner=members.peer_id("owner"),
            registered_at=members.integer("registered_at"),
            first_seen=members.integer("first_seen"),
            expires_at=members.integer("expires_at"),
            witness=members.peer_id("witness"),
            signature=members.signature(),
            provisional=members.flag("provisional"),
            via=via,
        )

    @classmethod
    def sign(
        cls,
        witness: Identity,
        *,
        swarm: str,
        name: str,
        owner: PeerId,
        registered_at: int,
        first_seen: int,
        expires_at: int,
        provisional: bool = False,
        via: str | None = None,
    ) -> Receipt:
        """The receipt of `witness` for these facts."""
        unsigned = cls(
            swarm, name, owner, registered_at, first_seen, expires_at, witness.peer_id, b"", provisional, via
        )
        return cls.parse(with_signature(witness, RECEIPT_DOMAIN, unsigned._unsigned_members()))

    @cached_property
    def is_signed_by_witness(self) -> bool:
        """Whether the signature verifies. Worked out once for each object, at the first question."""
        return is_signed(self.witness, RECEIPT_DOMAIN, self._unsigned_members(), self.signature)

    def to_members(self) -> JsonObject:
        """As it stands in `receipts`."""
        return {**self._unsigned_members(), SIGNATURE_MEMBER: base64.encode(self.signature)}

    def _unsigned_members(self) -> JsonObject:
        members: JsonObject = {
            "v": VERSION,
            "swarm": self.swarm,
            "name": self.name,
            "owner": str(self.owner),
            "registered_at": self.registered_at,
            "first_seen": self.first_seen,
            "expires_at": self.expires_at,
            "witness": str(self.witness),
        }
        if self.provisional:
            members["provisional"] = True
        if self.via is not None:
            members["via"] = self.via
        return members


class Witnessable(Protocol):
    """What a record must say for its receipts to be counted."""

    @property
    def swarm(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def peer_id(self) -> PeerId: ...
    @property
    def registered_at(self) -> int: ...
    @property
    def expires_at(self) -> int: ...
    @property
    def via(self) -> str | None: ...
    @property
    def receipts(self) -> tuple[Receipt, ...]: ...


def majority(witnesses: Set[PeerId]) -> int:
    """How many of these make a majority. Of none, one: which no one can reach."""
    return len(witnesses) // 2 + 1


def is_witnessed(record: Witnessable, witnesses: Set[PeerId], witnesses_before: Set[PeerId]) -> bool:
    """Whether a majority of either set covers `record` to its end, each member counted once."""
    known = witnesses | witnesses_before
    signers = {
        receipt.witness
        for receipt in record.receipts
        if receipt.witness in known and _covers(receipt, record) and receipt.is_signed_by_witness
    }
    return any(_has_majority(signers, group) for group in (witnesses, witnesses_before))


def _has_majority(signers: Iterable[PeerId], group: Set[PeerId]) -> bool:
    return sum(1 for signer in signers if signer in group) >= majority(group)


def _covers(receipt: Receipt, record: Witnessable) -> bool:
    return (
        not receipt.provisional
        and receipt.owner == record.peer_id
        and receipt.name == record.name
        and receipt.swarm == record.swarm
        and receipt.registered_at == record.registered_at
        # Else who gave the name away covers his own record, with a longer chain, to the end of old receipts.
        and receipt.via == record.via
        and abs(receipt.first_seen - record.registered_at) <= SEEN_WITHIN
        and receipt.expires_at >= record.expires_at
    )
