"""The secure channel after the Noise handshake: messages with a 2-byte length, sealed under counted nonces.

A message has at most 65,535 bytes, 16 of them the tag (libp2p specification "noise", "Wire Format"; Noise
section 3). This is the bulk path of every byte a node sends or receives: one copy each way, no object a
message beyond what `cryptography` makes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from wws.errors import RemoteProtocolError
from wws.transport.primitives import TAG_LENGTH, Cipher, InvalidTag

MAX_MESSAGE: Final = 65_535
MAX_PLAINTEXT: Final = MAX_MESSAGE - TAG_LENGTH
MAX_NONCE: Final = 2**64 - 2
"""The last counter that may be used: 2^64 − 1 is reserved (Noise section 5.1)."""

_pack_nonce = struct.Struct("<IQ").pack
_pack_length = struct.Struct(">H").pack_into


class NoiseDecryptionFailed(RemoteProtocolError):
    """A message of the secure channel was forged or garbled."""

    code = "noise_decryption_failed"


class NonceExhausted(RemoteProtocolError):
    """The secure channel has carried all messages that its keys allow: no nonce is used twice."""

    code = "nonce_exhausted"


class CipherPair:
    """Both directions of a secure channel."""

    __slots__ = ("_partial", "_receive", "_receive_nonce", "_send", "_send_nonce")

    def __init__(self, send_key: bytes, receive_key: bytes) -> None:
        self._send = Cipher(send_key)
        self._receive = Cipher(receive_key)
        self._send_nonce = 0
        self._receive_nonce = 0
        self._partial: bytearray | None = None
        """The beginning of a message whose end has not arrived: less than 65,537 bytes."""

    @property
    def incomplete(self) -> int:
        """Bytes of a message whose end has not arrived."""
        return 0 if self._partial is None else len(self._partial)

    def encrypt(self, frames: Iterable[bytes]) -> list[bytearray]:
        """Messages that carry `frames`, each of at most `MAX_PLAINTEXT` bytes.

        Small frames share a message and large ones are not cut, so that one yamux frame is one message.
        """
        messages: list[bytearray] = []
        group: list[bytes] = []
        size = 0
        for frame in frames:
            if size + len(frame) > MAX_PLAINTEXT and group:
                messages.append(self._encrypt(group[0] if len(group) == 1 else b"".join(group)))
                group.clear()
                size = 0
            group.append(frame)
            size += len(frame)
        if group:
            messages.append(self._encrypt(group[0] if len(group) == 1 else b"".join(group)))
        return messages

    def _encrypt(self, plaintext: bytes) -> bytearray:
        nonce = self._send_nonce
        if nonce > MAX_NONCE:
            raise NonceExhausted
        self._send_nonce = nonce + 1
        length = len(plaintext) + TAG_LENGTH
        message = bytearray(length + 2)
        _pack_length(message, 0, length)
        self._send.encrypt_into(_pack_nonce(0, nonce), plaintext, None, memoryview(message)[2:])
        return message

    def decrypt(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """The plaintexts of the messages that `data` completes. Raises `NoiseDecryptionFailed`.

        Plaintexts before the one that failed are lost with it: nothing may be made of a broken channel.
        """
        plaintexts: list[bytes] = []
        view = memoryview(data)
        offset, end = 0, len(view)
        partial = self._partial
        if partial is not None:
            # Only the message that is under way is put together; what follows is read where it is.
            if len(partial) == 1 and end:
                partial.append(view[0])
                offset = 1
            if len(partial) >= 2:
                missing = 2 + (partial[0] << 8 | partial[1]) - len(partial)
                partial += view[offset : offset + missing]
                offset += missing
                if offset > end:
                    return plaintexts
                self._partial = None
                plaintexts.append(self._decrypt(memoryview(partial)[2:]))
            else:
                return plaintexts
        while end - offset >= 2:
            stop = offset + 2 + (view[offset] << 8 | view[offset + 1])
            if stop > end:
                break
            plaintexts.append(self._decrypt(view[offset + 2 : stop]))
            offset = stop
        if offset < end:
            self._partial = bytearray(view[offset:])
        return plaintexts

    def _decrypt(self, message: memoryview) -> bytes:
        nonce = self._receive_nonce
        if nonce > MAX_NONCE:
            raise NonceExhausted
        self._receive_nonce = nonce + 1
        try:
            return self._receive.decrypt(_pack_nonce(0, nonce), message, None)
        except InvalidTag:
            raise NoiseDecryptionFailed("a message of the secure channel does not decrypt") from None
