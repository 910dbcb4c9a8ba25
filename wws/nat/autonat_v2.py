"""Messages of AutoNAT v2 (libp2p specifications, autonat/autonat-v2.md): is this address of mine reachable?

    client                                     server
      |--- DialRequest (addresses, nonce) ------>|   on /libp2p/autonat/2/dial-request
      |<-- DialDataRequest (index, bytes) -------|   only when it would dial another IP than it sees
      |--- DialDataResponse (data) … ----------->|
      |<========== dials the address ============|   from a socket of its own
      |<-- DialBack (nonce) ---------------------|   on /libp2p/autonat/2/dial-back
      |--- DialBackResponse -------------------->|
      |<-- DialResponse (status, index, result) -|

Each message goes behind its length as a varint. On `dial-request` it is one of the four kinds inside a
`Message`, on `dial-back` it stands as it is. Stricter than protobuf: a `Message` holds exactly one kind, a
field that is not repeated comes once, an unknown status is refused. Unknown fields are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.codec import protobuf
from wws.errors import LocalProtocolError, ParseError, TooLarge

DIAL_REQUEST_PROTOCOL = "/libp2p/autonat/2/dial-request"
DIAL_BACK_PROTOCOL = "/libp2p/autonat/2/dial-back"

MAX_DIAL_BACK_BYTES = 64
"""Longest message on `dial-back`, without its length: both kinds take under 12 bytes."""


@dataclass(frozen=True, slots=True)
class MessageConfig:
    """Bounds of one message on `dial-request`, checked before anything is built from it."""

    max_message_bytes: int = 8192
    """Longest message, without its length; the bound of go-libp2p too."""
    max_addresses: int = 50
    """Addresses read of one request, as in go-libp2p; further ones are left out."""
    max_fields: int = 128
    """Fields of one message."""
    max_data_bytes: int = 4096
    """Bytes of data in one `DialDataResponse`, as the specification says."""


DEFAULT_CONFIG = MessageConfig()


class ResponseStatus(IntEnum):
    """What became of a request."""

    E_INTERNAL_ERROR = 0
    E_REQUEST_REJECTED = 100
    """Not served: over a limit."""
    E_DIAL_REFUSED = 101
    """None of the addresses is one that the server can or wants to dial."""
    OK = 200
    """An address was dialled; `DialStatus` says how that went."""


class DialStatus(IntEnum):
    """What became of the dial; means something only beside `ResponseStatus.OK`."""

    UNUSED = 0
    E_DIAL_ERROR = 100
    """No connection: the address is not reachable."""
    E_DIAL_BACK_ERROR = 101
    """Connected, but the nonce could not be handed over."""
    OK = 200


@dataclass(frozen=True, slots=True)
class DialRequest:
    """Dial one of my addresses, the first that you can, and bring this nonce there."""

    addresses: tuple[Multiaddr | None, ...]
    """Best first. `None` stands for one of a kind that we do not speak: the answer counts by index."""
    nonce: int
    """0 ≤ nonce < 2^64."""

    def encode(self) -> bytes:
        if None in self.addresses:
            raise LocalProtocolError("a dial request of ours names addresses that we can write")
        request = b"".join(protobuf.encode_bytes(1, a.to_bytes()) for a in self.addresses if a is not None)
        return protobuf.encode_bytes(1, request + protobuf.encode_fixed64(2, self.nonce))


@dataclass(frozen=True, slots=True)
class DialResponse:
    """The end of a request."""

    status: ResponseStatus
    index: int = 0
    """Of the address that was dialled; means something only beside `ResponseStatus.OK`."""
    dial_status: DialStatus = DialStatus.UNUSED

    def encode(self) -> bytes:
        parts = (
            protobuf.encode_varint(number, value)
            for number, value in ((1, self.status), (2, self.index), (3, self.dial_status))
            if value  # proto3 leaves the default out
        )
        return protobuf.encode_bytes(2, b"".join(parts))


@dataclass(frozen=True, slots=True)
class DialDataRequest:
    """Send me `byte_count` bytes first: I would dial another IP than the one I see you at."""

    index: int
    byte_count: int

    def encode(self) -> bytes:
        parts = (
            protobuf.encode_varint(number, value)
            for number, value in ((1, self.index), (2, self.byte_count))
            if value
        )
        return protobuf.encode_bytes(3, b"".join(parts))


@dataclass(frozen=True, slots=True)
class DialDataResponse:
    """A piece of those bytes, at most 4096; only `data` counts."""

    data: bytes

    def encode(self) -> bytes:
        return protobuf.encode_bytes(4, protobuf.encode_bytes(1, self.data))


Message: TypeAlias = DialRequest | DialResponse | DialDataRequest | DialDataResponse
"""What goes over `dial-request`. `message.encode()` is the protobuf without the length before it."""


def parse(data: bytes, config: MessageConfig = DEFAULT_CONFIG) -> Message:
    """One message of `dial-request`. Raises `ParseError` (`TooLarge` where a bound is passed)."""
    if len(data) > config.max_message_bytes:
        raise TooLarge(f"AutoNAT message of {len(data)} bytes, at most {config.max_message_bytes}")
    kinds = [field for field in protobuf.parse(data, max_fields=config.max_fields) if field.number <= 4]
    if len(kinds) != 1:
        raise ParseError(f"AutoNAT message holds {len(kinds)} kinds of message, not one")
    raw = kinds[0].as_bytes()
    match kinds[0].number:
        case 1:
            return _parse_request(raw, config)
        case 2:
            parts = _once(raw, 3)
            return DialResponse(
                _response_status(_number(parts, 1)),
                _number(parts, 2, limit=2**32 - 1),
                _dial_status(_number(parts, 3)),
            )
        case 3:
            parts = _once(raw, 2)
            return DialDataRequest(_number(parts, 1, limit=2**32 - 1), _number(parts, 2))
        case _:
            piece = _once(raw, 1).get(1)
            content = b"" if piece is None else piece.as_bytes()
            if len(content) > config.max_data_bytes:
                raise TooLarge(f"dial data of {len(content)} bytes in one message")
            return DialDataResponse(content)


@dataclass(frozen=True, slots=True)
class DialBack:
    """Here is your nonce: I have reached you."""

    nonce: int

    def encode(self) -> bytes:
        """The protobuf, without the length before it."""
        return protobuf.encode_fixed64(1, self.nonce)

    @classmethod
    def parse(cls, data: bytes) -> DialBack:
        """Raises `ParseError`."""
        nonce = _once_small(data).get(1)
        return cls(0 if nonce is None else nonce.as_fixed64())


@dataclass(frozen=True, slots=True)
class DialBackResponse:
    """The nonce has come. There is one status only, OK, which is 0: the message is empty."""

    def encode(self) -> bytes:
        """The protobuf, without the length before it."""
        return b""

    @classmethod
    def parse(cls, data: bytes) -> DialBackResponse:
        """Raises `ParseError`, also for a status other than OK."""
        if status := _number(_once_small(data), 1):
            raise ParseError(f"status {status} of a dial-back is unknown")
        return cls()


def _parse_request(data: bytes, config: MessageConfig) -> DialRequest:
    addresses: list[Multiaddr | None] = []
    nonce: int | None = None
    for field in protobuf.parse(data, max_fields=config.max_fields):
        if field.number == 1:
            if len(addresses) < config.max_addresses:
                addresses.append(_address(field.as_bytes()))
        elif field.number == 2:
            if nonce is not None:
                raise ParseError("a dial request has two nonces")
            nonce = field.as_fixed64()
    return DialRequest(tuple(addresses), nonce or 0)


def _address(data: bytes) -> Multiaddr | None:
    try:
        return Multiaddr.from_bytes(data)
    except ParseError:
        return None  # WebTransport and the like: its place in the list counts


def _once_small(data: bytes) -> dict[int, protobuf.Field]:
    if len(data) > MAX_DIAL_BACK_BYTES:
        raise TooLarge(f"dial-back message of {len(data)} bytes, at most {MAX_DIAL_BACK_BYTES}")
    return _once(data, 1)


def _once(data: bytes, highest: int) -> dict[int, protobuf.Field]:
    """The fields with numbers up to `highest`, none of which may come twice; those above are unknown."""
    fields: dict[int, protobuf.Field] = {}
    for field in protobuf.parse(data, max_fields=16):
        if field.number in fields:
            raise ParseError(f"field {field.number} of an AutoNAT message comes twice")
        if field.number <= highest:
            fields[field.number] = field
    return fields


def _number(fields: dict[int, protobuf.Field], number: int, *, limit: int = 2**64 - 1) -> int:
    value = fields[number].as_int() if number in fields else 0
    if value > limit:
        raise ParseError(f"field {number} of an AutoNAT message is {value}, at most {limit}")
    return value


def _response_status(value: int) -> ResponseStatus:
    try:
        return ResponseStatus(value)
    except ValueError:
        raise ParseError(f"status {value} of a dial response is unknown") from None


def _dial_status(value: int) -> DialStatus:
    try:
        return DialStatus(value)
    except ValueError:
        raise ParseError(f"dial status {value} is unknown") from None
