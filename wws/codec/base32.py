"""base32 by RFC 4648 in lower case without padding, as CIDs print it; spare bits must be zero."""

from __future__ import annotations

import base64
import binascii

from wws.errors import ParseError


def encode(data: bytes) -> str:
    """The lower-case unpadded base32 text of `data`."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def decode(text: str) -> bytes:
    """The bytes of a lower-case unpadded base32 text. Raises `ParseError` when it is anything else."""
    padded = text.upper() + "=" * (-len(text) % 8)
    try:
        data = base64.b32decode(padded)
    except (binascii.Error, ValueError):
        raise ParseError("not base32") from None
    if encode(data) != text:
        raise ParseError("not canonical lower-case base32")
    return data
