"""Whom AutoNAT's server dials for whom, and how often: tables, and a model of the budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.nat.autonat_v1 import Dial
from wws.nat.autonat_v2 import ResponseStatus
from wws.nat.dial_back_rules import (
    Budget,
    DialBackConfig,
    DialBackRefused,
    Reason,
    Requester,
    Surroundings,
    refusal_of,
    targets_of_v1,
)

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
CAROL = Identity.from_label("carol").peer_id
SEEN = "203.0.113.1"
PUBLIC = Requester(ALICE, SEEN, "203.0.113.0/24")
CONFIG = DialBackConfig()
OWN = (Multiaddr.parse("/ip4/198.51.100.9/tcp/9000"), Multiaddr.parse("/ip4/192.168.7.9/tcp/9000"))
AROUND = Surroundings(Scope.PUBLIC, frozenset({"tcp", "quic-v1"}), OWN)


def refusal(text: str, requester: Requester = PUBLIC, around: Surroundings = AROUND) -> Reason | None:
    return refusal_of(Multiaddr.parse(text), requester, around, CONFIG)


@pytest.mark.parametrize(
    "address, reason",
    [
        (f"/ip4/{SEEN}/tcp/9000", None),
        (f"/ip4/{SEEN}/udp/9000/quic-v1", None),
        (f"/ip4/{SEEN}/tcp/9000/p2p/{ALICE}", None),
        (f"/ip4/{SEEN}/tcp/443", None),
        (f"/ip4/{SEEN}/tcp/1024", None),
        ("/ip4/198.51.100.7/tcp/9000", None),
        ("/ip6/2001:db8::7/tcp/9000", None),
        (f"/ip4/{SEEN}/tcp/9000/p2p/{BOB}", Reason.OTHER_PEER),
        (f"/ip4/{SEEN}/tcp/9000/p2p/{BOB}/p2p-circuit", Reason.ADDRESS_KIND),
        (f"/ip4/{SEEN}/tcp/9000/p2p/{BOB}/p2p-circuit/p2p/{ALICE}", Reason.ADDRESS_KIND),
        ("/dns4/example.org/tcp/9000", Reason.ADDRESS_KIND),
        ("/dns/localhost/udp/9000/quic-v1", Reason.ADDRESS_KIND),
        ("/dnsaddr/example.org", Reason.ADDRESS_KIND),
        ("/ip4/0.0.0.0/tcp/9000", Reason.ADDRESS_REFUSED),
        ("/ip4/224.0.0.251/udp/9000/quic-v1", Reason.ADDRESS_REFUSED),
        ("/ip4/255.255.255.255/tcp/9000", Reason.ADDRESS_REFUSED),
        ("/ip6/::/tcp/9000", Reason.ADDRESS_REFUSED),
        ("/ip6/ff02::1/tcp/9000", Reason.ADDRESS_REFUSED),
        ("/ip4/127.0.0.1/tcp/9000", Reason.SCOPE),
        ("/ip4/169.254.169.254/tcp/9000", Reason.SCOPE),
        ("/ip4/10.0.0.1/tcp/9000", Reason.SCOPE),
        ("/ip4/100.64.0.1/tcp/9000", Reason.SCOPE),
        ("/ip6/::1/tcp/9000", Reason.SCOPE),
        ("/ip6/::ffff:127.0.0.1/tcp/9000", Reason.SCOPE),
        ("/ip6/64:ff9b::10.0.0.1/tcp/9000", Reason.SCOPE),
        ("/ip6/2002:7f00:1::1/tcp/9000", Reason.SCOPE),
        (f"/ip4/{SEEN}/tcp/0", Reason.PORT),
        (f"/ip4/{SEEN}/tcp/25", Reason.PORT),
        (f"/ip4/{SEEN}/udp/53/quic-v1", Reason.PORT),
        (f"/ip4/{SEEN}/tcp/1023", Reason.PORT),
        ("/ip4/198.51.100.9/tcp/9000", Reason.OWN),
        ("/ip4/198.51.100.9/tcp/5432", Reason.OWN),
        ("/ip6/::ffff:198.51.100.9/tcp/5432", Reason.OWN),
    ],
)
def test_what_is_dialled_in_a_public_mesh(address: str, reason: Reason | None) -> None:
    assert refusal(address) is reason


@pytest.mark.parametrize("mesh", [None, *Scope])
@pytest.mark.parametrize(
    "seen, scope",
    [
        ("127.0.0.1", Scope.LOOPBACK),
        ("169.254.1.1", Scope.LINK),
        ("10.0.0.7", Scope.PRIVATE),
        (SEEN, Scope.PUBLIC),
    ],
)
@pytest.mark.parametrize(
    "address, reach",
    [
        ("/ip4/127.0.0.5/tcp/9000", Scope.LOOPBACK),
        ("/ip4/169.254.5.5/tcp/9000", Scope.LINK),
        ("/ip4/10.5.5.5/tcp/9000", Scope.PRIVATE),
        ("/ip4/198.51.100.7/tcp/9000", Scope.PUBLIC),
    ],
)
def test_nothing_below_the_scope_of_the_mesh_or_of_the_requester(
    mesh: Scope | None, seen: str, scope: Scope, address: str, reach: Scope
) -> None:
    """Also not for a stranger in a private mesh: an address inside is none of its business."""
    lowest = scope if mesh is None else max(mesh, scope)
    expected = Reason.SCOPE if reach < lowest else None
    assert refusal(address, replace(PUBLIC, ip=seen), replace(AROUND, mesh_scope=mesh)) is expected


@pytest.mark.parametrize("seen", ["198.51.100.9", "192.168.7.9", "127.0.0.1", "127.0.0.3"])
def test_a_peer_on_this_machine_is_dialled_but_not_our_own_sockets(seen: str) -> None:
    """Two nodes of one host: the IPs are ours and theirs."""
    neighbour, around = replace(PUBLIC, ip=seen), replace(AROUND, mesh_scope=None)
    assert refusal("/ip4/198.51.100.9/tcp/9001", neighbour, around) is None
    assert refusal("/ip4/198.51.100.9/udp/9000/quic-v1", neighbour, around) is None
    assert refusal("/ip4/198.51.100.9/tcp/9000", neighbour, around) is Reason.OWN


def test_transports_that_we_do_not_speak_and_ways_that_we_do_not_have_are_left_out() -> None:
    tcp_only = replace(AROUND, transports=frozenset({"tcp"}))
    assert refusal(f"/ip4/{SEEN}/udp/9000/quic-v1", around=tcp_only) is Reason.ADDRESS_KIND
    ipv6 = Multiaddr.parse("/ip6/2001:db8::7/tcp/9000")
    no_ipv6 = replace(AROUND, unroutable=frozenset({ipv6}))
    assert refusal(str(ipv6.with_peer(ALICE)), around=no_ipv6) is Reason.NO_ROUTE


addresses = st.builds(
    Multiaddr.of,
    st.just(SEEN) | st.ip_addresses().map(str),
    st.integers(0, 65535),
    st.sampled_from(["tcp", "quic-v1"]),
    st.sampled_from([None, ALICE, BOB]),
)


@given(st.lists(addresses, max_size=8), st.sampled_from([None, ALICE, BOB]), st.sampled_from(Scope))
def test_version_1_dials_addresses_at_the_ip_that_is_seen_and_no_other(
    named: list[Multiaddr], peer: PeerId | None, mesh: Scope
) -> None:
    around = replace(AROUND, mesh_scope=mesh)
    try:
        targets = targets_of_v1(Dial(peer, tuple(named)), PUBLIC, around, CONFIG)
    except DialBackRefused as refused:
        assert refused.status is ResponseStatus.E_DIAL_REFUSED  # noqa: PT017 - either way is fine
        return
    assert peer != BOB
    assert 0 < len(targets) <= CONFIG.max_v1_addresses
    assert len(set(targets)) == len(targets)
    for target in targets:
        assert target.host == SEEN
        assert any(target == address.without_peer() for address in named)
        assert refusal(str(target), around=around) is None


def test_version_1_dials_a_bounded_number_of_ports() -> None:
    named = tuple(Multiaddr.of(SEEN, 9000 + index) for index in range(CONFIG.max_v1_addresses + 1))
    assert targets_of_v1(Dial(None, named), PUBLIC, AROUND, CONFIG) == named[: CONFIG.max_v1_addresses]


# The budget

NOBODY_ELSE = Requester(CAROL, "192.0.2.1", "192.0.2.0/24")


def refusal_by(budget: Budget, requester: Requester, now: float = 0) -> Reason | None:
    try:
        budget.admit(requester, now)
    except DialBackRefused as refused:
        return refused.reason
    return None


def test_requests_of_a_peer_are_bounded_at_once_and_a_minute() -> None:
    budget = Budget(DialBackConfig(at_once_peer=2, requests_per_minute_peer=3))
    assert [refusal_by(budget, PUBLIC) for _ in range(3)] == [None, None, Reason.PEER_AT_ONCE]
    budget.release(PUBLIC)
    assert refusal_by(budget, PUBLIC, 30) is None
    budget.release(PUBLIC)
    assert refusal_by(budget, PUBLIC, 59.9) is Reason.PEER_RATE
    assert refusal_by(budget, NOBODY_ELSE, 59.9) is None
    assert refusal_by(budget, PUBLIC, 60) is None


def test_requests_of_a_prefix_are_bounded_at_once_and_a_minute() -> None:
    budget = Budget(DialBackConfig(at_once_prefix=1, requests_per_minute_prefix=2))
    neighbour = replace(PUBLIC, peer=BOB, ip="203.0.113.2")
    assert refusal_by(budget, PUBLIC) is None
    assert refusal_by(budget, neighbour) is Reason.PREFIX_AT_ONCE
    budget.release(PUBLIC)
    assert refusal_by(budget, neighbour) is None
    budget.release(neighbour)
    assert refusal_by(budget, PUBLIC) is Reason.PREFIX_RATE
    assert refusal_by(budget, NOBODY_ELSE) is None
    exempt = [replace(PUBLIC, peer=Identity.from_label(f"bob {n}").peer_id, prefix=None) for n in range(5)]
    assert [refusal_by(budget, one) for one in exempt] == [None] * 5


def test_requests_of_all_are_bounded_at_once_and_a_minute() -> None:
    budget = Budget(DialBackConfig(at_once=1, requests_per_minute=2))
    assert refusal_by(budget, PUBLIC) is None
    assert refusal_by(budget, NOBODY_ELSE) is Reason.TOTAL_AT_ONCE
    budget.release(PUBLIC)
    assert refusal_by(budget, NOBODY_ELSE) is None
    budget.release(NOBODY_ELSE)
    assert refusal_by(budget, PUBLIC) is Reason.TOTAL_RATE
    assert budget.under_way == 0


def test_a_refusal_uses_up_nothing() -> None:
    """Or one peer over its limit would use up everybody's."""
    budget = Budget(DialBackConfig(requests_per_minute_peer=1, requests_per_minute=2))
    assert refusal_by(budget, PUBLIC) is None
    budget.release(PUBLIC)
    assert [refusal_by(budget, PUBLIC) for _ in range(100)] == [Reason.PEER_RATE] * 100
    assert refusal_by(budget, NOBODY_ELSE) is None


