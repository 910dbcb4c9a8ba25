"""Messages of libp2p's Kademlia: what goes over a stream of `/wws/kad/1.0.0`, one behind its length each.

Source: libp2p specifications, kad-dht/README.md, "RPC messages"; wire.md section 2.

    Message  1 type · 2 key · 3 record · 8 closerPeers* · 9 providerPeers* · 10 clusterLevelRaw (ignored)
    Record   1 key · 2 value · 5 timeReceived
    Peer     1 id · 2 addrs* · 3 connection

Peers of a foreign implementation are passed on as they come: one whose id is not an Ed25519 key, and an
address that cannot be read, are skipped and counted in `skipped`, for one bad entry among twenty must not
cost the other nineteen. Everything else that is malformed is a `ParseError` for the whole message.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from wws.addresses.multiaddr import Multiaddr
from wws.codec import protobuf
from wws.errors import ParseError, TooLarge
from wws.identity.peer_id import PeerId


@dataclass(frozen=True, slots=True)
class MessageConfig:
    """Bounds of one message, checked before anything is built from it."""

    max_message_bytes: int = 128 * 1024
    """Longest message that is read: 32 foreign peers with many addresses fit with room to spare."""
    max_fields: int = 256
    """Fields of one message, of any number."""
    max_peers: int = 32
    """Peers kept of one list; the answer of an honest node has 20. Further ones are skipped."""
    max_addresses: int = 16
    """Addresses kept of one peer. Further ones are skipped."""
    max_address_bytes: int = 512
    """Longest address that is read; longer ones are skipped."""
    max_key_bytes: int = 256
    """Longest key: ours have 75 bytes, a CID seldom more than 40."""
    max_value_bytes: int = 8 * 1024
    """Largest value of a record (wire.md section 4)."""
    max_time_bytes: int = 64
    """Longest `timeReceived`."""
    reads_closer: bool = True
    """Whether closer peers are read. Addresses are what takes the time, and no request has a use for them."""


DEFAULT_CONFIG = MessageConfig()
REQUESTS = MessageConfig(max_message_bytes=16 * 1024, max_peers=2, reads_closer=False)
"""Bounds of a request: a record at most, or the one provider that the sender can speak for."""


class MessageType(IntEnum):
    """What a message asks, or what its answer answers: both carry the same type."""

    PUT_VALUE = 0
    GET_VALUE = 1
    ADD_PROVIDER = 2
    GET_PROVIDERS = 3
    FIND_NODE = 4
    PING = 5


class Connection(IntEnum):
    """What the sender of a peer list says about its own connection to that peer. A hint, not used."""

    NOT_CONNECTED = 0
    CONNECTED = 1
    CAN_CONNECT = 2
    CANNOT_CONNECT = 3


@dataclass(frozen=True, slots=True)
class WirePeer:
    """A peer as one node names it to another: who, and where it is said to be."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...] = ()
    connection: Connection = Connection.NOT_CONNECTED

    def encode(self) -> bytes:
        parts = [protobuf.encode_bytes(1, self.peer_id.to_bytes())]
        # As the other implementations write it: the id stands above, so an address does not repeat it.
        parts.extend(
            protobuf.encode_bytes(2, (a.without_peer() if a.peer_id == self.peer_id else a).to_bytes())
            for a in self.addresses
        )
        if self.connection:
            parts.append(protobuf.encode_varint(3, self.connection))
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class KadRecord:
    """A value and its key. `time_received` is set by some foreign holders; nothing is decided by it."""

    key: bytes
    value: bytes
    time_received: str = ""

    def encode(self) -> bytes:
        data = protobuf.encode_bytes(1, self.key) + protobuf.encode_bytes(2, self.value)
        return data + protobuf.encode_bytes(5, self.time_received) if self.time_received else data


