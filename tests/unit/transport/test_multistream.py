"""multistream-select: conversations, bounds, and bytes that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.codec import varint
from wws.errors import LocalProtocolError
from wws.transport.multistream import (
    MultistreamConfig,
    NegotiationFailed,
    Negotiator,
    ProtocolNotSupported,
    encode_line,
)

PING = "/ipfs/ping/1.0.0"
ECHO = "/echo/1"
HEADER = b"\x13/multistream/1.0.0\n"


def negotiate(proposals: tuple[str, ...], supported: frozenset[str]) -> tuple[Negotiator, Negotiator]:
    """Carry lines both ways, one byte at a time, until nobody has anything to say."""
    alice, bob = Negotiator.propose(*proposals), Negotiator.answer(supported)
    while True:
        to_bob, to_alice = alice.data_to_send(), bob.data_to_send()
        if not to_bob and not to_alice:
            return alice, bob
        for byte in to_bob:
            bob.receive_data(bytes([byte]))
        for byte in to_alice:
            alice.receive_data(bytes([byte]))


def test_known_answers() -> None:
    assert encode_line("na") == bytes.fromhex("036e610a")
    assert Negotiator.propose(PING).data_to_send() == HEADER + b"\x11/ipfs/ping/1.0.0\n"


@pytest.mark.parametrize(
    "proposals, supported, agreed",
    [
        ((PING,), {PING}, PING),
        ((PING, ECHO), {PING, ECHO}, PING),
        ((PING, ECHO), {ECHO}, ECHO),
        (tuple(f"/p/{n}" for n in range(32)), {"/p/31"}, "/p/31"),
    ],
)
def test_the_first_proposal_that_is_supported_wins(
    proposals: tuple[str, ...], supported: set[str], agreed: str
) -> None:
    alice, bob = negotiate(proposals, frozenset(supported))
    assert alice.protocol == bob.protocol == agreed
    assert alice.take_leftover() == bob.take_leftover() == b""


def test_nothing_in_common_says_what_was_refused() -> None:
    with pytest.raises(ProtocolNotSupported, match=PING):
        negotiate((PING,), frozenset({ECHO}))


def test_header_and_answer_share_one_write() -> None:
    bob = Negotiator.answer({PING})
    assert bob.data_to_send() == b""
    assert bob.receive_data(HEADER + encode_line(PING)) == PING
    assert bob.data_to_send() == HEADER + encode_line(PING)
    assert bob.data_to_send() == b""


def test_data_behind_the_negotiation_is_kept_for_the_protocol() -> None:
    bob = Negotiator.answer({PING})
    bob.receive_data(HEADER + encode_line(PING) + b"32 bytes")
    assert bob.take_leftover() == b"32 bytes"
    assert bob.take_leftover() == b""
    alice = Negotiator.propose(PING)
    alice.receive_data(HEADER + encode_line(PING) + b"and back")
    assert alice.take_leftover() == b"and back"


def test_lazy_with_one_proposal_and_no_end_before_the_answer() -> None:
    alice = Negotiator.propose(PING)
    assert alice.may_send
    assert not alice.may_finish  # js loses an end that arrives together with the proposal
    alice.receive_data(HEADER)
    assert not alice.may_finish
    alice.receive_data(encode_line(PING))
    assert alice.may_finish
    assert not Negotiator.propose(PING, ECHO).may_send
    assert not Negotiator.answer({PING}).may_send


def test_ls_lists_what_is_supported_and_the_negotiation_goes_on() -> None:
    bob = Negotiator.answer({PING, ECHO})
    assert bob.receive_data(HEADER + encode_line("ls")) is None
    lines = encode_line(ECHO) + encode_line(PING)
    assert bob.data_to_send() == HEADER + varint.frame(lines + b"\n")
    assert bob.receive_data(encode_line(ECHO)) == ECHO


def test_one_proposal_over_the_bound_is_refused() -> None:
    bob = Negotiator.answer({PING}, MultistreamConfig(max_proposals=3))
    bob.receive_data(HEADER + encode_line(ECHO) * 2 + encode_line("ls"))
    with pytest.raises(NegotiationFailed):
        bob.receive_data(encode_line(PING))


@pytest.mark.parametrize("length, accepted", [(1024, True), (1025, False)])
def test_one_byte_over_the_line_bound_is_refused(length: int, accepted: bool) -> None:
    bob = Negotiator.answer({PING})
    line = varint.encode(length) + b"/" * (length - 1) + b"\n"
    if accepted:
        assert bob.receive_data(HEADER + line) is None
        assert bob.data_to_send() == HEADER + encode_line("na")
    else:
        with pytest.raises(NegotiationFailed):
            bob.receive_data(HEADER + line[:4])  # refused by its length, before it arrives


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n" + b"x" * 60,
        b"\x00",
        encode_line("/multistream/2.0.0"),
        varint.encode(18) + b"/multistream/1.0.0",  # no newline within the length
        HEADER + b"\x03na!",  # no newline
        HEADER + b"\x80\x00",  # a length that is not minimal
        HEADER + b"\xff\xff\xff",
        HEADER + b"\x03\xff\xfe\n",  # not UTF-8
        HEADER + b"\x00",
    ],
)
def test_what_is_no_multistream_is_refused(data: bytes) -> None:
    for negotiator in (Negotiator.answer({PING}), Negotiator.propose(PING)):
        with pytest.raises(NegotiationFailed):
            negotiator.receive_data(data)


def test_an_answer_to_something_else_is_refused() -> None:
    alice = Negotiator.propose(PING, ECHO)
    with pytest.raises(NegotiationFailed):
        alice.receive_data(HEADER + encode_line(ECHO))  # not yet proposed


def test_an_initiator_without_proposals_is_our_own_bug() -> None:
    with pytest.raises(LocalProtocolError):
        Negotiator.propose()


@given(st.booleans(), st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_an_answer_or_a_refusal(initiator: bool, chunks: list[bytes]) -> None:
    negotiator = Negotiator.propose(PING, ECHO) if initiator else Negotiator.answer({PING})
    try:
        for chunk in chunks:
            negotiator.receive_data(chunk)
    except NegotiationFailed:
        pass


@given(
    st.permutations([ECHO, PING, "/a", "/b"]),
    st.frozensets(st.sampled_from([ECHO, PING, "/a", "/b"])),
    st.binary(max_size=50),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_any_cut_of_the_stream_gives_the_same_agreement(
    proposals: list[str], supported: frozenset[str], data: bytes, cuts: list[int]
) -> None:
    alice, bob = Negotiator.propose(*proposals), Negotiator.answer(supported)
    expected = next((protocol for protocol in proposals if protocol in supported), None)
    sent = False
    for _ in range(20):
        to_bob = alice.data_to_send()
        if alice.protocol is not None and not sent:
            to_bob, sent = to_bob + data, True
        for cut in cuts:
            bob.receive_data(to_bob[:cut])
            to_bob = to_bob[cut:]
        bob.receive_data(to_bob)
        try:
            alice.receive_data(bob.data_to_send())
        except ProtocolNotSupported:
            assert expected is None
            return
    assert alice.protocol == bob.protocol == expected
    assert bob.take_leftover() == data
