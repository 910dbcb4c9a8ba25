"""What a node finds out about its own place behind real routers, by three servers and nobody else."""

from collections.abc import Iterator

import pytest

from tests.lab.internet import Internet
from tests.lab.nat import Kind, Router, Rules
from tests.lab.reaching import LabServer, looker, three_servers
from wws.addresses.multiaddr import Transport
from wws.nat.reachability_events import ProbingConfig, ReachabilityConfig
from wws.runtime.nat.reachability import ReachabilityDriverConfig

pytestmark = [pytest.mark.root, pytest.mark.timeout(90), pytest.mark.xdist_group("lab-reachability")]

HOME = "198.18.2.2"
QUIC: list[Transport] = ["quic-v1"] * 3
TCP: list[Transport] = ["tcp"] * 3
RESTLESS = ReachabilityDriverConfig(
    machine=ReachabilityConfig(
        retry=0.5, recheck=1, longest=2, probing=ProbingConfig(second_look=0.5, recheck=1, longest=2)
    )
)
"""Looks again and again: what would come within hours comes within seconds."""
MIXED: list[Transport] = ["quic-v1", "tcp", "quic-v1"]


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet() as internet:
        yield internet


@pytest.fixture
def servers(internet: Internet) -> Iterator[list[LabServer]]:
    with three_servers(internet) as servers:
        yield servers


@pytest.mark.parametrize("transports", [QUIC, TCP, MIXED], ids=["quic", "tcp", "mixed"])
@pytest.mark.parametrize(
    ("kind", "reachability", "nat"),
    [
        (None, "public", "none"),
        (Kind.FULL_CONE, "public", "endpoint_independent"),
        (Kind.ADDRESS_RESTRICTED, "private", "endpoint_independent"),
        (Kind.PORT_RESTRICTED, "private", "endpoint_independent"),
        (Kind.SYMMETRIC, "private", "address_dependent"),
    ],
    ids=["open", *(kind.value for kind in Kind)],
)
def test_every_kind_of_place_is_known_for_what_it_is(
    internet: Internet,
    servers: list[LabServer],
    kind: Kind | None,
    reachability: str,
    nat: str,
    transports: list[Transport],
) -> None:
    if kind is None:
        namespace = internet.host("home", HOME).namespace
    else:
        namespace = Router(internet, "home", kind, HOME).host("alice")
    with looker(namespace) as alice:
        alice.join(servers, transports, 4)
        found = alice.wait(reachability, nat)
        assert (found.reachability, found.nat) == (reachability, nat), found
        assert found.public_ips == {HOME}
        assert all(HOME in address for address in found.observed)


@pytest.mark.parametrize("kind", [Kind.ADDRESS_RESTRICTED, Kind.PORT_RESTRICTED], ids=lambda kind: kind.value)
def test_a_nat_that_filters_is_never_taken_for_an_open_one(
    internet: Internet, servers: list[LabServer], kind: Kind
) -> None:
    """The servers have been sent to, so an address-restricted NAT lets them in to our real mapping."""
    with looker(Router(internet, "home", kind, HOME).host("alice"), RESTLESS) as alice:
        alice.join(servers, MIXED, 4)
        alice.wait("private", "endpoint_independent")
        found = alice.wait("public", "", seconds=8)
        assert found.reachability == "private"
        assert ("public", "endpoint_independent") not in alice.seen
        assert found.results["filtering", "filtered"] >= 4
        asked = found.results.get(("ask", "not_reached"), 0)
        assert bool(asked) is (kind is Kind.PORT_RESTRICTED)  # there a success would mean something


def test_a_port_forwarded_by_hand_is_found(internet: Internet, servers: list[LabServer]) -> None:
    home = Router(internet, "home", Kind.PORT_RESTRICTED, HOME)
    namespace = home.host("alice")
    forward = "iifname wan meta l4proto { tcp, udp } th dport 9000 dnat to 192.168.1.11"
    home.namespace.run("nft", f"add rule ip nat prerouting {forward}")
    with looker(namespace, RESTLESS) as alice:
        alice.join(servers, QUIC, 4)
        found = alice.wait("public", "endpoint_independent")
        assert f"/ip4/{HOME}/udp/9000/quic-v1" in [
            address for address, verdict in found.verdicts.items() if verdict == "public"
        ]


