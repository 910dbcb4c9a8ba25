"""Identity forms against the vectors, and signatures by libsodium's rules (wire.md section 1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import ParseError
from wws.identity.keys import Identity, verify
from wws.identity.peer_id import PeerId

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "identity.json").read_text())["cases"]
ALICE = Identity.from_label("alice")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.get("label", case["seed_hex"][:8]))
def test_vector(case: dict[str, str]) -> None:
    identity = Identity(bytes.fromhex(case["seed_hex"]))
    if "label" in case:
        assert identity.seed == Identity.from_label(case["label"]).seed
    peer_id = identity.peer_id
    assert identity.public_key.hex() == case["public_key_hex"]
    assert str(peer_id) == case["peer_id"]
    assert peer_id.cid == case["peer_id_cid"]
    assert peer_id.did == case["did"]
    assert peer_id.did_key == case["did_key"]
    assert peer_id.node_id == case["node_id"]
    for form in (case["peer_id"], case["peer_id_cid"]):
        assert PeerId.parse(form) == peer_id
    assert PeerId.from_bytes(peer_id.to_bytes()) == peer_id
    assert PeerId.from_protobuf(peer_id.public_key_protobuf) == peer_id


@given(
    st.text(max_size=80)
    | st.sampled_from([str(ALICE.peer_id), ALICE.peer_id.cid]).map(lambda text: text[:-1] + "1")
)
def test_peer_id_of_any_text(text: str) -> None:
    try:
        peer_id = PeerId.parse(text)
    except ParseError:
        return
    assert text in (str(peer_id), peer_id.cid)


@given(st.binary(max_size=40))
def test_peer_id_of_any_bytes(data: bytes) -> None:
    for read in (PeerId.from_bytes, PeerId.from_protobuf, PeerId):
        try:
            read(data)
        except ParseError:
            continue


def test_every_bit_of_a_signature_counts() -> None:
    message = b"hello, bob"
    signature = ALICE.sign(message)
    assert verify(ALICE.public_key, message, signature)
    for bit in range(512):
        broken = bytearray(signature)
        broken[bit // 8] ^= 1 << bit % 8
        assert not verify(ALICE.public_key, message, bytes(broken))


def test_small_order_keys_and_non_canonical_s_are_refused() -> None:
    # The neutral point as key with R = neutral, S = 0 verifies under the cofactored equation for any message.
    neutral = b"\x01" + bytes(31)
    assert not verify(neutral, b"anything", neutral + bytes(32))
    order = 2**252 + 27742317777372353535851937790883648493
    signature = ALICE.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + order
    assert not verify(ALICE.public_key, b"m", signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_wrong_lengths(length: int) -> None:
    with pytest.raises(ParseError):
        Identity(bytes(length))
    assert not verify(bytes(length), b"", bytes(64))
    if length != 64:
        assert not verify(ALICE.public_key, b"", bytes(length))


def test_the_seed_is_never_shown() -> None:
    assert ALICE.seed.hex() not in repr(ALICE)
    assert str(ALICE.peer_id) in repr(ALICE)
