"""An installation as install.sh makes it: where it lies, what it says of itself, and which version runs.

    <prefix>/bin/{wws,wws-connector,wws-bootstrap}  links to ../share/wws/current/bin/…
    <prefix>/share/wws/  versions/<v>/{bin,share,VERSION,MANIFEST,release/}   one folder a version
                         versions/<v>.new       a copy, current while <v> is replaced by itself
                         current, previous      links to versions/<v>
                         trust/                 what this machine has seen of keys and channels
                         installation           the receipt
                         lock                   held while something of this is changed

install.sh writes it, in POSIX sh; here it is read, and the link is switched back.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from agent_cli.verify_file import read_bounded
from wws.errors import LocalError, ParseError
from wws.release.errors import FilesDiffer
from wws.release.keys import PublicKey
from wws.release.release_keys import ReleaseKeys
from wws.release.version import Version
from wws.runtime.machine_errors import reading_failed, writing_failed
from wws.runtime.whole_files import write_whole

PROGRAMS: Final = ("wws", "wws-connector", "wws-bootstrap")
"""What `<prefix>/bin` has a link for."""
MAX_RECEIPT: Final = 64 * 1024
_HEAD: Final = "wws-installation 1"
_LINE: Final = re.compile(r"([a-z][a-z-]{0,31}) (.+)\Z")
_COPY: Final = ".new"
_LEVELS: Final = 8
"""How deep inside a version the program may lie."""


class NoPreviousVersion(LocalError):
    """There is no version to go back to."""

    code = "no_previous_version"
    exit_code = 4


class InstallationBusy(LocalError):
    """Something else changes this installation right now."""

    code = "installation_busy"
    exit_code = 7


@dataclass(frozen=True, slots=True)
class Receipt:
    """What install.sh wrote down of how it was called. Members that are not known are kept in `lines`."""

    lines: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The receipt in the bytes of the file. Raises `ParseError`."""
        try:
            head, *lines = data.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
        except UnicodeDecodeError:
            raise ParseError("the receipt of this installation is not text") from None
        found = [_LINE.match(line) for line in lines]
        if head != _HEAD or None in found:
            raise ParseError(f"the receipt of this installation is not of the form {_HEAD!r}")
        return cls(tuple((line[1], line[2]) for line in found if line is not None))

    def all(self, key: str) -> list[str]:
        """Every value of a key that may be repeated."""
        return [value for name, value in self.lines if name == key]

    def one(self, key: str) -> str | None:
        """The last value of a key."""
        values = self.all(key)
        return values[-1] if values else None

    def with_version(self, version: Version) -> Receipt:
        """The same with another version."""
        kept = [line for line in self.lines if line[0] != "version"]
        return Receipt((("version", str(version)), *kept))

    def encode(self) -> bytes:
        text = "".join(f"{key} {value}\n" for key, value in self.lines)
        return f"{_HEAD}\n{text}".encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Installation:
    """The folder `<prefix>/share/wws` and what is in it."""

    share: Path
    runs_from: Path | None = field(default=None, compare=False)
    """The folder of the version that this process runs from, if it does."""

    @property
    def prefix(self) -> Path:
        return self.share.parent.parent

    @property
    def receipt_file(self) -> Path:
        return self.share / "installation"

    @property
    def trust(self) -> Path:
        return self.share / "trust"

    def version_folder(self, link: str) -> Path | None:
        """The folder that `current` or `previous` leads to. Raises `FilesDiffer` when it leads elsewhere.

        The target of the link is read and not followed: only `versions/<v>` beside it counts.
        """
        place = self.share / link
        try:
            target = os.readlink(place)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FilesDiffer(f"{place} is not a link to a version: {error.strerror or error}.") from None
        folder, _, name = target.removesuffix("/").partition("/")
        try:
            if folder != "versions":
                raise ParseError("elsewhere")
            version_in(Path(name))
        except ParseError:
            raise FilesDiffer(
                f"{place} leads to {target[:200]!r}, which is no version of this installation."
            ) from None
        return self.share / "versions" / name

    def current(self) -> Path:
        """The folder of the version that is current. Raises `FilesDiffer` when there is none."""
        found = self.version_folder("current")
        if found is None:
            raise FilesDiffer(f"{self.share / 'current'} is missing: the installation is not whole.")
        return found

    def version_of_process(self, process: int) -> str | None:
        """Which version of this installation a process runs from; `None`: none, or nobody tells."""
        try:
            program = Path(os.readlink(f"/proc/{process}/exe"))
        except OSError:
            return None
        versions = Path(os.path.realpath(self.share / "versions"))
        if not program.is_relative_to(versions):
            return None
        return program.relative_to(versions).parts[0].removesuffix(_COPY)

    def receipt(self) -> Receipt:
        """What install.sh wrote down; empty when it is not there. Raises `ParseError`, `MachineError`."""
        if not os.path.lexists(self.receipt_file):
            return Receipt()
        return Receipt.parse(read_bounded(self.receipt_file, MAX_RECEIPT))

    def seen_keys(self, roots: Collection[PublicKey]) -> ReleaseKeys | None:
        """The newest list of release keys that this machine has seen under one of these roots.

        `None` when there is none, or it was under others: that says nothing here. Raises `ReleaseRefused`.
        """
        place, under = self.trust / "release-keys", self.trust / "roots"
        if not os.path.lexists(place):
            return None
        if os.path.lexists(under):
            known = read_text(under, MAX_RECEIPT).splitlines()
            if not any(str(root) in known for root in roots):
                return None
        return ReleaseKeys.parse(read_bounded(place, MAX_RECEIPT))

    def given_roots(self) -> list[PublicKey]:
        """The root keys that were given to install.sh in place of those of the build."""
        return [PublicKey.parse(text) for text in self.receipt().all("root")]

    def wrong_links(self) -> list[str]:
        """The programs in `<prefix>/bin` that are not those of the current version."""
        wrong = []
        for program in PROGRAMS:
            place = self.prefix / "bin" / program
            wanted = self.share / "current" / "bin" / program
            if os.path.realpath(place) != os.path.realpath(wanted):
                wrong.append(str(place))
        return wrong

    def switch_back(self) -> tuple[Version, Version]:
        """Make the previous version current and this one previous: the version before, and the one after.

        Each link is replaced by one rename, so whoever starts a program gets one version or the other. To be
        called with the lock held. Raises `NoPreviousVersion`, `MachineError`.
        """
        now, then = self.current(), self.previous()
        _point(self.share / "current", f"versions/{then.name}")
        _point(self.share / "previous", f"versions/{now.name}")
        if os.path.lexists(self.receipt_file):
            write_whole(self.receipt_file, self.receipt().with_version(version_in(then)).encode())
        return version_in(now), version_in(then)

    def previous(self) -> Path:
        """The folder of the version before this one. Raises `NoPreviousVersion`.

        Both links lead to one version when a switch was killed between them: then it is the other one there.
        """
        found = self.version_folder("previous")
        if found == self.current():
            others = [Path(entry.path) for entry in list_folder(found.parent)]
            others = [other for other in others if other.name.removesuffix(_COPY) != str(version_in(found))]
            found = others[0] if len(others) == 1 else None
        if found is None or not found.is_dir():
            raise NoPreviousVersion(
                f"There is no version before {version_in(self.current())} in {self.share}.",
                hint="An older one can be installed: wws self update --version VERSION",
            )
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold what install.sh holds while it works: a lock on `lock`, and the link for who has no flock.

        Raises `InstallationBusy`, `MachineError`.
        """
        place, link = self.share / "lock", self.share / "lock.held"
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise writing_failed(place, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _busy("another installation", self.share) from None
            _hold(link, self.share)
            try:
                yield
            finally:
                with suppress(OSError):
                    link.unlink()
        finally:
            os.close(descriptor)


def version_in(folder: Path) -> Version:
    """The version that a folder below `versions` holds, by its name. Raises `ReleaseMalformed`."""
    return Version.parse(folder.name.removesuffix(_COPY))


def find_installation(env: Mapping[str, str]) -> Installation | None:
    """The installation that this process runs from, or `None` when it was installed otherwise.

    Where it is the one in the user's home, it is called as install.sh calls it: the home may be a link, and
    the lines for PATH hold the name that was written there.
    """
    usual = Path(env.get("HOME") or "/", ".local", "share", "wws")
    place = Path(os.path.realpath(sys.executable))
    for folder in place.parents[:_LEVELS]:
        if folder.parent.name == "versions" and (folder / "MANIFEST").is_file():
            share = folder.parent.parent
            return Installation(usual if os.path.realpath(usual) == str(share) else share, folder)
    return None


def installation_at(prefix: str) -> Installation:
    """The installation below a prefix. Raises `LocalError` when there is none."""
    share = Path(prefix).absolute() / "share" / "wws"
    if not os.path.lexists(share / "current"):
        raise NotInstalled(f"Nothing is installed below {prefix}: there is no {share / 'current'}.")
    return Installation(share)


class NotInstalled(LocalError):
    """There is no installation where one was looked for."""

    code = "not_installed"
    exit_code = 4


def _point(link: Path, target: str) -> None:
    """Make `link` lead to `target` by one rename."""
    new = link.with_name(f"{link.name}.new")
    try:
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        os.rename(new, link)
    except OSError as error:
        raise writing_failed(link, error) from error


def _hold(link: Path, share: Path) -> None:
    """The lock of a machine without flock: a link to the number of the process that holds it."""
    for _ in range(3):
        try:
            link.symlink_to(str(os.getpid()))
        except FileExistsError:
            holder = _holder(link)
            if holder is not None and _is_alive(holder):
                raise _busy(f"process {holder}", share) from None
            with suppress(OSError):
                link.unlink()
        except OSError as error:
            raise writing_failed(link, error) from error
        else:
            return
    raise _busy("something", share)


def _holder(link: Path) -> int | None:
    try:
        text = os.readlink(link)
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _busy(who: str, share: Path) -> InstallationBusy:
    return InstallationBusy(f"{who.capitalize()} is at work in {share}.", hint="Wait for it, then try again.")


def read_text(path: Path, most: int) -> str:
    """A small text of an installation. Raises `FilesDiffer` when it is none, `MachineError`."""
    try:
        return read_bounded(path, most).decode("ascii")
    except UnicodeDecodeError:
        raise FilesDiffer(f"{path} is not text.") from None


def list_folder(path: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name. Raises `MachineError`."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise reading_failed(path, error) from error
