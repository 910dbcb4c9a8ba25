"""`wws-ops exec`: one command on some hosts, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.machines import logged_in, on_all, worst
from agent_cli.ops.playbooks import NotByPlaybook
from agent_cli.ops.sources import Infra, InventoryFile, Stack, load_inventory
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.remote import Ran
from agent_cli.result import Problem, Result, WrongUsage
from wws.rpc.codes import Exit


def register(app: typer.Typer) -> None:
    command(
        app,
        execute,
        name="exec",
        examples=(
            "wws-ops exec one two --stack prod -- uptime",
            "wws-ops exec --stack prod --root -- nft list ruleset",
            "wws-ops exec one -- 'df -h | tail -1'",
        ),
    )


def execute(
    options: Options,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="HOST... -- COMMAND", help="Hosts, and what to run there.")
    ] = None,
    root: Annotated[bool, typer.Option("--root", help="Run it as root, through sudo.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, max=3600, metavar="S", help="Seconds that it may take.")
    ] = 60.0,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Run a command on hosts, all of them where none is named.

    One word is a line for the shell there; several words reach the command as they are. Exit code 0 when it
    ended with 0 everywhere, 7 when it failed somewhere.
    """
    hosts, given = _split(options, words or [])
    wanted = ["sh", "-c", given[0]] if len(given) == 1 else given
    known = load_inventory(inventory, stack, infra)
    with progress(options, "Running…"):
        outcomes = on_all(known.choose(hosts), lambda one: _run(one, known, wanted, timeout, root))
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    problems = [Problem(error.code, str(error), error.hint) for error in errors]
    shown, data = [], []
    for outcome in outcomes:
        ran = outcome.value
        if ran is None:
            continue
        name = outcome.host.name
        data.append({"host": name, "exit_code": ran.exit_code, "output": ran.output, "errors": ran.errors})
        shown += [f"{name}: {line}" for line in (ran.output + ran.errors).splitlines()]
        if ran.exit_code != 0:
            problems.append(Problem("command_failed", f"{name}: it ended with {ran.exit_code}"))
    code = worst(errors) if errors else Exit.REFUSED if problems else Exit.DONE
    return Result({"hosts": data}, "\n".join(shown), errors=tuple(problems), exit_code=code)


def _split(options: Options, words: list[str]) -> tuple[list[str], list[str]]:
    """Hosts and command. `--` is not among the words any more; it is in the whole command line."""
    line = options.arguments
    given = line[line.index("--") + 1 :] if "--" in line else []
    if not given:
        raise WrongUsage("There is no command.", hint="Write it behind --: wws-ops exec one -- uptime")
    return words[: len(words) - len(given)], given


def _run(host: HostEntry, inventory: Inventory, command: list[str], timeout: float, root: bool) -> Ran:
    if host.is_local:
        raise NotByPlaybook(f"{host.name}: it is a process of this machine; run the command here.")
    with logged_in(host, inventory) as machine:
        return machine.run(command, timeout=timeout, as_root=root)
