"""How a node that runs was started, as Linux tells it: to run it as a service, or once more as it was."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wws.runtime.homes import NodePaths
from wws.runtime.machine_errors import writing_failed
from wws.runtime.whole_files import make_folder

MAX_READ: Final = 256 * 1024
"""Bytes of a process's command line or environment that are read."""


@dataclass(frozen=True, slots=True)
class Process:
    """How a node that runs was started."""

    command: tuple[str, ...]
    env: dict[str, str]
    folder: Path

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """That of a running process; `None` where it cannot be told."""
        place = Path(f"/proc/{pid}")
        entries = (entry.partition("=") for entry in _read(place / "environ"))
        try:
            folder = place.joinpath("cwd").readlink()
        except OSError:
            return None
        command = tuple(_read(place / "cmdline"))
        return cls(command, {name: value for name, _, value in entries}, folder) if command else None

    def start_again(self, node: NodePaths) -> None:
        """As `wws join` does it: in the background, with a session of its own. Raises `MachineError`."""
        make_folder(node.log.parent)
        try:
            with node.log.open("ab") as log:
                subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env=self.env,
                    start_new_session=True,
                )
        except OSError as error:
            raise writing_failed(node.log, error) from error


def _read(path: Path) -> list[str]:
    """The texts in a file of /proc that ends each with a zero."""
    try:
        with path.open("rb") as file:
            return [os.fsdecode(part) for part in file.read(MAX_READ).split(b"\0")[:-1]]
    except OSError:
        return []
