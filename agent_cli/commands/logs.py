"""`wws logs`: what the local node has logged. Works without a running node."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from agent_cli.compose import asked_node, node_of
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, envelope, write_out
from agent_cli.text import printable
from wws.client import NodeNotRunning
from wws.errors import LocalError
from wws.rpc.codes import Exit

POLL = 0.2
"""Seconds between two looks at the log while following it."""
BLOCK = 64 * 1024
"""Bytes read at a time, from the end backwards."""
MAX_BYTES = 16 * 1024 * 1024
"""Most bytes of log that are read for the last lines."""


class NoLog(LocalError):
    """The node has not logged anything yet."""

    code = "no_log"
    exit_code = Exit.NOT_FOUND


def register(app: typer.Typer) -> None:
    command(app, logs, examples=("wws logs", "wws logs --follow", "wws logs -n 1000 --node alice"))


def logs(
    options: Options,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=100_000, help="How many lines from the end.")
    ] = 100,
) -> Result:
    """Print the end of the local node's log, and with --follow what comes."""
    node = node_of(options)
    if node is None:
        raise NodeNotRunning("No node has run here.")
    if not node.log.is_file():
        if asked_node(options) is not None and not node.state.is_dir():
            raise NodeNotRunning(f"There is no node called {node.name!r} here.")
        raise NoLog(f"The node {node.name!r} has no log yet ({node.log}).", hint="Start it: wws join")
    if not follow:
        found = last_lines(node.log, lines)
        return Result({"path": str(node.log), "lines": found}, "\n".join(found))
    schema = "wws.logs/v1"
    # What comes begins exactly where the last lines end, whatever is written in between.
    file = open(node.log, "rb")  # noqa: SIM115 - `_following` closes it
    file.seek(_end_of_last_line(file))
    for line in last_lines(node.log, lines, end=file.tell()):
        _print(line, options, schema)
    for line in _following(file, node.log):
        _print(line, options, schema)
    return Result(is_printed=True)


def last_lines(log: Path, count: int, *, end: int | None = None) -> list[str]:
    """The last lines, reaching back into the rotated files (`log.1` is the newest of them).

    Of `log` itself only what lies before `end`, where that is given.
    """
    lines = _tail(log, count, end)
    for path in sorted(log.parent.glob(f"{log.name}.*"), key=_age):
        if len(lines) >= count:
            break
        lines = _tail(path, count - len(lines), None) + lines
    return [line.decode(errors="replace") for line in lines]


def _age(path: Path) -> int:
    number = path.suffix.removeprefix(".")
    return int(number) if number.isdecimal() else 1_000_000


def _tail(path: Path, count: int, end: int | None) -> list[bytes]:
    if count <= 0:
        return []
    data = b""
    try:
        with open(path, "rb") as file:
            position = file.seek(0, os.SEEK_END) if end is None else end
            while position > 0 and data.count(b"\n") <= count and len(data) < MAX_BYTES:
                step = min(BLOCK, position)
                position -= step
                file.seek(position)
                data = file.read(step) + data
    except OSError:
        return []
    return data.splitlines()[-count:]


def _end_of_last_line(file: BinaryIO) -> int:
    end = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, end - BLOCK))
    return start + file.read(end - start).rfind(b"\n") + 1


def _following(file: BinaryIO, log: Path) -> Iterator[str]:
    """Each new line as it comes; goes on in the new file when the log is rotated."""
    try:
        rest = b""
        while True:
            was_replaced = _was_replaced(file, log)  # asked first: what came before the rotation is read
            data = file.read(BLOCK)
            if data:
                *complete, rest = (rest + data).split(b"\n")
                for line in complete:
                    yield line.decode(errors="replace")
            elif was_replaced:
                file.close()
                file = open(log, "rb")  # noqa: SIM115
            else:
                time.sleep(POLL)
    finally:
        file.close()


def _was_replaced(file: BinaryIO, log: Path) -> bool:
    try:
        return not os.path.samestat(os.fstat(file.fileno()), log.stat())
    except OSError:
        return False


def _print(line: str, options: Options, schema: str) -> None:
    write_out(envelope(schema, Result({"line": line})) if options.json else printable(line))
