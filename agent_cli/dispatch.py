"""From the command line to the command's function, through Typer."""

from __future__ import annotations

import os
import re
from importlib import import_module
from typing import Annotated, Final

import typer
from typer.main import get_command

from agent_cli.app import COMMANDS, available_commands, find_command
from agent_cli.options import Options
from agent_cli.registration import group, make_app
from agent_cli.result import Result, WrongUsage
from wws import __version__
from wws.rpc.codes import Exit

COMPLETION_VARIABLE: Final = "_WWS_COMPLETE"
MEANT: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("list", "ls", "get"), ("show", "list")),
    **dict.fromkeys(("rm", "delete", "del"), ("remove", "release")),
    **dict.fromkeys(("create", "make", "generate"), ("new", "add", "claim")),
    **dict.fromkeys(("start", "up", "connect"), ("join",)),
    **dict.fromkeys(("stop", "down", "quit", "disconnect"), ("leave",)),
    **dict.fromkeys(("info", "whoami", "identity"), ("id", "show")),
}
"""What other programs call it → what it is called here, the first that there is."""
_UNKNOWN: Final = re.compile(r"No such command '(?P<word>[a-z]+)'\.")


def invoke(arguments: list[str], options: Options) -> Result:
    """Run the command and give back its result. Raises `WrongUsage` and what the command raises."""
    name, _ = find_command(arguments)
    root = make_app(add_completion=True)
    group(root, wws, examples=("wws join --name alice", "wws ping bob", "wws status --json"))
    for wanted in available_commands():
        if wanted == name or COMPLETION_VARIABLE in os.environ:
            import_module(COMMANDS[wanted].module).register(root)
        elif name is None:
            root.command(wanted, help=COMMANDS[wanted].summary)(_only_listed)
    try:
        returned = get_command(root)(
            args=arguments or ["--help"], prog_name="wws", standalone_mode=False, obj=options
        )
    except typer.TyperException as error:
        hint = f"See: wws {name} --help" if name else "See: wws --help"
        raise WrongUsage(_with_suggestion(error.format_message(), name), hint=hint) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    if isinstance(returned, Result):
        return returned
    if returned == Exit.INTERRUPTED:
        raise KeyboardInterrupt
    return Result(is_printed=True, exit_code=Exit(returned or 0))  # --help has printed itself


def _with_suggestion(message: str, name: str | None) -> str:
    """The message, and for a word that other programs use the command that does it here.

    Typer itself suggests what is spelled alike.
    """
    found = _UNKNOWN.fullmatch(message)
    known = COMMANDS[name].subcommands if name else tuple(COMMANDS)
    meant = next((word for word in MEANT.get(found["word"], ()) if word in known), None) if found else None
    return message if meant is None else f"{message} Did you mean {meant!r}?"


def wws(
    options: Options,
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> Result | None:
    """Join the World Wide Swarm and reach other agents by name.

    Exit codes: 0 done, 1 a bug, 2 wrong usage, 3 no node running, 4 not found, 5 unreachable, 6 reached only
    through a relay, 7 refused, 8 integrity, 9 no way into the network, 10 this machine, 130 interrupted.
    """
    if version:
        return Result({"version": __version__, **_build()}, f"wws {__version__}")
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws --help")
    return None


def _build() -> dict[str, object]:
    """What the release has put into this build; null where it was made from the sources."""
    from wws.runtime.default_network import default_network
    from wws.stamp import stamp

    default = default_network()
    return {
        "commit": stamp().commit,
        "releases": stamp().releases,
        "default_network": None if default is None else default.network.name,
    }


def _only_listed() -> None:
    """Stands in the list of `wws --help` for a command; a line that names one imports the real one."""
