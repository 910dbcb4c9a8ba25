"""What a UDP socket answers to strangers: tables, tokens, limits at limit + 1, and garbage."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from hypothesis import given
from hypothesis import strategies as st

from wws.transport.quic.config import DEFAULT_ENDPOINT_CONFIG, EndpointConfig
from wws.transport.quic.endpoint import Accept, Answer, Endpoint, ResetTokens, destination_id
from wws.transport.quic.engine import Address

ALICE: Address = ("192.0.2.1", 4001)
CAROL: Address = ("192.0.2.3", 4001)
TOKENS = ResetTokens(b"bob's")


def endpoint(config: EndpointConfig = DEFAULT_ENDPOINT_CONFIG) -> Endpoint:
    return Endpoint(TOKENS, config, noise_key=b"noise", now=0.0)


def client() -> QuicConnection:
    made = QuicConnection(
        configuration=QuicConfiguration(is_client=True, supported_versions=[1], verify_mode=0)
    )
    made.connect(("192.0.2.2", 4001), 0.0)
    return made


def sent_by(connection: QuicConnection, now: float = 0.0) -> bytes:
    return connection.datagrams_to_send(now)[0][0]


FIRST = sent_by(client())


def judge(
    of: Endpoint, data: bytes, *, at: Address = ALICE, now: float = 0.0, half_open: int = 0, there: int = 0
) -> Accept | Answer | None:
    return of.judge(data, at, now, half_open=half_open, half_open_there=there)


def kind_of(answer: Accept | Answer | None) -> QuicPacketType:
    assert isinstance(answer, Answer)
    return pull_quic_header(Buffer(data=answer.data), host_cid_length=8).packet_type


def test_a_first_datagram_is_accepted() -> None:
    assert judge(endpoint(), FIRST) == Accept(FIRST[6:14], None)


@pytest.mark.parametrize(
    "half_open, there, expected",
    [
        (0, 0, Accept),
        (31, 7, Accept),
        (32, 0, Answer),
        (31, 8, Answer),
        (255, 0, Answer),
        (256, 0, type(None)),
    ],
)
def test_who_is_accepted_asked_or_dropped(half_open: int, there: int, expected: type) -> None:
    bob = endpoint()
    verdict = judge(bob, FIRST, half_open=half_open, there=there)
    assert type(verdict) is expected
    if expected is Answer:
        assert kind_of(verdict) is QuicPacketType.RETRY
    if verdict is None:
        assert bob.dropped["half_open"] == 1


def with_token(bob: Endpoint) -> bytes:
    alice = client()
    retry = judge(bob, sent_by(alice), half_open=40)
    assert isinstance(retry, Answer)
    alice.receive_datagram(retry.data, ("192.0.2.2", 4001), 0.1)
    return sent_by(alice, 0.1)


def test_a_token_opens_the_door_for_whom_it_was_made() -> None:
    bob = endpoint()
    again = with_token(bob)
    verdict = judge(bob, again, half_open=40, there=40, now=1.0)
    assert isinstance(verdict, Accept)
    assert verdict.retry_id == again[6:14]
    assert verdict.original_id != verdict.retry_id
    for other in (
        judge(bob, again, half_open=40, now=1.0, at=CAROL),
        judge(bob, again, half_open=40, now=1.0, at=("192.0.2.1", 4002)),
        judge(bob, again, half_open=40, now=31.0),
        judge(endpoint(), again, half_open=40, now=1.0),
    ):
        assert kind_of(other) is QuicPacketType.RETRY
    assert judge(bob, again, half_open=256, now=1.0) is None


def test_another_version_is_told_ours() -> None:
    bob = endpoint()
    other = FIRST[:1] + bytes.fromhex("6b3343cf") + FIRST[5:]
    assert kind_of(judge(bob, other)) is QuicPacketType.VERSION_NEGOTIATION
    answer = judge(bob, other)
    assert isinstance(answer, Answer)
    assert judge(bob, answer.data + bytes(1200)) is None
    assert judge(bob, other[:1199]) is None


def test_strangers_have_a_rate() -> None:
    bob = endpoint(replace(DEFAULT_ENDPOINT_CONFIG, retries_per_second=10.0))
    answers = [judge(bob, FIRST, half_open=40) for _ in range(11)]
    assert [answer is None for answer in answers] == [False] * 10 + [True]
    assert bob.dropped["rate"] == 1
    assert judge(bob, FIRST, half_open=40, now=0.15) is not None
    assert judge(bob, FIRST, half_open=40, now=0.15) is None
    assert [judge(bob, FIRST, half_open=40, now=99.0) is None for _ in range(11)].count(True) == 1


def test_a_flood_of_one_kind_leaves_answers_of_the_others() -> None:
    bob = endpoint(replace(DEFAULT_ENDPOINT_CONFIG, stateless_per_second=10.0))
    garbage = b"\x40" + bytes(100)
    assert [judge(bob, garbage) is None for _ in range(11)] == [False] * 10 + [True]
    assert kind_of(judge(bob, FIRST, half_open=40)) is QuicPacketType.RETRY
    assert kind_of(judge(bob, FIRST[:1] + b"abcd" + FIRST[5:])) is QuicPacketType.VERSION_NEGOTIATION


def test_many_who_have_not_shown_where_they_are_are_asked_to() -> None:
    """Also when each of them is gone at once: what the first datagram makes us do costs more than to ask."""
    bob = endpoint(replace(DEFAULT_ENDPOINT_CONFIG, unproven_per_second=3.0))
    assert [type(judge(bob, FIRST)) for _ in range(4)] == [Accept, Accept, Accept, Answer]
    assert isinstance(judge(bob, with_token(bob), now=0.2), Accept)
    assert isinstance(judge(bob, FIRST, now=1.0), Accept)


def test_what_strangers_get_tells_nothing_about_what_others_get() -> None:
    bob, again = endpoint(), Endpoint(TOKENS, noise_key=b"after a restart", now=0.0)
    seen = set()
    for of in (bob, again):
        for number in range(50):
            reset = judge(of, b"\x40" + bytes(8) + bytes(100))
            assert isinstance(reset, Answer)
            seen.add(reset.data[1:-16])
            retry = judge(of, FIRST, half_open=40, now=number)
            assert isinstance(retry, Answer)
            seen.add(pull_quic_header(Buffer(data=retry.data), host_cid_length=8).source_cid)
    assert len(seen) == 200


def test_a_closed_connection_repeats_its_last_word_for_a_while() -> None:
    bob = endpoint()
    late = b"\x40" + b"alice-id" + bytes(40)
    bob.remember_closed([b"alice-id", b"other-id"], b"\x40it is over", now=0.0)
    verdicts = [judge(bob, late, now=1.0) for _ in range(8)]
    assert [n + 1 for n, verdict in enumerate(verdicts) if verdict is not None] == [1, 2, 4, 8]
    assert verdicts[0] == Answer(b"\x40it is over")
    assert bob.dropped["closed"] == 4
    bob.remember_closed([], b"", now=4.0)
    answer = judge(bob, late, now=4.0)
    assert isinstance(answer, Answer)
    assert answer.data[-16:] == TOKENS.of(b"alice-id")


def test_of_closed_connections_the_newest_are_remembered() -> None:
    bob = endpoint(replace(DEFAULT_ENDPOINT_CONFIG, max_closed=3))
    for number in range(5):
        bob.remember_closed([bytes([number] * 8)], b"over", now=0.0)
    known = [judge(bob, b"\x40" + bytes([number] * 8) + bytes(40)) == Answer(b"over") for number in range(5)]
    assert known == [False, False, True, True, True]


def test_an_unknown_connection_is_reset_with_a_token_that_survives_restarts() -> None:
    late = b"\x40" + b"8 bytes!" + bytes(40)
    answer = judge(endpoint(), late)
    assert isinstance(answer, Answer)
    assert len(answer.data) < len(late)
    assert answer.data[0] & 0xC0 == 0x40
    assert answer.data[-16:] == ResetTokens(b"bob's").of(b"8 bytes!")
    assert answer.data[-16:] != ResetTokens(b"carol's").of(b"8 bytes!")
    assert judge(endpoint(), late[:21]) is None


@pytest.mark.parametrize("size", [1200, 100, 64, 43, 30, 22])
def test_two_endpoints_do_not_reset_each_other_for_ever(size: int) -> None:
    data: bytes = b"\x40" + bytes(size - 1)
    answers = 0
    while (verdict := judge(endpoint(), data)) is not None:
        assert isinstance(verdict, Answer)
        assert len(verdict.data) < len(data)
        data = verdict.data
        answers += 1
    assert 1 <= answers <= 2


def test_two_who_have_closed_do_not_tell_each_other_for_ever() -> None:
    alice, bob = endpoint(), endpoint()
    alice.remember_closed([b"alice-id"], b"\x40bob's-idit is over", now=0.0)
    bob.remember_closed([b"bob's-id"], b"\x40alice-idit is over", now=0.0)
    said = 0
    data = b"\x40alice-idlate"
    for of in (alice, bob) * 50:
        verdict = judge(of, data)
        if verdict is None:
            break
        assert isinstance(verdict, Answer)
        data = verdict.data
        said += 1
    assert said <= 4


@given(st.binary(max_size=1500), st.integers(0, 300), st.integers(0, 20))
def test_whatever_comes_is_judged_and_gets_no_more_than_thrice_itself(
    data: bytes, half_open: int, there: int
) -> None:
    verdict = judge(endpoint(), data, half_open=half_open, there=there)
    if isinstance(verdict, Answer):
        assert len(verdict.data) <= 3 * len(data)


@given(st.integers(0, len(FIRST) - 1), st.integers(0, 255), st.integers(0, 300))
def test_changed_first_datagrams_are_judged(index: int, byte: int, half_open: int) -> None:
    changed = FIRST[:index] + bytes([byte]) + FIRST[index + 1 :]
    verdict = judge(endpoint(), changed, half_open=half_open)
    if isinstance(verdict, Answer):
        assert len(verdict.data) <= 3 * len(changed)


@given(st.binary(max_size=40))
def test_the_destination_is_read_or_nobody(data: bytes) -> None:
    found = destination_id(data)
    assert found is None or (found in data and len(found) <= 20)
