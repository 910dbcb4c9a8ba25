"""Owners and records for tests: keys from labels, work solved once, records with any times."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from wws.addresses.multiaddr import Multiaddr
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.identity.proof_of_work import LEAST_BITS
from wws.names.peer_record import PeerRecord
from wws.names.receipts import Receipt
from wws.names.record import NameRecord, work_context
from wws.names.rules import MAX_LEASE
from wws.names.transfers import Transfer

NOW = 1_790_000_000
"""A Unix time in the middle of the vectors."""

ADDRESS = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")


@cache
def person(label: str) -> Identity:
    """The identity that belongs to a label."""
    return Identity.from_label(label)


@cache
def solved_work(label: str, name: str = "alice", swarm: str = "public") -> int:
    """The nonce with which the person may claim the name."""
    return proof_of_work.solve(work_context(name, swarm), person(label).peer_id.did, LEAST_BITS)


def receipt(
    witness: str,
    owner: str,
    *,
    name: str = "alice",
    swarm: str = "public",
    registered_at: int = NOW,
    first_seen: int | None = None,
    expires_at: int | None = None,
    provisional: bool = False,
    via: str | None = None,
) -> Receipt:
    """What the witness signs for the owner: seen a second after the claim, good for a day."""
    seen = registered_at + 1 if first_seen is None else first_seen
    return Receipt.sign(
        person(witness),
        swarm=swarm,
        name=name,
        owner=person(owner).peer_id,
        registered_at=registered_at,
        first_seen=seen,
        expires_at=seen + MAX_LEASE if expires_at is None else expires_at,
        provisional=provisional,
        via=via,
    )


def name_record(
    owner: str,
    *,
    name: str = "alice",
    swarm: str = "public",
    registered_at: int = NOW,
    issued_at: int | None = None,
    seq: int | None = None,
    lifetime: int = MAX_LEASE,
    addresses: Sequence[Multiaddr] = (ADDRESS,),
    receipts: Sequence[Receipt] = (),
    witnesses: Sequence[str] = (),
    transfers: Sequence[Transfer] = (),
    released: bool = False,
) -> NameRecord:
    """A record of the owner; each of `witnesses` adds a receipt that covers it."""
    issued = registered_at if issued_at is None else issued_at
    covering = [
        receipt(
            witness,
            owner,
            name=name,
            swarm=swarm,
            registered_at=registered_at,
            expires_at=issued + lifetime,
            via=transfers[-1].digest if transfers else None,
        )
        for witness in witnesses
    ]
    return NameRecord.sign(
        person(owner),
        name=name,
        swarm=swarm,
        addresses=addresses,
        seq=issued if seq is None else seq,
        registered_at=registered_at,
        issued_at=issued,
        expires_at=issued + lifetime,
        nonce=solved_work(owner, name, swarm),
        receipts=[*receipts, *covering],
        transfers=transfers,
        released=released,
    )


def transfer(
    giver: str, taker: str, *, name: str = "alice", swarm: str = "public", seq: int = NOW, at: int = NOW
) -> Transfer:
    """The giver's word that the taker has the name from now on."""
    return Transfer.sign(person(giver), person(taker).peer_id, name=name, swarm=swarm, seq=seq, at=at)


def peer_record(
    owner: str, *, issued_at: int = NOW, seq: int | None = None, addresses: Sequence[Multiaddr] = (ADDRESS,)
) -> PeerRecord:
    """A peer record that lives for a day."""
    return PeerRecord.sign(
        person(owner),
        addresses=addresses,
        seq=issued_at if seq is None else seq,
        issued_at=issued_at,
        expires_at=issued_at + MAX_LEASE,
    )
