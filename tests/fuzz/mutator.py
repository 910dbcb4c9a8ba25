"""Damage by the million: valid examples, changed a little, in the ways that parsers trip over.

All choices come from one seeded generator, so a run can be repeated exactly. Every case is made by one to
three steps; most steps know nothing of what they change (bits, cuts, splices, numbers in any width, repeated
chunks), the others know the form: members of JSON, fields of protobuf, words of text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import TypeAlias

from tests.fuzz.target import Form
from wws.codec import protobuf
from wws.errors import ParseError

Step: TypeAlias = Callable[[bytes], bytes]

MAX_CASE = 16 * 1024
"""Where growing ends; the largest inputs are another pass."""

_NUMBERS = [
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
]
_NUMBER_BYTES = [
    n.to_bytes(w, order) for n in _NUMBERS for w in (1, 2, 4, 8) if n < 256**w for order in ("big", "little")
]
_VARINTS = [
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\x80\x01",
    b"\x80\x00",
    b"\xff\xff\x03",
    b"\xff" * 8 + b"\x7f",
    b"\xff" * 9 + b"\x01",
    b"\x80" * 10,
    b"\xff" * 12,
]
_NUMBER_TEXTS = [
    b"-1",
    b"-0",
    b"0",
    b"00",
    b"1.0",
    b"1e3",
    b"1E400",
    b"0x10",
    b"+1",
    b"NaN",
    b"Infinity",
    b"9007199254740991",
    b"9007199254740992",
    b"18446744073709551616",
    b"1" * 400,
    b"9" * 5000,
    b"1e-9",
    b"\xd9\xa3",
    b"65536",
    b"4294967296",
]
_WORDS = [
    "\u0430lice",
    "\u00df",
    "\u0131",
    "\u212a",
    "\ufeff",
    "\u202e",
    "\U0001f41d",
    "\u0000",
    "\n",
    "\r\n",
    "\x7f",
    "e\u0301",
    "a" * 300,
    "%00",
    "%s",
    "{}",
    "../..",
    "$(id)",
    "'",
    '"',
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "[",
    "{",
    ";",
    ",",
    "=",
    ":",
    "@",
    "/",
    " ",
]
_PIECES = [word.encode() for word in _WORDS] + [b"\xed\xa0\x80", b"\xc0\xaf", b"\xff\xfe", b"\xf5", b"\x80"]
_VALUES: list[object] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**53 - 1,
    2**53,
    2**63,
    2**64,
    "",
    "a",
    "\u0430lice",
    "x" * 600,
    "\x00",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"": 0},
    [0] * 40,
    "0",
    "1",
    "did",
    -(2**53) + 1,
    10**30,
    {"v": 1},
    [[[[[[]]]]]],
]
_SEPARATORS = b" ,;:/=@.#[]{}\"'\n\r\t|?&-+"
_DIGITS = frozenset(b"0123456789")


class Mutator:
    """An endless source of cases from one corpus."""

    def __init__(self, corpus: Sequence[bytes], form: Form, seed: str) -> None:
        self._corpus = list(corpus)
        self._random = random.Random(seed)
        self._trees: dict[bytes, object] = {}
        self._fields: dict[bytes, list[protobuf.Field]] = {}
        plain: list[Step] = [
            self._flip,
            self._flip,
            self._flip,
            self._set_byte,
            self._insert,
            self._delete,
            self._truncate,
            self._repeat,
            self._splice,
            self._number,
            self._swap,
        ]
        shaped: dict[Form, list[Step]] = {
            Form.BYTES: [self._number, self._varint, self._repeat],
            Form.TEXT: [self._piece, self._digits, self._word, self._word_twice, self._piece, self._digits],
            Form.JSON: [*[self._member] * 8, self._digits, self._twice, self._nest, self._piece],
            Form.PROTOBUF: [self._field, self._field, self._field, self._varint],
        }
        self._steps = plain + shaped[form]

    def next(self) -> bytes:
        """One case."""
        rng = self._random
        data = self._corpus[int(rng.random() * len(self._corpus))]
        steps = self._steps
        count = len(steps)
        chance = rng.random()
        if chance < 0.01:
            return data
        data = steps[int(rng.random() * count)](data)
        if chance < 0.35:
            data = steps[int(rng.random() * count)](data)
            if chance < 0.1:
                data = steps[int(rng.random() * count)](data)
        return data if len(data) <= MAX_CASE else data[:MAX_CASE]

    def largest(self, limit: int) -> bytes:
        """A case of about `limit` bytes: one example, or a part of one, over and over."""
        rng = self._random
        data = self._corpus[int(rng.random() * len(self._corpus))] or b"\x00"
        start, end = self._range(data)
        part = data[start:end] or data[:1]
        grown = data[:start] + part * (limit // len(part) + 1) + data[end:]
        cut = grown[:limit]
        return cut if rng.random() < 0.5 else cut[: max(0, limit - (len(data) - end))] + data[end:]

    # Steps that know no form

    def _at(self, data: bytes) -> int:
        return int(self._random.random() * len(data))

    def _range(self, data: bytes) -> tuple[int, int]:
        start = int(self._random.random() * (len(data) + 1))
        length = int(self._random.random() ** 3 * (len(data) - start + 1))
        return start, start + length

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return b"\x01"
        at = self._at(data)
        changed = bytearray(data)
        changed[at] ^= 1 << int(self._random.random() * 8)
        return bytes(changed)

    def _set_byte(self, data: bytes) -> bytes:
        if not data:
            return b"\xff"
        at = self._at(data)
        return data[:at] + bytes((int(self._random.random() * 256),)) + data[at + 1 :]

    def _insert(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + self._random.randbytes(1 + int(self._random.random() ** 4 * 40)) + data[at:]

    def _delete(self, data: bytes) -> bytes:
        start, end = self._range(data)
        return data[:start] + data[end:]

    def _truncate(self, data: bytes) -> bytes:
        return data[: self._at(data)]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._range(data)
        times = 2 if self._random.random() < 0.9 else 1 + int(self._random.random() * 60)
        return data[:start] + data[start:end] * times + data[end:]

    def _splice(self, data: bytes) -> bytes:
        other = self._corpus[int(self._random.random() * len(self._corpus))]
        return data[: self._at(data)] + other[self._at(other) :]

    def _number(self, data: bytes) -> bytes:
        """A number in some width over whatever stands there: often a length that lies."""
        number = _NUMBER_BYTES[int(self._random.random() * len(_NUMBER_BYTES))]
        at = self._at(data)
        return data[:at] + number + data[at + len(number) :]

    def _swap(self, data: bytes) -> bytes:
        start, end = self._range(data)
        middle = (start + end) // 2
        return data[:start] + data[middle:end] + data[start:middle] + data[end:]

    def _varint(self, data: bytes) -> bytes:
        varint = _VARINTS[int(self._random.random() * len(_VARINTS))]
        at = self._at(data)
        return data[:at] + varint + data[at + (self._random.random() < 0.7) :]

    # Steps of text

    def _piece(self, data: bytes) -> bytes:
        at = self._at(data)
        piece = _PIECES[int(self._random.random() * len(_PIECES))]
        return data[:at] + piece + data[at + (self._random.random() < 0.5) :]

    def _digits(self, data: bytes) -> bytes:
        """Another number in place of one that stands there."""
        at = start = self._at(data)
        while start < len(data) and data[start] not in _DIGITS:
            start += 1
        end = start
        while end < len(data) and data[end] in _DIGITS:
            end += 1
        text = _NUMBER_TEXTS[int(self._random.random() * len(_NUMBER_TEXTS))]
        return data[:start] + text + data[end:] if end > start else data[:at] + text + data[at:]

    def _between(self, data: bytes) -> tuple[int, int]:
        """Where a word begins and ends: what stands between two separators."""
        at = end = self._at(data)
        while at > 0 and data[at - 1] not in _SEPARATORS:
            at -= 1
        while end < len(data) and data[end] not in _SEPARATORS:
            end += 1
        return at, end

    def _word(self, data: bytes) -> bytes:
        """Another word, or none."""
        start, end = self._between(data)
        other = self._corpus[int(self._random.random() * len(self._corpus))]
        first, last = self._between(other)
        word = b"" if self._random.random() < 0.3 else other[first:last]
        return data[:start] + word + data[end:]

    def _word_twice(self, data: bytes) -> bytes:
        start, end = self._between(data)
        times = 2 if self._random.random() < 0.9 else 40
        return data[:start] + data[start : end + 1] * times + data[end + 1 :]

    # Steps of JSON

    def _member(self, data: bytes) -> bytes:
        """Another value of a member, a member less or one more; written as canonical JSON is."""
        tree = self._tree(data)
        if tree is None:
            return self._flip(data)
        changed = self._changed(tree)
        try:
            return json.dumps(changed, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
        except (ValueError, TypeError):  # a lone surrogate
            return json.dumps(changed, separators=(",", ":"), ensure_ascii=True).encode()

    def _tree(self, data: bytes) -> object:
        if data not in self._trees:
            if len(self._trees) > 512:
                self._trees.clear()
            try:
                self._trees[data] = json.loads(data)
            except (ValueError, RecursionError):
                self._trees[data] = None
        return self._trees[data]

    def _changed(self, value: object) -> object:
        rng = self._random
        if isinstance(value, dict) and value and rng.random() < 0.93:
            keys = list(value)
            key = keys[int(rng.random() * len(keys))]
            chance = rng.random()
            if chance < 0.08:
                return {name: member for name, member in value.items() if name != key}
            if chance < 0.14:
                return {**value, ("x" if chance < 0.11 else key + "\u0430"): value[key]}
            if chance < 0.2:
                return {**value, key: value[keys[int(rng.random() * len(keys))]]}
            return {**value, key: self._changed(value[key])}
        if isinstance(value, list) and value and rng.random() < 0.9:
            index = int(rng.random() * len(value))
            chance = rng.random()
            if chance < 0.1:
                return value[:index] + value[index + 1 :]
            if chance < 0.25:
                return value[:index] + [value[index]] * (2 if chance < 0.2 else 30) + value[index + 1 :]
            return [*value[:index], self._changed(value[index]), *value[index + 1 :]]
        if isinstance(value, int) and rng.random() < 0.5:
            return value + rng.choice((-1, 1, -86_401, 86_401, 2**53))
        if isinstance(value, str) and rng.random() < 0.6:
            return self._piece(self._flip(value.encode("utf-8", "surrogatepass"))).decode("utf-8", "replace")
        return _VALUES[int(rng.random() * len(_VALUES))]

    def _twice(self, data: bytes) -> bytes:
        """A member that stands twice, or a comma too many."""
        at = data.find(b",", self._at(data))
        end = data.find(b",", at + 1)
        return data[:end] + data[at:end] + data[end:] if 0 <= at < end else data + b","

    def _nest(self, data: bytes) -> bytes:
        depth = (2, 17, 65, 1_000, 7_000)[int(self._random.random() ** 2 * 5)]
        kind = self._random.random()
        if kind < 0.4:
            return b"[" * depth + data + b"]" * depth
        if kind < 0.8:
            at = data.find(b":", self._at(data)) + 1
            return data[:at] + b'{"a":' * depth + b"0" + b"}" * depth + b"," + data[at:]
        return data + b"[" * depth

    # Steps of protobuf

    def _field(self, data: bytes) -> bytes:
        """A field twice, elsewhere, gone, of another number or type, or with other content."""
        fields = self._fields_of(data)
        if not fields:
            return self._varint(data)
        rng = self._random
        changed = list(fields)
        index = int(rng.random() * len(changed))
        field = changed[index]
        match int(rng.random() * 8):
            case 0:
                changed.insert(index, field)
            case 1:
                del changed[index]
            case 2:
                changed.append(changed.pop(index))
            case 3:
                changed[index] = protobuf.Field(1 + int(rng.random() * 12), field.value)
            case 4:
                value = rng.choice(_NUMBERS) if isinstance(field.value, bytes) else rng.randbytes(3)
                changed[index] = protobuf.Field(field.number, value)
            case 5:
                changed[index:index] = [field] * (3 if rng.random() < 0.9 else 300)
            case _:
                inner: int | bytes
                if isinstance(field.value, int):
                    inner = rng.choice(_NUMBERS)
                else:
                    inner = self._field(field.value) if rng.random() < 0.5 else self._flip(field.value)
                changed[index] = protobuf.Field(field.number, inner)
        return b"".join(map(encode_field, changed))

    def _fields_of(self, data: bytes) -> list[protobuf.Field]:
        if data not in self._fields:
            if len(self._fields) > 2_048:
                self._fields.clear()
            try:
                self._fields[data] = protobuf.parse(data, max_fields=64)
            except ParseError:
                self._fields[data] = []
        return self._fields[data]


def encode_field(field: protobuf.Field) -> bytes:
    """The field as a message has it."""
    if isinstance(field.value, int):
        return protobuf.encode_varint(field.number, field.value)
    return protobuf.encode_bytes(field.number, field.value)
