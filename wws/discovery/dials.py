"""Which address is dialled when: the pacing of one round of the search (RFC 8305, "Happy Eyeballs").

Typed and pinned peers start at once, each with its first address; everything else starts 250 ms after the
last start, or as soon as a dial fails. All addresses of a peer share one deadline. The order is made anew
before each start, so that what DNS brings late does not queue behind what is known to be stale.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.entry_points import Candidate, Source
from wws.discovery.guidance import AttemptReport
from wws.identity.peer_id import PeerId

Target: TypeAlias = tuple[PeerId, Multiaddr]

AT_ONCE = (Source.BOOTSTRAP, Source.PINNED)
"""Peers of these sources do not wait for each other."""


@dataclass(frozen=True, slots=True)
class DialConfig:
    """The times and bounds of dialling; times in seconds."""

    stagger: float = 0.25
    """Between the starts of two dials that do not start at once."""
    timeout: float = 10.0
    """For all addresses of one peer in one round."""
    answer_grace: float = 2.0
    """How much longer the driver may take to answer before a dial counts as timed out."""
    max_under_way: int = 16
    """Most dials under way."""
    max_reported: int = 64
    """Most failed dials that are remembered of a round."""


class Dials:
    """The dials of a round, and those under way from before."""

    def __init__(self, config: DialConfig) -> None:
        self.failed: list[AttemptReport] = []
        """What failed in this round, up to `max_reported`."""
        self._config = config
        self._waiting: deque[tuple[Target, Source]] = deque()
        self._started: set[Target] = set()
        self._deadlines: dict[PeerId, float] = {}
        self._under_way: dict[Target, tuple[Source, float]] = {}
        self._next_at = 0.0

    @property
    def is_dry(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not self._waiting and not self._under_way

    def begin(self, now: float) -> None:
        """A new round: everything may be tried again."""
        self.end()
        self.failed.clear()
        self._started.clear()
        self._deadlines.clear()
        self._next_at = now

    def end(self) -> None:
        """The round is over; dials under way go on."""
        self._waiting.clear()

    def order(self, candidates: Iterable[Candidate], connected: Collection[PeerId]) -> None:
        """What is to be tried, best first, without what was tried already and who is connected."""
        ranked: list[tuple[int, int, Target, Source]] = []
        for place, candidate in enumerate(candidates):
            if candidate.peer_id in connected:
                continue
            for turn, address in enumerate(candidate.addresses):
                target = (candidate.peer_id, address)
                if target in self._started or target in self._under_way:
                    continue
                # A peer's next address comes after the first ones of the next four peers.
                rank = (
                    -1 if self._starts_at_once(target, candidate.source) and turn == 0 else place + 4 * turn
                )
                ranked.append((rank, turn, target, candidate.source))
        ranked.sort(key=lambda item: item[:2])
        self._waiting = deque((target, source) for _, _, target, source in ranked)

    def start(self, now: float) -> list[tuple[Target, float]]:
        """What starts now, each with its time-out."""
        started: list[tuple[Target, float]] = []
        while self._waiting and len(self._under_way) < self._config.max_under_way:
            target, source = self._waiting[0]
            at_once = self._starts_at_once(target, source)
            if not at_once and now < self._next_at:
                break
            self._waiting.popleft()
            self._started.add(target)
            deadline = self._deadlines.setdefault(target[0], now + self._config.timeout)
            if deadline <= now:
                self._note(target, source, "timeout")
                continue
            self._under_way[target] = (source, deadline)
            # Rounding could make it a little more.
            started.append((target, min(deadline - now, self._config.timeout)))
            if not at_once:
                self._next_at = now + self._config.stagger
        return started

    def start_beside(self, target: Target, source: Source, now: float) -> list[tuple[Target, float]]:
        """The same for one target outside any round; nothing when it is under way or there are too many."""
        if target in self._under_way or len(self._under_way) >= self._config.max_under_way:
            return []
        self._under_way[target] = (source, now + self._config.timeout)
        return [(target, self._config.timeout)]

    def succeeded(self, target: Target) -> Source | None:
        """A dial has succeeded; returns by what right it was started."""
        return self._under_way.pop(target, (None, 0.0))[0]

    def fail(self, target: Target, code: str, now: float) -> None:
        """A dial has failed; another one may start in its stead."""
        source, _ = self._under_way.pop(target, (None, 0.0))
        if source is not None:
            self._note(target, source, code)
            self._next_at = now

    def overdue(self, now: float) -> list[Target]:
        """The dials that the driver should have answered."""
        return [
            t for t, (_, deadline) in self._under_way.items() if deadline + self._config.answer_grace <= now
        ]

    def count(self, source: Source) -> int:
        """How many peers are being dialled by this right."""
        return len({peer for (peer, _), (right, _) in self._under_way.items() if right is source})

    def next_wakeup(self) -> float | None:
        """When something may start or is overdue."""
        times = [deadline + self._config.answer_grace for _, deadline in self._under_way.values()]
        if self._waiting and len(self._under_way) < self._config.max_under_way:
            times.append(self._next_at)
        return min(times, default=None)

    def _starts_at_once(self, target: Target, source: Source) -> bool:
        return source in AT_ONCE and target[0] not in self._deadlines

    def _note(self, target: Target, source: Source, code: str) -> None:
        if len(self.failed) < self._config.max_reported:
            self.failed.append(AttemptReport(str(target[0]), str(target[1].without_peer()), source, code))
