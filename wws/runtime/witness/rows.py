"""The tables of a witness's file, and what goes into and comes out of them.

Other programs read them too (`wws-ops witness`); the columns of `log` say what is in `body`, which is the
entry of the log in its one encoding.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Final

from wws.identity.peer_id import PeerId
from wws.names.witness.decision import Changes
from wws.names.witness.entry import Counted, Entry
from wws.names.witness.log import LogEntry

SCHEMA: Final = 1
NEWEST: Final = SCHEMA + 1
"""The newest file that is read, and written: one version newer may have further tables, and columns that need
no value of ours (contract section 3). So every column is named wherever a row goes in or out."""
APPLICATION_ID: Final = 0x57575357
"""Tells the file from others of SQLite: "WWSW"."""
PAGE = 4096
TABLES = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL,
    swarm TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL, registered_at INTEGER NOT NULL,
    first_seen INTEGER NOT NULL, expires_at INTEGER NOT NULL, via TEXT, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS log_by_name ON log (swarm, name, expires_at);
CREATE INDEX IF NOT EXISTS log_by_kind ON log (kind, at);
CREATE INDEX IF NOT EXISTS log_by_end ON log (expires_at);
CREATE TRIGGER IF NOT EXISTS log_is_append_only BEFORE UPDATE ON log
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TABLE IF NOT EXISTS entries (
    swarm TEXT NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL, registered_at INTEGER NOT NULL,
    first_seen INTEGER NOT NULL, expires_at INTEGER NOT NULL, provisional INTEGER NOT NULL,
    chain TEXT NOT NULL, is_chain_whole INTEGER NOT NULL, given_up INTEGER NOT NULL,
    held_since INTEGER NOT NULL, prefix TEXT, PRIMARY KEY (swarm, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counted (
    owner TEXT NOT NULL, swarm TEXT NOT NULL, name TEXT NOT NULL, prefix TEXT, at INTEGER NOT NULL,
    PRIMARY KEY (owner, swarm, name)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA};
"""


def read_entries(database: sqlite3.Connection) -> Iterator[Entry]:
    """What the table `entries` holds, by name."""
    rows = database.execute(
        "SELECT swarm, name, owner, registered_at, first_seen, expires_at, provisional, chain,"
        " is_chain_whole, given_up, held_since, prefix FROM entries ORDER BY swarm, name"
    )
    for row in rows:
        swarm, name, owner, registered_at, seen, expires_at, provisional, chain, *rest = row
        is_chain_whole, given_up, held_since, prefix = rest
        yield Entry(
            swarm=swarm,
            name=name,
            owner=PeerId.parse(owner),
            registered_at=registered_at,
            first_seen=seen,
            expires_at=expires_at,
            provisional=bool(provisional),
            chain=tuple(json.loads(chain)),
            is_chain_whole=bool(is_chain_whole),
            given_up=bool(given_up),
            held_since=held_since,
            prefix=prefix,
        )


def read_counted(database: sqlite3.Connection) -> Iterator[Counted]:
    """The new names of the last day, the oldest first."""
    rows = database.execute("SELECT owner, swarm, name, prefix, at FROM counted ORDER BY at")
    for owner, swarm, name, prefix, at in rows:
        yield Counted(PeerId.parse(owner), (swarm, name), prefix, at)


_LOG = """
SELECT body FROM (
    SELECT id, body FROM log
        WHERE (:swarm IS NULL OR swarm = :swarm) AND (:name IS NULL OR name = :name)
        ORDER BY id DESC LIMIT :last
) ORDER BY id"""


def read_log(
    database: sqlite3.Connection,
    *,
    swarm: str | None = None,
    name: str | None = None,
    last: int | None = None,
) -> Iterator[LogEntry]:
    """The log in the order in which it was written: of all names or of one, all of it or its end."""
    rows = database.execute(_LOG, {"swarm": swarm, "name": name, "last": -1 if last is None else last})
    for (body,) in rows:
        yield LogEntry.parse(body)


def count_log(database: sqlite3.Connection) -> int:
    """Receipts in the log."""
    (count,) = database.execute("SELECT count(*) FROM log").fetchone()
    return int(count)


def write_changes(database: sqlite3.Connection, changes: Changes) -> None:
    """Put into the tables what a decision has changed."""
    for logged in changes.log:
        receipt = logged.receipt
        database.execute(
            "INSERT INTO log (at, kind, swarm, name, owner, registered_at, first_seen, expires_at, via, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                logged.at, logged.kind.value, receipt.swarm, receipt.name, str(receipt.owner),
                receipt.registered_at, receipt.first_seen, receipt.expires_at, receipt.via, logged.to_bytes(),
            ),
        )  # fmt: skip
    for change in changes.entries:
        entry = change.after
        if entry is None:
            database.execute("DELETE FROM entries WHERE swarm = ? AND name = ?", change.key)
            continue
        database.execute(
            "INSERT OR REPLACE INTO entries (swarm, name, owner, registered_at, first_seen, expires_at,"
            " provisional, chain, is_chain_whole, given_up, held_since, prefix)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.swarm, entry.name, str(entry.owner), entry.registered_at, entry.first_seen,
                entry.expires_at, entry.provisional, json.dumps(entry.chain), entry.is_chain_whole,
                entry.given_up, entry.held_since, entry.prefix,
            ),
        )  # fmt: skip
    for counted in changes.uncounted:
        database.execute(
            "DELETE FROM counted WHERE owner = ? AND swarm = ? AND name = ?",
            (str(counted.owner), *counted.key),
        )
    for counted in changes.counted:
        database.execute(
            "INSERT OR REPLACE INTO counted (owner, swarm, name, prefix, at) VALUES (?, ?, ?, ?, ?)",
            (str(counted.owner), *counted.key, counted.prefix, counted.at),
        )
