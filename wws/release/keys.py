"""Public keys of releases, in the one form they are written in: `ssh-ed25519 <base64>`, without a comment.

The same 32 bytes serve three tools. OpenSSH takes the text as it stands (in a file of allowed signers),
openssl a SubjectPublicKeyInfo, minisign its own form with a key id, for which the first 8 bytes do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from wws.codec import base64
from wws.errors import ParseError

KEY_TYPE: Final = "ssh-ed25519"
KEY_LENGTH: Final = 32
TEXT_LENGTH: Final = len(KEY_TYPE) + 1 + 68

_BLOB_PREFIX: Final = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
"""RFC 8709, section 4: the name of the algorithm and the key, each with its length before it."""
_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
"""RFC 8410, section 4: the DER of a SubjectPublicKeyInfo up to the key."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key that signs releases, or lists of those that do."""

    data: bytes
    """The raw 32 bytes."""

    def __post_init__(self) -> None:
        if len(self.data) != KEY_LENGTH:
            raise ParseError(f"an Ed25519 public key has {KEY_LENGTH} bytes, not {len(self.data)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key written as `ssh-ed25519 <base64>`. Raises `ParseError` on any other form."""
        kind, _, encoded = text[: TEXT_LENGTH + 1].partition(" ")
        if kind != KEY_TYPE or len(text) != TEXT_LENGTH or not text.isascii():
            raise ParseError(
                f"{text[:100]!r} is not a release key: it is written {KEY_TYPE} AAAA… with nothing after it"
            )
        return cls.from_blob(base64.decode(encoded))

    @classmethod
    def from_blob(cls, blob: bytes) -> Self:
        """The key in OpenSSH's binary form. Raises `ParseError`."""
        if len(blob) != len(_BLOB_PREFIX) + KEY_LENGTH or not blob.startswith(_BLOB_PREFIX):
            raise ParseError("not an Ed25519 public key of OpenSSH")
        return cls(blob[len(_BLOB_PREFIX) :])

    @property
    def blob(self) -> bytes:
        """The binary form of OpenSSH."""
        return _BLOB_PREFIX + self.data

    @property
    def minisign_id(self) -> bytes:
        """What minisign calls the key by; it wants 8 bytes that differ between keys, and these do."""
        return self.data[:8]

    @property
    def minisign_text(self) -> str:
        """The key as `minisign -P` takes it."""
        return base64.encode(b"Ed" + self.minisign_id + self.data)

    @property
    def pem(self) -> str:
        """The key as `openssl pkeyutl -pubin -inkey` takes it."""
        body = base64.encode(_SPKI_PREFIX + self.data)
        return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"

    def allowed_signer(self, identity: str, namespace: str) -> str:
        """The line for the file that `ssh-keygen -Y verify -f` takes."""
        return f'{identity} namespaces="{namespace}" {self}\n'

    def __str__(self) -> str:
        return f"{KEY_TYPE} {base64.encode(self.blob)}"
