"""Reads a witness's file while the witness writes it, and when it does not run: nothing is changed.

Standard SQLite in WAL mode: a reader sees the last transaction that was finished when it began, and holds
nobody up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wws.errors import ParseError
from wws.runtime.machine_errors import CannotRead
from wws.runtime.state_files import StateTooNew
from wws.runtime.witness.rows import APPLICATION_ID, NEWEST


@contextmanager
def open_for_reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, read-only and of one moment, for `wws.runtime.witness.rows`.

    Raises `CannotRead`, `StateTooNew`.
    """
    if not path.is_file():
        raise CannotRead(
            f"There is no file of a witness at {path}.",
            hint="A bootstrap node of a network makes it. Say which is meant: --home, --node or --db.",
        )
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            database.execute("BEGIN")
            (schema,) = database.execute("PRAGMA user_version").fetchone()
            (application,) = database.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                raise CannotRead(f"{path} is not the file of a witness.")
            if schema > NEWEST:
                raise StateTooNew(f"{path} has schema {schema}; this version reads up to {NEWEST}.")
            yield database
        finally:
            database.close()
    except (sqlite3.Error, ValueError, ParseError) as error:
        raise CannotRead(f"Cannot read {path}: {error}.") from error


def witness_of(database: sqlite3.Connection) -> str | None:
    """The PeerId of the witness whose file it is."""
    row = database.execute("SELECT value FROM meta WHERE key = 'witness'").fetchone()
    return None if row is None else str(row[0])


def claims_from(database: sqlite3.Connection) -> int:
    """Unix time before which the witness makes no first claims; 0 where it always made them."""
    row = database.execute("SELECT value FROM meta WHERE key = 'claims_from'").fetchone()
    return 0 if row is None else int(row[0])
