"""The worlds of the drills, each made when the first drill asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.drills.registry import WORLDS
from tests.drills.worlds import World

Worlds = Callable[[str], World]


@pytest.fixture(scope="session")
def world_called() -> Iterator[Worlds]:
    """A world by its name."""
    made: dict[str, World] = {}
    with ExitStack() as stack:

        def world(name: str) -> World:
            if name not in made:
                made[name] = stack.enter_context(WORLDS[name]())
            return made[name]

        yield world
