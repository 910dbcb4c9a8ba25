"""What each RPC method takes: the records that `wws.rpc.methods` parses into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wws.codec.canonical import MAX_INTEGER
from wws.rpc.params import flag, hexadecimal, integer, signed_object, text, texts
from wws.rpc.tokens import PRESETS

if TYPE_CHECKING:
    from wws.codec.canonical import JsonObject

DAY = 86_400


@dataclass(frozen=True, slots=True)
class NoParams:
    """A method that takes nothing."""


@dataclass(frozen=True, slots=True)
class IdentityParams:
    did: str | None = field(default=None, metadata=text("The DID to look up; absent: this node's own"))


@dataclass(frozen=True, slots=True)
class ConnectParams:
    addr: str = field(metadata=text("A multiaddr with /p2p/, a PeerId, a DID, or a name"))


@dataclass(frozen=True, slots=True)
class PingParams:
    target: str = field(metadata=text("A name or wws: URI, a DID, a PeerId, or a multiaddr with /p2p/"))
    count: int = field(default=4, metadata=integer("How many round trips", minimum=1, maximum=100))
    wait_direct: int = field(
        default=0,
        metadata=integer(
            "Seconds that a hole punch under way gets to end before the last round trip",
            minimum=0,
            maximum=30,
        ),
    )


@dataclass(frozen=True, slots=True)
class NameParams:
    name: str = field(metadata=text("The name, with or without wws:", max_length=128))


@dataclass(frozen=True, slots=True)
class ResolveParams:
    name: str = field(metadata=text("A name or wws: URI, a DID, a PeerId, or a multiaddr with /p2p/"))


@dataclass(frozen=True, slots=True)
class TransferParams:
    name: str = field(metadata=text("The name to give away", max_length=128))
    new_pubkey: str = field(
        metadata=hexadecimal("The new owner's Ed25519 public key: node_id of its identity", digits=64)
    )


@dataclass(frozen=True, slots=True)
class AcceptParams:
    entry: JsonObject = field(
        metadata=signed_object("What swarm.transfer_name answered as entry, or its JSON text")
    )


@dataclass(frozen=True, slots=True)
class TrustParams:
    name: str = field(metadata=text("The name, with or without wws:", max_length=128))
    owner: str | None = field(
        default=None, metadata=text("Its owner's DID or PeerId; absent: who holds it now", max_length=128)
    )


@dataclass(frozen=True, slots=True)
class SubjectParams:
    subject: str = field(metadata=text("A PeerId or a prefix, as swarm.bans shows it", max_length=128))


@dataclass(frozen=True, slots=True)
class DrainParams:
    on: bool = field(default=True, metadata=flag("False: relay again as before"))


@dataclass(frozen=True, slots=True)
class StopParams:
    release_name: bool = field(default=False, metadata=flag("Give up this node's names first"))


@dataclass(frozen=True, slots=True)
class AgentParams:
    agent_id: str = field(metadata=text("The agent's DID", max_length=74))
    public_key: str = field(metadata=hexadecimal("Its Ed25519 public key", digits=64))
    pow: int = field(
        metadata=integer("A nonce with the work that wire.md 6 asks for", minimum=0, maximum=MAX_INTEGER)
    )


@dataclass(frozen=True, slots=True)
class CreateTokenParams:
    label: str = field(default="", metadata=text("What it is for", max_length=64))
    methods: Sequence[str] = field(
        default=("read",),
        metadata=texts(f"Methods, and words for sets of them: {', '.join(PRESETS)}", most=64),
    )
    rate: int = field(default=600, metadata=integer("Calls a minute", minimum=1, maximum=100_000))
    expires_in: int = field(
        default=30 * DAY, metadata=integer("Seconds until it expires", minimum=60, maximum=366 * DAY)
    )


@dataclass(frozen=True, slots=True)
class TokenParams:
    id: str = field(metadata=text("Its id, as swarm.list_tokens shows it", max_length=64))
