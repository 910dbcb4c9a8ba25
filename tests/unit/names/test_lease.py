"""The lease of one name, as conversations; then every state with every event."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.identity.proof_of_work import LEAST_BITS
from wws.machine import Command, Event
from wws.names.errors import TransferImpossible
from wws.names.events import (
    Accept,
    AddressesChanged,
    AskWitnesses,
    Claim,
    LookedUp,
    LookUp,
    LookUpFailed,
    NameHeld,
    NameLost,
    NameReleased,
    NameTaken,
    ProofSolved,
    Release,
    Renew,
    RetryScheduled,
    SaveState,
    SolveProofOfWork,
    Stored,
    StoreFailed,
    StoreRecord,
    TimerFired,
    Transfer,
    TransferSigned,
    WitnessesAnswered,
    WitnessesChanged,
)
from wws.names.kinds import NameRecords, Witnesses
from wws.names.lease import ACCEPTED, Lease, State
from wws.names.lease_state import LeaseState
from wws.names.lease_table import UNDER_WAY
from wws.names.record import GRACE, NameRecord, name_key, validate
from wws.names.select import select
from wws.names.state import StateUnreadable
from wws.testing.names import ADDRESS, NOW, name_record, person, solved_work, transfer

KEY = name_key("alice")
DAY = 86_400
NEW_ADDRESS = Multiaddr.parse("/ip4/198.51.100.1/tcp/9000")


def lease_of(
    owner: str = "alice", state: LeaseState | None = None, witnesses: Witnesses | None = None
) -> Lease:
    return Lease(
        person(owner),
        "alice",
        "public",
        kind=NameRecords(witnesses),
        rng=Random(7),
        state=state,
        addresses=(ADDRESS,),
        witnesses=witnesses,
    )


def stored(commands: list[Command]) -> NameRecord:
    """The record that is to be stored; it is valid, and the state was saved before."""
    [record] = [command.value for command in commands if isinstance(command, StoreRecord)]
    return NameRecord.parse(record)


def claimed(
    owner: str = "alice", unix_now: int = NOW, witnesses: Witnesses | None = None
) -> tuple[Lease, NameRecord]:
    """A lease that has just been confirmed, at monotonic time 0."""
    lease = lease_of(owner, witnesses=witnesses)
    lease.handle(Claim(), 0, unix_now)
    lease.handle(LookedUp(None), 0, unix_now)
    record = stored(lease.handle(ProofSolved(solved_work(owner)), 0, unix_now))
    lease.handle(Stored(8), 0, unix_now)
    [held] = lease.handle(LookedUp(record.value), 0, unix_now)
    assert held == NameHeld(record.expires_at, witnessed=False)
    return lease, record


def test_a_claim() -> None:
    lease = lease_of()
    assert lease.handle(Claim(), 0, NOW) == [LookUp(KEY)]
    did = person("alice").peer_id.did
    assert lease.handle(LookedUp(None), 1, NOW + 1) == [
        SolveProofOfWork("name:public:alice", did, LEAST_BITS)
    ]
    save, store = lease.handle(ProofSolved(solved_work("alice")), 2, NOW + 2)
    record = validate(KEY, stored([store]).value, NOW + 2)
    assert save == SaveState(LeaseState.of(record))
    assert (record.registered_at, record.issued_at, record.seq) == (NOW + 1, NOW + 2, NOW + 2)
    assert record.expires_at == NOW + 2 + DAY
    assert not lease.is_held
    assert lease.handle(Stored(8), 3, NOW + 3) == [LookUp(KEY)]
    assert lease.handle(LookedUp(record.value), 4, NOW + 4) == [NameHeld(record.expires_at, witnessed=False)]
    assert lease.is_held
    assert lease.expires_at == record.expires_at


def test_a_taken_name_is_not_claimed() -> None:
    theirs = name_record("bob")
    lease = lease_of()
    lease.handle(Claim(), 0, NOW)
    assert lease.handle(LookedUp(theirs.value), 1, NOW) == [
        SaveState(None),
        NameTaken(person("bob").peer_id, theirs.expires_at, theirs.dead_at, released=False),
    ]
    assert lease.next_wakeup() is None
    assert lease.handle(Claim(), 2, NOW + 5) == [LookUp(KEY)]


def test_a_name_in_grace_or_released_is_not_free_and_a_dead_one_is() -> None:
    released = name_record("bob", released=True)
    for theirs, unix_now in ((name_record("bob"), NOW + DAY + GRACE - 1), (released, NOW)):
        lease = lease_of()
        lease.handle(Claim(), 0, unix_now)
        [_, taken] = lease.handle(LookedUp(theirs.value), 1, unix_now)
        assert taken == NameTaken(theirs.peer_id, theirs.expires_at, theirs.dead_at, theirs.released)
    lease = lease_of()
    lease.handle(Claim(), 0, NOW + DAY + GRACE)
    [solve] = lease.handle(LookedUp(released.value), 1, NOW + DAY + GRACE)
    assert isinstance(solve, SolveProofOfWork)


def test_two_honest_claimants_converge_on_the_first() -> None:
    """Both saw a free name; bob asked a second later; the holders keep what Select says."""
    alice, bob = lease_of("alice"), lease_of("bob")
    records = {}
    for who, lease, start in (("alice", alice, NOW), ("bob", bob, NOW + 1)):
        lease.handle(Claim(), 0, start)
        lease.handle(LookedUp(None), 1, start)
        records[who] = stored(lease.handle(ProofSolved(solved_work(who)), 2, start + 2))
        lease.handle(Stored(8), 3, start + 3)
    both = list(records.values())
    winner = both[select(both, NOW + 4, frozenset())]
    assert winner == records["alice"]
    [held] = alice.handle(LookedUp(winner.value), 4, NOW + 4)
    [forget, lost] = bob.handle(LookedUp(winner.value), 4, NOW + 4)
    assert isinstance(held, NameHeld)
    assert (forget, lost) == (SaveState(None), NameLost(person("alice").peer_id, winner.expires_at))
    assert not bob.is_held


def test_a_rival_that_was_on_its_way_is_noticed_after_half_a_minute() -> None:
    lease, _ = claimed(unix_now=NOW + 5)
    wakeup = lease.next_wakeup()
    assert wakeup is not None
    assert 27 <= wakeup <= 33
    assert lease.handle(TimerFired(), wakeup, NOW + 38) == [LookUp(KEY)]
    [_, lost] = lease.handle(LookedUp(name_record("bob").value), wakeup, NOW + 38)
    assert lost == NameLost(person("bob").peer_id, NOW + DAY)


def drive(lease: Lease, until: float, unix_at_zero: int = NOW) -> list[tuple[float, Command]]:
    """Let time pass over a healthy DHT, in which nobody else wants the name."""
    said: list[tuple[float, Command]] = []
    value = lease.record.value if lease.record else None
    while (wakeup := lease.next_wakeup()) is not None and wakeup <= until:
        queue: list[Event] = [TimerFired()]
        while queue:
            for command in lease.handle(queue.pop(0), wakeup, unix_at_zero + int(wakeup)):
                said.append((wakeup, command))
                if isinstance(command, LookUp):
                    queue.append(LookedUp(value))
                elif isinstance(command, StoreRecord):
                    value = command.value
                    queue.append(Stored(8))
    return said


def test_renews_at_a_third_of_its_life_and_looks_every_hour() -> None:
    lease, first = claimed()
    said = drive(lease, 3 * DAY)
    renewals = [(when, stored([command])) for when, command in said if isinstance(command, StoreRecord)]
    assert 8 <= len(renewals) <= 10
    assert 0.9 * DAY / 3 <= renewals[0][0] <= 1.1 * DAY / 3 + 60
    for (_, before), (_, after) in zip([(0.0, first), *renewals], renewals, strict=False):
        assert after.registered_at == first.registered_at
        assert after.seq > before.seq
        assert after.issued_at < before.issued_at + 0.4 * DAY
    looks = [when for when, command in said if isinstance(command, LookUp)]
    assert 60 <= len(looks) <= 90
    assert sum(isinstance(command, NameHeld) for _, command in said) == len(renewals)


@pytest.mark.parametrize("hours", [20, 30, 47])
def test_asleep_for_hours_keeps_the_name(hours: int) -> None:
    """The monotonic clock stood still: within a minute of it the wall clock tells."""
    lease, first = claimed()
    wakeup = lease.next_wakeup()
    assert wakeup is not None
    assert wakeup <= 60
    unix_now = NOW + hours * 3_600
    renewed = stored(lease.handle(TimerFired(), wakeup, unix_now))
    assert (renewed.registered_at, renewed.issued_at) == (first.registered_at, unix_now)


def test_asleep_until_dead_claims_anew() -> None:
    lease, first = claimed()
    assert lease.handle(TimerFired(), 30, NOW + DAY + GRACE) == [LookUp(KEY)]
    assert not lease.is_held
    again = stored(lease.handle(LookedUp(first.value), 31, NOW + DAY + GRACE))
    assert again.registered_at == NOW + DAY + GRACE
    assert again.seq > first.seq


def test_a_clock_that_was_set_back() -> None:
    lease, first = claimed(unix_now=NOW + 10_000)
    assert lease.handle(TimerFired(), 20, NOW + 9_900) == []
    renewed = stored(lease.handle(TimerFired(), 21, NOW))
    assert (renewed.registered_at, renewed.issued_at, renewed.seq) == (NOW, NOW, first.seq + 1)


def test_new_addresses_are_published_but_not_at_any_rate() -> None:
    lease, _ = claimed()
    assert lease.handle(AddressesChanged((ADDRESS, ADDRESS)), 1, NOW + 1) == []
    assert lease.handle(AddressesChanged((ADDRESS, NEW_ADDRESS)), 2, NOW + 2) == []
    assert lease.next_wakeup() == 10
    assert lease.handle(TimerFired(), 9, NOW + 9) == []
    moved = stored(lease.handle(TimerFired(), 10, NOW + 10))
    assert moved.addresses == tuple(one.with_peer(person("alice").peer_id) for one in (ADDRESS, NEW_ADDRESS))
    lease.handle(AddressesChanged((ADDRESS,)), 11, NOW + 11)
    lease.handle(Stored(8), 12, NOW + 12)
    lease.handle(LookedUp(moved.value), 13, NOW + 13)
    assert lease.next_wakeup() == 20
    assert stored(lease.handle(TimerFired(), 20, NOW + 20)).addresses == (
        ADDRESS.with_peer(person("alice").peer_id),
    )


def test_who_is_at_none_of_the_old_addresses_says_so_soon() -> None:
    lease, _ = claimed()
    assert lease.handle(AddressesChanged((NEW_ADDRESS,)), 1, NOW + 1) == []
    assert lease.next_wakeup() == 2
    moved = stored(lease.handle(TimerFired(), 2, NOW + 2))
    assert moved.addresses == (NEW_ADDRESS.with_peer(person("alice").peer_id),)
    # Who has no address at all is in no hurry to say that.
    lease.handle(Stored(8), 3, NOW + 3)
    lease.handle(LookedUp(moved.value), 3, NOW + 3)
    lease.handle(AddressesChanged(()), 4, NOW + 4)
    assert lease.next_wakeup() == 12


def test_many_addresses_are_cut_to_what_a_record_holds() -> None:
    lease, _ = claimed()
    lease.handle(AddressesChanged(tuple(ADDRESS.with_port(port) for port in range(1, 40))), 1, NOW)
    assert len(stored(lease.handle(Renew(), 2, NOW)).addresses) == 16


def test_failures_are_tried_again_ever_more_slowly() -> None:
    lease, _ = claimed()
    commands = lease.handle(Renew(), 100, NOW + 100)
    now, delays = 100.0, []
    for _ in range(9):
        [retry] = lease.handle(StoreFailed("nobody there"), now, NOW + int(now))
        assert isinstance(retry, RetryScheduled)
        delays.append(retry.delay)
        wakeup = lease.next_wakeup()
        assert wakeup == now + retry.delay
        assert lease.handle(TimerFired(), wakeup - 0.01, NOW + int(now)) == []
        commands = lease.handle(TimerFired(), wakeup, NOW + int(wakeup))
        now = wakeup
    assert delays == sorted(delays[:6]) + delays[6:]
    assert 4.5 <= delays[0] <= 5.5
    assert all(270 <= delay <= 330 for delay in delays[7:])
    assert lease.is_held
    renewed = stored(commands)
    lease.handle(Stored(8), now, NOW + int(now))
    lease.handle(LookedUp(renewed.value), now, NOW + int(now))
    lease.handle(Renew(), now, NOW + int(now))
    [retry] = lease.handle(StoreFailed(), now, NOW + int(now))
    assert isinstance(retry, RetryScheduled)
    assert retry.delay <= 5.5


def test_a_failed_store_is_tried_with_the_same_bytes() -> None:
    lease, _ = claimed()
    record = stored(lease.handle(Renew(), 100, NOW + 100))
    lease.handle(StoreFailed(), 101, NOW + 101)
    assert lease.handle(TimerFired(), 110, NOW + 110) == [StoreRecord(KEY, record.value)]


def test_failures_until_the_name_is_dead() -> None:
    lease, _ = claimed()
    lease.handle(Renew(), 100, NOW + 100)
    lease.handle(StoreFailed(), 101, NOW + 101)
    assert lease.handle(TimerFired(), 200, NOW + 100 + DAY + GRACE) == [LookUp(KEY)]
    assert not lease.is_held


def test_look_ups_that_nobody_answers() -> None:
    lease = lease_of()
    lease.handle(Claim(), 0, NOW)
    [retry] = lease.handle(LookUpFailed(), 1, NOW)
    assert isinstance(retry, RetryScheduled)
    assert lease.handle(TimerFired(), 10, NOW + 10) == [LookUp(KEY)]
    lease, record = claimed()
    lease.handle(TimerFired(), 40, NOW + 40)
    lease.handle(LookUpFailed(), 41, NOW + 41)
    assert lease.is_held
    assert lease.handle(TimerFired(), 60, NOW + 60) == [LookUp(KEY)]
    assert lease.handle(LookedUp(record.value), 61, NOW + 61) == []


@pytest.mark.parametrize("found", [None, name_record("bob", registered_at=NOW + 5).value])
def test_a_record_that_the_dht_lost_is_stored_again(found: bytes | None) -> None:
    lease, record = claimed()
    assert lease.handle(TimerFired(), 40, NOW + 40) == [LookUp(KEY)]
    [retry] = lease.handle(LookedUp(found), 41, NOW + 41)
    assert isinstance(retry, RetryScheduled)
    assert lease.handle(TimerFired(), 60, NOW + 60) == [StoreRecord(KEY, record.value)]


def test_lost_state_is_found_again_in_the_dht() -> None:
    ours = name_record("alice", issued_at=NOW + 60, seq=NOW + 5_000)
    lease = lease_of()
    lease.handle(Claim(), 0, NOW + 100)
    again = stored(lease.handle(LookedUp(ours.value), 1, NOW + 100))
    assert (again.registered_at, again.seq, again.nonce) == (NOW, NOW + 5_001, ours.nonce)


def test_a_second_node_of_the_same_identity_is_followed() -> None:
    lease, record = claimed()
    theirs = name_record("alice", registered_at=NOW, issued_at=NOW + 20, seq=record.seq + 500)
    lease.handle(TimerFired(), 40, NOW + 40)
    lease.handle(LookedUp(theirs.value), 41, NOW + 41)
    assert stored(lease.handle(TimerFired(), 60, NOW + 60)).seq == record.seq + 501
    release = name_record("alice", registered_at=NOW, issued_at=NOW + 70, seq=NOW + 900, released=True)
    lease.handle(Stored(8), 61, NOW + 71)
    assert lease.handle(LookedUp(release.value), 62, NOW + 71) == [
        SaveState(LeaseState.of(release)),
        NameReleased(release.dead_at),
    ]


def test_resumes_from_its_state() -> None:
    _, record = claimed()
    saved = LeaseState.from_json(json.loads(json.dumps(LeaseState.of(record).to_json())))
    for unix_now in (NOW + 50, NOW + DAY + GRACE - 1):
        lease = lease_of(state=saved)
        again = stored(lease.handle(Claim(), 0, unix_now))
        assert (again.registered_at, again.seq) == (NOW, max(record.seq + 1, unix_now))
    lease = lease_of(state=saved)
    assert lease.handle(Claim(), 0, NOW + DAY + GRACE) == [LookUp(KEY)]


def test_a_transfer_chain_stays_in_later_records() -> None:
    chain = (transfer("bob", "alice", seq=NOW - 50),)
    lease = lease_of(state=LeaseState.of(name_record("alice", transfers=chain)))
    assert stored(lease.handle(Claim(), 0, NOW + 9)).transfers == chain


def test_a_state_of_another_name_or_without_proof() -> None:
    state = LeaseState.of(name_record("alice"))
    with pytest.raises(LocalProtocolError):
        lease_of(state=replace(state, name="bob"))
    assert lease_of(state=replace(state, nonce=0)).handle(Claim(), 0, NOW) == [LookUp(KEY)]


def test_more_work_is_done_when_more_is_asked() -> None:
    lease = lease_of(state=LeaseState.of(name_record("alice")))
    [solve] = lease.handle(Claim(bits=20), 0, NOW)
    assert isinstance(solve, SolveProofOfWork)
    assert solve.bits == 20
    with pytest.raises(LocalProtocolError):
        lease.handle(ProofSolved(solved_work("alice")), 1, NOW)
    with pytest.raises(LocalProtocolError):
        lease_of().handle(Claim(bits=60), 0, NOW)


def test_release_and_taking_up_again() -> None:
    lease, record = claimed()
    save, store = lease.handle(Release(), 10, NOW + 10)
    release = stored([store])
    assert save == SaveState(LeaseState.of(release))
    assert release.released
    assert release.registered_at == record.registered_at
    assert release.seq > record.seq
    assert release.expires_at == record.expires_at
    assert select([record, release], NOW + 10, frozenset()) == 1
    assert lease.handle(Release(), 11, NOW + 11) == []
    assert lease.handle(Stored(8), 12, NOW + 12) == [
        SaveState(LeaseState.of(release)),
        NameReleased(release.dead_at),
    ]
    assert not lease.is_held
    assert lease.handle(Release(), 13, NOW + 13) == [NameReleased(release.dead_at)]
    again = stored(lease.handle(Claim(), 14, NOW + 14))
    assert not again.released
    assert (again.registered_at, again.seq) == (record.registered_at, max(release.seq + 1, NOW + 14))


def test_release_in_grace_lives_a_moment_and_keeps_its_cool_down() -> None:
    lease, record = claimed()
    unix_now = record.expires_at + 500
    release = stored(lease.handle(Release(), 10, unix_now))
    assert release.expires_at == unix_now + 1


def test_release_is_tried_again() -> None:
    lease, _ = claimed()
    lease.handle(Release(), 10, NOW + 10)
    lease.handle(StoreFailed(), 11, NOW + 11)
    assert lease.handle(Renew(), 12, NOW + 12) == []
    assert stored(lease.handle(TimerFired(), 30, NOW + 30)).released


def test_release_of_what_is_being_claimed() -> None:
    lease = lease_of()
    lease.handle(Claim(), 0, NOW)
    assert lease.handle(Release(), 1, NOW) == []
    assert lease.handle(LookedUp(None), 2, NOW) == [SaveState(None), NameReleased(NOW)]
    lease = lease_of()
    lease.handle(Claim(), 0, NOW)
    lease.handle(LookedUp(None), 1, NOW)
    lease.handle(ProofSolved(solved_work("alice")), 2, NOW)
    assert lease.handle(Release(), 3, NOW + 3) == []
    assert stored(lease.handle(Stored(8), 4, NOW + 4)).released


def test_claim_while_releasing_and_release_taken_back() -> None:
    lease, _ = claimed()
    lease.handle(Release(), 1, NOW + 1)
    assert lease.handle(Claim(), 2, NOW + 2) == []
    assert not stored(lease.handle(Stored(8), 3, NOW + 3)).released
    lease.handle(Release(), 4, NOW + 4)
    assert lease.handle(Claim(), 5, NOW + 5) == []
    assert lease.handle(Stored(8), 6, NOW + 6) == [LookUp(KEY)]


def test_claim_of_what_is_held_says_so() -> None:
    lease, record = claimed()
    assert lease.handle(Claim(), 5, NOW + 5) == [NameHeld(record.expires_at, witnessed=False)]


def test_witnessed_is_what_the_kind_says() -> None:
    lease, record = claimed()
    assert not lease.witnessed
    witnesses = frozenset({person("w1").peer_id})
    kind = NameRecords(lambda: (witnesses, frozenset()))
    assert kind.is_witnessed(name_record("alice", witnesses=["w1"]))
    assert not kind.is_witnessed(record)


# Every state with every event


def in_state(state: State) -> Lease:
    appear: set[PeerId] = set()
    lease, _ = claimed(witnesses=lambda: (frozenset(appear), frozenset()))
    match state:
        case State.IDLE:
            return lease_of()
        case State.LOOKING | State.SOLVING | State.TAKEN:
            lease = lease_of()
            lease.handle(Claim(), 0, NOW)
            if state is State.SOLVING:
                lease.handle(LookedUp(None), 0, NOW)
            elif state is State.TAKEN:
                lease.handle(LookedUp(name_record("bob").value), 0, NOW)
        case State.ASKING:
            appear.update(person(label).peer_id for label in ("w1", "w2", "w3"))
            lease.handle(Renew(), 0, NOW)
        case State.TRANSFERRED:
            [_, signed] = lease.handle(Transfer(person("bob").peer_id), 0, NOW)
            assert isinstance(signed, TransferSigned)
            entry = signed.entry
            theirs = name_record("bob", issued_at=NOW + 1, seq=entry.seq + 1, transfers=[entry])
            lease.handle(TimerFired(), 40, NOW)
            lease.handle(LookedUp(theirs.value), 40, NOW)
        case State.STORING:
            lease.handle(Renew(), 0, NOW)
        case State.CONFIRMING:
            lease.handle(Renew(), 0, NOW)
            lease.handle(Stored(8), 0, NOW)
        case State.WAITING:
            lease.handle(Renew(), 0, NOW)
            lease.handle(StoreFailed(), 0, NOW)
        case State.RELEASING | State.RELEASED:
            lease.handle(Release(), 0, NOW)
            if state is State.RELEASED:
                lease.handle(Stored(8), 0, NOW)
        case State.LOST:
            lease.handle(TimerFired(), 40, NOW)
            lease.handle(LookedUp(name_record("bob", registered_at=NOW - 9, issued_at=NOW).value), 40, NOW)
    assert lease.state is state
    return lease


class Unheard(Event):
    """An event of no machine."""


EVENTS: list[Event] = [
    Claim(),
    Renew(),
    Release(),
    AddressesChanged((NEW_ADDRESS,)),
    TimerFired(),
    LookedUp(None),
    LookUpFailed(),
    ProofSolved(solved_work("alice")),
    Stored(1),
    StoreFailed(),
    Transfer(person("bob").peer_id),
    Accept(transfer("carol", "alice")),
    WitnessesAnswered(()),
    WitnessesChanged(),
    Unheard(),
]


@pytest.mark.parametrize(
    "state, event",
    list(product(State, EVENTS)),
    ids=lambda x: x.name if isinstance(x, State) else type(x).__name__,
)
def test_every_pair_moves_or_refuses(state: State, event: Event) -> None:
    lease = in_state(state)
    before = vars(lease).copy()
    try:
        commands = lease.handle(event, 50, NOW + 50)
    except LocalProtocolError:
        assert vars(lease) == before
        assert state not in ACCEPTED.get(type(event), ()) or (state, type(event)) == (State.IDLE, Release)
    except TransferImpossible:
        assert vars(lease) == before
        assert isinstance(event, Transfer | Accept)
    else:
        assert state in ACCEPTED[type(event)]
        check(lease, commands)


def check(lease: Lease, commands: list[Command]) -> None:
    """What holds after every step: an answer is awaited, or a time, or all is over."""
    asked = [c for c in commands if isinstance(c, LookUp | StoreRecord | SolveProofOfWork | AskWitnesses)]
    assert len(asked) <= 1
    awaited = lease.state in UNDER_WAY | {State.RELEASING}
    timed = lease.state in (State.HELD, State.WAITING)
    assert (lease.next_wakeup() is not None) is timed
    assert awaited or not asked
    for command in commands:
        if isinstance(command, StoreRecord):
            assert lease.record is not None
            assert command.value == lease.record.value


RIVALS = [None, name_record("bob").value, name_record("bob", registered_at=NOW - 50).value, b"garbage"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["time", "time", "answer", "answer", "fail", "rival", "move", "claim", "renew", "release"]
        ),
        st.integers(0, 3),
        st.sampled_from([0, 1, 30, 61, 4_000, 30_000, 100_000, -5_000]),
    ),
    max_size=40,
)


@given(STEPS)
def test_any_life(steps: list[tuple[str, int, int]]) -> None:
    """Whatever the DHT answers and the clock does, the machine stays in order and what it signs is valid."""
    lease = lease_of()
    now, unix_now, seq = 0.0, NOW, 0
    pending: Command | None = None
    for action, choice, jump in [("claim", 0, 0), *steps]:
        now += max(0, jump)
        unix_now += jump
        event: Event = TimerFired()
        if action == "claim":
            event = Claim()
        elif action == "renew" and lease.state in ACCEPTED[Renew]:
            event = Renew()
        elif action == "release" and lease.state in ACCEPTED[Release] - {State.IDLE}:
            event = Release()
        elif action == "move":
            event = AddressesChanged((NEW_ADDRESS, ADDRESS)[: choice + 1])
        elif pending is not None and action in ("answer", "fail", "rival"):
            if isinstance(pending, LookUp):
                ours = lease.record.value if lease.record else None
                event = LookedUp(ours if action == "answer" else RIVALS[choice])
                event = LookUpFailed() if action == "fail" else event
            elif isinstance(pending, StoreRecord):
                event = StoreFailed() if action == "fail" else Stored(choice)
            else:
                event = ProofSolved(solved_work("alice"))
            pending = None
        commands = lease.handle(event, now, unix_now)
        check(lease, commands)
        for command in commands:
            if isinstance(command, LookUp | StoreRecord | SolveProofOfWork):
                assert pending is None
                pending = command
            if isinstance(command, StoreRecord):
                record = validate(KEY, command.value, unix_now)
                assert record.seq >= seq
                seq = record.seq
            if command == SaveState(None):
                seq = 0


# The state file


def test_the_state_file_of_a_witnessed_lease_that_is_given_away() -> None:
    state = replace(
        LeaseState.of(name_record("alice", witnesses=["w1", "w2"])), given=transfer("alice", "bob")
    )
    file = json.loads(json.dumps(state.to_json()))
    assert LeaseState.from_json(file) == state
    wish = LeaseState.wish(transfer("bob", "alice"), NOW + 5)
    assert LeaseState.from_json(json.loads(json.dumps(wish.to_json()))) == wish
    # A version newer is read, and so is the one before, which knew neither.
    assert LeaseState.from_json({**file, "schema": 3, "colour": "blue"}) == state
    before = LeaseState.of(name_record("alice"))
    assert LeaseState.from_json({**before.to_json(), "schema": 1}) == before
    for change in ({"receipts": [{}]}, {"receipts": file["receipts"] * 17}, {"given": {}}, {"accepting": 1}):
        with pytest.raises(StateUnreadable):
            LeaseState.from_json({**file, **change})


def test_the_state_file() -> None:
    state = LeaseState.of(name_record("alice", transfers=[transfer("bob", "alice", seq=5)], released=True))
    file = json.loads(json.dumps(state.to_json()))
    assert LeaseState.from_json(file) == state
    assert LeaseState.from_json({**file, "schema": 3, "colour": "blue"}) == state


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 4},
        {"schema": True},
        {"schema": None},
        {"colour": "blue"},
        {"name": "A"},
        {"name": 7},
        {"seq": -1},
        {"released": 1},
        {"transfers": []},
        {"transfers": [{}]},
    ],
)
def test_a_state_file_that_is_not_ours(change: dict[str, object]) -> None:
    file = json.loads(json.dumps(LeaseState.of(name_record("alice")).to_json()))
    with pytest.raises(StateUnreadable):
        LeaseState.from_json({**file, **change})
    with pytest.raises(StateUnreadable):
        LeaseState.from_json([file])
