"""The stamp of a build: read strictly, and empty where there is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.stamp import MAX_FILE, Stamp, StampMalformed, parse_stamp, stamp

ROOT = "ssh-ed25519 " + "A" * 68
FULL: dict[str, object] = {
    "schema": 1,
    "version": "1.2.3",
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "releases": "https://releases.example.org/wws",
    "roots": [ROOT],
    "network": {"v": 1},
}


def parse(**changes: object) -> Stamp:
    return parse_stamp(json.dumps({**FULL, **changes}).encode())


def test_a_build_from_the_sources_knows_nothing() -> None:
    assert stamp() == Stamp(None, None, None, (), None)


def test_a_whole_stamp() -> None:
    assert parse() == Stamp("1.2.3", str(FULL["commit"]), str(FULL["releases"]), (ROOT,), {"v": 1})


def test_what_may_be_missing_is_null() -> None:
    assert parse(commit=None, releases=None, roots=[], network=None) == Stamp("1.2.3")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"schema": True},
        {"schema": "1"},
        {"version": None},
        {"version": ""},
        {"version": "1 2"},
        {"version": "1.2.3\n"},
        {"commit": "HEAD"},
        {"releases": "ftp://example.org"},
        {"releases": "https://example.org/'; rm -rf"},
        {"releases": ""},
        {"roots": ROOT},
        {"roots": [ROOT + " somebody"]},
        {"roots": ["ssh-rsa AAAA"]},
        {"roots": [1]},
        {"roots": [ROOT] * 9},
        {"network": []},
        {"network": "example.org"},
        {"more": 1},
    ],
)
def test_anything_else_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(StampMalformed):
        parse(**changes)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"{" * 30_000, b" " * (MAX_FILE + 1)])
def test_what_is_no_stamp_is_refused(data: bytes) -> None:
    with pytest.raises(StampMalformed):
        parse_stamp(data)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(repr).map(str.encode)
)
def test_any_bytes_are_a_stamp_or_refused(data: bytes) -> None:
    try:
        parse_stamp(data)
    except StampMalformed:
        return
