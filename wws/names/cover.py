"""Cover: the receipts that an owner holds for a name, and for how long they make its record *witnessed*.

A record is witnessed to its end when a majority of W, or of W′, has signed receipts that last as long
(wire.md sections 4 and 5). So cover ends with the m-th largest expiry, and no record that carries receipts
may end later. An owner keeps the best receipt of each witness: while some are away, those of yesterday go on
counting beside those of today.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.codec import canonical
from wws.identity.peer_id import PeerId
from wws.names.receipts import SEEN_WITHIN, Receipt, majority
from wws.names.record import GRACE
from wws.names.rules import MAX_ADDRESSES, MAX_BYTES
from wws.names.transfers import Transfer

_BARE_RECORD = 700
"""Bytes of a record without addresses, receipts and transfers, at most; the longest names need 620."""


@dataclass(frozen=True, slots=True)
class Panel:
    """The witnesses of this moment: W, and W′ while it counts. A majority of either decides; only a name that
    nobody has yet takes one of each, because new witnesses do not know yet what is held."""

    witnesses: frozenset[PeerId] = frozenset()
    before: frozenset[PeerId] = frozenset()

    @property
    def groups(self) -> tuple[frozenset[PeerId], ...]:
        """The sets that have members."""
        return tuple(group for group in (self.witnesses, self.before) if group)

    @property
    def members(self) -> frozenset[PeerId]:
        return self.witnesses | self.before

    @property
    def is_empty(self) -> bool:
        """Whether this network has no witnesses: then records are published as they are."""
        return not self.members

    def is_majority(self, peers: Iterable[PeerId]) -> bool:
        """Whether `peers` hold a majority of W or of W′."""
        agreeing = frozenset(peers)
        return any(len(group & agreeing) >= majority(group) for group in self.groups)

    def majorities(self, peers: Iterable[PeerId]) -> frozenset[PeerId]:
        """Of `peers` a majority of each set, and no more than that takes; none where one set has none."""
        agreeing = sorted(
            peers, key=lambda peer: (not all(peer in group for group in self.groups), str(peer))
        )
        chosen: set[PeerId] = set()
        for group in self.groups:
            mine = [peer for peer in agreeing if peer in group][: majority(group)]
            if len(mine) < majority(group):
                return frozenset()
            chosen.update(mine)
        return frozenset(chosen)

    def is_ruled_out(self, peers: Iterable[PeerId], *, first_claim: bool = False) -> bool:
        """Whether without `peers` neither W nor W′ has a majority left (for a first claim: one of them has
        none); never where both are empty."""
        refusing = frozenset(peers)
        lost = [len(group - refusing) < majority(group) for group in self.groups]
        return any(lost) if first_claim else bool(lost) and all(lost)


@dataclass(frozen=True, slots=True)
class Cover:
    """The receipts that count for one owner and one `registered_at`."""

    panel: Panel
    receipts: tuple[Receipt, ...] = ()

    @classmethod
    def of(
        cls,
        panel: Panel,
        receipts: Iterable[Receipt],
        *,
        owner: PeerId,
        name: str,
        swarm: str,
        registered_at: int,
        via: str | None = None,
    ) -> Cover:
        """Those of `receipts` that count, the best of each witness, those that last longest first.

        `via` is the digest of the last transfer in the lease.
        """
        best: dict[PeerId, Receipt] = {}
        for receipt in receipts:
            if receipt.witness not in panel.members or not is_for(
                receipt, owner=owner, name=name, swarm=swarm, registered_at=registered_at, via=via
            ):
                continue
            known = best.get(receipt.witness)
            if not receipt.provisional and (known is None or receipt.expires_at > known.expires_at):
                best[receipt.witness] = receipt
        return cls(panel, tuple(sorted(best.values(), key=lambda one: (-one.expires_at, str(one.witness)))))

    @property
    def expires_at(self) -> int:
        """The m-th largest expiry, by the set for which it is later; 0 without a majority."""
        return max((self._end_by(group) for group in self.panel.groups), default=0)

    @property
    def can_be_taken_over(self) -> int:
        """Unix time until which a witness that has lost its entry may take it over from these."""
        return self.expires_at + GRACE if self.expires_at else 0

    def for_record(self, expires_at: int) -> tuple[tuple[Receipt, ...], int]:
        """The receipts that cover a record to `expires_at`, and how many of them, from the first on, make the
        majority. None and 0 where there is no majority."""
        lasting = [receipt for receipt in self.receipts if receipt.expires_at >= expires_at]
        for group in self.panel.groups:
            mine = [receipt for receipt in lasting if receipt.witness in group]
            if len(mine) >= majority(group):
                needed = mine[: majority(group)]
                return (*needed, *(one for one in lasting if one not in needed)), len(needed)
        return (), 0

    def _end_by(self, group: Set[PeerId]) -> int:
        ends = [receipt.expires_at for receipt in self.receipts if receipt.witness in group]
        needed = majority(group)
        return ends[needed - 1] if len(ends) >= needed else 0


def is_for(
    receipt: Receipt, *, owner: PeerId, name: str, swarm: str, registered_at: int, via: str | None = None
) -> bool:
    """Whether the receipt, provisional or not, is about this owner's claim, and its witness signed it."""
    return (
        receipt.owner == owner
        and (receipt.name, receipt.swarm) == (name, swarm)
        and receipt.registered_at == registered_at
        and receipt.via == via
        and abs(receipt.first_seen - registered_at) <= SEEN_WITHIN
        and receipt.is_signed_by_witness
    )


def fitting(
    addresses: tuple[Multiaddr, ...],
    receipts: tuple[Receipt, ...],
    transfers: tuple[Transfer, ...],
    *,
    needed: int,
) -> tuple[tuple[Multiaddr, ...], tuple[Receipt, ...]]:
    """As many addresses and receipts as a record of 8 KiB holds beside its transfers.

    The first `needed` receipts come first, because without them the others are worth nothing; then the
    addresses, the most useful first; then the other receipts, which help when the witnesses change. Where the
    chain of transfers is so long and the witnesses so many that not even the needed ones fit, there are none.
    """
    room = MAX_BYTES - _BARE_RECORD
    room -= sum(len(canonical.dumps(entry.to_members())) + 1 for entry in transfers)
    sizes = [len(canonical.dumps(receipt.to_members())) + 1 for receipt in receipts]
    if sum(sizes[:needed]) > room:
        receipts, sizes, needed = (), [], 0
    room -= sum(sizes[:needed])
    kept_addresses: list[Multiaddr] = []
    for address in addresses[:MAX_ADDRESSES]:
        room -= len(str(address)) + 3
        if room < 0:
            break
        kept_addresses.append(address)
    kept = needed
    for size in sizes[needed:]:
        room -= size
        if room < 0:
            break
        kept += 1
    return tuple(kept_addresses), receipts[:kept]
