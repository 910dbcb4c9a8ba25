"""The search for the network, as conversations, and every state against every event."""

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.discovery.world import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DOMAIN,
    MALLORY,
    ME,
    SECOND_PUBLISHER,
    SIGNED,
    UNIX,
    UNSIGNED,
    Search,
    at,
    bundle,
    dialled,
    entry,
    only,
)
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.entry_points import Source
from wws.discovery.guidance import AttemptReport, SourceReport, advise
from wws.discovery.network import ad_hoc_network
from wws.discovery.peer_cache import PeerCache
from wws.discovery.race_events import (
    EVENTS,
    MOVES,
    BundleTaken,
    Dial,
    DialFailed,
    DialSucceeded,
    DnsAnswered,
    DnsKind,
    Joined,
    LostAllPeers,
    MdnsFound,
    NoWayIn,
    PeerConnected,
    PeerCountChanged,
    PeerDisconnected,
    PeerIdentified,
    QueryDns,
    RetryRequested,
    SaveNetworkState,
    SavePeerCache,
    Started,
    StartMdns,
    State,
    Stopped,
    TimerFired,
    Warn,
)
from wws.errors import LocalProtocolError
from wws.machine import Command, Event

NOTHING = [DnsAnswered(kind, error="dns_nxdomain") for kind in DnsKind]


def no_dns(search: Search) -> list[Command]:
    return [command for event in NOTHING for command in search.step(event)]


def fail_all(search: Search, commands: list[Command], code: str = "connection_refused") -> list[Command]:
    """Answer every dial with a failure, and those that follow from it too."""
    further: list[Command] = []
    waiting = list(commands)
    while waiting:
        command = waiting.pop(0)
        if isinstance(command, Dial):
            new = search.step(DialFailed(command.peer_id, command.address, code))
            further += new
            waiting += new
    return further


# --- the ways in ----------------------------------------------------------------------------------


def test_every_source_is_started_at_once() -> None:
    cache = PeerCache(DOMAIN)
    cache.record(CAROL, [at(CAROL)], through=ALICE, met_at=UNIX, unix_now=UNIX)
    search = Search(typed=[at(ALICE)], cache=cache)
    commands = search.step(Started())
    assert commands[0] == StartMdns()
    assert [command.kind for command in only(commands, QueryDns)] == list(DnsKind)
    assert dialled(commands) == [ALICE, CAROL]
    assert [c.name for c in only(commands, QueryDns)] == [
        f"_wws-bundle._tcp.{DOMAIN}",
        f"_openswarm._tcp.{DOMAIN}",
        f"_dnsaddr.{DOMAIN}",
    ]


def test_the_first_entry_point_is_the_join() -> None:
    search = Search(typed=[at(ALICE)])
    search.step(Started())
    commands = search.step(DialSucceeded(ALICE, at(ALICE)))
    assert commands[0] == Joined(ALICE, Source.BOOTSTRAP, lan_only=False)
    assert only(commands, SavePeerCache)
    assert search.machine.state is State.JOINED
    assert search.step(PeerConnected(ALICE)) == []


def test_an_entry_point_that_dials_us_is_a_way_in() -> None:
    search = Search(typed=[at(ALICE)])
    search.step(Started())
    assert search.step(PeerConnected(MALLORY)) == []
    assert search.machine.state is State.SEARCHING
    assert only(search.step(PeerConnected(ALICE)), Joined)


def test_the_bundle_brings_entry_points_and_is_kept() -> None:
    search = Search()
    assert dialled(search.step(Started())) == []
    published = bundle(entry(ALICE), entry(BOB, "198.51.100.1"))
    commands = search.step(DnsAnswered(DnsKind.BUNDLE, (published.text,)))
    assert only(commands, BundleTaken) == [BundleTaken(published)]
    assert len(only(commands, SaveNetworkState)) == 1
    assert [warning.code for warning in only(commands, Warn)] == ["bundle_first_contact"]
    assert dialled(commands) == [ALICE]
    assert search.wakes_in == 0.25
    assert dialled(search.step(TimerFired(), after=0.25)) == [BOB]
    assert only(search.step(DialSucceeded(BOB, at(BOB, "198.51.100.1"))), Joined) == [
        Joined(BOB, Source.BUNDLE, lan_only=False)
    ]
    assert search.machine.witnesses(search.unix_now) == ({ALICE, BOB}, set())


