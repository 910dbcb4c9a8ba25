"""What kind of NAT we are behind, by what several peers see of one socket of ours (RFC 4787, section 4.1).

- `none`: they see an address of an interface of ours.
- `endpoint_independent`: peers at different IPs see the same external address and port.
- `address_dependent`: they see different ones.
- `unknown`: too few have spoken, or they contradict each other.

The majority of the parties decides (see `wws.nat.observed`), and it takes two that agree. That nobody agrees
is believed of three or more only: of two, one may be a liar.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.nat.observed import Observation, Way, weight_of

NatKind: TypeAlias = Literal["none", "endpoint_independent", "address_dependent", "unknown"]

_SEVERITY: Final[dict[NatKind, int]] = {
    "unknown": 0,
    "none": 1,
    "endpoint_independent": 2,
    "address_dependent": 3,
}
_AGREEING = 2
"""Parties that have to see the same."""
_DISAGREEING = 3
"""Parties that have to speak before their disagreement says something about the NAT."""


def kind_of(observations: Sequence[Observation], interfaces: Collection[str]) -> NatKind:
    """The kind that one way's observations show, `interfaces` being the IPs of this machine."""
    parties = weight_of(observations)
    if parties < _AGREEING:
        return "unknown"
    views: dict[Multiaddr | None, list[Observation]] = {}
    for observation in observations:
        # A machine with several addresses is seen at each of them, and behind no NAT for it.
        view = None if observation.seen.host in interfaces else observation.seen
        views.setdefault(view, []).append(observation)
    view, agreeing = max(views.items(), key=lambda item: weight_of(item[1]))
    weight = weight_of(agreeing)
    if weight >= _AGREEING and 2 * weight > parties:
        if view is None:
            return "none"
        if len({observation.observer_ip for observation in agreeing}) >= _AGREEING:
            return "endpoint_independent"
        return "unknown"
    return "address_dependent" if parties >= _DISAGREEING else "unknown"


def kind_by(
    observations: Sequence[Observation], interfaces: Collection[str], entry_points: Collection[PeerId]
) -> NatKind:
    """The kind by the words of entry points, when those tell; else by those of all.

    Peers that we have dialled may be a crowd that somebody has the DHT name to us.
    """
    trusted = [observation for observation in observations if observation.observer in entry_points]
    kind = kind_of(trusted, interfaces)
    return kind_of(observations, interfaces) if kind == "unknown" else kind


def worst(kinds: Iterable[NatKind]) -> NatKind:
    """One word for all ways: the one that makes a connection hardest; unknown ones say nothing."""
    return max(kinds, key=_SEVERITY.__getitem__, default="unknown")


@dataclass(frozen=True, slots=True)
class KindMemoryConfig:
    keep: float = 600.0
    """Seconds that a kind outlives the words that showed it."""


class KindMemory:
    """The kind by way, with memory: peers that leave take no knowledge with them, new words change it."""

    def __init__(self, config: KindMemoryConfig | None = None) -> None:
        self._config = config or KindMemoryConfig()
        self._known: dict[Way, tuple[NatKind, float]] = {}

    def seen(self, way: Way, kind: NatKind, now: float) -> NatKind:
        """Note what the words of now show; the kind that holds."""
        if kind != "unknown":
            self._known[way] = (kind, now)
        return self.of(way, now)

    def of(self, way: Way, now: float) -> NatKind:
        kind, at = self._known.get(way, ("unknown", now))
        return kind if now - at <= self._config.keep else "unknown"

    def summary(self, now: float) -> NatKind:
        """One word for all ways."""
        return worst(self.of(way, now) for way in self._known)

    def forget_all(self) -> None:
        """The network of this machine has changed."""
        self._known.clear()
