"""An HTTPS server on loopback with a CA of its own, which serves a folder or misbehaves as a test asks."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme

CHUNK = 64 * 1024


class Handler(http.server.SimpleHTTPRequestHandler):
    """One request. `begin` and `body` are for the answers of tests."""

    owner: Server
    timeout = 60

    def do_GET(self) -> None:
        self.owner.asked.append(self.path)
        answer = self.owner.answer_for(self.path)
        try:
            if answer is None:
                super().do_GET()
            else:
                answer(self)
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True

    def begin(self, status: int, **headers: str | int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """`asked` has them."""


Answer = Callable[[Handler], None]


def status(code: int) -> Answer:
    return lambda request: request.begin(code, Content_Length=0)


def content(data: bytes) -> Answer:
    def answer(request: Handler) -> None:
        request.begin(200, Content_Length=len(data))
        request.wfile.write(data)

    return answer


def redirect(url: str) -> Answer:
    return lambda request: request.begin(302, Location=url, Content_Length=0)


def cut(data: bytes, at: int) -> Answer:
    """Ends in the middle of what was announced."""

    def answer(request: Handler) -> None:
        request.begin(200, Content_Length=len(data))
        request.wfile.write(data[:at])
        request.close_connection = True

    return answer


def endless(request: Handler) -> None:
    """A body without an end and without a length."""
    request.begin(200)
    while not request.owner.stopping.is_set():
        request.wfile.write(bytes(CHUNK))


def stalled(request: Handler) -> None:
    """Begins, and says nothing more until the server is stopped."""
    request.begin(200, Content_Length=1000)
    request.wfile.write(b"wws")
    request.owner.stopping.wait(60)


def trickling(request: Handler) -> None:
    """A body that takes a quarter of a minute, and is at no time slow enough to be called stalled."""
    request.begin(200, Content_Length=15_000)
    for _ in range(150):
        request.owner.stopping.wait(0.1)
        request.wfile.write(bytes(100))


def once(first: Answer) -> Answer:
    """This at first, the file from then on."""
    answers = [first]

    def answer(request: Handler) -> None:
        if answers:
            answers.pop()(request)
        else:
            http.server.SimpleHTTPRequestHandler.do_GET(request)

    return answer


@dataclass
class Gate:
    """Holds a request until the test opens it."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    data: bytes = b""
    """What is served of the body before it is held; nothing: the file itself, after it was opened."""

    def __call__(self, request: Handler) -> None:
        if self.data:
            request.begin(200, Content_Length=2 * len(self.data))
            request.wfile.write(self.data)
            request.wfile.flush()
        self.reached.set()
        self.opened.wait(60)
        if not self.data:
            http.server.SimpleHTTPRequestHandler.do_GET(request)


@dataclass
class Server:
    """Serves `folder`; `answers` has what is answered otherwise, by the end of the path."""

    folder: Path
    certificate: trustme.LeafCert
    secure: bool = True
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def _server(self) -> http.server.ThreadingHTTPServer:
        def handler(*arguments: Any) -> Handler:
            made = type("Bound", (Handler,), {"owner": self})
            return made(*arguments, directory=str(self.folder))

        server = _Quiet(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        if self.secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # BusyBox cannot do better
            self.certificate.configure_cert(context)
            # The handshake belongs to the thread of the request, not to the one that accepts.
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        return server

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self._server.server_port}"

    def answer_for(self, path: str) -> Answer | None:
        return next((answer for end, answer in self.answers.items() if path.endswith(end)), None)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what many of these tests are about."""
