"""`wws-ops logs`: what the nodes have logged, of one or of all, and what comes."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from agent_cli.commands.logs import last_lines
from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.machines import SERVICE, expanded, logged_in, node_paths, on_all, worst
from agent_cli.ops.sources import Hosts, Infra, InventoryFile, Stack, load_inventory
from agent_cli.options import Options
from agent_cli.quantities import parse_duration
from agent_cli.registration import command
from agent_cli.remote import OutputTooLarge, connected
from agent_cli.result import Problem, Result, WrongUsage, envelope, write_out
from agent_cli.text import printable
from wws.errors import WwsError

SCHEMA: Final = "wws-ops.logs/v1"
MOST_LINES: Final = 10_000
LONGEST_SINCE: Final = 365 * 86_400
_PATIENCE: Final = 10.0
"""Seconds that the readers of logs have to end once they were told to."""


def register(app: typer.Typer) -> None:
    command(
        app,
        logs,
        examples=("wws-ops logs one --stack prod", "wws-ops logs --since 2h --lines 1000", "wws-ops logs -f"),
    )


def logs(
    options: Options,
    host: Hosts = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="2h, 3d, or 2026-11-21T18:00 (UTC).")
    ] = None,
    lines: Annotated[
        int,
        typer.Option("--lines", "-n", min=0, max=MOST_LINES, help="How many lines from the end, of each."),
    ] = 100,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Print the end of the nodes' logs; with --follow what comes, of all of them as it comes."""
    from_unix = None if since is None else _moment(since, time.time())
    known = load_inventory(inventory, stack, infra)
    chosen = known.choose(host or [])
    if follow:
        return _follow(options, known, chosen, lines, from_unix)
    outcomes = on_all(chosen, lambda one: _read(one, known, lines, from_unix))
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    data = {
        "logs": [
            {"host": outcome.host.name, "lines": outcome.value}
            for outcome in outcomes
            if outcome.value is not None
        ]
    }
    several = len(chosen) > 1
    shown = [
        f"{outcome.host.name}: {line}" if several else line
        for outcome in outcomes
        for line in outcome.value or ()
    ]
    problems = tuple(Problem(error.code, str(error), error.hint) for error in errors)
    return Result(data, "\n".join(shown), errors=problems, exit_code=worst(errors))


def _moment(text: str, unix_now: float) -> float:
    """A Unix time. Raises `WrongUsage`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return unix_now - parse_duration(text, least=1, most=LONGEST_SINCE)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _read(host: HostEntry, inventory: Inventory, lines: int, since: float | None) -> list[str]:
    if host.is_local:
        found = last_lines(node_paths(host).log, lines)
        return [line for line in found if since is None or _is_since(line, since)]
    with logged_in(host, inventory) as machine:
        try:
            ran = machine.run(_journal(lines, since), as_root=True)
        except OutputTooLarge as error:
            raise WrongUsage(f"{error}", hint="Ask for less: --lines, --since.") from None
    if ran.exit_code != 0:
        raise WrongUsage(f"{host.name}: {(ran.errors or ran.output).strip()[-300:]}")
    return ran.output.splitlines()


def _journal(lines: int, since: float | None, *, follow: bool = False) -> list[str]:
    words = ["journalctl", f"--unit={SERVICE}", "--no-pager", "--quiet", "--output=cat", f"--lines={lines}"]
    if since is not None:
        words.append(f"--since=@{since:.0f}")
    return [*words, "--follow"] if follow else words


def _is_since(line: str, since: float) -> bool:
    """By the time at its beginning; lines without one belong to some line before, and stay."""
    try:
        return datetime.fromisoformat(line.split(" ", 1)[0]).timestamp() >= since
    except ValueError:
        return True


@dataclass(slots=True)
class _Followers:
    """Those who read one log each, and what ends them all."""

    options: Options
    several: bool
    printing: threading.Lock = field(default_factory=threading.Lock)
    ends: list[Callable[[], None]] = field(default_factory=list)
    errors: list[WwsError] = field(default_factory=list)
    broken: OSError | None = None
    """Our own output takes nothing more."""

    def follow(self, host: HostEntry, inventory: Inventory, lines: int, since: float | None) -> None:
        """Until the log ends or the end is called. Raises nothing."""
        try:
            if host.is_local:
                self._follow_here(host, lines, since)
                return
            with connected(host, key_file=expanded(inventory.ssh_key_file)) as remote:
                self.ends.append(remote.close)
                journal = _journal(lines, since, follow=True)
                remote.follow(journal, lambda line: self._print(host, line), as_root=True)
        except WwsError as error:
            self.errors.append(error)

    def _follow_here(self, host: HostEntry, lines: int, since: float | None) -> None:
        tail = ["tail", f"--lines={lines}", "--follow=name", "--retry", str(node_paths(host).log)]
        with subprocess.Popen(
            tail, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            self.ends.append(process.terminate)
            assert process.stdout is not None
            for raw in process.stdout:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                if since is None or _is_since(line, since):
                    self._print(host, line)

    def _print(self, host: HostEntry, line: str) -> None:
        with self.printing:
            try:
                if self.options.json:
                    write_out(envelope(SCHEMA, Result({"host": host.name, "line": line})))
                else:
                    write_out(printable(f"{host.name}: {line}" if self.several else line))
            except OSError as error:
                self.broken = error

    def end(self) -> None:
        for end in self.ends:
            end()


def _follow(
    options: Options, inventory: Inventory, hosts: tuple[HostEntry, ...], lines: int, since: float | None
) -> Result:
    """Follow all logs until interrupted, or until nobody has anything to say any more."""
    followers = _Followers(options, several=len(hosts) > 1)
    threads = [
        threading.Thread(target=followers.follow, args=(host, inventory, lines, since), daemon=True)
        for host in hosts
    ]
    for thread in threads:
        thread.start()
    try:
        while followers.broken is None and any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
    finally:
        followers.end()
        for thread in threads:
            thread.join(_PATIENCE)
    if followers.broken is not None:
        raise followers.broken
    errors = followers.errors
    problems = tuple(Problem(error.code, str(error), error.hint) for error in errors)
    return Result({"logs": []}, errors=problems, exit_code=worst(errors))
