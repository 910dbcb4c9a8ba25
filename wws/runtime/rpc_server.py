"""The RPC server: JSON-RPC 2.0 on a unix socket and on loopback TCP (contract, section 6).

`RpcServer(node, …)` listens; each connection is an `RpcConnection` (rpc_connection.py) that
reads lines, brings requests to the `RpcDesk`, and writes answers. What is refused is counted in
`RpcServer.refused` by reason, for the metrics.

The unix socket is 0600 in a folder of 0700 and replaced only when nobody listens on it. TCP follows
`rpc_ports`: the default port moves aside for another node of the same user and is given up to a
stranger; a port that was asked for must be free, or the start fails (`port_taken`).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wws.identity.peer_id import PeerId
from wws.rpc.access import AccessConfig
from wws.rpc.api import NodeApi, Warned
from wws.rpc.audit import AuditConfig
from wws.rpc.turns import Standing, TurnsConfig
from wws.rpc.wire import WireConfig
from wws.runtime.homes import NodePaths
from wws.runtime.logs import logger
from wws.runtime.machine_errors import CannotWrite, PortTaken, writing_failed
from wws.runtime.rpc_connection import CHUNK, ConnectionConfig, RpcConnection
from wws.runtime.rpc_desk import RpcDesk, unix_milliseconds
from wws.runtime.rpc_ports import DEFAULT_PORT, STEP, PortClaims
from wws.runtime.rpc_turns import Turns
from wws.runtime.whole_files import make_folder, write_whole

_log = logger("rpc")
COOKIE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class RpcServerConfig:
    """Where the server listens, and its bounds."""

    unix_socket: Path | None = None
    """The unix socket; None: where the node's paths say."""
    host: str = "127.0.0.1"
    port: int | None = DEFAULT_PORT
    """None: no TCP."""
    port_is_default: bool = True
    """Whether nobody asked for this port: then it may move aside or be given up."""
    pairs: int = 32
    """Port pairs tried, one after the other, when nodes of this user hold the ones before."""
    max_clients: int = 256
    max_pending: int = 64 * 1024 * 1024
    """Bytes of unfinished lines over all clients; who goes over it is cut."""
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    wire: WireConfig = field(default_factory=WireConfig)
    swarm: str = "public"
    """The swarm of names that do not say theirs, and the one that agents work for."""
    access: AccessConfig = field(default_factory=AccessConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    turns: TurnsConfig = field(default_factory=TurnsConfig)


class RpcServer:
    """Listens for one node. `start` opens the listeners, `close` ends them and every connection.

    After `start`: `socket_path` says where the unix socket is, `tcp_address` the `IP:PORT` or None,
    `cookie_path` the file with the cookie, `warnings` what the user should know.
    """

    def __init__(
        self,
        node: NodeApi,
        paths: NodePaths,
        config: RpcServerConfig,
        *,
        env: Mapping[str, str],
        on_refused: Callable[[str], None] | None = None,
        unix_ms: Callable[[], int] = unix_milliseconds,
    ) -> None:
        self._node = node
        self._paths = paths
        self._config = config
        self._env = env
        self._on_refused = on_refused
        self._claims: PortClaims | None = None
        self._claimed: int | None = None
        self._listeners: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._connections: dict[RpcConnection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unix_ms = unix_ms
        self._turns = Turns(config.turns)
        self._desk: RpcDesk | None = None
        self._closing = False
        self.refused: Counter[str] = Counter()
        self.warnings: list[Warned] = []
        self.socket_path: Path | None = None
        self.tcp_address: str | None = None

    @property
    def cookie_path(self) -> Path:
        return self._paths.cookie

    @property
    def port_shift(self) -> int:
        """By how much the port moved from the asked one; the HTTP port of the pair moves as far."""
        if self.tcp_address is None or self._config.port is None:
            return 0
        return int(self.tcp_address.rpartition(":")[2]) - self._config.port

    @property
    def clients(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Open the listeners. Raises `MachineError` (`port_taken`, `cannot_write`, …); then none is open."""
        try:
            listener = self._listen_tcp()
            cookie = secrets.token_urlsafe(COOKIE_BYTES)
            write_whole(self.cookie_path, cookie.encode() + b"\n", durable=False)
            status = await self._node.status()
            self._desk = RpcDesk(
                self._node,
                PeerId.parse(status.peer_id),
                self._paths,
                cookie=cookie,
                swarm=self._config.swarm,
                access=self._config.access,
                audit=self._config.audit,
                unix_ms=self._unix_ms,
            )
            self._warn_if_open()
            unix = self._listen_unix()
            self._servers.append(await asyncio.start_unix_server(self._serve, sock=unix, limit=CHUNK))
            if listener is not None:
                self._servers.append(await asyncio.start_server(self._serve, sock=listener, limit=CHUNK))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening, let calls under way finish for `drain_timeout`, cut the rest. Twice is fine."""
        self._closing = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        for listener in self._listeners:
            listener.close()  # a second time, unless the start failed between the bind and the server
        self._listeners.clear()
        for connection in list(self._connections):
            connection.drain()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._config.connection.drain_timeout)
        for connection in list(self._connections):
            connection.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._config.connection.drain_timeout)
        desk, self._desk = self._desk, None
        if desk is not None:
            await desk.close()
        if self.socket_path is not None:
            self.socket_path.unlink(missing_ok=True)
            self.socket_path = None
            self.cookie_path.unlink(missing_ok=True)
        if self._claims is not None and self._claimed is not None:
            self._claims.release(self._claimed)
            self._claimed = None

    def refuse(self, reason: str) -> None:
        """Count a refusal by its reason."""
        self.refused[reason] += 1
        if self._on_refused is not None:
            self._on_refused(reason)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, desk = asyncio.current_task(), self._desk
        assert task is not None
        if desk is None:  # it came in while the server closed
            writer.transport.abort()
            return
        self._tasks.add(task)
        connection = RpcConnection(
            reader,
            writer,
            desk=desk,
            config=self._config.connection,
            wire=self._config.wire,
            turns=self._turns,
            refuse=self.refuse,
            may_hold=self._may_hold,
        )
        full = self._closing or not self._has_room(connection)
        self._connections[connection] = None
        try:
            if full:
                await connection.turn_away(f"this node serves {self._config.max_clients} clients at a time")
            else:
                await connection.run()
        finally:
            self._connections.pop(connection, None)
            self._tasks.discard(task)

    def _has_room(self, client: RpcConnection) -> bool:
        """Whether one more client fits.

        A stranger makes room: anybody on this machine can connect to TCP and say nothing, and must not keep
        out those who may call. So does a token, for who comes by the socket.
        """
        if len(self._connections) < self._config.max_clients:
            return True
        lowest = min(self._connections, key=lambda other: other.rank)
        if lowest.rank >= max(client.rank, Standing.PROGRAM):
            return False
        self._cut(lowest, "too_many_clients")
        return True

    def _may_hold(self, client: RpcConnection) -> bool:
        """Whether the unfinished lines of all clients fit their common bound; strangers' go first, then those
        of tokens, and the owner's stay."""
        excess = sum(other.pending for other in self._connections) - self._config.max_pending
        lower = [other for other in self._connections if other.pending and other.rank < client.rank]
        for other in sorted(lower, key=lambda other: other.rank):
            if excess <= 0:
                break
            excess -= other.pending
            self._cut(other, "too_many_unfinished")
        return excess <= 0

    def _cut(self, client: RpcConnection, reason: str) -> None:
        self.refuse(reason)
        self._connections.pop(client, None)
        client.abort()

    def _listen_unix(self) -> socket.socket:
        path = self._config.unix_socket or self._paths.socket(self._env)
        make_folder(path.parent)
        if path.exists() and not path.is_socket():
            raise CannotWrite(
                f"{path} is in the way: it is no socket.", hint="Move it away, or change [rpc] socket."
            )
        if path.exists() or path.is_symlink():
            if _answers(path):
                raise PortTaken(
                    f"Another process listens on {path}.", hint="Stop it first: wws leave, or wws status."
                )
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # another user's, say, in a folder for all
                raise writing_failed(path, error) from error
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The mask holds for the whole process, so it is narrowed for the bind alone: no other moment exists
        # at which somebody could connect before the mode is right.
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
            listener.listen(self._config.max_clients)
        except OSError as error:
            listener.close()
            raise writing_failed(path, error) from error
        finally:
            os.umask(mask)
        listener.setblocking(False)
        self._listeners.append(listener)
        self.socket_path = path
        return listener

    def _listen_tcp(self) -> socket.socket | None:
        port, host = self._config.port, self._config.host
        if port is None:
            return None
        if not self._config.port_is_default:
            try:
                return self._bound(host, port)
            except OSError as error:
                raise _port_taken(host, port, error) from error
        self._claims = PortClaims(self._paths.home, self._env)
        for pair in range(self._config.pairs):
            candidate = port + pair * STEP
            self._claims.claim(candidate)
            try:
                listener = self._bound(host, candidate)
            except OSError as error:
                self._claims.release(candidate)
                if error.errno == errno.EADDRINUSE and self._claims.is_ours(candidate):
                    continue
                self._warn_without_tcp(host, candidate, error)
                return None
            self._claimed = candidate
            return listener
        self._warn_without_tcp(host, port, OSError(errno.EADDRINUSE, "every pair of ports is taken"))
        return None

    def _bound(self, host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(self._config.max_clients)
        except BaseException:
            listener.close()
            raise
        listener.setblocking(False)
        self._listeners.append(listener)
        bound_port = listener.getsockname()[1]
        self.tcp_address = f"[{host}]:{bound_port}" if ":" in host else f"{host}:{bound_port}"
        return listener

    def _warn_if_open(self) -> None:
        """Say so when others than this machine can reach TCP: what is written there is not encrypted."""
        if self.tcp_address is not None and not is_loopback(self._config.host):
            _log.warning("rpc_open", address=self.tcp_address)
            self.warnings.append(
                Warned(
                    "rpc_open",
                    f"RPC listens on {self.tcp_address}, where other machines may reach it: tokens and "
                    "answers travel in the clear, and anybody there can register as an agent and read. Use "
                    "--rpc 127.0.0.1:PORT, and SSH from elsewhere.",
                )
            )

    def _warn_without_tcp(self, host: str, port: int, error: OSError) -> None:
        self.warnings.append(
            Warned(
                "rpc_tcp_off",
                f"No RPC on TCP: {host}:{port} cannot be used ({error.strerror or error}). "
                "The unix socket works; --rpc IP:PORT chooses another port.",
            )
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _answers(path: Path) -> bool:
    """Whether somebody listens on the unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as error:
            # A full backlog or no permission means that somebody is there; no socket, that nobody is.
            return error.errno not in (errno.ENOTSOCK, errno.EPROTOTYPE, errno.ELOOP, errno.ENOENT)
    return True


def _port_taken(host: str, port: int, error: OSError) -> PortTaken:
    reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror or error}"
    return PortTaken(
        f"The RPC address {host}:{port} {reason}.",
        hint="Give another one (--rpc IP:PORT), or stop the program that holds it (ss -ltnp).",
    )
