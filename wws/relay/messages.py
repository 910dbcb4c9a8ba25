"""Messages of circuit relay v2: what goes over a `hop` or `stop` stream, each behind its length.

Source: libp2p specifications, relay/circuit-v2.md, "Protobuf".

    HopMessage   1 type (RESERVE, CONNECT, STATUS) · 2 peer · 3 reservation · 4 limit · 5 status
    StopMessage  1 type (CONNECT, STATUS) · 2 peer · 3 limit · 4 status
    Peer         1 id · 2 addrs* (for active relays, which nobody should be: not read, never written)
    Reservation  1 expire (Unix seconds) · 2 addrs* (of the relay, with its /p2p) · 3 voucher
    Limit        1 duration (seconds; js means milliseconds) · 2 data (bytes in each direction)

A circuit is limited when the limit *is there*, whatever numbers it holds; 0 in it means no bound of that
kind. A number that is too large is taken for the largest that makes sense: a relay that counts in other units
is still a relay. The type is required: a message without one is malformed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from wws.addresses.multiaddr import Multiaddr
from wws.codec import protobuf
from wws.errors import ParseError, TooLarge
from wws.identity.peer_id import PeerId

HOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/hop"
STOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/stop"

MAX_MESSAGE = 4096
"""Longest message that is read or written, in bytes: go and rust read no longer ones."""
MAX_FIELDS = 64
"""Fields of one message, or of a message inside it."""
MAX_ADDRESSES = 16
"""Addresses of a relay that are read or written; further ones are left out."""
MAX_ADDRESS_BYTES = 128
"""Longest address that is written, so that sixteen of them and a voucher fit into a message."""
MAX_DURATION = 86_400
"""Seconds of a limit above which it is read as this many."""
MAX_DATA = 2**53 - 1
"""Bytes of a limit above which it is read as this many."""
MAX_TIME = 2**53 - 1
"""Latest expiry, in Unix seconds, that is told apart from later ones."""


class ForeignPeerId(ParseError):
    """The peer is named by a key of another kind than Ed25519: well formed, and nobody we could know."""

    code = "foreign_peer_id"


class Status(IntEnum):
    """How a request ended."""

    UNKNOWN = 0
    """No code, or one that the specification does not have: not OK. Never written."""
    OK = 100
    RESERVATION_REFUSED = 200
    RESOURCE_LIMIT_EXCEEDED = 201
    PERMISSION_DENIED = 202
    CONNECTION_FAILED = 203
    NO_RESERVATION = 204
    MALFORMED_MESSAGE = 400
    UNEXPECTED_MESSAGE = 401


class HopType(IntEnum):
    RESERVE = 0
    CONNECT = 1
    STATUS = 2


class StopType(IntEnum):
    CONNECT = 0
    STATUS = 1


@dataclass(frozen=True, slots=True)
class Limit:
    """What a relay allows one circuit. 0: no bound of that kind."""

    duration: int = 0
    """Seconds."""
    data: int = 0
    """Bytes in each direction."""

    def encode(self) -> bytes:
        return protobuf.encode_varint(1, self.duration) + protobuf.encode_varint(2, self.data)

    @property
    def max_seconds(self) -> int | None:
        """The bound on time, or `None` where there is none."""
        return self.duration or None

    @property
    def max_bytes(self) -> int | None:
        """The bound on bytes in each direction, or `None` where there is none."""
        return self.data or None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A slot that a relay has given."""

    expire: int
    """Unix seconds."""
    addresses: tuple[Multiaddr, ...] = ()
    """Where the relay is reached, with its /p2p and without /p2p-circuit."""
    voucher: bytes | None = None
    """A signed envelope, see `wws.relay.voucher`."""

    def encode(self) -> bytes:
        data = protobuf.encode_varint(1, self.expire)
        raw = [packed for address in self.addresses if len(packed := address.to_bytes()) <= MAX_ADDRESS_BYTES]
        data += b"".join(protobuf.encode_bytes(2, packed) for packed in raw[:MAX_ADDRESSES])
        return data if self.voucher is None else data + protobuf.encode_bytes(3, self.voucher)


