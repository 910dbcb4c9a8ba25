"""Which addresses of ours may be worth announcing, and where others see us."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of
from wws.mesh.reach import reaches
from wws.nat.kind import NatKind
from wws.nat.observed import ObservedAddresses, Way, way_of
from wws.nat.reachability_events import Candidate
from wws.nat.verdict import Source

_SHOWN_PER_WAY = 2
"""Outer addresses that are shown of one way: more could only be a NAT in the middle of a change."""


def find_candidates(
    scope: Scope | None,
    *,
    configured: Iterable[Multiaddr],
    own: Iterable[Multiaddr],
    mapped: Iterable[Multiaddr],
    observed: ObservedAddresses,
    interfaces: Collection[str],
    kind_of_way: Callable[[Way], NatKind],
) -> tuple[Candidate, ...]:
    """The addresses to judge: what the user configured, our sockets (`own`, wildcards written out), what a
    router has mapped, and what others see. Only configured ones may lie below the scope of the mesh; without
    a scope there are none.

    What is seen counts while it is seen on an open connection, for a NAT forgets the other mappings. Where
    each peer sees another address, one of them stands for all: it is of no use to anybody else. Where most
    see an address of our own, there is no NAT, and what others name is a lie: to ask about it would have
    servers dial somebody else.
    """
    if scope is None:
        return ()
    found: dict[Multiaddr, Candidate] = {}

    def add(addresses: Iterable[Multiaddr], source: Source, mapping: NatKind = "unknown") -> None:
        for address in addresses:
            bare = address.without_peer()
            if not address.is_circuit and (source == "configured" or reaches(bare, scope)):
                found.setdefault(bare, Candidate(bare, source, mapping))

    add(configured, "configured")
    add(sorted(own, key=lambda address: -(scope_of(address) or 0)), "interface")
    add(mapped, "mapped")
    external = [
        one
        for one in observed.external(scope, weight=1)
        if one.is_live and one.address.host not in interfaces
    ]
    for way in observed.ways():
        kind = kind_of_way(way)
        seen = [one for one in external if way_of(one.address) == way]
        if kind == "address_dependent":
            oldest = sorted(seen, key=lambda one: (-one.weight, one.seen_at))
            add([one.address for one in oldest[:1]], "observed", kind)
        elif kind != "none":
            add([one.address for one in seen if observed.is_agreed(one)], "observed", kind)
    return tuple(found.values())


def shown_addresses(observed: ObservedAddresses, scope: Scope | None) -> tuple[Multiaddr, ...]:
    """Our addresses as others see them, whether or not strangers get through, best first: of each way those
    that are agreed on, two at most; else the one that was seen last."""
    weights: dict[Multiaddr, int] = {}
    everything = observed.external(scope, weight=1)
    for way in observed.ways():
        external = [one for one in everything if way_of(one.address) == way]
        agreed = [one for one in external if observed.is_agreed(one)]
        latest = sorted(external, key=lambda one: -one.seen_at)
        weights.update((one.address, one.weight) for one in agreed[:_SHOWN_PER_WAY] or latest[:1])
    return tuple(sorted(weights, key=lambda address: (-weights[address], address.transport != "quic-v1")))
