"""`wws-ops`: finds the command, runs it, prints its result, ends with its exit code.

As `wws` does it: the same global options, the same envelope with `--json`, the same exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from wws import __version__

if TYPE_CHECKING:
    from agent_cli.options import Options
    from agent_cli.result import Result

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "status": (),
    "logs": (),
    "drain": (),
    "exec": (),
    "deny": ("add", "remove", "list"),
    "upgrade": (),
    "rollback": (),
    "backup": (),
    "restore": (),
    "destroy": (),
    "probe": (),
    "witness": ("list", "log", "conflicts"),
}
"""Each command, and the commands below it where it is a group."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of `wws-ops`: runs the command line and exits."""
    try:
        code = run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code is returned. Prints everything it has to say."""
    if arguments == ["--version"]:
        print(f"wws-ops {__version__}")
        return 0
    from agent_cli.options import Options
    from agent_cli.report import guarded

    # Behind `--` stands the command of somebody else.
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    options = Options(json="--json" in ours, arguments=["wws-ops", *arguments])
    return guarded(lambda: _invoke(arguments, options), schema=schema_of(ours), options=options)


def schema_of(arguments: Sequence[str]) -> str:
    """The schema of the envelope, read off the command line: it must be known for wrong usage too."""
    group = next((word for word in arguments if word in COMMANDS), None)
    if group is None:
        return "wws-ops/v1"
    rest = arguments[arguments.index(group) + 1 :]
    command = next((word for word in rest if word in COMMANDS[group]), None)
    return f"wws-ops.{group}.{command}/v1" if command else f"wws-ops.{group}/v1"


def _invoke(arguments: list[str], options: Options) -> Result:
    """Run the command through Typer. Raises `ExtraMissing` where its libraries were not installed."""
    try:
        from agent_cli.ops.dispatch import invoke

        return invoke(arguments, options)
    except ModuleNotFoundError as error:
        from agent_cli.result import ExtraMissing

        if error.name not in ("fabric", "paramiko", "rich", "typer"):
            raise
        raise ExtraMissing("wws-ops", "operator") from None
