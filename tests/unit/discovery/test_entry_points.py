"""Who may be an entry point, by what right, and in which order they are tried."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.discovery.world import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DOMAIN,
    KEYS,
    MALLORY,
    ME,
    SIGNED,
    UNIX,
    UNSIGNED,
    at,
    bundle,
    entry,
)
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.discovery.bundle import Bundle
from wws.discovery.bundle_state import BundleState
from wws.discovery.entry_points import Candidate, EntryPointConfig, EntryPoints, Source
from wws.discovery.network import Network, ad_hoc_network
from wws.discovery.peer_cache import PeerCache
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId

DAY = 86_400


def known(
    network: Network = SIGNED,
    *typed: Multiaddr,
    cache: PeerCache | None = None,
    last: Bundle | None = None,
    config: EntryPointConfig | None = None,
) -> EntryPoints:
    bundles = BundleState(network.domain, network.publishers, last=last) if network.publishers else None
    return EntryPoints(
        ME, network, cache or PeerCache(network.domain), typed=typed, bundles=bundles, config=config
    )


def cache(*peers: tuple[PeerId, PeerId, int], domain: str = DOMAIN) -> PeerCache:
    """Peers as (peer, through, met at)."""
    made = PeerCache(domain)
    for n, (peer, through, met_at) in enumerate(peers):
        made.record(peer, [at(peer, f"198.51.100.{n + 1}")], through=through, met_at=met_at, unix_now=UNIX)
    return made


def who(candidates: list[Candidate]) -> list[tuple[PeerId, Source]]:
    return [(candidate.peer_id, candidate.source) for candidate in candidates]


def test_the_rights_of_a_network_with_publishers() -> None:
    network = SIGNED.with_peers([at(BOB)])
    ways = known(network, at(ALICE), last=bundle(entry(CAROL)), cache=cache((DAVE, CAROL, UNIX)))
    assert {source for _, source in who(ways.candidates(UNIX))} == {
        Source.BOOTSTRAP, Source.PINNED, Source.CACHE, Source.BUNDLE,
    }  # fmt: skip
    assert who(ways.candidates(UNIX))[:2] == [(ALICE, Source.BOOTSTRAP), (BOB, Source.PINNED)]
    assert ways.source_of(MALLORY, UNIX) is None


def test_a_cached_peer_counts_only_through_an_entry_point_and_for_thirty_days() -> None:
    last = bundle(entry(ALICE), exp=UNIX + 80 * DAY)
    assert known(last=last, cache=cache((BOB, ALICE, UNIX))).source_of(BOB, UNIX) is Source.CACHE
    assert known(last=last, cache=cache((BOB, MALLORY, UNIX))).source_of(BOB, UNIX) is None
    assert known(last=last, cache=cache((BOB, BOB, UNIX))).source_of(BOB, UNIX) is None
    assert known(cache=cache((BOB, ALICE, UNIX))).source_of(BOB, UNIX) is None
    ways = known(last=last, cache=cache((BOB, ALICE, UNIX)))
    assert ways.source_of(BOB, UNIX + 30 * DAY) is Source.CACHE
    assert ways.source_of(BOB, UNIX + 30 * DAY + 1) is None
    old = known(last=last, cache=cache((BOB, ALICE, UNIX - 31 * DAY)))
    assert old.source_of(BOB, UNIX) is None  # it worked today, but nobody has vouched for it since


def test_a_peer_that_left_the_bundle_is_no_entry_point() -> None:
    state = BundleState(DOMAIN, KEYS)
    ways = EntryPoints(ME, SIGNED, PeerCache(DOMAIN), bundles=state)
    state.accept(bundle(entry(ALICE)).text, UNIX)
    assert ways.source_of(ALICE, UNIX) is Source.BUNDLE
    state.accept(bundle(entry(BOB), seq=UNIX + 1).text, UNIX)
    assert ways.source_of(ALICE, UNIX) is None


def test_hints_never_make_an_entry_point_where_somebody_publishes() -> None:
    ways = known(last=bundle(entry(ALICE)))
    ways.add_hints([at(MALLORY), at(ALICE, "203.0.113.2"), Multiaddr.parse("/ip4/203.0.113.9/tcp/1")])
    assert who(ways.candidates(UNIX)) == [(ALICE, Source.BUNDLE)]
    assert [a.host for a in ways.candidates(UNIX)[0].addresses] == ["203.0.113.1", "203.0.113.2"]
    assert ways.ignored_hints(UNIX) == 1
    fresh = known()
    fresh.add_hints([at(ALICE), at(MALLORY)])
    assert fresh.candidates(UNIX) == []
    assert fresh.ignored_hints(UNIX) == 2


def test_hints_are_entry_points_where_nobody_publishes() -> None:
    ways = known(UNSIGNED, cache=cache((BOB, MALLORY, UNIX)))
    ways.add_hints([at(ALICE)])
    assert dict(who(ways.candidates(UNIX))) == {BOB: Source.CACHE, ALICE: Source.DNS}
    assert ways.ignored_hints(UNIX) == 0


def test_an_ad_hoc_network_is_exactly_the_typed_peers() -> None:
    network = ad_hoc_network([at(ALICE)])
    ways = known(network, cache=cache((BOB, ALICE, UNIX), (CAROL, MALLORY, UNIX), domain=""))
    ways.add_hints([at(DAVE)])
    assert dict(who(ways.candidates(UNIX))) == {ALICE: Source.PINNED, BOB: Source.CACHE}


def test_the_expired_bundle_is_kept_for_last() -> None:
    ways = known(last=bundle(entry(ALICE), exp=UNIX + 10))
    assert ways.last_resort(UNIX) == []
    assert ways.candidates(UNIX + 10) == []
    assert who(ways.last_resort(UNIX + 10)) == [(ALICE, Source.EXPIRED_BUNDLE)]
    assert ways.source_of(ALICE, UNIX + 10) is Source.EXPIRED_BUNDLE


def test_who_vouches_for_others() -> None:
    ways = known(
        SIGNED, at(CAROL), last=bundle(entry(ALICE)), cache=cache((BOB, ALICE, UNIX), (ALICE, ALICE, UNIX))
    )
    assert ways.is_root(ALICE, UNIX)
    assert ways.is_root(CAROL, UNIX)
    assert not ways.is_root(BOB, UNIX)
    assert not ways.is_root(MALLORY, UNIX)


def test_hints_below_the_scope_of_the_mesh_are_not_dialled() -> None:
    ways = known(last=bundle(entry(ALICE)))
    ways.add_hints([at(ALICE, "10.0.0.1"), at(ALICE, "203.0.113.2")])
    ways.mesh_scope = Scope.PUBLIC
    assert [a.host for a in ways.candidates(UNIX)[0].addresses] == ["203.0.113.1", "203.0.113.2"]
    typed = known(SIGNED, at(ALICE, "127.0.0.1"))
    typed.mesh_scope = Scope.PUBLIC
    assert [a.host for a in typed.candidates(UNIX)[0].addresses] == ["127.0.0.1"]


def test_local_peers_are_further_ones() -> None:
    ways = known(last=bundle(entry(ALICE)))
    assert ways.add_lan(DAVE, [at(DAVE, "192.168.1.4")])
    assert not ways.add_lan(DAVE, [at(DAVE, "192.168.1.4")])
    assert ways.add_lan(ALICE, [at(ALICE, "192.168.1.5")])
    assert not ways.add_lan(ME, [at(ME, "192.168.1.6")])
    assert not ways.add_lan(BOB, [])
    assert who(ways.lan(UNIX)) == [(DAVE, Source.MDNS)]
    assert [a.host for a in ways.candidates(UNIX)[0].addresses] == ["203.0.113.1", "192.168.1.5"]


def test_the_node_itself_is_never_a_candidate() -> None:
    ways = known(SIGNED, at(ME), last=bundle(entry(ME), entry(ALICE)))
    ways.add_hints([at(ME)])
    assert who(ways.candidates(UNIX)) == [(ALICE, Source.BUNDLE)]
    assert ways.local_is_one(UNIX)
    assert known(SIGNED, last=bundle(entry(ME), exp=UNIX + 1)).last_resort(UNIX + 1) == []


def test_what_this_node_cannot_dial_is_left_out() -> None:
    quic = Multiaddr.parse(f"/ip4/203.0.113.1/udp/9000/quic-v1/p2p/{ALICE}")
    circuit = Multiaddr.parse(f"/ip4/203.0.113.1/tcp/9000/p2p/{BOB}/p2p-circuit/p2p/{ALICE}")
    nowhere = Multiaddr.parse(f"/ip4/0.0.0.0/tcp/9000/p2p/{ALICE}")
    assert known(SIGNED, quic, circuit, nowhere).candidates(UNIX) == []
    both = EntryPointConfig(transports=frozenset({"tcp", "quic-v1"}))
    assert len(known(SIGNED, quic, config=both).candidates(UNIX)) == 1
    dnsaddr = Multiaddr.parse(f"/dnsaddr/boot.example.org/p2p/{ALICE}")
    assert known(SIGNED, dnsaddr).candidates(UNIX)[0].addresses == (dnsaddr,)


def test_families_take_turns() -> None:
    addresses = [at(ALICE, ip) for ip in ("203.0.113.1", "203.0.113.2", "2001:db8::1")]
    [candidate] = known(SIGNED, *addresses).candidates(UNIX)
    assert [a.host for a in candidate.addresses] == ["203.0.113.1", "2001:db8::1", "203.0.113.2"]


def test_one_prefix_does_not_crowd_out_the_others() -> None:
    crowd = [Identity.from_label(f"crowd {n}").peer_id for n in range(6)]
    made = PeerCache(DOMAIN)
    for n, peer in enumerate(crowd):
        made.record(peer, [at(peer, f"203.0.113.{n}")], through=ALICE, met_at=UNIX, unix_now=UNIX + 10)
    made.record(BOB, [at(BOB, "198.51.100.1")], through=ALICE, met_at=UNIX, unix_now=UNIX)
    ways = known(last=bundle(entry(ALICE, "192.0.2.1")), cache=made)
    first = [peer for peer, _ in who(ways.candidates(UNIX + 10))][:3]
    assert set(first) >= {ALICE, BOB}


def test_limits_at_and_over() -> None:
    many = [Identity.from_label(f"peer {n}").peer_id for n in range(200)]
    config = EntryPointConfig()
    ways = known(UNSIGNED)
    ways.add_hints([at(peer) for peer in many])
    assert len(ways.candidates(UNIX)) == config.max_candidates
    assert ways.source_of(many[0], UNIX) is None
    assert ways.source_of(many[-1], UNIX) is Source.DNS
    for peer in many:
        ways.add_lan(peer, [at(peer, "192.168.1.4")])
    assert sum(bool(ways.lan_addresses(peer)) for peer in many) == config.max_lan_peers
    for n in range(20):
        ways.add_lan(ALICE, [at(ALICE, f"192.168.1.{n + 1}")])
    assert len(ways.lan_addresses(ALICE)) == config.max_lan_addresses
    [candidate] = known(SIGNED, *[at(ALICE, port=n + 1) for n in range(30)]).candidates(UNIX)
    assert len(candidate.addresses) == config.max_addresses


_PEERS = st.sampled_from([ALICE, BOB, CAROL, DAVE, MALLORY, ME])


@given(
    st.lists(_PEERS, max_size=6),
    st.lists(_PEERS, max_size=6),
    st.lists(_PEERS, max_size=6),
    st.integers(0, 40),
)
def test_nobody_is_a_candidate_without_a_right(
    hinted: list[PeerId], heard: list[PeerId], remembered: list[PeerId], days: int
) -> None:
    ways = known(
        SIGNED,
        at(ALICE),
        last=bundle(entry(BOB), exp=UNIX + 10 * DAY),
        cache=cache(*((peer, MALLORY, UNIX) for peer in remembered)),
    )
    ways.add_hints(at(peer) for peer in hinted)
    for peer in heard:
        ways.add_lan(peer, [at(peer, "192.168.1.4")])
    now = UNIX + days * DAY
    chosen = {candidate.peer_id for candidate in ways.candidates(now)}
    assert chosen == ({ALICE, BOB} if days < 10 else {ALICE})
    assert {candidate.peer_id for candidate in ways.last_resort(now)} == (set() if days < 10 else {BOB})


@pytest.mark.parametrize("source", list(Source))
def test_sources_are_words_for_people(source: Source) -> None:
    assert str(source).replace("_", "").isalpha()
