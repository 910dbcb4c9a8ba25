"""Holes punched through real routers, by nodes without names: what can be seen without the whole program."""

from collections.abc import Iterator
from itertools import product

import pytest

from tests.lab.internet import Internet
from tests.lab.namespaces import Namespace
from tests.lab.nat import Kind, Router
from tests.lab.punching import How, punchers
from wws.addresses.multiaddr import Transport
from wws.nat.kind import NatKind
from wws.nat.punching import HolePunchConfig
from wws.runtime.nat.hole_punching import HolePuncherConfig

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("lab-punching")]

RELAY = "192.0.2.10"
MAPPING: dict[Kind, NatKind] = {
    Kind.FULL_CONE: "endpoint_independent",
    Kind.ADDRESS_RESTRICTED: "endpoint_independent",
    Kind.PORT_RESTRICTED: "endpoint_independent",
    Kind.SYMMETRIC: "address_dependent",
}
HOPELESS = {
    (Kind.PORT_RESTRICTED, Kind.SYMMETRIC),
    (Kind.SYMMETRIC, Kind.PORT_RESTRICTED),
    (Kind.SYMMETRIC, Kind.SYMMETRIC),
}
HURRIED = How(HolePuncherConfig(punch=HolePunchConfig(punch_timeout=0.6)))


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet() as internet:
        yield internet


@pytest.fixture
def relay(internet: Internet) -> tuple[Namespace, str]:
    return internet.host("relay", RELAY).namespace, RELAY


@pytest.mark.parametrize(
    ("alices", "bobs", "transport"),
    [
        *((*pair, "quic-v1") for pair in product(Kind, Kind) if pair not in HOPELESS),
        (Kind.PORT_RESTRICTED, Kind.PORT_RESTRICTED, "tcp"),
        (Kind.PORT_RESTRICTED, Kind.FULL_CONE, "tcp"),
        (Kind.SYMMETRIC, Kind.ADDRESS_RESTRICTED, "tcp"),
        (Kind.ADDRESS_RESTRICTED, Kind.SYMMETRIC, "tcp"),
    ],
)
def test_every_pair_that_can_is_direct_at_the_first_attempt(
    internet: Internet, relay: tuple[Namespace, str], alices: Kind, bobs: Kind, transport: Transport
) -> None:
    alice_at = Router(internet, "home-a", alices, "198.18.1.2").host("alice"), MAPPING[alices]
    bob_at = Router(internet, "home-b", bobs, "198.18.2.2").host("bob"), MAPPING[bobs]
    with punchers(relay, alice_at, bob_at, How(transports=(transport,))) as (alice, bob):
        path, why_not = alice.reach(bob.reserve())
        assert path == transport, why_not
        assert alice.puncher.outcomes == {("receiver", path, "first_attempt"): 1}
        assert bob.puncher.outcomes == {("initiator", path, "first_attempt"): 1}


@pytest.mark.parametrize(
    ("alices", "bobs", "words"),
    [
        (Kind.SYMMETRIC, Kind.SYMMETRIC, "both NATs map ports by destination"),
        (Kind.PORT_RESTRICTED, Kind.SYMMETRIC, "the peer's NAT maps ports by destination"),
        (Kind.SYMMETRIC, Kind.PORT_RESTRICTED, "our NAT maps ports by destination"),
    ],
)
def test_where_no_port_can_be_known_people_are_told_so(
    internet: Internet, relay: tuple[Namespace, str], alices: Kind, bobs: Kind, words: str
) -> None:
    alice_at = Router(internet, "home-a", alices, "198.18.1.2").host("alice"), MAPPING[alices]
    bob_at = Router(internet, "home-b", bobs, "198.18.2.2").host("bob"), MAPPING[bobs]
    with punchers(relay, alice_at, bob_at, HURRIED) as (alice, bob):
        path, why_not = alice.reach(bob.reserve())
        assert path == "relay"
        assert why_not is not None
        assert words in why_not


def test_in_one_home_whose_router_does_not_hairpin_the_way_is_inside(
    internet: Internet, relay: tuple[Namespace, str]
) -> None:
    home = Router(internet, "home", Kind.SYMMETRIC, "198.18.1.2")
    with punchers(
        relay, (home.host("alice"), "address_dependent"), (home.host("bob"), "address_dependent")
    ) as (alice, bob):
        path, why_not = alice.reach(bob.reserve())
        assert path != "relay", why_not
        direct = alice.mesh.host.connection_to(bob.peer_id, direct=True)
        assert direct is not None
        assert direct.remote_ip.startswith("192.168.1.")


def test_through_a_nat_behind_a_nat(internet: Internet, relay: tuple[Namespace, str]) -> None:
    carrier = Router(internet, "carrier", Kind.PORT_RESTRICTED, "198.18.1.2", lan="100.64.0")
    inner = Router(carrier, "inner", Kind.PORT_RESTRICTED)
    other = Router(internet, "other", Kind.PORT_RESTRICTED, "198.18.2.2")
    with punchers(
        relay, (inner.host("alice"), "endpoint_independent"), (other.host("bob"), "endpoint_independent")
    ) as (alice, bob):
        path, why_not = alice.reach(bob.reserve())
        assert path != "relay", why_not


@pytest.mark.parametrize("transport", ["quic-v1", "tcp"])
def test_through_two_firewalls_of_ipv6(internet: Internet, transport: Transport) -> None:
    """No address is translated, and none is reached from outside but by who was spoken to before."""
    relay = internet.host("relay", "2001:db8:1::10").namespace, "2001:db8:1::10"
    homes = [
        Router(internet, f"home-{n}", Kind.SYMMETRIC, f"2001:db8:{n}::1", lan6=f"2001:db8:{n}:1::/64")
        for n in (7, 8)
    ]
    alice_at, bob_at = ((home.host("host"), "none") for home in homes)
    with punchers(relay, alice_at, bob_at, How(transports=(transport,))) as (alice, bob):
        path, why_not = alice.reach(bob.reserve())
        assert path == transport, why_not
        assert alice.puncher.outcomes == {("receiver", path, "first_attempt"): 1}
