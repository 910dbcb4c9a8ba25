"""`SHA256SUMS` and `MANIFEST`: files and their hashes, in the form of `sha256sum --check`.

    <64 hex digits>  <name>

`SHA256SUMS` names the files of a release, which lie in one folder: sorted, no folders. `MANIFEST` names those
of an installed version by their path. No name leads out of the folder or needs the quoting of sha256sum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from wws.release.errors import OtherRelease, ReleaseMalformed
from wws.release.lines import split_lines
from wws.release.version import Version

MAX_SUMS: Final = 64 * 1024
"""Bytes of `SHA256SUMS`."""
MAX_FILES: Final = 256
"""Files of a release."""
MAX_MANIFEST: Final = 1024 * 1024
"""Bytes of `MANIFEST`."""
MAX_ENTRIES: Final = 10_000
"""Files of an installed version."""
MAX_PATH: Final = 512
"""Characters of a path in `MANIFEST`."""

_LINE: Final = re.compile(r"([0-9a-f]{64})  ([^ *].*)\Z")
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\Z")
_PROGRAM: Final = "wws-"
_UNLISTED: Final = ("SHA256SUMS", "release-keys", "channel")
"""Signed by themselves. They would be named before they exist."""


def parse_sums(data: bytes) -> dict[str, str]:
    """The hash of each file of a release. Raises `ReleaseMalformed`."""
    lines = split_lines(data, "SHA256SUMS", most=MAX_SUMS)
    if len(lines) > MAX_FILES:
        raise ReleaseMalformed(f"SHA256SUMS names {len(lines)} files; at most {MAX_FILES} are read")
    pairs = [_pair(line, "SHA256SUMS") for line in lines]
    names = [name for name, _ in pairs]
    for name in names:
        if not _FILE.match(name) or name.split(".", 1)[0] in _UNLISTED:
            raise ReleaseMalformed(f"SHA256SUMS names {name[:60]!r}, which is no file of a release")
    if names != sorted(set(names)):
        raise ReleaseMalformed("SHA256SUMS is not sorted by name, or names a file twice")
    return dict(pairs)


def parse_manifest(data: bytes) -> dict[str, str]:
    """The hash of each file of an installed version, by its path. Raises `ReleaseMalformed`."""
    lines = split_lines(data, "MANIFEST", most=MAX_MANIFEST)
    if len(lines) > MAX_ENTRIES:
        raise ReleaseMalformed(f"MANIFEST names {len(lines)} files; at most {MAX_ENTRIES} are read")
    pairs = [_pair(line, "MANIFEST") for line in lines]
    for name, _ in pairs:
        if not _is_inner_path(name) or name == "MANIFEST":
            raise ReleaseMalformed(f"MANIFEST names {name[:60]!r}, which is no file of a version")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ReleaseMalformed("MANIFEST names a file twice")
    return found


def write_sums(hashes: Mapping[str, str]) -> bytes:
    """The bytes of `SHA256SUMS` for these files. Raises `ReleaseMalformed` for names that it cannot have."""
    data = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode("ascii", "replace")
    parse_sums(data)
    return data


def is_listed(name: str) -> bool:
    """Whether a file of this name in the folder of a release belongs into its `SHA256SUMS`."""
    return name.split(".", 1)[0] not in _UNLISTED


def require_version(sums: Mapping[str, str], version: Version) -> None:
    """That these are the files of this version: whoever serves another one is found out here.

    Every artefact has its version in its name. Raises `OtherRelease`.
    """
    # A version in a name is followed by `.tar.gz` or `-linux-…`; 1.2.30 and 1.2.3rc1 do not go on so.
    names = [name for name in sums if name.startswith(_PROGRAM)]
    others = [name for name in names if not re.match(rf"wws-{re.escape(str(version))}[.-]", name)]
    if others or not names:
        shown = others[0] if others else "no file of a version"
        raise OtherRelease(f"This was to be release {version}, and SHA256SUMS names {shown}.")


def _pair(line: str, what: str) -> tuple[str, str]:
    found = _LINE.match(line)
    if found is None:
        raise ReleaseMalformed(f"{what} has {line[:60]!r} where a hash, two spaces and a name belong")
    return found[2], found[1]


def _is_inner_path(name: str) -> bool:
    if len(name) > MAX_PATH or "\\" in name:
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))
