"""`wws`: finds the command, runs it, prints its result, ends with its exit code.

Only the module of the command that is asked for is imported, and nothing that command does not need:
`wws --version`, `--help` and `status` must start at once. `COMMANDS` is the whole list.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from wws import __version__

if TYPE_CHECKING:
    from agent_cli.options import Options
    from agent_cli.result import Result


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command lives, and what it is called with."""

    module: str
    summary: str
    """For the list in `wws --help`, which imports no command."""
    subcommands: tuple[str, ...] = ()


COMMANDS: Final[dict[str, Command]] = {
    "join": Command("agent_cli.commands.join", "Join the mesh; the node stays running."),
    "leave": Command("agent_cli.commands.leave", "Stop the local node cleanly."),
    "status": Command("agent_cli.commands.status", "Show how the local node is."),
    "peers": Command("agent_cli.commands.peers", "List the peers and which way each connection goes."),
    "logs": Command("agent_cli.commands.logs", "Print the end of the local node's log."),
    "id": Command(
        "agent_cli.commands.identity",
        "Show, make, export or import an identity.",
        ("new", "export", "import"),
    ),
    "resolve": Command("agent_cli.commands.resolve", "Find out who a name, DID or PeerId is, and where."),
    "name": Command(
        "agent_cli.commands.name",
        "Claim, keep and hand on names; accept a changed owner.",
        ("claim", "list", "renew", "release", "transfer", "accept", "trust"),
    ),
    "token": Command(
        "agent_cli.commands.token",
        "Let local programs call some methods of the node.",
        ("create", "list", "revoke"),
    ),
    "ping": Command("agent_cli.commands.ping", "Measure round trips to a peer, and which way they go."),
    "call": Command("agent_cli.commands.call", "Call an RPC method of the local node."),
    "network": Command(
        "agent_cli.commands.network",
        "Show, add and remove the networks known here.",
        ("show", "add", "remove"),
    ),
    "config": Command("agent_cli.commands.config", "Show the settings, and where each came from.", ("show",)),
    "service": Command(
        "agent_cli.commands.service",
        "Keep the node running by systemd, from one start of the machine to the next.",
        ("install", "uninstall", "status"),
    ),
    "self": Command(
        "agent_cli.commands.self_",
        "Verify, update, roll back or remove this installation.",
        ("verify", "update", "rollback", "uninstall"),
    ),
    "demo": Command("agent_cli.commands.demo", "Show a whole network on this machine."),
}
"""The commands in the order in which help lists them; each module has `register(app)`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of `wws`: runs the command line and exits."""
    try:
        code = run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:  # while something was still being imported; `guarded` takes it later
        code = 130
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code is returned. Prints everything it has to say."""
    if arguments == ["--version"]:
        print(f"wws {__version__}")
        return 0
    from agent_cli.options import Options, quick_options
    from agent_cli.report import guarded

    quick = quick_options(arguments, "status")
    if quick is not None:
        from agent_cli.commands.status import status

        return guarded(lambda: status(quick), schema="wws.status/v1", options=quick)
    options = Options(json=_asks_for_json(arguments), arguments=arguments)
    if arguments[:2] == ["self", "verify-file"]:
        from agent_cli.verify_file import verify_file

        return guarded(lambda: verify_file(arguments[2:]), schema="wws.self.verify-file/v1", options=options)
    return guarded(lambda: _invoke(arguments, options), schema=schema_of(arguments), options=options)


def _invoke(arguments: list[str], options: Options) -> Result:
    """Run the command through Typer. Raises `ExtraMissing` where only the node was installed."""
    try:
        from agent_cli.dispatch import invoke
    except ModuleNotFoundError as error:
        from agent_cli.result import ExtraMissing

        if error.name not in ("typer", "rich"):
            raise
        raise ExtraMissing("wws", "agent") from None
    return invoke(arguments, options)


def available_commands() -> list[str]:
    """The commands of this installation, in the order of help."""
    return [name for name, command in COMMANDS.items() if find_spec(command.module) is not None]


_VALUED: Final = ("--config", "--home", "--node")


def schema_of(arguments: Sequence[str]) -> str:
    """The schema of the envelope, read off the command line: it must be known for wrong usage too."""
    name, rest = find_command(arguments)
    if name is None:
        return "wws.version/v1" if "--version" in arguments else "wws/v1"
    sub = next((word for word in rest if word in COMMANDS[name].subcommands), None)
    return f"wws.{name}.{sub}/v1" if sub else f"wws.{name}/v1"


def find_command(arguments: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The first word that is no option and no option's value, if it is a command; and what follows it."""
    skip = False
    for index, word in enumerate(arguments):
        if skip:
            skip = False
        elif word in _VALUED:
            skip = True
        elif not word.startswith("-"):
            return (word if word in COMMANDS else None), arguments[index + 1 :]
    return None, ()


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether --json stands anywhere before `--`: wrong usage is told in JSON even when parsing broke off."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return "--json" in arguments[:end]
