"""Noise XX with libp2p's payload: vectors, and every way in which a peer can get it wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import nacl.bindings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transport.noise_reference import Reference, seal
from wws.codec import protobuf
from wws.errors import LocalProtocolError, RemoteProtocolError
from wws.identity.keys import Identity
from wws.transport.noise import (
    MAX_PAYLOAD_FIELDS,
    YAMUX,
    NoCommonMuxer,
    NoiseHandshake,
    NoiseHandshakeFailed,
    NoisePayloadMalformed,
    NoiseSignatureInvalid,
    NoiseStatic,
    PeerIdMismatch,
    encode_payload,
    parse_payload,
)

ALICE, BOB, CAROL = (Identity.from_label(name) for name in ("alice", "bob", "carol"))


def secret(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()


SECRETS = {"is": secret("a s"), "ie": secret("a e"), "rs": secret("b s"), "re": secret("b e")}
ALICE_STATIC = NoiseStatic(ALICE, secret=SECRETS["is"])
BOB_STATIC = NoiseStatic(BOB, secret=SECRETS["rs"])

# "Noise_XX_25519_ChaChaPoly_SHA256" of the cacophony vectors: payload and message, in turn.
CACOPHONY_SECRETS = {
    "is": bytes.fromhex("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"),
    "ie": bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"),
    "rs": bytes.fromhex("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"),
    "re": bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"),
}
CACOPHONY = [
    (
        "4c756477696720766f6e204d69736573",
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573",
    ),
    (
        "4d757272617920526f746862617264",
        (
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884381cbad1f276e038c48378ffce2b65285"
            "e08d6b68aaa3629a5a8639392490e5b9bd5269c2f1e4f488ed8831161f19b7815528f8982ffe09be9b5c412f8a0db50f"
            "8814c7194e83f23dbd8d162c9326ad"
        ),
    ),
    (
        "462e20412e20486179656b",
        (
            "c7195ffacac1307ff99046f219750fc47693e23c3cb08b89c2af808b444850a80ae475b9df0f169ae80a89be0865b57f"
            "58c9fea0d4ec82a286427402f113e4b6ae769a1d95941d49b25030"
        ),
    ),
]
CACOPHONY_TRANSPORT = [
    ("4361726c204d656e676572", "96763ed773f8e47bb3712f0e29b3060ffc956ffc146cee53d5e1df"),
    (
        "4a65616e2d426170746973746520536179",
        "3e40f15f6f3a46ae446b253bf8b1d9ffb6ed9b174d272328ff91a7e2e5c79c07f5",
    ),
]


def alice(**keywords: object) -> NoiseHandshake:
    return NoiseHandshake(
        **{"is_initiator": True, "static": ALICE_STATIC, "expected_peer": BOB.peer_id, **keywords}  # type: ignore[arg-type]
    )


def bob(**keywords: object) -> NoiseHandshake:
    return NoiseHandshake(**{"is_initiator": False, "static": BOB_STATIC, **keywords})  # type: ignore[arg-type]


def run(initiator: NoiseHandshake, responder: NoiseHandshake) -> tuple[bytes, bytes, bytes]:
    """A whole handshake: its three messages."""
    first = initiator.start()
    second = responder.receive_message(first)
    third = initiator.receive_message(second)
    assert responder.receive_message(third) == b""
    return first, second, third


# Vectors


def test_the_reference_keeps_the_published_vector() -> None:
    reference = Reference(b"John Galt", CACOPHONY_SECRETS)
    for index, (payload, message) in enumerate(CACOPHONY):
        assert reference.write(index, bytes.fromhex(payload)).hex() == message
    assert reference.hash.hex() == "c8e5f64e846193be2a834104c2a009868d6c9f3bd3c186299888b488b2f1f58e"
    # The fourth message is the responder's first: the initiator wrote the third.
    to_responder, to_initiator = reference.split()
    for key, (payload, message) in zip((to_initiator, to_responder), CACOPHONY_TRANSPORT, strict=True):
        assert seal(key, 0, bytes.fromhex(payload), b"").hex() == message


def test_our_transcript_is_that_of_the_reference() -> None:
    initiator, responder = alice(ephemeral=SECRETS["ie"]), bob(ephemeral=SECRETS["re"])
    messages = run(initiator, responder)
    reference = Reference(b"", SECRETS)
    payloads = (b"", BOB_STATIC.payload, ALICE_STATIC.payload)
    assert messages == tuple(reference.write(index, payload) for index, payload in enumerate(payloads))
    to_responder, to_initiator = reference.split()
    assert initiator.ciphers is not None
    assert responder.ciphers is not None
    assert bytes(initiator.ciphers.encrypt([b"hi"])[0][2:]) == seal(to_responder, 0, b"hi", b"")
    assert bytes(responder.ciphers.encrypt([b"hi"])[0][2:]) == seal(to_initiator, 0, b"hi", b"")


def test_both_sides_know_each_other_afterwards() -> None:
    initiator, responder = alice(), bob()
    run(initiator, responder)
    assert initiator.remote_peer == BOB.peer_id
    assert responder.remote_peer == ALICE.peer_id
    assert initiator.ciphers is not None
    assert responder.ciphers is not None
    assert responder.ciphers.decrypt(initiator.ciphers.encrypt([b"to bob"])[0]) == [b"to bob"]
    assert initiator.ciphers.decrypt(responder.ciphers.encrypt([b"to alice"])[0]) == [b"to alice"]


def test_no_two_handshakes_are_alike() -> None:
    assert alice().start() != alice().start()


# Early muxer negotiation


@pytest.mark.parametrize(
    "ours, theirs, agreed",
    [
        ((YAMUX,), (YAMUX,), YAMUX),
        ((YAMUX,), (), None),
        ((), (YAMUX,), None),
        ((), (), None),
        (("/mplex/6.7.0", YAMUX), (YAMUX, "/mplex/6.7.0"), "/mplex/6.7.0"),  # the initiator's order decides
        (("/x/1", YAMUX), (YAMUX, "/y/1"), YAMUX),
    ],
)
def test_the_muxer_is_the_first_of_the_initiator_that_both_have(
    ours: tuple[str, ...], theirs: tuple[str, ...], agreed: str | None
) -> None:
    initiator = alice(static=NoiseStatic(ALICE, muxers=ours))
    responder = bob(static=NoiseStatic(BOB, muxers=theirs))
    run(initiator, responder)
    assert initiator.early_muxer == responder.early_muxer == agreed


def test_muxers_without_one_in_common_fail() -> None:
    initiator = alice(static=NoiseStatic(ALICE, muxers=("/mplex/6.7.0",)))
    second = bob().receive_message(initiator.start())
    with pytest.raises(NoCommonMuxer, match=YAMUX):
        initiator.receive_message(second)


# Who is there


def test_another_peer_than_the_one_dialled_is_named() -> None:
    initiator = alice(expected_peer=CAROL.peer_id)
    second = bob().receive_message(initiator.start())
    with pytest.raises(PeerIdMismatch) as caught:
        initiator.receive_message(second)
    assert caught.value.code == "peer_id_mismatch"
    assert caught.value.expected == CAROL.peer_id
    assert caught.value.found == BOB.peer_id
    assert str(CAROL.peer_id) in str(caught.value)
    assert str(BOB.peer_id) in str(caught.value)
    assert initiator.remote_peer is None


def test_a_listener_may_expect_someone_too() -> None:
    initiator, responder = alice(), bob(expected_peer=CAROL.peer_id)
    third = initiator.receive_message(responder.receive_message(initiator.start()))
    with pytest.raises(PeerIdMismatch):
        responder.receive_message(third)


def static_with(payload: bytes) -> NoiseStatic:
    """Bob's static key with another payload."""
    static = NoiseStatic(BOB, secret=SECRETS["rs"])
    static.payload = payload
    return static


