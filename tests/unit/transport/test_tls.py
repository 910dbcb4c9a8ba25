"""Certificates of the libp2p TLS handshake: made, judged, mutated."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.transport.tls import (
    MAX_CERTIFICATE,
    CertificateInvalid,
    encode_signed_key,
    make_certificate,
    parse_signed_key,
    peer_of_certificate,
    peer_of_chain,
)

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")

NOW = 1_760_000_000.0
ALICE = Identity.from_label("alice")
BOB = Identity.from_label("bob")
OID = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
OTHER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.53594.7")


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def at(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, UTC)


def signed_key(identity: Identity, public_key: Any, prefix: bytes = b"libp2p-tls-handshake:") -> bytes:
    info = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encode_signed_key(identity.peer_id.public_key_protobuf, identity.sign(prefix + info))


def build(
    *,
    key: Any = None,
    signer: Any = None,
    digest: Any = hashes.SHA256(),  # noqa: B008 - immutable
    extension: Callable[[Any], bytes] | None = lambda public: signed_key(ALICE, public),
    critical: bool = False,
    unknown: tuple[x509.ObjectIdentifier, bool] | None = None,
    begins: float = NOW - 60,
    ends: float = NOW + 60,
) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(at(begins))
        .not_valid_after(at(ends))
    )
    if extension is not None:
        value = x509.UnrecognizedExtension(OID, extension(key.public_key()))
        builder = builder.add_extension(value, critical=critical)
    if unknown is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(unknown[0], b"?"), critical=unknown[1])
    return der(builder.sign(signer or key, digest))


def test_a_certificate_of_ours_proves_who_we_are_for_a_long_time() -> None:
    certificate, key = make_certificate(ALICE, NOW)
    assert certificate.public_key() == key.public_key()
    for moment in (NOW, NOW - 5 * 365 * 86_400, NOW + 50 * 365 * 86_400):
        assert peer_of_chain([der(certificate)], moment) == ALICE.peer_id


def test_every_certificate_has_a_key_of_its_own() -> None:
    assert make_certificate(ALICE, NOW)[1] != make_certificate(ALICE, NOW)[1]


@pytest.mark.parametrize(
    "certificate",
    [
        build(critical=True),
        build(unknown=(OTHER_OID, False)),
        build(key=ec.generate_private_key(ec.SECP384R1()), digest=hashes.SHA384()),
        build(key=ec.generate_private_key(ec.SECP521R1()), digest=hashes.SHA512()),
        build(key=ed25519.Ed25519PrivateKey.generate(), digest=None),
        build(key=rsa.generate_private_key(65537, 2048)),
        build(begins=NOW + 3000, ends=NOW + 9000),  # within the tolerance for clocks
        build(begins=NOW - 9000, ends=NOW - 3000),
    ],
)
def test_what_others_may_send(certificate: bytes) -> None:
    assert peer_of_chain([certificate], NOW) == ALICE.peer_id


CURVE_OF_KOBLITZ = ec.generate_private_key(ec.SECP256K1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "chain, word",
    [
        ([], "0 certificates"),
        ([build(), build()], "2 certificates"),
        ([b""], "malformed"),
        ([b"\x30\x03\x02\x01"], "malformed"),
        ([bytes(MAX_CERTIFICATE + 1)], "bytes"),
        ([build(begins=NOW + 4000, ends=NOW + 5000)], "not valid now"),
        ([build(begins=NOW - 9000, ends=NOW - 4000)], "not valid now"),
        ([build(signer=OTHER_KEY)], "not signed by itself"),
        ([build(extension=None)], "lacks the extension"),
        ([build(unknown=(OTHER_OID, True))], "unknown critical extension"),
        ([build(key=CURVE_OF_KOBLITZ)], "of a kind"),
        ([build(key=rsa.generate_private_key(65537, 1024))], "of a kind"),
        ([build(extension=lambda public: signed_key(ALICE, OTHER_KEY.public_key()))], "not signed by 12D3"),
        ([build(extension=lambda public: signed_key(ALICE, public, b"libp2p-tls:"))], "not signed by 12D3"),
        ([build(extension=lambda public: b"")], "malformed"),
        ([build(extension=lambda public: signed_key(ALICE, public) + b"\x00")], "malformed"),
        ([build(extension=lambda public: encode_signed_key(b"\x08\x02\x12\x00", bytes(64)))], "malformed"),
        (
            [build(extension=lambda public: encode_signed_key(ALICE.peer_id.public_key_protobuf, b"short"))],
            "not signed by 12D3",
        ),
    ],
)
def test_what_is_refused(chain: list[bytes], word: str) -> None:
    with pytest.raises(CertificateInvalid, match=word):
        peer_of_chain(chain, NOW)


def test_a_large_certificate_is_not_looked_at_however_it_comes() -> None:
    large = build(extension=lambda public: signed_key(ALICE, public) + bytes(MAX_CERTIFICATE))
    with pytest.raises(CertificateInvalid, match="bytes"):
        peer_of_certificate(x509.load_der_x509_certificate(large), NOW)


def test_another_key_cannot_be_claimed() -> None:
    """Bob's signature under alice's name, and alice's signature moved to bob's certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    info = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    lie = encode_signed_key(ALICE.peer_id.public_key_protobuf, BOB.sign(b"libp2p-tls-handshake:" + info))
    with pytest.raises(CertificateInvalid):
        peer_of_chain([build(key=key, extension=lambda public: lie)], NOW)


