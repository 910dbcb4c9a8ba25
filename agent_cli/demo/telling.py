"""How the demo tells its steps: with a sign of life on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.result import write_out
from agent_cli.text import printable


@dataclass(slots=True)
class Telling:
    """Tells each step when it is done, with the time it took; silent with --json and --quiet."""

    options: Options
    began: float = field(default_factory=time.monotonic)
    steps: list[dict[str, object]] = field(default_factory=list)

    @property
    def took(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @contextmanager
    def step(self, doing: str) -> Iterator[Callable[[str], None]]:
        """One step: `doing` is shown meanwhile; the block calls what it gets with what has come of it."""
        outcome: list[str] = [doing]
        began = time.monotonic()
        with progress(self.options, doing):
            yield outcome.append
        took = time.monotonic() - began
        self.steps.append({"step": outcome[-1], "took_s": round(took, 3)})
        seconds = f"{took:6.1f} s"
        if self._is_coloured:
            seconds = f"\x1b[32m✓\x1b[0m \x1b[2m{seconds}\x1b[0m"
        self.say(f"{seconds}  {outcome[-1]}", is_trusted=True)

    def say(self, line: str = "", *, is_trusted: bool = False) -> None:
        if not self.options.json and not self.options.quiet:
            write_out(line if is_trusted else printable(line))

    @property
    def _is_coloured(self) -> bool:
        return sys.stdout.isatty() and self.options.has_colour
