"""What a witness holds of one name: an entry, whose keys it is, and what it looked like before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from wws.identity.peer_id import PeerId
from wws.names.record import KEPT_AFTER_EXPIRY

Key: TypeAlias = tuple[str, str]
"""Swarm and name."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the connection has shown it."""

    peer: PeerId
    prefix: str | None = None
    """The /24 or /56 that the caller counts with; `None` where limits by prefix do not apply."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name at one witness."""

    swarm: str
    name: str
    owner: PeerId
    registered_at: int
    first_seen: int
    expires_at: int
    """The last expiry that a receipt for this entry has said."""
    provisional: bool = False
    chain: tuple[str, ...] = ()
    """The digests of the transfers that brought the name to its owner."""
    is_chain_whole: bool = True
    """False when the name was taken over by receipts with a `via` alone: then `chain` is its last link."""
    given_up: bool = False
    """The owner has dropped its full entry. It stays for others what it was: receipts for it are abroad."""
    held_since: int = 0
    """Of a provisional entry: when the owner's turn began. Claiming again does not lengthen it."""
    prefix: str | None = None
    """Of a provisional entry: whose turn it is besides the owner's."""

    @property
    def key(self) -> Key:
        return (self.swarm, self.name)

    @property
    def via(self) -> str | None:
        """What receipts for this entry say of the last transfer."""
        return self.chain[-1] if self.chain else None

    @property
    def free_at(self) -> int:
        """From this Unix time on others may claim the name."""
        return self.expires_at if self.provisional else self.expires_at + KEPT_AFTER_EXPIRY


@dataclass(frozen=True, slots=True)
class EntryChange:
    """An entry as it was and as it is; `None`: there was none, there is none."""

    key: Key
    before: Entry | None
    after: Entry | None


@dataclass(frozen=True, slots=True)
class Counted:
    """A new name that counts in the budget of its owner, and of the prefix it came from, for a day."""

    owner: PeerId
    key: Key
    prefix: str | None
    at: int
