"""Who holds what belongs at a position: one rule for who stores, asks, republishes and names closer peers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wws.dht.lookup import LookupConfig
from wws.dht.positions import KEY_SPACE, position_of_peer
from wws.dht.region import Region
from wws.dht.routing import RoutingConfig, RoutingTable
from wws.dht.size import SwarmSize
from wws.identity.peer_id import PeerId

LOCAL = PeerId(bytes(32))
PEERS = [PeerId(number.to_bytes(32, "big")) for number in range(1, 301)]
ORDERED = sorted(PEERS, key=position_of_peer)
"""By their distance from position 0."""


def region(peers: list[PeerId], *, radius_at: int | None = None) -> Region:
    """What a node knows; the radius ends at the peer of that number."""
    table = RoutingTable(position_of_peer(LOCAL), RoutingConfig(bucket_size=500, max_peers=500))
    for peer in peers:
        table.add(peer, (), None, 0)
    size = SwarmSize(20)
    if radius_at is not None:
        distance = position_of_peer(ORDERED[radius_at])
        size.saw(1, [distance * 10 // 6] * 20, 0)
    return Region(table, size, LookupConfig(), dense_share=0.6)


def test_an_honest_neighbourhood_is_the_closest() -> None:
    known = region(PEERS, radius_at=12)
    assert [contact.peer for contact in known.known(0, 0)] == ORDERED[:20]
    assert [contact.peer for contact in known.named_to(LOCAL, 0, 0)] == ORDERED[:20]


def test_a_crowd_is_named_together_with_those_behind_it() -> None:
    known = region(PEERS, radius_at=33)
    assert {*ORDERED[:33]} <= {contact.peer for contact in known.known(0, 0)} <= {*ORDERED[:34]}
    assert [contact.peer for contact in known.named_to(LOCAL, 0, 0)] == ORDERED[:60]


def test_who_asks_is_not_named() -> None:
    known = region(PEERS, radius_at=12)
    assert [contact.peer for contact in known.named_to(ORDERED[3], 0, 0)] == ORDERED[:3] + ORDERED[4:21]


def test_however_large_the_crowd_the_answer_is_bounded() -> None:
    known = region(PEERS, radius_at=299)
    assert len(known.known(0, 0)) == len(known.named_to(LOCAL, 0, 0)) == len(known.seeds(0, 0)) == 60


def test_a_look_up_starts_from_more_where_a_crowd_may_be_all_that_is_near() -> None:
    assert [contact.peer for contact in region(PEERS, radius_at=12).seeds(0, 0)] == ORDERED[:20]
    assert [contact.peer for contact in region(PEERS, radius_at=25).seeds(0, 0)] == ORDERED[:60]
    assert len(region(PEERS).seeds(0, 0)) == 60, "nothing is known of the density"


def test_before_anything_was_seen_it_is_the_closest() -> None:
    known = region(PEERS)
    assert known.radius(0) == 0
    assert len(known.known(0, 0)) == 20


def test_a_look_up_starts_from_failed_peers_only_where_there_are_no_others() -> None:
    table = RoutingTable(position_of_peer(LOCAL))
    for peer in PEERS[:30]:
        table.add(peer, (), None, 0)
    for peer in PEERS[:15]:
        table.failed(peer, 1)
    known = Region(table, SwarmSize(20), LookupConfig(), dense_share=0.6)
    assert len(known.seeds(0, 0)) == 20
    for peer in PEERS[30:60]:
        table.add(peer, (), None, 2)
    assert len(known.seeds(0, 0)) == 45


@given(st.integers(0, 300), st.integers(0, 299), st.integers(0, KEY_SPACE - 1))
def test_the_region_holds_the_closest_and_all_within_the_radius(count: int, end: int, position: int) -> None:
    peers = PEERS[:count]
    known = region(peers, radius_at=end)
    nearest = sorted(peers, key=lambda peer: position_of_peer(peer) ^ position)
    found = [contact.peer for contact in known.known(position, 0)]
    assert found == nearest[: len(found)], "the closest first, and none left out"
    within = [peer for peer in nearest if position_of_peer(peer) ^ position <= known.radius(0)]
    assert len(found) == min(60, max(len(within), min(20, count)))
