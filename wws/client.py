"""A running node, from a program: `wws.client.connect()`.

    async with wws.client.connect() as node:
        await node.register_name("alice")
        bob = await node.resolve("bob")
        print(bob["did"], (await node.ping("bob"))["received"])

The node is found through its `ready.json`, on the unix socket first and on TCP with the cookie where
there is no socket to reach (one that nobody listens on is that of a node which has died). Answers are
the JSON of the contract (section 6), as dictionaries.
`call_once` does a single call without asyncio, for programs that must start at once.

Raises `NodeNotRunning` when no node answers, `RpcError` for what the node refuses or cannot do.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from wws.errors import WwsError
from wws.rpc.codes import Exit, exit_code
from wws.runtime.homes import Ready, choose_home

if TYPE_CHECKING:
    import asyncio

Answer: TypeAlias = dict[str, Any]
"""The JSON object that a method answers."""

MAX_ANSWER: Final = 16 * 1024 * 1024
"""Bytes of one answer that are read; a node's answers are far smaller."""
CHUNK: Final = 64 * 1024
"""Bytes that are read at a time."""
MAX_COOKIE: Final = 256
"""Bytes of the cookie's file that are read."""
DEFAULT_TIMEOUT: Final = 130.0
"""Seconds to wait for an answer: a little more than the node gives a call."""


class NodeNotRunning(WwsError):
    """No node answers here."""

    code = "node_not_running"
    hint = "Start one: wws join"


class CookieUnsafe(WwsError):
    """The file with the cookie is a link, or others can read it: somebody else has been at it."""

    code = "cookie_unsafe"
    hint = "Restart the node, which makes a new one: wws leave, then wws join."


class RpcError(WwsError):
    """The node answered with an error. `code` is its word, `number` its JSON-RPC number."""

    def __init__(self, number: int, message: str, data: Mapping[str, Any]) -> None:
        word, hint = data.get("code"), data.get("hint")
        super().__init__(message, hint=hint if isinstance(hint, str) else "")
        self.number = number
        self.code = word if isinstance(word, str) else "error"  # type: ignore[misc]  # the node chooses it
        self.details = {key: value for key, value in data.items() if key not in ("code", "hint")}

    @property
    def exit_code(self) -> Exit:
        """The exit code with which a command ends over this error."""
        return exit_code(self.code, self.number)


