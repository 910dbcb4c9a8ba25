"""One client of the RPC server: lines in, calls out, answers back.

    read a chunk ─► LineSplitter ─► parse_line ─► RpcDesk.serve ─► one line back

Calls of one client run beside each other, at most `max_calls` at a time, and are answered as they
come to an end, by id. A slot is held until its answer has left the send buffer: a client that does
not read is not read from. After a half-close everything asked is still answered.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from wws.errors import LocalProtocolError, RemoteProtocolError, WwsError
from wws.rpc import codes
from wws.rpc.access import SEARCHED, Caller
from wws.rpc.api import Json, to_json
from wws.rpc.policy import Role
from wws.rpc.turns import Standing, standing_of
from wws.rpc.wire import (
    Batch,
    Invalid,
    LineSplitter,
    LineTooLong,
    NotJsonRpc,
    Request,
    WireConfig,
    encode,
    failure,
    failure_of,
    parse_line,
    success,
)
from wws.runtime.rpc_desk import RpcDesk
from wws.runtime.rpc_turns import Turns

_LOG = logging.getLogger(__name__)
CHUNK: Final = 64 * 1024
"""Bytes read at a time; asyncio holds at most twice as many per connection before it stops reading."""


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """Bounds of one client."""

    idle_timeout: float = 600.0
    """Seconds without a whole line and without a call under way, after which the client is gone."""
    call_timeout: float = 120.0
    """Seconds a call may take."""
    write_timeout: float = 30.0
    """Seconds a client may take to read an answer."""
    drain_timeout: float = 2.0
    """Seconds that calls under way get when the server closes."""
    max_calls: int = 16
    """Calls of one client at a time."""
    max_unproven: int = 16 * 1024
    """Bytes of a line that is read of somebody on TCP who shows no valid token in it: one of 2 MiB can take a
    second to read, in which the node does nothing else."""


class RpcConnection:
    """Serves one client until it leaves, breaks the rules, or the server closes."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        desk: RpcDesk,
        config: ConnectionConfig,
        wire: WireConfig,
        turns: Turns,
        refuse: Callable[[str], None],
        may_hold: Callable[[RpcConnection], bool],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._desk = desk
        self._config = config
        self._wire = wire
        self._turns = turns
        self._refuse = refuse
        self._may_hold = may_hold
        self._caller = _caller(writer)
        self._standing = Standing.OWNER if self._caller.on_socket else Standing.STRANGER
        self._splitter = LineSplitter(wire)
        self._slots = asyncio.Semaphore(config.max_calls)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[bytes] | None = None
        self._queueing: asyncio.Task[None] | None = None
        self._draining = asyncio.Event()

    @property
    def rank(self) -> Standing:
        """What it has shown, when it comes to room: an agent stays a stranger there. It may read, and gets no
        more of the node's memory for it than anybody."""
        return self._standing if self._standing >= Standing.PROGRAM else Standing.STRANGER

    @property
    def pending(self) -> int:
        """Bytes held of a line that has not ended."""
        return self._splitter.pending

    async def run(self) -> None:
        """Serve to the end. Never raises for what a client does."""
        try:
            self._desk.admit(self._caller)
            await self._read_lines()
            await self._calls_done()
        except NotJsonRpc as error:
            self._refuse(error.code)
            await self._calls_done()
            await self._say(failure(None, error.number, str(error), {"code": error.code, "hint": ""}))
        except WwsError as error:
            self._refuse(error.code)
            await self._say(_error_answer(None, error))
        except (ConnectionError, TimeoutError):
            self._refuse("connection_lost")
        finally:
            await self._end()

    async def turn_away(self, why: str) -> None:
        """Tell a client that there is no room, and end."""
        self._refuse("too_many_clients")
        try:
            data: dict[str, Json] = {"code": "too_many_clients", "hint": "Try again in a moment."}
            await self._say(failure(None, codes.REFUSED, why, data))
        finally:
            await self._end()

    def drain(self) -> None:
        """Take no further line; what is under way may end."""
        self._draining.set()
        for waiting in (self._reading, self._queueing):
            if waiting is not None:
                waiting.cancel()

    def abort(self) -> None:
        """Cut the connection, and the calls with it."""
        self.drain()
        for task in self._tasks:
            task.cancel()
        self._writer.transport.abort()

    async def _read_lines(self) -> None:
        while not self._draining.is_set():
            data = await self._chunk()
            if data is None:
                return
            if not data:
                last = self._splitter.receive_end()
                if last is not None:
                    await self._take(last)
                return
            for line in self._splitter.receive_data(data):
                if self._draining.is_set():
                    return
                await self._take(line)
            if not await self._may_go_on():
                return
            if not self._may_hold(self):
                raise NotJsonRpc("this node holds too many unfinished lines")

    async def _chunk(self) -> bytes | None:
        """The next bytes; empty at the end of the stream, None when idle for too long or draining."""
        self._reading = asyncio.ensure_future(self._reader.read(CHUNK))
        deadline = asyncio.get_running_loop().time() + self._config.idle_timeout
        try:
            while True:
                left = deadline - asyncio.get_running_loop().time()
                done, _ = await asyncio.wait({self._reading}, timeout=left)
                if done:
                    return None if self._reading.cancelled() else self._reading.result()
                if not self._tasks:
                    self._refuse("idle")
                    return None
                await asyncio.wait({self._reading, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
                deadline = asyncio.get_running_loop().time() + self._config.idle_timeout
        finally:
            if not self._reading.done():
                self._reading.cancel()
            self._reading = None

    async def _may_go_on(self) -> bool:
        """Wait before more is read of a long line by somebody who shows no token at its beginning: to receive
        megabytes costs time as well. False when the connection ended meanwhile."""
        if self.rank >= Standing.PROGRAM or self._splitter.pending <= self._config.max_unproven:
            return True
        standing = max(self._standing, self._desk.access.shown_in(self._splitter.beginning(SEARCHED)))
        with self._turns.counted(standing, calls=1):  # a chunk is taken to cost as much as a call
            pass
        return await self._is_turn(standing)

    async def _take(self, line: bytes) -> None:
        """Start what the line asks for, when it is the caller's turn; waits while all slots are taken."""
        standing = self._standing
        if standing < Standing.OWNER:
            standing = max(standing, self._desk.access.shown_in(line))
        if standing < Standing.PROGRAM and len(line) > self._config.max_unproven:
            raise LineTooLong("a line of this length must show a valid token")
        if not await self._is_turn(standing):
            return
        with self._turns.counted(standing):
            asked = parse_line(line, self._wire)
        match asked:
            case Request():
                await self._start(asked, self._say)
            case Invalid():
                self._refuse(asked.code)
                await self._slots.acquire()
                self._spawn(self._answer_with(failure_of(asked), self._say))
            case Batch(entries=entries):
                await self._take_batch(entries)

    async def _is_turn(self, standing: Standing) -> bool:
        """Wait for it; False when the connection ended meanwhile."""
        if standing < Standing.OWNER:
            self._queueing = asyncio.get_running_loop().create_task(self._turns.wait(standing))
            await asyncio.wait({self._queueing})
            self._queueing = None
        return not self._draining.is_set()

    async def _take_batch(self, entries: tuple[Request | Invalid, ...]) -> None:
        """The answers of a batch travel in one line, when the last of them is there."""
        answers: list[Json] = []
        left = len(entries)

        async def collect(answer: Json) -> None:
            nonlocal left
            left -= 1
            if answer is not None:
                answers.append(answer)
            if left == 0 and answers:
                await self._say(answers)

        for entry in entries:
            if isinstance(entry, Invalid):
                self._refuse(entry.code)
                await collect(failure_of(entry))
            else:
                await self._start(entry, collect)

    async def _start(self, request: Request, answer: Callable[[Json], Coroutine[None, None, None]]) -> None:
        await self._slots.acquire()
        self._spawn(self._carry_out(request, answer))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _carry_out(
        self, request: Request, answer: Callable[[Json], Coroutine[None, None, None]]
    ) -> None:
        outcome = await self._outcome(request)
        await self._answer_with(None if request.is_notification else outcome, answer)

    async def _answer_with(self, value: Json, answer: Callable[[Json], Coroutine[None, None, None]]) -> None:
        try:
            await answer(value)
        except (ConnectionError, TimeoutError):
            self._refuse("connection_lost")
            self.drain()
            self._writer.transport.abort()

    async def _outcome(self, request: Request) -> Json:
        try:
            async with asyncio.timeout(self._config.call_timeout):
                result = await self._desk.serve(self._caller, request, self._came_to_know, self._proving)
            return success(request.id, to_json(result))
        except WwsError as error:
            if not isinstance(error, LocalProtocolError):
                self._refuse(error.code)
                return _error_answer(request.id, error)
            return self._bug(request, error)
        except TimeoutError:
            self._refuse("timeout")
            text = f"{request.method} took longer than {self._config.call_timeout:g} s"
            return failure(request.id, codes.TIMEOUT, text, {"code": "timeout", "hint": ""})
        except Exception as error:  # noqa: BLE001 - one call's bug must not end the other calls; it is logged
            return self._bug(request, error)

    def _came_to_know(self, role: Role) -> None:
        """This client has shown who it is."""
        self._standing = max(self._standing, standing_of(role))

    def _proving(self) -> AbstractContextManager[None]:
        """Counts the time in which it is found out who calls."""
        return self._turns.counted(self._standing, calls=1)

    def _bug(self, request: Request, error: Exception) -> Json:
        _LOG.error("%s failed", request.method[:64], exc_info=error)
        self._refuse("internal_error")
        text = f"{request.method} failed inside the node: {type(error).__name__}"
        data: dict[str, Json] = {"code": "internal_error", "hint": "The node's log has the details: wws logs"}
        return failure(request.id, codes.INTERNAL_ERROR, text, data)

    async def _say(self, value: Json) -> None:
        """Write an answer and wait until the client has taken enough of it. None is nothing to say."""
        if value is None:
            return
        self._writer.write(encode(value))
        async with asyncio.timeout(self._config.write_timeout):
            await self._writer.drain()

    async def _calls_done(self) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _end(self) -> None:
        for task in set(self._tasks):
            task.cancel()
        self._writer.close()
        try:
            async with asyncio.timeout(self._config.write_timeout):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()


def _error_answer(request_id: str | int | None, error: WwsError) -> Json:
    """The JSON-RPC error for a typed error: its number by its word, its details beside them."""
    details = getattr(error, "details", None)
    data: dict[str, Json] = {"code": error.code, "hint": error.hint}
    if isinstance(details, Mapping):
        data = {str(key): to_json(value) for key, value in details.items()} | data
    return failure(request_id, error_number(error), str(error), data)


def error_number(error: WwsError) -> int:
    """The JSON-RPC number of an error: by its word, else by what kind of error it is."""
    number = codes.rpc_number(error.code)
    if number is not None:
        return number
    if isinstance(error, RemoteProtocolError):  # what a caller got wrong has a word in the table
        return codes.UNREACHABLE
    return codes.REFUSED


def _caller(writer: asyncio.StreamWriter) -> Caller:
    """Who is at the other end: on the unix socket the kernel says which user."""
    connected: socket.socket = writer.get_extra_info("socket")
    if connected.family != socket.AF_UNIX:
        return Caller(user_id=None)
    return Caller(user_id=_peer_user(connected))


def _peer_user(connected: socket.socket) -> int:
    """The user id of the process that connected; -1, which is nobody, where the system cannot say."""
    if hasattr(socket, "SO_PEERCRED"):
        layout = struct.Struct("=iII")
        data = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
        user: int = layout.unpack(data)[1]
        return user
    if hasattr(socket, "LOCAL_PEERCRED"):  # macOS: struct xucred {version, uid, ngroups, groups[16]}
        layout = struct.Struct("=II")
        data = connected.getsockopt(0, socket.LOCAL_PEERCRED, 76)
        return int(layout.unpack_from(data)[1])
    return -1
