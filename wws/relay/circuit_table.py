"""The circuits through this relay: who reaches whom, how many at a time, how long and how much.

Every circuit takes a place from the moment that its destination is asked until the driver says that nothing
of it is left, however it came to that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.mesh.rates import Rates
from wws.relay.messages import Limit
from wws.relay.places import Places


@dataclass(frozen=True, slots=True)
class CircuitConfig:
    max_circuits: int = 1024
    """Circuits in total."""
    max_per_source: int = 32
    """Circuits that one peer has asked for."""
    max_per_destination: int = 64
    """Circuits that lead to one peer."""
    max_per_prefix: int = 128
    """Circuits that peers of one public IPv4 /24 or IPv6 /56 have asked for."""
    max_per_destination_prefix: int = 16
    """Circuits to one peer that peers of one such prefix have asked for: others are to reach it too."""
    max_bytes: int = 2 * 1024 * 1024
    """Bytes of one circuit in each direction, as the specification counts them; 0: no bound."""
    max_duration: float = 600.0
    """Seconds of one circuit; 0: no bound."""
    per_second: float = 2.0
    """Requests of one peer that are looked at in the long run."""
    burst: int = 16
    """The same at once."""
    prefix_share: int = 4
    """Peers' worth of requests that one public prefix gets: identities cost nothing."""
    max_tracked: int = 8192
    """Peers, and prefixes, whose rate is remembered."""

    @property
    def limit(self) -> Limit | None:
        """What the peers at both ends are told; `None` when there are no bounds."""
        return _limit(self.max_bytes, self.max_duration)


class CircuitState(Enum):
    OPENING = "opening"
    """The destination has been asked."""
    OPEN = "open"
    """Bytes go both ways."""
    ENDING = "ending"
    """It is being torn down, and its place not free yet."""


@dataclass(slots=True)
class Circuit:
    """One way through this relay."""

    circuit_id: int
    source: PeerId
    destination: PeerId
    prefix: str | None
    max_bytes: int
    max_duration: float
    state: CircuitState = CircuitState.OPENING
    deadline: float | None = None
    """When its time is over; `None` before it is open, and without a bound."""
    to_destination: int = 0
    """Bytes carried towards the destination."""
    to_source: int = 0
    answered: bool = False
    """Whether the destination has said yes or no."""
    reason: str = ""
    """Why it is ending."""

    @property
    def limit(self) -> Limit | None:
        """What the peers at its ends are told."""
        return _limit(self.max_bytes, self.max_duration)

    def open(self, now: float) -> None:
        """The destination has accepted: the time of the circuit begins."""
        self.state = CircuitState.OPEN
        self.deadline = now + self.max_duration if self.max_duration else None

    def carry(self, count: int, *, to_destination: bool) -> bool:
        """Count bytes, when they fit into the limit of their direction."""
        carried = count + (self.to_destination if to_destination else self.to_source)
        if 0 < self.max_bytes < carried:
            return False
        if to_destination:
            self.to_destination = carried
        else:
            self.to_source = carried
        return True


class CircuitTable:
    """All circuits."""

    def __init__(self, config: CircuitConfig) -> None:
        self._ids = itertools.count(1)
        self._circuits: dict[int, Circuit] = {}
        self._per_source: Places[PeerId] = Places()
        self._per_destination: Places[PeerId] = Places()
        self._per_prefix: Places[str] = Places()
        self._per_pair: Places[tuple[str, PeerId]] = Places()
        share = config.prefix_share
        self._rates = Rates(config.per_second, config.burst, config.max_tracked)
        self._prefix_rates = Rates(config.per_second * share, config.burst * share, config.max_tracked)
        self._config = config

    def reconfigure(self, config: CircuitConfig) -> None:
        """Let other bounds hold from now on; what a circuit was promised it keeps."""
        self._config = config
        share = config.prefix_share
        self._rates.reconfigure(config.per_second, config.burst, config.max_tracked)
        self._prefix_rates.reconfigure(config.per_second * share, config.burst * share, config.max_tracked)

    def __len__(self) -> int:
        return len(self._circuits)

    def __iter__(self) -> Iterator[Circuit]:
        return iter(list(self._circuits.values()))

    def __getitem__(self, circuit_id: int) -> Circuit:
        """The circuit. Raises `LocalProtocolError` when there is none."""
        circuit = self._circuits.get(circuit_id)
        if circuit is None:
            raise LocalProtocolError(f"there is no circuit {circuit_id}")
        return circuit

    def is_too_frequent(self, source: PeerId, prefix: str | None, now: float) -> bool:
        """Count a request; whether the peer, or its prefix, has made too many."""
        return not self._rates.take(source, now) or (
            prefix is not None and not self._prefix_rates.take(prefix, now)
        )

    def why_not(self, source: PeerId, destination: PeerId, prefix: str | None) -> str | None:
        """Which bound one more circuit would pass, or `None`."""
        if len(self._circuits) >= self._config.max_circuits:
            return "circuits_total"
        if self._per_source.held(source) >= self._config.max_per_source:
            return "circuits_source"
        if self._per_destination.held(destination) >= self._config.max_per_destination:
            return "circuits_destination"
        if self._per_prefix.held(prefix) >= self._config.max_per_prefix:
            return "circuits_prefix"
        if self._per_pair.held(_pair(prefix, destination)) >= self._config.max_per_destination_prefix:
            return "circuits_destination_prefix"
        return None

    def add(self, source: PeerId, destination: PeerId, prefix: str | None) -> Circuit:
        """Take a place for a circuit that `why_not` has nothing against."""
        config = self._config
        circuit = Circuit(next(self._ids), source, destination, prefix, config.max_bytes, config.max_duration)
        self._circuits[circuit.circuit_id] = circuit
        self._per_source.take(source)
        self._per_destination.take(destination)
        self._per_prefix.take(prefix)
        self._per_pair.take(_pair(prefix, destination))
        return circuit

    def remove(self, circuit: Circuit) -> None:
        """Give the place back."""
        del self._circuits[circuit.circuit_id]
        self._per_source.give_back(circuit.source)
        self._per_destination.give_back(circuit.destination)
        self._per_prefix.give_back(circuit.prefix)
        self._per_pair.give_back(_pair(circuit.prefix, circuit.destination))

    def overdue(self, now: float) -> list[Circuit]:
        """The open circuits whose time is over."""
        return [
            circuit
            for circuit in self
            if circuit.state is CircuitState.OPEN and circuit.deadline is not None and circuit.deadline <= now
        ]

    def next_wakeup(self) -> float | None:
        """When the time of the next circuit is over."""
        deadlines = [
            circuit.deadline
            for circuit in self._circuits.values()
            if circuit.state is CircuitState.OPEN and circuit.deadline is not None
        ]
        return min(deadlines, default=None)


def _pair(prefix: str | None, destination: PeerId) -> tuple[str, PeerId] | None:
    return None if prefix is None else (prefix, destination)


def _limit(max_bytes: int, max_duration: float) -> Limit | None:
    if not max_bytes and not max_duration:
        return None
    return Limit(max(1, int(max_duration)) if max_duration else 0, max_bytes)
