"""The signed bundle: the one list in DNS that decides whom a network is entered through (wire.md 3.3).

    v=wws1;seq=<n>;nbf=<unix>;exp=<unix>[;keys=<key>,…];peers=<entry>,…;sig=<keyid>:<base64url>[,…]

An entry is `<PeerId>@<host>:<port>[/t|/q]`: `/t` TCP only, `/q` QUIC only, neither both.

Parsing and signing live here; whether a bundle is taken depends on what was taken before, and that is
`BundleState` in `bundle_state.py`. Everything fails closed: a bundle that breaks any rule is refused whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.addresses.scope import AddressRefused, scope_of_ip
from wws.codec import base64
from wws.codec.canonical import MAX_INTEGER
from wws.discovery.publishers import MAX_PUBLISHERS, PublisherKey, host_kind, key_id, parse_domain
from wws.errors import ParseError
from wws.identity.keys import SIGNATURE_LENGTH, Identity
from wws.identity.peer_id import PeerId

PREFIX = "v=wws1;"
"""How the text of a bundle begins; other TXT records at its name are ignored."""
MAX_TEXT = 4096
"""Longest text of a bundle, in bytes."""
MAX_ENTRIES = 16
"""Most entries of a bundle."""
MAX_LIFETIME = 90 * 86_400
"""Longest time from `nbf` to `exp`, in seconds."""
MAX_ANSWER = 1232
"""Largest DNS answer that a publisher may cause: what passes every path in one UDP datagram."""
WARN_ANSWER = 512
"""Answer size above which a publisher is warned: resolvers without EDNS fall back to TCP."""

_DOMAIN = b"wws-bundle-v1\x00"
_FIELDS = re.compile(
    r"v=wws1;seq=([^;]*);nbf=([^;]*);exp=([^;]*)(?:;keys=([^;]*))?;peers=([^;]*);sig=([^;]*)\Z", re.ASCII
)
_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,15})\Z", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{8}\Z")
_ENTRY = re.compile(
    r"([1-9A-HJ-NP-Za-km-z]{1,64})@(\[[0-9a-f:.]+\]|[a-z0-9.-]+):([0-9]{1,5})(/t|/q)?\Z", re.ASCII
)

TransportMark: TypeAlias = Literal["", "/t", "/q"]
_TRANSPORTS: dict[str, tuple[Transport, ...]] = {"": ("quic-v1", "tcp"), "/t": ("tcp",), "/q": ("quic-v1",)}


class BundleError(ParseError):
    """A bundle is refused. The last good one stays in force."""

    code = "bundle_refused"


class BundleMalformed(BundleError):
    """The text is not of the form of a bundle."""

    code = "bundle_malformed"


class BundleTooLarge(BundleError):
    """The text, or the DNS answer that carries it, is larger than allowed."""

    code = "bundle_too_large"


class BundleBadSignature(BundleError):
    """A signature that bears a known publisher's key id does not verify: the list was changed on its way."""

    code = "bundle_bad_signature"


class PublisherUnknown(BundleError):
    """No publisher that this node knows has signed the bundle."""

    code = "publisher_unknown"
    hint = (
        "check the publisher key (behind '#'); if the network has changed its keys, take a new network file "
        "from its operator (wws network add FILE --replace)"
    )


class BundleRotationRefused(BundleError):
    """The bundle changes the publisher keys without enough signatures of the keys from before."""

    code = "bundle_rotation_refused"


class BundleSeqLow(BundleError):
    """The bundle is older than one that was taken already, or than the network's floor: a replay."""

    code = "bundle_seq_low"


class BundleSeqFuture(BundleError):
    """The bundle's number is more than a day ahead of the clock."""

    code = "bundle_seq_future"
    hint = "check this machine's clock"


class BundleNotYetValid(BundleError):
    """The bundle begins to hold later than now."""

    code = "bundle_not_yet_valid"
    hint = "check this machine's clock"


class BundleExpired(BundleError):
    """The bundle's time has passed."""

    code = "bundle_expired"
    hint = "the operator has to publish a fresh one (wws-dns renew); if others can join, check the clock here"


