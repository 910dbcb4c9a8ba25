"""Identify: what a peer says of itself (libp2p "identify" 1.0.0, `/ipfs/id/1.0.0` and `/ipfs/id/push/1.0.0`).

The answer is one or more length-prefixed protobuf messages, merged: go splits a large one. In a push, a
field that is absent stays as it was. A record that cannot be verified counts as absent, the rest is kept:
rust signs its record under another domain, and a peer is not lost for that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wws.addresses.multiaddr import Multiaddr
from wws.codec import protobuf, varint
from wws.errors import ParseError, TooLarge
from wws.identity.peer_id import PeerId
from wws.mesh.envelope import SignedPeerRecord, open_envelope

PROTOCOL = "/ipfs/id/1.0.0"
PUSH_PROTOCOL = "/ipfs/id/push/1.0.0"
PROTOCOL_VERSION = "/wws/1.0.0"
NETWORK_PREFIX = "/wws/net/"
MAX_BYTES = 64 * 1024
"""All messages of one identify together, in bytes."""
MAX_MESSAGES = 16
_CLOCK_FIELD = 901
_STRING = 64
"""Bytes of a text beside its characters, about."""
_ADDRESS = 400
"""Bytes of an address, about; of one by a long name a little more."""
MAX_ADDRESSES = 32
MAX_PROTOCOLS = 256
MAX_PROTOCOL_TEXT = 16 * 1024
"""All names of protocols together, in bytes; what comes after is left out. They are kept for every peer."""
MAX_TEXT = 256
"""Longest name of a protocol (longer ones are left out) and longest version text (cut), in characters."""


@dataclass(frozen=True, slots=True)
class Identification:
    """What one peer said of itself. In a push, `None` means: as before."""

    protocol_version: str | None = None
    agent_version: str | None = None
    peer_id: PeerId | None = None
    addresses: tuple[Multiaddr, ...] | None = None
    observed: Multiaddr | None = None
    protocols: tuple[str, ...] | None = None
    record: SignedPeerRecord | None = None
    clock: int | None = None
    """The peer's Unix time when it answered: field 901, ours alone; other implementations skip it."""

    def encode(self) -> bytes:
        """One length-prefixed message."""
        return varint.frame(self.message())

    def message(self) -> bytes:
        """The protobuf without its length. Protobuf messages put one behind the other are one message."""
        message = b""
        if self.peer_id is not None:
            message += protobuf.encode_bytes(1, self.peer_id.public_key_protobuf)
        for address in self.addresses or ():
            message += protobuf.encode_bytes(2, address.to_bytes())
        for protocol in self.protocols or ():
            message += protobuf.encode_bytes(3, protocol)
        if self.observed is not None:
            message += protobuf.encode_bytes(4, self.observed.to_bytes())
        if self.protocol_version is not None:
            message += protobuf.encode_bytes(5, self.protocol_version)
        if self.agent_version is not None:
            message += protobuf.encode_bytes(6, self.agent_version)
        if self.record is not None:
            message += protobuf.encode_bytes(8, self.record.envelope)
        if self.clock is not None:
            message += protobuf.encode_varint(_CLOCK_FIELD, self.clock)
        return message

    def updated_by(self, push: Identification) -> Identification:
        """This, with everything that `push` says anew."""
        changes = {
            name: value
            for name in (
                "protocol_version",
                "agent_version",
                "addresses",
                "observed",
                "protocols",
                "record",
                "clock",
            )
            if (value := getattr(push, name)) is not None
        }
        return replace(self, **changes)

    @property
    def cost(self) -> int:
        """Bytes that this takes in memory, about."""
        texts = (self.protocol_version or "", self.agent_version or "", *(self.protocols or ()))
        record = self.record
        addresses = len(self.addresses or ()) + (len(record.addresses) if record is not None else 0)
        return (
            sum(len(text.encode()) + _STRING for text in texts)
            + addresses * _ADDRESS
            + (len(record.envelope) if record is not None else 0)
        )

    @property
    def network(self) -> str | None:
        """The `/wws/net/…` protocol that the peer advertises, or `None`."""
        return next((name for name in self.protocols or () if name.startswith(NETWORK_PREFIX)), None)


def parse(data: bytes, sender: PeerId) -> Identification:
    """What `sender`, the authenticated peer, said: all its messages merged.

    Raises `ParseError` when the frames or messages are malformed, too large or too many, or name another
    key than the sender's. Addresses that we do not speak, and a record that does not verify, is of somebody
    else, or is too large, are left out.
    """
    if len(data) > MAX_BYTES:
        raise TooLarge(f"identify of {len(data)} bytes")
    fields: list[protobuf.Field] = []
    offset = messages = 0
    while offset < len(data):
        length, offset = varint.decode(data, offset, limit=MAX_BYTES)
        if offset + length > len(data):
            raise ParseError("identify is cut short")
        if (messages := messages + 1) > MAX_MESSAGES:
            raise TooLarge("identify in too many messages")
        fields += protobuf.parse(data[offset : offset + length], max_fields=1024)
        offset += length
    if not messages:
        raise ParseError("identify is empty")
    return _merge(fields, sender)


def _merge(fields: list[protobuf.Field], sender: PeerId) -> Identification:
    result: dict[str, object] = {}
    addresses: list[Multiaddr] | None = None
    protocols: dict[str, None] | None = None
    room = MAX_PROTOCOL_TEXT
    for field in fields:
        match field.number:
            case 1:
                if PeerId.from_protobuf(field.as_bytes()) != sender:
                    raise ParseError("identify names another key than the one that was authenticated")
                result["peer_id"] = sender
            case 2:
                addresses = addresses or []
                if len(addresses) < MAX_ADDRESSES and (address := _address(field.as_bytes())) is not None:
                    addresses.append(address)
            case 3:
                protocols = {} if protocols is None else protocols
                room -= len(field.as_bytes())
                name = field.as_text()
                if len(protocols) < MAX_PROTOCOLS and 0 < len(name) <= MAX_TEXT and room >= 0:
                    protocols[name] = None
            case 4:
                result["observed"] = _address(field.as_bytes())
            case 5:
                result["protocol_version"] = _clean(field.as_text())
            case 6:
                result["agent_version"] = _clean(field.as_text())
            case 8:
                result["record"] = _record(field.as_bytes(), sender)
            case number if number == _CLOCK_FIELD:
                result["clock"] = min(field.as_int(), 2**53)
    return Identification(
        **result,  # type: ignore[arg-type]
        addresses=None if addresses is None else tuple(dict.fromkeys(addresses)),
        protocols=None if protocols is None else tuple(protocols),
    )


def _address(data: bytes) -> Multiaddr | None:
    try:
        return Multiaddr.from_bytes(data)
    except ParseError:
        return None  # WebSocket, WebRTC and the like: nothing wrong with the peer


def _record(data: bytes, sender: PeerId) -> SignedPeerRecord | None:
    try:
        record = open_envelope(data)
    except ParseError:
        return None
    return record if record.peer_id == sender else None


def _clean(text: str) -> str:
    """Shown to people, so without control characters."""
    return "".join(character for character in text[:MAX_TEXT] if character.isprintable())
