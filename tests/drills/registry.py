"""Which worlds there are, and which drill comes before which."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.drills.pages import drills
from tests.drills.stack_world import LocalStack
from tests.drills.worlds import World
from tests.drills.zone_world import ZoneWorld

WORLDS: dict[str, Callable[[], World]] = {
    "local": LocalStack,
    "zone": ZoneWorld,
}
"""The name in the head of a drill → its world. One on hosts is a line here and a module."""

ORDER: tuple[str, ...] = ("first-deployment",)
"""Drills that come before all others."""

LAST: tuple[str, ...] = ("all-gone",)
"""Drills after which there is nothing left for others."""


def drills_of(world: str) -> list[str]:
    """The drills of this world, in the order in which they are run."""
    return in_order([name for name, made_for in drills().items() if made_for == world])


def in_order(names: Sequence[str]) -> list[str]:
    """The drills in the order in which they are run."""
    return sorted(names, key=lambda name: (name in LAST, name not in ORDER, name))
