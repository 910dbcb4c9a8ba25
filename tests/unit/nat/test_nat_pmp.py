"""The messages of NAT-PMP, byte by byte (RFC 6886)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import LocalProtocolError, ParseError
from wws.nat import nat_pmp
from wws.nat.gateway_requests import (
    Address,
    AskAddress,
    LookUp,
    Mapped,
    MapPort,
    Port,
    Refused,
    Request,
    Unmapped,
    UnmapPort,
)

TCP, UDP = Port("tcp", 4001), Port("udp", 4001)


@pytest.mark.parametrize(
    ("request_", "data"),
    [
        (AskAddress(), "00 00"),
        (MapPort(TCP, 4002, "198.51.100.7", 7200), "00 02 0000 0fa1 0fa2 00001c20"),
        (MapPort(UDP, 4002, None, 7200), "00 01 0000 0fa1 0fa2 00001c20"),
        (UnmapPort(UDP, 4002), "00 01 0000 0fa1 0000 00000000"),
    ],
)
def test_requests(request_: Request, data: str) -> None:
    assert nat_pmp.encode(request_) == bytes.fromhex(data)


def test_there_is_no_looking_up() -> None:
    with pytest.raises(LocalProtocolError):
        nat_pmp.encode(LookUp(TCP, 1))


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        ("00 80 0000 00000009 c6336407", Address("198.51.100.7", 9)),
        ("00 80 0003 00000009 00000000", Refused("network_failure", None, 9)),
        ("00 80 0003 00000009", Refused("network_failure", None, 9)),
        ("00 82 0000 00000009 0fa1 0fa2 00001c20", Mapped(TCP, 4002, None, 7200, 9)),
        ("00 81 0000 00000009 0fa1 0fa2 00001c20", Mapped(UDP, 4002, None, 7200, 9)),
        ("00 81 0000 00000009 0fa1 0000 00000000", Unmapped(UDP, 9)),
        ("00 82 0002 00000009 0fa1 0000 00000000", Refused("not_authorized", TCP, 9)),
        ("00 82 0002 00000009", Refused("not_authorized", None, 9)),
        ("00 82 0063 00000009 0fa1 0000 00000000", Refused("unknown_result", TCP, 9)),
        ("02 81 0001 00000000", Refused("unsupported_version")),  # a router with PCP alone
    ],
)
def test_answers(data: str, answer: object) -> None:
    assert nat_pmp.decode(bytes.fromhex(data)) == answer


@pytest.mark.parametrize(
    "data",
    [
        "",
        "00 80 0000 000000",
        "00 80 0000 00000009",
        "00 80 0000 00000009 c63364",
        "00 80 0000 00000009 c6336407 00",
        "00 82 0000 00000009 0fa1 0fa2",
        "00 82 0000 00000009 0fa1 0000 00001c20",  # port 0
        "00 82 0000 00000009 0fa1 0fa2 00001c20 00",
        "00 83 0000 00000009 0fa1 0fa2 00001c20",
        "00 02 0000 0fa1 0fa2 00001c20",  # our own request
    ],
)
def test_what_is_no_answer(data: str) -> None:
    with pytest.raises(ParseError):
        nat_pmp.decode(bytes.fromhex(data))


@given(st.binary(max_size=20) | st.binary(max_size=14).map(lambda tail: b"\x00\x82" + tail))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    try:
        nat_pmp.decode(data)
    except ParseError:
        pass


@pytest.mark.parametrize(
    ("before", "after", "elapsed", "lost"),
    [
        (100, 160, 60.0, False),
        (100, 151, 60.0, False),  # an eighth slow, and two seconds
        (100, 150, 60.0, True),
        (100, 0, 60.0, True),
        (100, 400, 60.0, False),
    ],
)
def test_who_has_forgotten(before: int, after: int, elapsed: float, lost: bool) -> None:
    assert nat_pmp.has_lost_state(before, after, elapsed) is lost
