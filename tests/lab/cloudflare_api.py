"""Stands in for api.cloudflare.com, version 4, as far as zones and DNS records go.

    with CloudflareApi("boot.test") as api:
        provider = CloudflareProvider("boot.test", token=api.token, config=CloudflareConfig(base_url=api.url))
        api.fail(Fault(503, 10002, "Service unavailable"))

The shapes are the service's own: the envelope, `result_info`, error codes and their words, TXT content that
is kept as it was sent when it stands without quotes and is cut into strings of 255 when it has them, batches
in one transaction (deletes, patches, puts, posts, in this order), pages that may be shorter than asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

_ROOT = "/client/v4"
_JSON = {"content-type": "application/json"}
_HTML = {"content-type": "text/html; charset=UTF-8"}
_PAGE = b"<html><head><title>Error</title></head><body>cloudflare</body></html>"
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

Outcome = tuple[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request goes wrong."""

    status: int = 0
    """HTTP status of the answer; 0: the connection is cut."""
    code: int = 10_000
    message: str = "Something went wrong"
    headers: dict[str, str] = field(default_factory=dict)
    when: Literal["before", "after"] = "before"
    """Whether the request takes effect although its answer says it did not."""
    html: bool = False
    """A page in place of JSON, as the service's own edge sends it."""
    silent: bool = False
    """No answer until the server is left."""


