"""Messages of circuit relay v2: known bytes, round trips, and what is refused, clamped or skipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.codec.protobuf import encode_bytes, encode_varint
from wws.errors import ParseError, TooLarge
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.relay.messages import (
    MAX_ADDRESSES,
    MAX_DATA,
    MAX_DURATION,
    MAX_FIELDS,
    MAX_MESSAGE,
    MAX_TIME,
    ForeignPeerId,
    HopMessage,
    HopType,
    Limit,
    Reservation,
    Status,
    StopMessage,
    StopType,
)

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
RELAY = Multiaddr.of("203.0.113.1", 9000).with_peer(BOB)
PEER = bytes.fromhex("0a26") + ALICE.to_bytes()


def test_requests_are_what_every_implementation_sends() -> None:
    assert HopMessage(HopType.RESERVE).encode() == bytes.fromhex("0800")
    assert HopMessage(HopType.CONNECT, peer=ALICE).encode() == bytes.fromhex("08011228") + PEER
    limited = StopMessage(StopType.CONNECT, peer=ALICE, limit=Limit(120, 131072)).encode()
    assert limited == bytes.fromhex("08001228") + PEER + bytes.fromhex("1a06087810808008")


def test_answers_are_what_every_implementation_sends() -> None:
    assert HopMessage(HopType.STATUS, status=Status.OK).encode() == bytes.fromhex("08022864")
    assert StopMessage(StopType.STATUS, status=Status.OK).encode() == bytes.fromhex("08012064")
    refused = HopMessage(HopType.STATUS, status=Status.RESOURCE_LIMIT_EXCEEDED).encode()
    assert refused == bytes.fromhex("080228c901")
    granted = HopMessage(
        HopType.STATUS,
        reservation=Reservation(1_700_000_000, (Multiaddr.of("203.0.113.1", 9000),), b"v"),
        limit=Limit(600, 2**21),
        status=Status.OK,
    )
    known = (
        "0802",  # STATUS
        "1a13 0880e2cfaa06 120804cb007101062328 1a0176",  # until, where, voucher
        "2208 08d804 1080808001",  # limit
        "2864",  # OK
    )
    assert granted.encode() == bytes.fromhex("".join(known))


addresses = st.builds(Multiaddr.of, st.ip_addresses(v=4).map(str), st.integers(1, 65535)).map(
    lambda address: address.with_peer(BOB)
)
peer_ids = st.none() | st.sampled_from([ALICE, BOB])
limits = st.none() | st.builds(Limit, st.integers(0, MAX_DURATION), st.integers(0, MAX_DATA))
reservations = st.none() | st.builds(
    Reservation,
    st.integers(0, MAX_TIME),
    st.lists(addresses, max_size=MAX_ADDRESSES).map(tuple),
    st.none() | st.binary(max_size=300),
)
hops = st.builds(
    HopMessage, st.sampled_from(HopType), peer_ids, reservations, limits, st.sampled_from(Status)
)
stops = st.builds(StopMessage, st.sampled_from(StopType), peer_ids, limits, st.sampled_from(Status))


@given(hops | stops)
def test_what_is_encoded_is_read_back(message: HopMessage | StopMessage) -> None:
    assert type(message).parse(message.encode()) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_parse_error(data: bytes) -> None:
    for kind in (HopMessage, StopMessage):
        try:
            kind.parse(data)
        except ParseError:
            pass


@given(hops | stops, st.data())
def test_a_damaged_message_is_a_message_or_a_parse_error(
    message: HopMessage | StopMessage, data: st.DataObject
) -> None:
    raw = bytearray(message.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(raw), bytes(raw[:at])):
        try:
            type(message).parse(damaged)
        except ParseError:
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_bytes(2, PEER),  # no type
        encode_varint(1, 3),
        encode_varint(1, 2**63),
        encode_bytes(1, b"\x00"),
        encode_varint(1, 1) + encode_varint(2, 1),
        encode_varint(1, 1) + encode_bytes(2, b""),  # a peer without an id
        encode_varint(1, 1) + encode_bytes(2, encode_bytes(1, b"alice")),
        encode_varint(1, 1) + encode_bytes(2, encode_bytes(1, ALICE.to_bytes() + b"\x00")),
        encode_varint(1, 1) + encode_bytes(5, b"\x64") + encode_bytes(4, b"\x64"),
        encode_varint(1, 1) + b"\x12\x28",
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    for kind in (HopMessage, StopMessage):
        with pytest.raises(ParseError):
            kind.parse(data)


@pytest.mark.parametrize(
    "multihash", [bytes.fromhex("1220") + bytes(32), bytes.fromhex("0025") + b"\x08\x02" + bytes(35)]
)
def test_a_peer_with_another_kind_of_key_is_told_apart_from_garbage(multihash: bytes) -> None:
    with pytest.raises(ForeignPeerId):
        HopMessage.parse(encode_varint(1, 1) + encode_bytes(2, encode_bytes(1, multihash)))


def test_addresses_of_an_active_relay_are_not_read() -> None:
    peer = encode_bytes(1, ALICE.to_bytes()) + encode_bytes(2, b"whatever") * 3
    message = HopMessage.parse(encode_varint(1, 1) + encode_bytes(2, peer))
    assert message == HopMessage(HopType.CONNECT, peer=ALICE)


@pytest.mark.parametrize("code", [0, 1, 99, 101, 205, 402, 2**64 - 1])
def test_an_unknown_status_is_not_ok(code: int) -> None:
    assert HopMessage.parse(encode_varint(1, 2) + encode_varint(5, code)).status is Status.UNKNOWN
    assert StopMessage.parse(encode_varint(1, 1) + encode_varint(4, code)).status is Status.UNKNOWN


def test_limited_is_decided_by_the_presence_of_the_limit() -> None:
    assert HopMessage.parse(encode_varint(1, 2)).limit is None
    empty = HopMessage.parse(encode_varint(1, 2) + encode_bytes(4, b"")).limit
    assert empty == Limit()
    assert empty.max_seconds is None
    assert empty.max_bytes is None
    assert Limit(600, 2**21).max_seconds == 600
    assert Limit(600, 2**21).max_bytes == 2**21


def test_numbers_beyond_all_measure_are_clamped() -> None:
    milliseconds = encode_varint(1, 7_200_000) + encode_varint(2, 2**64 - 1)
    message = HopMessage.parse(encode_varint(1, 2) + encode_bytes(4, milliseconds))
    assert message.limit == Limit(MAX_DURATION, MAX_DATA)
    for_ever = HopMessage.parse(encode_varint(1, 2) + encode_bytes(3, encode_varint(1, 2**64 - 1)))
    assert for_ever.reservation == Reservation(MAX_TIME)


def test_addresses_that_we_do_not_speak_are_skipped() -> None:
    websocket = Multiaddr.of("203.0.113.1", 443).to_bytes() + b"\xdd\x03"
    reservation = (
        encode_varint(1, 5)
        + encode_bytes(2, websocket)
        + encode_bytes(2, RELAY.to_bytes())
        + encode_varint(9, 1)
    )
    message = HopMessage.parse(encode_varint(1, 2) + encode_bytes(3, reservation))
    assert message.reservation == Reservation(5, (RELAY,))


def test_bounds() -> None:
    filled = encode_varint(1, 0) + encode_bytes(99, b"x" * (MAX_MESSAGE - 6))
    assert len(filled) == MAX_MESSAGE
    assert HopMessage.parse(filled) == HopMessage(HopType.RESERVE)
    with pytest.raises(TooLarge):
        HopMessage.parse(filled + b"\x00")
    with pytest.raises(TooLarge):
        StopMessage.parse(filled + b"\x00")
    assert HopMessage.parse(encode_varint(1, 0) * MAX_FIELDS) == HopMessage(HopType.RESERVE)
    with pytest.raises(ParseError):
        HopMessage.parse(encode_varint(1, 0) * (MAX_FIELDS + 1))
    many = b"".join(
        encode_bytes(2, Multiaddr.of("203.0.113.1", port).to_bytes()) for port in range(1, MAX_ADDRESSES + 2)
    )
    message = HopMessage.parse(encode_varint(1, 2) + encode_bytes(3, many))
    assert message.reservation is not None
    assert [address.port for address in message.reservation.addresses] == list(range(1, MAX_ADDRESSES + 1))


def test_what_we_write_fits_what_others_read() -> None:
    name = ".".join(["a" * 60] * 4)
    long = Multiaddr.parse(f"/dns4/{name}/tcp/9000").with_peer(BOB)
    wide = [Multiaddr.parse(f"/ip6/2001:db8::{n}/udp/65535/quic-v1").with_peer(BOB) for n in range(1, 99)]
    message = HopMessage(
        HopType.STATUS,
        peer=PeerId(bytes(32)),
        reservation=Reservation(MAX_TIME, (long, *wide), b"v" * 400),
        limit=Limit(MAX_DURATION, MAX_DATA),
        status=Status.OK,
    )
    assert len(message.encode()) <= MAX_MESSAGE
    read = HopMessage.parse(message.encode())
    assert read.reservation is not None
    assert read.reservation.addresses == tuple(wide[:MAX_ADDRESSES])
