"""Verifies a release that lies in a folder, as it was published or downloaded, down to every file in it.

    release-keys, SHA256SUMS, channel with their signatures   the chain (wws.release.chain)
    every other file                                          its hash in SHA256SUMS; others are refused
    wws-<v>-<platform>.tar.gz                                 every file in it, by its MANIFEST

A folder has no other folders in it, and no links.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from agent_cli.installation import list_folder
from agent_cli.verify_file import MAX_FILE, read_bounded
from wws.release.chain import NOTHING_SEEN, Seen, Verified, verify_channel, verify_release
from wws.release.channel import Channel
from wws.release.errors import FilesDiffer, OtherRelease
from wws.release.keys import PublicKey
from wws.release.signatures import Form, Purpose
from wws.release.sums import MAX_ENTRIES, MAX_MANIFEST, is_listed
from wws.release.version import Version
from wws.runtime.machine_errors import reading_failed

MAX_UNPACKED: Final = 1024 * 1024 * 1024
"""Bytes of all files of an archive."""
MANIFEST: Final = ".MANIFEST"
ARCHIVE: Final = ".tar.gz"


@dataclass(frozen=True, slots=True)
class VerifiedFolder:
    """A release that holds."""

    version: Version | None
    release: Verified
    channel: Channel | None
    files: tuple[str, ...]
    """The files that are there and are those that were signed."""
    archives: tuple[str, ...]
    """Those among them that were read to their end."""

    @property
    def missing(self) -> list[str]:
        """What was signed and is not there."""
        return sorted(self.release.sums.keys() - set(self.files))

    def to_json(self) -> dict[str, object]:
        return {
            "version": None if self.version is None else str(self.version),
            "root": str(self.release.root),
            "signer": str(self.release.signer),
            "forms": list(self.release.forms),
            "serial": self.release.release_keys.serial,
            "channel": None if self.channel is None else self.channel.name,
            "files": list(self.files),
            "missing": self.missing,
            "archives": list(self.archives),
        }


def verify_folder(
    folder: Path,
    roots: Collection[PublicKey],
    unix_now: float,
    *,
    version: Version | None = None,
    complete: bool = False,
    seen: Seen = NOTHING_SEEN,
) -> VerifiedFolder:
    """Verify the release in a folder; with `complete` nothing that was signed may be missing.

    `seen` has the keys that are known here to be revoked.

    Raises `ReleaseRefused`, `MachineError`.
    """
    names = file_names(folder)
    small = read_signed(folder)
    release = verify_release(small, roots, unix_now, version=version, seen=seen)
    channel = _channel(small, release, unix_now, version, seen)
    for name in names:
        release.require(name, sha256(folder / name))
    archives = tuple(name for name in names if name.removesuffix(ARCHIVE) + MANIFEST in release.sums)
    for name in archives:
        _verify_archive(folder / name, release)
    found = VerifiedFolder(version, release, channel, tuple(names), archives)
    if complete and found.missing:
        raise FilesDiffer(f"{folder} lacks {', '.join(found.missing[:5])}.")
    if not names:
        raise FilesDiffer(f"{folder} holds no file of a release.")
    return found


def file_names(folder: Path) -> list[str]:
    """The files that belong into `SHA256SUMS`. Raises `FilesDiffer` for what is no file, `MachineError`."""
    names = []
    for entry in list_folder(folder):
        if not entry.is_file(follow_symlinks=False):
            raise FilesDiffer(f"{entry.path} is not a file, and a release has nothing else.")
        if is_listed(entry.name):
            names.append(entry.name)
    return names


def read_signed(folder: Path) -> dict[str, bytes]:
    """The statements of a folder and their signatures, those that are there."""
    names = {f"{purpose.file}{form}" for purpose in Purpose for form in ("", *Form)}
    return {
        entry.name: read_bounded(Path(entry.path), MAX_FILE)
        for entry in list_folder(folder)
        if entry.name in names
    }


def sha256(path: Path) -> str:
    """The hash of a file, in lower-case hex. Raises `MachineError`."""
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise reading_failed(path, error) from error


def _channel(
    files: dict[str, bytes], release: Verified, unix_now: float, version: Version | None, seen: Seen
) -> Channel | None:
    """The channel in the folder, whatever its name is; it leads to this release, if one was named."""
    data = files.get(Purpose.CHANNEL.file)
    if data is None:
        return None
    name = Channel.parse(data).name  # believed once it is verified, on the next line
    found = verify_channel(files, release.release_keys, unix_now, name=name, seen=seen)
    if version is not None and found.version != version:
        raise OtherRelease(f"The channel {name} leads to {found.version}, and this is {version}.")
    return found


def _verify_archive(path: Path, release: Verified) -> None:
    """Read an archive whose hash is right: it holds what its signed MANIFEST says, and nothing else."""
    version = Version.parse(path.name.split("-")[1])
    found, manifest = _read_archive(path, f"wws-{version}/")
    _, wanted = release.manifest(manifest, version)
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if differing:
        raise FilesDiffer(f"{path.name} and its MANIFEST differ in {', '.join(differing[:5])}.")


def _read_archive(path: Path, top: str) -> tuple[dict[str, str], bytes]:
    """The hash of each file of an archive, by its path below `top`, and its MANIFEST."""
    found: dict[str, str] = {}
    manifest, total = b"", 0
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for entry in archive:
                name, total = entry.name.removeprefix(top), total + entry.size
                if total > MAX_UNPACKED or len(found) > MAX_ENTRIES:
                    raise FilesDiffer(f"{path.name} unpacks to more than any release.")
                if entry.isdir() and f"{entry.name}/".startswith(top):
                    continue
                content = archive.extractfile(entry) if entry.isfile() else None
                if content is None or name == entry.name or name in found:
                    raise FilesDiffer(
                        f"{path.name} holds {entry.name[:200]!r}, which is no file of a version."
                    )
                if name == "MANIFEST":
                    manifest = content.read(MAX_MANIFEST + 1)
                else:
                    found[name] = _hash(content)
            while rest := unpacked.read(1024 * 1024):  # to the end, where gzip has its own checksum
                total += len(rest)
                if total > MAX_UNPACKED:
                    raise FilesDiffer(f"{path.name} unpacks to more than any release.")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise FilesDiffer(f"{path.name} cannot be unpacked: {error}") from None
    return found, manifest


def _hash(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(1024 * 1024):
        digest.update(chunk)
    return digest.hexdigest()
