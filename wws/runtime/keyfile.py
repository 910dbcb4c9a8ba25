"""The key file: where it lies, reading it, making it, and one node a key (contract section 3).

A key file holds the raw 32-byte Ed25519 seed and nothing else, mode 0600. It is made whole or not at all,
and nothing here ever replaces one: a key that is loose, cut short or oddly linked is refused with an error
that says how to mend it, because replacing it would change who the node is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wws.errors import LocalError
from wws.identity.keys import SEED_LENGTH, Identity
from wws.identity.peer_id import PeerId
from wws.runtime.homes import Home, expand, runtime_folder
from wws.runtime.machine_errors import MachineError, reading_failed
from wws.runtime.whole_files import create_whole, sweep

MAX_LINKS = 16
"""Symlinks followed on the way to a key file."""


class NoIdentity(LocalError):
    """There is no key file at that path."""

    code = "no_identity"
    exit_code = 4


class KeyExists(LocalError):
    """There is a key file already, and a key file is never replaced."""

    code = "key_exists"
    exit_code = 7


class KeyFileRefused(LocalError):
    """A key file that must not be used as it stands. It is left untouched."""

    code = "key_file_refused"
    exit_code = 8


class KeyFileLoose(KeyFileRefused):
    """Others can read the key file, so others may hold the key."""

    code = "key_file_loose"


class KeyFileSize(KeyFileRefused):
    """The key file does not have the size of a key, or is no file at all."""

    code = "key_file_size"


class KeyFileSymlink(KeyFileRefused):
    """The key file is a symlink into a folder where anyone can put another file in its place."""

    code = "key_file_symlink"


class IdentityInUse(LocalError):
    """Another node on this machine runs with the same key."""

    code = "identity_in_use"
    exit_code = 7


@dataclass(frozen=True, slots=True)
class IdentityPath:
    """Where the key lies, and which rule said so."""

    path: Path
    source: str


def choose_identity_path(
    env: Mapping[str, str], flag: str | None, configured: str | None, name: str | None, home: Home
) -> IdentityPath:
    """The path of the key file, by the first rule that applies (contract section 3, the seed's order).

    Pure. `flag` is `--identity-path`, `configured` is `[identity] path`, `name` is `--name` or
    `$WWS_AGENT_NAME`.
    Raises `BadNodeName` for a name that cannot be part of a path.
    """
    from_environment = env.get("WWS_IDENTITY_PATH")
    if from_environment:
        return IdentityPath(expand(from_environment, env), "environment WWS_IDENTITY_PATH")
    if flag:
        return IdentityPath(expand(flag, env), "flag --identity-path")
    if configured:
        return IdentityPath(expand(configured, env), "config.toml [identity] path")
    if home.is_fallback:
        return IdentityPath(home.identity_key, "default (no home folder)")
    if name:
        return IdentityPath(home.named_key(name), "--name")
    return IdentityPath(home.identity_key, "default")


def load(path: Path, env: Mapping[str, str]) -> Identity:
    """The identity in the key file at `path`.

    `env` says where `$CREDENTIALS_DIRECTORY` is (systemd): files below it are given with group bits that mean
    nothing, so there only the "other" bits count. Raises `NoIdentity`, `KeyFileRefused`, `MachineError`.
    """
    descriptor = _open_checked(path, env)
    try:
        return Identity(os.read(descriptor, SEED_LENGTH))
    finally:
        os.close(descriptor)


def is_loose(path: Path, mode: int, env: Mapping[str, str]) -> bool:
    """Whether others than its owner can use the file at `path`, which has this mode.

    Below `$CREDENTIALS_DIRECTORY` (systemd) group bits mean nothing, so there only the "other" bits count.
    """
    folder = env.get("CREDENTIALS_DIRECTORY")
    is_given = bool(folder) and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(str(folder)))
    return bool(mode & (0o007 if is_given else 0o077))


def create(path: Path) -> Identity:
    """Make a new identity and its key file. Never replaces: raises `KeyExists`, `MachineError`.

    When this returns, the key is on the disk, folder entry included. Killed at any moment it leaves no key
    file or a whole one.
    """
    identity = Identity.generate()
    store(identity, path)
    return identity


def load_or_create(path: Path, env: Mapping[str, str]) -> tuple[Identity, bool]:
    """The identity at `path`, made when there is none yet, and whether it was made now.

    Of several processes that do this at once one makes the key and all return it.
    """
    try:
        return load(path, env), False
    except NoIdentity:
        pass
    try:
        return create(path), True
    except KeyExists:
        return load(path, env), False


def store(identity: Identity, path: Path) -> None:
    """Write the key file of `identity`; as `create`, for a key that exists already."""
    if os.path.lexists(path):
        raise _key_exists(path)
    sweep(path.parent)
    try:
        create_whole(path, identity.seed)
    except FileExistsError:
        raise _key_exists(path) from None


class KeyLock:
    """The right to run a node with a key; the kernel takes it back when the process dies, however it dies.

    Two locks are held: on the key file itself (the same file, whatever the environment says, also on a
    read-only disk), and on a file in the runtime folder called after the PeerId (a copy of the key
    elsewhere), which also says whose process holds it.
    """

    def __init__(self, path: Path, peer_id: PeerId, env: Mapping[str, str]) -> None:
        """Take the locks at once. Raises `IdentityInUse` when another process holds one."""
        self._descriptors: list[int] = []
        self._peer_id, self._env = peer_id, env
        try:
            self._take(path, os.O_RDONLY)
            try:
                beside = _lock_beside(peer_id, env)
            except MachineError:
                return  # no place for it: the lock on the key file remains
            descriptor = self._take(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            with suppress(OSError):  # a full disk: the number is for the message of who comes second
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"%d\n" % os.getpid())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the locks back. Doing it twice is harmless."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _take(self, path: Path, flags: int) -> int:
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise reading_failed(path, error) from error
        self._descriptors.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(self._peer_id, self._env) from None
        except OSError as error:
            # File systems without locks (some network mounts) say so in these words; the other lock remains.
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
                raise reading_failed(path, error) from error
        return descriptor


def _lock_beside(peer_id: PeerId, env: Mapping[str, str]) -> Path:
    return runtime_folder(env) / f"{peer_id}.lock"


def _in_use(peer_id: PeerId, env: Mapping[str, str]) -> IdentityInUse:
    pid = _holder(peer_id, env)
    who = "of another home or user" if pid is None else f"process {pid}"
    stop = "wws leave, in its home" if pid is None else f"wws leave, or kill {pid}"
    return IdentityInUse(
        f"Another node on this machine ({who}) runs with the key of {peer_id}.",
        hint=f"Stop it ({stop}), or run this node with a key of its own: --name NAME",
    )


def _holder(peer_id: PeerId, env: Mapping[str, str]) -> int | None:
    """The process that holds the lock beside, or `None`: what the file says counts while it is locked."""
    try:
        descriptor = os.open(_lock_beside(peer_id, env), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, MachineError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.read(descriptor, 20).strip()
        return int(said) if said.isdigit() else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _open_checked(path: Path, env: Mapping[str, str]) -> int:
    _check_links(path)
    try:
        # Not blocking, so that a FIFO in the key's place cannot hold the start up.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise NoIdentity(
            f"There is no key file at {path}.", hint="Make one with: wws id new (or join, which makes it)."
        ) from None
    except OSError as error:
        raise reading_failed(path, error) from error
    try:
        _check_opened(path, os.fstat(descriptor), env)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_opened(path: Path, found: os.stat_result, env: Mapping[str, str]) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise KeyFileSize(f"{path} is not a file.", hint="Move it away, or use --identity-path P.")
    if is_loose(path, found.st_mode, env):
        raise KeyFileLoose(
            f"Others can use the key file {path} (mode {stat.S_IMODE(found.st_mode):04o}).",
            hint=f"If nobody has read it: chmod 600 {path}. If someone may have, make a new key elsewhere.",
        )
    if found.st_size != SEED_LENGTH:
        raise KeyFileSize(
            f"The key file {path} has {found.st_size} bytes; a key has {SEED_LENGTH}.",
            hint=f"Restore it (from a backup, or wws id import). Moved away (mv {path} {path}.bad) it gives "
            "way to a new key, and that is another PeerId: a bootstrap host must be published anew then.",
        )


def _check_links(path: Path) -> None:
    """Refuse when a symlink on the way leads into a folder that anyone can write to."""
    step = path.absolute()
    for _ in range(MAX_LINKS):
        if not step.is_symlink():
            break
        step = Path(os.path.normpath(step.parent.resolve() / os.readlink(step)))
        _check_folder(path, step.parent)
    else:
        raise KeyFileSymlink(f"{path} leads through more than {MAX_LINKS} symlinks.")
    real = Path(os.path.realpath(path))
    if real != Path(os.path.normpath(path.absolute())):
        _check_folder(path, real.parent)


def _check_folder(path: Path, folder: Path) -> None:
    try:
        mode = folder.stat().st_mode
    except OSError:
        return  # a dangling link: opening it will say that there is no key
    if mode & stat.S_IWOTH:
        raise KeyFileSymlink(
            f"The key file {path} is a symlink into {folder}, where anyone can write.",
            hint=f"Put the key itself at {path}, mode 0600.",
        )


def _key_exists(path: Path) -> KeyExists:
    return KeyExists(
        f"There is a key file at {path} already; it is never replaced.",
        hint="Choose another place (--identity-path P), or move that key away yourself.",
    )
