"""Runs the install.sh that a version brought along, with the settings it was installed with."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from agent_cli.installation import Receipt
from agent_cli.options import Options
from wws.errors import LocalError
from wws.release.errors import FilesDiffer
from wws.rpc.codes import Exit

SCRIPT: Final = Path("share", "install.sh")
_LEVELS: Final = 4
"""Folders from the script up to `share/wws`."""
_TRUSTED: Final = (0, 65_534)
"""Root; and nobody, which is who is not mapped into a container."""
MAX_SAID: Final = 64 * 1024
"""Characters of what it says that are kept."""
_PLANNED: Final = re.compile(r"Would install wws ([^\s:]+)")


class InstallerFailed(LocalError):
    """The installer could not do it on this machine; what was installed is as before."""

    code = "installer_failed"
    exit_code: ClassVar[int] = Exit.MACHINE


class InstallerRefused(InstallerFailed):
    """The installer was served something that is not a genuine, current release."""

    code = "release_refused"
    exit_code = Exit.INTEGRITY


class InstallerOffline(InstallerFailed):
    """The installer could not get the release."""

    code = "release_unreachable"
    exit_code = Exit.NO_WAY_IN


class InstallerUsage(InstallerFailed):
    """The installer does not know what it was asked for."""

    code = "wrong_usage"
    exit_code = Exit.USAGE


_BY_EXIT_CODE: Final[dict[int, type[InstallerFailed]]] = {
    2: InstallerUsage,
    8: InstallerRefused,
    9: InstallerOffline,
}


@dataclass(frozen=True, slots=True)
class Said:
    """What the installer said; empty where it said it to the terminal itself."""

    lines: tuple[str, ...] = ()


def settings(receipt: Receipt, *, channel: str | None, source: str | None, offline: str | None) -> list[str]:
    """The options that have the installer look where it looked before; nothing is asked or set up anew.

    Where the receipt names no place, the installer knows where its releases are.
    """
    arguments = ["--no-modify-path", "--no-service"]
    chosen = channel or receipt.one("channel")
    if chosen is not None:
        arguments += ["--channel", chosen]
    told = receipt.one("from") or ""
    is_folder = told.startswith("/")  # what was installed from files looks there again
    releases = source or ("" if is_folder else told)
    folder = offline or (told if is_folder and not releases else "")
    if releases:
        arguments += ["--from", releases]
    if folder:
        arguments += ["--offline", folder]
    for root in receipt.all("root"):
        arguments += ["--root-key", root]
    return arguments


def planned_version(version: Path, arguments: Sequence[str], options: Options) -> str | None:
    """Which version the installer would install; `None` when it does not say. Raises as `run_installer`."""
    said = run_installer(version, [*arguments, "--dry-run"], options, speaks=False)
    found = (_PLANNED.match(line) for line in said.lines)
    return next((plan[1] for plan in found if plan is not None), None)


def run_installer(version: Path, arguments: Sequence[str], options: Options, *, speaks: bool = True) -> Said:
    """Run the installer of this version. Raises `InstallerFailed`; `FilesDiffer` where there is none.

    To people it speaks itself, with its progress, on stderr; otherwise, and where it is not to speak, its
    words are returned.
    """
    script = version / SCRIPT
    if not script.is_file():
        raise FilesDiffer(f"{script} is missing, so this version cannot change itself.")
    _require_ours(script)
    speaks = speaks and not options.json and not options.quiet
    environment = dict(os.environ)
    if options.home:
        environment["WWS_HOME"] = os.path.abspath(options.home)
    process = subprocess.Popen(
        ["sh", str(script), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=2 if speaks else subprocess.PIPE,
        stderr=None if speaks else subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
    )
    said = ""
    try:
        if process.stdout is not None:
            with process.stdout as words:
                for line in words:
                    said = (said + line)[-MAX_SAID:]
        code = process.wait()
    except BaseException:  # an interruption reaches the installer, too: it cleans up and ends
        process.terminate()
        process.wait()
        raise
    lines = tuple(line for line in said.splitlines() if line.strip())
    if code in (130, 143, -2, -15):
        raise KeyboardInterrupt
    if code:
        raise _failure(code, lines)
    return Said(lines)


def _require_ours(script: Path) -> None:
    """Raises `FilesDiffer` where another user decides what is in it: `--prefix` leads anywhere."""
    for place in (script, *script.parents[:_LEVELS]):
        for found in (place.lstat(), place.stat()):
            is_others = found.st_uid not in (os.geteuid(), *_TRUSTED)
            if is_others or (found.st_mode & stat.S_IWOTH and not stat.S_ISLNK(found.st_mode)):
                raise FilesDiffer(f"Others on this machine can change {place}, so nothing of it is run.")


def _failure(code: int, lines: Sequence[str]) -> InstallerFailed:
    kind = _BY_EXIT_CODE.get(code, InstallerFailed)
    at = next((at for at, line in enumerate(lines) if line.startswith("error: ")), None)
    words = " ".join(lines[at:]).removeprefix("error: ") if at is not None else " ".join(lines[-2:])
    if not words:
        words = f"The installer ended with exit code {code}; why stands above."
    return kind(words[:2_000])
