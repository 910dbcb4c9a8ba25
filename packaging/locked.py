"""Reads requirements/*.txt, as `make lock` writes them: what is locked, its hashes, and who needs it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

OURS = "wws"
"""How the project itself is called where it needs something."""

_PINNED = re.compile(r"([a-z0-9][a-z0-9._-]*)(\[[a-z0-9,_-]+\])?==([^\s;\\]+)(?: ; ([^\\]+?))?( \\)?")
_HASH = re.compile(r" +--hash=sha256:([0-9a-f]{64})( \\)?")
_VIA = re.compile(r" +#(?: via)? +(\S+)(?: \(\S+\))?")


class NotLocked(ValueError):
    """A file that `make lock` has not written, or that was changed since."""


@dataclass(frozen=True, slots=True)
class Locked:
    """One entry: a library at one version, where its marker holds."""

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]
    needed_by: tuple[str, ...]
    """Names of other entries, and `OURS`. Only requirements/dev.txt says so."""
    text: str
    """The lines of the file."""


def read(path: Path) -> list[Locked]:
    """The entries of a file in their order. Raises `NotLocked`, also for one without hashes."""
    entries: list[list[str]] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.startswith((" ", "#")):
            entries.append([line])
        elif line.startswith(" ") and entries:
            entries[-1].append(line)
        elif line.startswith(" "):
            raise NotLocked(f"{path.name}, line {number}: belongs to no entry")
    return [_entry(path.name, lines) for lines in entries]


def closure(entries: Sequence[Locked], wanted: Iterable[str]) -> list[Locked]:
    """Those entries that `wanted` and all that they need are, in the order of the file."""
    found, left = set[str](), set(wanted)
    while left:
        found |= left
        left = {entry.name for entry in entries if found.intersection(entry.needed_by)} - found
    if missing := found - {entry.name for entry in entries}:
        raise NotLocked(f"not locked: {', '.join(sorted(missing))}")
    return [entry for entry in entries if entry.name in found]


def _entry(file: str, lines: Sequence[str]) -> Locked:
    pinned = _PINNED.fullmatch(lines[0])
    if pinned is None:
        raise NotLocked(f"{file}: {lines[0]!r} is not pinned")
    hashes = [found[1] for line in lines[1:] if (found := _HASH.fullmatch(line))]
    if not hashes:
        raise NotLocked(f"{file}: {pinned[1]} has no hash")
    rest = [line for line in lines[1:] if line != "    # via" and _HASH.fullmatch(line) is None]
    needed_by = [found[1] for line in rest if (found := _VIA.fullmatch(line))]
    if len(needed_by) != len(rest):
        raise NotLocked(f"{file}: {pinned[1]} has lines that nobody knows")
    return Locked(pinned[1], pinned[3], pinned[4], tuple(hashes), tuple(needed_by), "\n".join(lines) + "\n")
