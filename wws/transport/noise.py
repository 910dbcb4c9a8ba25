"""Noise XX with libp2p's identity payload: who is at the other end, and a secret shared with it.

    initiator                                     responder
    -> e
                                                  <- e, ee, s, es, {identity key, signature, muxers}
    -> s, se, {identity key, signature, muxers}

Each side has a static X25519 key, made once a process; the Ed25519 identity signs it, and the handshake
proves possession of both. The payload also carries the multiplexers that a side supports (NoiseExtensions;
"Stream multiplexer negotiation in security handshake"), which saves a round trip when both do so.

Messages are handed in and out whole; their 2-byte length prefix belongs to `wws.transport.noise_frames`.
Sources: libp2p specification "noise"; Noise Protocol Framework, revision 34.
Left out on purpose: Noise Pipes (IK), early data, other identity keys than Ed25519.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from wws.codec import protobuf
from wws.errors import LocalProtocolError, ParseError, RemoteProtocolError
from wws.identity.keys import Identity, verify
from wws.identity.peer_id import PeerId
from wws.transport.noise_frames import CipherPair
from wws.transport.primitives import KEY_LENGTH, TAG_LENGTH, Cipher, InvalidTag, KeyPair

PROTOCOL = "/noise"
YAMUX = "/yamux/1.0.0"
MAX_HANDSHAKE_MESSAGE: Final = 4096
"""Bytes of a handshake message that are looked at; those of libp2p's implementations have 200 to 700."""
MAX_PAYLOAD_FIELDS: Final = 16
MAX_MUXERS: Final = 32
"""Multiplexers that a peer may name."""

_NOISE_NAME: Final = b"Noise_XX_25519_ChaChaPoly_SHA256"
# The name has exactly 32 bytes and stands for itself; the prologue is empty.
_INITIAL_HASH: Final = hashlib.sha256(_NOISE_NAME).digest()
_SIGNATURE_DOMAIN: Final = b"noise-libp2p-static-key:"
# No key of this pattern encrypts more than two parts of the handshake.
_NONCES: Final = (bytes(12), bytes(4) + (1).to_bytes(8, "little"))
_SEALED_KEY: Final = KEY_LENGTH + TAG_LENGTH


class NoiseHandshakeFailed(RemoteProtocolError):
    """The Noise handshake failed: a message is malformed, forged or garbled."""

    code = "noise_handshake_failed"


class NoisePayloadMalformed(NoiseHandshakeFailed):
    """The identity payload of a Noise handshake is not what it must be."""

    code = "noise_payload_malformed"


class NoiseSignatureInvalid(NoiseHandshakeFailed):
    """The peer's identity did not sign its Noise key."""

    code = "noise_signature_invalid"


class PeerIdMismatch(RemoteProtocolError):
    """Another peer answered than the one that was dialled."""

    code = "peer_id_mismatch"

    def __init__(self, expected: PeerId, found: PeerId) -> None:
        super().__init__(
            f"expected {expected}, but {found} answered",
            hint="The address belongs to another node now, or that node has a new key.",
        )
        self.expected = expected
        self.found = found


class NoCommonMuxer(RemoteProtocolError):
    """The peer named its multiplexers in the handshake, and none of them is ours."""

    code = "no_common_muxer"


class NoiseStatic:
    """What all handshakes of a node share: its static key and its signed payload. Made once a process."""

    __slots__ = ("key", "muxers", "payload", "peer_id")

    def __init__(
        self, identity: Identity, *, muxers: Sequence[str] = (YAMUX,), secret: bytes | None = None
    ) -> None:
        """`secret` fixes the static key, for test vectors; `muxers` may be empty: nothing is offered then."""
        self.key = KeyPair(secret)
        self.muxers = tuple(muxers)
        self.peer_id = identity.peer_id
        self.payload = encode_payload(
            identity.peer_id, identity.sign(_SIGNATURE_DOMAIN + self.key.public), self.muxers
        )


