"""Runs `wws` and its sisters as users do, below one folder, and finds what they leave behind."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]

MODULES = {
    "wws": ["-c", "from agent_cli.app import main; main()"],
    "wws-bootstrap": ["-m", "bootstrap_node"],
    "wws-connector": ["-m", "wws.runtime"],
    "wws-ops": ["-c", "from agent_cli.ops.app import main; main()"],
    "wws-dns": ["-c", "from wws_dns.app import main; main()"],
}
"""Program → how Python runs it here, also where the scripts are not installed."""


class Programs:
    """Programs whose home, runtime folder and temporary files all lie below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
        self.env = {
            **kept,
            "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "dns"))),
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "XDG_RUNTIME_DIR": str(runtime),
            "NO_COLOR": "1",
        }

    def start(self, program: str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a program and go on."""
        return subprocess.Popen(
            [sys.executable, *MODULES[program], *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**self.env, **variables},
        )

    def wws(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a `wws` command to its end."""
        process = self.start("wws", *arguments, **variables)
        output, diagnostics = process.communicate(timeout=90)
        return subprocess.CompletedProcess(process.args, process.returncode, output, diagnostics)

    def json(self, *arguments: str, exit_code: int = 0, **variables: str) -> dict[str, Any]:
        """Run a `wws` command with --json; its envelope. Fails unless it ends with `exit_code`."""
        done = self.wws("--json", *arguments, **variables)
        assert done.returncode == exit_code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        envelope: dict[str, Any] = json.loads(done.stdout)
        assert envelope["ok"] is (exit_code == 0)
        return envelope

    def ops(self, *arguments: str) -> dict[str, Any]:
        """Run a `wws-ops` command with --json; its data. Fails unless it succeeds."""
        process = self.start("wws-ops", "--json", *arguments)
        output, diagnostics = process.communicate(timeout=90)
        assert process.returncode == 0, f"{process.returncode}\n{output}\n{diagnostics}"
        data: dict[str, Any] = json.loads(output)["data"]
        return data

    def running(self) -> list[psutil.Process]:
        """The processes that were started below the folder and have not ended."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return (
                process.pid != os.getpid()
                and process.status() != psutil.STATUS_ZOMBIE
                and Path(process.environ().get("HOME", "/")).is_relative_to(self.folder)
            )
        except psutil.Error:
            return False
