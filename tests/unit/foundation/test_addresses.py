"""Multiaddrs and scopes (wire.md section 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import AddressRefused, Scope, prefix_of, scope_of, scope_of_ip
from wws.errors import ParseError
from wws.identity.keys import Identity

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id

GOOD = [
    "/ip4/203.0.113.7/tcp/9000",
    f"/ip4/203.0.113.7/tcp/9000/p2p/{ALICE}",
    "/ip6/2001:db8::1/udp/9000/quic-v1",
    f"/dns4/eu.example.org/tcp/443/p2p/{ALICE}",
    f"/dns/a/udp/1/quic-v1/p2p/{ALICE}",
    "/dns6/xn--bcher-kva.example/tcp/9000",
    "/dnsaddr/example.org",
    f"/dnsaddr/example.org/p2p/{ALICE}",
    f"/ip4/203.0.113.7/tcp/9000/p2p/{ALICE}/p2p-circuit",
    f"/ip4/203.0.113.7/tcp/9000/p2p/{ALICE}/p2p-circuit/p2p/{BOB}",
    "/ip4/0.0.0.0/tcp/0",
]
BAD = [
    "", "/", "ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4", "/ip4/1.2.3.4/tcp", "/ip4/1.2.3.4/tcp/",
    "/ip4/1.2.3.4/tcp/65536",
    "/ip4/1.2.3.4/tcp/-1", "/ip4/1.2.3.4/tcp/٣", "/ip4/1.2.3.4/tcp/01", "/ip4/1.2.3/tcp/1", "/ip4/::1/tcp/1",
    "/ip6/1.2.3.4/tcp/1", "/ip6/fe80::1%eth0/tcp/1", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/udp/1/quic",
    "/tcp/1",
    "/ip4/1.2.3.4/tcp/1/ws", "/ip4/1.2.3.4/tcp/1/", "/dns4/a..b/tcp/1", "/dns4/-a/tcp/1", "/dns4/a b/tcp/1",
    "/dns4/" + "a" * 64 + "/tcp/1", "/ip4/1.2.3.4/tcp/1/p2p/QmNotAnEd25519Key", f"/p2p/{ALICE}",
    f"/ip4/1.2.3.4/tcp/1/p2p/{ALICE}/p2p/{BOB}", f"/ip4/1.2.3.4/tcp/1/p2p/{ALICE}/p2p-circuit/p2p-circuit",
    "/ip4/1.2.3.4/tcp/1" * 100,
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_round_trip(text: str) -> None:
    address = Multiaddr.parse(text)
    assert str(address) == text
    assert Multiaddr.from_bytes(address.to_bytes()) == address


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:40])
def test_refused(text: str) -> None:
    with pytest.raises(ParseError):
        Multiaddr.parse(text)


@given(
    st.text(max_size=60)
    | st.sampled_from(GOOD).flatmap(lambda good: st.integers(0, len(good)).map(lambda n: good[:n]))
)
def test_any_text_is_an_address_or_a_parse_error(text: str) -> None:
    try:
        address = Multiaddr.parse(text)
    except ParseError:
        return
    assert Multiaddr.parse(str(address)) == address


NOISY = st.sampled_from(GOOD).flatmap(
    lambda good: st.binary(min_size=1, max_size=3).map(lambda noise: Multiaddr.parse(good).to_bytes() + noise)
)


@given(st.binary(max_size=80) | NOISY)
def test_any_bytes_are_an_address_or_a_parse_error(data: bytes) -> None:
    try:
        address = Multiaddr.from_bytes(data)
    except ParseError:
        return
    assert Multiaddr.from_bytes(address.to_bytes()) == address


def test_circuit_parts() -> None:
    circuit = Multiaddr.parse(GOOD[9])
    assert circuit.is_circuit
    assert circuit.peer_id == BOB
    assert circuit.relay == Multiaddr.parse(GOOD[1])
    assert Multiaddr.parse(GOOD[1]).relay is None


def test_upper_case_names_and_long_ipv6_are_folded() -> None:
    assert str(Multiaddr.parse("/dns4/EU.Example.ORG/tcp/1")) == "/dns4/eu.example.org/tcp/1"
    assert str(Multiaddr.parse("/ip6/2001:0DB8:0:0::1/tcp/1")) == "/ip6/2001:db8::1/tcp/1"


@pytest.mark.parametrize(
    "ip, scope",
    [
        ("127.0.0.1", Scope.LOOPBACK),
        ("127.255.255.255", Scope.LOOPBACK),
        ("::1", Scope.LOOPBACK),
        ("169.254.1.1", Scope.LINK),
        ("fe80::1", Scope.LINK),
        ("febf::1", Scope.LINK),
        ("10.0.0.1", Scope.PRIVATE),
        ("172.16.0.1", Scope.PRIVATE),
        ("172.31.255.255", Scope.PRIVATE),
        ("172.32.0.1", Scope.PUBLIC),
        ("192.168.1.1", Scope.PRIVATE),
        ("100.64.0.1", Scope.PRIVATE),
        ("100.128.0.1", Scope.PUBLIC),
        ("fd00::1", Scope.PRIVATE),
        ("fc00::1", Scope.PRIVATE),
        ("192.0.2.1", Scope.PUBLIC),
        ("198.51.100.1", Scope.PUBLIC),
        ("203.0.113.1", Scope.PUBLIC),
        ("8.8.8.8", Scope.PUBLIC),
        ("2001:db8::1", Scope.PUBLIC),
        ("::ffff:10.0.0.1", Scope.PRIVATE),
        ("::ffff:8.8.8.8", Scope.PUBLIC),
        ("64:ff9b::7f00:1", Scope.LOOPBACK),
        ("2002:c0a8:101::", Scope.PRIVATE),
    ],
)
def test_scope(ip: str, scope: Scope) -> None:
    assert scope_of_ip(ip) is scope
    assert scope_of(Multiaddr.of(ip, 1)) is scope


@pytest.mark.parametrize(
    "ip",
    ["0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:0.0.0.0"],
)
def test_addresses_of_no_host(ip: str) -> None:
    with pytest.raises(AddressRefused):
        scope_of_ip(ip)


def test_a_name_has_no_scope_of_its_own() -> None:
    assert scope_of(Multiaddr.parse("/dns4/example.org/tcp/1")) is None


def test_prefixes() -> None:
    assert prefix_of("203.0.113.77") == "203.0.113.0/24"
    assert prefix_of("::ffff:203.0.113.77") == "203.0.113.0/24"
    assert prefix_of("2001:db8:1:2ff::1") == prefix_of("2001:db8:1:200::9") == "2001:db8:1:200::/56"
    assert prefix_of("2001:db8:1:300::1") != prefix_of("2001:db8:1:200::1")
