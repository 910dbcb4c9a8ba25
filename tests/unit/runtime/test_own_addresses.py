"""What a node announces of itself."""

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.identity.keys import Identity
from wws.nat.verdict import AddressVerdict, Source, Verdict
from wws.runtime import own_addresses
from wws.runtime.own_addresses import MAX_ANNOUNCED, announced, expand

ALICE = Identity.from_label("alice").peer_id
PUBLIC = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")
PRIVATE = Multiaddr.parse("/ip4/192.168.1.7/tcp/9000")
LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/9000")
ALL = (LOOPBACK, PRIVATE, PUBLIC)


@pytest.mark.parametrize(
    "scope, expected",
    [
        (None, ()),
        (Scope.PUBLIC, (PUBLIC,)),
        (Scope.PRIVATE, (PUBLIC, PRIVATE)),
        (Scope.LINK, (PUBLIC, PRIVATE)),
        (Scope.LOOPBACK, (PUBLIC, PRIVATE, LOOPBACK)),
    ],
)
def test_what_reaches_far_enough_is_announced_widest_first(
    scope: Scope | None, expected: tuple[Multiaddr, ...]
) -> None:
    assert announced(ALICE, ALL, (), scope) == tuple(address.with_peer(ALICE) for address in expected)


@pytest.mark.parametrize("scope", [None, *Scope])
def test_what_the_user_announces_stands_alone(scope: Scope | None) -> None:
    assert announced(ALICE, ALL, (PRIVATE,), scope) == (PRIVATE.with_peer(ALICE),)


def test_a_wildcard_stands_for_every_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {False: ["127.0.0.1", "203.0.113.7"], True: ["::1", "2001:db8::7"]}
    monkeypatch.setattr(own_addresses, "interface_addresses", found.__getitem__)
    wildcards = [Multiaddr.parse("/ip4/0.0.0.0/tcp/9000"), Multiaddr.parse("/ip6/::/tcp/9001"), PRIVATE]
    assert [str(address) for address in expand(wildcards)] == [
        "/ip4/127.0.0.1/tcp/9000", "/ip4/203.0.113.7/tcp/9000",
        "/ip6/::1/tcp/9001", "/ip6/2001:db8::7/tcp/9001",
        str(PRIVATE),
    ]  # fmt: skip


def test_no_more_than_a_record_holds_and_none_twice() -> None:
    many = [Multiaddr.parse(f"/ip4/203.0.113.{number}/tcp/9000") for number in range(MAX_ANNOUNCED + 1)]
    assert len(announced(ALICE, [*many, *many], (), Scope.PUBLIC)) == MAX_ANNOUNCED
    assert len(announced(ALICE, [PUBLIC, PUBLIC], (), Scope.PUBLIC)) == 1


def test_this_machine_has_a_loopback_address() -> None:
    assert "127.0.0.1" in own_addresses.interface_addresses(ipv6=False)


# What is announced follows the verdict

OUTER = Multiaddr.parse("/ip4/203.0.113.99/tcp/40000")
SIX = Multiaddr.parse("/ip6/2001:db8::7/tcp/9000")
RELAY = Identity.from_label("relay").peer_id
CIRCUIT = Multiaddr.parse(f"/ip4/198.51.100.1/tcp/9000/p2p/{RELAY}/p2p-circuit")
NEAR_CIRCUIT = Multiaddr.parse(f"/ip4/192.168.1.1/tcp/9000/p2p/{RELAY}/p2p-circuit")
BEHIND = (LOOPBACK, PRIVATE)
"""What a node behind a NAT listens on."""


def judged(address: Multiaddr, verdict: Verdict, source: Source = "interface") -> AddressVerdict:
    return AddressVerdict(address, verdict, source, 2)


