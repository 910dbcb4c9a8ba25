"""Services being brought up and stopped: what is changed, in which order, and the way back."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_cli.compose import STATUS_TIMEOUT
from agent_cli.connector import start_failure
from agent_cli.node_process import Process
from agent_cli.stopping import stop_node
from agent_cli.user_manager import (
    STOPS_WITHIN,
    Installed,
    ManagerFailed,
    NoUserManager,
    UserManager,
    find_manager,
    installed_service,
    installed_units,
    unit_folder,
)
from agent_cli.user_unit import UserUnit
from wws import __version__
from wws.client import NodeNotRunning, RpcError, call_once
from wws.errors import LocalError, WwsError
from wws.rpc.codes import Exit
from wws.runtime.homes import Home, NodePaths, Ready
from wws.runtime.whole_files import write_whole

POLL: Final = 0.1
LOOK: Final = 0.5
"""Seconds between two questions to systemd, while the node has not said anything."""
LEAST_WAIT: Final = 20.0
"""Seconds that a service gets to come up, however short the wait for its join."""


class ServiceSlow(LocalError):
    """The service did not come up in time. It stays installed, and systemd goes on."""

    code = "start_failed"
    exit_code = Exit.MACHINE


@dataclass(slots=True)
class ServiceRun:
    """The service as it shall be, and as it was."""

    manager: UserManager
    node: NodePaths
    unit: UserUnit
    path: Path
    text: str
    before: Installed | None
    taken_over: Process | None = None
    """The node that ran without the service, and was stopped for it."""

    def bring_up(self, running: Ready | None) -> tuple[bool, bool]:
        """Write, enable and start what is not so already: whether anything was changed, and whether a node
        that ran without the service was stopped for it.

        A node of another version than this is started anew: its program was replaced.
        """
        is_written = self.before is not None and self.before.text == self.text
        state = self.manager.state(self.unit.name) if self.before is not None else None
        is_up = (
            state is not None
            and state.active == "active"
            and running is not None
            and running.pid == state.pid
        )
        taken_over = running is not None and not is_up
        is_same = is_written and is_up and state is not None and state.enabled and not state.needs_reload
        if is_same and running is not None and _version(running) == __version__:
            return False, False
        if not is_written:
            write_whole(self.path, self.text.encode())
        self.manager.control("daemon-reload")
        self.manager.control("enable", self.unit.name)
        if running is not None and taken_over:
            self.taken_over = Process.of(running.pid)
            stop_node(running)
        _start(self.manager, self.node, self.unit.name, "restart")
        return True, taken_over

    def wait(self, deadline: float, timeout: float) -> Ready:
        """Wait until the node is up. Raises as `wait_until_up` does; when it has ended instead, everything
        is as it was before."""
        try:
            return wait_until_up(self.manager, self.node, self.unit, deadline, timeout)
        except ServiceSlow:
            raise
        except WwsError as error:
            self.take_back()
            undone = "The service was not installed." if self.before is None else "The service is as it was."
            if self.taken_over is not None:
                undone += " The node runs on without it."
            error.hint = f"{error.hint} {undone}".lstrip()
            raise

    def take_back(self) -> None:
        """As it was before: another unit, or none."""
        with contextlib.suppress(ManagerFailed):
            self.manager.control("stop", self.unit.name, within=STOPS_WITHIN)
        if self.before is None:
            with contextlib.suppress(ManagerFailed):
                self.manager.control("disable", self.unit.name)
            self.path.unlink(missing_ok=True)
        else:
            write_whole(self.path, self.before.text.encode())
        with contextlib.suppress(ManagerFailed):
            self.manager.control("daemon-reload")
            if self.before is not None and self.taken_over is None:
                self.manager.control("--no-block", "start", self.unit.name)
        if self.taken_over is not None:
            self.taken_over.start_again(self.node)


def start_installed(node: NodePaths, deadline: float, timeout: float) -> Ready | None:
    """Start the service of this node; `None`: it has none, or nobody is there to run it.

    Raises `StartFailed`, `ServiceSlow`, `ManagerFailed`.
    """
    found = installed_service(node, os.environ)
    if found is None:
        return None
    try:
        manager = find_manager(os.environ)
    except NoUserManager:
        return None
    _start(manager, node, found.unit.name, "start")
    return wait_until_up(manager, node, found.unit, deadline, timeout)


def _start(manager: UserManager, node: NodePaths, unit: str, how: str) -> None:
    """Let systemd start the unit, whatever came of it before; returns at once."""
    node.clear()
    if manager.state(unit).active == "failed":
        manager.control("reset-failed", unit)
    manager.control("--no-block", how, unit)


def _version(ready: Ready) -> str | None:
    """Which version a node runs; `None` where it does not answer."""
    try:
        version = call_once(ready, "swarm.get_status", timeout=STATUS_TIMEOUT).get("version")
    except (NodeNotRunning, RpcError):
        return None
    return version if isinstance(version, str) else None


def stop_starting(home: Home, asked: str | None) -> str | None:
    """Stop the only service, or that of the asked node, which is not up and not down; its unit."""
    units = [one.unit for one in installed_units(unit_folder(os.environ), home)]
    if asked is not None:
        units = [unit for unit in units if unit.node == asked]
    if len(units) != 1:
        return None
    try:
        manager = find_manager(os.environ)
    except NoUserManager:
        return None
    if manager.state(units[0].name).is_down:
        return None
    manager.control("stop", units[0].name, within=STOPS_WITHIN)
    return units[0].name


def wait_until_up(
    manager: UserManager, node: NodePaths, unit: UserUnit, deadline: float, timeout: float
) -> Ready:
    """What the node says of itself once systemd has it running.

    Raises `StartFailed` when it has ended instead, `ServiceSlow`.
    """
    deadline = max(deadline, time.monotonic() + LEAST_WAIT)
    look_at = 0.0
    while True:
        ready, is_refused, now = node.read_ready(), node.read_error() is not None, time.monotonic()
        if ready is not None or is_refused or now >= look_at:
            look_at = now + LOOK
            state = manager.state(unit.name)
            if ready is not None and ready.pid == state.pid:
                return ready
            if is_refused or state.active == "failed" or state.sub == "auto-restart":
                raise start_failure(node, state.exit_code, unit.arguments)
        if now >= deadline:
            raise ServiceSlow(
                f"The service {unit.name} was not up after {timeout:g} s; systemd goes on.",
                hint=f"Look at it: wws service status --node {node.name}, journalctl --user -u {unit.name}",
            )
        time.sleep(POLL)