def test_a_peer_connected_before_the_bundle_vouches_for_it_is_a_way_in_then() -> None:
    search = Search()
    search.step(Started())
    assert search.step(PeerConnected(ALICE)) == []
    assert only(search.step(DnsAnswered(DnsKind.BUNDLE, (bundle().text,))), Joined)


def test_the_same_bundle_again_changes_nothing() -> None:
    search = Search(last=bundle())
    search.step(Started())
    commands = search.step(DnsAnswered(DnsKind.BUNDLE, (bundle().text,)))
    assert not only(commands, SaveNetworkState)
    assert not only(commands, Warn)


def test_a_kept_bundle_needs_no_dns() -> None:
    search = Search(last=bundle())
    assert dialled(search.step(Started())) == [ALICE]


def test_a_failed_dial_starts_the_next_at_once() -> None:
    search = Search(last=bundle(entry(ALICE), entry(BOB, "198.51.100.1")))
    commands = search.step(Started())
    assert dialled(commands) == [ALICE]
    assert dialled(search.step(DialFailed(ALICE, at(ALICE), "connection_refused"), after=0.05)) == [BOB]


def test_typed_peers_are_dialled_in_parallel_with_one_deadline_a_peer() -> None:
    search = Search(typed=[at(ALICE), at(ALICE, port=443), at(BOB), at(CAROL)])
    first = only(search.step(Started()), Dial)
    assert [(dial.peer_id, dial.timeout) for dial in first][:3] == [(ALICE, 10.0), (BOB, 10.0), (CAROL, 10.0)]
    assert len(first) == 4  # the second address of alice opens the staggered ones
    again = Search(typed=[at(ALICE), at(ALICE, port=443), at(ALICE, port=80)])
    again.step(Started())
    [later] = only(again.step(TimerFired(), after=4.0), Dial)
    assert later.timeout == 6.0


def test_enough_entry_points_end_the_round() -> None:
    search = Search(typed=[at(peer) for peer in (ALICE, BOB, CAROL)], last=bundle(entry(DAVE, "192.0.2.9")))
    search.step(Started())
    for peer in (ALICE, BOB, CAROL):
        search.step(DialSucceeded(peer, at(peer)))
    no_dns(search)
    fail_all(search, [Dial(DAVE, at(DAVE, "192.0.2.9"), 1.0)])
    assert search.step(TimerFired(), after=1.0) == []


def test_dials_are_bounded() -> None:
    typed = [at(peer, f"192.0.2.{n}", 1 + n) for n, peer in enumerate([ALICE, BOB, CAROL, DAVE] * 5)]
    search = Search(typed=typed)
    started = len(dialled(search.step(Started())))
    for _ in range(40):
        started += len(dialled(search.step(TimerFired(), after=0.25)))
    assert started == 16


# --- trust ----------------------------------------------------------------------------------------


def test_hostile_dns_makes_nobody_dial() -> None:
    search = Search(last=bundle())
    search.step(Started())
    text = f"v=1 peer=/ip4/203.0.113.66/tcp/9000/p2p/{MALLORY}"
    commands = search.step(DnsAnswered(DnsKind.SEED, (text,)))
    commands += search.step(
        DnsAnswered(DnsKind.DNSADDR, (f"dnsaddr=/ip4/203.0.113.66/tcp/9000/p2p/{MALLORY}",))
    )
    for _ in range(8):
        commands += search.step(TimerFired(), after=1.0)
    assert MALLORY not in dialled(commands)
    assert search.machine.report(search.unix_now).hints_ignored == 1
    assert not only(search.step(PeerConnected(MALLORY)), Joined)


