"""The full receipts that a witness gave last: who asks again soon gets the same one.

Each new one is a row of the log for a day. Whoever renews twice a second, as often as is allowed, would fill
the disk, and then nobody else could renew.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from wws.names.receipts import Receipt
from wws.names.rules import MAX_LEASE
from wws.names.witness.entry import Entry, Key


@dataclass(frozen=True, slots=True)
class RecentConfig:
    same_for: int = 300
    """Seconds for which a renewal is answered with the receipt that was given last."""
    most: int = 4_096
    """Receipts that are remembered for it; the oldest is forgotten first."""


class RecentReceipts:
    """By name, and in memory only: after a restart each renewal is a new one."""

    def __init__(self, config: RecentConfig) -> None:
        self._config = config
        self._receipts: OrderedDict[Key, Receipt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._receipts)

    def given(self, receipt: Receipt) -> None:
        """Remember what was given now."""
        key = (receipt.swarm, receipt.name)
        self._receipts[key] = receipt
        self._receipts.move_to_end(key)
        if len(self._receipts) > self._config.most:
            self._receipts.popitem(last=False)

    def forget(self, key: Key) -> None:
        """It was not given after all."""
        self._receipts.pop(key, None)

    def find(self, entry: Entry, unix_now: int) -> Receipt | None:
        """The receipt for this very lease that was given last, if that is not long ago."""
        receipt = self._receipts.get(entry.key)
        if receipt is None or (receipt.owner, receipt.registered_at, receipt.first_seen, receipt.via) != (
            entry.owner,
            entry.registered_at,
            entry.first_seen,
            entry.via,
        ):
            return None
        age = unix_now + MAX_LEASE - receipt.expires_at
        return receipt if 0 <= age < self._config.same_for else None
