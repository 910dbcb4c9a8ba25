"""Which addresses of ours to announce, by what is known of each; or those that the user names.

A socket on the wildcard address stands for every address of every interface. None below the scope of the mesh
is announced. An interface address in scope is, until servers have found that nobody gets through: a small
swarm has no servers, and would never begin. An address that a NAT has given us is the other way about: only
once it is known to be public. Who has no public address is reached through relays.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Final

import ifaddr

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of, scope_of_ip
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws.mesh.reach import reaches
from wws.nat.verdict import AddressVerdict

MAX_ANNOUNCED: Final = 16
_MAX_CIRCUITS: Final = 4
"""Places that circuits keep among many direct addresses: two relays with two addresses each."""
WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_ELSEWHERE: Final = {False: "192.0.2.1", True: "2001:db8::1"}
"""Addresses that are nobody's: only the way to them is asked for."""


def announced(
    peer_id: PeerId,
    listening: Sequence[Multiaddr],
    announce: Sequence[Multiaddr],
    scope: Scope | None,
    *,
    verdicts: Sequence[AddressVerdict] = (),
    circuits: Sequence[Multiaddr] = (),
    relay_only: bool = False,
    is_bootstrap: bool = False,
) -> tuple[Multiaddr, ...]:
    """What to announce, each with our PeerId; at most 16: public ones first, then by scope, circuits last.

    With `announce` exactly those, and of them and of everything only circuits with `relay_only`. Without a
    scope (nobody is connected) nothing else: what would make sense is not known yet. `verdicts` are those of
    `wws.runtime.nat.reachability`, `circuits` the addresses of our reservations, announced unless an address
    that everybody can use is known to be public: one of IPv4, for there are peers without IPv6. A bootstrap
    node announces its sockets whatever is said of them: others are sent to it, and it must not vanish from
    the DHT because two servers say so.
    """
    useful_circuits = [address for address in circuits if scope is not None and reaches(address, scope)]
    if announce:
        direct = list(announce)
        if relay_only:
            direct, useful_circuits = [], [*filter(_is_circuit, announce), *useful_circuits]
        else:
            useful_circuits = []
    elif scope is None:
        return ()
    else:
        known = {one.address.without_peer(): one for one in verdicts}
        public = {address for address, one in known.items() if one.verdict == "public"}
        private = {address for address, one in known.items() if one.verdict == "private"}
        own = [address.without_peer() for address in expand(listening)]
        if not is_bootstrap:
            own = [address for address in own if address not in private]
        direct = [address for address in dict.fromkeys((*own, *public)) if reaches(address, scope)]
        direct.sort(key=lambda address: (address not in public, -(_scope(address) or 0)))
        if relay_only:
            direct = []
        elif is_bootstrap or any(address in public and address.host_kind != "ip6" for address in direct):
            useful_circuits = []
    kept = list(dict.fromkeys(address.with_peer(peer_id) for address in useful_circuits))
    room = MAX_ANNOUNCED - min(len(kept), _MAX_CIRCUITS)
    first = list(dict.fromkeys(address.with_peer(peer_id) for address in direct))[:room]
    return tuple(dict.fromkeys((*first, *kept)))[:MAX_ANNOUNCED]


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


def _is_circuit(address: Multiaddr) -> bool:
    return address.is_circuit


def _scope(address: Multiaddr) -> Scope | None:
    try:
        return scope_of(address)
    except ParseError:
        return None
