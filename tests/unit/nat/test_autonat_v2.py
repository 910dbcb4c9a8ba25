"""Messages of AutoNAT v2: known bytes, round trips, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.codec.protobuf import encode_bytes, encode_fixed64, encode_varint
from wws.errors import LocalProtocolError, ParseError, TooLarge
from wws.nat import autonat_v2
from wws.nat.autonat_v2 import (
    DialBack,
    DialBackResponse,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    Message,
    MessageConfig,
    ResponseStatus,
)

HOME = Multiaddr.parse("/ip4/203.0.113.1/tcp/9000")
QUIC = Multiaddr.parse("/ip4/203.0.113.1/udp/9000/quic-v1")
WEB_TRANSPORT = QUIC.to_bytes() + bytes.fromhex("d103")
NONCE = 0x0102030405060708


@pytest.mark.parametrize(
    "message, written",
    [
        (DialRequest((HOME,), NONCE), "0a13 0a08 04cb007101 062328 11 0807060504030201"),
        (DialResponse(ResponseStatus.OK, 2, DialStatus.E_DIAL_ERROR), "1207 08c801 1002 1864"),
        (DialResponse(ResponseStatus.E_INTERNAL_ERROR), "1200"),
        (DialDataRequest(1, 30_000), "1a06 0801 10b0ea01"),
        (DialDataRequest(0, 30_000), "1a04 10b0ea01"),
        (DialDataResponse(b"abc"), "2205 0a03 616263"),
    ],
)
def test_is_written_as_the_specification_says(message: Message, written: str) -> None:
    assert message.encode() == bytes.fromhex(written)
    assert autonat_v2.parse(bytes.fromhex(written)) == message


def test_the_nonce_is_eight_bytes_low_first() -> None:
    assert DialBack(NONCE).encode() == bytes.fromhex("09 0807060504030201")
    assert DialBack.parse(bytes.fromhex("09 0807060504030201")) == DialBack(NONCE)
    assert DialBack.parse(b"") == DialBack(0)
    assert DialBackResponse().encode() == b""
    assert DialBackResponse.parse(bytes.fromhex("0800")) == DialBackResponse()


def test_an_address_of_another_kind_keeps_its_place() -> None:
    raw = encode_bytes(1, encode_bytes(1, WEB_TRANSPORT) + encode_bytes(1, HOME.to_bytes()))
    request = autonat_v2.parse(raw)
    assert request == DialRequest((None, HOME), 0)
    with pytest.raises(LocalProtocolError):
        request.encode()


def test_unknown_fields_are_skipped() -> None:
    raw = DialResponse(ResponseStatus.OK).encode()
    assert autonat_v2.parse(raw + encode_bytes(9, b"new")) == DialResponse(ResponseStatus.OK)
    assert DialBack.parse(encode_varint(7, 1) + DialBack(5).encode()) == DialBack(5)


def test_addresses_over_the_bound_are_left_out() -> None:
    config = MessageConfig(max_addresses=2)
    for count in (2, 3):
        request = autonat_v2.parse(DialRequest((HOME, QUIC, HOME)[:count], 1).encode(), config)
        assert request == DialRequest((HOME, QUIC), 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        DialResponse(ResponseStatus.OK).encode() + DialDataRequest(0, 1).encode(),
        DialDataResponse(b"a").encode() * 2,
        encode_varint(1, 5),
        encode_bytes(1, encode_bytes(2, b"1234567")),
        encode_bytes(1, encode_varint(2, 5)),
        encode_bytes(1, encode_fixed64(2, 5) * 2),
        encode_bytes(2, encode_varint(1, 7)),
        encode_bytes(2, encode_varint(1, 200) + encode_varint(3, 7)),
        encode_bytes(2, encode_varint(1, 200) * 2),
        encode_bytes(2, encode_varint(2, 2**32)),
        encode_bytes(3, encode_varint(1, 2**32)),
        encode_bytes(4, encode_varint(1, 5)),
    ],
)
def test_malformed_messages_are_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        autonat_v2.parse(raw)


@pytest.mark.parametrize(
    "parser, raw",
    [
        (DialBack.parse, encode_varint(1, 5)),
        (DialBack.parse, DialBack(1).encode() * 2),
        (DialBackResponse.parse, encode_varint(1, 1)),
        (DialBackResponse.parse, encode_bytes(1, b"")),
    ],
)
def test_malformed_dial_backs_are_refused(parser: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(ParseError):
        parser(raw)


def test_too_much_is_refused() -> None:
    config = MessageConfig()
    assert autonat_v2.parse(DialDataResponse(bytes(4096)).encode()) == DialDataResponse(bytes(4096))
    for message in (
        DialDataResponse(bytes(4097)),
        DialDataResponse(bytes(config.max_message_bytes)),
    ):
        with pytest.raises(TooLarge):
            autonat_v2.parse(message.encode())
    with pytest.raises(TooLarge):
        DialBack.parse(encode_bytes(9, bytes(autonat_v2.MAX_DIAL_BACK_BYTES)))


addresses = st.builds(
    Multiaddr.of, st.ip_addresses().map(str), st.integers(1, 65535), st.sampled_from(["tcp", "quic-v1"])
)
numbers = st.integers(0, 2**32 - 1)
messages = st.one_of(
    st.builds(DialRequest, st.lists(addresses, max_size=8).map(tuple), st.integers(0, 2**64 - 1)),
    st.builds(DialResponse, st.sampled_from(ResponseStatus), numbers, st.sampled_from(DialStatus)),
    st.builds(DialDataRequest, numbers, st.integers(0, 2**64 - 1)),
    st.builds(DialDataResponse, st.binary(max_size=4096)),
)


@given(messages)
def test_what_is_encoded_is_read_back(message: Message) -> None:
    assert autonat_v2.parse(message.encode()) == message


@given(st.integers(0, 2**64 - 1))
def test_every_nonce_is_read_back(nonce: int) -> None:
    assert DialBack.parse(DialBack(nonce).encode()) == DialBack(nonce)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_parse_error(data: bytes) -> None:
    for parser in (autonat_v2.parse, DialBack.parse, DialBackResponse.parse):
        try:
            parser(data)
        except ParseError:
            pass


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_a_parse_error(message: Message, data: st.DataObject) -> None:
    raw = bytearray(message.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(raw), bytes(raw[:at])):
        try:
            autonat_v2.parse(damaged)
        except ParseError:
            pass
