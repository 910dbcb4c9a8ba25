"""What the machine of port mapping is told, what it asks for, and its bounds: see `wws.nat.port_mapping`."""

from __future__ import annotations

from dataclasses import dataclass

from wws.machine import Command, Event
from wws.nat.gateway_requests import Answer, Port, Request


@dataclass(frozen=True, slots=True)
class PortMappingConfig:
    """What we ask of a router, and how much of it we put up with; times in seconds."""

    lifetime: int = 1_200
    """The lease that is asked for. A node that dies without giving back leaves a mapping for at most that; a
    router that forgets without showing it (its epoch may be the uptime of the machine) has ours again after
    half of it."""
    min_lifetime: int = 60
    """A shorter lease is not worth its traffic, and counts as a refusal."""
    max_lifetime: int = 86_400
    """Longer ones are taken for this."""
    first_timeout: float = 0.25
    """Before a datagram is sent again; doubles each time."""
    attempts: int = 3
    """Datagrams of one request: with the above 1.75 s in all."""
    find_timeout: float = 4.0
    """For finding a UPnP gateway: search, description and first action."""
    upnp_timeout: float = 3.0
    """For one action of UPnP."""
    check_interval: float = 60.0
    """Between two signs of life that are asked for by PCP and NAT-PMP."""
    upnp_check_interval: float = 300.0
    """The same with UPnP, where it takes several requests over TCP."""
    retry_first: float = 15.0
    """Before a router that opens nothing, or no longer, is asked again; doubles each time."""
    retry_interval: float = 600.0
    """The most of that."""
    jitter: float = 0.1
    """Each wait is longer by a random share of at most this."""
    max_ports: int = 8
    """Most ports that are asked for."""
    max_other_ports: int = 4
    """Other external ports that are tried when the one we like is taken."""


@dataclass(frozen=True, slots=True)
class Started(Event):
    """There is a router, or another one than before: begin."""

    local: str
    """Our address towards it."""
    ports: tuple[Port, ...]
    nonce: bytes
    """Twelve random bytes, for PCP."""


@dataclass(frozen=True, slots=True)
class NetworkLost(Event):
    """There is no router that could be asked, or no reason to."""


@dataclass(frozen=True, slots=True)
class DatagramReceived(Event):
    """From port 5351 of the router, and nobody else: the driver's socket sees to that."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PortUnreachable(Event):
    """The router says that nobody listens on port 5351."""


@dataclass(frozen=True, slots=True)
class UpnpFound(Event):
    """What has come of `FindUpnp`."""

    number: int
    found: bool


@dataclass(frozen=True, slots=True)
class UpnpAnswered(Event):
    """What has come of `AskUpnp`; `None`: nothing that could be used."""

    number: int
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """`next_wakeup()` has come."""


@dataclass(frozen=True, slots=True)
class Closing(Event):
    """The node is stopping: give back what is mapped."""


@dataclass(frozen=True, slots=True)
class SendDatagram(Command):
    """To port 5351 of the router."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FindUpnp(Command):
    """Look for a UPnP gateway at the router's address, and report `UpnpFound`."""

    number: int


@dataclass(frozen=True, slots=True)
class AskUpnp(Command):
    """Ask the gateway that was found, and report `UpnpAnswered`. What was asked before may be given up."""

    number: int
    request: Request


@dataclass(frozen=True, slots=True)
class Changed(Command):
    """`mappings`, `state` or `reason` are others than before."""


@dataclass(frozen=True, slots=True)
class Finished(Command):
    """Everything is given back, as far as the router would take it."""
