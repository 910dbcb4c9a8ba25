"""From the command line of `wws-dns` to the command's function, through Typer."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer
from typer.main import get_command

from agent_cli.options import Options
from agent_cli.registration import group, make_app
from agent_cli.result import Result, WrongUsage
from wws import __version__
from wws.rpc.codes import Exit
from wws_dns.app import COMMANDS, command_of


def invoke(arguments: list[str], options: Options) -> Result:
    """Run the command and give back its result. Raises `WrongUsage` and what the command raises."""
    name = command_of(arguments)
    root = make_app(add_completion=True)
    group(root, wws_dns, examples=("wws-dns plan", "wws-dns publish --key publisher.key"))
    for command, summary in COMMANDS.items():
        if command == name:
            import_module(f"wws_dns.commands.{command}").register(root)
        elif name is None:
            root.command(command, help=summary)(_only_listed)
    try:
        returned = get_command(root)(
            args=arguments or ["--help"], prog_name="wws-dns", standalone_mode=False, obj=options
        )
    except typer.TyperException as error:
        hint = f"See: wws-dns {name} --help" if name else "See: wws-dns --help"
        raise WrongUsage(error.format_message(), hint=hint) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    if isinstance(returned, Result):
        return returned
    if returned == Exit.INTERRUPTED:
        raise KeyboardInterrupt
    return Result(is_printed=True, exit_code=Exit(returned or 0))  # --help has printed itself


def wws_dns(
    options: Options,
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> Result | None:
    """Publish the nodes of a network in DNS, signed: plan, refuse what is unsafe, apply, verify, go back.

    Exit codes: 0 done, 1 a bug, 2 wrong usage, 4 not found, 5 unreachable, 7 refused (unsafe, conflict, not
    allowed), 8 integrity, 10 this machine, 130 interrupted.
    """
    if version:
        return Result({"version": __version__}, f"wws-dns {__version__}")
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws-dns --help")
    return None


def _only_listed() -> None:
    """Stands in the list of `wws-dns --help` for a command; a line that names one imports the real one."""
