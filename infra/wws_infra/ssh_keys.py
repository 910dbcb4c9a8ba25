"""Public SSH keys as settings name them: `ssh-ed25519 AAAA… comment`, kept without the comment."""

import base64
import binascii
import hashlib
import re

_KINDS = r"ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d{3}|sk-[a-z0-9@.-]{1,60}"
_FORM = re.compile(rf"({_KINDS}) ([A-Za-z0-9+/=]{{20,2000}})( .*)?\Z")


def parse_public_key(text: str) -> str:
    """Type and key. Raises ValueError for what is none, is cut off, or is a private key."""
    if "PRIVATE KEY" in text:
        raise ValueError(
            "this is a private key, and to be replaced; the public one is meant (ssh-ed25519 AAAA…)"
        )
    found = _FORM.match(text.strip())
    if not found:
        raise ValueError("no public SSH key (ssh-ed25519 AAAA…)")
    kind, blob = found[1], found[2]
    try:
        decoded = base64.b64decode(blob, validate=True)
    except binascii.Error:
        raise ValueError("the public SSH key is cut off or damaged") from None
    # RFC 4253, section 6.6: the key begins with its own type, as a string; the fields after it fill it.
    fields = []
    while decoded:
        length = int.from_bytes(decoded[:4])
        if len(decoded) < 4 + length:
            raise ValueError("the public SSH key is cut off or damaged")
        fields.append(decoded[4 : 4 + length])
        decoded = decoded[4 + length :]
    if len(fields) < 2 or fields[0] != kind.encode():
        raise ValueError("the public SSH key is cut off or damaged")
    return f"{kind} {blob}"


def fingerprint(public_key: str) -> str:
    """As `ssh-keygen -l` shows it: `SHA256:…`."""
    digest = hashlib.sha256(base64.b64decode(public_key.split(" ")[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