@pytest.mark.parametrize(
    "listening, verdicts, expected",
    [
        # an address of an interface: until it is found private
        (ALL, [], (PUBLIC, CIRCUIT)),
        (ALL, [judged(PUBLIC, "unknown")], (PUBLIC, CIRCUIT)),
        (ALL, [judged(PUBLIC, "public")], (PUBLIC,)),
        (ALL, [judged(PUBLIC, "private")], (CIRCUIT,)),
        # an address that a NAT or a router gave us: once it is found public
        (BEHIND, [], (CIRCUIT,)),
        (BEHIND, [judged(OUTER, "unknown", "observed")], (CIRCUIT,)),
        (BEHIND, [judged(OUTER, "private", "observed")], (CIRCUIT,)),
        (BEHIND, [judged(OUTER, "public", "observed")], (OUTER,)),
        (BEHIND, [judged(OUTER, "unknown", "mapped")], (CIRCUIT,)),
        (BEHIND, [judged(OUTER, "public", "mapped")], (OUTER,)),
        # each for itself, the public ones first; those without IPv6 need the circuit
        ((*ALL, SIX), [judged(PUBLIC, "private"), judged(SIX, "public")], (SIX, CIRCUIT)),
        ((*ALL, SIX), [judged(SIX, "public")], (SIX, PUBLIC, CIRCUIT)),
        ((*ALL, SIX), [judged(PUBLIC, "public"), judged(SIX, "private")], (PUBLIC,)),
        # below the scope of the mesh nothing, whatever the verdict
        (BEHIND, [judged(PRIVATE, "public")], (CIRCUIT,)),
    ],
)
def test_announced_in_a_public_mesh(
    listening: tuple[Multiaddr, ...], verdicts: list[AddressVerdict], expected: tuple[Multiaddr, ...]
) -> None:
    said = announced(ALICE, listening, (), Scope.PUBLIC, verdicts=verdicts, circuits=(CIRCUIT, NEAR_CIRCUIT))
    assert said == tuple(address.with_peer(ALICE) for address in expected)


@pytest.mark.parametrize("verdict", ["public", "private", "unknown"])
def test_a_bootstrap_node_and_what_the_user_announces_do_not_ask_for_verdicts(verdict: Verdict) -> None:
    judgements = [judged(PUBLIC, verdict), judged(OUTER, verdict, "observed")]
    said = announced(
        ALICE, ALL, (), Scope.PUBLIC, verdicts=judgements, circuits=(CIRCUIT,), is_bootstrap=True
    )
    assert PUBLIC.with_peer(ALICE) in said
    assert CIRCUIT.with_peer(ALICE) not in said
    assert (OUTER.with_peer(ALICE) in said) is (verdict == "public")
    said = announced(ALICE, ALL, (SIX,), Scope.PUBLIC, verdicts=judgements, circuits=(CIRCUIT,))
    assert said == (SIX.with_peer(ALICE),)


@pytest.mark.parametrize("is_bootstrap", [False, True])
@pytest.mark.parametrize("announce", [(), (PUBLIC,)], ids=["", "announce"])
def test_with_relay_only_nothing_but_circuits(announce: tuple[Multiaddr, ...], is_bootstrap: bool) -> None:
    said = announced(
        ALICE, ALL, announce, Scope.PUBLIC, verdicts=[judged(PUBLIC, "public")], circuits=(CIRCUIT,),
        relay_only=True, is_bootstrap=is_bootstrap,
    )  # fmt: skip
    assert said == (CIRCUIT.with_peer(ALICE),)


def test_in_a_mesh_of_a_home_private_addresses_and_relays_count() -> None:
    said = announced(ALICE, BEHIND, (), Scope.PRIVATE, circuits=(NEAR_CIRCUIT,))
    assert said == tuple(address.with_peer(ALICE) for address in (PRIVATE, NEAR_CIRCUIT))


def test_circuits_keep_their_place_among_many_addresses() -> None:
    many = [Multiaddr.parse(f"/ip4/203.0.113.{number}/tcp/9000") for number in range(40)]
    circuits = [
        Multiaddr.parse(f"/ip4/198.51.100.{number}/tcp/9000/p2p/{RELAY}/p2p-circuit") for number in range(40)
    ]
    said = announced(ALICE, many, (), Scope.PUBLIC, circuits=circuits)
    assert len(said) == MAX_ANNOUNCED
    assert sum(address.is_circuit for address in said) == 4
    assert len(announced(ALICE, (), (), Scope.PUBLIC, circuits=circuits)) == MAX_ANNOUNCED


def test_a_circuit_that_the_user_announces_is_kept_with_relay_only() -> None:
    said = announced(ALICE, ALL, (PUBLIC, CIRCUIT), None, relay_only=True)
    assert said == (CIRCUIT.with_peer(ALICE),)


def test_the_way_into_the_world_is_no_address_of_somebody_else() -> None:
    source = own_addresses.source_address(ipv6=False)
    assert source is None or source in own_addresses.interface_addresses(ipv6=False)
