"""Clocks that jump by a day, forwards or back: nothing that lives is lost, and all comes right again.

Holders keep a name for its grace and ten minutes, which is longer than a day: a holder whose clock is a day
ahead still keeps what lives. A day behind it takes nothing new, and keeps what it has. Owners notice that
their records lie in the future, or are old, and sign anew when their clock is right again.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

import pytest

from tests.unit.names.test_proofs_select import SETS, random_record
from wws.dht.store import BadRecord, ExpiredRecord, Outcome, RecordStore
from wws.machine import Command, Event
from wws.names.errors import RecordRefused
from wws.names.events import (
    Claim,
    LookedUp,
    LookUp,
    NameHeld,
    NameLost,
    ProofSolved,
    SolveProofOfWork,
    Start,
    Stored,
    StoreFailed,
    StoreRecord,
    TimerFired,
)
from wws.names.kinds import NameRecords, PeerRecords
from wws.names.lease import Lease
from wws.names.peer_keeper import PeerRecordKeeper
from wws.names.pins import Pins, Verdict
from wws.names.record import NameRecord, name_key
from wws.names.select import select
from wws.testing.names import NOW, name_record, peer_record, person, solved_work
from wws.testing.scale import scale

DAY = 86_400
JUMPS = [DAY, -DAY]
KEY = name_key("alice").encode()


def store() -> RecordStore:
    kinds = {"/wws/names/": NameRecords(), "/wws/peers/": PeerRecords()}
    return RecordStore(person("holder").peer_id, kinds)


# Holders


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("age", [0, DAY // 2, DAY - 1])
def test_a_holder_loses_no_live_name(jump: int, age: int) -> None:
    holder, sender = store(), person("bob").peer_id
    record = name_record("alice")
    assert holder.offer(KEY, record.value, sender, NOW) is Outcome.STORED
    holder.expire(NOW + age + jump)
    assert holder.find(KEY, NOW + age + jump) == record.value
    assert holder.find(KEY, NOW + age) == record.value


def test_a_holder_a_day_behind_takes_nothing_new_and_keeps_what_it_has() -> None:
    holder, sender = store(), person("bob").peer_id
    old, new = name_record("alice"), name_record("alice", issued_at=NOW + 60)
    holder.offer(KEY, old.value, sender, NOW)
    with pytest.raises(BadRecord):
        holder.offer(KEY, new.value, sender, NOW + 60 - DAY)
    assert holder.offer(KEY, old.value, sender, NOW - DAY) is Outcome.HELD
    assert holder.find(KEY, NOW) == old.value
    assert holder.offer(KEY, new.value, sender, NOW + 60) is Outcome.STORED


def test_a_holder_a_day_ahead_lets_a_rival_in_only_when_the_name_is_dead_there() -> None:
    """A live record is a day from its death at least: the first owner wins on every clock within a day."""
    holder, sender = store(), person("bob").peer_id
    mine = name_record("alice")
    holder.offer(KEY, mine.value, sender, NOW)
    rival = name_record("bob", registered_at=NOW + DAY, issued_at=NOW + DAY)
    assert holder.offer(KEY, rival.value, sender, NOW + 2 * DAY - 1) is Outcome.LOST
    assert holder.find(KEY, NOW + DAY) == mine.value


@pytest.mark.parametrize("jump", JUMPS)
def test_a_peer_record_that_a_jump_drops_is_taken_again(jump: int) -> None:
    """It has no grace; its owner republishes it within the hour, and nobody else can write there."""
    holder, sender = store(), person("alice").peer_id
    record = peer_record("alice")
    key = record.key.encode()
    holder.offer(key, record.value, sender, NOW)
    holder.expire(NOW + 300 + jump)
    assert (holder.find(key, NOW + 1) is None) is (jump > 0)
    if jump > 0:
        with pytest.raises((BadRecord, ExpiredRecord)):
            holder.offer(key, record.value, sender, NOW + 300 + jump)
    holder.offer(key, record.value, sender, NOW + 1)
    assert holder.find(key, NOW + 1) == record.value


def test_a_store_is_consistent_whatever_its_clock_does() -> None:
    rng = random.Random(8)
    people = ["alice", "bob", "carol"]
    records = [
        name_record(
            rng.choice(people), registered_at=NOW + at, issued_at=NOW + at, lifetime=life, addresses=()
        )
        for at in range(0, 4 * DAY, 7_000)
        for life in (600, DAY)
    ]
    holder, now = store(), NOW
    for _ in range(scale(20_000, least=500)):
        now += rng.choice([0, 1, 600, 3_600, *JUMPS])
        record = rng.choice(records)
        try:
            outcome = holder.offer(KEY, record.value, record.peer_id, now)
        except (BadRecord, ExpiredRecord):
            assert record.issued_at > now + 300 or record.expires_at + 87_000 <= now
        else:
            found = holder.find(KEY, now)
            assert found is not None
            assert outcome is Outcome.LOST or found == record.value
        holder.expire(now)
        assert len(holder) <= 1
        assert holder.bytes_held == sum(held.size for held in holder)


# Select


@pytest.mark.timeout(900)
def test_holders_a_day_apart_agree_about_live_records() -> None:
    """What is not dead within a day of now is ranked without the clock."""
    rng = random.Random(9)
    for _ in range(scale(20_000, least=500)):
        records = [random_record(rng) for _ in range(rng.randint(2, 5))]
        now = min(record.expires_at for record in records) - 1
        sets = rng.choice(SETS), rng.choice(SETS)
        chosen = {records[select(records, now + jump, *sets)].value for jump in (0, *JUMPS)}
        assert len(chosen) == 1


def test_a_day_behind_the_dead_win_and_lose_again_when_the_clock_is_right() -> None:
    dead = name_record("alice", lifetime=60)
    living = name_record("bob", registered_at=NOW + 60 + DAY, issued_at=NOW + 60 + DAY)
    now = NOW + 60 + DAY + 10
    assert select([dead, living], now - DAY, frozenset()) == 0
    assert select([dead, living], now, frozenset()) == 1


# Pins


@pytest.mark.parametrize("jump", JUMPS)
def test_a_pin_does_not_move_with_the_clock(jump: int) -> None:
    pins = Pins()
    assert pins.observe("", name_record("alice"), NOW) is Verdict.NEW
    for now in (NOW + jump, NOW):
        assert pins.observe("", name_record("bob"), now) is Verdict.CHANGED
        assert pins.observe("", name_record("alice"), now) is Verdict.KNOWN


# Owners


@dataclass
class World:
    """One owner, one holder whose clock is right, and the owner's clock, which jumps."""

    machine: Lease | PeerRecordKeeper
    kind: NameRecords | PeerRecords
    key: str
    rng: random.Random
    skew: int = 0
    value: bytes | None = None
    """What the holder has."""
    stored: list[float] = field(default_factory=list)
    """When something was offered to the holder."""
    reports: list[Command] = field(default_factory=list)
    _queue: list[tuple[float, int, Event]] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def at(self, when: float, event: Event) -> None:
        heapq.heappush(self._queue, (when, next(self._count), event))

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            now, _, event = heapq.heappop(self._queue)
            wakeup = self.machine.next_wakeup()
            if isinstance(event, TimerFired) and (wakeup is None or wakeup > now):
                continue
            for command in self.machine.handle(event, now, NOW + int(now) + self.skew):
                self._carry_out(command, now)
            wakeup = self.machine.next_wakeup()
            if wakeup is not None:
                self.at(max(wakeup, now + 0.001), TimerFired())

    def is_good(self, now: float) -> bool:
        """Whether the holder has a record of the owner that lives."""
        unix_now = NOW + int(now)
        if self.value is None:
            return False
        try:
            record = self.kind.read(self.key, self.value, unix_now)
        except RecordRefused:
            return False
        return record.peer_id == person("alice").peer_id and unix_now < record.expires_at

    def _carry_out(self, command: Command, now: float) -> None:
        unix_now = NOW + int(now)  # the holder's
        later = now + self.rng.uniform(0.01, 2)
        match command:
            case LookUp():
                self.at(later, LookedUp(self.value))
            case StoreRecord(value=value):
                self.stored.append(now)
                try:
                    self.kind.validate(self.key, value, unix_now)
                except RecordRefused as refusal:
                    self.at(later, StoreFailed(refusal.code))
                    return
                held = [] if self.value is None else [self.value]
                values = [*held, value]
                self.value = values[self.kind.select(self.key, values, unix_now)]
                self.at(later, Stored(1))
            case SolveProofOfWork():
                self.at(later, ProofSolved(solved_work("alice")))
            case _:
                self.reports.append(command)


