"""Peers behind the same public address as we: they may be in the same local network (wire.md section 2).

To such a peer identify also says our private addresses, never in the signed record, and what it says of its
own is dialled although it reaches less far than the mesh. Behind a carrier's NAT two peers may share an
address and no network: then the dial fails, or meets a stranger who cannot prove to be the peer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of
from wws.errors import ParseError
from wws.identity.peer_id import PeerId

MAX_ADDRESSES = 8
"""Private addresses that are told, or believed, of one peer."""
FIRST_PORT = 1024
"""Ports below it are not believed: that is where routers, printers and the like answer in our network."""


def private_addresses(addresses: Iterable[Multiaddr]) -> tuple[Multiaddr, ...]:
    """Those of private scope at an IP, at most 8: what is of use inside one local network only."""
    found = dict.fromkeys(address for address in addresses if is_private(address))
    return tuple(found)[:MAX_ADDRESSES]


def same_lan_addresses(
    peer: PeerId, said: Iterable[Multiaddr], seen_ips: Iterable[str], public_ips: Collection[str]
) -> tuple[Multiaddr, ...]:
    """What leads to `peer` inside our own network, of the addresses that it said outside a signed record.

    `seen_ips` is where the peer was seen: the other end of its connection, or the addresses that it observed.
    Empty unless one of them is among `public_ips`, the addresses at which others see us.
    """
    if not any(ip in public_ips for ip in seen_ips):
        return ()
    return private_addresses(
        address for address in said if address.peer_id in (None, peer) and (address.port or 0) >= FIRST_PORT
    )


def is_private(address: Multiaddr) -> bool:
    """Whether it leads to a machine with a private IP, and not through a relay."""
    if address.is_circuit or not address.port:
        return False
    try:
        return scope_of(address) is Scope.PRIVATE
    except ParseError:
        return False
