"""What all worlds of drills have: programs, a folder, an environment. Each is a class in a module of its own.

A world is made once and serves all of its drills (`registry.py` says in which order); `prepare` brings it
into the state that a drill begins with.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import psutil

from tests.drills.pages import DRILLS, ROOT, readable

PROGRAMS = {
    "wws": "agent_cli.app",
    "wws-ops": "agent_cli.ops.app",
    "wws-dns": "wws_dns.app",
    "wws-bootstrap": "bootstrap_node.__main__",
}
"""Program → the module whose `main` it is. So they run here also where the scripts are not installed."""
LAUNCHER = """\
import os, sys, time
shift = os.environ.get("DRILL_CLOCK", "")
if shift and os.path.exists(shift):
    days, real = int(open(shift).read().strip("+d\\n")), time.time
    time.time = lambda: real() + days * 86400
from {module} import main
sys.exit(main())
"""
"""How a program starts in a world whose clock moves: its wall clock is as many days ahead as a file says."""
DRILL_TIMEOUT = 240.0


class DrillFailed(AssertionError):
    """A drill ended with another exit code than 0."""


class World:
    """A folder with programs; drills run in it."""

    name = ""
    moves_clock = False
    patience = DRILL_TIMEOUT
    """Seconds that a drill may take."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wws-drill-", dir="/tmp"))
        self.home = self.folder / "operator"
        self._exit = ExitStack()

    def __enter__(self) -> World:
        self.home.mkdir(mode=0o700)
        (self.folder / "run").mkdir(mode=0o700)
        self._write_programs()
        try:
            self.make()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def make(self) -> None:
        """Make what the drills find; what is to be ended goes on `self._exit`."""

    def prepare(self, drill: str) -> None:
        """Bring the world into the state that this drill begins with."""

    def environment(self) -> dict[str, str]:
        """The whole environment of the drills."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("WWS_", "PULUMI_", "DRILL_"))
        }
        return {
            **kept,
            "HOME": str(self.home),
            "PATH": os.pathsep.join((str(self.folder / "bin"), kept.get("PATH", ""))),
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "dns", "infra")),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "TMPDIR": str(self.folder),
            "NO_COLOR": "1",
            "COLUMNS": "110",
            "TERM": "dumb",
            "WWS_NETWORK_ENABLE_MDNS": "false",
            "WWS_NETWORK_LISTEN": "/ip4/127.0.0.1/tcp/0",
            "WWS_RPC_TCP": "",  # whether the usual ports are free depends on what else runs here
            "WWS_RPC_HTTP": "",
            **({"DRILL_CLOCK": str(self.folder / "clock")} if self.moves_clock else {}),
        }

    def prefix(self) -> Sequence[str]:
        """What stands before the drill's command line, as `ip netns exec …`."""
        return ()

    def places(self) -> dict[str, str]:
        """Path of this machine → what a page shows in its place."""
        return {str(self.home): "~", str(self.folder): "/tmp", str(ROOT): "~/wws"}

    def run(self, drill: str) -> str:
        """Run a drill to its end; what it printed, as a page shows it. Raises `DrillFailed`."""
        self.prepare(drill)
        with suppress(FileNotFoundError):
            (self.folder / "clock").unlink()
        process = subprocess.Popen(
            [*self.prefix(), "sh", str(DRILLS / f"{drill}.sh")],
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=self.patience)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        if process.returncode:
            raise DrillFailed(f"{drill}: exit code {process.returncode}\n{output[-8_000:]}")
        return readable(output, self.places())

    def _write_programs(self) -> None:
        folder = self.folder / "bin"
        folder.mkdir()
        for name, module in PROGRAMS.items():
            launcher = folder / f".{name}.py"
            launcher.write_text(LAUNCHER.format(module=module))
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(launcher)])} "$@"\n')
            script.chmod(0o755)
        (folder / "python").symlink_to(sys.executable)

    def _end(self) -> None:
        """End everything that lies in the folder or was told of it, then remove the folder."""
        try:
            self._exit.close()
        finally:
            for process in psutil.process_iter(["cmdline", "environ"]):
                words = [*(process.info["cmdline"] or []), (process.info["environ"] or {}).get("HOME", "")]
                if any(str(self.folder) in word for word in words):
                    with suppress(psutil.Error):
                        process.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