def test_a_hint_adds_an_address_for_a_known_id() -> None:
    search = Search(last=bundle())
    search.step(Started())
    text = f"v=1 peer=/ip4/203.0.113.2/tcp/9000/p2p/{ALICE}"
    search.step(DnsAnswered(DnsKind.SEED, (text,)))
    [dial] = only(search.step(DialFailed(ALICE, at(ALICE), "timeout")), Dial)
    assert dial.address == at(ALICE, "203.0.113.2")


def test_hints_are_entry_points_where_nobody_publishes() -> None:
    search = Search(UNSIGNED)
    assert [command.kind for command in only(search.step(Started()), QueryDns)] == [
        DnsKind.SEED,
        DnsKind.DNSADDR,
    ]
    texts = (f"v=1 peer={at(ALICE)}", "v=1 peer=/nonsense", "rubbish", f"v=1 peer={at(BOB, '198.51.100.1')}")
    assert dialled(search.step(DnsAnswered(DnsKind.SEED, texts))) == [ALICE]
    assert dialled(search.step(TimerFired(), after=0.25)) == [BOB]
    assert only(search.step(DialSucceeded(BOB, at(BOB))), Joined) == [Joined(BOB, Source.DNS, lan_only=False)]


def test_an_ad_hoc_network_asks_no_dns() -> None:
    search = Search(ad_hoc_network([at(ALICE)]))
    commands = search.step(Started())
    assert not only(commands, QueryDns)
    assert dialled(commands) == [ALICE]


def test_an_expired_bundle_is_the_last_resort() -> None:
    search = Search(last=bundle(exp=UNIX + 5))
    assert dialled(search.step(Started())) == []
    assert not only(search.step(PeerConnected(ALICE)), Joined)
    search.step(PeerDisconnected(ALICE))
    commands = no_dns(search)
    [warning] = only(commands, Warn)
    assert warning.code == "bundle_expired"
    assert dialled(commands) == [ALICE]
    assert only(search.step(DialSucceeded(ALICE, at(ALICE))), Joined) == [
        Joined(ALICE, Source.EXPIRED_BUNDLE, lan_only=False)
    ]


def test_a_refused_bundle_is_said_and_leaves_the_last_good_one() -> None:
    good = bundle(seq=UNIX + 1)
    search = Search(last=good)
    search.step(Started())
    tampered = bundle(seq=UNIX + 2).text.replace("203.0.113.1", "203.0.113.9")
    [warning] = only(search.step(DnsAnswered(DnsKind.BUNDLE, (tampered,))), Warn)
    assert warning.code == "bundle_bad_signature"
    assert search.machine.bundle(search.unix_now) == good


# --- the local network ----------------------------------------------------------------------------


def test_mdns_peers_are_used_when_no_entry_point_can_be_reached() -> None:
    search = Search(typed=[at(ALICE)])
    commands = search.step(Started())
    lan = at(DAVE, "192.168.1.4")
    assert dialled(search.step(MdnsFound(DAVE, (lan,)))) == []
    no_dns(search)
    further = fail_all(search, commands)
    assert only(further, Dial) == [Dial(DAVE, lan, 10.0)]
    search = Search(typed=[at(ALICE)])
    first = search.step(Started())
    search.step(MdnsFound(DAVE, (lan,)))
    no_dns(search)
    search.step(DialFailed(ALICE, only(first, Dial)[0].address, "timeout"))
    assert search.step(DialSucceeded(DAVE, lan)) == [Joined(DAVE, Source.MDNS, lan_only=True)]
    assert search.machine.state is State.LAN_ONLY
    assert search.step(PeerIdentified(DAVE, (lan,))) == []  # nobody vouches for it: not remembered
    assert dialled(search.step(TimerFired(), after=60.0)) == [ALICE]
    assert only(search.step(DialSucceeded(ALICE, at(ALICE))), Joined) == [
        Joined(ALICE, Source.BOOTSTRAP, lan_only=False)
    ]


