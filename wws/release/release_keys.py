"""`release-keys`: which keys may sign releases now, said by a root key.

    wws-release-keys 1
    serial 3
    expires 20271122000000
    key ssh-ed25519 AAAA…          1 to 8 of them
    revoked ssh-ed25519 AAAA…      0 to 64 of them

The highest serial that a machine has seen is kept there, and a lower one is refused: otherwise a mirror could
bring a revoked key back. The statement lapses, so that one who holds it back is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from wws.errors import ParseError
from wws.release.errors import ReleaseMalformed
from wws.release.keys import PublicKey
from wws.release.lines import MAX_STATEMENT, parse_number, parse_time, split_lines, time_text, value_of

MAX_KEYS: Final = 8
MAX_REVOKED: Final = 64

_HEAD: Final = "wws-release-keys 1"


@dataclass(frozen=True, slots=True)
class ReleaseKeys:
    """A statement on the keys of releases. Parsing says nothing of who signed it."""

    serial: int
    expires_at: int
    """Unix seconds; from then on the statement says nothing any more."""
    keys: tuple[PublicKey, ...]
    revoked: tuple[PublicKey, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The statement in the bytes of the file. Raises `ReleaseMalformed`."""
        lines = split_lines(data, "release-keys", most=MAX_STATEMENT)
        if lines[0] != _HEAD:
            raise ReleaseMalformed(f"release-keys begins with {lines[0][:60]!r}, not {_HEAD!r}")
        if len(lines) < 4 or len(lines) > 3 + MAX_KEYS + MAX_REVOKED:
            raise ReleaseMalformed("release-keys has a serial, an end, 1 to 8 keys and up to 64 revoked ones")
        serial = parse_number(value_of(lines[1], "serial", "release-keys"), "release-keys")
        expires_at = parse_time(value_of(lines[2], "expires", "release-keys"), "release-keys")
        kept = [line for line in lines[3:] if line.startswith("key ")]
        keys = [_key(value_of(line, "key", "release-keys")) for line in kept]
        revoked = [_key(value_of(line, "revoked", "release-keys")) for line in lines[3 + len(kept) :]]
        if not keys or len(keys) > MAX_KEYS or len(revoked) > MAX_REVOKED:
            raise ReleaseMalformed("release-keys has 1 to 8 keys and up to 64 revoked ones")
        if len(set(keys)) != len(keys) or len(set(revoked)) != len(revoked):
            raise ReleaseMalformed("release-keys names a key twice")
        found = cls(serial, expires_at, tuple(keys), tuple(revoked))
        if found.encode() != data:
            raise ReleaseMalformed("release-keys has its lines in another order")
        return found

    @property
    def usable(self) -> tuple[PublicKey, ...]:
        """The keys that count: a key that is revoked never does, wherever else it stands."""
        return tuple(key for key in self.keys if key not in self.revoked)

    def encode(self) -> bytes:
        """The bytes of the file."""
        lines = [_HEAD, f"serial {self.serial}", f"expires {time_text(self.expires_at)}"]
        lines += [f"key {key}" for key in self.keys]
        lines += [f"revoked {key}" for key in self.revoked]
        return "".join(f"{line}\n" for line in lines).encode("ascii")


def _key(text: str) -> PublicKey:
    try:
        return PublicKey.parse(text)
    except ParseError as error:
        raise ReleaseMalformed(f"release-keys: {error}") from None
