"""Chains of transfers as a witness meets them: are they valid, and do they go on from what it knows."""

from __future__ import annotations

from collections.abc import Sequence

from wws.identity.peer_id import PeerId
from wws.names.errors import RecordRefused
from wws.names.transfers import Transfer, check_chain
from wws.names.witness.entry import Entry, Key


def leads_to(chain: Sequence[Transfer], key: Key, taker: PeerId) -> bool:
    """Whether the chain is linked, rising, signed, about this name, and ends at `taker`; never when empty."""
    if not chain:
        return False
    swarm, name = key
    try:
        check_chain(chain, name=name, swarm=swarm, owner=taker, seq=chain[-1].seq + 1)
    except RecordRefused:
        return False
    return True


def links_up_to(digests: Sequence[str], via: str) -> int:
    """How many links of the chain there are up to this one; 0 when it is none of them."""
    return digests.index(via) + 1 if via in digests else 0


def links_known(entry: Entry, digests: tuple[str, ...]) -> int | None:
    """How many links of the chain the witness knows already; `None` when it does not go on from there."""
    if entry.is_chain_whole:
        known = len(entry.chain)
        return known if digests[:known] == entry.chain else None
    return links_up_to(digests, entry.chain[-1]) or None
