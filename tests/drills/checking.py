"""What every drill must hold: it ends well, and prints what the pages show."""

from __future__ import annotations

from difflib import unified_diff

from tests.drills.pages import normalised, shown_blocks, steps_of, text_of
from tests.drills.worlds import World


def check(drill: str, world: World) -> None:
    """Run a drill in its world, and compare each block that shows it."""
    steps = steps_of(world.run(drill))
    blocks = [block for block in shown_blocks() if block.drill == drill]
    for block in blocks:
        shown, told = normalised(block.text), normalised(text_of(steps, block.step))
        difference = "\n".join(unified_diff(shown, told, block.page.name, drill, lineterm="", n=1))
        assert not difference, f"python -m tests.drills record {drill}, when this is right:\n{difference}"