def test_nobody_over_a_circuit_is_admitted() -> None:
    budget = Budget(CONFIG)
    assert refusal_by(budget, Requester(ALICE, "", None, is_circuit=True)) is Reason.CIRCUIT
    assert budget.under_way == 0


def test_a_slot_is_given_back_once() -> None:
    budget = Budget(CONFIG)
    budget.admit(PUBLIC, 0)
    budget.release(PUBLIC)
    with pytest.raises(LocalProtocolError):
        budget.release(PUBLIC)
    assert budget.under_way == 0


def test_a_peer_is_told_whether_another_time_may_do() -> None:
    later = {reason for reason in Reason if DialBackRefused(reason).is_over_limit}
    assert later == {reason for reason in Reason if any(word in reason for word in ("per_", "total", "paid"))}
    assert DialBackRefused(Reason.PAID_RATE).status is ResponseStatus.E_REQUEST_REJECTED
    assert DialBackRefused(Reason.CIRCUIT).status is ResponseStatus.E_DIAL_REFUSED


TIGHT = DialBackConfig(
    at_once_peer=2,
    at_once_prefix=3,
    at_once=4,
    requests_per_minute_peer=3,
    requests_per_minute_prefix=5,
    requests_per_minute=7,
)
PREFIXES = (None, "192.0.2.0/24", "203.0.113.0/24")
PEOPLE = [Requester(peer, "", prefix) for peer in (ALICE, BOB, CAROL) for prefix in PREFIXES]


