"""A second Noise, written token by token after the Noise specification, slow and for comparison only.

It shares no line with `wws.transport.noise`: X25519 comes from libsodium, the handshake is an interpreter of
the pattern's tokens, and prologue and payloads are free, so that published vectors can be run through it.
"""

from __future__ import annotations

import hashlib
import hmac

import nacl.bindings

XX = (("e",), ("e", "ee", "s", "es"), ("s", "se"))
NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"


def _hkdf(key: bytes, material: bytes) -> tuple[bytes, bytes]:
    temp = hmac.new(key, material, hashlib.sha256).digest()
    one = hmac.new(temp, b"\x01", hashlib.sha256).digest()
    return one, hmac.new(temp, one + b"\x02", hashlib.sha256).digest()


def seal(key: bytes, counter: int, data: bytes, associated: bytes) -> bytes:
    nonce = b"\0\0\0\0" + counter.to_bytes(8, "little")
    return nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt(data, associated, nonce, key)


class Reference:
    """Writes the messages of both sides of one XX handshake."""

    def __init__(self, prologue: bytes, secrets: dict[str, bytes]) -> None:
        """`secrets`: is, ie, rs, re (initiator's and responder's static and ephemeral secrets)."""
        self.secrets = secrets
        self.public = {name: nacl.bindings.crypto_scalarmult_base(key) for name, key in secrets.items()}
        self.hash = hashlib.sha256(NAME + prologue).digest()  # the name has exactly HASHLEN bytes
        self.chaining_key = NAME
        self.key: bytes | None = None
        self.counter = 0

    def write(self, index: int, payload: bytes) -> bytes:
        """Message number `index` of the pattern."""
        side, other = ("i", "r") if index % 2 == 0 else ("r", "i")
        message = b""
        for token in XX[index]:
            if token == "e":
                message += self.public[side + "e"]
                self._mix_hash(self.public[side + "e"])
            elif token == "s":
                message += self._encrypt(self.public[side + "s"])
            else:
                # A token names the initiator's key first, then the responder's.
                mine, theirs = (token[0], token[1]) if side == "i" else (token[1], token[0])
                self._mix_key(
                    nacl.bindings.crypto_scalarmult(self.secrets[side + mine], self.public[other + theirs])
                )
        return message + self._encrypt(payload)

    def split(self) -> tuple[bytes, bytes]:
        """The keys initiator → responder and back."""
        return _hkdf(self.chaining_key, b"")

    def _mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def _mix_key(self, material: bytes) -> None:
        self.chaining_key, self.key = _hkdf(self.chaining_key, material)
        self.counter = 0

    def _encrypt(self, data: bytes) -> bytes:
        if self.key is not None:
            data = seal(self.key, self.counter, data, self.hash)
            self.counter += 1
        self._mix_hash(data)
        return data
