"""What a run of a playbook leaves when it is killed, and for how long: keys were in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_cli.ops.playbooks import _private_folder

KILLED = """\
import os, subprocess
from agent_cli.ops.playbooks import _private_folder
with _private_folder() as (private, lock):
    (private / "hosts.json").write_text("secret")
    going_on = subprocess.Popen(["sleep", "600"], pass_fds=(lock,), stdout=subprocess.DEVNULL)
    print(private, going_on.pid, flush=True)
    os.kill(os.getpid(), 9)
"""

pytestmark = pytest.mark.net


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="wws-t-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_the_next_run_removes_what_a_killed_one_left_but_not_below_one_that_goes_on(parent: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, check=False)
    assert run.returncode == -signal.SIGKILL
    path, pid = run.stdout.split()
    left = Path(path)
    try:
        assert (left.parent, left.stat().st_mode & 0o077) == (parent, 0)
        with _private_folder():
            assert left.is_dir()  # its lock may be about to be made
        os.utime(left, (0, 0))
        with _private_folder():
            assert left.is_dir()  # its playbook goes on
    finally:
        os.kill(int(pid), signal.SIGKILL)
    _wait_for_the_end_of(int(pid))
    with _private_folder() as (private, _):
        assert list(parent.iterdir()) == [private]
    assert list(parent.iterdir()) == []


def test_what_others_put_there_is_left_alone(parent: Path) -> None:
    elsewhere = parent / "precious"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (parent / "wws-ops-link").symlink_to(elsewhere)
    (parent / "wws-ops-file").touch()
    (parent / "wws-ops-unlocked").mkdir()
    for path in (elsewhere, parent / "wws-ops-unlocked"):
        os.utime(path, (0, 0))
    with _private_folder():
        pass
    names = {path.name for path in parent.iterdir()}
    assert names == {"precious", "wws-ops-link", "wws-ops-file", "wws-ops-unlocked"}


def _wait_for_the_end_of(pid: int) -> None:
    """Our own it is not: whoever adopted it sees to that. Its files are closed when it is a zombie."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