KEY, SIGNATURE = (field.as_bytes() for field in protobuf.parse(BOB_STATIC.payload)[:2])
OTHER_SIGNATURE = CAROL.sign(b"noise-libp2p-static-key:" + BOB_STATIC.key.public)


def _key(kind: int, key: bytes) -> bytes:
    return protobuf.encode_varint(1, kind) + protobuf.encode_bytes(2, key)


PAYLOADS: dict[str, tuple[bytes, type[RemoteProtocolError]]] = {
    "empty": (b"", NoisePayloadMalformed),
    "no signature": (protobuf.encode_bytes(1, KEY), NoisePayloadMalformed),
    "no key": (protobuf.encode_bytes(2, SIGNATURE), NoisePayloadMalformed),
    "a signature of someone else": (encode_payload(BOB.peer_id, OTHER_SIGNATURE, ()), NoiseSignatureInvalid),
    "a signature of another key": (
        encode_payload(BOB.peer_id, BOB.sign(b"noise-libp2p-static-key:" + bytes(32)), ()),
        NoiseSignatureInvalid,
    ),
    "a signature without the domain": (
        encode_payload(BOB.peer_id, BOB.sign(BOB_STATIC.key.public), ()),
        NoiseSignatureInvalid,
    ),
    "a short signature": (encode_payload(BOB.peer_id, SIGNATURE[:63], ()), NoiseSignatureInvalid),
    "an empty signature": (encode_payload(BOB.peer_id, b"", ()), NoiseSignatureInvalid),
    "an RSA key": (
        protobuf.encode_bytes(1, _key(0, bytes(270))) + protobuf.encode_bytes(2, SIGNATURE),
        NoisePayloadMalformed,
    ),
    "a secp256k1 key": (
        protobuf.encode_bytes(1, _key(2, bytes(33))) + protobuf.encode_bytes(2, SIGNATURE),
        NoisePayloadMalformed,
    ),
    "a key of small order": (
        protobuf.encode_bytes(1, _key(1, b"\x01" + bytes(31))) + protobuf.encode_bytes(2, bytes(64)),
        NoiseSignatureInvalid,
    ),
    "the key twice": (protobuf.encode_bytes(1, KEY) + BOB_STATIC.payload, NoisePayloadMalformed),
    "two extensions": (BOB_STATIC.payload + protobuf.encode_bytes(4, b""), NoisePayloadMalformed),
    "a number for a key": (
        protobuf.encode_varint(1, 7) + protobuf.encode_bytes(2, SIGNATURE),
        NoisePayloadMalformed,
    ),
    "a muxer that is no text": (
        encode_payload(BOB.peer_id, SIGNATURE, ())
        + protobuf.encode_bytes(4, protobuf.encode_bytes(2, b"\xff")),
        NoisePayloadMalformed,
    ),
    "cut short": (BOB_STATIC.payload[:-1], NoisePayloadMalformed),
    "too many fields": (
        protobuf.encode_varint(9, 1) * (MAX_PAYLOAD_FIELDS - 2) + BOB_STATIC.payload,
        NoisePayloadMalformed,
    ),
}


