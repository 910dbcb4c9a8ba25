"""How things are said to people: tables, times, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

LONGEST_CELL = 1_000
"""Characters of a cell of a table that are shown."""
_MOST = 10**18
"""Beyond it nothing is a duration or a size, whatever somebody says; infinity is not, either."""


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """Labels and values in two columns; rows whose value is None or empty are left out.

    The further lines of a value stand below its first.
    """
    shown = [(label, str(value)) for label, value in rows if value is not None and value != ""]
    width = max((len(label) for label, _ in shown), default=0)
    below = "\n" + " " * (width + 2)
    return "\n".join(f"{label:<{width}}  " + value.replace("\n", below) for label, value in shown)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be; None is a dash. Nobody makes two rows of one."""
    lines = [list(head), *(["-" if cell is None else one_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def tried(way: Mapping[str, object]) -> str:
    """One way into the network that was tried, and what came of it."""
    return f"{way.get('source')} {way.get('target')}: {way.get('error')}"


def when(unix: object) -> str:
    """A Unix time as the clock on the wall says it."""
    if not isinstance(unix, (int, float)):
        return "-"
    try:
        return datetime.fromtimestamp(unix).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return str(unix)


def duration(seconds: object) -> str:
    """`42 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    if not isinstance(seconds, (int, float)) or not abs(seconds) < _MOST:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def size(count: object) -> str:
    """Bytes as `512 B`, `1.5 MB`."""
    if not isinstance(count, (int, float)) or not abs(count) < _MOST:
        return "-"
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def milliseconds(value: object) -> str:
    return f"{value:.1f} ms" if isinstance(value, (int, float)) else "-"


def swarm_size(value: object) -> str | None:
    """`4 nodes`, or `about 120 nodes (90 to 160)` where it is an estimate."""
    if not isinstance(value, dict) or not isinstance(value.get("estimate"), int):
        return None
    estimate, low, high = value["estimate"], value.get("low"), value.get("high")
    plural = "node" if estimate == 1 else "nodes"
    return f"{estimate} {plural}" if low == high else f"about {estimate} {plural} ({low} to {high})"


def one_line(text: str, longest: int = LONGEST_CELL) -> str:
    """The text in one line, cut where it is too long: what others say must not look like something else."""
    if not text.isprintable():
        text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def printable(text: str) -> str:
    """The text without what could steer a terminal: peers choose some of what we print."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )
