"""Our own place, as hole punching needs to know it: what reachability found out, and what our sockets are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.mesh.reach import reaches
from wws.mesh.same_lan import is_private
from wws.nat.dcutr import Here
from wws.nat.kind import NatKind
from wws.runtime.host import Host
from wws.runtime.own_addresses import expand

_LASTS = 2.0
"""Seconds for which the interfaces of this machine are not looked at again: every datagram asks."""


class ObservedView(Protocol):
    """What hole punching needs to know of our own place: `wws.runtime.nat.reachability` knows it."""

    on_change: list[Callable[[], None]]

    @property
    def nat(self) -> NatKind:
        """How our NAT maps ports."""
        ...

    def observed(self) -> tuple[Multiaddr, ...]:
        """Our addresses as others see them, best first."""
        ...

    def public_ips(self) -> frozenset[str]:
        """Our public IPs that several observers agree on."""
        ...


class OwnPlace:
    """Puts `Here` together."""

    def __init__(self, host: Host, reachability: ObservedView) -> None:
        self._host = host
        self._reachability = reachability
        self._known: Here | None = None
        self._known_of: tuple[Scope, tuple[Multiaddr, ...]] | None = None
        self._known_until = 0.0

    def here(self) -> Here:
        """Our place now."""
        now = self._host.clock.monotonic()
        scope = Scope.PUBLIC if self._host.scope is None else self._host.scope
        of = (scope, tuple(self._host.listen_addresses))
        if self._known is None or now >= self._known_until or self._known_of != of:
            self._known, self._known_of, self._known_until = self._look(scope), of, now + _LASTS
        return self._known

    def look_again(self) -> bool:
        """Whether others are now told something else of us than before."""
        before, self._known = self._known, None
        here = self.here()
        return before is None or (before.observed, before.nat) != (here.observed, here.nat)

    def _look(self, scope: Scope) -> Here:
        listening = [address.without_peer() for address in expand(self._host.listen_addresses)]
        # An address of an interface that others can use as it is, such as one of IPv6, may have a firewall in
        # front of it that a punch opens like a NAT.
        seen = (*self._reachability.observed(), *listening)
        seen = tuple(address.without_peer() for address in seen if not address.is_circuit)
        return Here(
            observed=tuple(dict.fromkeys(address for address in seen if reaches(address, scope))),
            private=tuple(filter(is_private, listening)),
            # A machine that has its public address itself shares it with nobody. Over a circuit a peer may
            # say that it does, and have us dial in the private network beside us, that of a data centre say.
            public_ips=self._reachability.public_ips() - {address.host for address in listening},
            nat=self._reachability.nat,
            scope=scope,
            speaks_quic=any(address.transport == "quic-v1" for address in listening),
            listening=frozenset(listening),
        )