def test_a_node_among_peers_looks_for_the_entry_points_it_lost() -> None:
    """Half of a divided network is full of peers; only an entry point leads to the other half."""
    search = Search(typed=[at(ALICE)])
    search.step(Started())
    no_dns(search)
    search.step(DialSucceeded(ALICE, at(ALICE)))
    search.step(PeerConnected(BOB))
    search.step(PeerDisconnected(ALICE), after=100.0)
    assert search.machine.state is State.JOINED
    commands = search.step(TimerFired(), after=30.0)
    assert dialled(commands) == [ALICE]
    assert not only(commands, LostAllPeers)
    fail_all(search, commands)
    no_dns(search)
    assert search.machine.state is State.JOINED
    assert dialled(search.step(TimerFired(), after=30.0)) == []  # each wait is twice as long
    again = search.step(TimerFired(), after=30.0)
    assert dialled(again) == [ALICE]
    search.step(DialSucceeded(ALICE, at(ALICE)))
    no_dns(search)
    assert dialled(search.step(TimerFired(), after=900.0)) == []


def test_neighbours_do_not_stand_in_for_a_list_that_another_key_signed() -> None:
    """A typing error in the publisher key must not end in a network of whoever is near."""
    search = Search()
    search.step(Started())
    search.step(MdnsFound(DAVE, (at(DAVE, "192.168.1.4"),)))
    foreign = bundle(signers=(SECOND_PUBLISHER,)).text
    commands = search.step(DnsAnswered(DnsKind.BUNDLE, (foreign,)))
    [warning] = only(commands, Warn)
    assert warning.code == "publisher_unknown"
    for kind in (DnsKind.SEED, DnsKind.DNSADDR):
        commands += search.step(DnsAnswered(kind, error="dns_nxdomain"))
    assert only(commands, NoWayIn)
    assert dialled(commands) == []


def test_a_round_waits_for_mdns_before_it_fails() -> None:
    search = Search(typed=[at(ALICE)])
    commands = search.step(Started())
    no_dns(search)
    assert fail_all(search, commands) == []
    assert search.wakes_in == 3.0
    [failed] = only(search.step(TimerFired(), after=3.0), NoWayIn)
    assert 48.0 <= failed.retry_in <= 60.0
    assert search.machine.state is State.WAITING


def test_a_local_peer_that_appears_while_waiting_is_used() -> None:
    search = Search(typed=[at(ALICE)])
    fail_all(search, search.step(Started()))
    no_dns(search)
    search.step(TimerFired(), after=3.0)
    lan = at(DAVE, "192.168.1.4")
    assert dialled(search.step(MdnsFound(DAVE, (lan,)))) == [DAVE]
    assert only(search.step(DialSucceeded(DAVE, lan)), Joined) == [Joined(DAVE, Source.MDNS, lan_only=True)]


def test_mdns_adds_peers_once_joined() -> None:
    search = Search(typed=[at(ALICE)])
    search.step(Started())
    search.step(DialSucceeded(ALICE, at(ALICE)))
    lan = at(DAVE, "192.168.1.4")
    assert dialled(search.step(MdnsFound(DAVE, (lan,)))) == [DAVE]
    assert search.step(MdnsFound(DAVE, (lan,))) == []
    assert not only(search.step(DialSucceeded(DAVE, lan)), Joined)


def test_local_dials_are_bounded_while_joined() -> None:
    from wws.identity.keys import Identity

    search = Search(typed=[at(ALICE)])
    search.step(Started())
    search.step(DialSucceeded(ALICE, at(ALICE)))
    peers = [Identity.from_label(f"lan {n}").peer_id for n in range(30)]
    commands = [c for p in peers for c in search.step(MdnsFound(p, (at(p, "192.168.1.4"),)))]
    assert len(dialled(commands)) == 8


# --- nothing works, and then it does --------------------------------------------------------------


