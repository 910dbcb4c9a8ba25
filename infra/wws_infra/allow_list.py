"""Who may reach a port that is not for everybody: a list of networks, none of which is half of the world.

SSH of a bootstrap node is for its operators, `/metrics` for their monitoring. `0.0.0.0/0` there is nearly
always a mistake made "only for now". It is refused, and so are the other ways to write it: `1.2.3.4/0`, a
mask (`0.0.0.0/0.0.0.0`), two halves (`0.0.0.0/1` and `128.0.0.0/1`), IPv4 inside IPv6 (`::ffff:0:0/96`,
`2002::/16`, `64:ff9b::/96`). The rule that catches them all: after neighbours have been joined, no network
may be larger than what one organisation holds.
"""

import ipaddress
from collections.abc import Iterable
from typing import ClassVar

from wws.errors import LocalError

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LARGEST_IPV4 = 8
"""The shortest prefix of an IPv4 network: what a registry ever gave to one organisation, and 10.0.0.0/8."""

LARGEST_IPV6 = 19
"""The same for IPv6: the largest allocation there is."""

MOST_TOGETHER = 4
"""All networks of a family together reach no further than so many of the largest."""

MOST_NETWORKS = 64
"""Entries of a list; a cloud's firewall takes about as many."""

_IPV4_INSIDE = (
    ipaddress.IPv6Network("::ffff:0:0/96"),
    ipaddress.IPv6Network("64:ff9b::/96"),
    ipaddress.IPv6Network("2002::/16"),
)


class AllowListRefused(LocalError):
    """A list of networks is empty, cannot be read, or lets the world in."""

    code = "allow_list_refused"
    exit_code: ClassVar[int] = 2
    hint = "Name the networks of your operators, a single address as 203.0.113.7/32."


def parse(entries: Iterable[str], *, what: str, may_be_empty: bool = False) -> tuple[str, ...]:
    """The networks of `entries` in canonical spelling, each once, in a stable order.

    Raises AllowListRefused, naming `what` and the entry.
    """
    networks: set[_Network] = set()
    for entry in entries:
        try:
            if "%" in entry:  # the zone of an IPv6 address may be any text, line feeds and all
                raise ValueError
            network = ipaddress.ip_network(entry.strip(), strict=False)
        except ValueError:
            raise AllowListRefused(
                f"{what}: {entry!r} is no network: write 203.0.113.0/24 or 2001:db8::/32"
            ) from None
        if any(network.overlaps(inside) for inside in _IPV4_INSIDE if network.prefixlen >= LARGEST_IPV6):
            raise AllowListRefused(f"{what}: {entry!r} is IPv4 inside IPv6: write it as IPv4")
        networks.add(network)
        if len(networks) > MOST_NETWORKS:
            raise AllowListRefused(f"{what}: more than {MOST_NETWORKS} networks")
    if not networks and not may_be_empty:
        raise AllowListRefused(f"{what}: no network: nobody could reach the host, name yours")
    fours = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    sixes = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    _refuse_the_world(ipaddress.collapse_addresses(fours), 32, LARGEST_IPV4, what)
    _refuse_the_world(ipaddress.collapse_addresses(sixes), 128, LARGEST_IPV6, what)
    return tuple(str(network) for network in (*sorted(fours), *sorted(sixes)))


def _refuse_the_world(networks: Iterable[_Network], bits: int, largest: int, what: str) -> None:
    addresses = 0
    for network in networks:
        addresses += network.num_addresses
        if network.prefixlen < largest:
            raise AllowListRefused(
                f"{what}: {network} lets the world in, nothing larger than /{largest} is taken"
            )
    if addresses > MOST_TOGETHER << (bits - largest):
        raise AllowListRefused(f"{what}: together these networks are a good part of the world: name fewer")
