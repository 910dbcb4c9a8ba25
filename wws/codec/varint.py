"""Unsigned varints of the multiformats (unsigned-varint specification): 7 bits a byte, low first.

At most 9 bytes (63 bits), and minimal: a value has one encoding only.
"""

from __future__ import annotations

from wws.errors import ParseError, Truncated

MAX_VALUE = 2**63 - 1
MAX_LENGTH = 9


def encode(value: int) -> bytes:
    """The varint of `value`, 0 ≤ value < 2^63. Raises `ValueError` outside of it: a bug of the caller."""
    if 0 <= value < 0x80:
        return bytes((value,))
    if not 0 <= value <= MAX_VALUE:
        raise ValueError(f"{value} does not fit a varint")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(
    data: bytes | bytearray | memoryview, offset: int = 0, *, limit: int = MAX_VALUE
) -> tuple[int, int]:
    """Read one varint at `offset`: the value, and the offset behind it.

    Raises `Truncated` when the input ends first, `ParseError` when the encoding is longer than 9 bytes
    or not minimal, or the value is above `limit`.
    """
    value = shift = 0
    for index in range(offset, min(len(data), offset + MAX_LENGTH)):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise ParseError("varint is not minimal")
            if value > limit:
                raise ParseError(f"varint {value} is above the limit {limit}")
            return value, index + 1
        shift += 7
    if len(data) - offset >= MAX_LENGTH:
        raise ParseError("varint is longer than 9 bytes")
    raise Truncated("varint is cut short")


def frame(payload: bytes) -> bytes:
    """`payload` behind its length as a varint, as most libp2p protocols send their messages."""
    return encode(len(payload)) + payload