class Client:
    """An open connection to one node. Calls may run beside each other; each waits for its own answer.

    Made by `connect`; after the block that it is used in, every call raises `NodeNotRunning`.
    """

    def __init__(self, ready: Ready, timeout: float) -> None:
        self.ready = ready
        self._timeout = timeout
        self._token: str | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._next_id = 1
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        import asyncio

        try:
            self._streams = await asyncio.open_unix_connection(self.ready.socket, limit=MAX_ANSWER)
        except OSError as error:
            if self.ready.rpc is None or isinstance(error, ConnectionRefusedError):
                raise _not_running(self.ready.node) from error
            host, port = _split(self.ready.rpc)
            self._token = _cookie(self.ready)
            try:
                self._streams = await asyncio.open_connection(host, port, limit=MAX_ANSWER)
            except OSError:
                raise _not_running(self.ready.node) from error
        self._reading = asyncio.create_task(self._read(self._streams[0]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
        self._give_up()

    async def call(self, method: str, params: Mapping[str, object] | list[object] | None = None) -> Any:  # noqa: ANN401 - a method's answer is any JSON value
        """One call. A cancelled caller may assume nothing about whether the node carried it out."""
        import asyncio

        if self._streams is None or self._reading is None or self._reading.done():
            raise _not_running(self.ready.node)
        request_id = self._next_id
        self._next_id += 1
        answer = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            self._streams[1].write(_request(method, params, request_id, self._token))
            async with asyncio.timeout(self._timeout):
                await self._streams[1].drain()
                return _result(await answer)
        except TimeoutError:
            raise RpcError(-32005, f"{method}: no answer in time", {"code": "timeout"}) from None
        except ConnectionError as error:
            raise _not_running(self.ready.node) from error
        finally:
            self._waiting.pop(request_id, None)

    async def status(self) -> Answer:
        """`swarm.get_status`"""
        return await self._object("swarm.get_status")

    async def network_stats(self) -> Answer:
        """`swarm.get_network_stats`"""
        return await self._object("swarm.get_network_stats")

    async def identity(self, did: str | None = None) -> Answer:
        """`swarm.get_identity`: the node's own, or that of a DID."""
        return await self._object("swarm.get_identity", {} if did is None else {"did": did})

    async def peers(self) -> list[Answer]:
        """`swarm.peers`: the connections."""
        found: list[Answer] = (await self._object("swarm.peers"))["peers"]
        return found

    async def connect(self, addr: str) -> Answer:
        """`swarm.connect`: a name, DID, PeerId, or a multiaddr with `/p2p/`."""
        return await self._object("swarm.connect", {"addr": addr})

    async def ping(self, target: str, count: int = 4, *, wait_direct: int = 0) -> Answer:
        """`swarm.ping`: round trips, and which way each went; the last one waits up to `wait_direct` seconds
        for a hole punch under way."""
        params = {"target": target, "count": count, "wait_direct": wait_direct}
        return await self._object("swarm.ping", params)

    async def register_name(self, name: str) -> Answer:
        """`swarm.register_name`: claim it and keep it. Raises `RpcError` with the code `name_taken`."""
        return await self._object("swarm.register_name", {"name": name})

    async def resolve(self, target: str) -> Answer:
        """`swarm.resolve_name`: who and where a name, DID, PeerId or address is."""
        return await self._object("swarm.resolve_name", {"name": target})

    async def renew_name(self, name: str) -> Answer:
        """`swarm.renew_name`"""
        return await self._object("swarm.renew_name", {"name": name})

    async def release_name(self, name: str) -> Answer:
        """`swarm.release_name`"""
        return await self._object("swarm.release_name", {"name": name})

    async def my_names(self) -> list[Answer]:
        """`swarm.my_names`"""
        names: list[Answer] = await self.call("swarm.my_names")
        return names

    async def stop(self, *, release_name: bool = False) -> Answer:
        """`swarm.stop`: the node answers, then drains and exits."""
        return await self._object("swarm.stop", {"release_name": release_name})

    async def _object(self, method: str, params: Mapping[str, object] | None = None) -> Answer:
        result = await self.call(method, params)
        if not isinstance(result, dict):
            raise RpcError(-32603, f"{method}: the answer is no object", {"code": "internal_error"})
        return result

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Hand each answer to the call that waits for it, until the connection ends."""
        try:
            while line := await reader.readline():
                answer = _parse(line)
                waiting = self._waiting.get(answer["id"]) if isinstance(answer.get("id"), int) else None
                if waiting is not None and not waiting.done():
                    waiting.set_result(answer)
                elif answer.get("id") is None and "error" in answer:
                    self._give_up(_error(answer))
        except (OSError, ValueError):
            return
        finally:
            self._give_up()

    def _give_up(self, error: WwsError | None = None) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error or _not_running(self.ready.node))


def connect(
    home: str | os.PathLike[str] | None = None,
    node: str | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
) -> Client:
    """A client for the node called `node`, or for the only one that runs, to be used in `async with`.

    `home` is `$WWS_HOME` or `~/.openswarm` unless given. Raises `NodeNotRunning`, and `SeveralNodes`
    when there is more than one and none was named.
    """
    return Client(find(home, node), timeout)


def find(home: str | os.PathLike[str] | None = None, node: str | None = None) -> Ready:
    """What the running node says of itself. Raises as `connect` does."""
    chosen = choose_home(None if home is None else os.fspath(home), os.environ)
    asked = node if node is not None else os.environ.get("WWS_NODE") or None
    paths = chosen.pick_running(asked)
    ready = paths.read_ready() if paths is not None else None
    if ready is None:
        raise _not_running(asked)
    return ready


def call_once(
    ready: Ready,
    method: str,
    params: Mapping[str, object] | list[object] | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
) -> Any:  # noqa: ANN401 - a method's answer is any JSON value
    """One call on a connection of its own, without asyncio. Blocks up to `timeout` seconds, and as many to
    get through."""
    try:
        connection, token = _open(ready, timeout)
        with connection:
            deadline = time.monotonic() + timeout
            connection.sendall(_request(method, params, 1, token))
            line = _line(connection, deadline)
    except TimeoutError:
        raise RpcError(-32005, f"{method}: no answer in {timeout:g} s", {"code": "timeout"}) from None
    except OSError as error:
        raise _not_running(ready.node) from error
    if not line:
        raise _not_running(ready.node)
    try:
        return _result(_parse(line))
    except ValueError as error:
        raise RpcError(-32603, f"{method}: the answer is not JSON-RPC", {"code": "internal_error"}) from error


def _line(connection: socket.socket, deadline: float) -> bytes:
    """The first line, or as much of it as there is. Raises `TimeoutError`, also when it comes in drips."""
    found = bytearray()
    while b"\n" not in found[-CHUNK:] and len(found) < MAX_ANSWER:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(CHUNK)
        if not chunk:
            break
        found += chunk
    return bytes(found.partition(b"\n")[0])


def _open(ready: Ready, timeout: float) -> tuple[socket.socket, str | None]:
    """The unix socket, or TCP with the cookie."""
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.settimeout(timeout)
    try:
        unix.connect(ready.socket)
    except OSError as error:
        unix.close()
        # Nobody listens on our own socket: the node has died. Then its TCP port is free for anybody to take,
        # who would be shown the cookie, and believed.
        if ready.rpc is None or isinstance(error, ConnectionRefusedError):
            raise
        token = _cookie(ready)
        return socket.create_connection(_split(ready.rpc), timeout=timeout), token
    return unix, None


def _request(
    method: str, params: Mapping[str, object] | list[object] | None, request_id: int, token: str | None
) -> bytes:
    request: dict[str, object] = {"jsonrpc": "2.0", "method": method, "id": request_id}
    if token is not None:
        request["token"] = token  # before what may be long: the node reads on at once
    if params is not None:
        request["params"] = params
    return json.dumps(request).encode("ascii") + b"\n"


def _parse(line: bytes) -> Answer:
    """An answer object. Raises `ValueError`."""
    try:
        answer = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(answer, dict):
        raise ValueError("not an object")
    return answer


def _result(answer: Answer) -> Any:  # noqa: ANN401 - a method's answer is any JSON value
    if "error" in answer:
        raise _error(answer)
    return answer.get("result")


def _error(answer: Answer) -> RpcError:
    error = answer["error"] if isinstance(answer["error"], dict) else {}
    number, data = error.get("code"), error.get("data")
    return RpcError(
        number if isinstance(number, int) else -32603,
        str(error.get("message", "the node gave no reason")),
        data if isinstance(data, dict) else {},
    )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _cookie(ready: Ready) -> str:
    """The cookie, from a file of this user's that nobody else can have chosen or read."""
    try:
        descriptor = os.open(ready.cookie, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise CookieUnsafe(
                    f"{ready.cookie} is not a file of this user alone: it is not sent to anybody"
                )
            return file.read(MAX_COOKIE).decode("ascii").strip()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise CookieUnsafe(
                f"{ready.cookie} is a link: what it leads to is not sent to anybody"
            ) from error
        raise _not_running(ready.node) from error


def _not_running(node: str | None) -> NodeNotRunning:
    if node is None or node == "default":
        return NodeNotRunning("No node is running here.")
    return NodeNotRunning(f"The node {node!r} is not running.", hint=f"Start it: wws join --name {node}")
