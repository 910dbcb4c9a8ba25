"""Which addresses make sense in this mesh: what we announce, what we dial (wire.md section 2, "Scopes").

The scope of the mesh is the widest scope among the entry points that a node is connected to; without one,
the widest among its connections. What reaches less far is neither announced nor dialled when it comes from
a peer, a record or a hint. To a peer that shows the same public address, private addresses make sense too.
"""

from __future__ import annotations

from collections.abc import Iterable

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of
from wws.errors import ParseError


def mesh_scope(entry_points: Iterable[Scope | None], connections: Iterable[Scope | None]) -> Scope | None:
    """The scope of the mesh by the addresses that we are connected to; `None` while there are none."""
    for scopes in (entry_points, connections):
        widest = max((scope for scope in scopes if scope is not None), default=None)
        if widest is not None:
            return widest
    return None


def reaches(address: Multiaddr, scope: Scope | None) -> bool:
    """Whether an address that others told us is worth announcing or dialling in a mesh of this scope.

    A name passes: it is judged when it is resolved. Without a scope (nobody connected) everything passes.
    """
    try:
        own = scope_of(address)
    except ParseError:
        return False
    if address.port == 0:
        return False
    return own is None or scope is None or own >= scope
