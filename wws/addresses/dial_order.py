"""In which order several addresses of one peer are tried."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of
from wws.errors import ParseError


def in_dial_order(addresses: Sequence[Multiaddr]) -> tuple[Multiaddr, ...]:
    """The same addresses, families taking turns (RFC 8305): one broken family costs one attempt, not all.

    Of each family the hosts keep their order. Of one host QUIC comes first in public scope, for it opens a
    way through NATs that hole punching can use, and below it TCP, which carries more; behind a name as given.
    """
    hosts = {host: place for place, host in enumerate(dict.fromkeys(one.host for one in addresses))}
    families: dict[str, list[Multiaddr]] = {}
    for address in sorted(addresses, key=lambda one: (hosts[one.host], _is_second(one))):
        families.setdefault(_family(address), []).append(address)
    # The family of the first address given goes first.
    first = _family(addresses[0]) if addresses else ""
    rows = sorted(families.items(), key=lambda item: item[0] != first)
    return tuple(a for row in zip_longest(*(row for _, row in rows)) for a in row if a is not None)


def _family(address: Multiaddr) -> str:
    return address.host_kind if address.is_ip else "name"


def _is_second(address: Multiaddr) -> bool:
    try:
        scope = scope_of(address)
    except ParseError:
        return False
    return scope is not None and (address.transport == "quic-v1") is not (scope is Scope.PUBLIC)
