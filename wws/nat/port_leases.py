"""What a router has opened for us, and until when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.multiaddr import Transport as MultiaddrTransport
from wws.nat.gateway_requests import Port, Transport, UnmapPort

_TRANSPORTS: Final[dict[Transport, MultiaddrTransport]] = {"tcp": "tcp", "udp": "quic-v1"}


@dataclass(frozen=True, slots=True)
class Lease:
    """One port that is open."""

    external_port: int
    external_ip: str
    renew_at: float
    expires_at: float
    round: int
    """In which it was granted: a round asks for every port."""


class Leases:
    """One lease a port."""

    def __init__(self) -> None:
        self._by_port: dict[Port, Lease] = {}

    def __len__(self) -> int:
        return len(self._by_port)

    def __contains__(self, port: Port) -> bool:
        return port in self._by_port

    def get(self, port: Port) -> Lease | None:
        return self._by_port.get(port)

    def has_any_of(self, of_round: int) -> bool:
        """Whether a round has opened anything."""
        return any(lease.round == of_round for lease in self._by_port.values())

    def next_renewal(self) -> float | None:
        """When the next one is to be renewed."""
        return min((lease.renew_at for lease in self._by_port.values()), default=None)

    @property
    def mappings(self) -> tuple[Multiaddr, ...]:
        """Where we can be reached from outside."""
        return tuple(
            Multiaddr.of(lease.external_ip, lease.external_port, _TRANSPORTS[port.transport])
            for port, lease in self._by_port.items()
        )

    @property
    def requests_to_give_back(self) -> list[UnmapPort]:
        """What to ask so that nothing is left."""
        return [UnmapPort(port, lease.external_port) for port, lease in self._by_port.items()]

    def grant(self, port: Port, lease: Lease) -> None:
        """A port is open, or stays so."""
        self._by_port[port] = lease

    def drop(self, port: Port) -> None:
        """A port is not open any more, if it was."""
        self._by_port.pop(port, None)

    def clear(self) -> None:
        """No port is."""
        self._by_port.clear()

    def expire(self, now: float) -> None:
        """Drop those whose time is over."""
        self._by_port = {port: lease for port, lease in self._by_port.items() if now < lease.expires_at}

    def keep(self, of_round: int) -> None:
        """Drop those that were granted in another round."""
        self._by_port = {port: lease for port, lease in self._by_port.items() if lease.round == of_round}

    def renew_later(self, port: Port, now: float, least: float) -> None:
        """It holds until its end; until then ask again, each time after half of what is left, or `least`."""
        lease = self._by_port[port]
        wait = max(least, (lease.expires_at - now) / 2)
        self._by_port[port] = replace(lease, renew_at=now + wait)

    def end(self, port: Port, now: float) -> None:
        """Its time is over now, unless it is granted again before anybody looks."""
        self._by_port[port] = replace(self._by_port[port], expires_at=now)
