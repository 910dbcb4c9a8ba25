"""Watches a simulation for what must never be: two owners of one name, both witnessed.

    watch = OwnersWatch(witnesses, time)
    ...
    assert watch.conflicts == []

It hears of every full receipt before it leaves its witness, so nothing that any reader could ever be shown
escapes it: of each name it knows until when each owner could show a record with the receipts of a majority,
and that such a record stands in the way of others until it is dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from wws.identity.peer_id import PeerId
from wws.names.cover import Cover, Panel
from wws.names.receipts import Receipt
from wws.testing.simulated_time import SimulatedTime
from wws.testing.simulated_witnesses import SimulatedWitnesses

_Name: TypeAlias = tuple[str, str]
_Lease: TypeAlias = tuple[PeerId, int, str | None]
"""Owner, `registered_at`, `via`."""


@dataclass(frozen=True, slots=True)
class TwoOwners:
    """Two owners that could be shown as witnessed at one moment."""

    name: str
    one: PeerId
    other: PeerId
    at: int


class OwnersWatch:
    """`conflicts`: what was found so far. `receipts`: how many were looked at."""

    def __init__(self, witnesses: SimulatedWitnesses, time: SimulatedTime) -> None:
        self.conflicts: list[TwoOwners] = []
        self.receipts = 0
        self._witnesses = witnesses
        self._time = time
        self._given: dict[_Name, dict[_Lease, dict[PeerId, Receipt]]] = {}
        witnesses.on_receipt = self._saw

    def check_all(self) -> None:
        """Look at every name: other witnesses count from now on."""
        for name in self._given:
            self._check(name)

    def witnessed(self, name: str, swarm: str = "public") -> frozenset[PeerId]:
        """Who could show a record of this name that is witnessed, and not dead."""
        return frozenset(owner for owner, _, _ in self._covered((swarm, name)))

    def _saw(self, receipt: Receipt) -> None:
        self.receipts += 1
        name = (receipt.swarm, receipt.name)
        lease = (receipt.owner, receipt.registered_at, receipt.via)
        given = self._given.setdefault(name, {}).setdefault(lease, {})
        known = given.get(receipt.witness)
        if known is None or known.expires_at < receipt.expires_at:
            given[receipt.witness] = receipt
            self._check(name)

    def _check(self, name: _Name) -> None:
        for one, other in combinations(self._covered(name), 2):
            # A transfer moves the name under the receipts of who gave it: the longer chain wins.
            if one[0] != other[0] and one[2] is None and other[2] is None:
                self.conflicts.append(TwoOwners(name[1], one[0], other[0], self._time.unix_now))

    def _covered(self, name: _Name) -> list[_Lease]:
        panel, unix_now = Panel(*self._witnesses.sets()), self._time.unix_now
        swarm, word = name
        return [
            lease
            for lease, given in self._given.get(name, {}).items()
            if Cover.of(
                panel,
                given.values(),
                owner=lease[0],
                name=word,
                swarm=swarm,
                registered_at=lease[1],
                via=lease[2],
            ).can_be_taken_over
            > unix_now
        ]
