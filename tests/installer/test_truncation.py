"""A download that ends early: the shell gets the beginning of the script, and nothing must come of it.

Every byte on dash, which is `sh` on Debian and Ubuntu; the ends of lines on the other shells, and every byte
at scale 1. The script lies in memory and gets shorter in place; many shells run one after the other, and what
they might have written is looked for after each batch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pytest

from tests.installer.machine import SHELLS, Machine, listing
from tests.installer.releases import INSTALLER, Releases
from wws.testing.scale import scale_factor

SCRIPT = INSTALLER.read_bytes()
WHOLE = SCRIPT.rstrip(b"\n")
"""Without the line feed at its end the script is whole; every cut before that is one."""
SHARES = 8
"""Tests that share the cuts, so that they run beside each other."""


def test_every_byte_is_a_cut() -> None:
    cuts = [cut for share in range(SHARES) for cut in cuts_of(share, every_byte=True)]
    assert sorted(cuts) == list(range(len(WHOLE)))


@pytest.mark.parametrize("share", range(SHARES))
def test_every_byte_on_dash(machine: Machine, share: int) -> None:
    run_all(machine, "dash", cuts_of(share, every_byte=True))


@pytest.mark.parametrize("share", range(SHARES if scale_factor() >= 1 else 1))
@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "dash"])
def test_every_line_on_the_others(machine: Machine, shell: str, share: int) -> None:
    run_all(machine, shell, cuts_of(share, every_byte=scale_factor() >= 1))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_whole_of_it_would_have_installed(machine: Machine, shell: str) -> None:
    """In the very place where the cuts do nothing. With the last words cut it does nothing, either."""
    code = run(machine, shell, SCRIPT[: len(WHOLE) - len(b' "$@"')])
    assert (code, listing(machine.home)) == (9, {})
    assert run(machine, shell, WHOLE) == 0
    assert machine.version == "1.2.3"


@pytest.fixture(autouse=True)
def _offline(machine: Machine, releases: Releases) -> None:
    """The release lies beside the machine: what runs needs no network, and has all it wants."""
    machine.offline(releases)


def cuts_of(share: int, *, every_byte: bool) -> Sequence[int]:
    """Where this share cuts, the longest first."""
    if every_byte:
        return range(len(WHOLE) - 1 - share, -1, -SHARES)
    return [at + 1 for at in range(len(SCRIPT) - 2, 0, -1) if SCRIPT[at : at + 1] == b"\n"]


def run_all(machine: Machine, shell: str, cuts: Sequence[int]) -> None:
    """Run the script cut at each of these. Fails when anything has come of one."""
    before = listing(machine.folder)
    command, environment = machine.command(shell=shell), machine.environment()
    with Script() as script:
        for cut in cuts:
            script.run(command, environment, cut)
    assert listing(machine.folder) == before, f"a cut script on {shell} has written something"


def run(machine: Machine, shell: str, text: bytes) -> int:
    with Script(text) as script:
        return script.run(machine.command(shell=shell), machine.environment(), len(text))


class Script:
    """A file in memory, cut in place. It can only become shorter."""

    def __init__(self, text: bytes = SCRIPT) -> None:
        self._text = text

    def __enter__(self) -> Script:
        self._file = os.memfd_create("install.sh")
        self._null = os.open(os.devnull, os.O_RDWR)
        os.write(self._file, self._text)
        self._redirected = [
            (os.POSIX_SPAWN_DUP2, self._file, 0),
            *((os.POSIX_SPAWN_DUP2, self._null, fd) for fd in (1, 2)),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        os.close(self._null)

    def run(self, command: Sequence[str], environment: Mapping[str, str], cut: int) -> int:
        """Run the first `cut` bytes, as if they had come by a pipe; the exit code."""
        os.ftruncate(self._file, cut)
        os.lseek(self._file, 0, os.SEEK_SET)
        process = os.posix_spawn(command[0], command, environment, file_actions=self._redirected)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
