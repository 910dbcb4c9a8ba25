"""What receipts of other witnesses prove to a witness that knows less than they do (wire.md section 5).

Two things: that a majority has an owner's first claim, so that it may become full; and that a majority holds
a name for an owner, so that a witness which lost its disk takes it over. A majority is one of W or one of
W′, of distinct members, each with a signature that verifies.

A first claim takes one of W *and*, for as long as it counts, one of W′. Witnesses that have just been named
know nothing yet: were a majority of those enough, whoever asked them before the owners do could have any
name, and two days later, when W′ counts no longer, would be the only one whom witnesses cover.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from statistics import median_low
from typing import Final

from wws.identity.peer_id import PeerId
from wws.names.kinds import WitnessSets
from wws.names.receipts import SEEN_WITHIN, Receipt, majority
from wws.names.record import GRACE
from wws.names.witness.entry import Key

MOST_LOOKED_AT: Final = 2
"""Signatures of one member that are verified for one question, and owners that receipts may name: forged ones
cost their maker nothing."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What a majority of witnesses says of a name, and their word for it."""

    owner: PeerId
    registered_at: int
    first_seen: int
    """The median of theirs; of two in the middle the lower."""
    via: str | None
    receipts: tuple[Receipt, ...]


def first_claim(
    receipts: Iterable[Receipt], sets: WitnessSets, key: Key, owner: PeerId, registered_at: int, unix_now: int
) -> tuple[Receipt, ...]:
    """Unexpired receipts, provisional ones too, of a majority of each set for this owner and claim; else
    none."""

    def counts(receipt: Receipt) -> bool:
        return (
            (receipt.swarm, receipt.name) == key
            and receipt.owner == owner
            and receipt.registered_at == registered_at
            and receipt.expires_at > unix_now
        )

    good = _good(receipts, sets, counts)
    groups = [group for group in sets if group]
    if not groups or any(sum(one in group for one in good) < majority(group) for group in groups):
        return ()
    return tuple(good.values())


def take_over(
    receipts: Iterable[Receipt], sets: WitnessSets, key: Key, registered_at: int, unix_now: int
) -> TakeOver | None:
    """What full receipts of a majority say of the name, whoever the owner is: they must agree on it."""
    receipts = tuple(receipts)
    said = dict.fromkeys((receipt.owner, receipt.via) for receipt in receipts)
    for owner, via in islice(said, MOST_LOOKED_AT):

        def counts(receipt: Receipt, owner: PeerId = owner, via: str | None = via) -> bool:
            return (
                not receipt.provisional
                and (receipt.swarm, receipt.name) == key
                and (receipt.owner, receipt.via) == (owner, via)
                and receipt.registered_at == registered_at
                and abs(receipt.first_seen - registered_at) <= SEEN_WITHIN
                and receipt.expires_at + GRACE > unix_now
            )

        if good := _majority_of(receipts, sets, counts):
            seen = median_low([receipt.first_seen for receipt in good])
            return TakeOver(owner, registered_at, seen, via, good)
    return None


def _majority_of(
    receipts: Iterable[Receipt], sets: WitnessSets, counts: Callable[[Receipt], bool]
) -> tuple[Receipt, ...]:
    """The receipts that count, one of each member of the first set that has a majority of them; else none."""
    good = _good(receipts, sets, counts)
    for group in sets:
        found = tuple(receipt for witness, receipt in good.items() if witness in group)
        if len(found) >= majority(group):
            return found
    return ()


def _good(
    receipts: Iterable[Receipt], sets: WitnessSets, counts: Callable[[Receipt], bool]
) -> dict[PeerId, Receipt]:
    """The receipts that count, one of each member. Signatures are looked at last, and at few of each member:
    an honest owner shows one."""
    members = sets[0] | sets[1]
    good: dict[PeerId, Receipt] = {}
    looked_at: Counter[PeerId] = Counter()
    for receipt in receipts:
        witness = receipt.witness
        if witness not in members or witness in good or not counts(receipt):
            continue
        looked_at[witness] += 1
        if looked_at[witness] <= MOST_LOOKED_AT and receipt.is_signed_by_witness:
            good[witness] = receipt
    return good
