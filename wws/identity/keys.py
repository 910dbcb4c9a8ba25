"""Ed25519 keys and signatures, by libsodium's rules: canonical S, no small-order keys (wire.md, head).

The only module that imports PyNaCl, so that all signatures are judged by the same rules everywhere. The few
functions that seal a key under a passphrase (`wws.identity.export`) are here for that reason, too.
"""

from __future__ import annotations

import hashlib

import nacl.bindings
import nacl.exceptions
import nacl.pwhash.argon2id
import nacl.secret
import nacl.utils

from wws.errors import ParseError
from wws.identity.peer_id import PeerId

SEED_LENGTH = 32
SIGNATURE_LENGTH = 64


class Identity:
    """A node's key pair. `seed` is the secret; `repr` never shows it."""

    __slots__ = ("_secret", "peer_id", "seed")

    seed: bytes
    """The raw 32-byte Ed25519 seed, as it stands in the key file."""
    peer_id: PeerId

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_LENGTH:
            raise ParseError(f"an Ed25519 seed has {SEED_LENGTH} bytes, not {len(seed)}")
        public_key, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        self.seed = seed
        self.peer_id = PeerId(public_key)

    @classmethod
    def generate(cls) -> Identity:
        """A new identity from the operating system's randomness."""
        return cls(nacl.utils.random(SEED_LENGTH))

    @classmethod
    def from_label(cls, label: str) -> Identity:
        """The identity whose seed is SHA-256 of `label`. Anyone can make it: for tests and vectors only."""
        return cls(hashlib.sha256(label.encode()).digest())

    @property
    def public_key(self) -> bytes:
        return self.peer_id.public_key

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature over `data`."""
        return nacl.bindings.crypto_sign(data, self._secret)[:SIGNATURE_LENGTH]

    def __repr__(self) -> str:
        return f"Identity({self.peer_id})"


def verify(public_key: bytes, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is a valid signature of `data` by `public_key`. Never raises for bad input."""
    if len(public_key) != 32 or len(signature) != SIGNATURE_LENGTH:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + data, public_key)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.CryptoError, ValueError):
        return False
    return True


SALT_LENGTH = nacl.pwhash.argon2id.SALTBYTES


def random_salt() -> bytes:
    """A new salt for `stretch`, from the operating system's randomness."""
    return nacl.utils.random(SALT_LENGTH)


def stretch(passphrase: str, salt: bytes, *, passes: int, memory: int) -> bytes:
    """A key for `seal` from a passphrase, by Argon2id. Slow and large on purpose: `memory` is in bytes."""
    password = passphrase.encode("utf-8", "surrogateescape")  # what a terminal gave that is not UTF-8
    return nacl.pwhash.argon2id.kdf(
        nacl.secret.SecretBox.KEY_SIZE, password, salt, opslimit=passes, memlimit=memory
    )


def seal(data: bytes, key: bytes) -> bytes:
    """`data` under `key` by XSalsa20-Poly1305, a random nonce before it."""
    return bytes(nacl.secret.SecretBox(key).encrypt(data))


def unseal(box: bytes, key: bytes) -> bytes | None:
    """What `seal` was given, or `None` when the key is another or the box was changed."""
    try:
        return nacl.secret.SecretBox(key).decrypt(box)
    except (nacl.exceptions.CryptoError, ValueError):
        return None
