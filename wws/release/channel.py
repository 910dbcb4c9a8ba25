"""`channel`: which version is current, said by a release key, and for how long that holds.

    wws-channel 1
    channel stable
    version 1.2.3
    issued 20261122000000
    expires 20261222000000

A signed release alone is good for ever, so a mirror could go on serving last year's. The channel lapses, is
issued anew while nothing changes, and a machine refuses one issued before the one it saw last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from wws.release.errors import ReleaseMalformed
from wws.release.lines import MAX_STATEMENT, parse_time, split_lines, time_text, value_of
from wws.release.version import Version

_HEAD: Final = "wws-channel 1"
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")


@dataclass(frozen=True, slots=True)
class Channel:
    """A statement on the current version of a channel. Parsing says nothing of who signed it."""

    name: str
    version: Version
    issued_at: int
    """Unix seconds."""
    expires_at: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The statement in the bytes of the file. Raises `ReleaseMalformed`."""
        lines = split_lines(data, "channel", most=MAX_STATEMENT)
        if len(lines) != 5 or lines[0] != _HEAD:
            raise ReleaseMalformed(f"a channel has five lines and begins with {_HEAD!r}")
        name = parse_channel_name(value_of(lines[1], "channel", "channel"))
        version = Version.parse(value_of(lines[2], "version", "channel"))
        issued_at = parse_time(value_of(lines[3], "issued", "channel"), "channel")
        expires_at = parse_time(value_of(lines[4], "expires", "channel"), "channel")
        if expires_at <= issued_at:
            raise ReleaseMalformed("a channel cannot lapse before it is issued")
        return cls(name, version, issued_at, expires_at)

    def encode(self) -> bytes:
        """The bytes of the file."""
        return (
            f"{_HEAD}\nchannel {self.name}\nversion {self.version}\n"
            f"issued {time_text(self.issued_at)}\nexpires {time_text(self.expires_at)}\n"
        ).encode("ascii")


def parse_channel_name(text: str) -> str:
    """The name of a channel: a lower-case word. Raises `ReleaseMalformed`."""
    if not _NAME.match(text):
        raise ReleaseMalformed(f"{text[:40]!r} is not the name of a channel")
    return text
