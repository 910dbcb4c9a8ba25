"""Slots: one a peer, so many from one place, each given back exactly once."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wws.addresses.scope import prefix_of
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.relay.places import Places
from wws.relay.reservations import ReservationConfig, ReservationTable

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
CAROL = Identity.from_label("carol").peer_id


def stranger(number: int) -> PeerId:
    """Anybody: what a table wants of a peer is only that it is another one."""
    return PeerId(number.to_bytes(32, "big"))


def table(**bounds: float) -> ReservationTable:
    return ReservationTable(ReservationConfig(**{"per_second": 1000, "burst": 1000, **bounds}))  # type: ignore[arg-type]


def test_a_peer_has_one_slot_however_often_it_asks() -> None:
    slots = table(max_reservations=1, max_per_ip=1, max_per_prefix=1)
    for now in range(50):
        assert slots.reserve(ALICE, "203.0.113.1", "203.0.113.0/24", now) is None
    assert len(slots) == 1
    assert slots.reserve(BOB, "198.51.100.1", "198.51.100.0/24", 50) == "reservations_total"
    assert slots.release(ALICE)
    assert not slots.release(ALICE)
    assert slots.reserve(BOB, "198.51.100.1", "198.51.100.0/24", 51) is None


def test_a_slot_runs_out_unless_it_is_refreshed() -> None:
    slots = table(duration=3600)
    slots.reserve(ALICE, "10.0.0.1", None, 0)
    slots.reserve(BOB, "10.0.0.2", None, 100)
    assert slots.next_wakeup() == 3600
    slots.reserve(ALICE, "10.0.0.1", None, 3599)
    assert slots.next_wakeup() == 3700
    assert slots.expire(3600) == []
    assert slots.holds(BOB, 3699.9)
    assert not slots.holds(BOB, 3700)  # also when nobody has swept yet
    assert slots.expire(3700) == [BOB]
    assert slots.holds(ALICE, 3700)
    assert slots.next_wakeup() == 7199


def test_a_thousand_from_one_prefix_get_its_share_and_no_more() -> None:
    slots = ReservationTable(ReservationConfig())
    outcomes = [
        slots.reserve(stranger(n), f"203.0.113.{n % 250}", "203.0.113.0/24", 0.0) for n in range(1000)
    ]
    assert outcomes.count(None) == len(slots) == ReservationConfig().max_per_prefix
    assert outcomes.count("reservations_prefix") == 1000 - len(slots)
    assert slots.reserve(ALICE, "198.51.100.1", "198.51.100.0/24", 0.0) is None


def test_a_thousand_from_one_address() -> None:
    slots = ReservationTable(ReservationConfig())
    outcomes = [slots.reserve(stranger(n), "203.0.113.1", "203.0.113.0/24", 0.0) for n in range(1000)]
    assert outcomes.count(None) == ReservationConfig().max_per_ip
    assert outcomes.count("reservations_ip") == 1000 - ReservationConfig().max_per_ip


def test_two_thousand_and_forty_eight_in_total() -> None:
    slots = ReservationTable(ReservationConfig())
    outcomes = [slots.reserve(stranger(n), f"10.0.{n // 250}.{n % 250}", None, 0.0) for n in range(2049)]
    assert outcomes.count(None) == 2048
    assert outcomes[-1] == "reservations_total"


def test_who_moves_takes_its_slot_along() -> None:
    slots = table(max_per_ip=1, max_per_prefix=2)
    assert slots.reserve(ALICE, "203.0.113.1", "203.0.113.0/24", 0) is None
    assert slots.reserve(BOB, "203.0.113.2", "203.0.113.0/24", 0) is None
    assert slots.reserve(ALICE, "203.0.113.2", "203.0.113.0/24", 1) == "reservations_ip"
    assert slots.holds(ALICE, 1)  # what it had it keeps
    assert slots.reserve(ALICE, "203.0.113.3", "203.0.113.0/24", 1) is None  # the prefix counts it once
    assert slots.reserve(ALICE, "198.51.100.1", "198.51.100.0/24", 2) is None
    assert slots.reserve(CAROL, "203.0.113.1", "203.0.113.0/24", 2) is None


def test_who_asks_all_the_time_is_refused_and_keeps_its_slot() -> None:
    slots = table(per_second=0.1, burst=3)
    assert [slots.reserve(ALICE, "10.0.0.1", None, 0) for _ in range(4)] == [None] * 3 + ["reservation_rate"]
    assert slots.holds(ALICE, 0)
    assert slots.reserve(BOB, "10.0.0.1", None, 0) is None
    assert slots.reserve(ALICE, "10.0.0.1", None, 10.1) is None


def test_lowered_bounds_take_no_slot_away() -> None:
    slots = table()
    slots.reserve(ALICE, "10.0.0.1", None, 0)
    slots.reserve(BOB, "10.0.0.1", None, 0)
    slots.reconfigure(ReservationConfig(max_reservations=1))
    assert len(slots) == 2
    assert slots.reserve(CAROL, "10.0.0.1", None, 0) == "reservations_total"
    assert slots.reserve(ALICE, "10.0.0.1", None, 0) is None


class TheTableAgainstAModel(RuleBasedStateMachine):
    """Whatever happens in whatever order, the counts are those of a model that counts anew each time."""

    IPS = ("203.0.113.1", "203.0.113.2", "198.51.100.1", "2001:db8::1", "10.0.0.1")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.slots = ReservationTable(
            ReservationConfig(
                max_reservations=5, duration=100, max_per_ip=2, max_per_prefix=3, per_second=1e6, burst=1000
            )
        )
        self.model: dict[PeerId, tuple[str, str | None, float]] = {}

    @rule(number=st.integers(0, 8), ip=st.sampled_from(IPS))
    def reserve(self, number: int, ip: str) -> None:
        peer, prefix = stranger(number), None if ip.startswith("10.") else prefix_of(ip)
        others = [(i, p) for one, (i, p, _) in self.model.items() if one != peer]
        reason = self.slots.reserve(peer, ip, prefix, self.now)
        old = self.model.get(peer)
        full_ip = prefix is not None and sum(i == ip and p is not None for i, p in others) >= 2
        full_prefix = prefix is not None and sum(p == prefix for _, p in others) >= 3
        if old is None and len(others) >= 5:
            assert reason == "reservations_total"
        elif full_ip and (old is None or old[0] != ip):
            assert reason == "reservations_ip"
        elif full_prefix and (old is None or old[1] != prefix):
            assert reason == "reservations_prefix"
        else:
            assert reason is None
            self.model[peer] = (ip, prefix, self.now + 100)

    @rule(number=st.integers(0, 8))
    def release(self, number: int) -> None:
        assert self.slots.release(stranger(number)) == (self.model.pop(stranger(number), None) is not None)

    @rule(seconds=st.floats(0, 60))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        over = {peer for peer, (_, _, expires) in self.model.items() if expires <= self.now}
        assert set(self.slots.expire(self.now)) == over
        for peer in over:
            del self.model[peer]

    @invariant()
    def both_agree(self) -> None:
        assert set(self.slots) == set(self.model)
        assert all(self.slots.holds(peer, self.now) for peer in self.model)
        assert self.slots.next_wakeup() == min((at for _, _, at in self.model.values()), default=None)
        public = [(ip, prefix) for ip, prefix, _ in self.model.values() if prefix is not None]
        assert len(self.slots._per_ip) == len({ip for ip, _ in public})
        assert len(self.slots._per_prefix) == len({prefix for _, prefix in public})


TestTheTableAgainstAModel = TheTableAgainstAModel.TestCase


def test_places_given_back_leave_nothing() -> None:
    places: Places[str] = Places()
    for key in ("a", "b", "a", None):
        places.take(key)
    assert (places.held("a"), places.held("b"), places.held(None)) == (2, 1, 0)
    for key in ("a", "a", "b", None):
        places.give_back(key)
    assert len(places) == 0