def test_the_report_says_what_was_tried() -> None:
    search = Search(typed=[at(ALICE)])
    commands = search.step(Started())
    for kind in DnsKind:
        search.step(DnsAnswered(kind, error="dns_timeout", detail="no DNS server has answered"))
    fail_all(search, commands)
    [failed] = only(search.step(TimerFired(), after=3.0), NoWayIn)
    report = failed.report.to_json()
    assert report["attempts"] == [
        {
            "peer_id": str(ALICE),
            "addr": "/ip4/203.0.113.1/tcp/9000",
            "source": "bootstrap",
            "code": "connection_refused",
        }
    ]
    codes = {source.source: source.code for source in failed.report.sources}
    assert codes == {
        "bootstrap": "ok", "pinned": "empty", "cache": "empty",
        "bundle": "dns_timeout", "seed": "dns_timeout", "dnsaddr": "dns_timeout", "mdns": "empty",
    }  # fmt: skip
    assert any("--dns-server" in line for line in failed.report.advice)


def test_the_first_bootstrap_node_up_is_told_so() -> None:
    search = Search(last=bundle(entry(ME)))
    search.step(Started())
    no_dns(search)
    [failed] = only(search.step(TimerFired(), after=3.0), NoWayIn)
    assert failed.report.local_is_entry_point
    assert not any("--bootstrap" in line for line in failed.report.advice)


@pytest.mark.parametrize(
    ("sources", "attempts", "ignored", "word"),
    [
        ([], [], 0, "--bootstrap"),
        ([], [], 2, "no publisher has signed"),
        ([("seed", "dns_nxdomain")], [], 0, "check its name"),
        ([("seed", "dns_timeout")], [], 0, "--dns-server"),
        ([], ["wrong_peer_id"], 0, "another key"),
        ([], ["connection_refused", "timeout"], 0, "firewall"),
    ],
)
def test_advice_fits_what_happened(
    sources: list[tuple[str, str]], attempts: list[str], ignored: int, word: str
) -> None:
    said = advise(
        [SourceReport(source, code) for source, code in sources],
        [AttemptReport(str(ALICE), "/ip4/192.0.2.1/tcp/1", Source.PINNED, code) for code in attempts],
        ignored,
    )
    assert any(word in line for line in said)


def test_retries_back_off_to_a_quarter_of_an_hour() -> None:
    search = Search(typed=[at(ALICE)])
    waits = []
    commands = search.step(Started())
    for _ in range(8):
        fail_all(search, commands)
        no_dns(search)
        [failed] = only(search.step(TimerFired(), after=3.0), NoWayIn)
        waits.append(failed.retry_in)
        commands = search.step(TimerFired(), after=failed.retry_in)
        assert only(commands, Dial)
        assert only(commands, QueryDns)
    for wait, longest in zip(waits, [60, 120, 240, 480, 900, 900, 900, 900], strict=True):
        assert 0.8 * longest <= wait <= longest


def test_the_same_seed_waits_the_same() -> None:
    def waits(seed: int) -> float:
        search = Search(typed=[at(ALICE)], seed=seed)
        fail_all(search, search.step(Started()))
        no_dns(search)
        return only(search.step(TimerFired(), after=3.0), NoWayIn)[0].retry_in  # type: ignore[attr-defined]

    assert waits(7) == waits(7)
    assert waits(7) != waits(8)


def test_all_peers_lost_is_said_and_mended() -> None:
    search = Search(typed=[at(ALICE)])
    search.step(Started())
    no_dns(search)
    search.step(DialSucceeded(ALICE, at(ALICE)))
    search.step(PeerCountChanged(1))
    search.step(PeerDisconnected(ALICE), after=100.0)
    commands = search.step(PeerCountChanged(0))
    assert commands[0] == LostAllPeers("Lost all peers, reconnecting...")
    assert dialled(commands) == [ALICE]
    no_dns(search)
    fail_all(search, commands)
    [failed] = only(search.step(TimerFired(), after=3.0), NoWayIn)
    assert 24.0 <= failed.retry_in <= 30.0
    assert dialled(search.step(TimerFired(), after=failed.retry_in)) == [ALICE]
    assert only(search.step(DialSucceeded(ALICE, at(ALICE))), Joined)


