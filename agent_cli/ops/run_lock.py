"""One run of a playbook at a time on each network, from this machine.

A lock of the kernel on a file of that network, which the playbook's own process inherits: it holds as long as
either lives, also when `wws-ops` was killed and its playbook goes on. What stands in the file only says who.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.homes import private_folder, process_start
from wws.runtime.machine_errors import writing_failed

LONGEST_WAIT: Final = 3_600.0
"""Seconds that a stack waits for the run of somebody else."""
STEP: Final = 0.2
"""Seconds between two looks whether it has ended."""
MAX_NOTE: Final = 1_024
"""Bytes that are read of what stands in the file."""
MAX_NAME: Final = 200
"""Characters of a domain that name its file; two that differ only after them exclude each other."""


class RunUnderWay(LocalError):
    """Another run changes nodes of this network."""

    code = "run_under_way"
    exit_code = Exit.REFUSED
    hint = "Wait until it ends. Two at once would take each other's nodes down."


@dataclass(slots=True)
class Hold:
    """The lock, held."""

    descriptor: int
    """To be inherited by whoever works under it."""
    note: dict[str, object]
    sharing: int = 1
    """Threads of this process that work under it."""

    def work_by(self, pid: int) -> None:
        """Note the playbook's process, for who finds it without us."""
        self.note["worker"] = _process(pid)
        self.write()

    def write(self) -> None:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps(self.note).encode(), 0)


_guard: Final = threading.Lock()
_shared: Final[dict[Path, Hold]] = {}
"""What a stack holds: the nodes that it makes at once are one run."""


def lock_folder(env: Mapping[str, str] = os.environ) -> Path:
    """Where the locks lie: `wws/runs` among this user's state (XDG_STATE_HOME)."""
    state = env.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "wws" / "runs"


@contextmanager
def one_run(domain: str, playbook: str, *, wait: bool) -> Iterator[Hold]:
    """Hold the network `domain` during the block.

    With `wait` it waits until others have ended, and is one run with the rest of this process. Raises
    `RunUnderWay`, `MachineError`.
    """
    path = private_folder(lock_folder()) / f"{quote(domain.lower(), safe='')[:MAX_NAME]}.lock"
    if not wait:
        hold = _taken(path, domain, playbook, 0.0)
        try:
            yield hold
        finally:
            os.close(hold.descriptor)
        return
    with _guard:  # who comes meanwhile would wait for the same
        if path in _shared:
            hold = _shared[path]
            hold.sharing += 1
        else:
            hold = _shared[path] = _taken(path, domain, playbook, LONGEST_WAIT)
    try:
        yield hold
    finally:
        with _guard:
            hold.sharing -= 1
            if not hold.sharing:
                del _shared[path]
                os.close(hold.descriptor)


def _taken(path: Path, domain: str, playbook: str, patience: float) -> Hold:
    end = time.monotonic() + patience
    is_told = False
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
                problem = _under_way(descriptor, domain)
            if time.monotonic() >= end:
                raise problem
            if not is_told:
                print(f"{problem} This one waits for it.", flush=True)
                is_told = True
            time.sleep(STEP)
        hold = Hold(
            descriptor, {"playbook": playbook, "since": int(time.time()), "began": _process(os.getpid())}
        )
        hold.write()
    except OSError as error:
        os.close(descriptor)
        raise writing_failed(path, error) from error
    except BaseException:
        os.close(descriptor)
        raise
    return hold


def _process(pid: int) -> list[int | None]:
    return [pid, process_start(pid)]


def _living(process: object) -> int | None:
    """The pid of a process that was noted, where it still is that process."""
    match process:
        case [int(pid), start] if pid > 1:
            return pid if process_start(pid) == start is not None else None
        case _:
            return None


def _under_way(descriptor: int, domain: str) -> RunUnderWay:
    """The refusal, with what the one that holds the lock has noted."""
    try:
        note = json.loads(os.pread(descriptor, MAX_NOTE, 0))
    except (ValueError, RecursionError):  # it is just being written
        note = None
    if not isinstance(note, dict):
        note = {}
    playbook, since = str(note.get("playbook") or "a playbook"), note.get("since")
    began, worker = _living(note.get("began")), _living(note.get("worker"))
    pid = began or worker
    hint = None
    if worker and not began:
        hint = (
            f"The program that began it is gone, its playbook is not. Wait, or end it: kill -INT -- -{worker}"
        )
    when = ""
    if isinstance(since, int) and 0 <= since < 1 << 35:
        when = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC"
    said = [f"since {when}"] if when else []
    said += [f"pid {pid}"] if pid else []
    error = RunUnderWay(
        f"Another run on {domain} is under way: {playbook}{''.join(f', {one}' for one in said)}.", hint=hint
    )
    error.details = {"playbook": playbook, "since": when or None, "pid": pid}
    return error
