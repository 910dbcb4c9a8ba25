"""Watches one circuit: does it still lead to the peer, is it nearly used up, does anybody need it?

    silent for `probe_interval` ──Ping──► probed ──heard──► quiet
                                            '──silent──Retire──► suspected ──heard──► quiet
                                                                     '──silent──GiveUp──► over
    `retire_share` of its bytes or seconds used ──Retire──► goes on
    no streams for `idle_timeout`, and we opened it ──Close──► over

A relay can die without a word, and so can the connection behind it: what a circuit has for a network is only
seen from end to end. To retire a circuit is to begin nothing new on it; what is under way goes on, for as
long as the peer needs to be late and not gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.machine import Command


@dataclass(frozen=True, slots=True)
class WatchConfig:
    probe_interval: float = 2.0
    """Seconds of silence after which the end that opened a circuit probes it."""
    accepted_interval: float = 3.0
    """The same at the other end: longer, so that one probe tells both."""
    probe_timeout: float = 2.0
    """Seconds that the peer has to answer, by anything at all; more for one far away, up to twice as many."""
    last_chance: float = 1.0
    """Seconds of further silence after which what is under way ends too: a circuit is cheap to replace."""
    stall: float = 0.5
    """Seconds by which a look may be late; if it is later, we were away and not the peer."""
    idle_timeout: float = 120.0
    """Seconds without a stream after which a circuit that we opened is closed: others may need its place."""
    retire_share: float = 0.75
    """The part of a circuit's bytes or seconds after which new streams go over a new circuit."""
    retire_margin: float = 30.0
    """Seconds before the end of a long circuit at which that happens at the earliest."""


@dataclass(frozen=True, slots=True)
class Ping(Command):
    """Find out whether the peer is still there."""


@dataclass(frozen=True, slots=True)
class Retire(Command):
    """Begin nothing new on this circuit."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp(Command):
    """End the circuit at once: nothing comes through it."""


@dataclass(frozen=True, slots=True)
class Close(Command):
    """Close the circuit: nobody needs it."""

    reason: str


class CircuitWatch:
    """One circuit, from the moment when its connection is established."""

    def __init__(
        self,
        config: WatchConfig,
        now: float,
        *,
        opened_by_us: bool,
        limit_bytes: int | None = None,
        seconds_left: float | None = None,
    ) -> None:
        self._config = config
        self._opened_by_us = opened_by_us
        self._interval = config.probe_interval if opened_by_us else config.accepted_interval
        self._retire_at: float | None = None
        if seconds_left is not None:
            early = min(seconds_left * (1 - config.retire_share), config.retire_margin)
            self._retire_at = now + seconds_left - early
        self._is_retired = False
        self._heard_at = now
        self._probed_at: float | None = None
        self._answer_by = 0.0
        self._is_suspected = False
        self._close_at: float | None = None
        self.retire_below = -1.0 if limit_bytes is None else limit_bytes * (1 - config.retire_share)
        """Bytes left under which a look is due at once."""

    def look(
        self,
        now: float,
        *,
        heard_at: float,
        idle_since: float | None,
        bytes_left: int | None = None,
        round_trip: float | None = None,
    ) -> list[Command]:
        """What is to be done now. `idle_since` is `None` while there are streams."""
        self._heard_at = max(self._heard_at, heard_at)
        self._close_at = None
        if self._opened_by_us and idle_since is not None:
            self._close_at = idle_since + self._config.idle_timeout
            if self._close_at <= now:
                return [Close("nothing goes over the circuit")]
        if self._retire_at is not None and self._retire_at <= now:
            return self._retire("its time is nearly over") + self._look_for_life(now, round_trip)
        if bytes_left is not None and bytes_left < self.retire_below:
            return self._retire("its bytes are nearly used up") + self._look_for_life(now, round_trip)
        return self._look_for_life(now, round_trip)

    def next_look(self) -> float:
        """When to look again, if no bytes come before."""
        times = [self._heard_at + self._interval if self._probed_at is None else self._answer_by]
        if self._close_at is not None:
            times.append(self._close_at)
        if self._retire_at is not None and not self._is_retired:
            times.append(self._retire_at)
        return min(times)

    def _look_for_life(self, now: float, round_trip: float | None) -> list[Command]:
        config = self._config
        if self._probed_at is not None:
            if self._heard_at >= self._probed_at:
                self._probed_at, self._is_suspected = None, False
            elif now < self._answer_by:
                return []
            elif now >= self._answer_by + config.stall:
                self._probed_at = None
            elif self._is_suspected:
                return [GiveUp()]
            else:
                self._answer_by, self._is_suspected = now + config.last_chance, True
                return self._retire("the peer does not answer through it")
        if now < self._heard_at + self._interval:
            return []
        patience = min(max(config.probe_timeout, 4 * (round_trip or 0.0)), 2 * config.probe_timeout)
        self._probed_at, self._answer_by = now, now + patience
        return [Ping()]

    def _retire(self, reason: str) -> list[Command]:
        if self._is_retired:
            return []
        self._is_retired = True
        self.retire_below = -1.0
        return [Retire(reason)]
