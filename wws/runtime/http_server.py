"""HTTP for health, metrics and the status page, on the loopback (contract section 7).

h11 parses: it is strict, bounded, does no I/O, and comes with dnspython's DNS over HTTPS anyway. Ours is the
strictness around it, which no small server gives as a whole: GET and HEAD only; exactly one `Host`, a name of
the loopback or one that was allowed (so a rebound DNS name reaches nothing); no `Origin` but our own (so no
web page can ask); no body, one request a connection, one deadline for all of it; each refusal counted.

    connected ──► head read ──► checked ──► page ──► answered ──► closed
        '───────────┴──────────────┴── refused (counted) ──────────┘
"""

from __future__ import annotations

import asyncio
import errno
import http
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import h11

from wws.runtime.logs import logger
from wws.runtime.machine_errors import MachineError, PortTaken

_log = logger("http")

POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""The part of the content security policy that holds for every page."""

SECURITY_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; {POLICY}",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer, refusals included; a page may replace the policy by its own."""

_LOOPBACK4 = ipaddress.IPv4Network("127.0.0.0/8")
_LOOPBACK6 = ipaddress.IPv6Address("::1")
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?\Z")


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The bounds of the HTTP server."""

    hosts: tuple[str, ...] = ()
    """Values of `Host` to accept beside the names of the loopback, with or without a port."""
    clients: int = 64
    """Connections at a time; over it the oldest one is closed, so that who says nothing keeps nobody out."""
    request: int = 8192
    """Bytes of a request's head."""
    timeout: float = 10.0
    """Seconds from the connection to the last byte of the answer; a silent client is gone by then."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page answers."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Page = Callable[[], Awaitable[Answer]]


class Refused(Exception):
    """A request that is not served. `reason` is the word that is counted."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class HttpServer:
    """Serves `pages`, by path. `on_refused` is told the reason of each refusal, once each."""

    def __init__(
        self, pages: Mapping[str, Page], config: HttpConfig, on_refused: Callable[[str], None]
    ) -> None:
        self._pages = dict(pages)
        self._config = config
        self._on_refused = on_refused
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        """The oldest first."""

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return where. Raises `PortTaken`, `MachineError`."""
        try:
            self._server = await asyncio.start_server(
                self._connected, host, port, limit=self._config.request, backlog=self._config.clients
            )
        except OSError as error:
            where = f"{host}:{port}"
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(
                    f"The HTTP address {where} is taken.", hint="Choose another: --http IP:PORT"
                ) from error
            raise MachineError(f"Cannot listen for HTTP on {where}: {error.strerror or error}.") from error
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        """Stop listening and drop the clients. Doing it twice is harmless."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        clients = list(self._clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    def replace_hosts(self, hosts: tuple[str, ...]) -> None:
        """Accept these values of `Host` from now on, beside the names of the loopback."""
        self._config = replace(self._config, hosts=hosts)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= self._config.clients:
            self._on_refused("clients")
            oldest = next(iter(self._clients))
            # Aborted here, because a task that is cancelled before its first step closes nothing.
            self._clients.pop(oldest).transport.abort()
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients[task] = writer
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._clients.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours: the client sees a closed connection, the log says why.
            _log.error("http_page_failed", exc_info=error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._config.timeout):
                await self._converse(reader, writer)
        except TimeoutError:
            self._on_refused("timeout")
            writer.transport.abort()
        except OSError:
            pass  # the client has gone: nobody is left to tell
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=self._config.request + 1)
        is_head = False
        try:
            request = await self._read_head(connection, reader)
            if request is None:
                return
            is_head = request.method == b"HEAD"
            answer = await self._page(request)()
        except Refused as refused:
            self._on_refused(refused.reason)
            answer = Answer(f"{refused.reason}\n".encode(), status=refused.status, headers=refused.headers)
        writer.write(_encode(connection, answer, is_head=is_head))
        await writer.drain()

    async def _read_head(
        self, connection: h11.Connection, reader: asyncio.StreamReader
    ) -> h11.Request | None:
        """The request, or `None` when the client leaves without one. Raises `Refused`."""
        room = self._config.request
        try:
            while (event := connection.next_event()) is h11.NEED_DATA:
                if room == 0:
                    raise Refused(431, "too_large")
                data = await reader.read(room)
                room -= len(data)
                connection.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, "malformed") from None
        return event if isinstance(event, h11.Request) else None

    def _page(self, request: h11.Request) -> Page:
        """The page that is asked for. Raises `Refused` unless all about the request is as it must be."""
        headers = [(bytes(name), bytes(value)) for name, value in request.headers]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._host_allowed(hosts[0]):
            raise Refused(421, "host")
        if any(value != b"http://" + hosts[0] for name, value in headers if name == b"origin"):
            raise Refused(403, "origin")
        if request.method not in (b"GET", b"HEAD"):
            raise Refused(405, "method", Allow="GET, HEAD")
        framing = [value for name, value in headers if name in (b"content-length", b"transfer-encoding")]
        if any(value != b"0" for value in framing):
            raise Refused(400, "body")
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        page = self._pages.get(path)
        if page is None:
            raise Refused(404, "path")
        return page

    def _host_allowed(self, value: bytes) -> bool:
        match = _HOST.match(value)
        if match is None or int(match[2] or 0) > 65535:
            return False
        name, whole = match[1].decode().lower(), value.decode().lower()
        if name == "localhost" or any(allowed.lower() in (name, whole) for allowed in self._config.hosts):
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        # Nothing that only looks like it: "[127.0.0.1]", "::1" without brackets, IPv4 within IPv6.
        if name.startswith("["):
            return address == _LOOPBACK6
        return address in _LOOPBACK4


def _encode(connection: h11.Connection, answer: Answer, *, is_head: bool) -> bytes:
    """The whole answer. `Connection: close`: one request a connection leaves nothing to smuggle."""
    headers = {
        **SECURITY_HEADERS,
        **answer.headers,
        "Content-Type": answer.content_type,
        "Content-Length": str(len(answer.body)),
        "Connection": "close",
    }
    reason = http.HTTPStatus(answer.status).phrase
    head = h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason)
    parts = [connection.send(head)]
    if not is_head:
        parts.append(connection.send(h11.Data(data=answer.body)))
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)
