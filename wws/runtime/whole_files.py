"""Files that are written whole or not at all, whatever happens in between.

The bytes go to a temporary file in the same folder, are forced to the disk, and take the name in one step.
A process killed on the way leaves the old file, or the new one, and perhaps a temporary file that `sweep`
removes. Standard library only. All of this blocks: on the event loop it is called through a thread.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from pathlib import Path

from wws.runtime.machine_errors import CannotWrite, FolderLoose, writing_failed

_TEMPORARY = re.compile(r"\..+\.(\d+)\.[0-9a-f]{8}\.new\Z")


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Make `path` hold `data`, 0600, in place of what was there. Makes missing folders, 0700.

    When this returns, the file survives a loss of power; with `durable=False` only a kill of the process: for
    files that say what runs now. Raises `MachineError`, and then the old content is untouched.
    """
    folder = make_folder(path.parent)
    temporary = _temporary(path)
    try:
        try:
            _write_new(temporary, data, durable=durable)
            os.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(folder)
    except OSError as error:
        raise writing_failed(path, error) from error


def create_whole(path: Path, data: bytes) -> None:
    """As `write_whole`, for a new file: never replaces.

    Raises `FileExistsError` when there is something at `path`, `MachineError`. Of several processes that do
    this at once one succeeds.
    """
    folder = make_folder(path.parent)
    temporary = _temporary(path)
    try:
        try:
            _write_new(temporary, data, durable=True)
            _link_without_replacing(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(folder)
    except FileExistsError:
        raise
    except OSError as error:
        raise writing_failed(path, error) from error


def make_folder(path: Path) -> Path:
    """Make `path` and what is missing above it, 0700, and return it. Raises `MachineError`."""
    missing: list[Path] = []
    step = path
    try:
        while not step.exists() and step.parent != step:
            missing.append(step)
            step = step.parent
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not path.is_dir():
            raise CannotWrite(f"{path} is not a folder.", hint="Move it away, or use --home DIR.")
    except OSError as error:
        raise writing_failed(path, error) from error
    return path


def refuse_loose(folder: Path) -> None:
    """Raises `FolderLoose` when everybody can write there: a key, a pin or a setting could be put in place.

    Group members may: a group of one's own is the rule, and its write bit a common `umask`.
    """
    try:
        found = folder.stat()
    except OSError as error:
        raise writing_failed(folder, error) from error
    if found.st_mode & stat.S_IWOTH:
        raise FolderLoose(
            f"Everybody on this machine can write into {folder}, and so decide what this node believes.",
            hint=f"chmod o-w {folder}",
        )


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes that died while writing into `folder`."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        match = _TEMPORARY.match(name)
        if match and not _process_exists(int(match[1])):
            try:
                os.unlink(folder / name)
            except OSError:
                continue  # not ours to remove; it is in nobody's way


def sync_folder(folder: Path) -> None:
    """Force the entries of `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems have nothing to force for a folder, and say so.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.new")


def _write_new(path: Path, data: bytes, *, durable: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
        file.flush()
        if durable:
            os.fsync(descriptor)


def _link_without_replacing(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without hard links: look and rename, with the folder locked against our own kind.
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
            os.rename(temporary, path)
        finally:
            os.close(folder)


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