HOUR = 3_600.0


def a_lease(seed: int) -> World:
    kind = NameRecords()
    lease = Lease(person("alice"), "alice", "public", kind=kind, rng=random.Random(seed))
    world = World(lease, kind, lease.key, random.Random(f"{seed} world"))
    world.at(0.0, Claim())
    return world


def a_keeper(seed: int) -> World:
    keeper = PeerRecordKeeper(person("alice"), rng=random.Random(seed))
    world = World(keeper, PeerRecords(), keeper.key, random.Random(f"{seed} world"))
    world.at(0.0, Start())
    return world


@pytest.mark.parametrize("make", [a_lease, a_keeper])
@pytest.mark.parametrize("jump", JUMPS)
def test_an_owner_whose_clock_jumps_and_is_set_right(make: type, jump: int) -> None:
    """The jump lasts ten hours. An hour after it all is as it was, and the name was alice's throughout.

    A day ahead, holders refuse what is signed, and go on with what they have. A day behind, the owner cannot
    know that its clock was right before, and signs what is over at once: its name is stale (and its DID does
    not resolve) until the clock is right, but nobody else can have it.
    """
    world = make(1)
    world.run(2 * HOUR)
    assert world.is_good(2 * HOUR)
    world.skew = jump
    world.run(12 * HOUR)
    assert world.is_good(12 * HOUR) is (jump > 0)
    if make is a_lease:
        assert world.value is not None
        held = NameRecord.parse(world.value)
        assert held.peer_id == person("alice").peer_id
        assert not held.is_dead(NOW + int(12 * HOUR))
    world.skew = 0
    world.run(13 * HOUR)
    assert world.is_good(13 * HOUR)
    published = len(world.stored)
    world.run(16 * HOUR)
    assert world.is_good(16 * HOUR)
    assert len(world.stored) - published <= 4, "and quiet again"
    assert not any(isinstance(report, NameLost) for report in world.reports)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("make", [a_lease, a_keeper])
def test_an_owner_whose_clock_jumps_all_the_time(make: type) -> None:
    """Jumps of a day at random moments for ten days, then a right clock: within two hours all is well.

    Meanwhile nothing raises, and nobody is flooded with records.
    """
    for seed in range(scale(50, least=3)):
        world = make(seed)
        now = 0.0
        while now < 240 * HOUR:
            now += world.rng.choice([1.0, 60.0, HOUR, 8 * HOUR, 30 * HOUR])
            world.run(now)
            world.skew = world.rng.choice([0, *JUMPS])
        world.skew = 0
        world.run(now + 2 * HOUR)
        assert world.is_good(now + 2 * HOUR), f"seed {seed}"
        longest = max(sum(1 for at in world.stored if start <= at < start + HOUR) for start in world.stored)
        assert longest <= 60, f"seed {seed}: {longest} records an hour"
        if make is a_lease:
            assert isinstance(world.machine, Lease)
            assert world.machine.is_held
            assert any(isinstance(report, NameHeld) for report in world.reports)
