"""A strict, small protobuf codec: enough for the few messages of libp2p, and nothing more.

Ours and not the `protobuf` package, because of what we need from a parser of hostile bytes: bounds on
fields before anything is built, an error for groups, truncation and field number 0, no reflection, and
no generated code. The encoding is that of the protocol buffers documentation, "Encoding": a field is a
varint key (number << 3 | wire type) and a value; wire type 0 is a varint, 1 is 8 bytes, 2 is length and
bytes, 5 is 4 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wws.codec import varint
from wws.errors import ParseError

MAX_FIELDS = 4096


class Field(NamedTuple):
    """One field as it stands in the message: an `int` for wire type 0, `bytes` for 2, 1 and 5."""

    number: int
    value: int | bytes

    def as_bytes(self) -> bytes:
        """The value of a length-delimited field. Raises `ParseError` when it is a number."""
        if isinstance(self.value, int):
            raise ParseError(f"protobuf field {self.number} is a number where bytes are expected")
        return self.value

    def as_text(self) -> str:
        """The value of a string field. Raises `ParseError` when it is not UTF-8."""
        try:
            return self.as_bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise ParseError(f"protobuf field {self.number} is not UTF-8") from None

    def as_int(self) -> int:
        """The value of a varint field. Raises `ParseError` when it is bytes."""
        if not isinstance(self.value, int):
            raise ParseError(f"protobuf field {self.number} is bytes where a number is expected")
        return self.value

    def as_fixed64(self) -> int:
        """The value of a fixed64 field: 8 bytes, low first. Raises `ParseError` when it is none."""
        raw = self.as_bytes()
        if len(raw) != 8:
            raise ParseError(f"protobuf field {self.number} has {len(raw)} bytes, not the 8 of a fixed64")
        return int.from_bytes(raw, "little")


def encode_bytes(number: int, value: bytes | str) -> bytes:
    """A length-delimited field: bytes, a string, or an embedded message."""
    raw = value.encode() if isinstance(value, str) else value
    return varint.encode(number << 3 | 2) + varint.encode(len(raw)) + raw


def encode_varint(number: int, value: int) -> bytes:
    """A varint field; `value` is not negative."""
    return varint.encode(number << 3) + _encode_uint64(value)


def encode_fixed64(number: int, value: int) -> bytes:
    """A fixed64 field, 0 ≤ value < 2^64."""
    return varint.encode(number << 3 | 1) + value.to_bytes(8, "little")


def parse(data: bytes, *, max_fields: int = MAX_FIELDS) -> list[Field]:
    """All fields of a message in the order they stand in.

    Raises `ParseError` on more than `max_fields` fields, truncation, groups, unknown wire types, field
    number 0 and varints over 64 bits. Unknown field numbers are the caller's to skip, as protobuf asks.
    """
    fields: list[Field] = []
    for field in _scan(data):
        if len(fields) >= max_fields:
            raise ParseError(f"protobuf message has more than {max_fields} fields")
        fields.append(field)
    return fields


def _scan(data: bytes) -> Iterator[Field]:
    offset, end = 0, len(data)
    while offset < end:
        key, offset = _decode_uint64(data, offset)
        number, wire_type = key >> 3, key & 7
        if not 0 < number < 2**29:
            raise ParseError(f"protobuf field number {number} is out of range")
        if wire_type == 0:
            value, offset = _decode_uint64(data, offset)
            yield Field(number, value)
            continue
        if wire_type == 2:
            length, offset = _decode_uint64(data, offset)
        elif wire_type == 1:
            length = 8
        elif wire_type == 5:
            length = 4
        else:
            raise ParseError(f"protobuf wire type {wire_type} is not accepted")
        if length > end - offset:
            raise ParseError("protobuf field is cut short")
        yield Field(number, bytes(data[offset : offset + length]))
        offset += length


def _encode_uint64(value: int) -> bytes:
    # A protobuf number may take 64 bits, one more than a multiformats varint.
    if value <= varint.MAX_VALUE:
        return varint.encode(value)
    if value >= 2**64:
        raise ValueError(f"{value} does not fit 64 bits")
    low = value & (2**63 - 1)
    return bytes((low >> 7 * index) & 0x7F | 0x80 for index in range(9)) + b"\x01"


def _decode_uint64(data: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(offset, min(len(data), offset + 10)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 2**64:
                raise ParseError("protobuf varint is over 64 bits")
            return value, index + 1
        shift += 7
    raise ParseError("protobuf varint is cut short or too long")
