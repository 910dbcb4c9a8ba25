"""TXT content as dashboards and zone files write it: quoted strings of at most 255 bytes (RFC 1035).

v=spf1 …                      bare: the text as it is
"first 255 bytes" "the rest"  quoted: the strings joined; \\" \\\\ and \\DDD are escapes
"""

from __future__ import annotations

import re
from typing import Final


def text_of(content: str) -> str:
    """The text of TXT content as the API gives it: strings in quotes joined, or what stands there bare."""
    if not _STRINGS.match(content):
        return content
    pieces = [_ESCAPE.sub(_unescaped, piece) for piece in _STRING.findall(content)]
    return b"".join(piece.encode("utf-8", "surrogateescape") for piece in pieces).decode("utf-8", "replace")


def content_of(text: str) -> str:
    """The inverse of `text_of`: strings of at most 255 bytes, each in quotes."""
    data = text.encode()
    pieces = [data[start : start + 255] for start in range(0, len(data), 255)] or [b""]
    return " ".join(f'"{"".join(map(_escaped, piece))}"' for piece in pieces)


_STRING: Final = re.compile(r'"((?:[^"\\]|\\[0-9]{3}|\\[^0-9])*)"')
_STRINGS: Final = re.compile(rf"\s*(?:{_STRING.pattern.replace('((', '(?:(')}\s*)+\Z")
_ESCAPE: Final = re.compile(r"\\(?:([0-9]{3})|(.))")


def _unescaped(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[2]
    code = int(found[1])
    return bytes([code]).decode("utf-8", "surrogateescape") if code < 256 else found[0]


def _escaped(byte: int) -> str:
    if byte in b'"\\':
        return "\\" + chr(byte)
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03d}"
