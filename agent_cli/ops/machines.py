"""The machines of the inventory: over SSH, or this one, with the same questions; several at a time.

A node is asked through `wws-control` on its own machine, which speaks with it over its unix socket.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.remote import CommandTimedOut, Ran, RemoteError, connected
from agent_cli.text import one_line
from wws.errors import WwsError
from wws.rpc.codes import WORDS, Exit, exit_code
from wws.runtime.homes import Home, NodePaths

CONTROL: Final = "/opt/wws/current/bin/wws-control"
SERVICE: Final = "wws-bootstrap.service"
AT_ONCE: Final = 8
"""Hosts that are worked with at a time."""
CONTROL_TIMEOUT: Final = 30.0
STARTED_BY_ITS_STACK: Final = "Its stack starts it again, in the folder of its program: pulumi up --refresh"
"""What is done about a node of this machine that does not run: there is no service of systemd for it."""

_EXITS: Final = {"not_installed": Exit.NO_NODE}

_COUNT: Final = re.compile(r"[0-9]{1,18}\Z", re.ASCII)

T = TypeVar("T")


class ControlFailed(RemoteError):
    """`wws-control` said no; with its own word."""

    def __init__(self, host: HostEntry, code: str, message: str, hint: str = "") -> None:
        super().__init__(host, message, hint=hint)
        self.code = code  # type: ignore[misc]  # its own word
        self.exit_code = _EXITS.get(code) or (exit_code(code) if code in WORDS else Exit.REFUSED)  # type: ignore[misc]


class Machine(Protocol):
    """One of the machines, for as long as somebody is logged in to it."""

    host: HostEntry

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = None,
        as_root: bool = False,
        given: bytes = b"",
    ) -> Ran:
        """Run a command to its end. Raises `RemoteError`."""

    @property
    def control(self) -> Sequence[str]:
        """How `wws-control` is called there."""


class _Ssh:
    def __init__(self, host: HostEntry, run: Callable[..., Ran]) -> None:
        self.host = host
        self.run = run
        self.control = (CONTROL,)


class _Here:
    """This machine, where the node is a process of this user."""

    def __init__(self, host: HostEntry) -> None:
        self.host = host
        self.control = (sys.executable, "-m", "bootstrap_node.control")

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = None,
        as_root: bool = False,
        given: bytes = b"",
    ) -> Ran:
        try:
            done = subprocess.run(command, input=given, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise CommandTimedOut(self.host, f"{command[0]}: not done within {timeout:g} s") from None
        except OSError as error:
            raise ControlFailed(self.host, "machine_error", f"{command[0]}: {error.strerror}") from None
        return Ran(
            done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        )


@contextmanager
def logged_in(host: HostEntry, inventory: Inventory) -> Iterator[Machine]:
    """The machine of a host. Raises what `agent_cli.remote.connected` raises."""
    if host.is_local:
        yield _Here(host)
        return
    with connected(host, key_file=expanded(inventory.ssh_key_file)) as remote:
        yield _Ssh(host, remote.run)


def expanded(path: str | None) -> str | None:
    """A path with `~` as the home of this user."""
    return None if path is None else os.path.expanduser(path)


def node_paths(host: HostEntry) -> NodePaths:
    """Where a node of this machine keeps things."""
    return Home(Path(host.home)).node(host.node)


def ask(machine: Machine, *words: str, timeout: float = CONTROL_TIMEOUT) -> Mapping[str, object]:
    """The `data` of a command of `wws-control`. Raises `ControlFailed` with its word, `RemoteError`."""
    host = machine.host
    command = [*machine.control, *words, "--home", host.home, "--node", host.node, "--json"]
    ran = machine.run(command, timeout=timeout, as_root=True)
    answer = _envelope(ran.output)
    if answer is None:
        said = (ran.errors or ran.output).strip().splitlines()
        code = "not_installed" if ran.exit_code in (126, 127) else "control_failed"
        last = said[-1][:300] if said else f"exit code {ran.exit_code}"
        raise ControlFailed(host, code, f"wws-control {words[0]}: {last}")
    errors, data = answer.get("errors"), answer.get("data")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        word, message, hint = (str(errors[0].get(name, "")) for name in ("code", "message", "hint"))
        if host.is_local and word == "node_not_running":
            hint = STARTED_BY_ITS_STACK
        raise ControlFailed(
            host, one_line(word, 60) or "control_failed", one_line(message, 600), one_line(hint, 300)
        )
    return data if isinstance(data, dict) else {}


def free_bytes(machine: Machine) -> tuple[int, int] | None:
    """What is free, and what there is, on the disk of the node's home; `None` where that cannot be told."""
    home = machine.host.home
    if machine.host.is_local:
        try:
            usage = shutil.disk_usage(home)
        except OSError:
            return None
        return usage.free, usage.total
    ran = machine.run(["df", "--output=avail,size", "--block-size=1", home], as_root=True)
    words = ran.output.split()
    if ran.exit_code != 0 or len(words) < 4 or not all(_COUNT.match(word) for word in words[-2:]):
        return None
    return int(words[-2]), int(words[-1])


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What came of one host: a value, or an error."""

    host: HostEntry
    value: T | None = None
    error: WwsError | None = None


def on_all(
    hosts: Sequence[HostEntry], work: Callable[[HostEntry], T], *, at_once: int = AT_ONCE
) -> list[Outcome[T]]:
    """Do the work for each host, some at a time; errors are kept beside what the others gave. In order."""

    def one(host: HostEntry) -> Outcome[T]:
        try:
            return Outcome(host, work(host))
        except WwsError as error:
            return Outcome(host, error=error)

    with ThreadPoolExecutor(max_workers=max(1, min(at_once, len(hosts)))) as pool:
        return list(pool.map(one, hosts))


def worst(errors: Sequence[WwsError]) -> Exit:
    """The exit code of several: somebody who is not who he should be comes first, then who is not there."""
    codes = [
        Exit(code) if (code := getattr(error, "exit_code", None)) in set(Exit) else exit_code(error.code)
        for error in errors
    ]
    order = (Exit.BUG, Exit.INTEGRITY, Exit.UNREACHABLE, Exit.NO_NODE, Exit.REFUSED)
    return next((code for code in order if code in codes), codes[0] if codes else Exit.DONE)


def _envelope(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and "schema" in value else None
