"""Writes `release.json`: which artefacts a release has, and for which machines they are.

    python packaging/release_json.py --files DIR --version 1.2.3 --out DIR/release.json
                                 [--stamp stamp.json | --commit HASH] [--published-at 2026-01-02T03:04:05Z]

It is one line of ASCII JSON, signed as all files are by their sum in SHA256SUMS::

    {"schema": 1, "version": "1.2.3", "commit": "…"|null, "published_at": "2026-01-02T03:04:05Z",
     "artefacts": [{"file", "os": "linux"|"macos", "arch": "x86_64"|"aarch64", "libc": "glibc"|null,
                    "libc_min": "2.31"|null, "size", "sha256"}, …]}

`artefacts` are the self-contained archives, sorted by name. The oldest C library is read from the programs in
them, not claimed. The time is the one given, else `SOURCE_DATE_EPOCH`, else now. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from frozen.elf import floor
from release import sha256

SCHEMA = 1
ARTEFACT = re.compile(r"wws-(?P<version>[0-9].*)-(?P<os>linux|macos)-(?P<arch>x86_64|aarch64)\.tar\.gz")
TIME = "%Y-%m-%dT%H:%M:%SZ"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


class DescriptionFailed(Exception):
    """`release.json` was not written. The text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Describe a folder of files; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="release_json.py", description="Describe a release.")
    parser.add_argument("--files", type=Path, required=True, help="the flat folder of the release")
    parser.add_argument("--version", required=True)
    parser.add_argument("--out", type=Path, required=True)
    of = parser.add_mutually_exclusive_group()
    of.add_argument("--stamp", type=Path, help="has the commit")
    of.add_argument("--commit")
    parser.add_argument("--published-at", help="UTC, as 2026-01-02T03:04:05Z")
    options = parser.parse_args(arguments)
    try:
        commit = options.commit if options.stamp is None else _commit_of(options.stamp, options.version)
        text = describe(options.files, options.version, commit, _time(options.published_at))
        unfinished = options.out.with_name(f".{options.out.name}.{os.getpid()}")
        unfinished.write_text(text, "ascii")
        unfinished.replace(options.out)
    except (DescriptionFailed, OSError, tarfile.TarError) as error:
        sys.stderr.write(f"release_json.py: {error}\n")
        return 1
    sys.stdout.write(f"{options.out}\n")
    return 0


def describe(files: Path, version: str, commit: str | None, published_at: datetime) -> str:
    """The text of the file. Raises `DescriptionFailed` when there is nothing of this version to describe."""
    if commit is not None and _COMMIT.fullmatch(commit) is None:
        raise DescriptionFailed(f"{commit!r} is no commit")
    found = [
        (path, parts)
        for path in sorted(files.iterdir())
        if (parts := ARTEFACT.fullmatch(path.name)) and parts["version"] == version
    ]
    if not found:
        raise DescriptionFailed(f"{files} has no artefact of version {version}")
    members = {
        "schema": SCHEMA,
        "version": version,
        "commit": commit,
        "published_at": published_at.strftime(TIME),
        "artefacts": [_artefact(path, parts["os"], parts["arch"]) for path, parts in found],
    }
    return json.dumps(members, ensure_ascii=True, separators=(",", ":")) + "\n"


def _artefact(path: Path, system: str, arch: str) -> dict[str, object]:
    oldest = _oldest_libc(path) if system == "linux" else None
    return {
        "file": path.name,
        "os": system,
        "arch": arch,
        "libc": None if oldest is None else "glibc",
        "libc_min": oldest,
        "size": path.stat().st_size,
        "sha256": sha256(path),
    }


def _oldest_libc(archive: Path) -> str | None:
    with tempfile.TemporaryDirectory(prefix="wws-artefact-") as temporary:
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data")
        found = floor(Path(temporary))
    return None if found is None else str(found.version)


def _commit_of(stamp: Path, version: str) -> str | None:
    try:
        members = json.loads(stamp.read_bytes())
    except ValueError:
        members = None
    if not isinstance(members, dict) or members.get("version") != version:
        raise DescriptionFailed(f"{stamp} is not the stamp of version {version}")
    commit: str | None = members.get("commit")
    return commit


def _time(given: str | None) -> datetime:
    if given is None:
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        return datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
    try:
        return datetime.strptime(given, TIME).replace(tzinfo=UTC)
    except ValueError:
        raise DescriptionFailed(f"{given!r} is no time like 2026-01-02T03:04:05Z") from None


if __name__ == "__main__":
    raise SystemExit(main())