def test_an_extension_twice_is_refused() -> None:
    good = build()
    begin = good.index(b"\x06\x0a\x2b\x06\x01\x04\x01\x83\xa2\x5a\x01\x01") - 2
    length = 2 + good[begin + 1]
    if good[begin + 1] & 0x80:
        begin, length = begin - 1, 3 + good[begin + 1]
    doubled = good[: begin + length] + good[begin : begin + length] + good[begin + length :]
    with pytest.raises(CertificateInvalid):
        peer_of_chain([doubled], NOW)


VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "libp2p_tls.json").read_text())


def test_the_vectors_of_the_specification() -> None:
    certificates = {name: bytes.fromhex(text) for name, text in VECTORS["certificates"].items()}
    assert str(peer_of_chain([certificates["ed25519"]], NOW)) == VECTORS["ed25519_peer_id"]
    for name in ("ecdsa", "secp256k1"):  # well formed, but a node of WWS has an Ed25519 key
        with pytest.raises(CertificateInvalid, match="not the protobuf of an Ed25519"):
            peer_of_chain([certificates[name]], NOW)
    with pytest.raises(CertificateInvalid):
        peer_of_chain([certificates["mismatch"]], NOW)


GOOD = der(make_certificate(ALICE, NOW)[0])


@given(st.integers(0, len(GOOD) * 8 - 1))
def test_one_flipped_bit_never_makes_another_peer(bit: int) -> None:
    """Any bit: what is not signed by the certificate's own key is signed by the node's."""
    changed = bytearray(GOOD)
    changed[bit // 8] ^= 1 << bit % 8
    try:
        assert peer_of_chain([bytes(changed)], NOW) == ALICE.peer_id
    except CertificateInvalid:
        pass


@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=64))
def test_cut_and_stuffed_certificates_are_judged_not_raised_over(start: int, end: int, inside: bytes) -> None:
    changed = GOOD[:start] + inside + GOOD[end:]
    try:
        assert peer_of_chain([changed], NOW) == ALICE.peer_id
    except CertificateInvalid:
        pass


@given(st.binary(max_size=300))
def test_garbage_is_no_certificate(data: bytes) -> None:
    with pytest.raises(CertificateInvalid):
        peer_of_chain([data], NOW)


@given(st.binary(max_size=255), st.binary(max_size=255))
def test_signed_keys_come_back(public_key: bytes, signature: bytes) -> None:
    if len(public_key) + len(signature) < 240:
        assert parse_signed_key(encode_signed_key(public_key, signature)) == (public_key, signature)


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda data: b"\x30" + data))
def test_a_signed_key_has_one_form(data: bytes) -> None:
    try:
        public_key, signature = parse_signed_key(data)
    except ParseError:
        return
    assert encode_signed_key(public_key, signature) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "3080",
        "3000",
        "30040400",
        "3004040004",
        "310404000400",
        "308104 04000400",
        "308200 04 04000400",
        "30 84 00000004 04000400",
        "3005 0400 0400 00",
        "3004 0400 0400 00",
        "3004 0500 0400",
    ],
)
def test_what_is_no_signed_key(text: str) -> None:
    with pytest.raises(ParseError):
        parse_signed_key(bytes.fromhex(text))


def test_validity_is_judged_at_the_moment_it_is_asked() -> None:
    certificate = build(begins=NOW, ends=NOW + timedelta(days=1).total_seconds())
    assert peer_of_chain([certificate], NOW + 86_400 + 3_600) == ALICE.peer_id
    with pytest.raises(CertificateInvalid, match="not valid now"):
        peer_of_chain([certificate], NOW + 86_400 + 3_601)
