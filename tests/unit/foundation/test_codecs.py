"""The codecs: round trips, and refusal of everything that has a second encoding."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from wws.codec import base32, base58, base64, canonical, protobuf, varint
from wws.errors import ParseError, TooLarge, Truncated, WwsError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.integers(0, varint.MAX_VALUE), st.binary(max_size=4), st.binary(max_size=4))
def test_varint_round_trip_at_any_offset(value: int, before: bytes, after: bytes) -> None:
    data = before + varint.encode(value) + after
    assert varint.decode(data, len(before)) == (value, len(data) - len(after))


@pytest.mark.parametrize(
    "data, error",
    [
        (b"", Truncated),
        (b"\x80", Truncated),
        (b"\x80\x00", ParseError),
        (b"\xff" * 9 + b"\x01", ParseError),
        (b"\x80" * 8 + b"\x00", ParseError),
    ],
)
def test_varint_refuses(data: bytes, error: type[WwsError]) -> None:
    with pytest.raises(error):
        varint.decode(data)


def test_varint_limit_is_inclusive() -> None:
    assert varint.decode(varint.encode(300), limit=300) == (300, 2)
    with pytest.raises(ParseError):
        varint.decode(varint.encode(301), limit=300)


@given(st.binary(max_size=12))
def test_varint_of_anything_is_a_value_or_a_parse_error(data: bytes) -> None:
    try:
        value, end = varint.decode(data)
    except ParseError:
        return
    assert varint.encode(value) == data[:end]


@given(
    st.lists(
        st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=40)), max_size=8
    )
)
def test_protobuf_round_trip(fields: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(
        protobuf.encode_varint(number, value)
        if isinstance(value, int)
        else protobuf.encode_bytes(number, value)
        for number, value in fields
    )
    assert [tuple(field) for field in protobuf.parse(data)] == fields


@given(st.binary(max_size=64))
def test_protobuf_of_anything_is_fields_or_a_parse_error(data: bytes) -> None:
    try:
        protobuf.parse(data)
    except ParseError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01",  # field number 0
        b"\x0a\x05abc",  # shorter than it says
        b"\x0b",  # a group
        b"\x0c",  # the end of one
        b"\x08" + b"\xff" * 10,  # a varint over 64 bits
        b"\x0d\x01\x02",  # 4 bytes that are 2
    ],
)
def test_protobuf_refuses(data: bytes) -> None:
    with pytest.raises(ParseError):
        protobuf.parse(data)


def test_protobuf_field_limit() -> None:
    field = protobuf.encode_varint(1, 1)
    assert len(protobuf.parse(field * 5, max_fields=5)) == 5
    with pytest.raises(ParseError):
        protobuf.parse(field * 6, max_fields=5)


@given(st.binary(max_size=64))
def test_text_encodings_round_trip(data: bytes) -> None:
    for codec in (base58, base32, base64):
        assert codec.decode(codec.encode(data)) == data
    assert base64.decode_url(base64.encode_url(data)) == data


@given(st.text(max_size=40))
def test_text_encodings_have_one_form(text: str) -> None:
    for decode, encode in (
        (base58.decode, base58.encode),
        (base32.decode, base32.encode),
        (base64.decode, base64.encode),
        (base64.decode_url, base64.encode_url),
    ):
        try:
            data = decode(text)
        except ParseError:
            continue
        assert encode(data) == text


@pytest.mark.parametrize("text", ["QQ=", "QR==", "QQ", "Q Q=", "QQ==\n", "-_8=", "é"])
def test_base64_refuses(text: str) -> None:
    with pytest.raises(ParseError):
        base64.decode(text)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_canonical_json_round_trip(value: canonical.JsonObject) -> None:
    assert canonical.loads(canonical.dumps(value), max_bytes=100_000) == value


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1}',
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":9007199254740992}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":"\\u0041"}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":1}\n',
        b"\xef\xbb\xbf{}",
        b"[]",
        b"1",
        b"",
        b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    ],
)
def test_canonical_json_refuses(data: bytes) -> None:
    with pytest.raises(ParseError):
        canonical.loads(data, max_bytes=100_000)


def test_canonical_json_size_is_checked_first() -> None:
    data = canonical.dumps({"a": "x" * 100})
    assert canonical.loads(data, max_bytes=len(data))
    with pytest.raises(TooLarge):
        canonical.loads(data, max_bytes=len(data) - 1)


@given(st.binary(max_size=60))
def test_canonical_json_of_anything(data: bytes) -> None:
    try:
        value = canonical.loads(data, max_bytes=60)
    except ParseError:
        return
    assert canonical.dumps(value) == data


_KEYS = st.text(st.sampled_from("ab\x7f\u00e9\ue000\uffff\U00010000\U0010ffff"), max_size=3)


@given(
    st.recursive(JSON, lambda inner: st.dictionaries(_KEYS, inner, max_size=4) | st.lists(inner, max_size=3)),
    st.booleans(),
    st.booleans(),
)
def test_canonical_json_is_what_the_reference_writes(
    value: canonical.JsonValue, sort_keys: bool, escape: bool
) -> None:
    """Reading has a check of its own, for speed: it takes and refuses what comparing with rfc8785 would."""
    text = json.dumps({"a": value}, sort_keys=sort_keys, ensure_ascii=escape, separators=(",", ":"))
    data = text.encode("utf-8", "surrogatepass")
    try:
        accepted = canonical.loads(data, max_bytes=1_000_000) == {"a": value}
    except ParseError:
        accepted = False
    try:
        expected = rfc8785.dumps({"a": value}) == data
    except ValueError:
        expected = False
    assert accepted == expected


def test_canonical_json_orders_keys_by_utf16() -> None:
    """U+10000 is written with surrogates, which come before U+E000."""
    right = '{"\U00010000":1,"\ue000":2}'.encode()
    assert canonical.dumps(canonical.loads(right, max_bytes=100)) == right
    with pytest.raises(ParseError):
        canonical.loads('{"\ue000":2,"\U00010000":1}'.encode(), max_bytes=100)
