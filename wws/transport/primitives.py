"""X25519 and ChaCha20-Poly1305: the only module of the TCP stack that imports `cryptography`.

Noise names them DH and AEAD (Noise Protocol Framework, sections 12.1 and 12.3; RFC 7748, RFC 8439).
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305 as Cipher

__all__ = ["Cipher", "InvalidTag", "KeyPair"]

KEY_LENGTH = 32
TAG_LENGTH = 16


class KeyPair:
    """An X25519 key pair."""

    __slots__ = ("_private", "public")

    public: bytes
    """The 32 bytes of the public key."""

    def __init__(self, secret: bytes | None = None) -> None:
        """A new pair; with `secret` the pair of these 32 bytes, for test vectors."""
        if secret is None:
            self._private = X25519PrivateKey.generate()
        else:
            self._private = X25519PrivateKey.from_private_bytes(secret)
        self.public = self._private.public_key().public_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """The shared secret with the owner of `public`.

        Raises `ValueError` when `public` has another length than 32 bytes or leads to the all-zero secret,
        as points of low order do (RFC 7748, section 6.1).
        """
        return self._private.exchange(X25519PublicKey.from_public_bytes(public))
