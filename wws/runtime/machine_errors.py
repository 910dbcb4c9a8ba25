"""What goes wrong on this machine: files that cannot be written, ports that are taken.

Standard library only: the fast paths of the CLI import this.
"""

from __future__ import annotations

import errno
from pathlib import Path

from wws.errors import LocalError


class MachineError(LocalError):
    """This machine does not give what is needed (exit code 10)."""

    code = "machine_error"
    exit_code = 10


class CannotWrite(MachineError):
    """A file or folder cannot be written."""

    code = "cannot_write"


class CannotRead(MachineError):
    """A file cannot be read."""

    code = "cannot_read"


class FolderLoose(LocalError):
    """Everybody on this machine can write into a folder whose content is believed."""

    code = "folder_loose"
    exit_code = 8


class NoSpace(MachineError):
    """The disk or the quota is full."""

    code = "no_space"


class PortTaken(MachineError):
    """A port that was asked for is in use by another program."""

    code = "port_taken"


def writing_failed(path: Path, error: OSError) -> MachineError:
    """The typed error for an `OSError` that came up while `path` was being written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"No space left to write {path}.", hint="Free some space, then try again.")
    reason = error.strerror or str(error)
    if error.errno == errno.EROFS:
        reason = "the file system is read-only"
    return CannotWrite(
        f"Cannot write {path}: {reason}.",
        hint="Choose a place that can be written: --home DIR (or WWS_HOME), for the key --identity-path P.",
    )


def reading_failed(path: Path, error: OSError) -> MachineError:
    """The typed error for an `OSError` that came up while `path` was being read."""
    return CannotRead(
        f"Cannot read {path}: {error.strerror or error}.",
        hint=f"Look at its owner and mode: ls -l {path}",
    )
