"""Who may connect: O(1) admission of inbound connections, before a byte of theirs is read.

Bounds on connections in total, from one prefix (IPv4 /24, IPv6 /56), and on accepts a second, in total and
from one prefix. Addresses of loopback, link and private scope count in the total but not in their prefix:
there a prefix is not one party (wire.md section 2). Whoever is admitted holds one slot until `release`.

The 256 /56 of an IPv6 /48 cost nothing, tunnel brokers give them away; so those share a bound, too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from wws.addresses.scope import prefix_of, public_prefix_of_ip, unwrap
from wws.errors import LocalProtocolError, ParseError
from wws.mesh.rates import Bucket, Rates


class Refusal(StrEnum):
    """Why a connection was turned away; the `reason` label of `wws_refused_total`."""

    TOTAL = "connections_total"
    PREFIX = "connections_prefix"
    RATE = "accept_rate"
    PREFIX_RATE = "accept_rate_prefix"
    ADDRESS = "address_refused"


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    max_connections: int = 320
    """Inbound and outbound connections together."""
    max_per_prefix: int = 32
    """Connections from one /24 or /56."""
    accepts_per_second: float = 100.0
    """Sustained accepts; as many again may come in one burst."""
    accepts_per_second_prefix: float = 10.0
    """The same from one prefix."""
    wide_share: int = 8
    """Prefixes' worth of connections and accepts that all /56 of one IPv6 /48 get together."""
    prefix_exempt: tuple[IPv4Network | IPv6Network, ...] | None = None
    """Networks exempt from the prefix limits; `None`: loopback, link and private scope."""
    max_tracked_prefixes: int = 4096
    """Prefixes whose accept rate is remembered; the longest idle are forgotten first."""


class Admission:
    """Counts the slots. Every `admit` that returned `None` is answered by exactly one `release`."""

    def __init__(self, config: AdmissionConfig, now: float) -> None:
        self._config = config
        self._total = 0
        self._per_prefix: Counter[str] = Counter()
        self._per_ip: Counter[str] = Counter()
        self._rate = Bucket(config.accepts_per_second, max(1.0, config.accepts_per_second), now)
        self._prefix_rates = Rates(
            config.accepts_per_second_prefix, config.accepts_per_second_prefix, config.max_tracked_prefixes
        )
        wide_rate = config.accepts_per_second_prefix * config.wide_share
        self._wide_rates = Rates(wide_rate, wide_rate, config.max_tracked_prefixes)

    @property
    def total(self) -> int:
        """Slots held now."""
        return self._total

    def held(self, ip: str) -> int:
        """Slots held now by the prefix of `ip`."""
        prefix = self._prefix(ip)
        return 0 if prefix is None else self._per_prefix[prefix]

    def reconfigure(self, config: AdmissionConfig) -> None:
        """Let other bounds hold from now on."""
        self._config = config
        self._rate.reconfigure(config.accepts_per_second, max(1.0, config.accepts_per_second))
        self._prefix_rates.reconfigure(
            config.accepts_per_second_prefix, config.accepts_per_second_prefix, config.max_tracked_prefixes
        )
        wide_rate = config.accepts_per_second_prefix * config.wide_share
        self._wide_rates.reconfigure(wide_rate, wide_rate, config.max_tracked_prefixes)
        self._per_prefix.clear()  # other prefixes may be exempt now
        for ip, count in self._per_ip.items():
            self._count(self._prefix(ip), count)

    def admit(self, ip: str, now: float, *, outbound: bool = False) -> Refusal | None:
        """Take a slot for a connection with `ip`, or say why not. Outbound ones are not rated."""
        if (refusal := self.full(ip)) is not None:
            return refusal
        prefix = self._prefix(ip)
        if not outbound:
            # The prefix first: one crowded prefix must not use up the rate of all others.
            if prefix is not None and not self._prefix_rates.take(prefix, now):
                return Refusal.PREFIX_RATE
            if (wide := _wide(prefix)) is not None and not self._wide_rates.take(wide, now):
                return Refusal.PREFIX_RATE
            if not self._rate.take(now):
                return Refusal.RATE
        self._total += 1
        self._per_ip[ip] += 1
        self._count(prefix, 1)
        return None

    def full(self, ip: str) -> Refusal | None:
        """Why `ip` would get no slot now whatever the rates; takes nothing. For addresses that may be forged:
        what is sent in somebody's name must not use up what he gets."""
        try:
            prefix = self._prefix(ip)
        except ParseError:
            return Refusal.ADDRESS
        if self._total >= self._config.max_connections:
            return Refusal.TOTAL
        most = self._config.max_per_prefix
        if prefix is not None and self._per_prefix[prefix] >= most:
            return Refusal.PREFIX
        wide = _wide(prefix)
        if wide is not None and self._per_prefix[wide] >= most * self._config.wide_share:
            return Refusal.PREFIX
        return None

    def release(self, ip: str) -> None:
        """Give the slot back."""
        if self._total <= 0:
            raise LocalProtocolError("a connection slot was given back twice")
        self._total -= 1
        self._per_ip[ip] -= 1
        if self._per_ip[ip] <= 0:
            del self._per_ip[ip]
        self._count(self._prefix(ip), -1)

    def limited_prefix(self, ip: str) -> str | None:
        """The prefix that an address counts with; `None` where no limits by prefix apply."""
        try:
            return self._prefix(ip)
        except ParseError:
            return None

    def _count(self, prefix: str | None, change: int) -> None:
        for name in (prefix, _wide(prefix)):
            if name is not None:
                self._per_prefix[name] += change
                if self._per_prefix[name] <= 0:
                    del self._per_prefix[name]

    def _prefix(self, ip: str) -> str | None:
        prefix, exempt = public_prefix_of_ip(ip), self._config.prefix_exempt
        if exempt is None:
            return prefix
        address = unwrap(ip)
        return None if any(address in network for network in exempt) else prefix_of(ip)


def _wide(prefix: str | None) -> str | None:
    """The /48 that a /56 is of; `None` for any other prefix."""
    if prefix is None or not prefix.endswith("/56"):
        return None
    return f"{IPv6Address(int(IPv6Address(prefix.removesuffix('/56'))) >> 80 << 80)}/48"
