"""One Ed25519 signature in the three forms that the tools of a bare machine verify.

    .sig       64 raw bytes over the file              openssl pkeyutl -verify -rawin
    .sshsig    armoured SSHSIG, sha512, a namespace    ssh-keygen -Y verify
    .minisig   over BLAKE2b-512 of the file (ED)       minisign -V

Each form is written in one way only, and verification refuses every other: what two tools read differently
could pass one and mean something else to the other. The raw form and minisign's have no namespace; what
is signed is told apart by its content there: no file of one purpose parses as that of another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import Final

from wws.codec import base64
from wws.errors import ParseError
from wws.identity.keys import SIGNATURE_LENGTH, Identity, verify
from wws.release.errors import ReleaseMalformed, SignatureWrong
from wws.release.keys import PublicKey

IDENTITY: Final = "release@wws"
"""Who signs, in a file of allowed signers."""
MAX_SIGNATURE: Final = 1024
"""Bytes of a signature file."""

_SSH_MAGIC: Final = b"SSHSIG"
_SSH_HASH: Final = b"sha512"
_SSH_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----\n"
_SSH_END: Final = "-----END SSH SIGNATURE-----\n"
_SSH_WIDTH: Final = 70
_MINISIGN_PREHASHED: Final = b"ED"
_UNTRUSTED: Final = "untrusted comment: "
_TRUSTED: Final = "trusted comment: "
_COMMENT: Final = re.compile(r"[ -~]{0,200}\Z")


class Purpose(Enum):
    """What is signed: the name of the file, and the namespace that goes into an SSHSIG."""

    SUMS = ("SHA256SUMS", "wws-release")
    CHANNEL = ("channel", "wws-channel")
    KEYS = ("release-keys", "wws-release-keys")

    def __init__(self, file: str, namespace: str) -> None:
        self.file = file
        self.namespace = namespace


class Form(StrEnum):
    """The form of a signature, by the ending of its file."""

    RAW = ".sig"
    SSH = ".sshsig"
    MINISIGN = ".minisig"


def sign(signer: Identity, data: bytes, purpose: Purpose, form: Form) -> bytes:
    """The content of the signature file of this form over `data`. The same input gives the same bytes."""
    key = PublicKey(signer.public_key)
    match form:
        case Form.RAW:
            return signer.sign(data)
        case Form.SSH:
            return _write_sshsig(
                key, purpose.namespace, signer.sign(_ssh_signed(data, purpose.namespace))
            ).encode("ascii")
        case Form.MINISIGN:
            signature = signer.sign(hashlib.blake2b(data).digest())
            comment = f"{purpose.namespace} file:{purpose.file}"
            whole = signer.sign(signature + comment.encode("ascii"))
            return _write_minisig(key.minisign_id, signature, comment, whole).encode("ascii")


def verify_signature(
    keys: Iterable[PublicKey], data: bytes, signature: bytes, purpose: Purpose, form: Form
) -> PublicKey:
    """The one of `keys` that signed `data` for this purpose.

    Raises `SignatureWrong` when none of them did, `ReleaseMalformed` when it is no signature of this form;
    both name the file of the signature.
    """
    try:
        if len(signature) > MAX_SIGNATURE:
            raise ReleaseMalformed(f"a signature of {len(signature)} bytes is none")
        for key in keys:
            if _holds(key, data, signature, purpose, form):
                return key
    except ReleaseMalformed as error:
        raise ReleaseMalformed(f"{purpose.file}{form}: {error}") from None
    raise SignatureWrong(f"{purpose.file}{form} is not a signature of {purpose.file} by a key that counts.")


def _holds(key: PublicKey, data: bytes, signature: bytes, purpose: Purpose, form: Form) -> bool:
    match form:
        case Form.RAW:
            return verify(key.data, data, _parse_raw(signature))
        case Form.SSH:
            signer, namespace, inner = parse_sshsig(signature)
            return (
                signer == key
                and namespace == purpose.namespace
                and verify(key.data, _ssh_signed(data, namespace), inner)
            )
        case Form.MINISIGN:
            key_id, inner, comment, whole = parse_minisig(signature)
            return (
                key_id == key.minisign_id
                and verify(key.data, hashlib.blake2b(data).digest(), inner)
                and verify(key.data, inner + comment.encode("ascii"), whole)
            )


def parse_sshsig(armoured: bytes) -> tuple[PublicKey, str, bytes]:
    """The key, the namespace and the 64 bytes of an SSHSIG (OpenSSH, PROTOCOL.sshsig).

    Armour around: `SSHSIG`, the version 1, then key, namespace, nothing (reserved), hash algorithm and
    signature, each with its length before it. Raises `ReleaseMalformed` on what `ssh-keygen` would not write.
    """
    text = _ascii(armoured)
    try:
        blob = base64.decode(text.removeprefix(_SSH_BEGIN).removesuffix(_SSH_END).replace("\n", ""))
        if not blob.startswith(_SSH_MAGIC + b"\x00\x00\x00\x01"):
            raise ReleaseMalformed("not an SSHSIG of version 1")
        key, rest = _ssh_string(blob[len(_SSH_MAGIC) + 4 :])
        namespace, rest = _ssh_string(rest)
        _, rest = _ssh_string(rest)
        _, rest = _ssh_string(rest)
        signature, _ = _ssh_string(rest)
        signer, name, inner = PublicKey.from_blob(key), _ascii(namespace), signature[-SIGNATURE_LENGTH:]
    except ParseError as error:
        raise ReleaseMalformed(f"not an SSHSIG: {error}") from None
    if len(inner) != SIGNATURE_LENGTH or _write_sshsig(signer, name, inner) != text:
        raise ReleaseMalformed("not an SSHSIG of an Ed25519 key over sha512 as ssh-keygen writes it")
    return signer, name, inner


def parse_minisig(content: bytes) -> tuple[bytes, bytes, str, bytes]:
    """The key id, the 64 bytes, the trusted comment and the 64 bytes over both of a minisign file.

    Four lines: an untrusted comment, base64 of `ED` + key id + signature, a trusted comment, base64 of the
    signature over signature and trusted comment. Raises `ReleaseMalformed`; also for `Ed`, which signs the
    file itself: a tool that takes both is fine, a signature that is taken for the other is not.
    """
    lines = _ascii(content).split("\n")
    if len(lines) != 5 or lines[4]:
        raise ReleaseMalformed("a minisign signature has four lines")
    untrusted, first, trusted, second = lines[:4]
    comment = trusted.removeprefix(_TRUSTED)
    if (
        not untrusted.startswith(_UNTRUSTED)
        or not trusted.startswith(_TRUSTED)
        or not _COMMENT.match(untrusted.removeprefix(_UNTRUSTED))
        or not _COMMENT.match(comment)
    ):
        raise ReleaseMalformed("not the comments of a minisign signature")
    try:
        blob, whole = base64.decode(first), base64.decode(second)
    except ParseError as error:
        raise ReleaseMalformed(f"not a minisign signature: {error}") from None
    if len(blob) != 2 + 8 + SIGNATURE_LENGTH or len(whole) != SIGNATURE_LENGTH:
        raise ReleaseMalformed("not a minisign signature: it has another length")
    if blob[:2] != _MINISIGN_PREHASHED:
        raise ReleaseMalformed("not a minisign signature over a hash (ED)")
    return blob[2:10], blob[10:], comment, whole


def _parse_raw(signature: bytes) -> bytes:
    if len(signature) != SIGNATURE_LENGTH:
        raise ReleaseMalformed(f"a raw signature has {SIGNATURE_LENGTH} bytes, not {len(signature)}")
    return signature


def _ssh_signed(data: bytes, namespace: str) -> bytes:
    """What an SSHSIG signs: never the file itself, so that no other use of the key can be mistaken for it."""
    fields = (namespace.encode("ascii"), b"", _SSH_HASH, hashlib.sha512(data).digest())
    return _SSH_MAGIC + b"".join(map(_ssh_field, fields))


def _write_sshsig(key: PublicKey, namespace: str, signature: bytes) -> str:
    inner = _ssh_field(b"ssh-ed25519") + _ssh_field(signature)
    fields = (key.blob, namespace.encode("ascii"), b"", _SSH_HASH, inner)
    body = base64.encode(_SSH_MAGIC + b"\x00\x00\x00\x01" + b"".join(map(_ssh_field, fields)))
    lines = [body[at : at + _SSH_WIDTH] + "\n" for at in range(0, len(body), _SSH_WIDTH)]
    return _SSH_BEGIN + "".join(lines) + _SSH_END


def _write_minisig(key_id: bytes, signature: bytes, comment: str, whole: bytes) -> str:
    first = base64.encode(_MINISIGN_PREHASHED + key_id + signature)
    return f"{_UNTRUSTED}signature of a WWS release\n{first}\n{_TRUSTED}{comment}\n{base64.encode(whole)}\n"


def _ssh_field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _ssh_string(data: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length or len(data) < 4:
        raise ReleaseMalformed("it ends early")
    return data[4 : 4 + length], data[4 + length :]


def _ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ReleaseMalformed("a signature is written in ASCII") from None
