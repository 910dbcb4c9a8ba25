"""Whom a node will know next time: peers met while an entry point of its own right stands behind them.

An entry point that is connected vouches for everyone met meanwhile; when it has gone, the time at which it
left is what counts. A node that came in through a cached peer passes on what vouched for that peer.
"""

from __future__ import annotations

from collections.abc import Iterable

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.entry_points import EntryPoints
from wws.discovery.peer_cache import PeerCache
from wws.discovery.race_events import SavePeerCache
from wws.identity.peer_id import PeerId
from wws.machine import Command


class Memory:
    """Feeds the peer cache and says when it is to be written."""

    def __init__(self, cache: PeerCache, entry_points: EntryPoints, save_interval: float) -> None:
        self._cache = cache
        self._entry_points = entry_points
        self._save_interval = save_interval
        self._here: dict[PeerId, None] = {}
        """The entry points of their own right that are connected."""
        self._voucher: tuple[PeerId, int] | None = None
        self._save_at: float | None = None
        self._saved_at = float("-inf")

    def entered(self, peer_id: PeerId, unix_now: int) -> None:
        """An entry point is connected."""
        if self._entry_points.is_root(peer_id, unix_now):
            self._here[peer_id] = None
            self._voucher = (peer_id, unix_now)
            return
        cached = self._cache.find(peer_id)
        if cached is not None and (self._voucher is None or self._voucher[1] < cached.met_at):
            self._voucher = (cached.through, cached.met_at)

    def left(self, peer_id: PeerId, unix_now: int) -> None:
        """A peer is not connected any more."""
        if peer_id in self._here:
            del self._here[peer_id]
            self._voucher = (peer_id, unix_now)

    def remember(
        self, peer_id: PeerId, addresses: Iterable[Multiaddr], now: float, unix_now: int
    ) -> list[Command]:
        """A peer of this network works at these addresses."""
        if self._here:
            self._voucher = (next(iter(self._here)), unix_now)
        if self._voucher is None:
            return []
        through, met_at = self._voucher
        usable = [address for address in addresses if not address.is_circuit]
        if not self._cache.record(peer_id, usable, through=through, met_at=met_at, unix_now=unix_now):
            return []
        due = self._saved_at + self._save_interval
        if now >= due:
            return self._save(now)
        self._save_at = due
        return []

    def next_wakeup(self) -> float | None:
        """When the cache is to be written."""
        return self._save_at

    def save_if_due(self, now: float) -> list[Command]:
        """Write what has gathered since the last time."""
        return self._save(now) if self._save_at is not None and self._save_at <= now else []

    def flush(self, now: float) -> list[Command]:
        """Write what is not written yet."""
        return self._save(now) if self._save_at is not None else []

    def _save(self, now: float) -> list[Command]:
        self._saved_at, self._save_at = now, None
        return [SavePeerCache(self._cache.to_json())]
