"""What the RPC server keeps on disk: its tokens, its agents, its names of the day, and the audit log.

    state/<node>/tokens.json   the tokens, as SHA-256 of their secrets
    state/<node>/agents.json   registered agents, the latest timestamps they signed, new names of the day
    state/<node>/audit.log     JSON lines, rotated and bounded (`wws.rpc.audit`)

All are 0600. The two JSON files are written whole or not at all, before the call that changed them is
answered: who was told `registered` finds it so after a loss of power.
"""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import os
from pathlib import Path
from typing import Final

from wws.codec.canonical import JsonObject
from wws.errors import WwsError
from wws.rpc.access import Access
from wws.rpc.audit import AuditConfig
from wws.runtime.homes import NodePaths
from wws.runtime.logs import logger
from wws.runtime.machine_errors import writing_failed
from wws.runtime.state_files import StateFile
from wws.runtime.whole_files import make_folder

_log = logger("rpc")
TOKENS: Final = "tokens.json"
AGENTS: Final = "agents.json"
AUDIT: Final = "audit.log"


class RpcState:
    """The two files behind an `Access`. `load` once, then `save` after each call that changed something."""

    def __init__(self, paths: NodePaths) -> None:
        self._tokens = StateFile(paths.state / TOKENS)
        self._books = StateFile(paths.state / AGENTS)
        self._lock = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()
        self._saved = 0
        self._written: tuple[JsonObject, JsonObject] = ({}, {})
        """What the two files hold."""

    def load(self, access: Access) -> None:
        """Fill the books. Raises `MachineError`; a damaged file is set aside, and its tokens open nothing."""
        access.load(self._tokens.read() or {}, self._books.read() or {})
        self._saved = access.version
        self._written = (access.tokens_to_json(), access.books_to_json())

    async def save(self, access: Access) -> None:
        """Write what has changed since the last time. Raises `MachineError`.

        A caller that is cancelled leaves a write that has begun to its end. Given up it would go on in its
        thread all the same, and could put the old in place of what somebody else saves after it.
        """
        if access.version == self._saved:
            return
        writing = asyncio.get_running_loop().create_task(self._save(access))
        self._writing.add(writing)
        writing.add_done_callback(self._written_down)
        await asyncio.shield(writing)

    async def _save(self, access: Access) -> None:
        async with self._lock:
            version = access.version
            if version != self._saved:
                await self._write(access)
                self._saved = version

    def _written_down(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # whoever was cancelled does not ask for it

    async def close(self, access: Access) -> None:
        """Write what is worth it at the end, as when tokens were used last. A full disk is only logged."""
        async with self._lock:
            access.settle()
            try:
                await self._write(access)
            except WwsError as error:
                _log.warning("rpc_state_not_saved", error=str(error))

    async def _write(self, access: Access) -> None:
        tokens, books = access.tokens_to_json(), access.books_to_json()
        before = self._written
        if tokens != before[0]:
            await asyncio.to_thread(self._tokens.write, tokens)
        if books != before[1]:
            await asyncio.to_thread(self._books.write, books)
        self._written = (tokens, books)


class AuditFile:
    """An append-only file of bounded size, with a bounded number of older ones beside it.

    A failure to write is logged once: the node goes on, because a full disk must not close it. A line that
    was cut, by a full disk or a kill, is ended before the next: nothing that a caller chose runs into it.
    """

    def __init__(self, path: Path, config: AuditConfig) -> None:
        self._path = path
        self._config = config
        self._file: io.FileIO | None = None
        self._size = 0
        self._is_torn = False
        """Whether the file ends within a line."""
        self._has_failed = False

    def append(self, line: bytes) -> None:
        """Write one line."""
        try:
            if self._file is None:
                self._open()
            elif self._size + len(line) > self._config.file_bytes:
                self._rotate()
            assert self._file is not None
            data = b"\n" + line if self._is_torn else line
            written = self._file.write(data)
            self._size += written
            if 0 < written < len(data):
                self._is_torn = data[written - 1 : written] != b"\n"
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._is_torn = False
            self._has_failed = False
        except (OSError, WwsError) as error:
            if not self._has_failed:
                _log.warning("audit_not_written", error=str(error))
            self._has_failed = True

    def close(self) -> None:
        """Close the file; `append` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _open(self) -> None:
        make_folder(self._path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise writing_failed(self._path, error) from error
        os.fchmod(descriptor, 0o600)
        self._file = io.FileIO(descriptor, "ab")
        self._size = os.fstat(descriptor).st_size
        self._is_torn = self._size > 0 and os.pread(descriptor, 1, self._size - 1) != b"\n"

    def _rotate(self) -> None:
        """`audit.log` becomes `audit.log.1`, that one `.2`, and so on; the last one goes."""
        self.close()
        older = [self._path, *(self._numbered(number) for number in range(1, self._config.files))]
        for source, target in reversed(list(itertools.pairwise(older))):
            if source.exists():
                os.replace(source, target)
        if len(older) == 1:
            self._path.unlink(missing_ok=True)
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
