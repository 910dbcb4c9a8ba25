"""The global options, as a record (contract, section 2).

They are accepted before and after the command, with one meaning: what is said in both places is merged
into one `Options`. `wws status` is read by `quick_options`, everything else by Typer
(`agent_cli.registration`): Typer brings Pydantic along, which alone takes longer than a status may.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final


@dataclass(slots=True)
class Options:
    """What holds for every command. Filled while the command line is parsed, then only read."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    config: str | None = None
    home: str | None = None
    node: str | None = None
    arguments: list[str] = field(default_factory=list)
    """The whole command line, for the report of a bug."""
    before_command: dict[str, str | None] = field(default_factory=dict)
    """What a group of commands was given before its command."""

    @property
    def shows_progress(self) -> bool:
        """Progress is for people who look: stderr is a terminal, and neither --json nor --quiet was given."""
        return not self.json and not self.quiet and _is_terminal(sys.stderr)

    @property
    def has_colour(self) -> bool:
        """NO_COLOR counts when it is set to anything (no-color.org)."""
        return not (self.no_color or os.environ.get("NO_COLOR")) and _is_terminal(sys.stderr)

    def again(self, command: str, *, node: str | None = None) -> str:
        """A command to be typed next, about the same home, and about this node where that must be said."""
        return f"wws{self._same_home()} {command}" + (f" --node {node}" if node else "")

    def exact(self, advice: str) -> str:
        """The advice with its `wws` commands as they must be typed to mean the same home and node."""
        home = self._same_home()
        names_one = "--node" in advice or "--name" in advice
        node = f" --node {shlex.quote(self.node)}" if self.node and not names_one else ""
        return _COMMAND.sub(lambda found: f"wws{home}{node} ", advice) if home or node else advice

    def _same_home(self) -> str:
        if not self.home:
            return ""
        from wws.runtime.homes import choose_home

        return f" --home {shlex.quote(str(choose_home(self.home, os.environ).root.absolute()))}"

    def red(self, text: str) -> str:
        return f"\x1b[1;31m{text}\x1b[0m" if self.has_colour else text


_COMMAND: Final = re.compile(
    r"\bwws (?=(?:join|leave|status|peers|logs|id|resolve|name|token|ping|call|network|config|service)\b)"
)
"""Where a command begins that depends on the home."""

SWITCHES: Final = {
    "--json": "json",
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
    "--no-color": "no_color",
}
"""The global options without a value → the member of `Options`."""

VALUED: Final = {"--config": "config", "--home": "home", "--node": "node"}
"""The global options with a value → the member of `Options`."""


def quick_options(arguments: Sequence[str], command: str) -> Options | None:
    """The options of a line that holds the command and global options only; None for any other line."""
    options = Options(arguments=list(arguments))
    found = False
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if word in SWITCHES:
            setattr(options, SWITCHES[word], True)
        elif flag in VALUED:
            given = value if equals else next(words, "")
            if not given or given.startswith("-"):
                return None
            setattr(options, VALUED[flag], given)
        elif word == command and not found:
            found = True
        else:
            return None
    return options if found else None


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False
