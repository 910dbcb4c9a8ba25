"""A simulated network: distances, loss, partitions, and what a connection costs.

Nodes stand on a plane; the round trip of two is `access_delay` and what their distance adds, with a median
of `median_round_trip`. A message that is lost comes later (TCP sends it again), it does not vanish. Opening
a connection takes `dial_round_trips`: TCP, Noise, and identify, before which a peer is not asked anything.
A host that is off answers a dial with silence, one whose program ended with a reset.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.testing.simulated_time import SimulatedTime


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    median_round_trip: float = 0.080
    """Median seconds of a round trip between two random nodes."""
    access_delay: float = 0.010
    """Seconds of it that do not depend on the distance."""
    jitter: float = 0.1
    """Share by which each message is late at most."""
    loss: float = 0.01
    """Share of messages that are sent again."""
    retransmission: float = 0.25
    """Seconds until a lost message is sent again; doubled each further time."""
    dial_round_trips: float = 3.0
    """Round trips to open a connection: TCP, Noise, identify."""
    detection: tuple[float, float] = (10.0, 40.0)
    """Seconds, from and to, after which the end of a silent peer is noticed (keep-alive)."""
    processing: float = 0.001
    """Seconds to answer a request."""


MEDIAN_DISTANCE = 0.512
"""Of two random points in the unit square."""


class Place:
    """Where a node is, and whether it can be reached."""

    __slots__ = ("address", "dialable", "group", "index", "online", "prefix", "silent", "x", "y")

    def __init__(self, index: int, x: float, y: float, dialable: bool) -> None:
        self.index = index
        self.x = x
        self.y = y
        self.dialable = dialable
        self.online = True
        self.silent = False
        """Offline without a word: dials to it time out instead of being reset."""
        self.group = 0
        """The side of a partition that the node is on."""
        ip = f"{20 + (index >> 16)}.{index >> 8 & 255}.{index & 255}.1"
        self.address = Multiaddr.of(ip, 9000)
        self.prefix = f"{ip[:-2]}.0/24"


class SimulatedNetwork:
    """Distances and delays between places, and a trace of all that was delivered."""

    def __init__(self, time: SimulatedTime, rng: random.Random, config: NetworkConfig | None = None) -> None:
        self.time = time
        self.config = config or NetworkConfig()
        self.places: list[Place] = []
        self.delivered = 0
        self.dialled = 0
        self._rng = rng
        self._trace = hashlib.blake2b(digest_size=16)
        self._per_distance = (self.config.median_round_trip - self.config.access_delay) / MEDIAN_DISTANCE

    def settle(self, dialable: bool, like: Place | None = None) -> Place:
        """A place for one more node: at a prefix of its own, or at that of another."""
        place = Place(len(self.places), self._rng.random(), self._rng.random(), dialable)
        if like is not None:
            place.prefix = like.prefix
            place.address = like.address.with_port(10_000 + place.index)
        self.places.append(place)
        return place

    def round_trip(self, a: Place, b: Place) -> float:
        """Seconds there and back, without jitter and loss."""
        return self.config.access_delay + self._per_distance * math.hypot(a.x - b.x, a.y - b.y)

    def one_way(self, a: Place, b: Place) -> float:
        """Seconds that one message takes now."""
        delay = self.round_trip(a, b) / 2 * (1 + self.config.jitter * self._rng.random())
        wait = self.config.retransmission
        while self._rng.random() < self.config.loss:
            delay += wait
            wait *= 2
        return delay

    def dial_time(self, a: Place, b: Place) -> float:
        """Seconds that opening a connection takes."""
        trips = self.config.dial_round_trips
        whole = int(trips)
        return sum(self.one_way(a, b) + self.one_way(b, a) for _ in range(whole)) + (trips - whole) * (
            self.round_trip(a, b)
        )

    def can_reach(self, a: Place, b: Place) -> bool:
        """Whether a message from one arrives at the other now."""
        return a.online and b.online and a.group == b.group

    def detection_time(self) -> float:
        """Seconds until somebody notices that a peer went silent."""
        least, most = self.config.detection
        return least + (most - least) * self._rng.random()

    def deliver(self, a: Place, b: Place, kind: int, action: Callable[..., None], *arguments: object) -> None:
        """Let a message of `kind` arrive at `b`. What arrives, when and from whom is the run's trace."""
        when = self.time.now + self.one_way(a, b)
        self.delivered += 1
        self._trace.update(struct.pack("<dIIB", when, a.index, b.index, kind))
        self.time.at(when, action, *arguments)

    def trace(self) -> str:
        """A hash of everything delivered so far: equal for equal seeds."""
        return self._trace.hexdigest()

    def part(self, groups: Callable[[Place], int]) -> None:
        """Divide the network: places of different groups do not reach each other from now on."""
        for place in self.places:
            place.group = groups(place)

    def heal(self) -> None:
        """Undo `part`."""
        self.part(lambda place: 0)