@dataclass(frozen=True, slots=True)
class KadMessage:
    """One request or answer."""

    type: MessageType
    key: bytes = b""
    record: KadRecord | None = None
    closer_peers: tuple[WirePeer, ...] = ()
    provider_peers: tuple[WirePeer, ...] = ()
    skipped: int = 0
    """Peers and addresses left out while parsing. Not part of the encoding."""

    def encode(self) -> bytes:
        """The protobuf, without the length before it."""
        parts = [protobuf.encode_varint(1, self.type)]
        if self.key:
            parts.append(protobuf.encode_bytes(2, self.key))
        if self.record is not None:
            parts.append(protobuf.encode_bytes(3, self.record.encode()))
        parts.extend(protobuf.encode_bytes(8, peer.encode()) for peer in self.closer_peers)
        parts.extend(protobuf.encode_bytes(9, peer.encode()) for peer in self.provider_peers)
        return b"".join(parts)

    @classmethod
    def parse(cls, data: bytes, config: MessageConfig = DEFAULT_CONFIG) -> KadMessage:
        """Read one message. Raises `ParseError` (`TooLarge` where a bound is passed)."""
        if len(data) > config.max_message_bytes:
            raise TooLarge(
                f"Kademlia message of {len(data)} bytes, at most {config.max_message_bytes} are read"
            )
        kind = 0
        key = b""
        record: KadRecord | None = None
        closer: list[WirePeer] = []
        providers: list[WirePeer] = []
        skipped = 0
        for field in protobuf.parse(data, max_fields=config.max_fields):
            match field.number:
                case 1:
                    kind = field.as_int()
                case 2:
                    key = _bounded(field.as_bytes(), config.max_key_bytes, "key")
                case 3:
                    record = _parse_record(field.as_bytes(), config)
                case 8 | 9:
                    peers = closer if field.number == 8 else providers
                    raw = field.as_bytes()
                    if len(peers) >= config.max_peers or (field.number == 8 and not config.reads_closer):
                        skipped += 1
                        continue
                    peer, bad = _parse_peer(raw, config)
                    skipped += bad
                    if peer is not None:
                        peers.append(peer)
                case _:
                    pass  # protobuf asks that unknown fields be skipped, and cluster levels have no use
        try:
            message_type = MessageType(kind)
        except ValueError:
            raise ParseError(f"Kademlia message of unknown type {kind}") from None
        return cls(message_type, key, record, tuple(closer), tuple(providers), skipped)


def _bounded(data: bytes, limit: int, what: str) -> bytes:
    if len(data) > limit:
        raise TooLarge(f"Kademlia {what} of {len(data)} bytes, at most {limit} are accepted")
    return data


def _parse_record(data: bytes, config: MessageConfig) -> KadRecord:
    key = value = b""
    time_received = ""
    for field in protobuf.parse(data, max_fields=config.max_fields):
        match field.number:
            case 1:
                key = _bounded(field.as_bytes(), config.max_key_bytes, "record key")
            case 2:
                value = _bounded(field.as_bytes(), config.max_value_bytes, "record value")
            case 5:
                _bounded(field.as_bytes(), config.max_time_bytes, "record time")
                time_received = field.as_text()
            case _:
                pass  # rust-libp2p adds a publisher and a lifetime of its own: neither is signed
    return KadRecord(key, value, time_received)


def _parse_peer(data: bytes, config: MessageConfig) -> tuple[WirePeer | None, int]:
    """The peer, or `None` when it cannot be one of ours; and how many things were skipped."""
    peer_id: PeerId | None = None
    addresses: list[Multiaddr] = []
    connection = Connection.NOT_CONNECTED
    skipped = 0
    try:
        fields = protobuf.parse(data, max_fields=config.max_fields)
        for field in fields:
            match field.number:
                case 1:
                    peer_id = PeerId.from_bytes(field.as_bytes())
                case 2:
                    raw = field.as_bytes()
                    if len(addresses) >= config.max_addresses or len(raw) > config.max_address_bytes:
                        skipped += 1
                        continue
                    try:
                        addresses.append(Multiaddr.from_bytes(raw))
                    except ParseError:
                        skipped += 1
                case 3:
                    value = field.as_int()
                    connection = Connection(value) if value <= Connection.CANNOT_CONNECT else connection
                case _:
                    pass
    except ParseError:
        return None, skipped + 1
    if peer_id is None:
        return None, skipped + 1
    return WirePeer(peer_id, tuple(addresses), connection), skipped
