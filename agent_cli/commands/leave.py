"""`wws leave`: stop the local node cleanly."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_cli.compose import asked_node, home_of
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Result
from agent_cli.services import stop_starting
from agent_cli.stopping import stop_node
from agent_cli.user_manager import service_of_node


def register(app: typer.Typer) -> None:
    command(app, leave, examples=("wws leave", "wws leave --node alice --release-name"))


def leave(
    options: Options,
    release_name: Annotated[
        bool, typer.Option("--release-name", help="Give this node's names up as well.")
    ] = False,
) -> Result:
    """Stop the local node cleanly. The identity and the names stay; none running is fine."""
    node = home_of(options).pick_running(asked_node(options))
    ready = node.read_ready() if node is not None else None
    if ready is None:
        name = None if node is None else node.name
        unit = stop_starting(home_of(options), name)
        said = _nothing(options, name) if unit is None else f"The service {unit} is stopped."
        return Result({"node": name, "was_running": False, "released": [], "service": unit}, said)
    unit = service_of_node(ready)
    with progress(options, f"stopping {ready.node}"):
        released = stop_node(ready, release_name=release_name, unit=unit)
    data = {"node": ready.node, "was_running": True, "released": released, "service": unit}
    names = f", {', '.join(f'wws:{name}' for name in released)} released" if released else ""
    again = "" if unit is None else _comes_back(options, ready.node, unit)
    return Result(data, f"The node {ready.node!r} has left{names}.{again}")


def _comes_back(options: Options, node: str, unit: str) -> str:
    """What a stopped service does later."""
    join, remove = options.again("join", node=node), options.again("service uninstall", node=node)
    return (
        f"\nIts service {unit} starts it again with the machine or your next login; at once: {join}. "
        f"So that it stays away: {remove}"
    )


def _nothing(options: Options, node: str | None) -> str:
    where = f" in {home_of(options).root}" if options.verbose else ""
    return f"No node is running{where}." if node is None else f"The node {node!r} is not running."
