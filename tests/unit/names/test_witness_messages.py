"""The language of owners and witnesses: one encoding, strict parsing, bounds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.codec import canonical
from wws.names.errors import RecordRefused
from wws.names.witness.log import Kind, LogEntry
from wws.names.witness.messages import (
    MAX_MESSAGE,
    MAX_RECEIPTS,
    Dropped,
    Op,
    Why,
    WitnessRefusal,
    WitnessRequest,
    answer_bytes,
    parse_answer,
)
from wws.testing.names import NOW, person, receipt, transfer

RECEIPT = receipt("first witness", "alice")
ENTRY = transfer("alice", "bob", seq=7)
FULL = WitnessRequest(Op.RENEW, "public", "alice", 12, NOW, (ENTRY,), (RECEIPT,))
BARE = WitnessRequest(Op.CLAIM, "public", "alice", 0, NOW)

peers = st.sampled_from(["alice", "bob", "carol"]).map(lambda label: person(label).peer_id)
integers = st.integers(0, canonical.MAX_INTEGER)
names = st.from_regex(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]", fullmatch=True).filter(
    lambda name: name not in ("did", "peer", "wws")
)
signatures = st.binary(min_size=64, max_size=64)
receipts = st.builds(
    replace, st.just(RECEIPT), swarm=names, name=names, owner=peers, registered_at=integers,
    first_seen=integers, expires_at=integers, witness=peers, signature=signatures,
    provisional=st.booleans(), via=st.none() | st.just("0f" * 32),
)  # fmt: skip
transfers = st.builds(
    replace, st.just(ENTRY), from_peer=peers, to_peer=peers, name=names, swarm=names, seq=integers,
    at=integers, signature=signatures,
)  # fmt: skip
requests = st.builds(
    WitnessRequest, op=st.sampled_from(Op), swarm=names, name=names, nonce=integers, registered_at=integers,
    transfers=st.lists(transfers, max_size=8).map(tuple), receipts=st.lists(receipts, max_size=4).map(tuple),
)  # fmt: skip
answers = (
    receipts
    | st.just(Dropped())
    | st.builds(
        WitnessRefusal, error=st.sampled_from([str(why) for why in Why]) | st.just("word_of_tomorrow"),
        holder=st.none() | peers, retry_after=st.none() | integers, required_bits=st.none() | integers,
    )
)  # fmt: skip
log_entries = st.builds(
    LogEntry, at=integers, kind=st.sampled_from(Kind), receipt=receipts,
    transfers=st.lists(transfers, max_size=8).map(tuple), receipts=st.lists(receipts, max_size=4).map(tuple),
)  # fmt: skip


@given(requests)
def test_requests_come_back_as_they_went(request: WitnessRequest) -> None:
    assert WitnessRequest.parse(request.to_bytes()) == request


@given(answers)
def test_answers_come_back_as_they_went(answer: object) -> None:
    assert parse_answer(answer_bytes(answer)) == answer  # type: ignore[arg-type]


@given(log_entries)
def test_the_log_comes_back_as_it_was_written(logged: LogEntry) -> None:
    assert LogEntry.parse(logged.to_bytes()) == logged


def parsers() -> list[tuple[object, bytes]]:
    logged = LogEntry(NOW, Kind.TRANSFERRED, RECEIPT, (ENTRY,), (RECEIPT,))
    refusal = WitnessRefusal(Why.NAME_TAKEN, person("bob").peer_id, 1, 2)
    return [
        (WitnessRequest.parse, FULL.to_bytes()),
        (parse_answer, answer_bytes(RECEIPT)),
        (parse_answer, answer_bytes(Dropped())),
        (parse_answer, answer_bytes(refusal)),
        (LogEntry.parse, logged.to_bytes()),
    ]


@pytest.mark.parametrize("parse, good", parsers())
def test_what_is_not_the_one_encoding_is_refused(parse: object, good: bytes) -> None:
    parse(good)  # type: ignore[operator]
    value = json.loads(good)
    bad = [
        good + b" ",
        good + b"\n",
        good[:-1],
        b" " + good,
        good.replace(b":", b": ", 1),
        canonical.dumps({**value, "unknown": 1}),
        json.dumps(value).encode(),
        b"[" + good + b"]",
        b"\xff" + good,
        b"",
        b"null",
        good.replace(b"{", b'{"a":1,"a":1,', 1),
    ]
    for key in value:
        bad.append(canonical.dumps({member: value[member] for member in value if member != key} | {"zz": 0}))
        bad += [
            canonical.dumps({**value, key: wrong})
            for wrong in (None, -1, [], {}, False, "", 2**53 - 1)
            if type(wrong) is not type(value[key])
        ]
    for data in bad:
        with pytest.raises(RecordRefused):
            parse(data)  # type: ignore[operator]


@pytest.mark.parametrize("key", ["v", "op", "swarm", "name", "pow", "registered_at"])
def test_a_request_lacks_nothing(key: str) -> None:
    value = json.loads(BARE.to_bytes())
    del value[key]
    with pytest.raises(RecordRefused):
        WitnessRequest.parse(canonical.dumps(value))


@given(st.sampled_from(parsers()), st.data())
def test_no_bytes_raise_anything_else(case: tuple[object, bytes], data: st.DataObject) -> None:
    """Bits flipped, pieces cut out and put in: a value that encodes to these bytes, or a refusal."""
    parse, good = case
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(raw)))
        raw[index : index + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        value = parse(bytes(raw))  # type: ignore[operator]
    except RecordRefused:
        return
    encode = answer_bytes if parse is parse_answer else type(value).to_bytes
    assert encode(value) == bytes(raw)


def test_bounds() -> None:
    with pytest.raises(RecordRefused):
        WitnessRequest.parse(b'{"' + b"a" * MAX_MESSAGE + b'":1}')
    many = replace(BARE, receipts=(RECEIPT,) * MAX_RECEIPTS)
    assert WitnessRequest.parse(many.to_bytes()) == many
    with pytest.raises(RecordRefused, match="receipts"):
        WitnessRequest.parse(replace(BARE, receipts=(RECEIPT,) * (MAX_RECEIPTS + 1)).to_bytes())
    with pytest.raises(RecordRefused, match="chain"):
        WitnessRequest.parse(replace(BARE, transfers=(ENTRY,) * 9).to_bytes())


@pytest.mark.parametrize("member", ["receipts", "transfers"])
def test_what_is_empty_is_absent(member: str) -> None:
    with pytest.raises(RecordRefused):
        WitnessRequest.parse(canonical.dumps({**json.loads(BARE.to_bytes()), member: []}))


@pytest.mark.parametrize("name", ["Alice", "al", "did", "alice@lab", "a" * 33, "аlice", "-alice"])
def test_only_names_are_names(name: str) -> None:
    for what in (replace(BARE, name=name), replace(BARE, swarm=name)):
        with pytest.raises(RecordRefused):
            WitnessRequest.parse(what.to_bytes())