class NoiseHandshake:
    """One handshake. Thrown away when `ciphers` is set; what it leaves is `remote_peer` and `early_muxer`."""

    __slots__ = (
        "_chaining_key",
        "_cipher",
        "_ephemeral",
        "_expected_peer",
        "_hash",
        "_nonce",
        "_remote_ephemeral",
        "_started",
        "_static",
        "ciphers",
        "early_muxer",
        "is_initiator",
        "remote_peer",
    )

    remote_peer: PeerId | None
    ciphers: CipherPair | None
    """The two directions of the secure channel, once the handshake is done."""
    early_muxer: str | None
    """The multiplexer that was agreed on within the handshake, or `None`: then multistream-select decides."""

    def __init__(
        self,
        *,
        is_initiator: bool,
        static: NoiseStatic,
        expected_peer: PeerId | None = None,
        ephemeral: bytes | None = None,
    ) -> None:
        """`ephemeral` fixes the ephemeral secret, for test vectors and nothing else."""
        self.is_initiator = is_initiator
        self.remote_peer = None
        self.ciphers = None
        self.early_muxer = None
        self._static = static
        self._expected_peer = expected_peer
        self._ephemeral = KeyPair(ephemeral)
        self._remote_ephemeral = b""
        self._started = False
        self._chaining_key = _NOISE_NAME
        self._hash = _INITIAL_HASH
        self._cipher: Cipher | None = None
        self._nonce = 0

    def start(self) -> bytes:
        """The initiator's first message. Raises `LocalProtocolError` for a responder, or the second time."""
        if not self.is_initiator or self._started:
            raise LocalProtocolError("a Noise handshake is started once, by its initiator")
        self._started = True
        public = self._ephemeral.public
        self._mix_hash(public)
        self._mix_hash(b"")  # the empty payload
        return public

    def receive_message(self, message: bytes) -> bytes:
        """Take the next message of the peer; our answer, which is empty when there is none left to give.

        Raises `NoiseHandshakeFailed` or one of its kinds, `PeerIdMismatch`, or `NoCommonMuxer`. The
        handshake is over then.
        """
        if self.ciphers is not None or (self.is_initiator and not self._started):
            raise LocalProtocolError("no Noise handshake message is due")
        try:
            if self.is_initiator:
                return self._finish_as_initiator(message)
            if not self._started:
                self._started = True
                return self._answer_first(message)
            self._finish_as_responder(message)
            return b""
        except InvalidTag:
            raise NoiseHandshakeFailed("a Noise handshake message does not decrypt") from None
        except ValueError:
            raise NoiseHandshakeFailed("the peer's X25519 key is of low order") from None

    def _answer_first(self, message: bytes) -> bytes:
        if len(message) < KEY_LENGTH:
            raise NoiseHandshakeFailed("the first Noise message is too short")
        self._remote_ephemeral = message[:KEY_LENGTH]
        self._mix_hash(self._remote_ephemeral)
        self._mix_hash(message[KEY_LENGTH:])
        public = self._ephemeral.public
        self._mix_hash(public)
        self._mix_key(self._ephemeral.exchange(self._remote_ephemeral))
        sealed_key = self._seal(self._static.key.public)
        self._mix_key(self._static.key.exchange(self._remote_ephemeral))
        return public + sealed_key + self._seal(self._static.payload)

    def _finish_as_initiator(self, message: bytes) -> bytes:
        if len(message) < KEY_LENGTH + _SEALED_KEY + TAG_LENGTH:
            raise NoiseHandshakeFailed("the second Noise message is too short")
        remote_ephemeral = message[:KEY_LENGTH]
        self._mix_hash(remote_ephemeral)
        self._mix_key(self._ephemeral.exchange(remote_ephemeral))
        remote_static = self._open(message[KEY_LENGTH : KEY_LENGTH + _SEALED_KEY])
        self._mix_key(self._ephemeral.exchange(remote_static))
        payload = self._open(message[KEY_LENGTH + _SEALED_KEY :])
        self._accept(payload, remote_static)
        sealed_key = self._seal(self._static.key.public)
        self._mix_key(self._static.key.exchange(remote_ephemeral))
        answer = sealed_key + self._seal(self._static.payload)
        to_responder, to_initiator = _derive(self._chaining_key, b"")
        self.ciphers = CipherPair(to_responder, to_initiator)
        return answer

    def _finish_as_responder(self, message: bytes) -> None:
        if len(message) < _SEALED_KEY + TAG_LENGTH:
            raise NoiseHandshakeFailed("the third Noise message is too short")
        remote_static = self._open(message[:_SEALED_KEY])
        self._mix_key(self._ephemeral.exchange(remote_static))
        self._accept(self._open(message[_SEALED_KEY:]), remote_static)
        to_responder, to_initiator = _derive(self._chaining_key, b"")
        self.ciphers = CipherPair(to_initiator, to_responder)

    def _accept(self, payload: bytes, remote_static: bytes) -> None:
        """Check who the peer is, and choose the multiplexer."""
        peer, signature, muxers = parse_payload(payload)
        if not verify(peer.public_key, _SIGNATURE_DOMAIN + remote_static, signature):
            raise NoiseSignatureInvalid(f"{peer} did not sign the Noise key that was presented in its name")
        if self._expected_peer is not None and peer != self._expected_peer:
            raise PeerIdMismatch(self._expected_peer, peer)
        ours = self._static.muxers
        if ours and muxers:
            first, second = (ours, muxers) if self.is_initiator else (muxers, ours)
            # The first of the initiator's list that both support.
            self.early_muxer = next((muxer for muxer in first if muxer in second), None)
            if self.early_muxer is None:
                raise NoCommonMuxer(f"the peer offers {', '.join(muxers)[:200]}")
        self.remote_peer = peer

    # SymmetricState of the Noise specification, section 5.2.

    def _mix_hash(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix_key(self, secret: bytes) -> None:
        self._chaining_key, key = _derive(self._chaining_key, secret)
        self._cipher = Cipher(key)
        self._nonce = 0

    def _seal(self, plaintext: bytes) -> bytes:
        assert self._cipher is not None
        sealed = self._cipher.encrypt(_NONCES[self._nonce], plaintext, self._hash)
        self._nonce += 1
        self._mix_hash(sealed)
        return sealed

    def _open(self, sealed: bytes) -> bytes:
        assert self._cipher is not None
        plaintext = self._cipher.decrypt(_NONCES[self._nonce], sealed, self._hash)
        self._nonce += 1
        self._mix_hash(sealed)
        return plaintext


def _derive(chaining_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (Noise section 4.3)."""
    temporary = hmac.digest(chaining_key, secret, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    return first, hmac.digest(temporary, first + b"\x02", "sha256")


# NoiseHandshakePayload of the libp2p specification:
#     bytes identity_key = 1; bytes identity_sig = 2; NoiseExtensions extensions = 4;
# NoiseExtensions:
#     repeated bytes webtransport_certhashes = 1; repeated string stream_muxers = 2;


def encode_payload(peer: PeerId, signature: bytes, muxers: Sequence[str]) -> bytes:
    """The payload by which a peer proves its identity and names its multiplexers."""
    payload = protobuf.encode_bytes(1, peer.public_key_protobuf) + protobuf.encode_bytes(2, signature)
    if muxers:
        payload += protobuf.encode_bytes(4, b"".join(protobuf.encode_bytes(2, muxer) for muxer in muxers))
    return payload


def parse_payload(data: bytes) -> tuple[PeerId, bytes, tuple[str, ...]]:
    """Identity, signature and multiplexers of a payload. Raises `NoisePayloadMalformed`.

    A field that may stand once and stands twice is refused; unknown fields are skipped.
    """
    peer: PeerId | None = None
    signature: bytes | None = None
    muxers: tuple[str, ...] | None = None
    try:
        for field in protobuf.parse(data, max_fields=MAX_PAYLOAD_FIELDS):
            match field.number, peer, signature, muxers:
                case 1, None, _, _:
                    peer = PeerId.from_protobuf(field.as_bytes())
                case 2, _, None, _:
                    signature = field.as_bytes()
                case 4, _, _, None:
                    extensions = protobuf.parse(field.as_bytes(), max_fields=MAX_MUXERS)
                    muxers = tuple(entry.as_text() for entry in extensions if entry.number == 2)
                case 1 | 2 | 4, _, _, _:
                    raise NoisePayloadMalformed(f"field {field.number} of the Noise payload stands twice")
    except ParseError as error:
        raise NoisePayloadMalformed(f"Noise payload: {error}") from None
    if peer is None or signature is None:
        raise NoisePayloadMalformed("the Noise payload lacks the identity key or its signature")
    return peer, signature, muxers or ()
