"""`wws leave`: stop the local node cleanly."""

from __future__ import annotations

import os
import signal
from typing import Annotated, Any

import typer

from agent_cli.compose import asked_node, home_of
from agent_cli.connector import wait_until_ended
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Result
from agent_cli.user_manager import STOPS_WITHIN, find_manager, service_of_node
from wws.client import NodeNotRunning, RpcError, call_once
from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.homes import Ready

STOP_TIMEOUT = 60.0
"""Seconds for `swarm.stop`: giving a name up goes over the network."""
DRAIN_TIMEOUT = 20.0
"""Seconds a node gets to drain, and again after SIGTERM."""


class StopFailed(LocalError):
    """The node does not end."""

    code = "stop_failed"
    exit_code = Exit.MACHINE


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
        return Result({"node": name, "was_running": False, "released": []}, _nothing(options, name))
    unit = service_of_node(ready)
    with progress(options, f"stopping {ready.node}"):
        released = stop_node(ready, release_name=release_name, unit=unit)
    data = {"node": ready.node, "was_running": True, "released": released, "service": unit}
    names = f", {', '.join(f'wws:{name}' for name in released)} released" if released else ""
    again = "" if unit is None else _comes_back(options, ready, unit)
    return Result(data, f"The node {ready.node!r} has left{names}.{again}")


def stop_node(ready: Ready, *, release_name: bool = False, unit: str | None = None) -> list[str]:
    """Ask it to stop, then wait for its end; a node that cannot be asked gets SIGTERM. What was released.

    With `unit`, the service that it runs as, systemd stops it: by itself it would be started again.
    """
    released: list[str] = []
    if unit is not None and not release_name:
        find_manager(os.environ).control("stop", unit, within=STOPS_WITHIN)
        return released
    try:
        answer: dict[str, Any] = call_once(
            ready, "swarm.stop", {"release_name": release_name}, timeout=STOP_TIMEOUT
        )
        released = list(answer.get("released", ()))
    except (NodeNotRunning, RpcError):
        _terminate(ready.pid)
    if unit is not None:
        find_manager(os.environ).control("stop", unit, within=STOPS_WITHIN)
    if not wait_until_ended(ready.pid, ready.started, DRAIN_TIMEOUT):
        _terminate(ready.pid)
        if not wait_until_ended(ready.pid, ready.started, DRAIN_TIMEOUT):
            raise StopFailed(
                f"The node {ready.node!r} (process {ready.pid}) does not end.",
                hint=f"Look at its log (wws logs --node {ready.node}); the last resort: kill -9 {ready.pid}",
            )
    return released


def _comes_back(options: Options, ready: Ready, unit: str) -> str:
    """What a stopped service does later."""
    service = options.again("service uninstall", node=ready.node)
    join = options.again("join", node=ready.node)
    return (
        f"\nIts service {unit} starts it again with the machine or your login; at once: {join}. "
        f"For good: {service}."
    )


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return


def _nothing(options: Options, node: str | None) -> str:
    where = f" in {home_of(options).root}" if options.verbose else ""
    return f"No node is running{where}." if node is None else f"The node {node!r} is not running."
