"""The routing table: order, places, diversity, and who goes when somebody fails."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wws.dht.positions import KEY_BITS, position_of_peer
from wws.dht.routing import RoutingConfig, RoutingTable
from wws.identity.peer_id import PeerId

LOCAL = PeerId(bytes(32))
PEERS = [PeerId(number.to_bytes(32, "big")) for number in range(1, 400)]
CONFIG = RoutingConfig(bucket_size=4, max_peers=40)


def table(config: RoutingConfig = CONFIG) -> RoutingTable:
    return RoutingTable(position_of_peer(LOCAL), config)


def bucket_of(peer: PeerId) -> int:
    return KEY_BITS - (position_of_peer(peer) ^ position_of_peer(LOCAL)).bit_length()


FAR = [peer for peer in PEERS if bucket_of(peer) == 0]
NEAR = [peer for peer in PEERS if bucket_of(peer) >= 4]


@given(
    st.lists(st.sampled_from(PEERS), max_size=60, unique=True), st.integers(0, 2**256 - 1), st.integers(1, 30)
)
def test_closest_is_what_sorting_everything_gives(peers: list[PeerId], position: int, count: int) -> None:
    routing = table(RoutingConfig())
    for peer in peers:
        assert routing.add(peer, (), None, 0)
    expected = sorted(peers, key=lambda peer: position_of_peer(peer) ^ position)[:count]
    assert [contact.peer for contact in routing.closest(position, count)] == expected


@given(st.lists(st.sampled_from(PEERS), max_size=60, unique=True), st.integers(1, 30))
def test_near_is_what_sorting_everything_gives(peers: list[PeerId], count: int) -> None:
    routing = table(RoutingConfig())
    for peer in peers:
        routing.add(peer, (), None, 0)
    local = position_of_peer(LOCAL)
    nearest = set(sorted(peers, key=lambda peer: position_of_peer(peer) ^ local)[:count])
    assert {peer for peer in peers if routing.is_near(peer, count)} == nearest
    own = [contact.peer for contact in routing.closest(local, count)]
    assert set(own) == nearest


def test_we_are_not_in_our_own_table() -> None:
    assert not table().add(LOCAL, (), None, 0)


def test_connected_peers_stay_beyond_the_places_and_leave_with_their_connection() -> None:
    routing = table()
    for peer in FAR[:6]:
        assert routing.add(peer, (), None, 0)
    assert [routing.has_place(peer) for peer in FAR[:6]] == [True] * 4 + [False] * 2
    routing.disconnected(FAR[5])
    routing.disconnected(FAR[0])
    assert FAR[5] not in routing
    assert FAR[0] not in routing, "more than its places are taken by others who are connected"
    routing.disconnected(FAR[1])
    assert FAR[1] in routing


def test_proven_peers_stay_and_one_that_failed_makes_room() -> None:
    routing = table(RoutingConfig(bucket_size=4, max_peers=4))
    for peer in FAR[:4]:
        routing.add(peer, (), None, 0)
    assert not routing.add(FAR[4], (), None, 1)
    routing.failed(FAR[2], 2)
    assert FAR[2] in routing
    assert FAR[2] not in [contact.peer for contact in routing.closest(0, 10, proven=True)]
    assert routing.add(FAR[4], (), None, 3)
    assert FAR[2] not in routing


def test_places_of_near_buckets_are_free_whatever_fills_the_far_one() -> None:
    routing = table()
    for peer in FAR[:100]:
        routing.add(peer, (), None, 0)
    assert len(routing) == 40
    assert routing.add(NEAR[0], (), None, 0)


def test_a_peer_goes_after_its_failures_and_an_answer_forgives_them() -> None:
    routing = table()
    routing.add(FAR[0], (), None, 0)
    for _ in range(2):
        routing.failed(FAR[0], 1)
    routing.answered(FAR[0], 2)
    for attempt in range(3):
        assert FAR[0] in routing
        routing.failed(FAR[0], 3 + attempt)
    assert FAR[0] not in routing


def test_two_of_a_prefix_in_a_bucket_and_three_in_the_table() -> None:
    routing = table()
    prefix = "203.0.113.0/24"
    assert [routing.add(peer, (), prefix, 0) for peer in FAR[:3]] == [True, True, False]
    assert [routing.add(peer, (), prefix, 0) for peer in NEAR[:2]] == [True, False]
    routing.remove(FAR[0])
    assert routing.add(NEAR[1], (), prefix, 0) or routing.add(FAR[3], (), prefix, 0)
    assert all(routing.add(peer, (), None, 0) for peer in FAR[10:14]), "no prefix, no limit"


def test_who_moves_into_a_full_prefix_loses_its_place() -> None:
    routing = table()
    prefix = "203.0.113.0/24"
    routing.add(FAR[0], (), prefix, 0)
    routing.add(FAR[1], (), prefix, 0)
    routing.add(FAR[2], (), "198.51.100.0/24", 0)
    assert not routing.add(FAR[2], (), prefix, 1)
    assert FAR[2] not in routing
    assert routing.add(FAR[1], (), None, 1)
    assert routing.add(FAR[2], (), prefix, 1)


def test_checks_go_to_whom_nobody_heard_of_longest() -> None:
    routing = table()
    for now, peer in enumerate(FAR[:4]):
        routing.add(peer, (), None, now)
    for peer in FAR[1:4]:
        routing.disconnected(peer)
    assert [contact.peer for contact in routing.to_check(102, 100, 8)] == [FAR[1], FAR[2]]
    assert [contact.peer for contact in routing.to_check(1000, 100, 1)] == [FAR[1]]


def test_thin_buckets_have_a_bucket_full_of_peers_behind_them() -> None:
    routing = table()
    for peer in NEAR[:3]:
        routing.add(peer, (), None, 0)
    assert routing.thin_buckets() == []
    routing.add(NEAR[3], (), None, 0)
    assert routing.thin_buckets()[:4] == [0, 1, 2, 3]
    routing.add(FAR[0], (), None, 0)
    assert routing.thin_buckets()[0] == 0
    routing.add(FAR[1], (), None, 0)
    assert routing.thin_buckets()[0] == 1


class RoutingRules(RuleBasedStateMachine):
    """Whatever happens, the bounds and the counters hold."""

    def __init__(self) -> None:
        super().__init__()
        self.routing = table()
        self.now = 0.0

    peers = st.sampled_from(PEERS[:120])

    @rule(peer=peers, prefix=st.sampled_from([None, "a", "b", "c", "d"]))
    def join(self, peer: PeerId, prefix: str | None) -> None:
        self.now += 1
        assert self.routing.add(peer, (), prefix, self.now) == (peer in self.routing)

    @rule(peer=peers)
    def leave(self, peer: PeerId) -> None:
        self.routing.disconnected(peer)

    @rule(peer=peers)
    def fail(self, peer: PeerId) -> None:
        self.routing.failed(peer, self.now)

    @rule(peer=peers)
    def answer(self, peer: PeerId) -> None:
        self.routing.answered(peer, self.now)

    @rule(peer=peers)
    def remove(self, peer: PeerId) -> None:
        self.routing.remove(peer)

    @invariant()
    def bounds_hold(self) -> None:
        contacts = list(self.routing)
        per_table = Counter(contact.prefix for contact in contacts if contact.prefix)
        per_bucket = Counter((bucket_of(c.peer), c.prefix) for c in contacts if c.prefix)
        assert all(count <= CONFIG.per_prefix_in_table for count in per_table.values())
        assert all(count <= CONFIG.per_prefix_in_bucket for count in per_bucket.values())
        assert sum(self.routing.bucket_sizes().values()) == len(contacts)
        assert {c.peer for c in self.routing.closest(0, 1000)} == {c.peer for c in contacts}


TestRoutingRules = RoutingRules.TestCase
TestRoutingRules.settings = settings(max_examples=30, stateful_step_count=60)


@pytest.mark.parametrize("count", [1, 20])
def test_an_empty_table_has_no_closest(count: int) -> None:
    assert table().closest(position_of_peer(LOCAL), count) == table().closest(0, count) == []
