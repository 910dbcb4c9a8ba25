"""The messages of libp2p: identify, Kademlia, envelopes, relays, hole punching, AutoNAT."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tests.fuzz.codecs import ADDRESSES
from tests.fuzz.target import Form, Target
from wws.addresses.multiaddr import Multiaddr
from wws.codec import protobuf, varint
from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.errors import ParseError, RemoteProtocolError
from wws.mesh import envelope, identify
from wws.mesh.envelope import open_envelope, open_payload, seal
from wws.mesh.identify import Identification
from wws.nat import autonat_v1, autonat_v2
from wws.nat.dcutr import HolePunch
from wws.nat.dcutr import Type as PunchType
from wws.relay.messages import HopMessage, HopType, Limit, Reservation, Status, StopMessage, StopType
from wws.relay.voucher import check_voucher, make_voucher, open_voucher
from wws.testing.names import NOW, name_record, person
from wws.transport.noise import NoiseStatic, parse_payload

ALICE, BOB = person("alice"), person("bob")
MULTIADDRS = tuple(Multiaddr.parse(text) for text in ADDRESSES[:6])


def framed(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """The case is the message; the parser takes it behind its length, which is then never wrong."""
    return lambda data: parse(varint.frame(data))


@cache
def identifications() -> list[bytes]:
    record = seal(ALICE, 7, MULTIADDRS)
    whole = Identification(
        protocol_version="/wws/1.0.0",
        agent_version="wws/1",
        peer_id=ALICE.peer_id,
        addresses=MULTIADDRS,
        observed=MULTIADDRS[0],
        protocols=("/ipfs/ping/1.0.0", "/wws/kad/1.0.0"),
        record=record,
        clock=NOW,
    )
    return [whole.message(), Identification(protocols=()).message(), Identification(clock=1).message()]


@cache
def envelopes() -> list[bytes]:
    return [seal(ALICE, 7, MULTIADDRS).envelope, seal(BOB, 0, ()).envelope]


def _sealed(data: bytes) -> None:
    """The payload of an envelope whose signature is good, whatever is in it."""
    open_envelope(envelope.seal_payload(ALICE, envelope.DOMAIN, envelope.PAYLOAD_TYPE, data))


def _payloads() -> list[bytes]:
    return [open_payload(data, envelope.DOMAIN, envelope.PAYLOAD_TYPE)[1] for data in envelopes()]


@cache
def kad_messages() -> list[bytes]:
    peers = tuple(WirePeer(person(label).peer_id, MULTIADDRS) for label in ("carol", "dave"))
    record = name_record("alice")
    stored = KadRecord(record.key.encode(), record.value, "2026-01-01T00:00:00Z")
    key = record.key.encode()
    return [
        KadMessage(MessageType.FIND_NODE, ALICE.peer_id.to_bytes()).encode(),
        KadMessage(MessageType.FIND_NODE, key, closer_peers=peers).encode(),
        KadMessage(MessageType.GET_VALUE, key, stored, peers).encode(),
        KadMessage(MessageType.PUT_VALUE, key, stored).encode(),
        KadMessage(MessageType.GET_PROVIDERS, key, provider_peers=peers).encode(),
        KadMessage(MessageType.PING).encode(),
    ]


def _kad(data: bytes) -> None:
    message = KadMessage.parse(data)
    again = KadMessage.parse(message.encode())
    assert (again.type, again.key, again.record) == (message.type, message.key, message.record)


@cache
def vouchers() -> list[bytes]:
    return [make_voucher(ALICE, BOB.peer_id, NOW), make_voucher(BOB, ALICE.peer_id, NOW + 60)]


def _voucher(data: bytes) -> None:
    open_voucher(data)
    check_voucher(data, relay=ALICE.peer_id, peer=BOB.peer_id, unix_now=NOW - 1)


@cache
def hops() -> list[bytes]:
    reservation = Reservation(NOW, MULTIADDRS, vouchers()[0])
    return [
        HopMessage(HopType.RESERVE).encode(),
        HopMessage(HopType.CONNECT, BOB.peer_id).encode(),
        HopMessage(HopType.STATUS, None, reservation, Limit(60, 1 << 17), Status.OK).encode(),
        HopMessage(HopType.STATUS, status=Status.PERMISSION_DENIED).encode(),
    ]


@cache
def stops() -> list[bytes]:
    return [
        StopMessage(StopType.CONNECT, BOB.peer_id, Limit(60, 1 << 17)).encode(),
        StopMessage(StopType.STATUS, status=Status.OK).encode(),
    ]


def _punches() -> list[bytes]:
    return [
        HolePunch(PunchType.CONNECT, MULTIADDRS).encode(),
        HolePunch(PunchType.CONNECT, MULTIADDRS[:1], "address_dependent").encode(),
        HolePunch(PunchType.SYNC).encode(),
    ]


def _autonat_v1() -> list[bytes]:
    return [
        autonat_v1.Dial(ALICE.peer_id, MULTIADDRS).encode(),
        autonat_v1.Dial(None, MULTIADDRS[:1]).encode(),
        autonat_v1.DialResponse(autonat_v1.ResponseStatus.OK, "", MULTIADDRS[0]).encode(),
        autonat_v1.DialResponse(autonat_v1.ResponseStatus.E_DIAL_ERROR, "no answer").encode(),
    ]


def _autonat_v2() -> list[bytes]:
    return [
        autonat_v2.DialRequest(MULTIADDRS, 2**64 - 1).encode(),
        autonat_v2.DialResponse(autonat_v2.ResponseStatus.OK, 1, autonat_v2.DialStatus.OK).encode(),
        autonat_v2.DialDataRequest(0, 30_000).encode(),
        autonat_v2.DialDataResponse(b"x" * 100).encode(),
    ]


def _noise_payloads() -> list[bytes]:
    extension = protobuf.encode_bytes(
        4, protobuf.encode_bytes(1, b"hash") + protobuf.encode_bytes(2, "/yamux/1.0.0")
    )
    key = protobuf.encode_bytes(1, ALICE.peer_id.public_key_protobuf) + protobuf.encode_bytes(2, b"s" * 64)
    return [NoiseStatic(ALICE).payload, NoiseStatic(BOB, muxers=()).payload, key, key + extension]


MESSAGES = (
    Target(
        "identify",
        identifications,
        framed(lambda data: identify.parse(data, ALICE.peer_id)),
        (ParseError,),
        (identify.parse,),
        Form.PROTOBUF,
    ),
    Target(
        "identify frames",
        lambda: [varint.frame(data) for data in identifications()],
        lambda data: identify.parse(data, ALICE.peer_id),
        (ParseError,),
        (identify.parse,),
    ),
    Target("envelope", envelopes, open_envelope, (ParseError,), (open_envelope, open_payload), Form.PROTOBUF),
    Target(
        "peer record in an envelope",
        _payloads,
        _sealed,
        (ParseError,),
        (open_envelope,),
        Form.PROTOBUF,
        share=0.5,
        largest=8_000,
    ),
    Target("Kademlia", kad_messages, _kad, (ParseError,), (KadMessage.parse,), Form.PROTOBUF),
    Target("voucher", vouchers, _voucher, (ParseError,), (open_voucher,), Form.PROTOBUF),
    Target("relay hop", hops, HopMessage.parse, (ParseError,), (HopMessage.parse,), Form.PROTOBUF),
    Target("relay stop", stops, StopMessage.parse, (ParseError,), (StopMessage.parse,), Form.PROTOBUF),
    Target(
        "DCUtR",
        _punches,
        lambda data: HolePunch.parse(data, ALICE.peer_id),
        (ParseError,),
        (HolePunch.parse,),
        Form.PROTOBUF,
    ),
    Target("AutoNAT v1", _autonat_v1, autonat_v1.parse, (ParseError,), (autonat_v1.parse,), Form.PROTOBUF),
    Target("AutoNAT v2", _autonat_v2, autonat_v2.parse, (ParseError,), (autonat_v2.parse,), Form.PROTOBUF),
    Target(
        "AutoNAT dial-back",
        lambda: [autonat_v2.DialBack(2**63).encode(), autonat_v2.DialBack(0).encode()],
        autonat_v2.DialBack.parse,
        (ParseError,),
        (autonat_v2.DialBack.parse,),
        Form.PROTOBUF,
    ),
    Target(
        "AutoNAT dial-back response",
        lambda: [autonat_v2.DialBackResponse().encode(), b"\x08\x00"],
        autonat_v2.DialBackResponse.parse,
        (ParseError,),
        (autonat_v2.DialBackResponse.parse,),
        Form.PROTOBUF,
    ),
    Target(
        "Noise payload",
        _noise_payloads,
        parse_payload,
        (RemoteProtocolError,),
        (parse_payload,),
        Form.PROTOBUF,
    ),
)