def test_a_peer_that_throws_us_out_at_once_is_not_dialled_in_a_loop() -> None:
    search = Search(typed=[at(ALICE)])
    search.step(Started())
    no_dns(search)
    waits = []
    for _ in range(4):
        search.step(DialSucceeded(ALICE, at(ALICE)))
        search.step(PeerDisconnected(ALICE), after=0.1)
        assert search.step(PeerCountChanged(0)) == [LostAllPeers()]
        assert search.machine.state is State.WAITING
        waits.append(search.machine.next_wakeup() or 0.0)
        search.step(TimerFired(), after=search.wakes_in or 0.0)
        no_dns(search)
    assert waits == sorted(waits)


def test_a_retry_can_be_asked_for() -> None:
    search = Search(typed=[at(ALICE)])
    commands = search.step(Started())
    no_dns(search)
    fail_all(search, commands)
    search.step(TimerFired(), after=3.0)
    assert dialled(search.step(RetryRequested())) == [ALICE]
    assert search.step(RetryRequested()) == []


@pytest.mark.parametrize("joined", [True, False])
def test_who_is_told_to_look_again_does_not_take_an_answer_of_before(joined: bool) -> None:
    """An operator publishes, then sends SIGHUP: what was asked a moment before knows nothing of it."""
    search = Search(typed=[at(ALICE)])
    search.step(Started())
    if joined:
        search.step(DialSucceeded(ALICE, at(ALICE)))
    assert only(search.step(RetryRequested()), QueryDns) == []
    assert only(search.step(RetryRequested()), QueryDns) == []
    asked = only(search.step(DnsAnswered(DnsKind.BUNDLE, error="dns_nxdomain")), QueryDns)
    assert [query.kind for query in asked] == [DnsKind.BUNDLE]
    assert only(search.step(DnsAnswered(DnsKind.BUNDLE, (bundle().text,))), BundleTaken) != []
    assert only(search.step(DnsAnswered(DnsKind.BUNDLE, error="dns_nxdomain")), QueryDns) == []


def test_a_driver_that_never_answers_does_not_hold_the_search_up() -> None:
    search = Search(typed=[at(ALICE)])
    search.step(Started())
    commands: list[Command] = []
    for _ in range(60):
        if search.wakes_in is None or search.machine.state is State.WAITING:
            break
        commands += search.step(TimerFired(), after=max(search.wakes_in, 0.0))
    [failed] = only(commands, NoWayIn)
    assert {attempt.code for attempt in failed.report.attempts} == {"timeout"}
    assert search.now - 1_000.0 <= 13.0


def test_a_joined_node_asks_for_newer_bundles() -> None:
    search = Search(last=bundle(exp=UNIX + 80 * 86_400))
    search.step(Started())
    no_dns(search)
    search.step(DialSucceeded(ALICE, at(ALICE)))
    wait = search.wakes_in
    assert wait is not None
    assert 0.8 * 3_600 <= wait <= 3_600
    commands = search.step(TimerFired(), after=wait)
    assert len(only(commands, QueryDns)) == 3
    newer = bundle(entry(BOB), seq=UNIX + 3_000, exp=UNIX + 80 * 86_400)
    assert only(search.step(DnsAnswered(DnsKind.BUNDLE, (newer.text,))), BundleTaken) == [BundleTaken(newer)]


# --- what is remembered ---------------------------------------------------------------------------


def test_peers_met_through_an_entry_point_are_remembered_and_used() -> None:
    search = Search(last=bundle())
    search.step(Started())
    search.step(DialSucceeded(ALICE, at(ALICE)))
    search.step(PeerIdentified(BOB, (at(BOB, "198.51.100.7"),)))
    [save] = only(search.step(TimerFired(), after=5.0), SavePeerCache)
    cache = PeerCache.from_json(save.value, DOMAIN, search.unix_now)
    again = Search(last=bundle(), cache=cache)
    assert set(dialled(again.step(Started()) + again.step(TimerFired(), after=0.25))) == {ALICE, BOB}
    assert only(again.step(DialSucceeded(BOB, at(BOB, "198.51.100.7"))), Joined) == [
        Joined(BOB, Source.CACHE, lan_only=False)
    ]
    again.step(PeerIdentified(CAROL, (at(CAROL, "192.0.2.7"),)), after=86_400)
    carol = again.machine.cache.find(CAROL)
    assert carol is not None
    assert (carol.through, carol.met_at) == (ALICE, search.unix_now - 5)  # trust does not renew itself


