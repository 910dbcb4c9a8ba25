"""The tools of a bare machine, signing and verifying with a key of ours: ssh-keygen, openssl 3, minisign."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.prerequisites import require
from tests.release_signing import public, sign_module
from wws.identity.keys import Identity
from wws.release.keys import PublicKey
from wws.release.signatures import IDENTITY, Form, Purpose


def verifies(folder: Path, key: PublicKey, file: Path, purpose: Purpose, form: Form) -> bool:
    """Whether the tool of this form takes the signature beside the file."""
    signature = file.with_name(file.name + form)
    match form:
        case Form.RAW:
            require("openssl>=3")
            (folder / "key.pem").write_text(key.pem)
            command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin"]
            command += ["-inkey", str(folder / "key.pem"), "-in", str(file), "-sigfile", str(signature)]
            return _run(command) == 0
        case Form.SSH:
            require("ssh-keygen")
            (folder / "allowed").write_text(key.allowed_signer(IDENTITY, purpose.namespace))
            command = ["ssh-keygen", "-Y", "verify", "-f", str(folder / "allowed"), "-I", IDENTITY]
            command += ["-n", purpose.namespace, "-s", str(signature)]
            return _run(command, file.read_bytes()) == 0
        case Form.MINISIGN:
            require("minisign")
            command = ["minisign", "-V", "-q", "-P", key.minisign_text]
            return _run([*command, "-m", str(file), "-x", str(signature)]) == 0


def signed_by_tool(folder: Path, signer: Identity, data: bytes, purpose: Purpose, form: Form) -> bytes:
    """The signature that the tool of this form makes with our key."""
    file = folder / purpose.file
    file.write_bytes(data)
    out = folder / "signature"
    out.unlink(missing_ok=True)
    match form:
        case Form.RAW:
            require("openssl>=3")
            key = Ed25519PrivateKey.from_private_bytes(signer.seed)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / "private.pem").write_bytes(pem)
            command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(folder / "private.pem")]
            assert _run([*command, "-in", str(file), "-out", str(out)]) == 0
        case Form.SSH:
            require("ssh-keygen")
            private = folder / "private"
            private.write_bytes(sign_module().private_text(signer))
            private.chmod(0o600)
            beside = file.with_name(f"{file.name}.sig")
            beside.unlink(missing_ok=True)
            assert (
                _run(["ssh-keygen", "-Y", "sign", "-f", str(private), "-n", purpose.namespace, str(file)])
                == 0
            )
            shutil.move(beside, out)
        case Form.MINISIGN:
            require("minisign")
            secret = folder / "minisign.key"
            secret.write_text(_minisign_secret(signer))
            command = ["minisign", "-S", "-s", str(secret), "-t", f"{purpose.namespace} file:{purpose.file}"]
            assert _run([*command, "-m", str(file), "-x", str(out)]) == 0
    return out.read_bytes()


def _minisign_secret(signer: Identity) -> str:
    """A secret key as minisign has it without a password: `Ed`, no KDF, `B2`, 48 bytes of it, and the key."""
    key = public(signer)
    secret = key.minisign_id + signer.seed + signer.public_key
    checksum = hashlib.blake2b(b"Ed" + secret, digest_size=32).digest()
    body = b"Ed" + b"\0\0" + b"B2" + bytes(48) + secret + checksum
    return f"untrusted comment: a key of a test\n{base64.b64encode(body).decode()}\n"


def _run(command: list[str], given: bytes = b"") -> int:
    return subprocess.run(command, input=given, capture_output=True, timeout=30).returncode


Change = Callable[[bytes], bytes]
