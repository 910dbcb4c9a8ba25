"""Where a witness keeps its word: one SQLite file, `state/<node>/witness.sqlite`.

    log       every full receipt that was given, whole, with what justifies it; rows are only ever added
    entries   what the book holds now, first claims too
    counted   the new names of the last day, for the budgets
    meta      whose file it is

What a decision changes goes to all of them in one transaction, in WAL mode with `synchronous=FULL`: when
`commit` returns, neither a kill nor a power cut takes it back. Many decisions share a transaction, and so the
one fsync that it costs. Everything that blocks is done by one thread of the store's own.

The file is bounded (`max_bytes`). When it or the disk is full, `commit` raises, nothing of it is kept, and
the witness goes on with what it has. Compaction takes out renewals that a later one proves as well, after a
day, and names whose last lease has been over for a week; all that is evidence about a lease stays for as
long as that is in question.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from sqlite3 import SQLITE_ERROR
from typing import TypeVar

from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws.names.record import KEPT_AFTER_EXPIRY
from wws.names.rules import MAX_LEASE
from wws.names.witness.decision import Changes
from wws.names.witness.entry import Counted, Entry
from wws.runtime.machine_errors import CannotWrite, MachineError, NoSpace, writing_failed
from wws.runtime.state_files import StateTooNew
from wws.runtime.whole_files import make_folder
from wws.runtime.witness.rows import (
    APPLICATION_ID,
    NEWEST,
    PAGE,
    TABLES,
    count_log,
    read_counted,
    read_entries,
    write_changes,
)

_SUPERSEDED = """
DELETE FROM log WHERE id IN (
    SELECT old.id FROM log AS old WHERE old.kind = 'renewed' AND old.at < :before AND EXISTS (
        SELECT 1 FROM log AS new WHERE new.swarm = old.swarm AND new.name = old.name AND new.id > old.id
            AND new.kind = 'renewed' AND new.owner = old.owner AND new.registered_at = old.registered_at
            AND new.first_seen = old.first_seen AND new.via IS old.via AND new.expires_at >= old.expires_at
    ) LIMIT :most
)"""
_OVER = """
DELETE FROM log WHERE id IN (
    SELECT old.id FROM log AS old WHERE old.expires_at < :before AND NOT EXISTS (
        SELECT 1 FROM log AS new
            WHERE new.swarm = old.swarm AND new.name = old.name AND new.expires_at >= :before
    ) LIMIT :most
)"""
_logger = logging.getLogger(__name__)
_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class StoreConfig:
    max_bytes: int = 1024**3
    """Size of the file, at most. A receipt takes about a kilobyte, a name three or four."""
    keep_renewals: int = 86_400
    """Seconds for which a renewal is kept although a later one proves as much."""
    crowded: float = 0.5
    """Share of `max_bytes` from which on renewals are not kept for that long."""
    keep_over: int = 7 * 86_400
    """Seconds for which the log of a name is kept after its last lease is free for others."""
    compact_rows: int = 1_000
    """Rows that one transaction of compaction takes out: requests wait that long."""
    busy_timeout: float = 5.0
    """Seconds to wait for another process that holds the file, say a backup."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was on disk."""

    entries: tuple[Entry, ...]
    counted: tuple[Counted, ...]
    log_rows: int
    claims_from: int
    """Unix time before which there are no first claims: the file before was damaged, and with it went
    promises that last a day. 0: it never was."""


