"""The file of `[deny] file`: for lists that are too long, or change too often, for `config.toml`.

One entry a line, of any of the three kinds; what follows a `#` is a comment.

    12D3KooWCtH2xtqwSyXg1krYouHFyZdWR3e6su1Wc2Z1MHc5RK9A   # a peer
    203.0.113.0/24                                          # a network, or one address
    wws:casino                                              # a name; wws:casino@lab in another swarm
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wws.config.errors import ConfigBadValue, ConfigUnreadable
from wws.config.kinds import denied_name, denied_peer, denied_prefix

MAX_FILE = 4 * 1024 * 1024
"""Largest file that is read, in bytes."""
MAX_ENTRIES = 65_536
"""Most entries in it."""


@dataclass(frozen=True, slots=True)
class DenyEntries:
    """What the file lists, each entry in its one spelling."""

    peers: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def read_deny_file(path: Path) -> DenyEntries:
    """Read it. Raises `ConfigUnreadable`, and `ConfigBadValue` with file and line."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigUnreadable(f"Cannot read the deny list {path}: {error.strerror or error}.") from error
    if len(data) > MAX_FILE:
        raise ConfigUnreadable(f"{path} is larger than {MAX_FILE} bytes.")
    try:
        return parse_deny_file(data.decode("utf-8"), str(path))
    except UnicodeDecodeError:
        raise ConfigUnreadable(f"{path} is not UTF-8 text.") from None


def parse_deny_file(text: str, name: str) -> DenyEntries:
    """Parse it; `name` stands in messages. Raises `ConfigBadValue`."""
    found: dict[str, dict[str, None]] = {"peers": {}, "prefixes": {}, "names": {}}
    count = 0
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        count += 1
        if count > MAX_ENTRIES:
            raise ConfigBadValue(f"{name}:{number}: more than {MAX_ENTRIES} entries.")
        kind, parse = _kind_of(entry)
        try:
            found[kind][parse(entry)] = None
        except ValueError as error:
            raise ConfigBadValue(
                f"{name}:{number}: {error}.",
                hint="An entry is a PeerId, a network such as 203.0.113.0/24, or wws:NAME.",
            ) from None
    return DenyEntries(*(tuple(entries) for entries in found.values()))


def _kind_of(entry: str) -> tuple[str, Callable[[str], str]]:
    if entry.startswith("wws:"):
        return "names", denied_name
    if entry.startswith(("12D3Koo", "bafz")):
        return "peers", denied_peer
    return "prefixes", denied_prefix
