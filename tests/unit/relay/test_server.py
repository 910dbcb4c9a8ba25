"""The relay as a machine: conversations, every bound at its limit, and every pair of state and event."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.relay.budget import DAY
from wws.relay.circuit_table import CircuitConfig, CircuitState
from wws.relay.messages import Limit, Status
from wws.relay.reservations import ReservationConfig
from wws.relay.server import (
    EVENTS,
    Accepted,
    Alert,
    Asker,
    Bridge,
    CircuitEnded,
    ConnectAsked,
    Declined,
    Drained,
    End,
    Grant,
    LetGo,
    OpenStop,
    PeerGone,
    Refuse,
    RelayConfig,
    Relayed,
    RelayMachine,
    ReserveAsked,
    Switched,
    TimerFired,
)

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
CAROL = Identity.from_label("carol").peer_id
UNIX = 1_800_000_000
MIB = 1024 * 1024


def asker(peer: PeerId, ip: str = "203.0.113.1") -> Asker:
    return Asker(peer, ip, ip.rpartition(".")[0] + ".0/24")


def stranger(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


class Bench:
    """A machine that is switched on, and a clock to move by hand."""

    def __init__(self, config: RelayConfig | None = None, **circuits: float) -> None:
        config = config or RelayConfig(
            reservations=ReservationConfig(per_second=1000, burst=10_000),
            circuits=CircuitConfig(**{"per_second": 1000, "burst": 10_000, **circuits}),  # type: ignore[arg-type]
            min_piece=1,
        )
        self.machine = RelayMachine(config)
        self.now = 0.0
        assert self.say(Switched(True)) == []

    def say(self, event: Event) -> list[Command]:
        return self.machine.handle(event, self.now, UNIX + int(self.now))

    def reserve(self, peer: PeerId, ip: str = "203.0.113.1") -> Command:
        [answer] = self.say(ReserveAsked(asker(peer, ip)))
        return answer

    def connect(self, source: PeerId, to: PeerId, ip: str = "203.0.113.1") -> Command:
        [answer] = self.say(ConnectAsked(asker(source, ip), to))
        return answer

    def opening(self, source: PeerId = ALICE, to: PeerId = BOB) -> int:
        """A circuit whose destination has been asked."""
        answer = self.connect(source, to)
        assert isinstance(answer, OpenStop)
        return answer.circuit

    def open(self, source: PeerId = ALICE, to: PeerId = BOB) -> int:
        circuit = self.opening(source, to)
        [answer] = self.say(Accepted(circuit))
        assert isinstance(answer, Bridge)
        return circuit

    def carry(self, circuit: int, count: int, *, to_destination: bool = True) -> list[Command]:
        return self.say(Relayed(circuit, count, to_destination))


@pytest.fixture
def bench() -> Bench:
    """Where bob has a slot."""
    bench = Bench()
    assert isinstance(bench.reserve(BOB), Grant)
    return bench


LIMIT = Limit(600, 2 * MIB)


def test_a_whole_life() -> None:
    bench = Bench()
    assert bench.connect(ALICE, BOB) == Refuse(Status.NO_RESERVATION, "no_reservation")
    assert bench.reserve(BOB) == Grant(UNIX + 3600, LIMIT)
    assert bench.connect(ALICE, BOB) == OpenStop(1, BOB, LIMIT)
    assert bench.say(Accepted(1)) == [Bridge(1, LIMIT)]
    assert bench.carry(1, MIB) == []
    assert bench.carry(1, 9, to_destination=False) == []
    assert bench.say(CircuitEnded(1)) == []
    assert bench.say(PeerGone(BOB)) == [LetGo(BOB)]
    assert bench.connect(ALICE, BOB) == Refuse(Status.NO_RESERVATION, "no_reservation")
    assert bench.machine.budget.used(UNIX) == MIB + 9
    assert bench.machine.next_wakeup() is None


def test_a_slot_is_refreshed_and_runs_out(bench: Bench) -> None:
    bench.now = 1800
    assert bench.reserve(BOB) == Grant(UNIX + 5400, LIMIT)
    assert len(bench.machine.reservations) == 1
    assert bench.machine.next_wakeup() == 5400
    bench.now = 5400
    assert bench.say(TimerFired()) == [LetGo(BOB)]
    assert bench.connect(ALICE, BOB) == Refuse(Status.NO_RESERVATION, "no_reservation")


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"is_direct": False}, "over_circuit"),
        ({"is_of_network": False}, "wrong_network"),
        ({"is_in_scope": False}, "below_scope"),
    ],
)
def test_who_is_not_served_at_all(bench: Bench, change: dict[str, bool], reason: str) -> None:
    other = replace(asker(ALICE), **change)  # type: ignore[arg-type]
    refusal = [Refuse(Status.PERMISSION_DENIED, reason)]
    assert bench.say(ReserveAsked(other)) == refusal
    assert bench.say(ConnectAsked(other, BOB)) == refusal
    assert len(bench.machine.reservations) == 1


def test_nobody_is_led_back_to_itself(bench: Bench) -> None:
    assert bench.connect(BOB, BOB) == Refuse(Status.PERMISSION_DENIED, "connect_to_self")


@pytest.mark.parametrize("to_destination", [True, False])
def test_bytes_are_bounded_in_each_direction(bench: Bench, to_destination: bool) -> None:
    circuit = bench.open()
    other = not to_destination
    assert bench.carry(circuit, 2 * MIB, to_destination=to_destination) == []
    assert bench.carry(circuit, 2 * MIB, to_destination=other) == []
    used = bench.machine.budget.used(UNIX)
    assert bench.carry(circuit, 1, to_destination=to_destination) == [End(circuit, "circuit_bytes")]
    assert bench.machine.budget.used(UNIX) == used  # what was not carried is not counted
    assert bench.carry(circuit, 1, to_destination=other) == [End(circuit, "circuit_bytes")]


def test_time_is_bounded_from_the_opening_on(bench: Bench) -> None:
    circuit = bench.opening()
    bench.now = 9
    bench.say(Accepted(circuit))
    assert bench.machine.next_wakeup() == 609
    bench.now = 608.9
    assert bench.say(TimerFired()) == []
    bench.now = 609
    assert bench.say(TimerFired()) == [End(circuit, "circuit_time")]
    assert bench.say(TimerFired()) == []
    assert bench.machine.next_wakeup() == 3600
    bench.say(CircuitEnded(circuit))
    assert len(bench.machine.circuits) == 0


def test_without_bounds_there_is_no_limit_message() -> None:
    bench = Bench(max_bytes=0, max_duration=0)
    assert bench.reserve(BOB) == Grant(UNIX + 3600, None)
    circuit = bench.open()
    assert bench.carry(circuit, 2**40)[0] == Alert(100)
    assert Bench(max_bytes=0).machine.config.circuits.limit == Limit(600, 0)
    assert Bench(max_duration=0).machine.config.circuits.limit == Limit(0, 2 * MIB)
    assert Bench(max_duration=0.2).machine.config.circuits.limit == Limit(1, 2 * MIB)  # 0 would mean no bound


@pytest.mark.parametrize(
    "said, told",
    [
        (Status.CONNECTION_FAILED, Status.CONNECTION_FAILED),
        (Status.PERMISSION_DENIED, Status.PERMISSION_DENIED),
        (Status.RESOURCE_LIMIT_EXCEEDED, Status.RESOURCE_LIMIT_EXCEEDED),
        (Status.UNKNOWN, Status.CONNECTION_FAILED),
        (Status.OK, Status.CONNECTION_FAILED),
        (Status.NO_RESERVATION, Status.CONNECTION_FAILED),
        (Status.MALFORMED_MESSAGE, Status.CONNECTION_FAILED),
    ],
)
def test_a_destination_that_declines(bench: Bench, said: Status, told: Status) -> None:
    circuit = bench.opening()
    assert bench.say(Declined(circuit, "stop_refused", said)) == [Refuse(told, "stop_refused")]
    assert len(bench.machine.circuits) == 1  # until the driver is done with it
    bench.say(CircuitEnded(circuit))
    assert len(bench.machine.circuits) == 0


def test_every_bound_on_circuits_at_its_limit() -> None:
    bench = Bench(max_circuits=6, max_per_source=3, max_per_destination=4, max_per_prefix=5)
    for peer in (BOB, CAROL):
        bench.reserve(peer)
    over = Status.RESOURCE_LIMIT_EXCEEDED
    circuits = [bench.opening(ALICE, BOB) for _ in range(3)]
    assert bench.connect(ALICE, CAROL) == Refuse(over, "circuits_source")
    circuits.append(bench.opening(stranger(1), BOB))
    assert bench.connect(stranger(2), BOB) == Refuse(over, "circuits_destination")
    circuits.append(bench.opening(stranger(2), CAROL))
    assert bench.connect(stranger(3), CAROL) == Refuse(over, "circuits_prefix")
    elsewhere = bench.connect(stranger(3), CAROL, "198.51.100.1")
    assert isinstance(elsewhere, OpenStop)
    assert bench.connect(stranger(4), CAROL, "192.0.2.1") == Refuse(over, "circuits_total")
    for circuit in (*circuits, elsewhere.circuit):
        bench.say(CircuitEnded(circuit))
    table = bench.machine.circuits
    assert len(table) == len(table._per_source) == len(table._per_destination) == len(table._per_prefix) == 0


def test_where_prefixes_are_exempt_they_are_not_counted() -> None:
    bench = Bench(max_per_prefix=1)
    bench.reserve(BOB)
    for number in range(5):
        event = ConnectAsked(Asker(stranger(number), "10.0.0.1", None), BOB)
        assert isinstance(bench.say(event)[0], OpenStop)


def test_a_flood_of_connects_from_one_peer_and_from_one_prefix() -> None:
    circuits = CircuitConfig(
        max_per_source=10_000, max_per_destination=10_000, max_per_destination_prefix=10_000
    )
    bench = Bench(RelayConfig(circuits=circuits))
    bench.reserve(BOB)
    flood = Refuse(Status.RESOURCE_LIMIT_EXCEEDED, "connect_rate")
    answers = [bench.connect(ALICE, BOB) for _ in range(1000)]
    assert answers.count(flood) == 1000 - 16
    # A new identity each time: the prefix pays.
    answers = [bench.connect(stranger(number), BOB, "198.51.100.7") for number in range(1000)]
    assert answers.count(flood) == 1000 - 64
    assert isinstance(bench.connect(CAROL, BOB, "192.0.2.1"), OpenStop)
    bench.now += 1
    assert isinstance(bench.connect(ALICE, BOB), OpenStop)


def test_a_thousand_reconnects_leave_as_many_slots_as_live_peers() -> None:
    bench = Bench(RelayConfig())
    bench.reserve(BOB)
    for again in range(1000):
        bench.now = again
        peer = stranger(again % 50)
        assert isinstance(bench.reserve(peer), Grant)
        bench.say(PeerGone(peer))
    assert list(bench.machine.reservations) == [BOB]


def test_the_budget_of_the_day() -> None:
    config = RelayConfig(
        circuits=CircuitConfig(max_bytes=0), bytes_per_day=1000, bytes_share=1.0, min_piece=1
    )
    bench = Bench(config)
    bench.reserve(BOB)
    first, second, third = bench.open(), bench.open(CAROL), bench.opening(stranger(1))
    assert bench.carry(first, 799) == []
    assert bench.carry(second, 1, to_destination=False) == [Alert(80)]
    assert bench.carry(second, 199) == []
    spent = [End(circuit, "daily_budget") for circuit in (first, second, third)]
    assert bench.carry(first, 1) == [Alert(100), *spent]
    over = Refuse(Status.RESOURCE_LIMIT_EXCEEDED, "daily_budget")
    assert bench.say(Accepted(third)) == [over]  # it had been asked before
    assert bench.connect(ALICE, BOB) == over
    assert isinstance(bench.reserve(CAROL), Grant)  # slots cost nothing
    for circuit in (first, second, third):
        bench.say(CircuitEnded(circuit))
    bench.now = DAY - UNIX % DAY
    bench.reserve(BOB)
    assert isinstance(bench.connect(ALICE, BOB), OpenStop)
    assert bench.machine.budget.used(UNIX + int(bench.now)) == 0


def test_one_prefix_gets_its_share_of_the_day_and_no_more() -> None:
    bench = Bench(RelayConfig(circuits=CircuitConfig(max_bytes=0), bytes_per_day=1000, min_piece=1))
    bench.reserve(BOB)
    first, second = bench.open(ALICE), bench.open(stranger(1))  # of one prefix
    elsewhere = bench.connect(CAROL, BOB, "198.51.100.7")
    assert isinstance(elsewhere, OpenStop)
    bench.say(Accepted(elsewhere.circuit))
    third = bench.opening(stranger(2))
    assert bench.carry(first, 200) == []
    assert bench.carry(second, 49) == []
    spent = [End(circuit, "daily_budget_prefix") for circuit in (first, second, third)]
    assert bench.carry(second, 1, to_destination=False) == spent
    over = Refuse(Status.RESOURCE_LIMIT_EXCEEDED, "daily_budget_prefix")
    assert bench.say(Accepted(third)) == [over]
    assert bench.connect(stranger(3), BOB) == over  # a new identity is no new party
    assert bench.carry(elsewhere.circuit, 249) == []
    assert isinstance(bench.connect(stranger(4), BOB, "192.0.2.1"), OpenStop)
    bench.now = DAY - UNIX % DAY
    bench.reserve(BOB)
    assert isinstance(bench.connect(ALICE, BOB), OpenStop)


def test_single_bytes_cost_what_is_around_them() -> None:
    bench = Bench(RelayConfig())
    bench.reserve(BOB)
    circuit = bench.open()
    for _ in range(100):
        bench.carry(circuit, 1)
    assert bench.machine.budget.used(UNIX) == 100 * 64
    assert bench.machine.circuits[circuit].to_destination == 100  # its own limit is as promised
    bench.carry(circuit, 65)
    assert bench.machine.budget.used(UNIX) == 100 * 64 + 65


def test_one_prefix_does_not_take_all_circuits_to_a_peer() -> None:
    bench = Bench(max_per_destination_prefix=3)
    bench.reserve(BOB)
    bench.reserve(CAROL)
    circuits = [bench.open(stranger(number)) for number in range(3)]
    over = Refuse(Status.RESOURCE_LIMIT_EXCEEDED, "circuits_destination_prefix")
    assert bench.connect(ALICE, BOB) == over
    assert isinstance(bench.connect(ALICE, CAROL), OpenStop)
    assert isinstance(bench.connect(ALICE, BOB, "198.51.100.7"), OpenStop)
    bench.say(Relayed(circuits[0], 2 * MIB + 1, True))
    bench.say(CircuitEnded(circuits[0]))
    assert isinstance(bench.connect(ALICE, BOB), OpenStop)


def test_switching_off_ends_everything(bench: Bench) -> None:
    opening, running = bench.opening(), bench.open(CAROL)
    ended = [End(circuit, "switched_off") for circuit in (opening, running)]
    assert bench.say(Switched(False)) == [LetGo(BOB), *ended]
    off = Refuse(Status.RESERVATION_REFUSED, "switched_off")
    assert bench.reserve(BOB) == off
    assert bench.connect(ALICE, BOB) == off
    assert bench.say(Declined(opening, "stop_failed")) == [Refuse(Status.CONNECTION_FAILED, "switched_off")]
    for circuit in (opening, running):
        bench.say(CircuitEnded(circuit))
    assert bench.machine.next_wakeup() is None
    bench.say(Switched(True))
    assert isinstance(bench.reserve(BOB), Grant)


def test_while_it_drains_it_gives_no_slots_and_keeps_its_word(bench: Bench) -> None:
    running = bench.open()
    assert bench.say(Drained(True)) == []
    for peer in (BOB, CAROL):  # a renewal, and somebody new
        assert bench.reserve(peer) == Refuse(Status.RESERVATION_REFUSED, "draining")
    assert bench.carry(running, 9) == []
    assert isinstance(bench.connect(CAROL, BOB), OpenStop)
    assert bench.machine.next_wakeup() == 600
    assert bench.say(Drained(False)) == []
    assert isinstance(bench.reserve(BOB), Grant)


def test_a_relay_that_is_switched_on_again_does_not_drain_any_more(bench: Bench) -> None:
    for event in (Drained(True), Switched(False), Switched(True)):
        bench.say(event)
    assert isinstance(bench.reserve(CAROL), Grant)


def test_other_bounds_hold_from_now_on(bench: Bench) -> None:
    old = bench.open()
    bench.machine.reconfigure(
        RelayConfig(circuits=CircuitConfig(max_bytes=10, max_duration=5, max_circuits=2), bytes_per_day=0)
    )
    new = bench.open(CAROL)
    assert isinstance(bench.connect(stranger(1), BOB), Refuse)
    assert bench.carry(old, 2 * MIB) == []  # what it was promised
    assert bench.carry(new, 11) == [End(new, "circuit_bytes")]
    assert bench.machine.next_wakeup() == 600
    assert bench.machine.budget.limit == 0


# Every pair of state and event


GONE = "gone"
STATES = (*CircuitState, GONE)
ABOUT_CIRCUIT = {Accepted, Declined, Relayed, CircuitEnded}
EXAMPLES: dict[type[Event], Event] = {
    ReserveAsked: ReserveAsked(asker(ALICE)),
    ConnectAsked: ConnectAsked(asker(ALICE), BOB),
    Accepted: Accepted(1),
    Declined: Declined(1, "stop_refused", Status.PERMISSION_DENIED),
    Relayed: Relayed(1, 5, True),
    CircuitEnded: CircuitEnded(1),
    PeerGone: PeerGone(BOB),
    Switched: Switched(False),
    Drained: Drained(True),
    TimerFired: TimerFired(),
}
NEXT: dict[tuple[CircuitState | str, type[Event]], CircuitState | str] = {
    (CircuitState.OPENING, Accepted): CircuitState.OPEN,
    (CircuitState.OPENING, Declined): CircuitState.ENDING,
    (CircuitState.OPENING, CircuitEnded): GONE,
    (CircuitState.OPENING, Switched): CircuitState.ENDING,
    (CircuitState.OPEN, Relayed): CircuitState.OPEN,
    (CircuitState.OPEN, CircuitEnded): GONE,
    (CircuitState.OPEN, Switched): CircuitState.ENDING,
    (CircuitState.ENDING, Relayed): CircuitState.ENDING,
    (CircuitState.ENDING, CircuitEnded): GONE,
}
"""Where a circuit goes. Not listed: refused for events about the circuit, else the circuit stays as it is."""


def in_state(state: CircuitState | str) -> Bench:
    """Circuit 1 in a state; ENDING after it was open."""
    bench = Bench()
    bench.reserve(BOB)
    circuit = bench.opening()
    if state is not CircuitState.OPENING:
        bench.say(Accepted(circuit))
    if state is CircuitState.ENDING:
        bench.carry(circuit, 3 * MIB)
    if state == GONE:
        bench.say(CircuitEnded(circuit))
    return bench


def state_of(bench: Bench) -> CircuitState | str:
    return next((circuit.state for circuit in bench.machine.circuits if circuit.circuit_id == 1), GONE)


@pytest.mark.parametrize("state, kind", list(product(STATES, EVENTS)))
def test_every_pair_moves_or_refuses(state: CircuitState | str, kind: type[Event]) -> None:
    bench = in_state(state)
    assert state_of(bench) == state
    if kind in ABOUT_CIRCUIT and (state, kind) not in NEXT:
        before = [(c.state, c.answered, c.to_destination) for c in bench.machine.circuits]
        with pytest.raises(LocalProtocolError):
            bench.say(EXAMPLES[kind])
        assert [(c.state, c.answered, c.to_destination) for c in bench.machine.circuits] == before
    else:
        bench.say(EXAMPLES[kind])
        assert state_of(bench) == NEXT.get((state, kind), state)


def test_the_table_above_knows_every_event() -> None:
    assert set(EXAMPLES) == set(EVENTS)


def test_an_event_of_somebody_else_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        Bench().say(Event())


STRANGERS = [stranger(number) for number in range(6)]


class AnyOrder(RuleBasedStateMachine):
    """Whatever peers and drivers do: places are what is there, bounds hold, everything can be given back."""

    def __init__(self) -> None:
        super().__init__()
        circuits = CircuitConfig(
            max_circuits=5, max_per_source=2, max_per_destination=3, max_per_prefix=4, max_bytes=1000,
            max_duration=50, per_second=1000, burst=1000,
        )  # fmt: skip
        reservations = ReservationConfig(max_reservations=3, duration=100, per_second=1000, burst=1000)
        self.bench = Bench(RelayConfig(reservations, circuits, bytes_per_day=20_000))
        self.live: dict[int, tuple[PeerId, PeerId]] = {}
        self.unanswered: set[int] = set()
        self.ended: set[int] = set()

    def note(self, commands: list[Command]) -> None:
        self.ended |= {command.circuit for command in commands if isinstance(command, End)}

    @rule(peer=st.sampled_from(STRANGERS))
    def reserve(self, peer: PeerId) -> None:
        self.bench.reserve(peer)

    @rule(peer=st.sampled_from(STRANGERS))
    def leave(self, peer: PeerId) -> None:
        held = peer in list(self.bench.machine.reservations)
        assert self.bench.say(PeerGone(peer)) == [LetGo(peer)] * held

    @rule(source=st.sampled_from(STRANGERS), to=st.sampled_from(STRANGERS))
    def connect(self, source: PeerId, to: PeerId) -> None:
        answer = self.bench.connect(source, to)
        if isinstance(answer, OpenStop):
            assert to in list(self.bench.machine.reservations)
            self.live[answer.circuit] = (source, to)
            self.unanswered.add(answer.circuit)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data(), yes=st.booleans())
    def answer(self, data: st.DataObject, yes: bool) -> None:
        circuit = data.draw(st.sampled_from(sorted(self.unanswered)))
        self.unanswered.discard(circuit)
        [said] = self.bench.say(Accepted(circuit) if yes else Declined(circuit, "stop_timeout"))
        assert isinstance(said, Bridge) == (yes and circuit not in self.ended)
        if not yes:
            self.ended.add(circuit)

    @precondition(lambda self: self.live.keys() - self.unanswered)
    @rule(data=st.data(), count=st.integers(1, 700), way=st.booleans())
    def carry(self, data: st.DataObject, count: int, way: bool) -> None:
        circuit = data.draw(st.sampled_from(sorted(self.live.keys() - self.unanswered)))
        commands = self.bench.carry(circuit, count, to_destination=way)
        if circuit in self.ended:
            assert [type(command) for command in commands] == [End]
        self.note(commands)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        circuit = data.draw(st.sampled_from(sorted(self.live)))
        assert self.bench.say(CircuitEnded(circuit)) == []
        del self.live[circuit]
        self.unanswered.discard(circuit)

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.bench.now += seconds
        self.note(self.bench.say(TimerFired()))
        wakeup = self.bench.machine.next_wakeup()
        assert wakeup is None or wakeup > self.bench.now

    @rule(on=st.booleans())
    def switch(self, on: bool) -> None:
        self.note(self.bench.say(Switched(on)))

    @invariant()
    def places_are_what_is_there(self) -> None:
        table = self.bench.machine.circuits
        assert {circuit.circuit_id for circuit in table} == set(self.live)
        assert len(self.live) <= 5
        assert len(self.bench.machine.reservations) <= 3
        assert len(table._per_source) == len({source for source, _ in self.live.values()})
        assert len(table._per_destination) == len({to for _, to in self.live.values()})
        for circuit in table:
            assert circuit.to_destination <= 1000
            assert circuit.to_source <= 1000

    def teardown(self) -> None:
        for circuit in self.live:
            self.bench.say(CircuitEnded(circuit))
        table = self.bench.machine.circuits
        assert len(table) == len(table._per_source) == len(table._per_destination) == 0


TestAnyOrder = AnyOrder.TestCase