def test_names_that_peers_call_themselves_are_not_remembered() -> None:
    """Cached addresses are dialled whatever their scope: a name could lead to 127.0.0.1 by the next start."""
    search = Search(last=bundle())
    search.step(Started())
    search.step(DialSucceeded(ALICE, at(ALICE)))
    named = Multiaddr.parse(f"/dns4/mallory.example/tcp/9370/p2p/{BOB}")
    search.step(PeerIdentified(BOB, (named, at(BOB, "198.51.100.7"))))
    bob = search.machine.cache.find(BOB)
    assert bob is not None
    assert bob.addresses == (at(BOB, "198.51.100.7"),)


def test_stopping_writes_what_is_not_written_yet() -> None:
    search = Search(last=bundle())
    search.step(Started())
    search.step(DialSucceeded(ALICE, at(ALICE)))
    search.step(PeerIdentified(BOB, (at(BOB, "198.51.100.7"),)))
    assert len(only(search.step(Stopped()), SavePeerCache)) == 1
    assert search.step(Stopped()) == []
    assert search.machine.next_wakeup() is None


# --- every pair -----------------------------------------------------------------------------------

SAMPLES: dict[type[Event], Event] = {
    Started: Started(),
    Stopped: Stopped(),
    TimerFired: TimerFired(),
    RetryRequested: RetryRequested(),
    DnsAnswered: DnsAnswered(DnsKind.SEED, (f"v=1 peer={at(ALICE)}",)),
    MdnsFound: MdnsFound(DAVE, (at(DAVE, "192.168.1.4"),)),
    DialSucceeded: DialSucceeded(ALICE, at(ALICE)),
    DialFailed: DialFailed(ALICE, at(ALICE), "timeout"),
    PeerConnected: PeerConnected(ALICE),
    PeerIdentified: PeerIdentified(BOB, (at(BOB),)),
    PeerDisconnected: PeerDisconnected(ALICE),
    PeerCountChanged: PeerCountChanged(0),
}


def idle() -> Search:
    return Search(typed=[at(ALICE)])


def searching() -> Search:
    search = idle()
    search.step(Started())
    return search


def waiting() -> Search:
    search = idle()
    commands = search.step(Started())
    no_dns(search)
    fail_all(search, commands)
    search.step(TimerFired(), after=3.0)
    return search


def lan_only() -> Search:
    search = waiting()
    search.step(MdnsFound(DAVE, (at(DAVE, "192.168.1.9"),)))
    search.step(DialSucceeded(DAVE, at(DAVE, "192.168.1.9")))
    return search


def joined() -> Search:
    search = searching()
    search.step(DialSucceeded(ALICE, at(ALICE)))
    return search


def stopped() -> Search:
    search = joined()
    search.step(Stopped())
    return search


STATES: dict[State, Callable[[], Search]] = {
    State.IDLE: idle,
    State.SEARCHING: searching,
    State.WAITING: waiting,
    State.LAN_ONLY: lan_only,
    State.JOINED: joined,
    State.STOPPED: stopped,
}


def test_the_samples_are_complete() -> None:
    assert set(SAMPLES) == set(EVENTS)
    assert set(STATES) == set(State)
    for state, make in STATES.items():
        assert make().machine.state is state


