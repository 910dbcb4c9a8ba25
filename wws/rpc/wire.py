"""JSON-RPC 2.0, one JSON value a line: from bytes to requests and from answers to bytes.

`LineSplitter` turns a byte stream into lines, `parse_line` a line into requests, `encode` an answer
into a line. Bounded before anything is parsed: length of a line, depth of nesting, size of a batch.

A line that is no JSON-RPC value at all raises `NotJsonRpc`, and the caller ends the connection: the
first line of an HTTP request is one, so that no web page can smuggle a call through a browser.
A line that is one but says something wrong becomes an `Invalid` that is answered; the connection
goes on. Source: jsonrpc.org/specification; contract, section 6.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from wws.errors import ParseError, RemoteProtocolError
from wws.rpc.api import Json
from wws.rpc.codes import INVALID_REQUEST, PARSE_ERROR
from wws.rpc.signed import Signed

RequestId: TypeAlias = "str | int | None"
MALFORMED_SIGNED: Final = "malformed_signed_request"
"""The word for a request with some, but not all and only, of the members of a signed one."""

_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")


@dataclass(frozen=True, slots=True)
class WireConfig:
    """Bounds of the line protocol."""

    max_line: int = 2 * 1024 * 1024
    """Bytes in a line, its end not counted."""
    max_depth: int = 64
    """Arrays and objects inside one another."""
    max_values: int = 50_000
    """Arrays, objects and commas in a line: a line of 2 MiB full of them takes half a second to parse."""
    max_batch: int = 100
    """Requests in a batch."""


class NotJsonRpc(RemoteProtocolError):
    """The line is not a JSON-RPC value; the connection ends here."""

    code = "parse_error"
    number = PARSE_ERROR


class LineTooLong(NotJsonRpc):
    """The line is longer than a line may be."""

    code = "line_too_long"


class TooDeep(NotJsonRpc):
    """The value is nested deeper than a request may be."""

    code = "too_deep"


class TooManyValues(NotJsonRpc):
    """The line holds more values than a request may."""

    code = "too_many_values"


class BatchTooLarge(RemoteProtocolError):
    """The batch holds more requests than a batch may."""

    code = "batch_too_large"


@dataclass(frozen=True, slots=True)
class Request:
    """One call. Without an id it is a notification: it is carried out and not answered."""

    method: str
    params: Json
    id: RequestId
    is_notification: bool
    token: str | None
    """The member `token` beside `method`: the cookie or the secret of a token, on TCP."""
    signed: Signed | None = None
    """The signature of an agent, when there is one."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """A JSON-RPC value that is not a valid request; answered with -32600."""

    reason: str
    code: str = "invalid_request"
    id: RequestId = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Several requests in one line, answered in one line."""

    entries: tuple[Request | Invalid, ...]


class LineSplitter:
    """Bytes in, whole lines out; never holds more than one line of the longest kind."""

    def __init__(self, config: WireConfig) -> None:
        self._config = config
        self._pending = bytearray()

    @property
    def pending(self) -> int:
        """Bytes of the line that has not ended yet."""
        return len(self._pending)

    def beginning(self, size: int) -> bytes:
        """The first bytes of the line that has not ended yet."""
        return bytes(self._pending[:size])

    def receive_data(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete, without their ends. Raises `LineTooLong`."""
        searched = len(self._pending)
        self._pending += data
        end = self._pending.find(b"\n", searched)
        lines: list[bytes] = []
        start = 0
        while end >= 0:
            lines.append(self._checked(bytes(self._pending[start:end])))
            start = end + 1
            end = self._pending.find(b"\n", start)
        del self._pending[:start]
        if len(self._pending) > self._config.max_line:
            raise LineTooLong(f"a line has at most {self._config.max_line} bytes")
        return lines

    def receive_end(self) -> bytes | None:
        """The last line, when the stream ended without a line feed."""
        line = bytes(self._pending)
        self._pending.clear()
        return line or None

    def _checked(self, line: bytes) -> bytes:
        if len(line) > self._config.max_line:
            raise LineTooLong(f"a line has at most {self._config.max_line} bytes")
        return line


def parse_line(line: bytes, config: WireConfig) -> Request | Invalid | Batch:
    """What the line asks for. Raises `NotJsonRpc` when it is no JSON-RPC value."""
    value = _load(line, config)
    if isinstance(value, list):
        if not value:
            return Invalid("an empty batch")
        if len(value) > config.max_batch:
            reason = f"{len(value)} requests in a batch, at most {config.max_batch}"
            return Invalid(reason, code=BatchTooLarge.code)
        return Batch(tuple(_entry(member) for member in value))
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise NotJsonRpc('not a JSON-RPC 2.0 value: no member "jsonrpc" that says "2.0"')
    return _entry(value)


def encode(value: Json) -> bytes:
    """One line of ASCII, its end included."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def success(request_id: RequestId, result: Json) -> Json:
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def failure(request_id: RequestId, number: int, message: str, data: Mapping[str, Json]) -> Json:
    """An error answer; `data` holds at least `code`, the stable word."""
    return {
        "jsonrpc": "2.0",
        "id": request_id,
        "error": {"code": number, "message": message, "data": dict(data)},
    }


def failure_of(invalid: Invalid) -> Json:
    return failure(invalid.id, INVALID_REQUEST, invalid.reason, {"code": invalid.code, "hint": ""})


def depth_within(line: bytes, limit: int) -> bool:
    """Whether no array or object lies deeper than `limit`; unbalanced brackets count as too deep.

    Strings are cut out, all brackets made one kind, and innermost pairs taken away once a level:
    each pass runs in C, so that neither a deep nor a long line costs more than its length times `limit`.
    """
    return _depth_within(_STRING.sub(b"", line), limit)


def _depth_within(without_texts: bytes, limit: int) -> bool:
    brackets = without_texts.translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(limit):
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    return not brackets


def _load(line: bytes, config: WireConfig) -> Json:
    # First what costs least: each text has two quotes, and those within a text have a backslash before them.
    if line.count(b'"') - line.count(b'\\"') > 4 * config.max_values:
        raise TooManyValues(f"more than {config.max_values} values")
    without_texts = _STRING.sub(b"", line)
    if sum(map(without_texts.count, (b",", b"[", b"{"))) > config.max_values:
        raise TooManyValues(f"more than {config.max_values} values")
    if not _depth_within(without_texts, config.max_depth):
        raise TooDeep(f"not JSON, or nested deeper than {config.max_depth}")
    try:
        value: Json = json.loads(line.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except ValueError as error:
        raise NotJsonRpc(f"not JSON: {error}"[:200]) from None
    return value


def _entry(value: Json) -> Request | Invalid:
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return Invalid('not an object with "jsonrpc": "2.0"')
    raw_id = value.get("id")
    if isinstance(raw_id, bool) or not (raw_id is None or isinstance(raw_id, (str, int))):
        return Invalid("id must be a text, an integer or null")
    method, params, token = value.get("method"), value.get("params"), value.get("token")
    if not isinstance(method, str):
        return Invalid("method must be a text", id=raw_id)
    if "params" in value and not isinstance(params, (dict, list)):
        return Invalid("params must be an object or an array", id=raw_id)
    if token is not None and not isinstance(token, str):
        return Invalid("token must be a text", id=raw_id)
    try:
        signed = Signed.parse(value)
    except ParseError as error:
        return Invalid(str(error), code=MALFORMED_SIGNED, id=raw_id)
    return Request(method, params, raw_id, is_notification="id" not in value, token=token, signed=signed)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
