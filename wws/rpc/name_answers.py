"""What a node answers about names: its own, and those of others. Part of `wws.rpc.api`.

All times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

NameState: TypeAlias = Literal[
    "claiming", "held", "taken", "released", "lost", "contested", "transferring", "transferred"
]


@dataclass(frozen=True, slots=True)
class LeasedName:
    """A name of this identity: held, being claimed, or lost to another."""

    name: str
    swarm: str
    expires_at: int | None
    witnessed: bool
    state: NameState
    holder: str | None = None
    """The DID of the holder when the name belongs to somebody else."""
    problem: str | None = None
    """Why it is not as it should be, in a sentence; None when it is."""
    receipts: int = 0
    """Witnesses of the network whose receipts cover the record that is published."""
    witnesses: int = 0
    """Witnesses that the network has; with none no name can be witnessed."""
    way_back: str | None = None
    """How to start this node as the holder, which it was before: `--identity-path P`. None: it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Who a target is and where it can be reached."""

    name: str | None
    """None when the target was a DID, a PeerId or an address."""
    swarm: str | None
    did: str
    peer_id: str
    addresses: tuple[str, ...]
    expires_at: int | None
    stale: bool = False
    witnessed: bool = False
    pinned: bool = False
    owner_changed: bool = False
    """True when the name passed to this owner by a transfer that the pin followed."""
    first_pin: bool = False
    """True when this answer made the pin, and no majority of witnesses vouches for it."""
    warnings: tuple[str, ...] = ()
    """Stable words for what a careful caller should know, such as `unwitnessed_first_pin`."""
    looks_like: str | None = None
    """A name known here that this one could be taken for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRegistered:
    """The name is this node's, and it keeps renewing it."""

    name: str
    swarm: str
    registered: bool
    expires_at: int | None
    witnessed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRenewed:
    """The lease was extended."""

    name: str
    renewed: bool
    new_expires_at: int | None
    witnessed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NameReleased:
    """The name was given up; it is free for others from `free_at` on."""

    name: str
    released: bool
    free_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTransferred:
    """The entry by which the name goes to another key; it is theirs once they have accepted it."""

    name: str
    swarm: str
    transferred: bool
    """Whether the entry is signed and kept: this node makes no other for the name."""
    entry: Mapping[str, object]
    """The signed entry (wire.md 4), which `swarm.accept_name` takes at the new owner's node."""
    to: str
    """The DID of the new owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameAccepted:
    """The name that was transferred to this node is now kept by it."""

    name: str
    swarm: str
    accepted: bool
    expires_at: int | None
    witnessed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTrusted:
    """From now on this node believes that the name belongs to this owner."""

    name: str
    swarm: str
    did: str
    peer_id: str
    before: str | None
    """The DID that was believed before; None when the name was not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivocation:
    """A peer that signed two different records with one sequence number; both are kept as proof."""

    name: str
    swarm: str
    peer_id: str
    seq: int
    found_at: int