class BundleEquivocation(BundleError):
    """A publisher has signed two different bundles with one number; the one seen first stays."""

    code = "bundle_equivocation"


class NoBundle(BundleError):
    """The DNS answer holds no bundle."""

    code = "bundle_missing"


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """One way to one peer: `host` a lower-case name, dotted IPv4 or RFC 5952 IPv6 without brackets."""

    peer_id: PeerId
    host: str
    port: int
    mark: TransportMark = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.peer_id}@{host}:{self.port}{self.mark}"

    def addresses(self) -> tuple[Multiaddr, ...]:
        """The multiaddrs of this entry, with the peer's id; none where nobody can be reached at the host."""
        kind = host_kind(self.host)
        if kind is None:
            return ()
        if kind != "name":
            try:
                scope_of_ip(self.host)
            except AddressRefused:
                return ()
        return tuple(
            Multiaddr("dns", self.host, self.port, transport, self.peer_id)
            if kind == "name"
            else Multiaddr.of(self.host, self.port, transport, self.peer_id)
            for transport in _TRANSPORTS[self.mark]
        )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A well-formed bundle. Nothing is said about who signed it: see `BundleState`."""

    seq: int
    not_before: int
    expires_at: int
    keys: tuple[PublisherKey, ...] | None
    """All publisher keys from this bundle on; `None` when it does not speak of keys."""
    entries: tuple[BundleEntry, ...]
    signatures: tuple[tuple[str, bytes], ...] = ()
    """Key id and signature, as they stand in the text."""

    SIGNATURE_MARK: ClassVar[str] = ";sig="

    @classmethod
    def parse(cls, text: str) -> Bundle:
        """From the text of a TXT record. Raises `BundleTooLarge` or `BundleMalformed`."""
        if len(text) > MAX_TEXT:
            raise BundleTooLarge(f"bundle of {len(text)} characters, at most {MAX_TEXT} are accepted")
        if text.count(cls.SIGNATURE_MARK) != 1:
            raise BundleMalformed("a bundle has ';sig=' exactly once")
        match = _FIELDS.match(text)
        if match is None:
            raise BundleMalformed(
                "the fields of a bundle are v, seq, nbf, exp, keys (optional), peers, sig, in this order"
            )
        seq, not_before, expires_at = (
            _decimal(name, match[n]) for n, name in ((1, "seq"), (2, "nbf"), (3, "exp"))
        )
        bundle = cls(
            seq,
            not_before,
            expires_at,
            None if match[4] is None else tuple(_key(word) for word in match[4].split(",")),
            tuple(_entry(word) for word in _limited(match[5], MAX_ENTRIES, "entries")),
            tuple(_signature(word) for word in match[6].split(",")),
        )
        bundle._check()
        return bundle

    @property
    def peers(self) -> frozenset[PeerId]:
        """The peers of the bundle: entry points, and the witnesses of names."""
        return frozenset(entry.peer_id for entry in self.entries)

    def addresses_of(self, peer_id: PeerId) -> tuple[Multiaddr, ...]:
        """The addresses that the bundle gives for one of its peers."""
        return tuple(
            address for entry in self.entries if entry.peer_id == peer_id for address in entry.addresses()
        )

    @property
    def body(self) -> str:
        """The text before `;sig=`: what is signed, and what makes two bundles the same."""
        keys = "" if self.keys is None else f";keys={','.join(base64.encode_url(key) for key in self.keys)}"
        peers = ",".join(str(entry) for entry in self.entries)
        return f"{PREFIX}seq={self.seq};nbf={self.not_before};exp={self.expires_at}{keys};peers={peers}"

    @property
    def text(self) -> str:
        """The whole text, as it is published."""
        signatures = ",".join(f"{name}:{base64.encode_url(signature)}" for name, signature in self.signatures)
        return f"{self.body}{self.SIGNATURE_MARK}{signatures}"

    def signed_bytes(self, domain: str) -> bytes:
        """What the publishers of `domain` sign."""
        return _DOMAIN + parse_domain(domain).encode("ascii") + b"\x00" + self.body.encode("ascii")

    def sign(self, domain: str, signers: Iterable[Identity]) -> Bundle:
        """This bundle with one signature of each of `signers`, in their order, instead of those it has.

        Raises `BundleMalformed` or `BundleTooLarge` when what comes out is not a bundle that a receiver
        would parse, or when nobody could be reached at one of its hosts.
        """
        data = self.signed_bytes(domain)
        signed = replace(
            self, signatures=tuple((key_id(signer.public_key), signer.sign(data)) for signer in signers)
        )
        for entry in signed.entries:
            if not entry.addresses():
                raise BundleMalformed(f"nobody can be reached at {entry.host!r}")
        Bundle.parse(signed.text)
        return signed

    def _check(self) -> None:
        if not self.not_before < self.expires_at:
            raise BundleMalformed("a bundle must expire after it begins to hold")
        if self.expires_at - self.not_before > MAX_LIFETIME:
            raise BundleMalformed("a bundle holds for at most 90 days")
        if self.keys is not None and (
            len(self.keys) > MAX_PUBLISHERS or len(set(self.keys)) != len(self.keys)
        ):
            raise BundleMalformed(f"keys are distinct and at most {MAX_PUBLISHERS}")


def answer_size(domain: str, texts: Sequence[str]) -> int:
    """An upper bound for the DNS answer, in bytes, that carries `texts` as TXT records of a bundle's name.

    Header, question, each record with its name compressed, and the OPT record of EDNS.
    """
    name = len(f"_wws-bundle._tcp.{parse_domain(domain)}") + 2
    records = sum(12 + len(text) + (max(len(text), 1) + 254) // 255 for text in texts)
    return 12 + name + 4 + records + 11


def _decimal(name: str, text: str) -> int:
    if not _DECIMAL.match(text) or (value := int(text)) > MAX_INTEGER:
        raise BundleMalformed(f"{name} is not a decimal number without sign or leading zero: {text[:40]!r}")
    return value


def _limited(text: str, limit: int, what: str) -> list[str]:
    words = text.split(",", limit)
    if len(words) > limit:
        raise BundleMalformed(f"a bundle has at most {limit} {what}")
    return words


def _key(text: str) -> PublisherKey:
    if len(text) != 43:
        raise BundleMalformed(f"a key has 43 base64url characters: {text[:60]!r}")
    return PublisherKey(_decoded(text))


def _entry(text: str) -> BundleEntry:
    match = _ENTRY.match(text)
    if match is None:
        raise BundleMalformed(f"not an entry of the form PeerId@host:port: {text[:120]!r}")
    try:
        peer_id = PeerId.parse(match[1])
    except ParseError as error:
        raise BundleMalformed(f"not a PeerId: {error}") from None
    host = match[2]
    kind = host_kind(host.strip("[]"))
    if str(peer_id) != match[1] or kind is None or (kind == "ip6") != host.startswith("["):
        raise BundleMalformed(f"not a host as bundles write it: {host[:80]!r}")
    port = _decimal("port", match[3])
    if not 1 <= port <= 65535:
        raise BundleMalformed(f"{port} is not a port")
    mark: TransportMark = "/t" if match[4] == "/t" else "/q" if match[4] == "/q" else ""
    return BundleEntry(peer_id, host.strip("[]"), port, mark)


def _signature(text: str) -> tuple[str, bytes]:
    name, colon, signature = text.partition(":")
    if not colon or not _KEY_ID.match(name):
        raise BundleMalformed("a signature begins with the 8 hex digits of its key id")
    data = _decoded(signature)
    if len(data) != SIGNATURE_LENGTH:
        raise BundleMalformed(f"a signature has {SIGNATURE_LENGTH} bytes, not {len(data)}")
    return name, data


def _decoded(text: str) -> bytes:
    try:
        return base64.decode_url(text)
    except ParseError as error:
        raise BundleMalformed(f"{error}: {text[:100]!r}") from None
