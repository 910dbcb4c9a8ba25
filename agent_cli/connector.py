"""The node process as the CLI sees it: starting it in the background, watching it start, waiting for its end.

Two `wws join` at once start one node: the start happens under a lock, and who comes second finds the
first one's node running. A start that fails is told by the node in `error.json`, and relayed here with
its own exit code; a process that dies without a word is told with the last line of its log.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wws.errors import LocalError, WwsError
from wws.programs import command_of
from wws.rpc.codes import WORDS, Exit, exit_code
from wws.runtime.homes import NodePaths, Ready, process_start
from wws.runtime.machine_errors import writing_failed
from wws.runtime.whole_files import make_folder

PROGRAM = "wws-connector"
"""What is the node process."""
POLL = 0.05
"""Seconds between two looks at a process that starts or ends."""
TAIL = 16 * 1024
"""Bytes at the end of the log in which the last line is looked for."""


class StartFailed(LocalError):
    """The node process could not start."""

    code = "start_failed"
    exit_code = Exit.MACHINE

    def __init__(self, code: str, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.code = code  # type: ignore[misc]  # the node's own word
        self.exit_code = Exit(exit_code) if exit_code in set(Exit) else Exit.MACHINE  # type: ignore[misc]


class StartSlow(LocalError):
    """Another process holds the start of this node for too long."""

    code = "start_failed"
    exit_code = Exit.MACHINE


@contextmanager
def start_lock(node: NodePaths, deadline: float) -> Iterator[None]:
    """The right to start this node; waits for it until `deadline` (monotonic). Raises `StartSlow`."""
    make_folder(node.run)
    path = node.run / "join.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise writing_failed(path, error) from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StartSlow(
                        f"Another wws join has been starting the node {node.name!r} for too long.",
                        hint=f"Look at its log: wws logs --node {node.name}",
                    ) from None
                time.sleep(POLL)
        yield
    finally:
        os.close(descriptor)


def spawn(node: NodePaths, arguments: Sequence[str], *, foreground: bool) -> subprocess.Popen[bytes]:
    """Start the node process.

    In the background it gets a session of its own, so that closing the terminal does not end it, and
    writes to the log; in the foreground it writes to our stderr, and gets its signals from us alone.
    """
    node.error_file.unlink(missing_ok=True)
    command = [*command_of(PROGRAM), *arguments]
    if foreground:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), process_group=0
        )
    make_folder(node.log.parent)
    try:
        log = os.open(node.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise writing_failed(node.log, error) from error
    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    finally:
        os.close(log)


def wait_until_ready(
    node: NodePaths, process: subprocess.Popen[bytes], deadline: float, arguments: Sequence[str]
) -> Ready | None:
    """What the node says of itself once its listeners are open; None when `deadline` came first.

    Raises `StartFailed` when the process ended instead.
    """
    while True:
        ready = node.read_ready()
        if ready is not None:
            return ready
        returned = process.poll()
        if returned is not None:
            raise start_failure(node, returned, arguments)
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL)


def start_failure(node: NodePaths, returned: int, arguments: Sequence[str]) -> WwsError:
    """Why the node process ended: in its own words where it left some."""
    told = node.read_error()
    if told is not None:
        # A process that knew no better said 1.
        by_word = told.exit_code == Exit.BUG and told.code in WORDS
        return StartFailed(
            told.code, told.message, told.hint, exit_code(told.code) if by_word else told.exit_code
        )
    refused = _refusal(arguments)
    if refused is not None:
        return refused
    how = f"was ended by signal {-returned}" if returned < 0 else f"ended with exit code {returned}"
    last = last_line(node.log)
    return StartFailed(
        "start_failed",
        f"The node process {how}." + (f" Its last words: {last}" if last else ""),
        f"Look at its log: wws logs --node {node.name}",
        returned if returned > 1 else Exit.MACHINE if returned <= 0 else Exit.BUG,
    )


def _refusal(arguments: Sequence[str]) -> WwsError | None:
    """What is wrong with the command line or the settings: a node that cannot read them knows no home
    in which to leave word."""
    from wws.runtime.arguments import parse_arguments, prepare

    try:
        prepare(parse_arguments(arguments), os.environ)
    except WwsError as error:
        return error
    return None


def wait_until_ended(pid: int, started: int | None, timeout: float) -> bool:
    """Whether the process has ended, after waiting for it for up to `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not has_ended(pid, started):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True


def has_ended(pid: int, started: int | None) -> bool:
    """Whether the process is gone; one that only waits to be reaped by its parent counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return True  # the number has gone to another user's process
    start = process_start(pid)
    if started is not None and start is not None and start != started:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return status.rpartition(b")")[2].split()[:1] == [b"Z"]


def last_line(log: Path) -> str:
    """The last line of the log that says something, or empty."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
