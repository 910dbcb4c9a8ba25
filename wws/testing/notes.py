"""The smallest kind of signed record: a note. For tests of the DHT that are about no particular record.

    value = public key (32) · seq (8) · expires_at (8) · signature (64) · text

Signed: `wws-test-note` 00 key 00 seq expires_at text. Select: higher `seq`, then lower SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from wws.errors import ParseError
from wws.identity.keys import Identity, verify
from wws.identity.peer_id import PeerId

PREFIX = "/wws/test/"
_HEAD = 32 + 8 + 8 + 64


def note_key(label: str) -> str:
    """The key of the note called `label`."""
    return PREFIX + hashlib.sha256(label.encode()).hexdigest()


def write_note(author: Identity, key: str, text: str, *, seq: int, expires_at: int) -> bytes:
    """A note by `author` for `key`."""
    times = seq.to_bytes(8, "big") + expires_at.to_bytes(8, "big")
    signature = author.sign(_signed_bytes(key, times, text.encode()))
    return author.public_key + times + signature + text.encode()


def text_of(value: bytes) -> str:
    """What the note says."""
    return value[_HEAD:].decode()


class Notes:
    """Notes as a kind of record of the DHT."""

    prefix = PREFIX

    def validate(self, key: str, value: bytes, unix_now: int) -> None:
        if not _is_signed(key, value):
            raise ParseError("a note with a bad signature")
        if unix_now >= self.keep_until(key, value):
            raise ParseError("a note whose time is over")

    def select(self, key: str, values: Sequence[bytes], unix_now: int) -> int:
        return min(range(len(values)), key=lambda index: _rank(values[index]))

    def keep_until(self, key: str, value: bytes) -> int:
        return int.from_bytes(value[40:48], "big")

    def publisher(self, key: str, value: bytes) -> PeerId:
        return PeerId(value[:32])


def _signed_bytes(key: str, times: bytes, text: bytes) -> bytes:
    return b"wws-test-note\x00" + key.encode() + b"\x00" + times + text


@lru_cache(maxsize=65_536)
def _is_signed(key: str, value: bytes) -> bool:
    # Remembered over all nodes of a simulation: a thousand of them check the same few signatures.
    if len(value) < _HEAD:
        return False
    return verify(value[:32], _signed_bytes(key, value[32:48], value[_HEAD:]), value[48:_HEAD])


def _rank(value: bytes) -> tuple[int, bytes]:
    return -int.from_bytes(value[32:40], "big"), hashlib.sha256(value).digest()
