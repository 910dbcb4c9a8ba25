"""What others are told of our own place before a hole is punched."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.identity.keys import Identity
from wws.nat.kind import NatKind
from wws.runtime.host import Host
from wws.runtime.nat.punch_place import OwnPlace
from wws.testing.clock import ManualClock

OUTER = Multiaddr.parse("/ip4/198.51.100.7/udp/4001/quic-v1")
LISTENING = [
    Multiaddr.parse(text)
    for text in ("/ip4/192.168.1.5/tcp/9000", "/ip4/127.0.0.1/tcp/9000", "/ip6/2001:db8::5/tcp/9000")
]
RELAY = Identity.from_label("relay").peer_id


@dataclass
class FakeHost:
    scope: Scope | None = Scope.PUBLIC
    clock: ManualClock = field(default_factory=ManualClock)
    listen_addresses: list[Multiaddr] = field(default_factory=lambda: list(LISTENING))


@dataclass
class FakeReachability:
    nat: NatKind = "endpoint_independent"
    seen: tuple[Multiaddr, ...] = (OUTER,)
    on_change: list[Callable[[], None]] = field(default_factory=list)

    def observed(self) -> tuple[Multiaddr, ...]:
        return self.seen

    def public_ips(self) -> frozenset[str]:
        return frozenset({"198.51.100.7"})


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def reachability() -> FakeReachability:
    return FakeReachability()


@pytest.fixture
def place(host: FakeHost, reachability: FakeReachability) -> OwnPlace:
    return OwnPlace(cast(Host, host), reachability)


def test_others_are_told_what_reaches_the_scope_of_the_mesh(place: OwnPlace) -> None:
    here = place.here()
    assert here.observed == (OUTER, LISTENING[2])
    assert here.private == (LISTENING[0],)
    assert here.connect(same_network=False).addresses == (OUTER, LISTENING[2])
    assert here.connect(same_network=True).addresses == (OUTER, LISTENING[2], LISTENING[0])


def test_nobody_shares_the_public_address_of_our_own_interface(place: OwnPlace, host: FakeHost) -> None:
    assert place.here().shares_network([OUTER])
    host.listen_addresses.append(Multiaddr.of(OUTER.host, 9000))  # no NAT, and a private network besides
    here = place.here()
    assert LISTENING[0] in here.private
    assert not here.shares_network([OUTER])


def test_nobody_connected_counts_as_a_public_mesh(place: OwnPlace, host: FakeHost) -> None:
    host.scope = None
    assert place.here().scope is Scope.PUBLIC
    assert LISTENING[1] not in place.here().observed


def test_circuits_and_peer_ids_are_left_out(place: OwnPlace, reachability: FakeReachability) -> None:
    circuit = Multiaddr.parse(f"/ip4/192.0.2.1/tcp/9000/p2p/{RELAY}/p2p-circuit")
    reachability.seen = (circuit, OUTER.with_peer(RELAY))
    assert place.here().observed == (OUTER, LISTENING[2])


def test_the_interfaces_are_not_looked_at_with_every_datagram(place: OwnPlace, host: FakeHost) -> None:
    first = place.here()
    host.clock.advance(1.9)
    assert place.here() is first
    host.clock.advance(0.2)
    assert place.here() is not first


def test_another_scope_or_listener_is_seen_at_once(place: OwnPlace, host: FakeHost) -> None:
    place.here()
    host.scope = Scope.LOOPBACK
    assert LISTENING[1] in place.here().observed
    host.listen_addresses.clear()
    assert place.here().observed == (OUTER,)


def test_only_what_others_are_told_counts_as_a_change(
    place: OwnPlace, reachability: FakeReachability
) -> None:
    assert place.look_again()
    assert not place.look_again()
    reachability.seen = (OUTER.with_port(4002),)
    assert place.look_again()
    reachability.nat = "address_dependent"
    assert place.look_again()
    assert not place.look_again()
