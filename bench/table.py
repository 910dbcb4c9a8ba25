"""Plain tables: figures in columns, what was measured in rows."""

from __future__ import annotations

from collections.abc import Sequence


def render(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text, the first column to the left, the others to the right."""
    cells = [list(heads), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        first, *rest = row
        numbers = (text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))
        return "  ".join((first.ljust(widths[0]), *numbers)).rstrip()

    rule = "-" * len(line(["x" * width for width in widths]))
    return "\n".join((title, rule, line(cells[0]), rule, *map(line, cells[1:]), ""))


def number(value: float, digits: int = 1) -> str:
    return f"{value:,.{digits}f}"