@pytest.mark.parametrize(("state", "kind"), list(product(State, EVENTS)))
def test_every_pair_moves_or_refuses(state: State, kind: type[Event]) -> None:
    search = STATES[state]()
    refused = (kind is Started and state is not State.IDLE) or (
        state is State.IDLE and kind not in (Started, Stopped)
    )
    before = search.machine.next_wakeup()
    if refused:
        with pytest.raises(LocalProtocolError):
            search.step(SAMPLES[kind])
        assert (search.machine.state, search.machine.next_wakeup()) == (state, before)
        return
    search.step(SAMPLES[kind], after=40.0)
    assert search.machine.state is state or (state, search.machine.state) in MOVES


def test_a_foreign_event_is_refused() -> None:
    class Surprised(Event):
        pass

    with pytest.raises(LocalProtocolError):
        searching().step(Surprised())


_PEERS = st.sampled_from([ALICE, BOB, CAROL, DAVE, MALLORY, ME])
_ADDRESSES = st.builds(at, _PEERS, st.sampled_from(["203.0.113.1", "192.168.1.4", "127.0.0.1"]))
_TEXTS = st.lists(
    st.one_of(
        st.just(bundle(entry(BOB)).text),
        st.builds(lambda a: f"v=1 peer={a}", _ADDRESSES),
        st.builds(lambda a: f"dnsaddr={a}", _ADDRESSES),
        st.text(max_size=40),
    ),
    max_size=4,
).map(tuple)
_EVENTS = st.one_of(
    st.sampled_from([Stopped(), TimerFired(), RetryRequested()]),
    st.builds(DnsAnswered, st.sampled_from(DnsKind), _TEXTS, st.sampled_from([None, "dns_timeout"])),
    st.builds(lambda a: MdnsFound(a.peer_id, (a,)), _ADDRESSES),
    st.builds(lambda a: DialSucceeded(a.peer_id, a), _ADDRESSES),
    st.builds(lambda a: DialFailed(a.peer_id, a, "timeout"), _ADDRESSES),
    st.builds(PeerConnected, _PEERS),
    st.builds(PeerDisconnected, _PEERS),
    st.builds(lambda a: PeerIdentified(a.peer_id, (a,)), _ADDRESSES),
    st.builds(PeerCountChanged, st.integers(0, 3)),
)


@given(st.booleans(), st.lists(st.tuples(_EVENTS, st.floats(0, 100)), max_size=40))
def test_no_story_breaks_the_rules(signed: bool, story: list[tuple[Event, float]]) -> None:
    search = Search(SIGNED if signed else UNSIGNED, typed=[at(ALICE)])
    search.step(Started())
    for event, after in story:
        before = search.machine.state
        commands = search.step(event, after=after)
        assert before is search.machine.state or (before, search.machine.state) in MOVES
        assert ME not in dialled(commands)
        for command in only(commands, Dial):
            assert 0 < command.timeout <= 10.0
            if signed and not search.machine.is_entry_point(command.peer_id, search.unix_now):
                # Somebody whom nobody vouches for is dialled only when mDNS found them here.
                assert command.address in search.machine.entry_points.lan_addresses(command.peer_id)
        if search.machine.state in (State.SEARCHING, State.WAITING, State.LAN_ONLY):
            assert search.machine.next_wakeup() is not None


def test_who_has_joined_asks_for_a_newer_list_when_told_to() -> None:
    search = Search()
    search.step(Started())
    search.step(DnsAnswered(DnsKind.BUNDLE, (bundle(entry(ALICE)).text,)))
    search.step(DialSucceeded(ALICE, at(ALICE)))
    for kind in (DnsKind.SEED, DnsKind.DNSADDR):
        search.step(DnsAnswered(kind, ()))
    asked = {command.kind for command in only(search.step(RetryRequested(), after=60), QueryDns)}
    assert asked == set(DnsKind)
    assert only(search.step(RetryRequested(), after=0.1), QueryDns) == []  # one question at a time
    newer = bundle(entry(ALICE), entry(BOB), seq=UNIX + 50)
    assert only(search.step(DnsAnswered(DnsKind.BUNDLE, (newer.text,))), BundleTaken) == [BundleTaken(newer)]
