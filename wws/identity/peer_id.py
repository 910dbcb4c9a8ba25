"""PeerIds and the other names of one Ed25519 public key (wire.md section 1; libp2p "Peer Ids and Keys").

A PeerId is the identity multihash of the `PublicKey` protobuf, so it holds the key itself: who knows the
PeerId can check the owner's signatures without asking anyone. Other key types are not accepted.
"""

from __future__ import annotations

import hashlib
from functools import total_ordering

from wws.codec import base32, base58
from wws.errors import ParseError

_KEY_PREFIX = bytes.fromhex("08011220")
"""`PublicKey` protobuf before the key: type 1 (Ed25519), then field 2 with 32 bytes."""
_MULTIHASH_PREFIX = b"\x00\x24" + _KEY_PREFIX
_CID_PREFIX = b"\x01\x72"
_DID_KEY_PREFIX = b"\xed\x01"


@total_ordering
class PeerId:
    """The identity of a peer: immutable, hashable, ordered by its bytes."""

    __slots__ = ("_hash", "_text", "public_key")

    public_key: bytes
    """The 32 bytes of the Ed25519 public key."""

    def __init__(self, public_key: bytes) -> None:
        if len(public_key) != 32:
            raise ParseError(f"an Ed25519 public key has 32 bytes, not {len(public_key)}")
        self.public_key = bytes(public_key)
        self._hash = hash(self.public_key)
        self._text: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> PeerId:
        """From the 38 bytes of the multihash. Raises `ParseError` for every other kind of PeerId."""
        if len(data) != 38 or data[:6] != _MULTIHASH_PREFIX:
            raise ParseError("not the PeerId of an Ed25519 key")
        return cls(data[6:])

    @classmethod
    def from_protobuf(cls, data: bytes) -> PeerId:
        """From the `PublicKey` protobuf, as sent. Raises `ParseError` unless it is an Ed25519 key."""
        if len(data) != 36 or data[:4] != _KEY_PREFIX:
            raise ParseError("not the protobuf of an Ed25519 public key")
        return cls(data[4:])

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """From text: base58btc (`12D3KooW…`) or CIDv1 in base32 (`bafz…`). Raises `ParseError`."""
        if text.startswith("b"):
            data = base32.decode(text[1:])
            if data[:2] != _CID_PREFIX:
                raise ParseError(f"{text[:20]!r} is not a CID of a PeerId")
            return cls.from_bytes(data[2:])
        return cls.from_bytes(base58.decode(text))

    def to_bytes(self) -> bytes:
        """The 38 bytes of the identity multihash."""
        return _MULTIHASH_PREFIX + self.public_key

    @property
    def public_key_protobuf(self) -> bytes:
        """The `PublicKey` protobuf, 36 bytes."""
        return _KEY_PREFIX + self.public_key

    @property
    def cid(self) -> str:
        """The CIDv1 form: base32, codec libp2p-key."""
        return "b" + base32.encode(_CID_PREFIX + self.to_bytes())

    @property
    def did(self) -> str:
        """`did:swarm:` and the lower-case hex SHA-256 of the public key."""
        return "did:swarm:" + hashlib.sha256(self.public_key).hexdigest()

    @property
    def did_key(self) -> str:
        """The same key as a `did:key`."""
        return "did:key:z" + base58.encode(_DID_KEY_PREFIX + self.public_key)

    @property
    def node_id(self) -> str:
        """The public key in hex."""
        return self.public_key.hex()

    @property
    def position(self) -> int:
        """Where the peer stands in the key space of the DHT: SHA-256 of the PeerId's bytes as a number."""
        return int.from_bytes(hashlib.sha256(self.to_bytes()).digest(), "big")

    def __str__(self) -> str:
        if self._text is None:
            self._text = base58.encode(self.to_bytes())
        return self._text

    def __repr__(self) -> str:
        return f"PeerId({self})"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerId) and self.public_key == other.public_key

    def __lt__(self, other: PeerId) -> bool:
        return self.public_key < other.public_key
