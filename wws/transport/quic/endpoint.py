"""What a UDP socket does with datagrams of no connection: accept, answer and keep nothing, or drop.

    known connection id ──► its connection                              (the driver looks that up)
    another version ──────► the versions we speak                       RFC 9000, section 6
    a first datagram ─────► accept, while few handshakes are under way
                            ask to come back with a token, else         RFC 9000, section 8.1.2
                            nothing, when too many are
    a closed connection ──► the word that it is closed                  RFC 9000, section 10.2.1
    an unknown id ────────► "I have lost the state", provably ours      RFC 9000, section 10.3
    anything else ────────► nothing

No answer is larger than thrice what it answers, and answers to strangers have a rate.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Final

from aioquic.buffer import Buffer  # type: ignore[attr-defined] # public, by their documentation
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from wws.transport.quic.config import DEFAULT_ENDPOINT_CONFIG, EndpointConfig
from wws.transport.quic.engine import CONNECTION_ID_LENGTH, VERSION, Address

SMALLEST_FIRST: Final = 1200
"""Bytes of a client's first datagram at least (RFC 9000, section 14.1)."""
_LONG: Final = 0x80
_LONGEST_ID: Final = 20
_SHORTEST_FIRST_ID: Final = 8
_TOKEN_LENGTH: Final = 16
_AMPLIFICATION: Final = 3
"""How many bytes one of a stranger may get back (RFC 9000, section 8.1)."""
_RESET_LENGTHS: Final = (42, 21)
"""Bytes of a stateless reset: the first that is at most half of what it answers, or the last. An observer
may tell the short one from a packet; but two endpoints that know nothing of each other, each answering the
other's resets, are done after two (RFC 9000, section 10.3.3)."""


def destination_id(data: bytes) -> bytes | None:
    """Whom a datagram is for: the connection id that one of our connections gave out. `None`: nobody's."""
    if len(data) < 1 + CONNECTION_ID_LENGTH:
        return None
    if data[0] & _LONG:
        length = data[5]
        return data[6 : 6 + length] if length <= _LONGEST_ID else None
    return data[1 : 1 + CONNECTION_ID_LENGTH]


@dataclass(frozen=True, slots=True)
class Accept:
    """A handshake begins: make a connection for it."""

    original_id: bytes
    retry_id: bytes | None
    """The id of our answer that asked for a token; then the client is where it says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Send this back, and keep nothing."""

    data: bytes


class ResetTokens:
    """The tokens by which a peer knows that we have lost a connection's state, even after a restart.

    Each is a keyed hash of the connection id, so none has to be kept.
    """

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        """`secret` stays the same over restarts, and nothing but tokens is made of it."""
        self._key = secret

    def of(self, connection_id: bytes) -> bytes:
        return hmac.digest(self._key, connection_id, hashlib.sha256)[:_TOKEN_LENGTH]


