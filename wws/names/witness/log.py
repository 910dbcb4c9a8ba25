"""The log of a witness: every full receipt it has given, whole, with what justifies it (wire.md section 5).

    {v, at, kind, receipt, transfers?, receipts?}

A receipt is a witness's word; two of them for different owners of one name, overlapping from `first_seen` to
`expires_at`, are the proof that it lied, unless one came by a transfer (`via`) or the witness shows that it
took the later one over from a majority. So the log keeps the chain of a transfer and the receipts of a
take-over beside the receipt that they led to. Entries are only ever added; compaction takes out what
`is_superseded`, and names whose last lease is long over.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.errors import ParseError, TooLarge
from wws.identity.peer_id import PeerId
from wws.names.errors import RecordNotCanonical, RecordTooLarge, RecordTypeWrong
from wws.names.receipts import Receipt
from wws.names.signed import Members
from wws.names.transfers import Transfer, parse_chain
from wws.names.witness.entry import Entry, Key
from wws.names.witness.messages import MAX_MESSAGE, MAX_RECEIPTS

VERSION: Final = 1
MAX_ENTRY: Final = 2 * MAX_MESSAGE
"""Bytes of one entry of the log: what a request brought, and the receipt."""


class Kind(enum.StrEnum):
    """How a full receipt came about."""

    CLAIMED = "claimed"
    """A first claim that a majority had."""
    RENEWED = "renewed"
    TRANSFERRED = "transferred"
    TAKEN_OVER = "taken_over"
    """From full receipts of a majority; they stand beside it."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One full receipt that was given."""

    at: int
    kind: Kind
    receipt: Receipt
    transfers: tuple[Transfer, ...] = ()
    """The chain that moved the name."""
    receipts: tuple[Receipt, ...] = ()
    """The majority that the name was taken over from."""

    @property
    def key(self) -> Key:
        return (self.receipt.swarm, self.receipt.name)

    def to_bytes(self) -> bytes:
        members: JsonObject = {
            "v": VERSION,
            "at": self.at,
            "kind": self.kind.value,
            "receipt": self.receipt.to_members(),
        }
        if self.transfers:
            members["transfers"] = [entry.to_members() for entry in self.transfers]
        if self.receipts:
            members["receipts"] = [receipt.to_members() for receipt in self.receipts]
        return canonical.dumps(members)

    @classmethod
    def parse(cls, data: bytes) -> LogEntry:
        """Raises `RecordRefused`; checks no signature."""
        try:
            json_object = canonical.loads(data, max_bytes=MAX_ENTRY)
        except TooLarge as error:
            raise RecordTooLarge(str(error)) from None
        except ParseError as error:
            raise RecordNotCanonical(str(error)) from None
        members = Members(
            "an entry of the log",
            json_object,
            required=frozenset({"v", "at", "kind", "receipt"}),
            optional=frozenset({"transfers", "receipts"}),
        )
        members.version(VERSION)
        try:
            kind = Kind(members.text("kind"))
        except ValueError:
            raise RecordTypeWrong("kind of an entry of the log is unknown") from None
        receipts = members.items("receipts") if "receipts" in members else None
        if receipts is not None and not 1 <= len(receipts) <= MAX_RECEIPTS:
            raise RecordTypeWrong(f"an entry of the log has 1 to {MAX_RECEIPTS} receipts, or no list")
        return cls(
            at=members.integer("at"),
            kind=kind,
            receipt=Receipt.parse(json_object["receipt"]),
            transfers=parse_chain(members.items("transfers")) if "transfers" in members else (),
            receipts=tuple(Receipt.parse(receipt) for receipt in receipts or ()),
        )


def replay(log: Iterable[LogEntry]) -> dict[Key, Entry]:
    """The full entries that these receipts, in the order in which they were given, leave behind.

    What a witness holds as full is exactly this; only what an owner has given up is not in receipts.
    """
    entries: dict[Key, Entry] = {}
    for logged in log:
        receipt, before = logged.receipt, entries.get(logged.key)
        via = receipt.via
        chain: tuple[str, ...] = () if via is None else (via,)
        is_whole = via is None
        if logged.transfers and logged.transfers[-1].digest == via:
            chain, is_whole = tuple(link.digest for link in logged.transfers), True
        elif logged.kind is Kind.RENEWED and before is not None and before.via == via:
            chain, is_whole = before.chain, before.is_chain_whole
        goes_on = before is not None and (
            before.owner == receipt.owner or (logged.kind is Kind.TRANSFERRED and not logged.receipts)
        )
        entries[logged.key] = Entry(
            receipt.swarm,
            receipt.name,
            receipt.owner,
            receipt.registered_at,
            receipt.first_seen,
            max(receipt.expires_at, before.expires_at if goes_on and before is not None else 0),
            chain=chain,
            is_chain_whole=is_whole,
        )
    return entries


def is_superseded(earlier: LogEntry, later: LogEntry) -> bool:
    """Whether `later` proves all that `earlier` does: the same lease, by a renewal, for longer.

    The receipts that began a lease, moved it or took it over stay, with what justifies them.
    """
    one, other = earlier.receipt, later.receipt
    return (
        earlier.kind is Kind.RENEWED
        and later.kind is Kind.RENEWED
        and (one.swarm, one.name, one.owner, one.registered_at, one.first_seen, one.via)
        == (other.swarm, other.name, other.owner, other.registered_at, other.first_seen, other.via)
        and one.expires_at <= other.expires_at
    )


_Lease: TypeAlias = tuple[PeerId, int, int, str | None]
"""Owner, registered_at, first_seen, via."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two receipts of one witness that cannot both be honest. Together they are the proof."""

    one: Receipt
    other: Receipt


def contradict(one: Receipt, other: Receipt) -> bool:
    """Whether two receipts prove, without a log to explain them, that their witness lied.

    Both are full, signed by the same witness, for one name and different owners; the times from `first_seen`
    to `expires_at` overlap; neither owner came by a transfer.
    """
    return (
        one.witness == other.witness
        and (one.swarm, one.name) == (other.swarm, other.name)
        and one.owner != other.owner
        and not one.provisional
        and not other.provisional
        and one.via is None
        and other.via is None
        and one.first_seen <= other.expires_at
        and other.first_seen <= one.expires_at
        and one.is_signed_by_witness
        and other.is_signed_by_witness
    )


def conflicts(log: Iterable[LogEntry]) -> list[Conflict]:
    """The contradictions in a log for which it shows no take-over: of an honest witness there are none."""
    leases: dict[Key, dict[_Lease, Receipt]] = defaultdict(dict)
    taken_over: set[tuple[Key, _Lease]] = set()
    for logged in log:
        receipt, known = logged.receipt, leases[logged.key]
        lease = (receipt.owner, receipt.registered_at, receipt.first_seen, receipt.via)
        if logged.kind is Kind.TAKEN_OVER:
            taken_over.add((logged.key, lease))
        if lease not in known or known[lease].expires_at < receipt.expires_at:
            known[lease] = receipt  # the longest stands for its lease
    return [
        Conflict(one, other)
        for key, known in leases.items()
        for (_, one), (lease, other) in combinations(known.items(), 2)
        if (key, lease) not in taken_over and contradict(one, other)
    ]