@pytest.mark.parametrize("payload, error", list(PAYLOADS.values()), ids=list(PAYLOADS))
def test_a_payload_that_proves_nothing_is_refused(payload: bytes, error: type[RemoteProtocolError]) -> None:
    initiator = alice()
    second = bob(static=static_with(payload)).receive_message(initiator.start())
    with pytest.raises(error) as caught:
        initiator.receive_message(second)
    assert type(caught.value) is error
    assert initiator.remote_peer is None
    assert initiator.ciphers is None


def test_unknown_fields_are_skipped() -> None:
    payload = (
        protobuf.encode_varint(9, 1)
        + BOB_STATIC.payload
        + protobuf.encode_bytes(3, b"early data of the first specification")
    )
    assert parse_payload(payload) == (BOB.peer_id, SIGNATURE, (YAMUX,))


@given(st.binary(max_size=300))
def test_any_payload_is_parsed_or_refused(data: bytes) -> None:
    try:
        parse_payload(data)
    except NoisePayloadMalformed:
        pass


# Bytes that are wrong


def second_message() -> tuple[NoiseHandshake, bytes]:
    initiator = alice(ephemeral=SECRETS["ie"])
    return initiator, bob(ephemeral=SECRETS["re"]).receive_message(initiator.start())


def third_message() -> tuple[NoiseHandshake, bytes]:
    initiator, responder = alice(ephemeral=SECRETS["ie"]), bob(ephemeral=SECRETS["re"])
    return responder, initiator.receive_message(responder.receive_message(initiator.start()))


