"""`wws-ops drain`: a relay says that it leaves, before it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from agent_cli import text
from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.machines import ask, logged_in, on_all, worst
from agent_cli.ops.sources import Infra, InventoryFile, Stack, load_inventory
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Problem, Result


def register(app: typer.Typer) -> None:
    command(
        app,
        drain,
        examples=("wws-ops drain one --wait 60 --stack prod", "wws-ops drain one --undo --stack prod"),
    )


def drain(
    options: Options,
    host: Annotated[list[str], typer.Argument(metavar="HOST", help="These hosts.")],
    undo: Annotated[bool, typer.Option("--undo", help="Relay again as before.")] = False,
    wait: Annotated[
        float, typer.Option("--wait", min=0, max=3600, metavar="S", help="Seconds for agents to have moved.")
    ] = 0.0,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Take no new reservations, and have agents move to other relays; what runs goes on.

    It holds until --undo, or until the node is started again. Drain one host at a time: the agents of the
    last one have nowhere to go, and stay.
    """
    known = load_inventory(inventory, stack, infra)
    words = ["drain", "--undo"] if undo else ["drain", "--wait", f"{wait:g}"]

    with progress(options, "Telling the nodes…"):
        outcomes = on_all(known.choose(host), lambda one: _tell(one, known, words, wait))
    members = ("draining", "reservations", "announced_by", "circuits", "connections")
    rows = [
        (outcome.host.name, *(outcome.value.get(member) for member in members))
        for outcome in outcomes
        if outcome.value is not None
    ]
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    data = {"hosts": [dict(zip(("host", *members), row, strict=True)) for row in rows]}
    shown = table_of(rows) if rows else ""
    problems = tuple(Problem(error.code, str(error), error.hint) for error in errors)
    return Result(data, shown, errors=problems, exit_code=worst(errors))


def table_of(rows: Sequence[tuple[object, ...]]) -> str:
    """How far each node has come: host, whether it drains, and what is left on it."""
    said = [(host, "yes" if drains else "no", *counts) for host, drains, *counts in rows]
    return text.table(("host", "draining", "reserved", "not moved", "circuits", "peers"), said)


def _tell(host: HostEntry, inventory: Inventory, words: list[str], wait: float) -> Mapping[str, object]:
    with logged_in(host, inventory) as machine:
        return ask(machine, *words, timeout=wait + 60)
