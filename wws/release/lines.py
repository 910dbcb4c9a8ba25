"""The lines of a signed statement: ASCII, each ended by one line feed, words parted by one space.

What awk on one machine and Python on another could read differently is refused: carriage returns, tabs, other
control characters, a last line without its end, numbers with leading zeros.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from wws.release.errors import ReleaseMalformed

MAX_STATEMENT: Final = 16 * 1024
"""Bytes of `release-keys` and of `channel`."""

_LINES: Final = re.compile(rb"(?:[ -~]+\n)+\Z")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}\Z")
_TIME: Final = re.compile(r"[0-9]{14}\Z")
_TIME_FORMAT: Final = "%Y%m%d%H%M%S"


def split_lines(data: bytes, what: str, *, most: int) -> list[str]:
    """The lines of a file of at most `most` bytes, at least one. Raises `ReleaseMalformed`."""
    if len(data) > most:
        raise ReleaseMalformed(f"{what} has {len(data)} bytes; at most {most} are read")
    if not _LINES.match(data):
        raise ReleaseMalformed(f"{what} is not lines of printable ASCII, each ended by a line feed")
    return data.decode("ascii").split("\n")[:-1]


def value_of(line: str, word: str, what: str) -> str:
    """What stands behind `word` and one space on this line. Raises `ReleaseMalformed`."""
    found, space, value = line.partition(" ")
    if found != word or not space:
        raise ReleaseMalformed(f"{what} has {line[:60]!r} where its {word} belongs")
    return value


def parse_number(text: str, what: str) -> int:
    """A number from 1 to 999999999, which every shell can compare. Raises `ReleaseMalformed`."""
    if not _NUMBER.match(text):
        raise ReleaseMalformed(f"{what} has {text[:40]!r} where a number belongs")
    return int(text)


def parse_time(text: str, what: str) -> int:
    """The Unix seconds of a time in UTC, YYYYMMDDHHMMSS. Raises `ReleaseMalformed`."""
    if not _TIME.match(text):
        raise ReleaseMalformed(f"{what} has {text[:40]!r} where a time YYYYMMDDHHMMSS belongs")
    try:
        moment = datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise ReleaseMalformed(f"{what} has a time that does not exist: {text}") from None
    return int(moment.timestamp())


def time_text(unix: float) -> str:
    """This time as statements have it. As numbers these order as the times do."""
    return f"{datetime.fromtimestamp(int(unix), UTC):%Y%m%d%H%M%S}".rjust(14, "0")
