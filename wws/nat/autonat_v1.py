"""Messages of AutoNAT v1 (libp2p specifications, autonat/autonat-v1.md): can you dial me back?

One request and one answer, behind their lengths, on a stream of `/libp2p/autonat/1.0.0`. We answer it for
others and never ask: nothing in it proves that the server dialled at all.

    Message       1 type · 2 dial · 3 dialResponse
    Dial          1 peer {1 id · 2 addrs*}
    DialResponse  1 status · 2 statusText · 3 addr

A field that is not repeated comes once; unknown fields are skipped, as are addresses of kinds that we do
not speak.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.codec import protobuf
from wws.errors import ParseError, TooLarge
from wws.identity.peer_id import PeerId

PROTOCOL = "/libp2p/autonat/1.0.0"


@dataclass(frozen=True, slots=True)
class MessageConfig:
    """Bounds of one message, checked before anything is built from it."""

    max_message_bytes: int = 8192
    """Longest message, without its length."""
    max_addresses: int = 32
    """Addresses read of one request; further ones are left out."""
    max_fields: int = 128
    """Fields of one message."""
    max_text: int = 256
    """Characters kept of a status text."""


DEFAULT_CONFIG = MessageConfig()

_DIAL = 0
_DIAL_RESPONSE = 1


class ResponseStatus(IntEnum):
    """What became of a request."""

    OK = 0
    E_DIAL_ERROR = 100
    """No address could be reached."""
    E_DIAL_REFUSED = 101
    """Nothing was dialled: no address may be, or a limit is reached."""
    E_BAD_REQUEST = 200
    E_INTERNAL_ERROR = 300


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial me at these addresses."""

    peer_id: PeerId | None
    """Whom to dial, when the request says so; it has to be the one that asks."""
    addresses: tuple[Multiaddr, ...]

    def encode(self) -> bytes:
        """The protobuf, without the length before it."""
        peer = b"" if self.peer_id is None else protobuf.encode_bytes(1, self.peer_id.to_bytes())
        peer += b"".join(protobuf.encode_bytes(2, address.to_bytes()) for address in self.addresses)
        return protobuf.encode_varint(1, _DIAL) + protobuf.encode_bytes(2, protobuf.encode_bytes(1, peer))


@dataclass(frozen=True, slots=True)
class DialResponse:
    """How it went."""

    status: ResponseStatus
    text: str = ""
    """For people."""
    address: Multiaddr | None = None
    """The address that was reached, beside `OK`."""

    def encode(self) -> bytes:
        """The protobuf, without the length before it."""
        # proto2: the status is written also when it is 0, or a reader takes it for absent.
        response = protobuf.encode_varint(1, self.status)
        if self.text:
            response += protobuf.encode_bytes(2, self.text)
        if self.address is not None:
            response += protobuf.encode_bytes(3, self.address.to_bytes())
        return protobuf.encode_varint(1, _DIAL_RESPONSE) + protobuf.encode_bytes(3, response)


Message: TypeAlias = Dial | DialResponse


def parse(data: bytes, config: MessageConfig = DEFAULT_CONFIG) -> Message:
    """One message. Raises `ParseError` (`TooLarge` where a bound is passed)."""
    if len(data) > config.max_message_bytes:
        raise TooLarge(f"AutoNAT message of {len(data)} bytes, at most {config.max_message_bytes}")
    parts = _once(data, 3, config)
    kind = parts[1].as_int() if 1 in parts else _DIAL
    if kind not in (_DIAL, _DIAL_RESPONSE):
        raise ParseError(f"AutoNAT message of unknown type {kind}")
    wanted, other = (2, 3) if kind == _DIAL else (3, 2)
    if wanted not in parts or other in parts:
        raise ParseError("AutoNAT message does not hold what its type says")
    content = parts[wanted].as_bytes()
    return _parse_dial(content, config) if kind == _DIAL else _parse_response(content, config)


def _parse_dial(data: bytes, config: MessageConfig) -> Dial:
    peer = _once(data, 1, config).get(1)
    if peer is None:
        raise ParseError("AutoNAT dial without a peer")
    peer_id: PeerId | None = None
    addresses: list[Multiaddr] = []
    for field in protobuf.parse(peer.as_bytes(), max_fields=config.max_fields):
        if field.number == 1:
            if peer_id is not None:
                raise ParseError("AutoNAT dial names two peers")
            peer_id = PeerId.from_bytes(field.as_bytes())
        elif field.number == 2 and len(addresses) < config.max_addresses:
            addresses += _address(field.as_bytes())
    return Dial(peer_id, tuple(dict.fromkeys(addresses)))


def _parse_response(data: bytes, config: MessageConfig) -> DialResponse:
    parts = _once(data, 3, config)
    if 1 not in parts:
        raise ParseError("AutoNAT answer without a status")
    value = parts[1].as_int()
    try:
        status = ResponseStatus(value)
    except ValueError:
        raise ParseError(f"AutoNAT status {value} is unknown") from None
    text = parts[2].as_text() if 2 in parts else ""
    address = _address(parts[3].as_bytes()) if 3 in parts else []
    return DialResponse(status, text[: config.max_text], address[0] if address else None)


def _address(data: bytes) -> list[Multiaddr]:
    try:
        return [Multiaddr.from_bytes(data)]
    except ParseError:
        return []  # WebSocket and the like: nothing wrong with the peer


def _once(data: bytes, highest: int, config: MessageConfig) -> dict[int, protobuf.Field]:
    """The fields with numbers up to `highest`, none of which may come twice; those above are unknown."""
    fields: dict[int, protobuf.Field] = {}
    for field in protobuf.parse(data, max_fields=config.max_fields):
        if field.number in fields:
            raise ParseError(f"field {field.number} of an AutoNAT message comes twice")
        if field.number <= highest:
            fields[field.number] = field
    return fields
