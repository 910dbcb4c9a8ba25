"""Which servers to ask to dial us: entry points first, of different parties, none too often.

A server that does not answer, or says that it is over its limits, is left alone for a while; one that will
not dial a way (it has no IPv6, say) is not asked for that way.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from wws.identity.peer_id import PeerId
from wws.nat.observed import Party, Way
from wws.nat.reachability_events import Server, ServersConfig

UNWILLING: Final = "dial_refused"
"""The reason of an answer which says that the server will not dial such an address."""
_MINUTE = 60.0


@dataclass(slots=True)
class _State:
    server: Server
    in_flight: int = 0
    asked_at: deque[float] = field(default_factory=deque)
    paused_until: float = 0.0
    pauses: int = 0
    unwilling: dict[Way, float] = field(default_factory=dict)


class Servers:
    """The servers that are connected, and what we asked of them. What is known of one that leaves is
    forgotten with it: a reconnect costs it more than us."""

    def __init__(self, config: ServersConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._states: dict[PeerId, _State] = {}
        self._asked_at: deque[float] = deque()
        self._in_flight = 0

    def __len__(self) -> int:
        return len(self._states)

    @property
    def parties(self) -> frozenset[Party]:
        """Those that the servers belong to."""
        return frozenset(state.server.party for state in self._states.values())

    def update(self, servers: Collection[Server]) -> None:
        """These are connected now."""
        chosen = sorted(servers, key=lambda server: not server.is_preferred)[: self._config.max_servers]
        before, self._states = self._states, {}
        for server in chosen:
            state = before.pop(server.peer, None) or _State(server)
            state.server = server
            self._states[server.peer] = state
        for gone in before.values():
            self._in_flight -= gone.in_flight

    def choose(
        self,
        way: Way,
        now: float,
        *,
        count: int,
        without: Collection[Party] = (),
        without_ips: Collection[str] = (),
        to_probe_through: bool = False,
    ) -> list[Server]:
        """Up to `count` servers to ask for `way` now, of distinct parties, none of them in `without`; with
        `to_probe_through` only those that a fresh socket could dial that way."""
        room = min(count, self._room(now))
        if room <= 0:
            return []
        free = [
            state.server
            for state in self._states.values()
            if self._free_at(state, way, now) <= now
            and (state.server.version == way.version or not state.in_flight)
            and state.server.party not in without
            and state.server.ip not in without_ips
            and (not to_probe_through or way in state.server.probe_ways)
        ]
        # Another family than the server sees us over costs it a third party's dial, and us the bytes for it
        # and seconds of waiting: such questions come last, and one at a time, so that others find room.
        order = {server.peer: self._rng.random() for server in free}
        free.sort(key=lambda s: (s.version != way.version, not s.is_preferred, order[s.peer]))
        by_party: dict[Party, Server] = {}
        for server in free:
            by_party.setdefault(server.party, server)
        return list(by_party.values())[:room]

    def is_free(self, peer: PeerId, way: Way, now: float) -> bool:
        """Whether this server can be asked now."""
        state = self._states.get(peer)
        return state is not None and self._free_at(state, way, now) <= now

    def asked(self, peer: PeerId, now: float) -> None:
        """A request is on its way to a server."""
        state = self._states[peer]
        state.in_flight += 1
        state.asked_at.append(now)
        self._in_flight += 1
        self._asked_at.append(now)

    def answered(self, peer: PeerId, way: Way, reached: bool | None, reason: str, now: float) -> None:
        """What came of it. A server that has left is not missed."""
        state = self._states.get(peer)
        if state is None or not state.in_flight:
            return
        state.in_flight -= 1
        self._in_flight -= 1
        if reached is not None:
            state.pauses = 0
        elif reason == UNWILLING or state.server.version != way.version:
            # What the other family lacks, be it a route or the budget for paid dials, is not missing here.
            state.unwilling[way] = now + self._config.longest_pause
        else:
            pause = min(self._config.pause * 2 ** min(state.pauses, 10), self._config.longest_pause)
            state.pauses += 1
            state.paused_until = now + pause

    def release(self, peer: PeerId) -> None:
        """A request to a server does not matter any more, whatever comes of it."""
        state = self._states.get(peer)
        if state is not None and state.in_flight:
            state.in_flight -= 1
            self._in_flight -= 1

    def next_free(self, way: Way, now: float) -> float | None:
        """When a server that cannot be asked for `way` now may be again; `None` when only an event helps."""
        times = [self._free_at(state, way, now) for state in self._states.values()]
        if len(self._asked_at) >= self._config.per_minute:
            times.append(self._asked_at[0] + _MINUTE)
        return min((time for time in times if now < time < float("inf")), default=None)

    def _room(self, now: float) -> int:
        _forget(self._asked_at, now)
        return min(self._config.in_flight - self._in_flight, self._config.per_minute - len(self._asked_at))

    def _free_at(self, state: _State, way: Way, now: float) -> float:
        most = self._config.in_flight_per_server if state.server.keeps_apart else 1
        if state.in_flight >= most:
            return float("inf")  # an answer or a time-out will come
        _forget(state.asked_at, now)
        times = [state.paused_until, state.unwilling.get(way, 0.0)]
        if len(state.asked_at) >= self._config.per_minute_per_server:
            times.append(state.asked_at[0] + _MINUTE)
        return max(times)


def _forget(times: deque[float], now: float) -> None:
    while times and times[0] + _MINUTE <= now:
        times.popleft()
