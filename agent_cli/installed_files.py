"""Verifies the files of an installed version: root key → release-keys → SHA256SUMS → MANIFEST → every file.

install.sh keeps in `versions/<v>/release/` what the version was verified with. Nothing is followed: a link, a
device or a folder that the MANIFEST does not know of is a difference like a changed byte.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_cli.installation import Installation, list_folder, read_text, version_in
from agent_cli.verify_file import MAX_FILE, read_bounded
from wws.release.chain import NOTHING_SEEN, Seen, Verified, verify_release
from wws.release.errors import FilesDiffer, OtherRelease
from wws.release.keys import PublicKey
from wws.release.signatures import Form, Purpose
from wws.release.sums import MAX_ENTRIES, MAX_MANIFEST
from wws.release.version import Version

PROOF: Final = "release"
"""The folder of a version that holds what it was verified with."""
PROOFS: Final = frozenset(
    f"{purpose.file}{form}" for purpose in (Purpose.SUMS, Purpose.KEYS) for form in ("", *Form)
)
MAX_SHOWN: Final = 20
"""Files that are named of those that differ in one way."""
MAX_INSTALLED: Final = 1024 * 1024 * 1024
"""Bytes of one file."""


@dataclass(frozen=True, slots=True)
class VerifiedVersion:
    """A version whose every file is the one that was signed."""

    folder: Path
    version: Version
    platform: str
    files: int
    release: Verified

    def to_json(self) -> dict[str, object]:
        return {
            "version": str(self.version),
            "platform": self.platform,
            "folder": str(self.folder),
            "files": self.files,
            "root": str(self.release.root),
            "signer": str(self.release.signer),
            "serial": self.release.release_keys.serial,
            "keys_expire_at": self.release.release_keys.expires_at,
        }


@dataclass(slots=True)
class Differences:
    """How the files of a version differ from its MANIFEST."""

    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    not_files: list[str] = field(default_factory=list)
    """Links, devices and the like."""
    loose: list[str] = field(default_factory=list)
    """What everybody on this machine can write to."""

    def raise_if_any(self, folder: Path) -> None:
        """Raises `FilesDiffer` with what differs."""
        found = {name: sorted(getattr(self, name)) for name in self.__slots__ if getattr(self, name)}
        if not found:
            return
        words = "; ".join(
            f"{_WORDS[name]}: {', '.join(paths[:3])}{_more(len(paths) - 3)}" for name, paths in found.items()
        )
        version = version_in(folder) if folder.parent.name == "versions" else "VERSION"
        error = FilesDiffer(
            f"The files in {folder} are not those of the release ({words}).",
            hint=f"Install it anew: wws self update --version {version}. If nobody has touched these files "
            "on purpose, find out who could.",
        )
        error.details = {name: paths[:MAX_SHOWN] for name, paths in found.items()}
        raise error


_WORDS: Final = {
    "changed": "changed",
    "missing": "missing",
    "extra": "not of the release",
    "not_files": "no plain files",
    "loose": "everybody can write",
}


def verify_version(
    folder: Path,
    roots: Collection[PublicKey],
    unix_now: float | None,
    *,
    seen: Seen = NOTHING_SEEN,
    version: Version | None = None,
) -> VerifiedVersion:
    """Verify one version whole. Raises `ReleaseRefused`, `MachineError`.

    `unix_now` is given for what is to be installed, where a lapsed list of keys is refused; a version that
    was installed in time stays good.
    """
    for name in ("VERSION", "MANIFEST"):
        if os.path.lexists(folder / name) and not stat.S_ISREG((folder / name).lstat().st_mode):
            raise FilesDiffer(f"{folder / name} is not a file.")  # to read a pipe would wait for ever
    said = Version.parse(read_text(folder / "VERSION", 64).removesuffix("\n"))
    if version is not None and said != version:
        raise OtherRelease(f"{folder} was to hold {version}, and holds {said}.")
    release = verify_release(read_proofs(folder), roots, unix_now, version=said, seen=seen)
    platform, hashes = release.manifest(read_bounded(folder / "MANIFEST", MAX_MANIFEST), said)
    _compare(folder, hashes)
    return VerifiedVersion(folder, said, platform, len(hashes), release)


def read_proofs(folder: Path) -> dict[str, bytes]:
    """What a version was verified with. Raises `FilesDiffer` when something else is there, too."""
    found: dict[str, bytes] = {}
    if not (folder / PROOF).is_dir() or (folder / PROOF).is_symlink():
        raise FilesDiffer(f"{folder} has no folder {PROOF}, so nothing proves what its files should be.")
    for entry in list_folder(folder / PROOF):
        if entry.name not in PROOFS or not entry.is_file(follow_symlinks=False):
            raise FilesDiffer(f"{entry.path} does not belong there.")
        found[entry.name] = read_bounded(Path(entry.path), MAX_FILE)
    return found


def seen_of(installation: Installation, roots: Collection[PublicKey], *, is_new: bool) -> Seen:
    """What this machine knows of keys below these roots.

    An old list of keys is refused to what `is_new` only: that of an installed version was new once.
    """
    keys = installation.seen_keys(roots)
    if keys is None:
        return NOTHING_SEEN
    return Seen(serial=keys.serial if is_new else 0, revoked=frozenset(keys.revoked))


def _compare(folder: Path, hashes: dict[str, str]) -> None:
    found = Differences()
    missing = set(hashes)
    folders = [folder]
    looked_at = 0
    while folders:
        at = folders.pop()
        if at.lstat().st_mode & stat.S_IWOTH:
            found.loose.append(_name(at, folder))
        for entry in list_folder(at):
            looked_at += 1
            if looked_at > 2 * MAX_ENTRIES:
                raise FilesDiffer(f"{folder} holds more files than any release.")
            path, name = Path(entry.path), _name(Path(entry.path), folder)
            if entry.is_dir(follow_symlinks=False):
                if at != folder or entry.name != PROOF:
                    folders.append(path)
            elif not entry.is_file(follow_symlinks=False):
                missing.discard(name)
                found.not_files.append(name)
            elif name in hashes:
                missing.discard(name)
                digest, is_loose = _hash(path)
                if digest != hashes[name]:
                    found.changed.append(name)
                if is_loose:
                    found.loose.append(name)
            elif name != "MANIFEST":
                found.extra.append(name)
    found.missing.extend(missing)
    found.raise_if_any(folder)


def _hash(path: Path) -> tuple[str | None, bool]:
    """The hash of a file, `None` for what is none or too large to be one; and whether all can write to it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None, False
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        is_loose = bool(status.st_mode & stat.S_IWOTH)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_INSTALLED:
            return None, is_loose
        return hashlib.file_digest(file, "sha256").hexdigest(), is_loose


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
