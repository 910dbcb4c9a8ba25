"""Processes that outlive the run which started them: in a session of their own, known by their start time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent_cli.connector import has_ended
from wws.errors import LocalError
from wws.runtime.homes import MAX_SOCKET_PATH, Home, process_start

NODE = "bootstrap"
START_TIMEOUT = 60.0
"""Seconds that a process gets to be up: long, for a machine that has much to do."""
GRACE = 20.0
"""Seconds that a process gets to end after SIGTERM."""
POLL = 0.05
TAIL = 2_000
"""Characters of a log that are shown."""


class ProcessFailed(LocalError):
    """A process of the stack did not come up, or does not end."""

    code = "local_process_failed"
    exit_code = 10


@dataclass(frozen=True, slots=True)
class Running:
    """A process, and when it began: the number alone may be another's one day."""

    pid: int
    started: int | None

    @property
    def is_there(self) -> bool:
        """Whether it runs. Where systems say when a process began, one of unknown beginning is nobody's."""
        is_known = self.started is not None or process_start(os.getpid()) is None
        return is_known and self.pid > 1 and not has_ended(self.pid, self.started)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, and to nobody who has its number now."""
        if self.is_there:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self) -> None:
        """End it: asked first, killed after a while. Raises `ProcessFailed`."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.send(number)
            deadline = time.monotonic() + GRACE
            while self.is_there and time.monotonic() < deadline:
                time.sleep(POLL)
            if not self.is_there:
                return
        raise ProcessFailed(f"Process {self.pid} does not end.")


def start(
    arguments: Sequence[str], *, folder: Path, log: Path, is_up: Callable[[int], bool], what: str
) -> Running:
    """Start a module of Python that stays, and wait until it is up. Raises `ProcessFailed` with its log."""
    try:  # the file that a link of this name leads to is not ours to empty
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ProcessFailed(f"{what} cannot write its log {log}: {error.strerror}.") from None
    with open(descriptor, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,  # it stays when the run that starts it ends, or is interrupted
        )
    running = Running(process.pid, process_start(process.pid))
    deadline = time.monotonic() + START_TIMEOUT
    while not is_up(process.pid):
        code = process.poll()
        if code is None and time.monotonic() < deadline:
            time.sleep(POLL)
            continue
        running.stop()
        process.wait()
        how = f"was not up after {START_TIMEOUT:g} s" if code is None else f"ended with exit code {code}"
        raise ProcessFailed(f"{what} {how}:\n{log.read_text(errors='replace')[-TAIL:]}")
    # Not ours to wait for: it outlives this process, which would otherwise warn of it at its end.
    process.returncode = 0
    return running


def stop_node(home: Path) -> None:
    """End the node that runs in `home`, whoever started it."""
    ready = Home(home).node(NODE).read_ready()
    if ready is not None:
        Running(ready.pid, ready.started).stop()


_NEEDED = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"}
)


def _environment(folder: Path) -> dict[str, str]:
    """What a program needs to run, and nothing else: tokens of clouds and DNS stay with the run of Pulumi."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _NEEDED or name.startswith(("LC_", "LD_", "DYLD_", "PYTHON", "SSL_CERT_", "XDG_"))
    }
    # Sockets and locks lie with the rest, and go with it; where paths are too long for that, with the user's.
    if len(os.fsencode(f"{folder}/run/{NODE}/rpc.sock")) <= MAX_SOCKET_PATH:
        kept["XDG_RUNTIME_DIR"] = str(folder)
    return kept
