"""Giving a name away and taking it up: the rules of both ends (wire.md section 4).

    giver   signs an entry for the taker, once: a second one for another key would be a double transfer
    taker   looks for the giver's record, and puts the entry at the end of its chain

What stands here is pure; the lease machine asks for it.
"""

from __future__ import annotations

from typing import Final

from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.errors import DoubleTransfer, RecordRefused, TransferImpossible
from wws.names.lease_state import LeaseState
from wws.names.record import NameRecord
from wws.names.transfers import MAX_TRANSFERS, Transfer, check_chain

HIGHEST_TAKEN: Final = 2**52
"""The highest number from which we go on. Numbers follow the clock, and end at 2^53−1: who gives a name with
the last of them gives one that can never be renewed."""


def sign_away(giver: Identity, lease: LeaseState, to: PeerId, unix_now: int) -> Transfer:
    """The entry by which `giver` gives `lease` to `to`; the same one again when it was signed before.

    Raises `DoubleTransfer` when another key has been promised the name, `TransferImpossible` when there is
    nothing to give or no room in the chain.
    """
    if lease.given is not None:
        if lease.given.to_peer == to:
            return lease.given
        raise DoubleTransfer(
            f"{lease.name!r} was given to {lease.given.to_peer} already",
            hint="Only the new owner can pass it on.",
        )
    if to == giver.peer_id:
        raise TransferImpossible(f"{lease.name!r} is ours already")
    if len(lease.transfers) >= MAX_TRANSFERS:
        raise TransferImpossible(
            f"{lease.name!r} has changed hands {MAX_TRANSFERS} times, and a record holds no more",
            hint="Release it; the new owner can claim it when the cool-down is over.",
        )
    return Transfer.sign(giver, to, name=lease.name, swarm=lease.swarm, seq=lease.seq, at=unix_now)


def check_offer(entry: Transfer, *, name: str, swarm: str, taker: PeerId) -> None:
    """Raises `RecordRefused` unless `entry` gives this name to `taker`, and its giver has signed it."""
    check_chain((entry,), name=name, swarm=swarm, owner=taker, seq=entry.seq + 1)


def take_up(found: NameRecord, entry: Transfer, taker: PeerId) -> LeaseState:
    """The lease of `taker` when `entry` goes on from `found`, the record that holds now. It has no work yet.

    Raises `TransferImpossible` when the record is another's or has been given back, or when the chain would
    break its rules.
    """
    if found.released:
        raise TransferImpossible(f"{found.name!r} was given back by {found.peer_id}")
    if len(found.transfers) >= MAX_TRANSFERS:
        raise TransferImpossible(f"{found.name!r} has changed hands {MAX_TRANSFERS} times already")
    chain = (*found.transfers, entry)
    seq = max(found.seq, entry.seq)
    if seq > HIGHEST_TAKEN:
        raise TransferImpossible(f"the record of {found.name!r} has a number that leaves none for renewals")
    try:
        check_chain(chain, name=found.name, swarm=found.swarm, owner=taker, seq=seq + 1)
    except RecordRefused as refusal:
        raise TransferImpossible(
            f"the transfer does not go on from the record of {found.name!r}: {refusal}"
        ) from None
    return LeaseState(
        name=found.name,
        swarm=found.swarm,
        registered_at=found.registered_at,
        seq=seq,
        nonce=0,
        expires_at=found.expires_at,
        transfers=chain,
    )


def passed_on(found: NameRecord, owner: PeerId) -> PeerId | None:
    """To whom `owner` gave the name, where the chain of `found` says that it did; the last time counts."""
    return next((entry.to_peer for entry in reversed(found.transfers) if entry.from_peer == owner), None)