@example(steps=[(0, 5.6e-115, False), (0, 0.0, False)])  # a minute later is no other time for it
@given(st.lists(st.tuples(st.integers(0, len(PEOPLE) - 1), st.floats(0, 20), st.booleans()), max_size=60))
def test_the_budget_holds_whatever_happens(steps: list[tuple[int, float, bool]]) -> None:
    budget, now = Budget(TIGHT), 0.0
    taken: list[tuple[float, Requester]] = []
    under_way: list[Requester] = []
    for index, passed, leaves in steps:
        now += passed
        if leaves and under_way:
            budget.release(under_way.pop(index % len(under_way)))
        elif refusal_by(budget, PEOPLE[index], now) is None:
            taken.append((now, PEOPLE[index]))
            under_way.append(PEOPLE[index])
        recent = [who for at, who in taken if at > now - 60]
        assert budget.under_way == len(under_way) <= TIGHT.at_once
        assert len(recent) <= TIGHT.requests_per_minute
        for people, peers, prefixes in (
            (under_way, TIGHT.at_once_peer, TIGHT.at_once_prefix),
            (recent, TIGHT.requests_per_minute_peer, TIGHT.requests_per_minute_prefix),
        ):
            assert max(Counter(who.peer for who in people).values(), default=0) <= peers
            assert max(Counter(w.prefix for w in people if w.prefix).values(), default=0) <= prefixes
    for who in under_way:
        budget.release(who)
    assert all(refusal_by(budget, who, now + 61) is None for who in PEOPLE[::4])