@dataclass(frozen=True, slots=True)
class HopMessage:
    """One message between a relay and whoever asks it for something."""

    type: HopType
    peer: PeerId | None = None
    """CONNECT: to whom."""
    reservation: Reservation | None = None
    """In the answer to RESERVE."""
    limit: Limit | None = None
    """In an answer: what circuits are limited to. `None`: they are not."""
    status: Status = Status.UNKNOWN

    def encode(self) -> bytes:
        """The protobuf, without the length before it."""
        data = protobuf.encode_varint(1, self.type)
        if self.peer is not None:
            data += _encode_peer(self.peer)
        if self.reservation is not None:
            data += protobuf.encode_bytes(3, self.reservation.encode())
        if self.limit is not None:
            data += protobuf.encode_bytes(4, self.limit.encode())
        return data + (protobuf.encode_varint(5, self.status) if self.status else b"")

    @classmethod
    def parse(cls, data: bytes) -> HopMessage:
        """Read one message. Raises `ParseError`; `ForeignPeerId` for a peer with another kind of key."""
        kind: int | None = None
        peer: PeerId | None = None
        reservation: Reservation | None = None
        limit: Limit | None = None
        status = Status.UNKNOWN
        for field in _fields(data):
            match field.number:
                case 1:
                    kind = field.as_int()
                case 2:
                    peer = _parse_peer(field.as_bytes())
                case 3:
                    reservation = _parse_reservation(field.as_bytes())
                case 4:
                    limit = _parse_limit(field.as_bytes())
                case 5:
                    status = _parse_status(field.as_int())
                case _:
                    pass  # protobuf asks that unknown fields be skipped
        try:
            return cls(HopType(_required(kind)), peer, reservation, limit, status)
        except ValueError:
            raise ParseError(f"hop message of unknown type {kind}") from None


@dataclass(frozen=True, slots=True)
class StopMessage:
    """One message between a relay and the peer that a circuit leads to."""

    type: StopType
    peer: PeerId | None = None
    """CONNECT: from whom. The relay's word only; the handshake inside the circuit proves it."""
    limit: Limit | None = None
    """What the circuit is limited to. `None`: it is not."""
    status: Status = Status.UNKNOWN

    def encode(self) -> bytes:
        """The protobuf, without the length before it."""
        data = protobuf.encode_varint(1, self.type)
        if self.peer is not None:
            data += _encode_peer(self.peer)
        if self.limit is not None:
            data += protobuf.encode_bytes(3, self.limit.encode())
        return data + (protobuf.encode_varint(4, self.status) if self.status else b"")

    @classmethod
    def parse(cls, data: bytes) -> StopMessage:
        """Read one message. Raises `ParseError`; `ForeignPeerId` for a peer with another kind of key."""
        kind: int | None = None
        peer: PeerId | None = None
        limit: Limit | None = None
        status = Status.UNKNOWN
        for field in _fields(data):
            match field.number:
                case 1:
                    kind = field.as_int()
                case 2:
                    peer = _parse_peer(field.as_bytes())
                case 3:
                    limit = _parse_limit(field.as_bytes())
                case 4:
                    status = _parse_status(field.as_int())
                case _:
                    pass
        try:
            return cls(StopType(_required(kind)), peer, limit, status)
        except ValueError:
            raise ParseError(f"stop message of unknown type {kind}") from None


def _fields(data: bytes) -> list[protobuf.Field]:
    if len(data) > MAX_MESSAGE:
        raise TooLarge(f"relay message of {len(data)} bytes, at most {MAX_MESSAGE} are read")
    return protobuf.parse(data, max_fields=MAX_FIELDS)


def _required(kind: int | None) -> int:
    if kind is None:
        raise ParseError("relay message without a type")
    return kind


def _encode_peer(peer: PeerId) -> bytes:
    return protobuf.encode_bytes(2, protobuf.encode_bytes(1, peer.to_bytes()))


def _parse_peer(data: bytes) -> PeerId:
    raw = b""
    for field in protobuf.parse(data, max_fields=MAX_FIELDS):
        if field.number == 1:
            raw = field.as_bytes()
    try:
        return PeerId.from_bytes(raw)
    except ParseError:
        # A multihash: SHA-256 of a larger key, or another small key as it is.
        if len(raw) > 2 and raw[0] in (0x00, 0x12) and raw[1] == len(raw) - 2:
            raise ForeignPeerId("the peer's key is not an Ed25519 key") from None
        raise


def _parse_reservation(data: bytes) -> Reservation:
    expire = 0
    addresses: list[Multiaddr] = []
    voucher: bytes | None = None
    for field in protobuf.parse(data, max_fields=MAX_FIELDS):
        match field.number:
            case 1:
                expire = min(field.as_int(), MAX_TIME)
            case 2:
                raw = field.as_bytes()
                if len(addresses) < MAX_ADDRESSES:
                    try:
                        addresses.append(Multiaddr.from_bytes(raw))
                    except ParseError:
                        pass  # a transport that we do not speak: the relay has others
            case 3:
                voucher = field.as_bytes()
            case _:
                pass
    return Reservation(expire, tuple(addresses), voucher)


def _parse_limit(data: bytes) -> Limit:
    duration = amount = 0
    for field in protobuf.parse(data, max_fields=MAX_FIELDS):
        match field.number:
            case 1:
                duration = min(field.as_int(), MAX_DURATION)
            case 2:
                amount = min(field.as_int(), MAX_DATA)
            case _:
                pass
    return Limit(duration, amount)


def _parse_status(code: int) -> Status:
    try:
        return Status(code)
    except ValueError:
        return Status.UNKNOWN
