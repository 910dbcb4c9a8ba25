"""From the command line of `wws-ops` to the command's function, through Typer."""

from __future__ import annotations

import importlib
from typing import Annotated, Final

import typer
from typer.main import get_command

from agent_cli.ops.app import COMMANDS
from agent_cli.options import Options
from agent_cli.registration import group, make_app
from agent_cli.result import Result, WrongUsage
from wws import __version__
from wws.rpc.codes import Exit

_MODULES: Final = {
    "exec": "execute",
    **dict.fromkeys(("upgrade", "rollback", "backup", "restore"), "rollout"),
}
"""Commands that are in a module of another name than theirs."""


def invoke(arguments: list[str], options: Options) -> Result:
    """Run the command and give back its result. Raises `WrongUsage` and what the command raises."""
    root = make_app(add_completion=True)
    group(root, wws_ops, examples=("wws-ops status --stack prod", "wws-ops witness log alice --json"))
    # Only what was asked for is imported: SSH and the node's protocols take longer than most commands.
    named = [name for name in COMMANDS if name in arguments] or list(COMMANDS)
    for module in dict.fromkeys(_MODULES.get(name, name) for name in named):
        importlib.import_module(f"agent_cli.ops.{module}").register(root)
    try:
        returned = get_command(root)(
            args=arguments or ["--help"], prog_name="wws-ops", standalone_mode=False, obj=options
        )
    except typer.TyperException as error:
        raise WrongUsage(error.format_message(), hint="See: wws-ops --help") from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    if isinstance(returned, Result):
        return returned
    if returned == Exit.INTERRUPTED:
        raise KeyboardInterrupt
    return Result(is_printed=True, exit_code=Exit(returned or 0))  # --help has printed itself


def wws_ops(
    options: Options,
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> Result | None:
    """Look after the bootstrap nodes of a network.

    Which nodes: --stack NAME (the outputs of a stack), --inventory FILE, or $WWS_INVENTORY.

    Exit codes as those of wws: 0 done, 2 wrong usage, 3 not running, 4 not found, 5 unreachable, 7 refused,
    8 integrity, 10 this machine.
    """
    if version:
        return Result({"version": __version__}, f"wws-ops {__version__}")
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws-ops --help")
    return None
