"""The messages of PCP, byte by byte (RFC 6887)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import LocalProtocolError, ParseError
from wws.nat import pcp
from wws.nat.gateway_requests import (
    Address,
    AskAddress,
    LookUp,
    Mapped,
    MapPort,
    Port,
    Refused,
    Unmapped,
    UnmapPort,
)

NONCE = bytes(range(12))
TCP = Port("tcp", 4001)
MAPPED_V4 = "00000000000000000000ffff"


def test_a_request_to_map() -> None:
    request = pcp.encode(MapPort(TCP, 4002, "198.51.100.7", 7200), nonce=NONCE, client="192.168.1.2")
    assert (
        request
        == bytes.fromhex(
            "02010000 00001c20" + MAPPED_V4 + "c0a80102"  # version, MAP, 7200 s, who asks
            "000102030405060708090a0b 06 000000 0fa1 0fa2" + MAPPED_V4 + "c6336407"
        )
    )
    assert len(request) == 60


def test_a_first_request_suggests_any_ipv4_address() -> None:
    request = pcp.encode(MapPort(Port("udp", 1), 1, None, 60), nonce=NONCE, client="10.0.0.1")
    assert request[36] == 17
    assert request[44:] == bytes.fromhex(MAPPED_V4 + "00000000")


def test_giving_back_suggests_nothing() -> None:
    request = pcp.encode(UnmapPort(TCP, 4002), nonce=NONCE, client="192.168.1.2")
    assert request[4:8] == bytes(4)
    assert request[40:] == bytes.fromhex("0fa1 0000" + MAPPED_V4 + "00000000")


def test_a_sign_of_life_is_the_head_alone() -> None:
    request = pcp.encode(AskAddress(), nonce=NONCE, client="192.168.1.2")
    assert request == bytes.fromhex("02000000 00000000" + MAPPED_V4 + "c0a80102")


def test_there_is_no_looking_up() -> None:
    with pytest.raises(LocalProtocolError):
        pcp.encode(LookUp(TCP, 1), nonce=NONCE, client="192.168.1.2")


def response(
    *, result: int = 0, opcode: int = 1, lifetime: int = 7200, epoch: int = 9, nonce: bytes = NONCE,
    number: int = 6, internal: int = 4001, external: int = 4002, ip: str = MAPPED_V4 + "c6336407",
) -> bytes:  # fmt: skip
    head = bytes((2, 128 | opcode, 0, result)) + lifetime.to_bytes(4, "big") + epoch.to_bytes(4, "big")
    body = nonce + bytes((number, 0, 0, 0)) + internal.to_bytes(2, "big") + external.to_bytes(2, "big")
    return head + bytes(12) + body + bytes.fromhex(ip)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (response(), Mapped(TCP, 4002, "198.51.100.7", 7200, 9)),
        (response(number=17), Mapped(Port("udp", 4001), 4002, "198.51.100.7", 7200, 9)),
        (response(ip="20010db8000000000000000000000001"), Mapped(TCP, 4002, "2001:db8::1", 7200, 9)),
        (response() + bytes(8), Mapped(TCP, 4002, "198.51.100.7", 7200, 9)),  # an option
        (response(lifetime=0, external=0), Unmapped(TCP, 9)),
        (response(result=8), Refused("no_resources", TCP, 9)),
        (response(result=99), Refused("unknown_result", TCP, 9)),
        (response(opcode=0)[:24], Address(None, 9)),
        (response(opcode=0, result=4)[:24], Refused("unsupported_opcode", None, 9)),
        (response(result=1)[:24], Refused("unsupported_version", None, 9)),
        (bytes.fromhex("0081 0001 00000009"), Refused("unsupported_version")),  # a router with NAT-PMP alone
    ],
)
def test_answers(data: bytes, answer: object) -> None:
    assert pcp.decode(data, nonce=NONCE) == answer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        response()[:-1],
        response()[:56],
        response()[:20],
        response(nonce=bytes(12)),
        response(number=1),
        response(external=0),
        response(opcode=2),
        bytes((2, 1)) + response()[2:],  # a request
        response() + bytes(1044),
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(ParseError):
        pcp.decode(data, nonce=NONCE)


def test_the_longest_message() -> None:
    assert isinstance(pcp.decode(response() + bytes(1040), nonce=NONCE), Mapped)


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"\x02\x81" + tail))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    try:
        pcp.decode(data, nonce=NONCE)
    except ParseError:
        pass


@pytest.mark.parametrize(
    ("before", "after", "elapsed", "lost"),
    [
        (100, 160, 60.0, False),
        (100, 157, 60.0, False),
        (100, 99, 0.0, False),
        (100, 98, 0.0, True),
        (100, 0, 60.0, True),  # restarted
        (100, 120, 60.0, True),  # restarted long ago: slower than time
        (100, 400, 60.0, True),  # faster than time
        (0, 3600, 3600.0, False),
        (0, 3400, 3600.0, False),
    ],
)
def test_who_has_forgotten(before: int, after: int, elapsed: float, lost: bool) -> None:
    assert pcp.has_lost_state(before, after, elapsed) is lost
