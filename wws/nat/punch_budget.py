"""How often and how much we punch at the word of others: bounds in total, by peer and by target.

Who talks to us over a circuit chooses where we send packets. What it can make of that must stay small: few
punches at a time, few attempts a minute, few dials and datagrams to one IP whoever names it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import prefix_of, unwrap
from wws.identity.peer_id import PeerId
from wws.mesh.rates import Bucket, Rates
from wws.nat.dcutr import Targets


class PunchRefusal(StrEnum):
    """Why no punch was begun; the `reason` label of `wws_refused_total`."""

    BUSY = "punches_total"
    RATE = "punch_rate"
    PEER_RATE = "punch_rate_peer"


@dataclass(frozen=True, slots=True)
class PunchBudgetConfig:
    max_concurrent: int = 16
    """Punches under way at once."""
    attempts_per_minute: float = 240.0
    """Attempts with all peers together; as many again may come in one burst."""
    attempts_per_minute_peer: float = 9.0
    """Attempts with one peer."""
    datagrams_per_minute: float = 6000.0
    """Datagrams to all targets together."""
    datagrams_per_minute_peer: float = 600.0
    """Datagrams at the word of one peer."""
    datagrams_per_minute_ip: float = 600.0
    """Datagrams to one IPv4 address or IPv6 /56, whoever named it."""
    targets_per_minute_ip: float = 120.0
    """Addresses at one IPv4 address or IPv6 /56 that are dialled, whoever named them: each gets some packets
    in one punch."""
    private_per_minute: float = 24.0
    """Addresses of our own network that are dialled, for all peers together. That a peer is behind our public
    address is its own word only: it shall not search our network through us."""
    max_tracked: int = 1024
    """Peers, and IPs, whose rate is remembered; the longest unused are forgotten first."""


class PunchBudget:
    """Counts attempts and datagrams. Every `enter` that returned `None` is answered by one `leave`."""

    def __init__(self, config: PunchBudgetConfig, now: float) -> None:
        self._config = config
        self._under_way: set[Hashable] = set()
        self._attempts = _bucket(config.attempts_per_minute, now)
        self._peer_attempts = _rates(config.attempts_per_minute_peer, config.max_tracked)
        self._datagrams = _bucket(config.datagrams_per_minute, now)
        self._peer_datagrams = _rates(config.datagrams_per_minute_peer, config.max_tracked)
        self._ip_datagrams = _rates(config.datagrams_per_minute_ip, config.max_tracked)
        self._ip_targets = _rates(config.targets_per_minute_ip, config.max_tracked)
        self._private = _bucket(config.private_per_minute, now)

    @property
    def under_way(self) -> int:
        """Punches under way."""
        return len(self._under_way)

    def enter(self, punch: Hashable) -> PunchRefusal | None:
        """Take a place for a punch, or say why there is none."""
        if punch not in self._under_way and len(self._under_way) >= self._config.max_concurrent:
            return PunchRefusal.BUSY
        self._under_way.add(punch)
        return None

    def leave(self, punch: Hashable) -> None:
        """Give the place of a punch back; does nothing when it has none."""
        self._under_way.discard(punch)

    def take_attempt(self, peer: PeerId, now: float) -> PunchRefusal | None:
        """Count one attempt with a peer, or say why it may not be."""
        if not self._peer_attempts.take(peer, now):
            return PunchRefusal.PEER_RATE
        if not self._attempts.take(now):
            return PunchRefusal.RATE
        return None

    def take_targets(self, targets: Targets, now: float) -> Targets:
        """Count what is about to be dialled; what may not be is left out, and counts as refused."""
        punched = tuple(one for one in targets.punched if self._ip_targets.take(_place(one), now))
        private = tuple(one for one in targets.private if self._private.take(now))
        left_out = len(targets.punched) - len(punched) + len(targets.private) - len(private)
        return Targets(punched, private, targets.refused + left_out)

    def take_datagram(self, peer: PeerId, target: Multiaddr, now: float) -> bool:
        """Count one datagram to a target that a peer named; `False` when it may not be sent."""
        return (
            self._peer_datagrams.take(peer, now)
            and self._ip_datagrams.take(_place(target), now)
            and self._datagrams.take(now)
        )


def _place(target: Multiaddr) -> str:
    """What counts as one victim: nobody runs out of IPv6 addresses in one network."""
    ip = unwrap(target.host)
    return str(ip) if ip.version == 4 else prefix_of(target.host)


def _rates(per_minute: float, max_tracked: int) -> Rates:
    return Rates(per_minute / 60, per_minute, max_tracked)


def _bucket(per_minute: float, now: float) -> Bucket:
    return Bucket(per_minute / 60, max(1.0, per_minute), now)
