"""Certificates of the libp2p TLS handshake: a PeerId proven inside TLS 1.3 (libp2p specs, "tls/tls.md").

A node signs its certificate with a key made for that alone. An extension carries the node's real key and its
signature over the certificate's key, so that whoever proves to hold the one proves to be the other:

    SignedKey ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }
    publicKey   the libp2p `PublicKey` protobuf
    signature   by that key over "libp2p-tls-handshake:" and the SubjectPublicKeyInfo, in DER

That the peer holds the certificate's key is proven by TLS itself, in CertificateVerify. Everything else about
the certificate is judged here, and nothing about it is believed: it is the first thing a stranger sends.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from wws.errors import ParseError, RemoteProtocolError
from wws.identity.keys import SIGNATURE_LENGTH, Identity, verify
from wws.identity.peer_id import PeerId

ALPN: Final = "libp2p"
"""The only application protocol: what runs inside is negotiated a stream, not a connection."""

Certificate: TypeAlias = x509.Certificate
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey

MAX_CERTIFICATE: Final = 4096
"""Bytes of the largest certificate that is looked at; those of other implementations have 300 to 1,200."""
CLOCK_TOLERANCE: Final = 3600.0
"""Seconds by which the peer's clock and ours may differ when its certificate is judged."""

_EXTENSION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
_SIGNED_PREFIX: Final = b"libp2p-tls-handshake:"
_NOT_BEFORE: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""Long ago: a peer whose clock is behind ours shall still take the certificate for valid."""
_VALID_FOR: Final = timedelta(days=36_500)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_SMALLEST_RSA: Final = 2048
_SEQUENCE: Final = 0x30
_OCTET_STRING: Final = 0x04


_MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises over a certificate, at once or when a field of it is looked at."""

# cryptography warns of serial numbers below 1: what a stranger sends must not reach our standard error.
warnings.filterwarnings("ignore", "Parsed a serial number", CryptographyDeprecationWarning)


class CertificateInvalid(RemoteProtocolError):
    """The peer's certificate does not prove who it is."""

    code = "certificate_invalid"


