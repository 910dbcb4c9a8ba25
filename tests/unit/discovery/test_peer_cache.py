"""Peers that worked: bounded, ageing, and never lost to one bad entry."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.discovery.world import ALICE, BOB, CAROL, DOMAIN, UNIX, at
from wws.discovery.peer_cache import PeerCache, PeerCacheConfig, PeerCacheMalformed
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId

DAY = 86_400


def filled(*peers: PeerId) -> PeerCache:
    cache = PeerCache(DOMAIN)
    for peer in peers:
        cache.record(peer, [at(peer)], through=ALICE, met_at=UNIX, unix_now=UNIX)
    return cache


def read(value: dict[str, Any], domain: str = DOMAIN, unix_now: int = UNIX) -> PeerCache:
    return PeerCache.from_json(value, domain, unix_now)


def test_it_survives_a_restart() -> None:
    cache = filled(ALICE, BOB)
    again = read(cache.to_json())
    assert again.to_json() == cache.to_json()
    assert [peer.peer_id for peer in again.fresh(UNIX)] == sorted([ALICE, BOB])
    assert len(read({**cache.to_json(), "schema": 2, "unheard_of": 1})) == 2


def test_those_that_worked_last_come_first() -> None:
    cache = filled(ALICE, BOB)
    cache.record(CAROL, [at(CAROL)], through=ALICE, met_at=UNIX, unix_now=UNIX + 5)
    assert next(iter(cache.fresh(UNIX + 5))).peer_id == CAROL


def test_peers_age_out() -> None:
    value = filled(BOB).to_json()
    assert len(read(value, unix_now=UNIX + 30 * DAY)) == 1
    assert len(read(value, unix_now=UNIX + 30 * DAY + 1)) == 0
    assert filled(BOB).fresh(UNIX + 30 * DAY + 1) == []


def test_another_network_starts_empty() -> None:
    assert len(read(filled(BOB).to_json(), domain="other.example")) == 0


def test_what_is_worth_writing_down() -> None:
    cache = PeerCache(DOMAIN)

    def record(ip: str, unix_now: int) -> bool:
        return cache.record(BOB, [at(BOB, ip)], through=ALICE, met_at=UNIX, unix_now=unix_now)

    assert record("203.0.113.1", UNIX)
    assert not record("203.0.113.1", UNIX + 60)
    assert record("203.0.113.2", UNIX + 60)
    assert record("203.0.113.1", UNIX + 60 + 3_600)
    assert not cache.record(CAROL, [], through=ALICE, met_at=UNIX, unix_now=UNIX)


def test_a_weaker_voucher_does_not_replace_a_stronger_one() -> None:
    cache = filled(BOB)
    cache.record(BOB, [at(BOB)], through=CAROL, met_at=UNIX - DAY, unix_now=UNIX + 1)
    found = cache.find(BOB)
    assert found is not None
    assert (found.through, found.met_at) == (ALICE, UNIX)


def test_limits_at_and_over() -> None:
    config = PeerCacheConfig()
    cache = PeerCache(DOMAIN)
    for n in range(config.max_peers + 1):
        peer = Identity.from_label(f"peer {n}").peer_id
        cache.record(peer, [at(peer)], through=ALICE, met_at=UNIX, unix_now=UNIX + n)
    assert len(cache) == config.max_peers
    assert cache.find(Identity.from_label("peer 0").peer_id) is None
    for n in range(20):
        cache.record(BOB, [at(BOB, port=n + 1)], through=ALICE, met_at=UNIX, unix_now=UNIX + 9_999)
    bob = cache.find(BOB)
    assert bob is not None
    assert len(bob.addresses) == config.max_addresses


@pytest.mark.parametrize(
    "value", [{}, {"schema": 1}, {"schema": 9, "peers": []}, {"schema": True, "peers": []}]
)
def test_a_file_that_is_none(value: dict[str, Any]) -> None:
    with pytest.raises(PeerCacheMalformed):
        read(value)


@pytest.mark.parametrize(
    "change",
    [
        {"peer_id": "x"}, {"peer_id": 1}, {"addresses": []}, {"addresses": ["x"]}, {"addresses": [1]},
        {"addresses": "x"}, {"last_success": -1}, {"last_success": True}, {"last_success": UNIX + 2 * DAY},
        {"last_success": 0}, {"through": "x"}, {"met_at": None}, {"met_at": UNIX + 1},
    ],
)  # fmt: skip
def test_one_bad_entry_among_others_changes_nothing(change: dict[str, Any]) -> None:
    value: dict[str, Any] = filled(ALICE, BOB, CAROL).to_json()
    value["peers"][1].update(change)
    cache = read(value)
    assert (len(cache), cache.skipped) == (2, 1)
    value["peers"][1] = "rubbish"
    assert len(read(value)) == 2


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(_JSON, max_size=5))
def test_any_entries_are_read_or_left_out(entries: list[Any]) -> None:
    cache = read({"schema": 1, "domain": DOMAIN, "peers": entries})
    assert cache.skipped == len(entries)
