"""Which worlds there are, and which drill comes before which."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.drills.hosts_world import HostsWorld, TwoHostsWorld
from tests.drills.knot_world import KnotWorld
from tests.drills.pages import drills
from tests.drills.stack_world import LocalStack
from tests.drills.worlds import World
from tests.drills.zone_world import ZoneWorld

WORLDS: dict[str, Callable[[], World]] = {
    "hosts": HostsWorld,
    "knot": KnotWorld,
    "local": LocalStack,
    "two-hosts": TwoHostsWorld,
    "zone": ZoneWorld,
}
"""The name in the head of a drill → its world."""

ORDER: tuple[str, ...] = ("first-deployment", "own-hosts", "upgrade", "backup", "lost-machine")
"""Drills that come before all others, in this order."""

LATE: tuple[str, ...] = ("another-node", "compromised-node", "last-backup", "moved-node", "whole-roll")
"""Drills that come after the others of their world: they leave more behind than they found."""

LAST: tuple[str, ...] = ("all-gone",)
"""Drills after which there is nothing left for others."""


def drills_of(world: str) -> list[str]:
    """The drills of this world, in the order in which they are run."""
    return in_order([name for name, made_for in drills().items() if made_for == world])


def in_order(names: Sequence[str]) -> list[str]:
    """The drills in the order in which they are run."""
    places = {name: place for place, name in enumerate(ORDER)}
    return sorted(names, key=lambda name: (name in LAST, name in LATE, places.get(name, len(places)), name))
