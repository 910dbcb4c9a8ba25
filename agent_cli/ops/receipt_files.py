"""Receipts that somebody kept in files: as they are, or as `wws-ops witness log --json` printed them.

They may be of any witnesses and in any order. What a log says beside a receipt is only the word of who wrote
it; that a lease was taken over counts when it shows a receipt of another witness for the same lease.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_cli.result import WrongUsage
from wws.codec.canonical import JsonValue
from wws.identity.peer_id import PeerId
from wws.names.errors import RecordRefused, RecordTypeWrong
from wws.names.receipts import Receipt
from wws.names.witness.log import Conflict, Kind, LogEntry, conflicts
from wws.runtime.machine_errors import reading_failed

MAX_RECEIPT_FILE: Final = 4 * 1024 * 1024
"""Largest file with receipts that is read, in bytes."""


@dataclass(frozen=True, slots=True)
class KeptReceipt:
    """One receipt of a file."""

    receipt: Receipt
    is_logged: bool = False
    """Whether it stood in a log, so that those before and after it are in order."""
    is_taken_over: bool = False
    """Whether the log says and shows that the lease was taken over from other witnesses."""


def read_receipts(file: Path) -> list[KeptReceipt]:
    """What a file holds. Signatures are checked where receipts are compared.

    Raises `WrongUsage`, `CannotRead`.
    """
    try:
        with open(file, "rb") as opened:
            data = opened.read(MAX_RECEIPT_FILE + 1)
    except OSError as error:
        raise reading_failed(file, error) from error
    if len(data) > MAX_RECEIPT_FILE:
        raise WrongUsage(f"{file} is larger than {MAX_RECEIPT_FILE} bytes.")
    try:
        value: JsonValue = json.loads(data)
        log = _log_in(value)
        if log is not None:
            return [_logged(one) for one in log]
        return [KeptReceipt(Receipt.parse(one)) for one in (value if isinstance(value, list) else [value])]
    except (ValueError, RecursionError, RecordRefused) as error:
        raise WrongUsage(f"{file} holds no receipts: {error}") from None


def conflicts_among(given: Iterable[KeptReceipt]) -> list[Conflict]:
    """The pairs that prove that their witness lied."""
    by_witness: dict[PeerId, list[LogEntry]] = defaultdict(list)
    # Logs first: a loose receipt of a lease that a log explains then counts as that lease. Forged ones go
    # before anything else, or a longer one would stand for the real one.
    for one in sorted(given, key=lambda kept: not kept.is_logged):
        receipt = one.receipt
        if not receipt.provisional and receipt.is_signed_by_witness:
            kind = Kind.TAKEN_OVER if one.is_taken_over else Kind.RENEWED
            by_witness[receipt.witness].append(LogEntry(0, kind, receipt))
    return [found for log in by_witness.values() for found in conflicts(log)]


def _log_in(value: JsonValue) -> list[JsonValue] | None:
    """The log in what `witness log --json` has printed; `None` where it is something else."""
    if not isinstance(value, dict) or not isinstance(data := value.get("data"), dict):
        return None
    log = data.get("log")
    return log if isinstance(log, list) else None


def _logged(entry: JsonValue) -> KeptReceipt:
    if not isinstance(entry, dict) or "receipt" not in entry:
        raise RecordTypeWrong("an entry of the log has no receipt")
    receipt = Receipt.parse(entry["receipt"])
    shown = entry.get("receipts", [])
    is_taken_over = (
        entry.get("kind") == Kind.TAKEN_OVER.value
        and isinstance(shown, list)
        and any(_explains(Receipt.parse(one), receipt) for one in shown)
    )
    return KeptReceipt(receipt, is_logged=True, is_taken_over=is_taken_over)


def _explains(shown: Receipt, receipt: Receipt) -> bool:
    """Whether another witness had signed the lease that was taken over."""
    return (
        shown.witness != receipt.witness
        and (shown.swarm, shown.name, shown.owner, shown.registered_at)
        == (receipt.swarm, receipt.name, receipt.owner, receipt.registered_at)
        and not shown.provisional
        and shown.is_signed_by_witness
    )
