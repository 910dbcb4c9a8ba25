"""The canonical log line of a refused peer: the same members, in the same words, for people and for fail2ban.

    2026-11-21T12:00:00.000000Z [warning  ] refused ip=203.0.113.7 node=bootstrap part=refusals
                                            peer=12D3KooW… port=4242 protocol=connection reason=banned

(In one line.) With `format = "json"` the members are those of the object, and its `event` is `refused`. The
address is that of the socket, never one that somebody claims, and only of those who have shown that they
receive there: who forges datagrams must not get another one banned by the firewall. The peer is there once it
is authenticated, `-` before. No text of a peer's is in the line: protocols are those that we serve, reasons
are words of ours.

A flood must not fill the disk, so lines are rated, by address and reason, and in all. `suppressed` counts the
others; all that was refused is counted in `wws_refused_total`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from wws.identity.peer_id import PeerId
from wws.mesh.admission import Refusal
from wws.mesh.bans import OFFENCES
from wws.mesh.rates import RATE_LIMITED_PREFIX, Bucket, Rates
from wws.runtime.logs import logger

BANNED: Final = "banned"
"""Reason: the peer is banned for what it did before."""
BANNED_PREFIX: Final = "banned_prefix"
DENIED: Final = "denied"
"""Reason: the operator's deny list has the peer, or the prefix of its address."""

ABUSE: Final = frozenset({word for word, offence in OFFENCES.items() if offence is not None} | {BANNED})
"""Reasons that are of the peer's own doing: the filter of fail2ban looks for these. No time-outs: the slow
one may be us, and a web page can make its readers' browsers open connections that stay silent."""

LOGGED: Final = ABUSE | {
    BANNED_PREFIX,
    DENIED,
    Refusal.PREFIX.value,
    Refusal.PREFIX_RATE.value,
    "connections_per_peer",
    "half_open",
    "memory",
    "phase_timeout",
    RATE_LIMITED_PREFIX,
    "streams_per_peer",
    "streams_per_prefix",
}
"""Reasons that have a line. The others are everyday noise, or no fault of whoever is turned down."""

_WORD = re.compile(r"[a-z0-9/._-]+\Z")


@dataclass(frozen=True, slots=True)
class RefusalLogConfig:
    per_second: float = 5.0
    """Lines of all together, in the long run."""
    burst: float = 100.0
    """Lines of all together at once."""
    per_second_ip: float = 0.1
    """Lines of one IP address for one reason, in the long run."""
    burst_ip: float = 5.0
    """Lines of one IP address for one reason at once."""
    max_tracked: int = 8_192
    """Pairs of address and reason whose rate is remembered; the longest idle are forgotten first."""


class RefusalLog:
    """Writes the lines."""

    def __init__(self, config: RefusalLogConfig, now: float) -> None:
        self._all = Bucket(config.per_second, config.burst, now)
        self._ips = Rates(config.per_second_ip, config.burst_ip, config.max_tracked)
        self.written = 0
        self.suppressed = 0
        """Lines that were not written, for there were too many."""

    def refused(
        self, ip: str, port: int, protocol: str, reason: str, now: float, *, peer: PeerId | None = None
    ) -> None:
        """Log a refusal whose reason has a line. `ip` is where the socket says that the peer is; empty for
        one that comes through a relay, of which there is no line."""
        if reason not in LOGGED or not ip:
            return
        if not self._ips.take((ip, reason), now) or not self._all.take(now):
            self.suppressed += 1
            return
        self.written += 1
        logger("refusals").warning(
            "refused",
            ip=_plain(ip),
            port=port,
            peer="-" if peer is None else str(peer),
            protocol=protocol if _WORD.match(protocol) else "other",
            reason=reason,
        )


def _plain(ip: str) -> str:
    """As a firewall writes it: IPv4 of a socket of both families without its wrapping."""
    address = ipaddress.ip_address(ip)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
