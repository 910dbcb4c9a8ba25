"""Several who want one name, over holders that keep what Select says: one ends up with it, everywhere.

A model of the DHT small enough to shake hard: late messages, clocks that differ, a partition that heals. The
real one does the same in the simulation.
"""

from __future__ import annotations

import heapq
import itertools
from random import Random

import pytest

from wws.machine import Command, Event
from wws.names.events import (
    Claim,
    LookedUp,
    LookUp,
    NameHeld,
    NameLost,
    NameTaken,
    ProofSolved,
    SolveProofOfWork,
    Stored,
    StoreRecord,
    TimerFired,
)
from wws.names.kinds import NameRecords
from wws.names.lease import Lease
from wws.names.record import name_key
from wws.testing.names import NOW, person, solved_work
from wws.testing.scale import scale

KEY = name_key("alice")
PEOPLE = ["alice", "bob", "carol"]
HOUR = 3_600.0


class Mesh:
    """Six holders in two halves, and a lease for each person; person i asks from half i % 2."""

    def __init__(self, seed: int, *, parted_until: float) -> None:
        self.rng = Random(seed)
        self.kind = NameRecords()
        self.parted_until = parted_until
        self.holders: list[bytes | None] = [None] * 6
        self.leases = {
            who: Lease(person(who), "alice", "public", kind=self.kind, rng=Random(f"{seed} {who}"))
            for who in PEOPLE
        }
        self.skew = {who: self.rng.randint(-100, 100) for who in PEOPLE}
        self.told: dict[str, Command] = {}
        self._queue: list[tuple[float, int, str, Event]] = []
        self._count = itertools.count()

    def at(self, when: float, who: str, event: Event) -> None:
        heapq.heappush(self._queue, (when, next(self._count), who, event))

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            now, _, who, event = heapq.heappop(self._queue)
            lease = self.leases[who]
            if isinstance(event, TimerFired) and (lease.next_wakeup() is None or lease.next_wakeup() > now):  # type: ignore[operator]
                continue
            unix_now = NOW + int(now) + self.skew[who]
            for command in lease.handle(event, now, unix_now):
                self._carry_out(who, command, now, unix_now)
            wakeup = lease.next_wakeup()
            if wakeup is not None:
                self.at(wakeup, who, TimerFired())

    def _carry_out(self, who: str, command: Command, now: float, unix_now: int) -> None:
        later = now + self.rng.uniform(0.01, 3)
        match command:
            case LookUp():
                found = [self.holders[index] for index in self._reached(who, now)]
                values = [value for value in found if value is not None]
                best = values[self.kind.select(KEY, values, unix_now)] if values else None
                if best is not None:
                    self._put(best, self._reached(who, now), unix_now)
                self.at(later, who, LookedUp(best))
            case StoreRecord(value=value):
                self._put(value, self._reached(who, now), unix_now)
                self.at(later, who, Stored(2))
            case SolveProofOfWork():
                self.at(later, who, ProofSolved(solved_work(who)))
            case NameHeld() | NameLost() | NameTaken():
                self.told[who] = command

    def _put(self, value: bytes, holders: list[int], unix_now: int) -> None:
        for index in holders:
            held = self.holders[index]
            values = [value] if held is None else [held, value]
            self.holders[index] = values[self.kind.select(KEY, values, unix_now)]

    def _reached(self, who: str, now: float) -> list[int]:
        """Two of the three holders on this side while parted, four of all six afterwards."""
        if now < self.parted_until:
            side = PEOPLE.index(who) % 2
            return self.rng.sample(range(3 * side, 3 * side + 3), 2)
        return self.rng.sample(range(6), 4)


def check(mesh: Mesh, until: float) -> None:
    unix_now = NOW + int(until)
    values = [value for value in mesh.holders if value is not None]
    best = mesh.kind.read(KEY, values[mesh.kind.select(KEY, values, unix_now)], unix_now)
    holding = [who for who, lease in mesh.leases.items() if lease.is_held]
    assert [person(who).peer_id for who in holding] == [best.peer_id]
    for who, lease in mesh.leases.items():
        assert lease.is_held is isinstance(mesh.told[who], NameHeld)


@pytest.mark.parametrize("parted_until", [0.0, 2 * HOUR])
def test_one_owner_everywhere(parted_until: float) -> None:
    for seed in range(scale(1_000, least=20)):
        mesh = Mesh(seed, parted_until=parted_until)
        for who in PEOPLE:
            mesh.at(mesh.rng.uniform(0, 10), who, Claim())
        end = parted_until + 4 * HOUR
        mesh.run(end)
        check(mesh, end)


def test_the_first_in_an_honest_race_wins() -> None:
    """With equal clocks and seconds between them, who asked first has the name."""
    mesh = Mesh(1, parted_until=0)
    mesh.skew = dict.fromkeys(PEOPLE, 0)
    for delay, who in enumerate(["carol", "alice", "bob"]):
        mesh.at(2.0 * delay, who, Claim())
    mesh.run(4 * HOUR)
    check(mesh, 4 * HOUR)
    assert mesh.leases["carol"].is_held
