"""Of which release a process is: one that is a program of it, and one that a Python of the host runs."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tests.unit.playbooks.modules import load

wws_release = load("wws_release")


def wait_for_arguments(pid: int) -> None:
    """Until a started process has its command line, which the kernel makes after the exec shows."""
    deadline = time.monotonic() + 30
    while not Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline


def test_a_program_of_a_release_is_found_through_a_link_and_by_what_python_runs(tmp_path: Path) -> None:
    releases = [tmp_path / "releases" / version for version in ("1.0.0", "1.1.0")]
    for release in releases:
        (release / "bin").mkdir(parents=True)
        shutil.copy(shutil.which("sleep") or "sleep", release / "bin" / "wws-bootstrap")
        (release / "start.sh").write_text("read -r _")
    current = tmp_path / "current"
    current.symlink_to(releases[1])
    for command in ([str(current / "bin" / "wws-bootstrap"), "60"], ["sh", str(releases[1] / "start.sh")]):
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            try:
                wait_for_arguments(process.pid)
                assert wws_release._runs_from(process.pid, releases[1])
                assert not wws_release._runs_from(process.pid, releases[0])
            finally:
                process.kill()
    assert not wws_release._runs_from(process.pid, releases[1]), "it has ended"
