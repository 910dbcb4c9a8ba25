"""A service being brought up: what is changed, in which order, and the way back."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_cli.commands.leave import stop_node
from agent_cli.connector import start_failure
from agent_cli.user_manager import STOPS_WITHIN, Installed, ManagerFailed, UserManager
from agent_cli.user_unit import UserUnit
from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.homes import NodePaths, Ready
from wws.runtime.whole_files import write_whole

POLL: Final = 0.1
LEAST_WAIT: Final = 20.0
"""Seconds that a service gets to come up, however short the wait for its join."""


class ServiceSlow(LocalError):
    """The service did not come up in time. It stays installed, and systemd goes on."""

    code = "start_failed"
    exit_code = Exit.MACHINE


@dataclass(frozen=True, slots=True)
class ServiceRun:
    """The service as it shall be, and as it was."""

    manager: UserManager
    node: NodePaths
    unit: UserUnit
    path: Path
    text: str
    before: Installed | None

    def bring_up(self, running: Ready | None) -> tuple[bool, bool]:
        """Write, enable and start what is not so already: whether anything was changed, and whether a node
        that ran without the service was stopped for it."""
        is_written = self.before is not None and self.before.text == self.text
        state = self.manager.state(self.unit.name) if self.before is not None else None
        is_up = (
            state is not None
            and state.active == "active"
            and running is not None
            and running.pid == state.pid
        )
        if is_written and is_up and state is not None and state.enabled and not state.needs_reload:
            return False, False
        if not is_written:
            write_whole(self.path, self.text.encode())
        self.manager.control("daemon-reload")
        self.manager.control("enable", self.unit.name)
        taken_over = running is not None and not is_up
        if running is not None and taken_over:
            stop_node(running)
        self.node.clear()
        self.manager.control("reset-failed", self.unit.name)
        self.manager.control("--no-block", "restart", self.unit.name)
        return True, taken_over

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
            if self.before is not None:
                self.manager.control("--no-block", "start", self.unit.name)


def wait_until_up(run: ServiceRun, deadline: float, timeout: float) -> Ready:
    """What the node says of itself once systemd has it running.

    Raises `StartFailed` when it ended instead, and then everything is as it was before; `ServiceSlow`.
    """
    deadline = max(deadline, time.monotonic() + LEAST_WAIT)
    while True:
        ready = run.node.read_ready()
        state = run.manager.state(run.unit.name)
        if ready is not None and ready.pid == state.pid:
            return ready
        if run.node.read_error() is not None or state.active == "failed" or state.sub == "auto-restart":
            error = start_failure(run.node, state.exit_code, run.unit.arguments)
            run.take_back()
            undone = "The service was not installed." if run.before is None else "The service is as it was."
            error.hint = f"{error.hint} {undone}".lstrip()
            raise error
        if time.monotonic() >= deadline:
            raise ServiceSlow(
                f"The service {run.unit.name} was not up after {timeout:g} s; systemd goes on.",
                hint=f"Look at it: wws service status --node {run.node.name}, and "
                f"journalctl --user -u {run.unit.name}",
            )
        time.sleep(POLL)