class Refused(Exception):
    """A request is answered with an error."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class CloudflareApi:
    """Entered, it listens on a free port of loopback; left, nothing of it runs."""

    def __init__(self, *zones: str, max_page: int = 100) -> None:
        self.token = "v1-" + hashlib.sha256(b"token of alice").hexdigest()[:37]
        self.zones = {_identifier(zone): zone for zone in zones}
        self.may_write = True
        self.max_page = max_page
        """Longest page, whatever is asked for."""
        self.records: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        """Method and path of every request, in their order."""
        self._faults: deque[tuple[str, Fault | None]] = deque()
        self._made = 0
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{_ROOT}"

    def fail(self, *faults: Fault, method: str = "", passing: int = 0) -> None:
        """Let the next requests (of this method) go wrong, one by one, after so many that pass."""
        self._faults.extend((method, None) for _ in range(passing))
        self._faults.extend((method, fault) for fault in faults)

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()

    def put(self, name: str, kind: str, content: str, ttl: int = 300, **members: Any) -> str:
        """Have a record, as its content stands in the service's store; the record's id is returned."""
        record = self._made_from({"name": name, "type": kind, "content": content, "ttl": ttl}) | members
        self.records[record["id"]] = record
        return str(record["id"])

    def contents(self, name: str, kind: str = "TXT") -> list[str]:
        return [
            record["content"]
            for record in self.records.values()
            if (record["name"], record["type"]) == (name, kind)
        ]

    def __enter__(self) -> CloudflareApi:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    # What the service does

    def answer(self, method: str, target: str, token: str | None, body: dict[str, Any]) -> Outcome:
        """Status and envelope for one request."""
        try:
            return 200, self._result(method, target, token, body)
        except Refused as refused:
            return refused.status, _failure(refused.code, str(refused))

    def _result(self, method: str, target: str, token: str | None, body: dict[str, Any]) -> dict[str, Any]:
        url = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if token is None:
            raise Refused(400, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
        if not re.fullmatch(r"[A-Za-z0-9_-]{40}", token):
            raise Refused(400, 6003, "Invalid request headers")
        if token != self.token:
            raise Refused(403, 9109, "Invalid access token")
        parts = url.path.removeprefix(f"{_ROOT}/").split("/")
        match method, parts:
            case "GET", ["zones"]:
                found = [
                    {"id": key, "name": name, "status": "active", "paused": False, "type": "full"}
                    for key, name in self.zones.items()
                    if query.get("name") in (None, name)
                ]
                return self._page(found, query)
            case _, ["zones", zone, "dns_records", *rest] if zone in self.zones:
                if method != "GET" and not self.may_write:
                    raise Refused(403, 10_000, "Authentication error")
                return self._records_of(method, self.zones[zone], rest, query, body)
        raise Refused(404, 7003, f"Could not route to {url.path}, perhaps your object identifier is invalid?")

    def _records_of(
        self, method: str, zone: str, rest: list[str], query: dict[str, str], body: dict[str, Any]
    ) -> dict[str, Any]:
        match method, rest:
            case "GET", []:
                wanted = {
                    "name": query.get("name.exact", query.get("name")),
                    "type": query.get("type"),
                    "content": query.get("content.exact"),
                }
                found = [
                    record
                    for record in self.records.values()
                    if all(value in (None, record[key]) for key, value in wanted.items())
                ]
                return self._page(found, query)
            case "POST", ["batch"]:
                return _success(self._batch(zone, body))
            case "POST", []:
                return _success(self._create(self.records, zone, body))
            case "PATCH", [key]:
                return _success(self._edit(self.records, zone, {**body, "id": key}))
            case "DELETE", [key]:
                self._delete(self.records, key)
                return _success({"id": key})
        raise Refused(405, 10_405, "Method not allowed for this authentication scheme")

    def _batch(self, zone: str, body: dict[str, Any]) -> dict[str, Any]:
        records = {key: dict(record) for key, record in self.records.items()}
        deleted = [self._delete(records, entry["id"]) for entry in body.get("deletes") or ()]
        patched = [self._edit(records, zone, entry) for entry in body.get("patches") or ()]
        posted = [self._create(records, zone, entry) for entry in body.get("posts") or ()]
        self.records = records  # all of it or none
        return {"deletes": deleted, "patches": patched, "puts": [], "posts": posted}

    def _create(self, records: dict[str, dict[str, Any]], zone: str, body: dict[str, Any]) -> dict[str, Any]:
        _check(zone, body)
        record = self._made_from(body)
        if any(_same(record, other) for other in records.values()):
            raise Refused(400, 81_058, "An identical record already exists.")
        if (
            sum(len(other["content"]) for other in records.values() if other["name"] == record["name"])
            > 8_192
        ):
            raise Refused(400, 81_059, "The combined content of records with this name is too long.")
        records[record["id"]] = record
        return record

    def _edit(self, records: dict[str, dict[str, Any]], zone: str, body: dict[str, Any]) -> dict[str, Any]:
        record = self._existing(records, body["id"])
        changed = {**record, **body}
        _check(zone, changed)
        records[record["id"]] = changed
        return changed

    def _delete(self, records: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
        record = self._existing(records, key)
        if record["meta"].get("read_only"):
            raise Refused(400, 1_043, "This record is managed by Email Routing and cannot be changed.")
        return records.pop(key)

    @staticmethod
    def _existing(records: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
        if key not in records:
            raise Refused(404, 81_044, "Record does not exist.")
        return records[key]

    def _made_from(self, body: dict[str, Any]) -> dict[str, Any]:
        self._made += 1
        kind = body["type"]
        return {
            "id": _identifier(f"record {self._made}"),
            "name": body["name"].lower(),
            "type": kind,
            "content": _kept(body["content"]) if kind == "TXT" else body["content"],
            "proxiable": kind in ("A", "AAAA"),
            "proxied": bool(body.get("proxied")),
            "ttl": body["ttl"],
            "settings": {},
            "meta": {},
            "comment": body.get("comment"),
            "tags": [],
            "created_on": "2026-11-21T12:00:00.000000Z",
            "modified_on": "2026-11-21T12:00:00.000000Z",
        }

    def _page(self, found: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        page = int(query.get("page", 1))
        size = min(int(query.get("per_page", 20)), self.max_page)
        shown = found[(page - 1) * size : page * size]
        info = {
            "page": page,
            "per_page": size,
            "count": len(shown),
            "total_count": len(found),
            "total_pages": -(-len(found) // size),
        }
        return {**_success(shown), "result_info": info}

    # How it is spoken to

    def _next_fault(self, method: str) -> Fault | None:
        if self._faults and self._faults[0][0] in ("", method):
            return self._faults.popleft()[1]
        return None

    def _handler(api) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler's own self is below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65_536  # head and body in one piece: in two, each answer waits for an acknowledgement

            def _serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                scheme, _, token = self.headers.get("authorization", "").partition(" ")
                given = token if scheme == "Bearer" else None
                with api._lock:
                    api.requests.append(f"{self.command} {urlsplit(self.path).path.removeprefix(_ROOT)}")
                    fault = api._next_fault(self.command)
                    outcome = None
                    if fault is None or fault.when == "after":
                        outcome = api.answer(self.command, self.path, given, body)
                if fault is None and outcome is not None:
                    self._send(outcome[0], json.dumps(outcome[1]).encode(), _JSON)
                elif fault is not None and fault.silent:
                    api._left.wait(60)
                    self.close_connection = True
                elif fault is not None and fault.status == 0:
                    self.close_connection = True
                elif fault is not None:
                    failure = json.dumps(_failure(fault.code, fault.message)).encode()
                    content, kind = (_PAGE, _HTML) if fault.html else (failure, _JSON)
                    self._send(fault.status, content, {**kind, **fault.headers})

            do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

            def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.send_header("cf-ray", "8f00000000000000-FRA")
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's word
                """Say nothing: `requests` has it."""

        return Handler


def _check(zone: str, body: dict[str, Any]) -> None:
    name, ttl = body["name"].lower(), body["ttl"]
    if name != zone and not name.endswith(f".{zone}"):
        raise Refused(400, 9_000, "DNS name is invalid.")
    if ttl != 1 and not 60 <= ttl <= 86_400:
        raise Refused(400, 9_021, "TTL must be between 60 and 86400 seconds, or 1 for Automatic.")
    if body["type"] == "A" and not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", body["content"]):
        raise Refused(400, 9_005, "Content for A record must be a valid IPv4 address.")


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the service takes them for the same record: it does not look at the time to live."""
    return all(one[key] == other[key] for key in ("name", "type", "content"))


def _kept(content: str) -> str:
    """TXT content as it is kept: cut into strings of 255 bytes when it is quoted, else as it is."""
    if not content.startswith('"'):
        return content
    whole = "".join(_QUOTED.findall(content))
    pieces: list[str] = []
    piece, length = "", 0
    for unit in re.findall(r"\\[0-9]{3}|\\.|[^\\]", whole):
        if length == 255:
            pieces.append(piece)
            piece, length = "", 0
        piece, length = piece + unit, length + 1
    return " ".join(f'"{part}"' for part in [*pieces, piece])


def _identifier(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _success(result: object) -> dict[str, Any]:
    return {"result": result, "success": True, "errors": [], "messages": []}


def _failure(code: int, message: str) -> dict[str, Any]:
    return {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}
