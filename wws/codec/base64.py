"""base64 as the wire formats have it: standard and padded, or URL-safe and unpadded; spare bits are zero."""

from __future__ import annotations

import base64 as _base64
import binascii

from wws.errors import ParseError


def encode(data: bytes) -> str:
    """Standard base64 with padding."""
    return _base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of standard padded base64. Raises `ParseError` on any other form, spare bits included."""
    try:
        data = _base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ParseError("not base64") from None
    if encode(data) != text:
        raise ParseError("not canonical base64")
    return data


def encode_url(data: bytes) -> str:
    """URL-safe base64 without padding."""
    return _base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def decode_url(text: str) -> bytes:
    """The bytes of unpadded URL-safe base64. Raises `ParseError` on any other form, spare bits included."""
    try:
        data = _base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ParseError("not base64url") from None
    if encode_url(data) != text:
        raise ParseError("not canonical base64url")
    return data
