"""Stopping a node, by whoever runs it."""

from __future__ import annotations

import os
import signal
from typing import Any, Final

from agent_cli.connector import wait_until_ended
from agent_cli.user_manager import STOPS_WITHIN, find_manager
from wws.client import NodeNotRunning, RpcError, call_once
from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.homes import Ready

STOP_TIMEOUT: Final = 60.0
"""Seconds for `swarm.stop`: giving a name up goes over the network."""
DRAIN_TIMEOUT: Final = 20.0
"""Seconds a node gets to drain, and again after SIGTERM."""


class StopFailed(LocalError):
    """The node does not end."""

    code = "stop_failed"
    exit_code = Exit.MACHINE


def stop_node(ready: Ready, *, release_name: bool = False, unit: str | None = None) -> list[str]:
    """Ask it to stop, then wait for its end; a node that cannot be asked gets SIGTERM. What was released.

    With `unit`, the service that it runs as, systemd stops it: by itself it would be started again.
    Raises `StopFailed`, and what systemd says when it does not stop the unit.
    """
    released: list[str] = []
    if unit is None or release_name:
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


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
