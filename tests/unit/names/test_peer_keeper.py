"""The node's own peer record: kept published (wire.md section 4a)."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.machine import Command, Event
from wws.names.events import (
    AddressesChanged,
    Claim,
    LookedUp,
    LookUp,
    LookUpFailed,
    RetryScheduled,
    Start,
    Stored,
    StoreFailed,
    StoreRecord,
    TimerFired,
)
from wws.names.peer_keeper import ACCEPTED, PeerRecordKeeper, State
from wws.names.peer_record import PeerRecord, peer_key, validate_peer
from wws.testing.names import ADDRESS, NOW, peer_record, person

KEY = peer_key(person("alice").peer_id.did)
NEW_ADDRESS = Multiaddr.parse("/ip4/198.51.100.1/tcp/9000")


def keeper() -> PeerRecordKeeper:
    return PeerRecordKeeper(person("alice"), rng=Random(7), addresses=(ADDRESS,))


def stored(commands: list[Command], unix_now: int = NOW) -> PeerRecord:
    [store] = commands
    assert isinstance(store, StoreRecord)
    return validate_peer(KEY, store.value, unix_now)


def published() -> tuple[PeerRecordKeeper, PeerRecord]:
    machine = keeper()
    record = stored(machine.handle(Start(), 0, NOW))
    assert machine.handle(Stored(8), 0, NOW) == []
    return machine, record


def test_publishes_and_renews_at_a_third_of_its_life() -> None:
    machine, record = published()
    assert record.addresses == (ADDRESS.with_peer(person("alice").peer_id),)
    assert record.expires_at == NOW + 86_400
    now, looks = 0.0, 0
    while (wakeup := machine.next_wakeup()) is not None:
        now = wakeup
        commands = machine.handle(TimerFired(), now, NOW + int(now))
        if commands == [LookUp(KEY)]:
            looks += 1
            machine.handle(LookedUp(record.value), now, NOW + int(now))
        elif commands:
            break
    assert 0.9 * 28_800 <= now <= 1.1 * 28_800 + 60
    assert 6 <= looks <= 9
    assert stored(commands, NOW + int(now)).seq == NOW + int(now)


def test_new_addresses() -> None:
    machine, _ = published()
    both = (ADDRESS, NEW_ADDRESS)
    assert machine.handle(AddressesChanged(both), 3, NOW + 3) == []
    assert machine.next_wakeup() == 10
    record = stored(machine.handle(TimerFired(), 10, NOW + 10))
    assert record.addresses == tuple(one.with_peer(person("alice").peer_id) for one in both)


def test_who_is_at_none_of_the_old_addresses_says_so_soon() -> None:
    machine, _ = published()
    assert machine.handle(AddressesChanged((NEW_ADDRESS,)), 3, NOW + 3) == []
    assert machine.next_wakeup() == 3
    record = stored(machine.handle(TimerFired(), 3, NOW + 3))
    assert record.addresses == (NEW_ADDRESS.with_peer(person("alice").peer_id),)


def test_a_failure_is_tried_again_and_takes_new_addresses_along() -> None:
    machine = keeper()
    record = stored(machine.handle(Start(), 0, NOW))
    [retry] = machine.handle(StoreFailed("nobody"), 1, NOW)
    assert isinstance(retry, RetryScheduled)
    assert machine.handle(TimerFired(), 2, NOW) == []
    assert machine.handle(TimerFired(), 7, NOW) == [StoreRecord(KEY, record.value)]
    machine.handle(StoreFailed(), 8, NOW)
    machine.handle(AddressesChanged((NEW_ADDRESS,)), 9, NOW + 9)
    assert stored(machine.handle(TimerFired(), 30, NOW + 30)).addresses != record.addresses


def test_asleep_for_days() -> None:
    machine, _ = published()
    assert stored(machine.handle(TimerFired(), 60, NOW + 10**6), NOW + 10**6).issued_at == NOW + 10**6


def test_a_clock_that_was_set_back() -> None:
    machine, record = published()
    assert stored(machine.handle(TimerFired(), 60, NOW - 4_000), NOW - 4_000).seq == record.seq + 1


@pytest.mark.parametrize(
    "found, again",
    [
        (None, "same"),
        (peer_record("alice", issued_at=NOW - 60).value, "same"),
        (b"garbage", "same"),
        (peer_record("alice", seq=NOW + 7_000).value, "higher"),
    ],
)
def test_what_the_hourly_look_finds(found: bytes | None, again: str) -> None:
    machine, record = published()
    assert machine.handle(TimerFired(), 4_000, NOW + 4_000) == [LookUp(KEY)]
    after = stored(machine.handle(LookedUp(found), 4_001, NOW + 4_001), NOW + 4_001)
    assert after == record if again == "same" else after.seq == NOW + 7_001


def test_a_record_that_lapsed_during_the_look_is_not_stored_again() -> None:
    machine, _ = published()
    machine.handle(TimerFired(), 4_000, NOW + 4_000)
    unix_now = NOW + 90_000
    assert stored(machine.handle(LookedUp(None), 4_001, unix_now), unix_now).issued_at == unix_now


def test_a_look_that_nobody_answers() -> None:
    machine, _ = published()
    machine.handle(TimerFired(), 4_000, NOW + 4_000)
    assert machine.handle(LookUpFailed(), 4_001, NOW + 4_001) == []
    assert machine.state is State.PUBLISHED


def in_state(state: State) -> PeerRecordKeeper:
    machine = keeper()
    if state is not State.IDLE:
        machine.handle(Start(), 0, NOW)
    if state is State.WAITING:
        machine.handle(StoreFailed(), 0, NOW)
    if state in (State.PUBLISHED, State.CHECKING):
        machine.handle(Stored(1), 0, NOW)
    if state is State.CHECKING:
        machine.handle(TimerFired(), 4_000, NOW + 4_000)
    assert machine.state is state
    return machine


EVENTS: list[Event] = [
    Start(),
    AddressesChanged((NEW_ADDRESS,)),
    TimerFired(),
    Stored(1),
    StoreFailed(),
    LookedUp(None),
    LookUpFailed(),
    Claim(),
]


@pytest.mark.parametrize(
    "state, event",
    list(product(State, EVENTS)),
    ids=lambda x: x.name if isinstance(x, State) else type(x).__name__,
)
def test_every_pair_moves_or_refuses(state: State, event: Event) -> None:
    machine = in_state(state)
    before = vars(machine).copy()
    if state in ACCEPTED.get(type(event), ()):
        commands = machine.handle(event, 4_050, NOW + 4_050)
        check(machine, commands)
    else:
        with pytest.raises(LocalProtocolError):
            machine.handle(event, 4_050, NOW + 4_050)
        assert vars(machine) == before


def check(machine: PeerRecordKeeper, commands: list[Command]) -> None:
    assert sum(isinstance(command, LookUp | StoreRecord) for command in commands) <= 1
    assert (machine.next_wakeup() is not None) is (machine.state in (State.PUBLISHED, State.WAITING))


@given(
    st.lists(
        st.tuples(st.sampled_from(EVENTS), st.sampled_from([0, 1, 61, 5_000, 90_000, -9_000])), max_size=40
    )
)
def test_any_life(steps: list[tuple[Event, int]]) -> None:
    machine = keeper()
    now, unix_now, seq = 0.0, NOW, 0
    for event, jump in steps:
        now, unix_now = now + max(0, jump), unix_now + jump
        if machine.state not in ACCEPTED.get(type(event), ()):
            event = TimerFired()
        commands = machine.handle(event, now, unix_now)
        check(machine, commands)
        for command in commands:
            if isinstance(command, StoreRecord):
                record = validate_peer(KEY, command.value, unix_now)
                assert record.seq >= seq
                seq = record.seq
