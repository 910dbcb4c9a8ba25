"""How far an address reaches: loopback < link < private < public (wire.md section 2, "Scopes").

By a table of our own and never by the flags of Python's `ipaddress`: those call the documentation ranges
private, and change between releases. What an IPv6 form only wraps (IPv4-mapped, NAT64, 6to4) is judged
by the IPv4 address inside.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.errors import ParseError

IpAddress: TypeAlias = "IPv4Address | IPv6Address"


class Scope(IntEnum):
    """A wider scope compares greater."""

    LOOPBACK = 0
    LINK = 1
    PRIVATE = 2
    PUBLIC = 3


class AddressRefused(ParseError):
    """The address is one that nobody can be reached at: unspecified, multicast or reserved."""

    code = "address_refused"


def _table4(*rows: tuple[str, Scope]) -> tuple[tuple[int, int, Scope], ...]:
    nets = [(IPv4Network(net), scope) for net, scope in rows]
    return tuple((int(net.netmask), int(net.network_address), scope) for net, scope in nets)


_IPV4 = _table4(
    ("127.0.0.0/8", Scope.LOOPBACK),
    ("169.254.0.0/16", Scope.LINK),
    ("10.0.0.0/8", Scope.PRIVATE),
    ("172.16.0.0/12", Scope.PRIVATE),
    ("192.168.0.0/16", Scope.PRIVATE),
    ("100.64.0.0/10", Scope.PRIVATE),
)
_NAT64 = int(IPv6Network("64:ff9b::/96").network_address) >> 32


@lru_cache(maxsize=4096)
def unwrap(text: str) -> IpAddress:
    """The address that `text` stands for: IPv4-mapped, NAT64 and 6to4 are unwrapped. Raises `ParseError`."""
    try:
        address = ip_address(text)
    except ValueError:
        raise ParseError(f"{text[:60]!r} is not an IP address") from None
    if address.version == 4:
        return address
    number = int(address)
    if number >> 32 in (0xFFFF, _NAT64):
        return IPv4Address(number & 0xFFFFFFFF)
    if number >> 112 == 0x2002:
        return IPv4Address(number >> 80 & 0xFFFFFFFF)
    return IPv6Address(number)


def scope_of_ip(text: str) -> Scope:
    """The scope of an IP address.

    Raises `AddressRefused` for 0/8, `::`, multicast and 240/4, `ParseError` for what is no address.
    """
    address = unwrap(text)
    number = int(address)
    if address.version == 4:
        first = number >> 24
        if first == 0 or first >= 224:
            raise AddressRefused(f"{text} is not an address of a host")
        for mask, network, scope in _IPV4:
            if number & mask == network:
                return scope
        return Scope.PUBLIC
    if number == 0 or number >> 120 == 0xFF:
        raise AddressRefused(f"{text} is not an address of a host")
    if number == 1:
        return Scope.LOOPBACK
    if number >> 118 == 0xFE80 >> 6:
        return Scope.LINK
    if number >> 121 == 0xFC >> 1:
        return Scope.PRIVATE
    return Scope.PUBLIC


def scope_of(address: Multiaddr) -> Scope | None:
    """The scope of a multiaddr; `None` when its host is a name, which has the scope of what it resolves to.

    Raises `AddressRefused` like `scope_of_ip`.
    """
    return scope_of_ip(address.host) if address.is_ip else None


def public_prefix_of_ip(text: str) -> str | None:
    """The prefix that limits count an address with; `None` below public scope, where it is not one party.

    Raises `AddressRefused` like `scope_of_ip`.
    """
    return prefix_of(text) if scope_of_ip(text) is Scope.PUBLIC else None


def prefix_of(text: str) -> str:
    """The prefix that one party is taken to hold: the /24 of an IPv4 address, the /56 of an IPv6 one."""
    address = unwrap(text)
    if address.version == 4:
        return f"{IPv4Address(int(address) & 0xFFFFFF00)}/24"
    return f"{IPv6Address(int(address) >> 72 << 72)}/56"