class _Noise:
    """Bytes that tell nothing of any others: a stranger sees thousands of them, and `random` would give away
    its state."""

    __slots__ = ("_count", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0

    def take(self, length: int) -> bytes:
        """Up to 32 bytes."""
        self._count += 1
        return hmac.digest(self._key, self._count.to_bytes(8, "big"), hashlib.sha256)[:length]


class _Rate:
    """So many a second, and as many in one burst."""

    __slots__ = ("_at", "_left", "_per_second")

    def __init__(self, per_second: float, now: float) -> None:
        self._per_second = per_second
        self._left = per_second
        self._at = now

    def take(self, now: float) -> bool:
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Closed:
    """A connection that is over, for late datagrams to it."""

    __slots__ = ("heard", "last_word", "until")

    def __init__(self, last_word: bytes, until: float) -> None:
        self.last_word = last_word
        self.until = until
        self.heard = 0


class Endpoint:
    """Judges the datagrams of strangers."""

    def __init__(
        self,
        tokens: ResetTokens,
        config: EndpointConfig = DEFAULT_ENDPOINT_CONFIG,
        *,
        noise_key: bytes,
        now: float,
    ) -> None:
        """`noise_key` is secret, and another one after each start."""
        self.dropped: Counter[str] = Counter()
        """Datagrams that were not answered, by reason."""
        self.answered: Counter[str] = Counter()
        """Datagrams that were, without a connection, by what the answer was."""
        self._config = config
        self._tokens = tokens
        self._noise = _Noise(noise_key)
        self._retry = QuicRetryTokenHandler()
        self._closed: OrderedDict[bytes, _Closed] = OrderedDict()
        self._unproven = _Rate(config.unproven_per_second, now)
        per_second = config.stateless_per_second
        # One kind must not use up what another is worth: a flood of garbage is answered with resets.
        self._rates = {kind: _Rate(per_second, now) for kind in ("closed", "reset", "version")}
        self._rates["retry"] = _Rate(config.retries_per_second, now)

    def judge(
        self, data: bytes, address: Address, now: float, *, half_open: int, half_open_there: int
    ) -> Accept | Answer | None:
        """What to do with a datagram that is for no connection.

        `half_open` inbound handshakes are under way, `half_open_there` of them from the same IP address that
        nobody has shown to be theirs.
        """
        connection_id = destination_id(data)
        if connection_id is None:
            return self._drop("malformed")
        if (closed := self._closed.get(connection_id)) is not None:
            return self._repeat(closed, data, now)
        if not data[0] & _LONG:
            return self._reset(connection_id, data, now)
        if len(data) < SMALLEST_FIRST:
            return self._drop("too_small")
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_LENGTH)
        except ValueError:
            return self._drop("malformed")
        if header.version != VERSION:
            return self._negotiate_version(header, data, now)
        if header.packet_type is not QuicPacketType.INITIAL or len(connection_id) < _SHORTEST_FIRST_ID:
            return self._drop("unexpected")
        if half_open >= self._config.max_half_open:
            return self._drop("half_open")
        if header.token:
            original_id = self._token_of(header, address, now)
            if original_id is not None:
                return Accept(original_id, connection_id)
        if (
            half_open >= self._config.retry_above
            or half_open_there >= self._config.retry_above_per_address
            or not self._unproven.take(now)
        ):
            return self._ask_for_token(header, address, data, now)
        return Accept(connection_id, None)

    def remember_closed(self, connection_ids: list[bytes], last_word: bytes, now: float) -> None:
        """Answer late datagrams to a connection that is over with its last word."""
        closed = _Closed(last_word, now + self._config.closed_lifetime)
        for connection_id in connection_ids:
            self._closed[connection_id] = closed
        while self._closed:
            first, oldest = next(iter(self._closed.items()))
            if oldest.until > now and len(self._closed) <= self._config.max_closed:
                break
            del self._closed[first]

    # Inside

    def _drop(self, reason: str) -> Answer | None:
        self.dropped[reason] += 1
        return None

    def _may_answer(self, kind: str, now: float) -> bool:
        """Whether strangers may get one more answer of a kind; asked before it costs anything to make it."""
        if self._rates[kind].take(now):
            return True
        self.dropped["rate"] += 1
        return False

    def _answer(self, kind: str, answer: bytes, to: bytes) -> Answer | None:
        if len(answer) > _AMPLIFICATION * len(to):
            return self._drop("amplification")
        self.answered[kind] += 1
        return Answer(answer)

    def _repeat(self, closed: _Closed, data: bytes, now: float) -> Answer | None:
        """The last word of a connection, ever more rarely: the other side may have one as well, and they must
        not answer each other for ever (RFC 9000, section 10.2.1)."""
        closed.heard += 1
        if closed.heard & (closed.heard - 1):
            return self._drop("closed")
        return self._answer("closed", closed.last_word, data) if self._may_answer("closed", now) else None

    def _negotiate_version(self, header: QuicHeader, data: bytes, now: float) -> Answer | None:
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return self._drop("unexpected")  # two endpoints must not answer each other for ever
        if not self._may_answer("version", now):
            return None
        versions = encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=[VERSION],
        )
        return self._answer("version", versions, data)

    def _ask_for_token(self, header: QuicHeader, address: Address, data: bytes, now: float) -> Answer | None:
        if not self._may_answer("retry", now):
            return None
        retry_id = self._noise.take(CONNECTION_ID_LENGTH)
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=retry_id,
            now=now,
        )
        retry = encode_quic_retry(
            version=VERSION,
            source_cid=retry_id,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        return self._answer("retry", retry, data)

    def _token_of(self, header: QuicHeader, address: Address, now: float) -> bytes | None:
        """The connection id that the client began with, if its token is ours, fresh and its own."""
        try:
            return self._retry.validate_token(
                address=address, destination_cid=header.destination_cid, token=header.token, now=now
            )
        except ValueError:
            self.dropped["token"] += 1  # then it comes without one
            return None

    def _reset(self, connection_id: bytes, data: bytes, now: float) -> Answer | None:
        """Tell a peer that goes on with a connection of which we know nothing, say from before a restart."""
        long, short = _RESET_LENGTHS
        length = long if 2 * long <= len(data) else short
        if len(data) <= length:
            return self._drop("unknown_connection")
        if not self._may_answer("reset", now):
            return None
        filler = self._noise.take(length - _TOKEN_LENGTH)
        first = filler[0] & 0x3F | 0x40
        return self._answer("reset", bytes([first]) + filler[1:] + self._tokens.of(connection_id), data)
