"""Proof of work (wire.md section 6; the vectors are in test_vectors.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import LocalProtocolError
from wws.identity import proof_of_work
from wws.testing.names import person

DID = person("alice").peer_id.did


@pytest.mark.parametrize(
    "size, bits",
    [(0, 12), (99, 12), (100, 14), (999, 14), (1_000, 16), (9_999, 16), (10_000, 18), (10**9, 18)],
)
def test_schedule(size: int, bits: int) -> None:
    assert proof_of_work.bits_for(size) == bits


@given(st.text(max_size=20), st.integers(0, 8))
def test_what_is_solved_verifies(context: str, bits: int) -> None:
    nonce = proof_of_work.solve(context, DID, bits)
    assert proof_of_work.verify(context, DID, nonce, bits)
    assert all(not proof_of_work.verify(context, DID, smaller, bits) for smaller in range(nonce))


@pytest.mark.parametrize("nonce", [-1, 2**53, 2**64, 2**70])
def test_a_nonce_out_of_range_shows_nothing(nonce: int) -> None:
    assert not proof_of_work.verify("name:public:alice", DID, nonce, 0)


def test_slices_find_the_same() -> None:
    nonce = proof_of_work.solve("name:public:alice", DID, 12)
    assert proof_of_work.search("name:public:alice", DID, 12, 0, nonce) is None
    assert proof_of_work.search("name:public:alice", DID, 12, nonce, 1) == nonce
    assert proof_of_work.search("name:public:alice", DID, 12, nonce + 1, 10) != nonce


def test_what_is_asked_too_much_is_not_attempted() -> None:
    with pytest.raises(LocalProtocolError):
        proof_of_work.solve("name:public:alice", DID, proof_of_work.MOST_BITS + 1)
