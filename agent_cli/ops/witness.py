"""`wws-ops witness list|log|conflicts`: what a witness holds, what it has promised, and whether it lied.

All three read the file of the witness while it runs, and change nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Annotated

import typer

from agent_cli import text
from agent_cli.compose import home_of, node_of
from agent_cli.ops.receipt_files import conflicts_among, read_receipts
from agent_cli.options import Options
from agent_cli.registration import command, group, make_app
from agent_cli.result import Problem, Result, WrongUsage
from wws.codec.canonical import JsonObject, JsonValue
from wws.names.uri import PUBLIC_SWARM, parse_name
from wws.names.witness.entry import Entry
from wws.names.witness.log import LogEntry, conflicts
from wws.rpc.codes import Exit
from wws.runtime.machine_errors import CannotRead
from wws.runtime.witness.reading import claims_from, open_for_reading, witness_of
from wws.runtime.witness.rows import count_log, read_entries, read_log

_Database = Annotated[
    str | None, typer.Option("--db", metavar="FILE", help="The file of a witness, instead of that of a node.")
]
_Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of this name only: NAME or NAME@SWARM.")]


def register(app: typer.Typer) -> None:
    witness_app = make_app()
    group(witness_app, witness, examples=("wws-ops witness list",))
    command(
        witness_app,
        list_entries,
        name="list",
        examples=("wws-ops witness list", "wws-ops witness list --db witness.sqlite --json"),
    )
    command(
        witness_app,
        show_log,
        name="log",
        examples=("wws-ops witness log", "wws-ops witness log alice --json"),
    )
    command(
        witness_app,
        find_conflicts,
        name="conflicts",
        examples=("wws-ops witness conflicts", "wws-ops witness conflicts one.json other.json"),
    )
    app.add_typer(witness_app, name="witness")


def witness(options: Options, context: typer.Context) -> None:
    """Look at what a witness of names has promised."""
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws-ops witness --help")


def list_entries(
    options: Options,
    most: Annotated[int, typer.Option("--most", min=1, help="Names to list, at most.")] = 1000,
    db: _Database = None,
) -> Result:
    """List the names that the witness holds, and for whom."""
    unix_now = int(time.time())
    with _opened(options, db) as (path, database):
        peer_id = witness_of(database)
        entries = list(read_entries(database))
        until = claims_from(database)
    rows = [
        (
            _called(entry.swarm, entry.name),
            _state(entry, unix_now),
            text.when(entry.registered_at),
            text.when(entry.expires_at),
            entry.owner,
        )
        for entry in entries[:most]
    ]
    data = {
        "witness": peer_id,
        "file": str(path),
        "count": len(entries),
        "no_first_claims_until": until if until > unix_now else None,
        "entries": [_entry_json(entry, unix_now) for entry in entries[:most]],
    }
    shown = text.table(("name", "state", "registered", "expires", "owner"), rows) if rows else "No names."
    if until > unix_now:
        shown += f"\n\nNo first claims until {text.when(until)}: the file before was damaged."
    left = len(entries) - len(rows)
    return Result(data, shown, notes=(f"{left} more; --most shows more.",) if left else ())


def show_log(
    options: Options,
    name: _Name = None,
    last: Annotated[int, typer.Option("--last", min=1, help="Receipts to show, at most.")] = 100,
    db: _Database = None,
) -> Result:
    """Show the full receipts that the witness has given, the latest last; with --json whole, as proof."""
    wanted, swarm = _parse(name)
    with _opened(options, db) as (path, database):
        log = list(read_log(database, swarm=swarm, name=wanted, last=last))
        peer_id = witness_of(database)
    rows = [
        (
            text.when(logged.at),
            logged.kind.value,
            _called(*logged.key),
            text.when(logged.receipt.expires_at),
            logged.receipt.owner,
        )
        for logged in log
    ]
    data = {"witness": peer_id, "file": str(path), "log": [_log_json(logged) for logged in log]}
    shown = text.table(("at", "kind", "name", "expires", "owner"), rows) if rows else "No receipts."
    return Result(data, shown)


def find_conflicts(
    options: Options,
    receipts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Files with receipts of any witness, instead of its log."),
    ] = None,
    db: _Database = None,
) -> Result:
    """Look for two receipts of one witness that contradict each other: the proof that it lied.

    Each FILE holds one receipt as JSON, a list of them, or what `log --json` prints. Exit code 8 when there
    is a contradiction.
    """
    if receipts and db:
        raise WrongUsage("Receipts and --db are two sources; give one.")
    if receipts:
        given = [one for file in receipts for one in read_receipts(file)]
        found = conflicts_among(given)
        looked_at = len(given)
    else:
        with _opened(options, db) as (_, database):
            looked_at = count_log(database)
            found = conflicts(read_log(database))
    data = {
        "receipts": looked_at,
        "conflicts": [{"one": pair.one.to_members(), "other": pair.other.to_members()} for pair in found],
    }
    if not found:
        return Result(data, f"{looked_at} receipts, and none contradicts another.")
    problems = tuple(
        Problem(
            "receipts_contradict",
            f"{pair.one.witness} has promised {_called(pair.one.swarm, pair.one.name)} to {pair.one.owner} "
            f"and to {pair.other.owner} for the same time.",
            "Both receipts are the proof; --json prints them whole.",
        )
        for pair in found
    )
    return Result(data, errors=problems, exit_code=Exit.INTEGRITY)


@contextmanager
def _opened(options: Options, db: str | None) -> Iterator[tuple[Path, Connection]]:
    """The file that is meant: `--db`, or that of the node."""
    if db is not None:
        path = Path(db)
    else:
        node = node_of(options)
        if node is None:
            raise CannotRead(
                f"No node has run in {home_of(options).root}.",
                hint="Say where: --home DIR, or --db FILE.",
            )
        path = node.witness
    with open_for_reading(path) as database:
        yield path, database


def _parse(name: str | None) -> tuple[str | None, str | None]:
    if name is None:
        return None, None
    wanted, at, swarm = name.partition("@")
    return parse_name(wanted), parse_name(swarm, "swarm") if at else PUBLIC_SWARM


def _called(swarm: str, name: str) -> str:
    return name if swarm == PUBLIC_SWARM else f"{name}@{swarm}"


def _state(entry: Entry, unix_now: int) -> str:
    if unix_now >= entry.free_at:
        return "free"
    if entry.provisional:
        return "first claim"
    if unix_now >= entry.expires_at:
        return "lapsed"
    return "given up" if entry.given_up else "held"


def _entry_json(entry: Entry, unix_now: int) -> JsonObject:
    chain: list[JsonValue] = [*entry.chain]
    return {
        "swarm": entry.swarm,
        "name": entry.name,
        "state": _state(entry, unix_now).replace(" ", "_"),
        "owner": str(entry.owner),
        "did": entry.owner.did,
        "registered_at": entry.registered_at,
        "first_seen": entry.first_seen,
        "expires_at": entry.expires_at,
        "free_at": entry.free_at,
        "transfers": chain,
    }


def _log_json(logged: LogEntry) -> JsonObject:
    return {
        "at": logged.at,
        "kind": logged.kind.value,
        "receipt": logged.receipt.to_members(),
        "transfers": [entry.to_members() for entry in logged.transfers],
        "receipts": [receipt.to_members() for receipt in logged.receipts],
    }
