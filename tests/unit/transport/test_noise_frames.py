"""The secure channel: any cut, any size up to the bound, no changed byte, no nonce twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.transport.noise_frames import (
    MAX_NONCE,
    MAX_PLAINTEXT,
    CipherPair,
    NoiseDecryptionFailed,
    NonceExhausted,
)


def pair() -> tuple[CipherPair, CipherPair]:
    return CipherPair(b"a" * 32, b"b" * 32), CipherPair(b"b" * 32, b"a" * 32)


def test_a_full_frame_is_one_message_and_small_ones_share() -> None:
    alice, bob = pair()
    large = bytes(MAX_PLAINTEXT)
    messages = alice.encrypt([b"one", b"two", large, b"three", b"four"])
    assert [len(message) for message in messages] == [2 + 6 + 16, 2 + 65_535, 2 + 9 + 16]
    assert bob.decrypt(b"".join(messages)) == [b"onetwo", large, b"threefour"]


def test_what_waits_for_the_end_of_its_message_is_counted() -> None:
    alice, bob = pair()
    (message,) = alice.encrypt([bytes(1_000)])
    assert bob.incomplete == 0
    bob.decrypt(message[:600])
    assert bob.incomplete == 600
    bob.decrypt(message[600:])
    assert bob.incomplete == 0


def test_nothing_makes_no_message() -> None:
    assert pair()[0].encrypt([]) == []


@given(
    st.lists(st.binary(max_size=300) | st.integers(0, MAX_PLAINTEXT).map(bytes), max_size=6),
    st.lists(st.integers(1, 70_000), min_size=1, max_size=10),
    st.sampled_from([bytes, bytearray, memoryview]),
)
def test_any_cut_gives_the_same_bytes(
    frames: list[bytes], cuts: list[int], kind: type[bytes | bytearray | memoryview]
) -> None:
    alice, bob = pair()
    stream = b"".join(alice.encrypt(frames))
    heard: list[bytes] = []
    index = 0
    while stream:
        cut = cuts[index % len(cuts)]
        index += 1
        heard += bob.decrypt(kind(stream[:cut]))
        stream = stream[cut:]
    assert b"".join(heard) == b"".join(frames)


def test_one_byte_a_read() -> None:
    alice, bob = pair()
    heard: list[bytes] = []
    for byte in b"".join(alice.encrypt([b"hello"]) + alice.encrypt([b"world"])):
        heard += bob.decrypt(bytes([byte]))
    assert heard == [b"hello", b"world"]


def test_an_empty_read_changes_nothing() -> None:
    alice, bob = pair()
    message = alice.encrypt([b"hello"])[0]
    for part in (b"", message[:1], b"", message[1:2], b"", message[2:5], b""):
        assert bob.decrypt(part) == []
    assert bob.decrypt(message[5:]) == [b"hello"]


def test_what_was_read_may_be_overwritten() -> None:
    alice, bob = pair()
    message = alice.encrypt([b"hello"])[0]
    buffer = bytearray(message[:10])
    assert bob.decrypt(buffer) == []
    buffer[:] = bytes(10)
    assert bob.decrypt(message[10:]) == [b"hello"]


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(position: int, bit: int) -> None:
    alice, bob = pair()
    message = bytearray(alice.encrypt([b"x" * 1_000])[0])
    index = 2 + position % (len(message) - 2)
    message[index] ^= 1 << bit
    with pytest.raises(NoiseDecryptionFailed):
        bob.decrypt(message)


@given(st.binary(min_size=2, max_size=500))
def test_garbage_waits_for_more_or_is_refused(data: bytes) -> None:
    try:
        assert pair()[1].decrypt(data) == []
    except NoiseDecryptionFailed:
        pass


def test_order_is_part_of_the_seal() -> None:
    alice, bob = pair()
    first, second = alice.encrypt([b"first"])[0], alice.encrypt([b"second"])[0]
    with pytest.raises(NoiseDecryptionFailed):
        bob.decrypt(second + first)


def test_a_replay_is_refused() -> None:
    alice, bob = pair()
    message = alice.encrypt([b"once"])[0]
    assert bob.decrypt(message) == [b"once"]
    with pytest.raises(NoiseDecryptionFailed):
        bob.decrypt(message)


@pytest.mark.parametrize("length", range(16))
def test_a_message_without_room_for_its_tag_is_refused(length: int) -> None:
    with pytest.raises(NoiseDecryptionFailed):
        pair()[1].decrypt(length.to_bytes(2, "big") + bytes(length))


def test_nonces_never_wrap() -> None:
    alice, bob = pair()
    alice._send_nonce = bob._receive_nonce = MAX_NONCE
    message = alice.encrypt([b"the last"])[0]
    assert bob.decrypt(message) == [b"the last"]
    with pytest.raises(NonceExhausted):
        alice.encrypt([b"one more"])
    with pytest.raises(NonceExhausted):
        bob.decrypt(message)
