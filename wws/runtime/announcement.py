"""What a bootstrap node says of itself at start: who it is, and the TXT lines that an operator publishes.

The lines are in zone file form: the seed's record (wire.md section 3, 1) and libp2p's `_dnsaddr` record
(wire.md section 3, 2), one of each for every address.
"""

from __future__ import annotations

from collections.abc import Iterable

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import AddressRefused, Scope, scope_of
from wws.identity.peer_id import PeerId

TIME_TO_LIVE = 300
"""Seconds that resolvers may keep the records."""
UNKNOWN_DOMAIN = "example.org"
"""Stands for the network's domain where none is configured."""


def identity_lines(peer_id: PeerId) -> list[str]:
    """Who the node is, for people."""
    return [f"PeerId: {peer_id}", f"DID: {peer_id.did}"]


def txt_lines(peer_id: PeerId, addresses: Iterable[Multiaddr], domain: str | None) -> list[str]:
    """The TXT records to publish, those of the widest scope only: others would lead nobody here."""
    usable = [(scope, address) for address in addresses if (scope := _scope(address)) is not None]
    widest = max((scope for scope, _ in usable), default=None)
    reachable = [str(address.with_peer(peer_id)) for scope, address in usable if scope == widest]
    zone = (domain or UNKNOWN_DOMAIN).removesuffix(".") + "."
    return [
        *(f'_openswarm._tcp.{zone} {TIME_TO_LIVE} IN TXT "v=1 peer={text}"' for text in reachable),
        *(f'_dnsaddr.{zone} {TIME_TO_LIVE} IN TXT "dnsaddr={text}"' for text in reachable),
    ]


def _scope(address: Multiaddr) -> Scope | None:
    """How far an address reaches; a DNS name counts as public, an address like 0.0.0.0 not at all."""
    if address.is_circuit:
        return None
    try:
        scope = scope_of(address)
    except AddressRefused:
        return None
    return Scope.PUBLIC if scope is None else scope