class WitnessStore:
    """The file of one witness. Not opened yet when it is made."""

    def __init__(self, path: Path, config: StoreConfig | None = None) -> None:
        self.path = path
        self._config = config or StoreConfig()
        self._thread: ThreadPoolExecutor | None = None
        self._database: sqlite3.Connection | None = None
        self.log_rows = 0
        """Receipts in the log."""
        self.commits = 0
        """Transactions since the start, each with one fsync."""

    async def open(self, witness: PeerId, unix_now: int) -> Restored:
        """Open the file of this witness, and make it where there is none.

        A damaged one, or one of another key, is set aside. Raises `MachineError`, `StateTooNew`.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="witness")
        restored = await self._run(lambda: self._open(witness, unix_now))
        self.log_rows = restored.log_rows
        return restored

    async def commit(self, batch: Sequence[Changes]) -> None:
        """Make the changes durable, all or none. Raises `MachineError` when none are.

        When the caller is cancelled they may have been made durable.
        """
        await self._run(lambda: self._commit(batch))
        self.log_rows += sum(len(changes.log) for changes in batch)
        self.commits += 1

    async def compact(self, unix_now: int) -> int:
        """Take out what proves nothing any more; how many receipts that were. Raises `MachineError`."""
        gone = 0
        kept_until = unix_now - KEPT_AFTER_EXPIRY - self._config.keep_over
        keep_renewals = 0 if await self._run(self._is_crowded) else self._config.keep_renewals
        for statement, before in ((_SUPERSEDED, unix_now - keep_renewals), (_OVER, kept_until)):
            take_out = partial(self._take_out, statement, before)
            while True:
                count = await self._run(take_out)
                gone += count
                self.log_rows -= count
                if count < self._config.compact_rows:
                    break
        return gone

    async def close(self) -> None:
        """Finish what is under way, and close the file."""
        if self._thread is not None:
            await self._run(self._close)
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _run(self, work: Callable[[], _ResultT]) -> _ResultT:
        if self._thread is None:
            raise CannotWrite(f"{self.path} is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # In the thread

    def _open(self, witness: PeerId, unix_now: int) -> Restored:
        claims_from = 0
        try:
            make_folder(self.path.parent)
            try:
                owner, restored = self._connect()
            except (sqlite3.DatabaseError, ValueError, ParseError) as error:
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != SQLITE_ERROR:
                    raise  # locked, no space, not permitted: nothing is wrong with the content
                self._set_aside(f"damaged-{unix_now}", str(error))
                claims_from = unix_now + MAX_LEASE + KEPT_AFTER_EXPIRY
                owner, restored = self._connect()
            if owner not in (None, str(witness)):
                self._set_aside(f"other-key-{unix_now}", f"it is that of {owner}")
                claims_from = 0
                owner, restored = self._connect()
            if owner is None:
                with self._transaction() as database:
                    self._set_meta(database, "witness", str(witness))
                    self._set_meta(database, "claims_from", str(claims_from))
                restored = replace(restored, claims_from=claims_from)
            return restored
        except sqlite3.Error as error:
            self._close()
            raise _failed(self.path, error) from error
        except OSError as error:
            raise writing_failed(self.path, error) from error

    def _connect(self) -> tuple[str | None, Restored]:
        """Whose file it is, and what it holds."""
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(self.path, timeout=self._config.busy_timeout, isolation_level=None)
        self._database = database
        (schema,) = database.execute("PRAGMA user_version").fetchone()
        (application,) = database.execute("PRAGMA application_id").fetchone()
        if application not in (0, APPLICATION_ID):
            raise sqlite3.DatabaseError("it is not the file of a witness")
        if schema > NEWEST:
            self._close()
            raise StateTooNew(
                f"{self.path} has schema {schema}; this version reads up to {NEWEST}.",
                hint="Use the newer version that wrote it, or move the file away.",
            )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA max_page_count = {max(16, self._config.max_bytes // PAGE)}")
        database.execute(f"PRAGMA journal_size_limit = {16 * 1024 * 1024}")
        if schema == 0:
            database.executescript(f"BEGIN;{TABLES}COMMIT;")
        return self._meta("witness"), self._read()

    def _set_aside(self, word: str, reason: str) -> None:
        self._close()
        aside = self.path.with_name(f"{self.path.name}.{word}")
        for suffix in ("", "-wal", "-shm"):
            try:
                os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
            except FileNotFoundError:
                pass
        _logger.warning("%s is not read: %s. It is kept as %s.", self.path, reason, aside.name)

    def _read(self) -> Restored:
        database = self._open_database()
        entries, counted = tuple(read_entries(database)), tuple(read_counted(database))
        return Restored(entries, counted, count_log(database), int(self._meta("claims_from") or 0))

    def _commit(self, batch: Sequence[Changes]) -> None:
        try:
            with self._transaction() as database:
                for changes in batch:
                    write_changes(database, changes)
        except sqlite3.Error as error:
            raise _failed(self.path, error) from error

    def _is_crowded(self) -> bool:
        database = self._open_database()
        try:
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            (free,) = database.execute("PRAGMA freelist_count").fetchone()
        except sqlite3.Error as error:
            raise _failed(self.path, error) from error
        return bool((pages - free) * PAGE > self._config.crowded * self._config.max_bytes)

    def _take_out(self, statement: str, before: int) -> int:
        try:
            with self._transaction() as database:
                limits = {"before": before, "most": self._config.compact_rows}
                return database.execute(statement, limits).rowcount
        except sqlite3.Error as error:
            raise _failed(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything in the block or nothing."""
        database = self._open_database()
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise CannotWrite(f"{self.path} is not open.")
        return self._database

    def _meta(self, key: str) -> str | None:
        row = self._open_database().execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, database: sqlite3.Connection, key: str, value: str) -> None:
        database.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _failed(path: Path, error: sqlite3.Error) -> MachineError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return NoSpace(f"No space left to write {path}: {error}.", hint="Free some space, then try again.")
    return CannotWrite(f"Cannot write {path}: {error}.", hint=f"Look at its owner and mode: ls -l {path}")
