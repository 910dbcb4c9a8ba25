"""Every process and file of a demo, from its start to its end.

All files lie in one folder. Each process is noted in `demo.json` there as soon as it runs, and nodes tell of
themselves in their `ready.json`; so whoever has the folder can end the demo, also when the command that
began it was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent_cli.connector import has_ended
from agent_cli.demo.interrupts import Interrupts
from agent_cli.result import WrongUsage
from wws.errors import LocalError
from wws.programs import command_of
from wws.rpc.codes import Exit
from wws.runtime.homes import Home, process_start

PREFIX = "wws-demo-"
NOTES = "demo.json"
RUNTIME = "runtime"
SCHEMA = 1
MAX_PARENT = 44
"""Bytes of the path that the demo's folder is made in: the path of a unix socket is short (macOS: 103)."""
COMMAND_TIMEOUT = 60.0
"""Seconds that one `wws` command of the demo may take."""
GRACE = 10.0
"""Seconds that processes get to end by themselves after SIGTERM."""
POLL = 0.05
TAIL = 2_000
"""Characters of a log that are shown when something fails."""


class StepFailed(LocalError):
    """A command of the demo has failed. The message holds what it said."""

    code = "demo_failed"
    exit_code = Exit.BUG

    def __init__(self, what: str, output: str) -> None:
        indented = "\n".join(f"  | {line}" for line in output.strip().splitlines())
        super().__init__(f"{what}\n{indented}" if indented else what)
        self.details = {"command": what, "output": output}


@dataclass(frozen=True, slots=True)
class Noted:
    """A process that the demo has started."""

    pid: int
    started: int | None


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    exit_code: int
    output: str
    diagnostics: str


@dataclass(slots=True)
class Processes:
    """The folder of a running demo, and what runs in it."""

    folder: Path
    interrupts: Interrupts
    noted: list[Noted] = field(default_factory=list)
    children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def begin(cls, interrupts: Interrupts) -> Processes:
        """A demo of its own, in a new folder that only this user can read."""
        parent = tempfile.gettempdir()
        if len(os.fsencode(parent)) > MAX_PARENT:
            parent = "/tmp"  # noqa: S108 - mkdtemp makes a folder there that is ours alone
        processes = cls(Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)), interrupts)
        processes._write()
        return processes

    @classmethod
    def find(cls, folder: Path) -> Processes:
        """The demo that runs in a folder. Raises `WrongUsage` for a folder that is not a demo's."""
        try:
            found = folder.lstat()
            notes = json.loads((folder / NOTES).read_bytes())
            schema = notes["schema"]
            noted = [Noted(int(pid), started) for pid, started in notes["processes"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise WrongUsage(f"{folder} is not the folder of a demo.") from None
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and schema == SCHEMA
        if not is_ours or any(process.pid <= 1 for process in noted):
            raise WrongUsage(f"{folder} is not the folder of a demo.")
        return cls(folder.absolute(), Interrupts(), noted)

    def start(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program that stays; what it says goes to `log`."""
        with self.interrupts.held(), open(log, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,  # Ctrl-C is for us: we end our processes ourselves
            )
            self.children[process.pid] = process
            self.noted.append(Noted(process.pid, process_start(process.pid)))
            self._write()
        return process

    def wws(self, *arguments: str) -> dict[str, object]:
        """Run a `wws` command to its end, as a user would; the `data` of its answer. Raises `StepFailed`."""
        finished = self.run("--json", *arguments)
        try:
            answer = json.loads(finished.output)
        except ValueError:
            answer = None
        if finished.exit_code != 0 or not isinstance(answer, dict):
            what = f"wws {shlex.join(arguments)} ended with exit code {finished.exit_code}"
            raise StepFailed(what, f"{finished.diagnostics}{finished.output}{self._logs()}")
        data: dict[str, object] = answer["data"]
        return data

    def run(self, *arguments: str) -> Finished:
        """Run a `wws` command to its end, however it ends. Raises `StepFailed` when it does not."""
        self.interrupts.hold()
        process = subprocess.Popen(
            [*command_of("wws"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(),
            start_new_session=True,
        )
        try:
            self.interrupts.release()
            output, diagnostics = process.communicate(timeout=COMMAND_TIMEOUT)
        except BaseException as error:
            # A join that is interrupted ends the node that it was starting.
            process.send_signal(signal.SIGINT)
            try:
                output, diagnostics = process.communicate(timeout=GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                output, diagnostics = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                what = f"wws {shlex.join(arguments)} had not ended after {COMMAND_TIMEOUT:g} s"
                raise StepFailed(what, f"{diagnostics}{output}{self._logs()}") from None
            raise
        return Finished(process.returncode, output, diagnostics)

    def kill(self, pid: int) -> None:
        """SIGKILL one of our processes, and wait for its end."""
        os.kill(pid, signal.SIGKILL)
        self._wait([noted for noted in self.noted if noted.pid == pid])

    def end(self) -> None:
        """End every process and remove every file. Raises `StepFailed` for what could not be ended.

        Safe to do again, and from another process than the one that began the demo.
        """
        running = self._running()
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
            for found in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found.pid, number)
            self._wait(running)
            running = self._running()
        if running:
            pids = " ".join(str(found.pid) for found in running)
            raise StepFailed(f"These processes of the demo do not end: {pids}", "")
        shutil.rmtree(self.folder)

    def environment(self) -> dict[str, str]:
        """Ours without what is set for other nodes of this user; nothing is told to the local network."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
        runtime = self.folder / RUNTIME
        runtime.mkdir(exist_ok=True, mode=0o700)
        return {**kept, "XDG_RUNTIME_DIR": str(runtime), "WWS_NETWORK_ENABLE_MDNS": "false"}

    def _wait(self, running: list[Noted]) -> None:
        """Wait for processes to end, for a while."""
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline and not all(map(self._has_ended, running)):
            time.sleep(POLL)

    def _running(self) -> list[Noted]:
        """What runs: noted by us, told by a node, or, where the kernel says so, with our runtime folder."""
        found = {noted.pid: noted for noted in self.noted}
        for home in self.folder.iterdir():
            if home.is_dir():
                found |= {ready.pid: Noted(ready.pid, ready.started) for ready in Home(home).running_nodes()}
        mark = f"\0XDG_RUNTIME_DIR={self.folder / RUNTIME}\0".encode()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # another user's, or ended meanwhile
                if mark in b"\0" + environment.read_bytes():
                    pid = int(environment.parent.name)
                    found[pid] = Noted(pid, process_start(pid))
        return [noted for noted in found.values() if not self._has_ended(noted)]

    def _has_ended(self, found: Noted) -> bool:
        child = self.children.get(found.pid)
        return has_ended(found.pid, found.started) if child is None else child.poll() is not None

    def _logs(self) -> str:
        """The end of each log, the one written last at the end."""
        logs = [*self.folder.glob("*.log"), *self.folder.glob("*/log"), *self.folder.glob("*/state/*/log")]
        logs.sort(key=lambda log: log.stat().st_mtime)
        return "".join(
            f"\n{log.relative_to(self.folder)}:\n{log.read_text(errors='replace')[-TAIL:]}" for log in logs
        )

    def _write(self) -> None:
        notes = {
            "schema": SCHEMA,
            "processes": [[found.pid, found.started] for found in self.noted],
        }
        fresh = self.folder / f"{NOTES}.new"
        fresh.write_text(json.dumps(notes))
        fresh.replace(self.folder / NOTES)
