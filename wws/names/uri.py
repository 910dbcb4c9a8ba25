"""What a user may call another node: names, `wws:` URIs, DIDs, PeerIds, addresses (contract.md section 2).

    alice   wws:alice   wws://alice   alice@lab                     a name, in its swarm
    did:swarm:1c0c…     wws:did:swarm:1c0c…                         a DID
    12D3KooW…   bafz…   wws:12D3KooW…   did:key:z6Mk…               a PeerId
    /ip4/203.0.113.7/tcp/9000/p2p/12D3KooW…                         an address with its PeerId

Where a link ends in one slash (`wws://alice/`) it names the same, as in any URI with an authority and no
path; a path, query, fragment, port, user or percent escape names nothing here and is refused.

A name is `[a-z0-9][a-z0-9-]{1,30}[a-z0-9]`. Upper case ASCII is folded; everything else is refused, never
mapped: whoever types a Cyrillic а must not reach the Latin one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.codec import base58
from wws.errors import ParseError, WwsError
from wws.identity.peer_id import PeerId

PUBLIC_SWARM = "public"
RESERVED = frozenset({"did", "peer", "wws"})
MAX_NAME = 32
MAX_TARGET = 1_200
"""Longest TARGET that is looked at, in characters."""

RULE = (
    "a name has 3 to 32 of a-z, 0-9 and '-', starts and ends with a letter or digit, "
    f"and is none of {', '.join(sorted(RESERVED))}"
)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]\Z")
_DID = re.compile(r"did:swarm:[0-9a-f]{64}\Z")
_SCHEME = re.compile(r"wws:(//)?", re.IGNORECASE)
_PEER_ID_LOOKS = re.compile(r"(12D3Koo|bafz)\w{30,}\Z", re.ASCII)
_UPPER_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_DID_KEY = "did:key:z"
_DID_KEY_PREFIX = b"\xed\x01"


class TargetError(WwsError):
    """What was typed names no node: wrong usage."""

    code = "malformed_target"


class MalformedName(TargetError):
    """A name breaks the rule for names."""

    code = "malformed_name"

    def __init__(self, text: str, what: str = "name") -> None:
        nearest = nearest_name(text)
        super().__init__(
            f"{text[:60]!r} is not a {what}: {RULE}",
            hint=f"the nearest {what} is {nearest!r}" if nearest else "",
        )


@dataclass(frozen=True, slots=True)
class NameTarget:
    """A name in a swarm."""

    name: str
    swarm: str = PUBLIC_SWARM

    def __str__(self) -> str:
        return f"wws:{self.name}" if self.swarm == PUBLIC_SWARM else f"wws:{self.name}@{self.swarm}"


@dataclass(frozen=True, slots=True)
class DidTarget:
    """A DID of this network. It does not hold the key: the peer record does."""

    did: str

    def __str__(self) -> str:
        return f"wws:{self.did}"


@dataclass(frozen=True, slots=True)
class PeerTarget:
    """A PeerId."""

    peer_id: PeerId

    def __str__(self) -> str:
        return f"wws:{self.peer_id}"


@dataclass(frozen=True, slots=True)
class AddressTarget:
    """A multiaddr that ends in the PeerId it leads to."""

    address: Multiaddr
    peer_id: PeerId

    def __str__(self) -> str:
        return str(self.address)


Target: TypeAlias = NameTarget | DidTarget | PeerTarget | AddressTarget


def parse_target(text: str, *, default_swarm: str = PUBLIC_SWARM) -> Target:
    """What `text` names; a name without `@` is one of `default_swarm`. Raises `TargetError`, nothing else."""
    if len(text) > MAX_TARGET:
        raise TargetError(f"a target of {len(text)} characters is too long")
    if text.startswith("/"):
        return _parse_address(text)
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    if scheme and scheme[1]:
        rest = rest.removesuffix("/")
    if "%" in rest:
        raise TargetError(
            f"{text[:60]!r} has a percent escape, which no target needs", hint="write the name as it is"
        )
    if rest.startswith("did:"):
        return _parse_did(rest)
    if _PEER_ID_LOOKS.match(rest):
        return _parse_peer_id(rest)
    name, at, swarm = rest.partition("@")
    return NameTarget(parse_name(name), parse_name(swarm, "swarm") if at else default_swarm)


def is_name(text: str) -> bool:
    """Whether `text` is a name (or a swarm's) exactly as records spell it."""
    return _NAME.match(text) is not None and text not in RESERVED


def parse_name(text: str, what: str = "name") -> str:
    """The name in its one spelling: ASCII upper case folded. Raises `MalformedName`."""
    folded = text.translate(_UPPER_TO_LOWER)
    if not is_name(folded):
        raise MalformedName(text, what)
    return folded


def nearest_name(text: str) -> str | None:
    """A valid name that looks like `text`, to suggest and never to use; `None` when nothing is left of it."""
    folded = re.sub(r"[^a-z0-9]+", "-", text[:MAX_TARGET].translate(_UPPER_TO_LOWER)).strip("-")
    candidate = folded[:MAX_NAME].rstrip("-")
    if candidate and (len(candidate) < 3 or candidate in RESERVED):
        candidate += "-agent"
    return candidate if is_name(candidate) else None


def _parse_address(text: str) -> AddressTarget:
    try:
        address = Multiaddr.parse(text)
    except ParseError as error:
        raise TargetError(str(error)) from None
    if address.peer_id is None:
        raise TargetError(
            f"{text[:200]!r} does not say whom it leads to",
            hint="end the address in /p2p/<PeerId>; the node there prints it at its start",
        )
    return AddressTarget(address, address.peer_id)


def _parse_did(text: str) -> DidTarget | PeerTarget:
    if _DID.match(text):
        return DidTarget(text)
    if text.startswith(_DID_KEY):
        try:
            data = base58.decode(text[len(_DID_KEY) :])
            if data[:2] == _DID_KEY_PREFIX:
                return PeerTarget(PeerId(data[2:]))
        except ParseError:
            pass
    raise TargetError(
        f"{text[:100]!r} is not a DID that WWS knows",
        hint="did:swarm: and 64 lower-case hex digits, or did:key: of an Ed25519 key",
    )


def _parse_peer_id(text: str) -> PeerTarget:
    try:
        return PeerTarget(PeerId.parse(text))
    except ParseError as error:
        raise TargetError(
            f"{text[:100]!r} is not a PeerId: {error}", hint="check it against `wws id` on the other side"
        ) from None
