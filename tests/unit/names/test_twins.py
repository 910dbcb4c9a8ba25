"""One identity on two machines: both notice, neither fights, and nobody else can make it look so."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.machine import Command, Event
from wws.names.events import (
    AddressesChanged,
    IdentityAlone,
    IdentityInUse,
    LookedUp,
    LookUp,
    MetOurselves,
    RetryScheduled,
    Start,
    Stored,
    StoreRecord,
    TimerFired,
)
from wws.names.peer_keeper import PeerRecordKeeper
from wws.names.peer_record import peer_key, select_peer, validate_peer
from wws.names.twins import Twins, TwinsConfig, in_use_warning, is_elsewhere
from wws.testing.names import ADDRESS, NOW, peer_record, person

ALICE = person("alice")
KEY = peer_key(ALICE.peer_id.did)
ELSEWHERE = Multiaddr.parse("/ip4/198.51.100.1/tcp/9000")
HOUR = 3_600


class Holders:
    """The DHT as both see it: the record that wins."""

    def __init__(self) -> None:
        self.value: bytes | None = None
        self.stores = 0

    def store(self, value: bytes, unix_now: int) -> None:
        self.stores += 1
        records = [validate_peer(KEY, value, unix_now)]
        if self.value is not None:
            records.append(validate_peer(KEY, self.value, unix_now))
        self.value = records[select_peer(records)].value


class Machine:
    """A keeper on a machine that was started at `start` and stands at one address."""

    def __init__(self, holders: Holders, address: Multiaddr, *, start: int, seed: int = 1) -> None:
        self.holders = holders
        self.start = start
        self.keeper = PeerRecordKeeper(ALICE, rng=Random(seed), addresses=(address,))
        self.reports: list[Command] = []
        self.tell(Start(), start)

    def tell(self, event: Event, unix_now: int) -> None:
        now = float(unix_now - self.start)
        for command in self.keeper.handle(event, now, unix_now):
            match command:
                case StoreRecord(value=value):
                    self.holders.store(value, unix_now)
                    self.tell(Stored(8), unix_now)
                case LookUp():
                    self.tell(LookedUp(self.holders.value), unix_now)
                case RetryScheduled():
                    raise AssertionError("nothing fails here")
                case _:
                    self.reports.append(command)

    def live(self, since: int, until: int) -> None:
        for unix_now in range(since, until, 60):
            self.tell(TimerFired(), unix_now)


def live_together(one: Machine, other: Machine, since: int, until: int) -> None:
    for unix_now in range(since, until, 60):
        one.tell(TimerFired(), unix_now)
        other.tell(TimerFired(), unix_now)


def test_both_notice_once_and_neither_outbids_the_other() -> None:
    holders = Holders()
    laptop = Machine(holders, ADDRESS, start=NOW)
    laptop.live(NOW, NOW + 5 * HOUR)
    stores = holders.stores
    server = Machine(holders, ELSEWHERE, start=NOW + 5 * HOUR, seed=2)
    live_together(laptop, server, NOW + 5 * HOUR, NOW + 10 * HOUR)
    assert laptop.reports == [IdentityInUse((ELSEWHERE.with_peer(ALICE.peer_id),))]
    days = 3
    live_together(laptop, server, NOW + 10 * HOUR, NOW + days * 24 * HOUR)
    assert server.reports == [IdentityInUse((ADDRESS.with_peer(ALICE.peer_id),))]
    assert len(laptop.reports) == 1
    # Each renews as it would alone, three to four times a day.
    assert holders.stores - stores <= 2 * 4 * days
    for machine in (laptop, server):
        record = machine.keeper.record
        assert record is not None
        assert record.seq <= NOW + days * 24 * HOUR


def test_when_the_other_has_gone_the_warning_goes_too() -> None:
    holders = Holders()
    laptop = Machine(holders, ADDRESS, start=NOW)
    server = Machine(holders, ELSEWHERE, start=NOW + HOUR, seed=2)
    live_together(laptop, server, NOW + HOUR, NOW + 4 * HOUR)
    assert laptop.keeper.twins.is_in_use
    laptop.live(NOW + 4 * HOUR, NOW + 40 * HOUR)
    assert laptop.reports[1:] == [IdentityAlone()]
    assert holders.value == (laptop.keeper.record and laptop.keeper.record.value)


def test_our_own_past_is_no_twin_however_often_it_is_replayed() -> None:
    holders = Holders()
    before = Machine(holders, ELSEWHERE, start=NOW)
    before.live(NOW, NOW + 9 * HOUR)
    old = holders.value
    assert old is not None
    after = Machine(holders, ADDRESS, start=NOW + 9 * HOUR + 300)
    for hour in range(10, 20):
        holders.value = old
        after.live(NOW + hour * HOUR, NOW + (hour + 1) * HOUR)
    assert after.reports == []
    assert holders.value != old


def test_a_replay_of_what_we_signed_in_this_run_is_no_twin() -> None:
    holders = Holders()
    machine = Machine(holders, ADDRESS, start=NOW)
    first = holders.value
    machine.tell(AddressesChanged((ELSEWHERE,)), NOW + 120)
    machine.live(NOW + 120, NOW + HOUR // 2)
    assert holders.value != first
    holders.value = first
    machine.live(NOW + HOUR // 2, NOW + 5 * HOUR)
    assert machine.reports == []


def test_a_machine_set_back_to_a_snapshot_meets_its_own_records() -> None:
    holders = Holders()
    later = Machine(holders, ADDRESS, start=NOW)
    holders.store(peer_record("alice", issued_at=NOW + 2_000).value, NOW + 2_000)
    later.live(NOW + 2_060, NOW + 5 * HOUR)
    assert later.reports == []


def test_a_clock_that_was_wrong_at_the_start_makes_no_twin() -> None:
    """Started in 1970, the time came over the network: what the run before had signed is still the past."""
    twins = Twins()
    twins.started(now=10.0)
    past = peer_record("alice", issued_at=NOW - 100, addresses=(ELSEWHERE,))
    assert not twins.is_foreign(past, now=70.0, unix_now=NOW)
    assert twins.is_foreign(
        peer_record("alice", issued_at=NOW + 100, addresses=(ELSEWHERE,)), 270.0, NOW + 200
    )


def test_ourselves_met_on_a_connection() -> None:
    machine = PeerRecordKeeper(ALICE, rng=Random(1))
    assert machine.handle(MetOurselves((ELSEWHERE,)), 0, NOW) == [IdentityInUse((ELSEWHERE,))]
    assert machine.handle(MetOurselves((ELSEWHERE,)), 5, NOW + 5) == []


@pytest.mark.parametrize(
    "remote, elsewhere",
    [
        ("/ip4/198.51.100.1/tcp/40000", True),
        ("/ip6/2001:db8:ffff::1/tcp/40000", True),
        ("/ip4/203.0.113.7/tcp/40000", False),
        ("/ip4/203.0.113.8/tcp/40000", False),
        ("/ip6/2001:db8::abcd/udp/40000/quic-v1", False),
        ("/ip4/127.0.0.1/tcp/40000", False),
        ("/ip4/192.168.0.1/tcp/40000", False),
        (f"/ip4/198.51.100.1/tcp/9000/p2p/{person('bob').peer_id}/p2p-circuit", False),
    ],
)
def test_who_dials_himself_is_no_twin(remote: str, elsewhere: bool) -> None:
    own = [ADDRESS, Multiaddr.parse("/ip6/2001:db8::1/tcp/9000"), Multiaddr.parse("/dns4/a.example/tcp/9000")]
    assert is_elsewhere(Multiaddr.parse(remote), own) is elsewhere


def test_the_warning_says_where_and_what_to_do() -> None:
    warning = in_use_warning((ELSEWHERE.with_peer(ALICE.peer_id),))
    assert str(ELSEWHERE) in warning
    assert "wws id new" in warning
    assert in_use_warning(())


def test_what_is_remembered_is_bounded() -> None:
    twins = Twins(TwinsConfig(signed_remembered=3, places_remembered=3))
    twins.started(0)
    records = [peer_record("alice", issued_at=NOW + 100 + n, addresses=(ELSEWHERE,)) for n in range(4)]
    for record in records:
        twins.signed(record)
    assert [twins.is_foreign(record, 200, NOW + 200) for record in records] == [True, False, False, False]


@given(st.integers(-100_000, 100_000), st.integers(0, 100_000), st.booleans())
def test_only_what_was_issued_since_the_start_elsewhere_counts(issued: int, age: int, ours: bool) -> None:
    twins = Twins()
    twins.started(5.0)
    if ours:
        twins.announced(tuple(a.with_peer(ALICE.peer_id) for a in (ADDRESS,)))
    record = peer_record("alice", issued_at=NOW + issued)
    foreign = twins.is_foreign(record, 5.0 + age, NOW + age)
    assert foreign is (issued > 60 and not ours)
    twins.signed(record)
    assert not twins.is_foreign(record, 5.0 + age, NOW + age)
