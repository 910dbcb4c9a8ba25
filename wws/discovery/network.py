"""A network: a name, a domain, the keys of its publishers, and peers that are pinned (wire.md section 3).

On the command line NET is the name of a saved network, a path that ends in `.json`, `<domain>#<key>[,<key>…]`
or a bare domain. The network file is canonical JSON of at most 16 KiB:

    {"domain", "issued_at", "min_seq", "name", "peers": [multiaddr], "publishers": [hex],
     "signatures": [{"key_id", "signature"}], "swarm", "v": 1}

signed over the domain string `wws-network-v1`, a zero byte, and the same object without `signatures`: with
publishers at least one of them has signed and no known signature is bad; without publishers there is none,
and naming the file is consent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.codec import base64, canonical
from wws.codec.canonical import MAX_INTEGER, JsonObject, JsonValue
from wws.discovery.publishers import (
    MAX_PUBLISHERS,
    PublisherKey,
    key_id,
    parse_domain,
    parse_publisher_key,
    valid_signers,
)
from wws.errors import ParseError, WwsError
from wws.identity.keys import SIGNATURE_LENGTH, Identity

MAX_FILE = 16 * 1024
"""Largest network file, in bytes."""
MAX_PEERS = 64
"""Most pinned peers of a network."""
MAX_SIGNATURES = 16
"""Most signatures of a network file."""
DEFAULT_SWARM = "public"
AD_HOC = "ad-hoc"
"""What the network of exactly the typed peers is called, on the command line too."""

_DOMAIN = b"wws-network-v1\x00"
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,238}[a-z0-9])?\Z")
_SWARM = re.compile(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]\Z")
_MEMBERS = frozenset(
    {"v", "name", "domain", "publishers", "min_seq", "peers", "swarm", "issued_at", "signatures"}
)


class NetworkMalformed(ParseError):
    """A network file or the NET of a command is not of the form it must have."""

    code = "network_malformed"


class NetworkBadSignature(ParseError):
    """A network file is not signed as it must be: it was changed, or it is not from these publishers."""

    code = "network_bad_signature"
    hint = "take the file again from the network's operator"


class NetworkUnknown(WwsError):
    """No network of that name is saved."""

    code = "network_unknown"
    hint = "wws network show lists the saved ones; a file is given by its path, a domain as <domain>#<key>"


class UnsignedNetwork(WwsError):
    """The network has no publisher key, so whoever answers for its DNS decides whom this node talks to."""

    code = "unsigned_network"
    hint = "give the publisher's key as <domain>#<key>, or accept that with --allow-unsigned"


class BootstrapWithoutPeerId(WwsError):
    """A --bootstrap address does not say which peer it leads to, so anyone could answer there."""

    code = "bootstrap_without_peer_id"
    hint = "append /p2p/<PeerId>; wws-bootstrap prints its whole address when it starts"


@dataclass(frozen=True, slots=True)
class Network:
    """A network as it was described to this node. What its bundles have changed since is in `BundleState`."""

    name: str
    domain: str
    """Lower-case A-labels; empty for an ad hoc network, which asks no DNS and advertises no network."""
    publishers: tuple[PublisherKey, ...] = ()
    peers: tuple[Multiaddr, ...] = ()
    """Pinned peers: each address ends in `/p2p/<PeerId>`."""
    min_seq: int = 0
    swarm: str = DEFAULT_SWARM
    issued_at: int = 0
    skipped: tuple[str, ...] = ()
    """Why pinned addresses were left out: kinds that this version does not know are no reason to stop."""

    @property
    def is_ad_hoc(self) -> bool:
        return not self.domain

    @property
    def protocol_id(self) -> str | None:
        """What identify advertises for this network, or `None` for an ad hoc one."""
        return network_protocol_id(self.domain) if self.domain else None

    def with_peers(self, addresses: Iterable[Multiaddr]) -> Network:
        """This network with further pinned peers. Raises `BootstrapWithoutPeerId`."""
        return replace(self, peers=tuple(dict.fromkeys((*self.peers, *_with_peer_ids(addresses)))))

    def to_json(self) -> JsonObject:
        """The members of the network file, without `signatures`."""
        return {
            "v": 1,
            "name": self.name,
            "domain": self.domain,
            "publishers": [key.hex() for key in self.publishers],
            "min_seq": self.min_seq,
            "peers": [str(address) for address in self.peers],
            "swarm": self.swarm,
            "issued_at": self.issued_at,
        }

    def to_file(self, signers: Sequence[Identity] = ()) -> bytes:
        """The network file, signed by `signers`. Raises what `parse_network_file` would raise for it."""
        value = self.to_json()
        data = _signed_bytes(value)
        signatures: list[JsonValue] = [
            {"key_id": key_id(signer.public_key), "signature": base64.encode(signer.sign(data))}
            for signer in signers
        ]
        encoded = canonical.dumps({**value, "signatures": signatures})
        parse_network_file(encoded)
        return encoded


@dataclass(frozen=True, slots=True)
class SavedNetwork:
    """NET named a saved network."""

    name: str


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """NET is the path of a network file."""

    path: str


NetArgument: TypeAlias = "SavedNetwork | NetworkFile | Network"


def parse_net_argument(
    text: str, saved: Collection[str] = (), *, allow_unsigned: bool = False
) -> NetArgument:
    """What the NET of a command line means; `saved` are the names of the saved networks.

    Raises `UnsignedNetwork` for a bare domain without `allow_unsigned`, `NetworkUnknown` for a word that is
    neither a saved name nor a domain, `NetworkMalformed` for anything else that is not a network.
    """
    if text in saved:
        return SavedNetwork(text)
    if text.endswith(".json"):
        return NetworkFile(text)
    domain_text, mark, keys_text = text.partition("#")
    if not mark and "." not in domain_text:
        raise NetworkUnknown(f"no network {text[:80]!r} is saved")
    try:
        domain = parse_domain(domain_text)
        publishers = _distinct_keys(
            [parse_publisher_key(word) for word in keys_text.split(",")] if mark else []
        )
    except ParseError as error:
        raise NetworkMalformed(str(error)) from None
    if not publishers and not allow_unsigned:
        raise UnsignedNetwork(f"{domain} is named without a publisher key")
    return Network(domain, domain, publishers)


def ad_hoc_network(addresses: Iterable[Multiaddr]) -> Network:
    """The network of exactly the peers that the user typed: no DNS, no publishers, the keys are typed too.

    Raises `BootstrapWithoutPeerId`.
    """
    return Network(AD_HOC, "", peers=_with_peer_ids(addresses))


def network_protocol_id(domain: str) -> str:
    """The protocol by which peers of one network know each other in identify (wire.md section 2)."""
    digest = hashlib.sha256(_DOMAIN + parse_domain(domain).encode("ascii")).hexdigest()
    return f"/wws/net/{digest[:16]}"


def parse_network_file(data: bytes) -> Network:
    """A network from its file. Raises `TooLarge`, `NetworkMalformed` or `NetworkBadSignature`.

    A pinned address that cannot be read is left out and said in `skipped`: newer files may name kinds of
    addresses that this version does not know.
    """
    value = canonical.loads(data, max_bytes=MAX_FILE)
    if value.get("v") != 1 or isinstance(value.get("v"), bool):
        raise NetworkMalformed(f"network file has version {value.get('v')!r}, this version reads 1")
    if value.keys() != _MEMBERS:
        odd = ", ".join(sorted(value.keys() ^ _MEMBERS))
        raise NetworkMalformed(f"network file has missing or unknown members: {odd[:200]}")
    try:
        publishers = _distinct_keys([_hex_key(text) for text in _texts(value, "publishers", MAX_PUBLISHERS)])
        domain = parse_domain(_text(value, "domain"))
    except ParseError as error:
        raise NetworkMalformed(f"network file: {error}") from None
    if domain != value["domain"]:
        raise NetworkMalformed("the domain of a network file is lower case and has no final dot")
    _check_signatures(value, publishers)
    peers, skipped = _read_peers(_texts(value, "peers", MAX_PEERS))
    return Network(
        _matching(value, "name", _NAME),
        domain,
        publishers,
        peers,
        _number(value, "min_seq"),
        _matching(value, "swarm", _SWARM),
        _number(value, "issued_at"),
        skipped,
    )


def file_signers(data: bytes, keys: Iterable[PublisherKey]) -> frozenset[PublisherKey]:
    """Those of `keys` that have signed a network file, whether it lists them or not.

    Raises what `parse_network_file` raises, and `NetworkBadSignature` for a bad signature of one of them.
    """
    parse_network_file(data)
    value = canonical.loads(data, max_bytes=MAX_FILE)
    signers, bad = valid_signers(_signatures(value), keys, _signed_part(value))
    if bad is not None:
        raise NetworkBadSignature(f"the signature of key {bad} in the network file does not verify")
    return signers


def _check_signatures(value: JsonObject, publishers: tuple[PublisherKey, ...]) -> None:
    signatures = _signatures(value)
    if not publishers:
        if signatures:
            raise NetworkMalformed("a network file without publishers has no signatures")
        return
    signers, bad = valid_signers(signatures, publishers, _signed_part(value))
    if bad is not None:
        raise NetworkBadSignature(f"the signature of key {bad} in the network file does not verify")
    if not signers:
        raise NetworkBadSignature("no publisher that the network file lists has signed it")


def _signatures(value: JsonObject) -> list[tuple[str, bytes]]:
    items = value["signatures"]
    if not isinstance(items, list) or len(items) > MAX_SIGNATURES:
        raise NetworkMalformed(f"signatures is a list of at most {MAX_SIGNATURES}")
    signatures: list[tuple[str, bytes]] = []
    for item in items:
        if not isinstance(item, dict) or item.keys() != {"key_id", "signature"}:
            raise NetworkMalformed("a signature has exactly key_id and signature")
        name, text = item["key_id"], item["signature"]
        if not isinstance(name, str) or not re.fullmatch(r"[0-9a-f]{8}", name) or not isinstance(text, str):
            raise NetworkMalformed("a signature has a key_id of 8 hex digits and a signature in base64")
        try:
            signature = base64.decode(text)
        except ParseError as error:
            raise NetworkMalformed(f"signature of {name}: {error}") from None
        if len(signature) != SIGNATURE_LENGTH:
            raise NetworkMalformed(f"signature of {name} has {len(signature)} bytes")
        signatures.append((name, signature))
    return signatures


def _signed_part(value: JsonObject) -> bytes:
    return _signed_bytes({name: member for name, member in value.items() if name != "signatures"})


def _signed_bytes(value: JsonObject) -> bytes:
    return _DOMAIN + canonical.dumps(value)


def _read_peers(texts: list[str]) -> tuple[tuple[Multiaddr, ...], tuple[str, ...]]:
    peers: list[Multiaddr] = []
    skipped: list[str] = []
    for text in texts:
        try:
            address = Multiaddr.parse(text)
        except ParseError as error:
            skipped.append(str(error))
            continue
        if address.peer_id is None:
            skipped.append(f"{text[:200]} does not end in /p2p/<PeerId>")
        else:
            peers.append(address)
    return tuple(dict.fromkeys(peers)), tuple(skipped)


def _with_peer_ids(addresses: Iterable[Multiaddr]) -> tuple[Multiaddr, ...]:
    checked = tuple(dict.fromkeys(addresses))
    for address in checked:
        if address.peer_id is None:
            raise BootstrapWithoutPeerId(f"{address} does not say which peer it leads to")
    return checked


def _hex_key(text: str) -> PublisherKey:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise NetworkMalformed(f"a publisher of a network file has 64 lower-case hex digits: {text[:80]!r}")
    return parse_publisher_key(text)


def _distinct_keys(keys: list[PublisherKey]) -> tuple[PublisherKey, ...]:
    if len(keys) > MAX_PUBLISHERS or len(set(keys)) != len(keys):
        raise NetworkMalformed(f"publisher keys are distinct and at most {MAX_PUBLISHERS}")
    return tuple(keys)


def _text(value: JsonObject, member: str) -> str:
    text = value[member]
    if not isinstance(text, str):
        raise NetworkMalformed(f"{member} of a network file is a text")
    return text


def _texts(value: JsonObject, member: str, limit: int) -> list[str]:
    items = value[member]
    if not isinstance(items, list) or len(items) > limit:
        raise NetworkMalformed(f"{member} of a network file is a list of at most {limit}")
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) != len(items):
        raise NetworkMalformed(f"{member} of a network file has an entry that is no text")
    return texts


def _matching(value: JsonObject, member: str, pattern: re.Pattern[str]) -> str:
    text = _text(value, member)
    if not pattern.match(text) or ".." in text or text.endswith(".json"):
        raise NetworkMalformed(f"{member} of a network file is not a name: {text[:80]!r}")
    return text


def _number(value: JsonObject, member: str) -> int:
    number = value[member]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_INTEGER:
        raise NetworkMalformed(f"{member} of a network file is not a number from 0 to 2^53-1")
    return number
