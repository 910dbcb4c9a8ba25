"""base58btc: the alphabet without 0, O, I and l; leading zero bytes are leading ones."""

from __future__ import annotations

from wws.errors import ParseError

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE = {character: value for value, character in enumerate(ALPHABET)}
_MAX_TEXT = 256
"""Longest text that is decoded: the conversion is quadratic in its length."""


def encode(data: bytes) -> str:
    """The base58btc text of `data`."""
    number = int.from_bytes(data, "big")
    out: list[str] = []
    while number:
        number, remainder = divmod(number, 58)
        out.append(ALPHABET[remainder])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(out))


def decode(text: str) -> bytes:
    """The bytes of a base58btc text. Raises `ParseError` on a strange character, or over 256 of them."""
    if len(text) > _MAX_TEXT:
        raise ParseError(f"base58 text of {len(text)} characters is too long")
    number = 0
    for character in text:
        value = _VALUE.get(character)
        if value is None:
            raise ParseError(f"{character!r} is not a base58 character")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