RECEIVERS = [second_message, third_message]


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_every_truncation_is_refused(receiver: Callable[[], tuple[NoiseHandshake, bytes]]) -> None:
    length = len(receiver()[1])
    for cut in range(0, length, 7):
        handshake, message = receiver()
        with pytest.raises(NoiseHandshakeFailed):
            handshake.receive_message(message[:cut])


def test_a_first_message_that_is_too_short_is_refused() -> None:
    for length in (0, 1, 31):
        with pytest.raises(NoiseHandshakeFailed):
            bob().receive_message(bytes(length))


@given(st.sampled_from(RECEIVERS), st.integers(0, 10_000), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(
    receiver: Callable[[], tuple[NoiseHandshake, bytes]], position: int, bit: int
) -> None:
    handshake, message = receiver()
    garbled = bytearray(message)
    garbled[position % len(message)] ^= 1 << bit
    # X25519 ignores the top bit of a public key, but the hash of the transcript does not.
    with pytest.raises(NoiseHandshakeFailed):
        handshake.receive_message(bytes(garbled))
    assert handshake.ciphers is None
    assert handshake.remote_peer is None


@given(st.integers(0, 31), st.integers(0, 7))
def test_a_flipped_bit_in_the_first_message_is_noticed_with_the_second(position: int, bit: int) -> None:
    initiator, responder = alice(), bob()
    first = bytearray(initiator.start())
    first[position] ^= 1 << bit
    try:
        second = responder.receive_message(bytes(first))
    except NoiseHandshakeFailed:
        return  # a point of low order, by chance
    with pytest.raises(NoiseHandshakeFailed):
        initiator.receive_message(second)


@given(st.booleans(), st.lists(st.binary(max_size=400), max_size=3))
def test_garbage_is_refused(initiator: bool, messages: list[bytes]) -> None:
    handshake = alice() if initiator else bob()
    if initiator:
        handshake.start()
    try:
        for message in messages:
            handshake.receive_message(message)
    except NoiseHandshakeFailed:
        pass
    assert handshake.ciphers is None


# Points of order 1, 2, 4 and 8 (RFC 7748, section 7, and curve25519's author's list).
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point: bytes) -> None:
    with pytest.raises(NoiseHandshakeFailed, match="low order"):
        bob().receive_message(point)
    initiator = alice()
    initiator.start()
    with pytest.raises(NoiseHandshakeFailed, match="low order"):
        initiator.receive_message(point + bytes(200))


def test_a_replayed_handshake_does_not_decrypt() -> None:
    first, _, third = run(alice(), bob())
    responder = bob()
    responder.receive_message(first)
    with pytest.raises(NoiseHandshakeFailed):
        responder.receive_message(third)


def test_our_own_messages_sent_back_do_not_pass() -> None:
    initiator = alice()
    with pytest.raises(NoiseHandshakeFailed):
        initiator.receive_message(initiator.start() + bytes(100))


# Misuse is our own bug


def test_calls_out_of_turn() -> None:
    with pytest.raises(LocalProtocolError):
        bob().start()
    initiator = alice()
    with pytest.raises(LocalProtocolError):
        initiator.receive_message(b"")
    initiator.start()
    with pytest.raises(LocalProtocolError):
        initiator.start()
    initiator, responder = alice(), bob()
    run(initiator, responder)
    for handshake in (initiator, responder):
        with pytest.raises(LocalProtocolError):
            handshake.receive_message(b"")


def test_the_static_key_is_the_public_half_of_its_secret() -> None:
    assert ALICE_STATIC.key.public == nacl.bindings.crypto_scalarmult_base(SECRETS["is"])
