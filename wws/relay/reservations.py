"""Who holds a slot at this relay: one a peer, for a while, and so many from one place.

A slot belongs to the peer that proved who it is, whatever its request says. Asking again refreshes it and
takes no second one. It is free again when its time is over, or when the peer has left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wws.identity.peer_id import PeerId
from wws.mesh.rates import Rates
from wws.relay.places import Places


@dataclass(frozen=True, slots=True)
class ReservationConfig:
    max_reservations: int = 2048
    """Slots in total."""
    duration: float = 3600.0
    """Seconds that a slot lasts unless it is refreshed; at most an hour (wire.md section 2)."""
    max_per_ip: int = 32
    """Slots for peers at one public IP: a household, an office, a carrier's NAT."""
    max_per_prefix: int = 128
    """Slots for peers of one public IPv4 /24 or IPv6 /56."""
    per_second: float = 0.5
    """Requests of one peer that are looked at in the long run; an honest one asks twice an hour."""
    burst: int = 16
    """The same at once: a peer that lost its connection comes back."""
    max_tracked: int = 8192
    """Peers whose rate is remembered."""


@dataclass(frozen=True, slots=True)
class _Slot:
    ip: str | None
    prefix: str | None
    expires_at: float


class ReservationTable:
    """All slots."""

    def __init__(self, config: ReservationConfig) -> None:
        self._slots: dict[PeerId, _Slot] = {}  # in order of expiry: a refreshed one goes to the end
        self._per_ip: Places[str] = Places()
        self._per_prefix: Places[str] = Places()
        self._rates = Rates(config.per_second, config.burst, config.max_tracked)
        self._config = config

    def reconfigure(self, config: ReservationConfig) -> None:
        """Let other bounds hold from now on; slots that are held stay."""
        self._config = config
        self._rates.reconfigure(config.per_second, config.burst, config.max_tracked)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, peer: PeerId) -> bool:
        return peer in self._slots

    def __iter__(self) -> Iterator[PeerId]:
        return iter(list(self._slots))

    def reserve(self, peer: PeerId, ip: str, prefix: str | None, now: float) -> str | None:
        """Give a peer a slot, or refresh its own. `None`, or the reason why not; then all is as before.

        Where no limits by prefix apply (`prefix` is `None`), none by IP do.
        """
        if not self._rates.take(peer, now):
            return "reservation_rate"
        old = self._slots.get(peer)
        if old is None and len(self._slots) >= self._config.max_reservations:
            return "reservations_total"
        slot = _Slot(None if prefix is None else ip, prefix, now + self._config.duration)
        # What the peer holds already does not stand in its way.
        moved = old is None or old.ip != slot.ip
        if moved and slot.ip is not None and self._per_ip.held(slot.ip) >= self._config.max_per_ip:
            return "reservations_ip"
        moved = old is None or old.prefix != prefix
        if moved and prefix is not None and self._per_prefix.held(prefix) >= self._config.max_per_prefix:
            return "reservations_prefix"
        self.release(peer)
        self._slots[peer] = slot
        self._per_ip.take(slot.ip)
        self._per_prefix.take(slot.prefix)
        return None

    def holds(self, peer: PeerId, now: float) -> bool:
        """Whether a peer has a slot."""
        slot = self._slots.get(peer)
        return slot is not None and slot.expires_at > now

    def release(self, peer: PeerId) -> bool:
        """Free the slot of a peer; whether it had one."""
        slot = self._slots.pop(peer, None)
        if slot is None:
            return False
        self._per_ip.give_back(slot.ip)
        self._per_prefix.give_back(slot.prefix)
        return True

    def expire(self, now: float) -> list[PeerId]:
        """Free the slots whose time is over; whose they were."""
        over = [peer for peer, slot in self._slots.items() if slot.expires_at <= now]
        for peer in over:
            self.release(peer)
        return over

    def next_wakeup(self) -> float | None:
        """When the next slot runs out. Once the duration was shortened, newer ones may wait for older ones to
        be swept out with them; `holds` knows better meanwhile."""
        return next((slot.expires_at for slot in self._slots.values()), None)
