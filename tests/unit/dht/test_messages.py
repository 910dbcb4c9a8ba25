"""Messages of Kademlia: known bytes, round trips, and what is refused or skipped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.codec.protobuf import encode_bytes, encode_varint
from wws.dht.messages import (
    REQUESTS,
    Connection,
    KadMessage,
    KadRecord,
    MessageConfig,
    MessageType,
    WirePeer,
)
from wws.errors import ParseError, TooLarge
from wws.identity.keys import Identity

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
ADDRESS = Multiaddr.of("203.0.113.1", 9000)


def test_a_request_is_type_and_key() -> None:
    assert KadMessage(MessageType.FIND_NODE, b"key").encode() == bytes.fromhex("0804") + b"\x12\x03key"
    assert KadMessage(MessageType.PUT_VALUE).encode() == bytes.fromhex("0800")


def test_an_empty_message_is_a_put_by_proto3() -> None:
    assert KadMessage.parse(b"") == KadMessage(MessageType.PUT_VALUE)


def test_addresses_do_not_repeat_the_peer_id() -> None:
    raw = WirePeer(ALICE, (ADDRESS.with_peer(ALICE),)).encode()
    assert raw == WirePeer(ALICE, (ADDRESS,)).encode()


peers = st.builds(
    WirePeer,
    st.sampled_from([ALICE, BOB]),
    st.lists(st.builds(Multiaddr.of, st.ip_addresses(v=4).map(str), st.integers(1, 65535)), max_size=16).map(
        tuple
    ),
    st.sampled_from(Connection),
)
messages = st.builds(
    KadMessage,
    st.sampled_from(MessageType),
    st.binary(max_size=256),
    st.none()
    | st.builds(
        KadRecord, st.binary(max_size=256), st.binary(max_size=512), st.text("0123456789TZ:-", max_size=30)
    ),
    st.lists(peers, max_size=5).map(tuple),
    st.lists(peers, max_size=5).map(tuple),
)


@given(messages)
def test_what_is_encoded_is_read_back(message: KadMessage) -> None:
    assert KadMessage.parse(message.encode()) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_parse_error(data: bytes) -> None:
    try:
        KadMessage.parse(data)
    except ParseError:
        pass


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_a_parse_error(message: KadMessage, data: st.DataObject) -> None:
    raw = bytearray(message.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(raw), bytes(raw[:at])):
        try:
            KadMessage.parse(damaged)
        except ParseError:
            pass


def test_strangers_in_a_list_are_skipped_and_counted() -> None:
    rsa = encode_bytes(1, bytes.fromhex("1220") + bytes(32))
    websocket = encode_bytes(1, BOB.to_bytes()) + encode_bytes(2, ADDRESS.to_bytes() + b"\xdd\x03")
    data = (
        encode_varint(1, 4)
        + encode_bytes(8, rsa)
        + encode_bytes(8, websocket)
        + encode_bytes(8, b"\xff\xff")
        + encode_bytes(8, b"")
        + encode_bytes(8, WirePeer(ALICE, (ADDRESS,)).encode())
        + encode_varint(10, 7)
        + encode_bytes(99, b"unknown")
    )
    message = KadMessage.parse(data)
    assert message.closer_peers == (WirePeer(BOB), WirePeer(ALICE, (ADDRESS,)))
    assert message.skipped == 4


def test_unknown_connection_states_and_record_fields_are_ignored() -> None:
    peer = encode_bytes(1, ALICE.to_bytes()) + encode_varint(3, 9)
    record = KadRecord(b"k", b"v").encode() + encode_bytes(666, b"publisher") + encode_varint(777, 60)
    message = KadMessage.parse(encode_varint(1, 1) + encode_bytes(3, record) + encode_bytes(9, peer))
    assert message.record == KadRecord(b"k", b"v")
    assert message.provider_peers == (WirePeer(ALICE),)


LIMITS = MessageConfig(
    max_message_bytes=2000, max_peers=2, max_addresses=2, max_key_bytes=8, max_value_bytes=16, max_fields=20
)
AT_THE_LIMIT = [
    KadMessage(MessageType.GET_VALUE, b"k" * 8),
    KadMessage(MessageType.PUT_VALUE, b"k", KadRecord(b"k" * 8, b"v" * 16)),
    KadMessage(MessageType.FIND_NODE, b"k", None, (WirePeer(ALICE, (ADDRESS,) * 2),) * 2),
]


@pytest.mark.parametrize("message", AT_THE_LIMIT)
def test_what_is_at_the_limit_is_read(message: KadMessage) -> None:
    assert KadMessage.parse(message.encode(), LIMITS) == message


@pytest.mark.parametrize(
    "data",
    [
        KadMessage(MessageType.GET_VALUE, b"k" * 9).encode(),
        KadMessage(MessageType.PUT_VALUE, b"k", KadRecord(b"k" * 9, b"v")).encode(),
        KadMessage(MessageType.PUT_VALUE, b"k", KadRecord(b"k", b"v" * 17)).encode(),
        KadMessage(MessageType.PUT_VALUE, b"k", KadRecord(b"k", b"v", "t" * 65)).encode(),
        b"\x08\x04" + encode_bytes(99, b"x" * 2000),
    ],
)
def test_what_is_one_over_is_refused(data: bytes) -> None:
    with pytest.raises(TooLarge):
        KadMessage.parse(data, LIMITS)


def test_lists_are_cut_at_their_limit_and_counted() -> None:
    message = KadMessage(MessageType.FIND_NODE, b"k", None, (WirePeer(ALICE, (ADDRESS,) * 3),) * 3)
    parsed = KadMessage.parse(message.encode(), LIMITS)
    assert parsed.closer_peers == (WirePeer(ALICE, (ADDRESS,) * 2),) * 2
    assert parsed.skipped == 3


def test_too_many_fields_and_unknown_types_are_refused() -> None:
    for data in (encode_varint(99, 1) * 21, encode_varint(1, 6), encode_bytes(1, b"x"), encode_varint(2, 1)):
        with pytest.raises(ParseError):
            KadMessage.parse(data, LIMITS)


def test_of_a_request_only_what_it_is_for_is_read() -> None:
    """Reading addresses takes longer than answering: a peer that sends many must not keep us busy."""
    crowd = tuple(
        WirePeer(Identity.from_label(f"{number}").peer_id, (ADDRESS,) * 16, Connection.CONNECTED)
        for number in range(20)
    )
    request = KadMessage(MessageType.ADD_PROVIDER, b"key", None, crowd, crowd)
    read = KadMessage.parse(request.encode(), REQUESTS)
    assert (read.type, read.key, read.closer_peers) == (MessageType.ADD_PROVIDER, b"key", ())
    assert read.provider_peers == crowd[:2]
    assert read.skipped == 20 + 18
    garbage = request.encode() + encode_bytes(8, b"\xff" * 100) * 50
    assert KadMessage.parse(garbage, REQUESTS).skipped == 20 + 18 + 50
    with pytest.raises(TooLarge):
        KadMessage.parse(bytes(REQUESTS.max_message_bytes + 1), REQUESTS)
    value = bytes(REQUESTS.max_value_bytes)
    put = KadMessage(MessageType.PUT_VALUE, b"k" * 256, KadRecord(b"k" * 256, value))
    assert KadMessage.parse(put.encode(), REQUESTS) == put