def make_certificate(identity: Identity, unix_now: float) -> tuple[Certificate, PrivateKey]:
    """A new key on P-256, and a certificate that binds it to `identity`."""
    key = ec.generate_private_key(ec.SECP256R1())
    signature = identity.sign(_SIGNED_PREFIX + _key_info(key.public_key()))
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(datetime.fromtimestamp(unix_now, UTC) + _VALID_FOR)
        .add_extension(
            x509.UnrecognizedExtension(
                _EXTENSION, encode_signed_key(identity.peer_id.public_key_protobuf, signature)
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def peer_of_chain(chain: Sequence[bytes], unix_now: float) -> PeerId:
    """Whom a chain of certificates in DER proves to be at the other end. Raises `CertificateInvalid`."""
    if len(chain) != 1:
        raise CertificateInvalid(f"the peer sent {len(chain)} certificates, not one")
    _check_size(chain[0])
    try:
        certificate = x509.load_der_x509_certificate(chain[0])
    except _MALFORMED as error:
        raise CertificateInvalid(f"the peer's certificate is malformed: {error}") from None
    return peer_of_certificate(certificate, unix_now)


def peer_of_certificate(certificate: Certificate, unix_now: float) -> PeerId:
    """Whom a certificate proves to be at the other end, once TLS has proven that the peer holds its key.

    Raises `CertificateInvalid` when it is not valid at `unix_now`, is not signed by itself with a key and
    hash that can be trusted, has a critical extension that we do not know, or has not exactly one extension
    of libp2p with a valid signature.
    """
    try:
        return _judge(certificate, unix_now)
    except _MALFORMED as error:
        # What cryptography finds wrong only when a field is looked at: x509 is parsed lazily.
        raise CertificateInvalid(f"the peer's certificate is malformed: {error}") from None


def encode_signed_key(public_key: bytes, signature: bytes) -> bytes:
    """The `SignedKey` of a public key protobuf and a signature, in DER."""
    return _der(_SEQUENCE, _der(_OCTET_STRING, public_key) + _der(_OCTET_STRING, signature))


def parse_signed_key(data: bytes) -> tuple[bytes, bytes]:
    """The public key protobuf and the signature of a `SignedKey`. Raises `ParseError` unless it is DER."""
    body, rest = _pull(data, _SEQUENCE)
    public_key, behind = _pull(body, _OCTET_STRING)
    signature, left = _pull(behind, _OCTET_STRING)
    if rest or left:
        raise ParseError("bytes behind a SignedKey")
    return public_key, signature


def _check_size(der: bytes) -> None:
    if len(der) > MAX_CERTIFICATE:
        raise CertificateInvalid(f"the peer's certificate has {len(der)} bytes")


def _judge(certificate: Certificate, unix_now: float) -> PeerId:
    _check_size(certificate.public_bytes(Encoding.DER))
    not_before = certificate.not_valid_before_utc.timestamp()
    not_after = certificate.not_valid_after_utc.timestamp()
    if not not_before - CLOCK_TOLERANCE <= unix_now <= not_after + CLOCK_TOLERANCE:
        raise CertificateInvalid(
            "the peer's certificate is not valid now", hint="Are the clocks of both machines right?"
        )
    public_key = certificate.public_key()
    _check_self_signature(certificate, public_key)
    signed_key: bytes | None = None
    for extension in certificate.extensions:  # raises ValueError for one that is there twice
        if extension.oid == _EXTENSION:
            assert isinstance(extension.value, x509.UnrecognizedExtension)
            signed_key = extension.value.value
        elif extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise CertificateInvalid(f"unknown critical extension {extension.oid.dotted_string}")
    if signed_key is None:
        raise CertificateInvalid("the peer's certificate lacks the extension of libp2p")
    try:
        protobuf, signature = parse_signed_key(signed_key)
        peer = PeerId.from_protobuf(protobuf)
    except ParseError as error:
        raise CertificateInvalid(f"the extension of libp2p is malformed: {error}") from None
    if len(signature) != SIGNATURE_LENGTH or not verify(
        peer.public_key, _SIGNED_PREFIX + _key_info(public_key), signature
    ):
        raise CertificateInvalid(f"the certificate is not signed by {peer}")
    return peer


def _check_self_signature(certificate: Certificate, public_key: object) -> None:
    digest = certificate.signature_hash_algorithm
    if digest is not None and not isinstance(digest, _HASHES):
        raise CertificateInvalid(f"the certificate is signed over {digest.name}")
    signature, body = certificate.signature, certificate.tbs_certificate_bytes
    try:
        match public_key:
            case ec.EllipticCurvePublicKey(curve=curve) if isinstance(curve, _CURVES) and digest is not None:
                public_key.verify(signature, body, ec.ECDSA(digest))
            case ed25519.Ed25519PublicKey() if digest is None:
                public_key.verify(signature, body)
            case rsa.RSAPublicKey(key_size=size) if size >= _SMALLEST_RSA and digest is not None:
                scheme = certificate.signature_algorithm_parameters
                if not isinstance(scheme, padding.PSS | padding.PKCS1v15):
                    raise CertificateInvalid("the certificate is signed by another algorithm than its key's")
                public_key.verify(signature, body, scheme, digest)
            case _:
                raise CertificateInvalid("the certificate has a key of a kind that is not accepted")
    except InvalidSignature:
        raise CertificateInvalid("the certificate is not signed by itself") from None


def _key_info(public_key: object) -> bytes:
    assert isinstance(public_key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey)
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _der(tag: int, value: bytes) -> bytes:
    assert len(value) < 0x100
    length = bytes([len(value)]) if len(value) < 0x80 else bytes([0x81, len(value)])
    return bytes([tag]) + length + value


def _pull(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """One DER value with `tag` from the front of `data`, and what stands behind it."""
    if len(data) < 2 or data[0] != tag:
        raise ParseError(f"a DER value with tag {tag:#04x} is missing")
    length, start = data[1], 2
    if length >= 0x80:
        count = length & 0x7F
        start = 2 + count
        length = int.from_bytes(data[2:start], "big")
        # DER: the shortest form, and no indefinite length. Two bytes are plenty for what is accepted here.
        if not 1 <= count <= 2 or len(data) < start or length < (0x80 if count == 1 else 0x100):
            raise ParseError("malformed DER length")
    if len(data) < start + length:
        raise ParseError("a DER value is cut short")
    return data[start : start + length], data[start + length :]
