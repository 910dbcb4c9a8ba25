"""How many nodes serve the swarm, told from how close together the closest to a position stand.

Positions are hashes, so they are spread evenly. Where the k-th closest peer to some position stands at the
share x of the key space, k / x peers are expected in all; k/x is distributed like n·k / Gamma(k), whose
median is n·k / (k - 1/3). Each look-up for another position is a sample, and the median over them is taken:
a few look-ups whose neighbourhood somebody crowded do not move it. One sample's relative error is about
1/sqrt(k - 2), and the median of m samples has 1.25/sqrt(m) of that; low and high are two such errors away.

A swarm so small that a look-up met everyone is counted instead. Nodes that only ask (behind a NAT) are in
nobody's table and count in neither.
"""

from __future__ import annotations

import math
import statistics
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wws.dht.positions import KEY_SPACE

Method: TypeAlias = Literal["counted", "density"]


@dataclass(frozen=True, slots=True)
class SizeConfig:
    max_samples: int = 64
    """Look-ups remembered; the oldest go first."""
    sample_lifetime: float = 3600.0
    """Seconds for which a look-up counts."""
    few_samples: int = 8
    """Look-ups below which the narrow ones count for the density as well."""
    share_kept: float = 60.0
    """Seconds after which the density is reckoned again although nothing new was seen."""
    errors: float = 2.0
    """How many standard errors `low` and `high` are away from `count`."""


@dataclass(frozen=True, slots=True)
class SwarmSizeEstimate:
    """The number of serving nodes, this one included where it serves, between `low` and `high`."""

    count: int
    low: int
    high: int
    method: Method


class SwarmSize:
    """Collects what look-ups saw."""

    def __init__(self, k: int, config: SizeConfig | None = None) -> None:
        self._k = k
        self._config = config or SizeConfig()
        self._samples: OrderedDict[int, tuple[float, float]] = OrderedDict()
        self._narrow: OrderedDict[int, tuple[float, float]] = OrderedDict()
        self._counted: int | None = None
        self._share: float | None = None
        self._share_until = float("-inf")

    def saw(self, target: int, distances: list[int], now: float) -> None:
        """A look-up for `target` ended with the closest answered at these distances, closest first, the
        nearest being `distances[0]`. Fewer than k of them means that these are all there are."""
        self._share_until = float("-inf")
        if len(distances) < self._k:
            self._counted = len(distances)
            self._samples.clear()
            self._narrow.clear()
            return
        self._counted = None
        self._samples.pop(target, None)
        self._samples[target] = ((distances[self._k - 1] + 1) / KEY_SPACE, now)
        while len(self._samples) > self._config.max_samples:
            self._samples.popitem(last=False)

    def saw_narrowly(self, target: int, distances: list[int], now: float) -> None:
        """A narrow look-up for a random `target` found these nearest. Too few for a good estimate, but at a
        place that nobody could crowd beforehand."""
        self._share_until = float("-inf")
        self._narrow.pop(target, None)
        self._narrow[target] = ((distances[-1] + 1) / KEY_SPACE * self._k / len(distances), now)
        while len(self._narrow) > self._config.max_samples:
            self._narrow.popitem(last=False)

    def share(self, now: float) -> float | None:
        """The share of the key space in which k peers are expected; `None` before anything was seen.

        While there are few samples, the rough ones count as well: a node that has only looked for itself
        and for one key must not take the crowd around either for the density of the swarm."""
        # Asked with every request that is served: reckoned again when something was seen, or got old.
        if self._share_until <= now:
            shares = self._fresh(self._samples, now)
            if len(shares) < self._config.few_samples:
                shares += self._fresh(self._narrow, now)
            self._share = statistics.median(shares) if shares else None
            self._share_until = now + self._config.share_kept
        return self._share

    def _fresh(self, samples: Mapping[int, tuple[float, float]], now: float) -> list[float]:
        return [share for share, at in samples.values() if now - at <= self._config.sample_lifetime]

    def estimate(self, known: int, serving: bool, now: float) -> SwarmSizeEstimate:
        """The estimate. `known` peers are in the routing table, which no estimate goes below."""
        own = 1 if serving else 0
        least = known + own
        shares = self._fresh(self._samples, now)
        share = statistics.median(shares) if shares else None
        if share is None:
            counted = max(self._counted or 0, known) + own
            return SwarmSizeEstimate(counted, counted, counted, "counted")
        count = (self._k - 1 / 3) / share
        # Neighbourhoods of k that overlap say the same twice: there are no more than n / k different ones.
        samples = min(len(shares), max(1.0, count / self._k))
        error = self._config.errors * (1.25 if samples > 2 else 1.0) / math.sqrt(samples * (self._k - 2))
        low = max(least, round(count / (1 + error)))
        high = max(low, round(count * (1 + error)))
        return SwarmSizeEstimate(min(max(round(count), low), high), low, high, "density")
