"""What a node asks of its router, whatever protocol carries it: PCP, NAT-PMP or UPnP IGD.

The three differ in bytes, not in meaning. `wws.nat.port_mapping` speaks these types, the codecs (`pcp`,
`nat_pmp`, `upnp`) turn them into what goes over the wire and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Transport: TypeAlias = Literal["tcp", "udp"]

IP_NUMBERS: Final[dict[Transport, int]] = {"tcp": 6, "udp": 17}
"""The protocol numbers of IANA."""
TRANSPORTS: Final[dict[int, Transport]] = {number: name for name, number in IP_NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Port:
    """One of our listening ports."""

    transport: Transport
    number: int


@dataclass(frozen=True, slots=True)
class AskAddress:
    """Which address has the router outside? PCP does not say it: there this asks for a sign of life."""


@dataclass(frozen=True, slots=True)
class MapPort:
    """Open `port` to the world, or keep it open. The router may give another external port."""

    port: Port
    external_port: int
    external_ip: str | None
    """Which we would like, or have already; only PCP can say it."""
    lifetime: int
    """Seconds; 0 with UPnP: until it is taken back."""


@dataclass(frozen=True, slots=True)
class UnmapPort:
    """Give a mapping back."""

    port: Port
    external_port: int


@dataclass(frozen=True, slots=True)
class LookUp:
    """Is the mapping still there? Only with UPnP, which has no other way to tell that it has forgotten."""

    port: Port
    external_port: int


Request: TypeAlias = AskAddress | MapPort | UnmapPort | LookUp


@dataclass(frozen=True, slots=True)
class Address:
    """The router's address outside, where the protocol says it."""

    ip: str | None
    epoch: int | None = None
    """Seconds since the router forgot its mappings last; `None` with UPnP."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """The port is open."""

    port: Port
    external_port: int
    external_ip: str | None
    """`None` where `Address` says it."""
    lifetime: int
    """Seconds that were granted; 0 with UPnP: no end."""
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Unmapped:
    """The mapping is gone."""

    port: Port
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The router says no."""

    reason: str
    """In snake_case: `unsupported_version`, `not_authorized`, `conflict`, `permanent_only`, …"""
    port: Port | None = None
    """Which port it is about, where the answer says it."""
    epoch: int | None = None


Answer: TypeAlias = Address | Mapped | Unmapped | Refused


def fits(request: Request, answer: Answer) -> bool:
    """Whether an answer can be to a request."""
    match answer:
        case Refused(port=None):
            return True
        case Refused(port=port):
            return not isinstance(request, AskAddress) and request.port == port
        case Address():
            return isinstance(request, AskAddress)
        case Mapped(port=port):
            return isinstance(request, MapPort | LookUp) and request.port == port
        case Unmapped(port=port):
            return isinstance(request, UnmapPort) and request.port == port