def test_two_servers_are_enough(internet: Internet, servers: list[LabServer]) -> None:
    for label, kind, address, expected in (
        ("cone", Kind.FULL_CONE, "198.18.2.2", "public"),
        ("restricted", Kind.PORT_RESTRICTED, "198.18.3.2", "private"),
    ):
        with looker(Router(internet, label, kind, address).host(label)) as alice:
            alice.join(servers[:2], QUIC, 4)
            assert alice.wait(expected, "endpoint_independent").reachability == expected


def test_without_udp_tcp_alone_decides(internet: Internet, servers: list[LabServer]) -> None:
    home = Router(internet, "home", Rules(Kind.FULL_CONE, udp=False), HOME)
    with looker(home.host("alice")) as alice:
        alice.join(servers, TCP, 4)
        found = alice.wait("public", "endpoint_independent")
        assert found.verdicts == {f"/ip4/{HOME}/tcp/9000": "public"}


def test_a_nat_behind_a_nat_is_as_bad_as_the_worse(internet: Internet, servers: list[LabServer]) -> None:
    for number, (outer, inner, expected) in enumerate(
        (
            (Kind.FULL_CONE, Kind.FULL_CONE, ("public", "endpoint_independent")),
            (Kind.PORT_RESTRICTED, Kind.FULL_CONE, ("private", "endpoint_independent")),
            (Kind.SYMMETRIC, Kind.FULL_CONE, ("private", "address_dependent")),
        ),
        2,
    ):
        carrier = Router(internet, f"carrier{number}", outer, f"198.18.{number}.2", lan="100.64.0")
        with looker(Router(carrier, f"inner{number}", inner).host("alice")) as alice:
            alice.join(servers, QUIC, 4)
            found = alice.wait(*expected)
            assert (found.reachability, found.nat) == expected


def test_ipv6_alone_is_public_without_a_nat(internet: Internet, servers: list[LabServer]) -> None:
    with looker(internet.host("home", "2001:db8:9::2").namespace) as alice:
        alice.join(servers, MIXED, 6)
        alice.wait("public", "none")
        found = alice.wait_judged()
        assert set(found.verdicts.values()) == {"public"}
        assert found.public_ips == {"2001:db8:9::2"}


def test_each_family_is_judged_for_itself(internet: Internet, servers: list[LabServer]) -> None:
    """IPv4 behind an open NAT, IPv6 without one but behind the router's firewall."""
    home = Router(internet, "home", Kind.FULL_CONE, HOME, "2001:db8:9::2", lan6="2001:db8:9:1::/64")
    with looker(home.host("alice")) as alice:
        alice.join(servers, QUIC, 4)
        alice.wait("public", "endpoint_independent")
        found = alice.wait_judged()
        assert {(":" in address, verdict) for address, verdict in found.verdicts.items()} == {
            (False, "public"),
            (True, "private"),
        }


@pytest.mark.parametrize("lives_on", [False, True], ids=["dialled anew", "connections live on"])
@pytest.mark.parametrize("what", ["mapping", "address", "kind"])
def test_what_changes_at_the_router_is_known_within_seconds(
    internet: Internet, servers: list[LabServer], what: str, lives_on: bool
) -> None:
    """QUIC connections live on, and the servers say by themselves where they see us now."""
    home = Router(internet, "home", Kind.FULL_CONE, HOME)
    with looker(home.host("alice")) as alice:
        alice.join(servers, QUIC, 4)
        alice.wait("public", "endpoint_independent")
        expected, outer = ("public", "endpoint_independent"), f"/ip4/{HOME}/udp/9000/quic-v1"
        match what:
            case "mapping":
                home.change(outer_ports={9000: 41000})
                outer = f"/ip4/{HOME}/udp/41000/quic-v1"
            case "address":
                home.renumber("198.18.7.7")
                outer = "/ip4/198.18.7.7/udp/9000/quic-v1"
            case _:
                home.change(kind=Kind.SYMMETRIC)
                expected = ("private", "address_dependent")
        if lives_on:
            alice.ping_all()
        else:
            alice.leave()
            alice.join(servers, QUIC, 4)
        if what == "kind":
            found = alice.wait(*expected)
            assert (found.reachability, found.nat) == expected
        else:
            found = alice.wait_public(outer)
            assert found.verdicts[outer] == "public"
            assert outer in found.observed
            assert found.public_ips == {outer.split("/")[2]}
