"""Publishers: who may say where a network is entered, and how domains and hosts are written (wire.md 3).

A publisher key is a raw 32-byte Ed25519 public key. Signatures name it by its key id, the first 8 hex
digits of SHA-256 of the key: short, and therefore never trusted to be unique.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal, NewType

from wws.codec import base64
from wws.errors import ParseError
from wws.identity.keys import verify

PublisherKey = NewType("PublisherKey", bytes)

MAX_PUBLISHERS = 5
"""Most publisher keys that a network may have at a time."""

_HEX = re.compile(r"[0-9a-fA-F]{64}\Z")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_DOTTED = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}\Z")


def parse_publisher_key(text: str) -> PublisherKey:
    """A key from 64 hex digits or 43 base64url characters. Raises `ParseError`."""
    if len(text) == 64:
        if not _HEX.match(text):
            raise ParseError(f"{text!r} is not a publisher key: it has other characters than hex digits")
        return PublisherKey(bytes.fromhex(text))
    if len(text) == 43:
        return PublisherKey(base64.decode_url(text))
    raise ParseError(
        f"a publisher key has 64 hex digits or 43 base64url characters, {text[:80]!r} has {len(text)}"
    )


def key_id(key: bytes) -> str:
    """The short name of a key beside a signature: the first 8 hex digits of its SHA-256."""
    return hashlib.sha256(key).hexdigest()[:8]


def valid_signers(
    signatures: Iterable[tuple[str, bytes]], keys: Iterable[PublisherKey], data: bytes
) -> tuple[frozenset[PublisherKey], str | None]:
    """The distinct `keys` that signed `data`, and the key id of a bad signature of one of them, or `None`.

    Signatures with ids of other keys are skipped: whoever they are, they neither count nor harm.
    """
    known: dict[str, list[PublisherKey]] = {}
    for key in keys:
        known.setdefault(key_id(key), []).append(key)
    signers: set[PublisherKey] = set()
    for name, signature in signatures:
        candidates = known.get(name)
        if candidates is None:
            continue
        signer = next((key for key in candidates if verify(key, data, signature)), None)
        if signer is None:
            return frozenset(signers), name
        signers.add(signer)
    return frozenset(signers), None


def parse_domain(text: str) -> str:
    """A domain as it is signed: lower-case A-labels without the final dot. Raises `ParseError`."""
    name = text.lower().removesuffix(".")
    if not text.isascii():
        raise ParseError(f"{text[:80]!r} has letters outside ASCII: write the domain in its xn-- form")
    if host_kind(name) != "name":
        raise ParseError(f"{text[:80]!r} is not a domain")
    return name


def host_kind(text: str) -> Literal["name", "ip4", "ip6"] | None:
    """What `text` is: a lower-case DNS name, a dotted IPv4 address, an RFC 5952 IPv6 address, or neither.

    A name that ends in a numeric label would be read as an IPv4 address by some and as a name by
    others, so it is neither.
    """
    if not text.isascii():
        return None
    if ":" in text:
        return "ip6" if _is_canonical_ipv6(text) else None
    if _DOTTED.match(text):
        return "ip4" if all(int(part) <= 255 for part in text.split(".")) else None
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.match(label) for label in labels) or labels[-1].isdigit():
        return None
    return "name"


def canonical_ipv6(address: IPv6Address) -> str:
    """The one text form of RFC 5952, the same under every version of Python."""
    mapped = address.ipv4_mapped
    return f"::ffff:{IPv4Address(mapped)}" if mapped is not None else str(address)


def _is_canonical_ipv6(text: str) -> bool:
    if "%" in text:
        return False
    try:
        return canonical_ipv6(IPv6Address(text)) == text
    except (AddressValueError, ValueError):
        return False
