"""Messages of AutoNAT v1: known bytes, round trips, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.codec.protobuf import encode_bytes, encode_varint
from wws.errors import ParseError, TooLarge
from wws.identity.keys import Identity
from wws.nat import autonat_v1
from wws.nat.autonat_v1 import Dial, DialResponse, Message, MessageConfig, ResponseStatus

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
HOME = Multiaddr.parse("/ip4/203.0.113.1/tcp/9000")
PEER = encode_bytes(1, ALICE.to_bytes())


def dial(peer: bytes) -> bytes:
    return encode_varint(1, 0) + encode_bytes(2, encode_bytes(1, peer))


@pytest.mark.parametrize(
    "message, written",
    [
        (Dial(None, (HOME,)), "0800 120c 0a0a 1208 04cb007101 062328"),
        (DialResponse(ResponseStatus.OK, "", HOME), "0801 1a0c 0800 1a08 04cb007101 062328"),
        (DialResponse(ResponseStatus.E_DIAL_ERROR, "no"), "0801 1a06 0864 1202 6e6f"),
    ],
)
def test_is_written_as_the_specification_says(message: Message, written: str) -> None:
    assert message.encode() == bytes.fromhex(written)
    assert autonat_v1.parse(bytes.fromhex(written)) == message


def test_reads_a_dial_whose_type_is_left_out() -> None:
    assert autonat_v1.parse(encode_bytes(2, encode_bytes(1, PEER))) == Dial(ALICE, ())


def test_addresses_of_other_kinds_unknown_fields_and_repetitions_are_left_out() -> None:
    once = encode_bytes(2, HOME.to_bytes())
    raw = dial(PEER + encode_bytes(2, b"\xff\x7f") + once + once + encode_varint(9, 1))
    assert autonat_v1.parse(raw + encode_bytes(9, b"new")) == Dial(ALICE, (HOME,))


def test_addresses_over_the_bound_are_left_out() -> None:
    three = tuple(HOME.with_port(port) for port in (1, 2, 3))
    for count in (2, 3):
        message = autonat_v1.parse(Dial(ALICE, three[:count]).encode(), MessageConfig(max_addresses=2))
        assert message == Dial(ALICE, three[:2])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        encode_varint(1, 0),
        encode_varint(1, 2) + encode_bytes(2, encode_bytes(1, PEER)),
        encode_varint(1, 1) + encode_bytes(2, encode_bytes(1, PEER)),
        dial(PEER) + encode_bytes(3, encode_varint(1, 0)),
        dial(PEER) * 2,
        dial(PEER * 2),
        dial(encode_bytes(1, b"no peer id")),
        encode_varint(1, 0) + encode_bytes(2, b""),
        encode_varint(1, 1) + encode_bytes(3, b""),
        encode_varint(1, 1) + encode_bytes(3, encode_varint(1, 7)),
        encode_varint(1, 1) + encode_bytes(3, encode_varint(1, 0) + encode_bytes(2, b"\xff")),
    ],
)
def test_malformed_messages_are_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        autonat_v1.parse(raw)


def test_too_much_is_refused() -> None:
    filler = encode_bytes(9, bytes(MessageConfig().max_message_bytes))
    with pytest.raises(TooLarge):
        autonat_v1.parse(dial(PEER) + filler)
    long = DialResponse(ResponseStatus.OK, "x" * 257).encode()
    assert autonat_v1.parse(long) == DialResponse(ResponseStatus.OK, "x" * 256)


addresses = st.builds(
    Multiaddr.of, st.ip_addresses().map(str), st.integers(1, 65535), st.sampled_from(["tcp", "quic-v1"])
)
messages = st.one_of(
    st.builds(
        Dial, st.sampled_from([None, ALICE, BOB]), st.lists(addresses, max_size=8, unique=True).map(tuple)
    ),
    st.builds(DialResponse, st.sampled_from(ResponseStatus), st.text(max_size=40), st.none() | addresses),
)


@given(messages)
def test_what_is_encoded_is_read_back(message: Message) -> None:
    assert autonat_v1.parse(message.encode()) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_parse_error(data: bytes) -> None:
    try:
        autonat_v1.parse(data)
    except ParseError:
        pass


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_a_parse_error(message: Message, data: st.DataObject) -> None:
    raw = bytearray(message.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(raw), bytes(raw[:at])):
        try:
            autonat_v1.parse(damaged)
        except ParseError:
            pass
