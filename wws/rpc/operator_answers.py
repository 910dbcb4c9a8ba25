"""What a node answers about what it does for others: for operators. Part of `wws.rpc.api`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayService:
    """What this node does as a relay for others."""

    reservations: int
    announced_by: int
    """Of the peers that hold them, those that tell others to come this way."""
    circuits: int
    bytes_today: int
    """Bytes that went through it in the day that runs."""
    bytes_per_day: int | None
    """The budget; None: no bound."""
    resets_in_s: float
    """Until the next day begins."""


@dataclass(frozen=True, slots=True)
class WitnessService:
    """What this node does as a witness of names."""

    entries: int
    """Names held, first claims included."""
    provisional: int
    """First claims among them."""
    log_rows: int
    """Receipts in its file."""
    writable: bool
    """Whether what is to be promised can be written down."""
    no_first_claims_until: int
    """Unix time until which it takes no new names, because promises were lost; 0: it takes them."""


@dataclass(frozen=True, slots=True)
class SignedList:
    """The signed list of entry points that the node goes by."""

    seq: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Draining:
    """How far a node has come that gets ready to be stopped; or that it does not any more."""

    draining: bool
    reservations: int
    """Slots that peers hold at this relay, those who have moved included: they keep theirs until the end."""
    announced_by: int
    """Of the peers that hold them, those that still tell others to come this way: they have not moved."""
    circuits: int
    """Circuits that run through it. They do until the node stops."""
    connections: int
