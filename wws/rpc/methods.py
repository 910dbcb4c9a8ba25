"""The one table of RPC methods (contract, section 6).

A row says what the method is called, what it takes, what it answers, who may call it and what it
does. The server dispatches by it, `rpc.discover` describes it, the tests walk it: adding a method
is adding a row here and a member to `NodeApi`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from wws.rpc import api
from wws.rpc.api import Json, NodeApi
from wws.rpc.params import flag, hexadecimal, integer, parse_params, signed_object, text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from wws.codec.canonical import JsonObject

P = TypeVar("P", bound="DataclassInstance")


class Who(Enum):
    """Which callers a method is open to."""

    LOCAL = "local"
    """The same user: on the unix socket, or on TCP with the cookie or a token."""
    SOCKET = "socket"
    """The same user on the unix socket only."""


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
class StopParams:
    release_name: bool = field(default=False, metadata=flag("Give up this node's names first"))


@dataclass(frozen=True, slots=True)
class Method:
    """One row: everything there is to say about a method."""

    name: str
    summary: str
    params: type[DataclassInstance]
    result: object
    """The type of the answer, for the document."""
    call: Callable[[NodeApi, Json], Awaitable[object]]
    """Parses the raw parameters (`InvalidParams`), then does it."""
    who: Who = Who.LOCAL
    errors: tuple[str, ...] = ()
    """The words of the errors that callers should expect, beside those any method may give."""


def _row(
    name: str,
    summary: str,
    params: type[P],
    result: object,
    do: Callable[[NodeApi, P], Awaitable[object]],
    *,
    who: Who = Who.LOCAL,
    errors: tuple[str, ...] = (),
) -> Method:
    def call(node: NodeApi, raw: Json) -> Awaitable[object]:
        return do(node, parse_params(params, raw))

    return Method(name, summary, params, result, call, who, errors)


async def _discover(node: NodeApi, _: NoParams) -> Json:
    return _document((await node.status()).version)


@cache
def _document(version: str) -> Json:
    from wws.rpc.openrpc import document  # it reads this module

    return document(METHODS.values(), version=version)


_TABLE: Final = (
    _row(
        "swarm.get_status",
        "How this node is: identity, network, connections, names.",
        NoParams,
        api.NodeStatus,
        lambda node, _: node.status(),
    ),
    _row(
        "swarm.get_network_stats",
        "What this node knows of the swarm around it.",
        NoParams,
        api.NetworkStats,
        lambda node, _: node.network_stats(),
    ),
    _row(
        "swarm.get_identity",
        "An identity in each of its forms.",
        IdentityParams,
        api.IdentityInfo,
        lambda node, params: node.identity(params.did),
        errors=("not_found",),
    ),
    _row(
        "swarm.peers",
        "The peers this node is connected to.",
        NoParams,
        api.PeerList,
        lambda node, _: node.peers(),
    ),
    _row(
        "swarm.connect",
        "Connect to a peer.",
        ConnectParams,
        api.Connected,
        lambda node, params: node.connect(params.addr),
        errors=("peer_unreachable", "name_not_found"),
    ),
    _row(
        "swarm.ping",
        "Round trips to a peer, and which way they went.",
        PingParams,
        api.PingReport,
        lambda node, params: node.ping(params.target, params.count, params.wait_direct),
        errors=("peer_unreachable", "name_not_found", "owner_changed"),
    ),
    _row(
        "swarm.register_name",
        "Claim a name for this node and keep renewing it.",
        NameParams,
        api.NameRegistered,
        lambda node, params: node.register_name(params.name),
        errors=("name_taken", "not_joined"),
    ),
    _row(
        "swarm.resolve_name",
        "Who a target is and where it can be reached.",
        ResolveParams,
        api.Resolved,
        lambda node, params: node.resolve(params.name),
        errors=("name_not_found", "name_released", "owner_changed", "not_joined"),
    ),
    _row(
        "swarm.renew_name",
        "Extend the lease of a name of this node now.",
        NameParams,
        api.NameRenewed,
        lambda node, params: node.renew_name(params.name),
        errors=("name_not_held",),
    ),
    _row(
        "swarm.my_names",
        "The names of this node.",
        NoParams,
        list[api.LeasedName],
        lambda node, _: node.names(),
    ),
    _row(
        "swarm.release_name",
        "Give up a name of this node.",
        NameParams,
        api.NameReleased,
        lambda node, params: node.release_name(params.name),
        errors=("name_not_held",),
    ),
    _row(
        "swarm.transfer_name",
        "Sign a name of this node over to another key; the new owner accepts the entry.",
        TransferParams,
        api.NameTransferred,
        lambda node, params: node.transfer_name(params.name, params.new_pubkey),
        errors=("name_not_held", "double_transfer"),
    ),
    _row(
        "swarm.accept_name",
        "Take up a name by the entry that its owner signed for this node.",
        AcceptParams,
        api.NameAccepted,
        lambda node, params: node.accept_name(params.entry),
        errors=("transfer_refused", "not_joined"),
    ),
    _row(
        "swarm.trust_name",
        "Believe from now on that a name belongs to this owner.",
        TrustParams,
        api.NameTrusted,
        lambda node, params: node.trust_name(params.name, params.owner),
        errors=("name_not_found", "not_joined"),
    ),
    _row(
        "swarm.equivocations",
        "Peers that signed two records with one sequence number.",
        NoParams,
        list[api.Equivocation],
        lambda node, _: node.equivocations(),
    ),
    _row(
        "swarm.bans",
        "Peers and prefixes that this node does not talk to for a while.",
        NoParams,
        list[api.Ban],
        lambda node, _: node.bans(),
    ),
    _row(
        "swarm.unban",
        "Lift the ban on a peer or a prefix.",
        SubjectParams,
        api.Unbanned,
        lambda node, params: node.unban(params.subject),
    ),
    _row(
        "swarm.stop",
        "Stop this node cleanly.",
        StopParams,
        api.Stopping,
        lambda node, params: node.stop(params.release_name),
        who=Who.SOCKET,
    ),
    _row(
        "rpc.discover",
        "This interface as an OpenRPC document.",
        NoParams,
        dict[str, Any],
        _discover,
    ),
)

METHODS: Final[Mapping[str, Method]] = {method.name: method for method in _TABLE}
