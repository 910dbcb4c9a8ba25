"""The lab that docs/lab.md brings up by hand: it comes up, its nodes can be asked as it says, and it goes."""

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.programs import MODULES, REPOSITORY

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]

UP_WITHIN = 90.0
_COMMAND = re.compile(r"^```sh\n\.venv/bin/python (-m tests\.lab [^-].*)\n```$", re.MULTILINE)
_STATUS = re.compile(r"^(?P<name>[\w-]+): wws (?P<arguments>--home \S+ --node \S+ status)$", re.MULTILINE)


def _printed(process: "subprocess.Popen[bytes]", end: str, within: float) -> str:
    """What it prints up to `end`."""
    assert process.stdout is not None
    said, deadline = b"", time.monotonic() + within
    while end.encode() not in said:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"not up within {within:g} s: {said!r}"
        piece = os.read(process.stdout.fileno(), 65_536)
        assert piece, f"it has ended: {said!r}"
        said += piece
    return said.decode()


def test_the_lab_of_the_documents() -> None:
    [command] = _COMMAND.findall((REPOSITORY / "docs" / "lab.md").read_text())
    names = [part.partition("=")[0] for part in shlex.split(command)[2:]]
    with subprocess.Popen(
        [sys.executable, *shlex.split(command)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            said = _printed(process, "Ctrl-C takes everything down.", UP_WITHIN)
            shown = {found["name"]: found["arguments"].split() for found in _STATUS.finditer(said)}
            assert set(names) < set(shown)
            for name in names:
                done = subprocess.run(
                    [sys.executable, *MODULES["wws"], *shown[name]],
                    cwd=REPOSITORY,
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
                assert done.returncode == 0, done.stderr
                assert f"names      wws:{name}" in done.stdout
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert not any(Path(arguments[1]).exists() for arguments in shown.values())
        finally:
            process.kill()
