"""Select: which of several valid records of one name holds (wire.md section 4).

The smallest of

    (dead, not witnessed, registered_at, -seq of the last transfer, claim digest, -transfers, chain digest,
     -seq, value digest)

wins. The fourth counts for witnessed records alone: witnesses sign for the last transfer, and not for what a
record says came before it. A former owner whose receipts still hold could make up a beginning that gives a
smaller claim digest; he cannot make up a later transfer to himself (docs/adr/0019).

The tuple ends in a digest of the whole value, so the order is total: the winner does not depend on the order
in which the records came, and every holder with the same records and witnesses keeps the same one. Records
come in parsed; nothing is verified again here but, once for each object, receipts of witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TypeAlias

from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.names.receipts import is_witnessed
from wws.names.record import NameRecord

Rank: TypeAlias = tuple[bool, bool, int, int, bytes, int, bytes, int, bytes]

NO_WITNESSES: frozenset[PeerId] = frozenset()


def rank(
    record: NameRecord,
    unix_now: int,
    witnesses: Set[PeerId],
    witnesses_before: Set[PeerId] = NO_WITNESSES,
) -> Rank:
    """Where `record` stands in the order; the smallest wins."""
    witnessed = is_witnessed(record, witnesses, witnesses_before)
    return (
        record.is_dead(unix_now),
        not witnessed,
        record.registered_at,
        -record.transfers[-1].seq if witnessed and record.transfers else 0,
        record.claim_digest,
        -len(record.transfers),
        record.chain_digest,
        -record.seq,
        record.value_digest,
    )


def select(
    records: Sequence[NameRecord],
    unix_now: int,
    witnesses: Set[PeerId],
    witnesses_before: Set[PeerId] = NO_WITNESSES,
) -> int:
    """The index of the winner among valid records of one name; the first of equal bytes.

    Raises `LocalProtocolError` when there are none.
    """
    if not records:
        raise LocalProtocolError("there is nothing to select from")
    return min(
        range(len(records)), key=lambda index: rank(records[index], unix_now, witnesses, witnesses_before)
    )


def is_equivocation(one: NameRecord, other: NameRecord) -> bool:
    """Whether the owner signed two different records under one sequence number. Both are the proof."""
    return (
        one.peer_id == other.peer_id
        and one.key == other.key
        and one.seq == other.seq
        and one.value != other.value
    )
