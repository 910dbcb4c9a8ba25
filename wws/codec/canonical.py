"""Canonical JSON by RFC 8785 (JCS), written and strictly read back.

A receiver checks the size first, parses, refuses duplicate keys, fractions, integers beyond 2^53−1 and
deep nesting, serialises again and compares bytes: one value has one encoding, so a signature over bytes
is a signature over the value.

Writing is by the package `rfc8785`. Reading is not, because strangers choose what is read and that package
takes 5 ms for 8 KB of small values: keys are compared as they come, and what is left of the rules is what
`json` writes without spaces and escapes, in C.
"""

from __future__ import annotations

import json
import operator
from typing import NoReturn, TypeAlias, cast

import rfc8785

from wws.errors import ParseError, TooLarge

JsonValue: TypeAlias = "bool | int | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 16

_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_WRITER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def dumps(value: JsonValue) -> bytes:
    """The canonical bytes of `value`. Raises `ValueError` for what JSON cannot hold: a bug of the caller."""
    return rfc8785.dumps(cast("rfc8785._impl._Value", value))


def loads(data: bytes, *, max_bytes: int) -> JsonObject:
    """The object whose canonical encoding is exactly `data`.

    Raises `TooLarge` over `max_bytes`, `ParseError` when the bytes are not the canonical encoding of a
    JSON object (duplicate keys, spaces, other number forms, invalid UTF-8, trailing bytes, nesting over 16).
    """
    if len(data) > max_bytes:
        raise TooLarge(f"JSON of {len(data)} bytes, at most {max_bytes} are accepted")
    _check_depth(data)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object_without_duplicates,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_bounded_integer,
        )
    except UnicodeDecodeError:
        raise ParseError("JSON is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ParseError(f"not JSON: {error.msg} at {error.pos}") from None
    if not isinstance(value, dict):
        raise ParseError("JSON is not an object")
    try:
        # The keys are in order already, which leaves numbers and escapes; both are written as JCS has them.
        again = _WRITER.encode(value).encode("utf-8")
    except ValueError:
        raise ParseError("JSON has no canonical form") from None
    if again != data:
        raise ParseError("JSON is not in canonical form (RFC 8785)")
    return cast(JsonObject, value)


def _check_depth(data: bytes) -> None:
    # Before parsing, so that hostile nesting never reaches the recursive parser. Brackets inside strings
    # count too: that can only refuse more, and no format of ours has strings full of brackets.
    depth = 0
    for byte in data.translate(None, _NOT_BRACKETS):
        if byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ParseError(f"JSON is nested deeper than {MAX_DEPTH}")
        else:
            depth -= 1


def _object_without_duplicates(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ParseError("JSON object has a duplicate key")
    keys = [key if key.isascii() else _utf16(key) for key in result]
    if any(map(operator.gt, keys, keys[1:])):
        raise ParseError("JSON is not in canonical form (RFC 8785): keys are not in order")
    return result


def _utf16(key: str) -> str:
    """A text that compares as the UTF-16 code units of `key` do, each unit made a character."""
    units = key.encode("utf-16-be", "surrogatepass")
    return "".join(chr(int.from_bytes(units[index : index + 2], "big")) for index in range(0, len(units), 2))


def _bounded_integer(text: str) -> int:
    if len(text) > 17 or abs(value := int(text)) > MAX_INTEGER:
        raise ParseError("JSON integer is beyond 2^53-1")
    return value


def _refuse_number(text: str) -> NoReturn:
    raise ParseError(f"JSON number {text[:20]!r} is not an integer")
