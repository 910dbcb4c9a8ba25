"""JSON-RPC lines: what is taken apart, what is refused, and that nothing else can come of any bytes."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wws.rpc.wire import (
    Batch,
    Invalid,
    LineSplitter,
    LineTooLong,
    NotJsonRpc,
    Request,
    TooDeep,
    TooManyValues,
    WireConfig,
    depth_within,
    encode,
    parse_line,
)

CONFIG = WireConfig()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def test_a_request() -> None:
    line = b'{"jsonrpc":"2.0","method":"swarm.ping","params":{"target":"bob"},"id":"7","token":"t"}'
    assert parse_line(line, CONFIG) == Request("swarm.ping", {"target": "bob"}, "7", False, "t")


def test_a_notification_has_no_id_and_null_is_one() -> None:
    gone = parse_line(b'{"jsonrpc":"2.0","method":"m"}', CONFIG)
    null = parse_line(b'{"jsonrpc":"2.0","method":"m","id":null}', CONFIG)
    assert isinstance(gone, Request)
    assert isinstance(null, Request)
    assert (gone.is_notification, null.is_notification) == (True, False)


def test_a_line_may_end_in_a_carriage_return() -> None:
    assert isinstance(parse_line(b'{"jsonrpc":"2.0","method":"m","id":1}\r', CONFIG), Request)


@pytest.mark.parametrize(
    "members, reason",
    [
        ({"method": 1, "id": 4}, "method"),
        ({"id": 4}, "method"),
        ({"method": "m", "params": "x", "id": 4}, "params"),
        ({"method": "m", "params": None, "id": 4}, "params"),
        ({"method": "m", "token": 5, "id": 4}, "token"),
    ],
)
def test_what_says_something_wrong_is_answered_by_its_id(members: dict, reason: str) -> None:
    found = parse_line(json.dumps({"jsonrpc": "2.0", **members}).encode(), CONFIG)
    assert isinstance(found, Invalid)
    assert reason in found.reason
    assert found.id == 4


@pytest.mark.parametrize("request_id", [True, 1.5, [], {}])
def test_an_id_is_a_text_an_integer_or_null(request_id: object) -> None:
    found = parse_line(json.dumps({"jsonrpc": "2.0", "method": "m", "id": request_id}).encode(), CONFIG)
    assert found == Invalid("id must be a text, an integer or null")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"GET / HTTP/1.1\r",
        b"5",
        b"null",
        b"{}",
        b'{"jsonrpc":2.0}',
        b"{",
        b"\xff",
        b'{"a":1,"a":2}',
    ],
)
def test_what_is_no_json_rpc_value_ends_the_connection(line: bytes) -> None:
    with pytest.raises(NotJsonRpc):
        parse_line(line, CONFIG)


def test_a_batch_at_its_bound_and_over_it() -> None:
    entry = {"jsonrpc": "2.0", "method": "m", "id": 1}
    full = parse_line(json.dumps([entry] * 100).encode(), CONFIG)
    assert isinstance(full, Batch)
    assert len(full.entries) == 100
    assert isinstance(parse_line(json.dumps([entry] * 101).encode(), CONFIG), Invalid)


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_at_its_bound_and_over_it(opening: bytes, closing: bytes) -> None:
    def nested(depth: int) -> bytes:
        return opening * depth + b"1" + closing * depth

    assert depth_within(nested(64), 64)
    assert not depth_within(nested(65), 64)
    with pytest.raises(TooDeep):
        parse_line(nested(10_000), CONFIG)


def test_brackets_in_texts_are_no_depth() -> None:
    assert depth_within(json.dumps(["[" * 500, '\\"[[', "]"]).encode(), 1)


MOST = 50_000


@pytest.mark.parametrize("value, each", [(b"[]", 2), (b"{}", 2), (b"1", 1), (b'""', 1), (b'"[,{"', 1)])
def test_values_at_their_bound_and_over_it(value: bytes, each: int) -> None:
    def wrapped(count: int) -> bytes:
        return b'{"jsonrpc":"2.0","method":"m","id":1,"params":[%s]}' % b",".join([value] * count)

    most = (MOST - 5 + 1) // each  # beside the arrays, objects and commas around them
    assert isinstance(parse_line(wrapped(most), CONFIG), Request)
    with pytest.raises(TooManyValues):
        parse_line(wrapped(most + 1), CONFIG)


@pytest.mark.parametrize("text", ['"' * 700_000, "\\" * 350_000, ",[{" * 300_000, '\\"' * 300_000])
def test_a_long_text_is_one_value(text: str) -> None:
    line = json.dumps({"jsonrpc": "2.0", "method": "m", "id": 1, "params": {"body": text}}).encode()
    assert isinstance(parse_line(line, CONFIG), Request)


@given(VALUES)
def test_depth_is_that_of_the_value(value: object) -> None:
    def depth(part: object) -> int:
        inner = part if isinstance(part, list) else part.values() if isinstance(part, dict) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    line, deep = json.dumps(value).encode(), depth(value)
    assert depth_within(line, deep)
    assert deep == 0 or not depth_within(line, deep - 1)


@given(st.binary(max_size=200))
@example(b'"' + b'\\"' * 100)
@example(b'{"jsonrpc":"2.0","method":"m","id":' + b"9" * 5000 + b"}")
def test_any_bytes_become_a_value_or_a_typed_refusal(line: bytes) -> None:
    try:
        assert isinstance(parse_line(line, CONFIG), (Request, Invalid, Batch))
    except NotJsonRpc:
        pass


@given(VALUES, st.text(max_size=10), st.none() | st.integers() | st.text(max_size=5))
def test_what_is_encoded_is_parsed_back(params: object, method: str, request_id: str | int | None) -> None:
    value = {"jsonrpc": "2.0", "method": method, "params": [params], "id": request_id}
    line = encode(value)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert parse_line(line[:-1], CONFIG) == Request(method, [params], request_id, False, None)


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=10), st.data())
def test_lines_come_out_whole_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter, found = LineSplitter(WireConfig(max_line=20)), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += splitter.receive_data(stream[:cut])
        stream = stream[cut:]
        assert splitter.pending <= 20
    assert found == lines
    assert splitter.receive_end() is None


def test_a_line_at_its_bound_and_over_it() -> None:
    splitter = LineSplitter(WireConfig(max_line=5))
    assert splitter.receive_data(b"12345") == []
    assert splitter.receive_data(b"\n") == [b"12345"]
    with pytest.raises(LineTooLong):
        splitter.receive_data(b"123456\n")
    with pytest.raises(LineTooLong):
        LineSplitter(WireConfig(max_line=5)).receive_data(b"123456")


def test_the_last_line_needs_no_end() -> None:
    splitter = LineSplitter(CONFIG)
    splitter.receive_data(b"a\nb")
    assert splitter.receive_end() == b"b"
