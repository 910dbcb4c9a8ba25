"""Which addresses are judged, and which are shown."""

from __future__ import annotations

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.identity.keys import Identity
from wws.nat.candidates import find_candidates, shown_addresses
from wws.nat.kind import NatKind
from wws.nat.observed import Observation, ObservedAddresses, Way
from wws.nat.reachability_events import Candidate

LAN = Multiaddr.parse("/ip4/192.168.1.7/tcp/9000")
LAN_QUIC = Multiaddr.parse("/ip4/192.168.1.7/udp/9000/quic-v1")
PUBLIC = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")
SIX = Multiaddr.parse("/ip6/2001:db8::7/tcp/9000")
OUTER = Multiaddr.parse("/ip4/203.0.113.99/tcp/40000")
OUTER_QUIC = Multiaddr.parse("/ip4/203.0.113.99/udp/40000/quic-v1")
MAPPED = Multiaddr.parse("/ip4/203.0.113.99/tcp/9000")
NAMED = Multiaddr.parse("/dns4/alice.example/tcp/9000")


def observed(*seen: Multiaddr, first: int = 1) -> ObservedAddresses:
    """One observer each, in prefixes of their own."""
    result = ObservedAddresses()
    for number, address in enumerate(seen, first):
        local = LAN if address.transport == "tcp" else LAN_QUIC
        peer = Identity.from_label(f"observer {number}").peer_id
        word = Observation(number, peer, f"20.0.{number}.1", True, local, address)
        assert result.saw(word, (LAN, LAN_QUIC), None, float(number))
    return result


def found(
    seen: ObservedAddresses,
    *,
    scope: Scope | None = Scope.PUBLIC,
    configured: tuple[Multiaddr, ...] = (),
    own: tuple[Multiaddr, ...] = (LAN,),
    mapped: tuple[Multiaddr, ...] = (),
    kind: NatKind = "endpoint_independent",
) -> tuple[Candidate, ...]:
    return find_candidates(
        scope,
        configured=configured,
        own=own,
        mapped=mapped,
        observed=seen,
        interfaces={"192.168.1.7", PUBLIC.host},
        kind_of_way=lambda way: kind,
    )


def test_every_source_in_its_order_and_each_address_once() -> None:
    peer = Identity.from_label("alice").peer_id
    candidates = found(
        observed(OUTER, OUTER),
        configured=(NAMED.with_peer(peer), LAN),
        own=(LAN, PUBLIC, SIX),
        mapped=(MAPPED, PUBLIC),
    )
    assert [(one.address, one.source) for one in candidates] == [
        (NAMED, "configured"),
        (LAN, "configured"),  # the user may know better than the scope
        (PUBLIC, "interface"),
        (SIX, "interface"),
        (MAPPED, "mapped"),
        (OUTER, "observed"),
    ]


def test_below_the_scope_of_the_mesh_and_without_one_there_is_nothing() -> None:
    assert found(observed(), mapped=(LAN,)) == ()
    assert found(observed(OUTER, OUTER), scope=None, configured=(PUBLIC,)) == ()
    assert [one.address for one in found(observed(), scope=Scope.PRIVATE)] == [LAN]


def test_what_is_seen_takes_two_and_an_open_connection() -> None:
    assert found(observed(OUTER)) == ()
    seen = observed(OUTER, OUTER)
    assert found(seen) == (Candidate(OUTER, "observed", "endpoint_independent"),)
    seen.closed(1, 9.0)
    assert len(found(seen)) == 1
    seen.closed(2, 9.0)
    assert found(seen) == ()


def test_what_is_seen_of_an_interface_is_no_candidate_of_its_own() -> None:
    assert found(observed(PUBLIC, PUBLIC), kind="none") == ()


def test_where_each_sees_another_the_oldest_stands_for_all() -> None:
    ports = [OUTER.with_port(40000 + number) for number in range(4)]
    candidates = found(observed(*ports), kind="address_dependent")
    assert candidates == (Candidate(ports[0], "observed", "address_dependent"),)


def test_without_a_nat_nobody_is_believed_to_see_us_elsewhere() -> None:
    assert found(observed(OUTER, OUTER), own=(PUBLIC,), kind="none") == (Candidate(PUBLIC, "interface"),)


def test_a_circuit_is_no_candidate() -> None:
    relay = Identity.from_label("relay").peer_id
    circuit = Multiaddr.parse(f"{PUBLIC}/p2p/{relay}/p2p-circuit")
    assert found(observed(), configured=(circuit,), mapped=(circuit,)) == ()


def test_shown_are_those_agreed_on_two_a_way_or_the_last_one_quic_first() -> None:
    assert shown_addresses(observed(OUTER, OUTER_QUIC), Scope.PUBLIC) == (OUTER_QUIC, OUTER)
    later = OUTER.with_port(50000)
    assert shown_addresses(observed(OUTER, later), Scope.PUBLIC) == (later,)
    assert shown_addresses(observed(OUTER, OUTER, later), Scope.PUBLIC) == (OUTER,)
    ports = [OUTER.with_port(40000 + number // 2) for number in range(6)]
    assert len(shown_addresses(observed(*ports), Scope.PUBLIC)) == 2
    assert shown_addresses(observed(LAN, LAN), Scope.PUBLIC) == ()
    assert Way("tcp", 4) in observed(LAN).ways()
