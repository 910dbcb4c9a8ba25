"""Which addresses of ours to announce: those of our sockets that make sense in this mesh, or the user's.

A socket on the wildcard address stands for every address of every interface. Behind a NAT none of them has
the scope of a public mesh; then nothing is announced, and the node only asks the DHT.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

import ifaddr

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of, scope_of_ip
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws.mesh.reach import reaches

MAX_ANNOUNCED = 16
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_ELSEWHERE = {False: "192.0.2.1", True: "2001:db8::1"}
"""Addresses that are nobody's: only the way to them is asked for."""


def announced(
    peer_id: PeerId, listening: Sequence[Multiaddr], announce: Sequence[Multiaddr], scope: Scope | None
) -> tuple[Multiaddr, ...]:
    """What to announce, widest scope first, each with our PeerId; at most 16.

    With `announce` exactly those. Without a scope (nobody is connected) nothing: what would make sense is not
    known yet.
    """
    if announce:
        chosen = list(announce)
    elif scope is None:
        chosen = []
    else:
        chosen = [address for address in expand(listening) if reaches(address, scope)]
        chosen.sort(key=lambda address: -(_scope(address) or 0))
    return tuple(dict.fromkeys(address.with_peer(peer_id) for address in chosen))[:MAX_ANNOUNCED]


def expand(listening: Iterable[Multiaddr]) -> list[Multiaddr]:
    """The addresses under which the sockets can be reached from somewhere, wildcards written out."""
    result: list[Multiaddr] = []
    for address in listening:
        if address.host in WILDCARDS:
            result += [address.with_host(ip) for ip in interface_addresses(address.host_kind == "ip6")]
        else:
            result.append(address)
    return result


def interface_addresses(ipv6: bool) -> list[str]:
    """The addresses of this machine's interfaces, of one family."""
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = (ip.ip[0] if isinstance(ip.ip, tuple) else ip.ip).partition("%")[0]
            # A link-local IPv6 address needs its interface, for which a multiaddr of ours has no place.
            if ip.is_IPv6 == ipv6 and not (ipv6 and scope_of_ip(text) is Scope.LINK):
                found.append(text)
    return found


def source_address(ipv6: bool) -> str | None:
    """The address of ours that a packet into the world would bear; `None` without a way there.

    Connecting a UDP socket asks the kernel for the route and sends nothing.
    """
    try:
        with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((_ELSEWHERE[ipv6], 9))
            return str(sock.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


def _scope(address: Multiaddr) -> Scope | None:
    try:
        return scope_of(address)
    except ParseError:
        return None
