"""The one table of RPC methods (contract, section 6).

A row says what the method is called, what it takes, what it answers, who may call it how often, and what it
does. The server dispatches by it, `wws.rpc.access` judges by it, `rpc.discover` and docs/rpc.md describe it,
the tests walk it: adding a method is adding a row here and a member to `NodeApi`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from wws.names.uri import AddressTarget, parse_target
from wws.rpc import api
from wws.rpc.access import NotAllowed
from wws.rpc.api import Json
from wws.rpc.method_params import (
    AcceptParams,
    AgentParams,
    ConnectParams,
    CreateTokenParams,
    DrainParams,
    IdentityParams,
    NameParams,
    NoParams,
    PingParams,
    ResolveParams,
    StopParams,
    SubjectParams,
    TokenParams,
    TransferParams,
    TrustParams,
)
from wws.rpc.params import parse_params
from wws.rpc.policy import LOCAL, NEW_NAME_RATE, OWNER, READERS, REGISTRATION_RATE, Policy, Rate, Role
from wws.rpc.serving import Serving

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P", bound="DataclassInstance")

_READ: Final = Policy(READERS)
"""Changes nothing: for everybody who is known here."""
CONNECT: Final = "swarm.connect"
_DIALS: Final = Rate(30, 60.0)
"""For calls that make this node dial: a token or an agent must not use it to knock at many doors."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row: everything there is to say about a method."""

    name: str
    summary: str
    params: type[DataclassInstance]
    result: object
    """The type of the answer, for the document."""
    call: Callable[[Serving, Json], Awaitable[object]]
    """Parses the raw parameters (`InvalidParams`), then does it."""
    policy: Policy
    errors: tuple[str, ...] = ()
    """The words of the errors that callers should expect, beside those any method may give."""

    def about(self, raw: Json) -> Json:
        """What the audit log shows of the raw parameters, by name or by position; None for nothing."""
        if isinstance(raw, list):
            raw = dict(zip((field.name for field in fields(self.params)), raw, strict=False))
        return raw.get(self.policy.about) if self.policy.about is not None and isinstance(raw, dict) else None


def _row(
    name: str,
    summary: str,
    params: type[P],
    result: object,
    do: Callable[[Serving, P], Awaitable[object]],
    *,
    policy: Policy,
    errors: tuple[str, ...] = (),
) -> Method:
    def call(serving: Serving, raw: Json) -> Awaitable[object]:
        return do(serving, parse_params(params, raw))

    return Method(name, summary, params, result, call, policy, errors)


async def _discover(serving: Serving, _: NoParams) -> Json:
    return _document((await serving.node.status()).version)


@cache
def _document(version: str) -> Json:
    from wws.rpc.openrpc import document  # it reads this module

    return document(METHODS.values(), version=version)


async def _status(serving: Serving, _: NoParams) -> api.NodeStatus:
    status = await serving.node.status()
    if serving.caller.role in OWNER | Role.TOKEN:
        return status
    # Another user of this machine can be an agent: where this user keeps things is none of its business.
    return replace(status, identity_path=None, socket=None)


async def _identity(serving: Serving, params: IdentityParams) -> api.IdentityInfo:
    found = await serving.node.identity(params.did)
    return found if serving.caller.role in OWNER | Role.TOKEN else replace(found, path=None)


async def _ping(serving: Serving, params: PingParams) -> api.PingReport:
    caller = serving.caller
    may_dial = caller.role in OWNER or (caller.token is not None and CONNECT in caller.token.methods)
    if not may_dial and isinstance(parse_target(params.target), AddressTarget):
        # An address that is typed may be of any scope: this node would knock at doors of its own network.
        raise NotAllowed(f"an address is for those who may call {CONNECT}: name a peer instead")
    return await serving.node.ping(params.target, params.count, params.wait_direct)


async def _register_agent(serving: Serving, params: AgentParams) -> api.AgentRegistered:
    size = (await serving.node.network_stats()).swarm_size
    return serving.access.register_agent(
        params.agent_id,
        params.public_key,
        params.pow,
        swarm_size=size.estimate,
        caller=serving.caller,
        unix_ms=serving.unix_ms,
    )


async def _create_token(serving: Serving, params: CreateTokenParams) -> api.TokenCreated:
    return serving.access.create_token(
        params.label, params.methods, params.rate, params.expires_in, unix_ms=serving.unix_ms
    )


async def _list_tokens(serving: Serving, _: NoParams) -> list[api.Token]:
    return [*serving.access.list_tokens()]


async def _revoke_token(serving: Serving, params: TokenParams) -> api.TokenRevoked:
    return serving.access.revoke_token(params.id)


_TABLE: Final = (
    _row(
        "swarm.get_status",
        "How this node is: identity, network, connections, names.",
        NoParams,
        api.NodeStatus,
        _status,
        policy=_READ,
    ),
    _row(
        "swarm.get_network_stats",
        "What this node knows of the swarm around it.",
        NoParams,
        api.NetworkStats,
        lambda serving, _: serving.node.network_stats(),
        policy=_READ,
    ),
    _row(
        "swarm.get_identity",
        "An identity in each of its forms.",
        IdentityParams,
        api.IdentityInfo,
        _identity,
        policy=_READ,
        errors=("not_found",),
    ),
    _row(
        "swarm.peers",
        "The peers this node is connected to.",
        NoParams,
        api.PeerList,
        lambda serving, _: serving.node.peers(),
        policy=_READ,
    ),
    _row(
        CONNECT,
        "Connect to a peer.",
        ConnectParams,
        api.Connected,
        lambda serving, params: serving.node.connect(params.addr),
        policy=Policy(LOCAL, rate=_DIALS, audited=True, about="addr"),
        errors=("peer_unreachable", "name_not_found"),
    ),
    _row(
        "swarm.ping",
        "Round trips to a peer, and which way they went.",
        PingParams,
        api.PingReport,
        _ping,
        policy=Policy(READERS, rate=_DIALS),
        errors=("peer_unreachable", "name_not_found", "owner_changed"),
    ),
    _row(
        "swarm.register_name",
        "Claim a name for this node and keep renewing it.",
        NameParams,
        api.NameRegistered,
        lambda serving, params: serving.access.new_names.register(
            serving.node, params.name, serving.unix_now
        ),
        policy=Policy(LOCAL, rate=NEW_NAME_RATE, audited=True, about="name"),
        errors=("name_taken", "name_contested", "too_many_names", "malformed_name", "not_joined"),
    ),
    _row(
        "swarm.resolve_name",
        "Who a target is and where it can be reached.",
        ResolveParams,
        api.Resolved,
        lambda serving, params: serving.node.resolve(params.name),
        policy=_READ,
        errors=("name_not_found", "name_released", "owner_changed", "not_joined"),
    ),
    _row(
        "swarm.renew_name",
        "Extend the lease of a name of this node now.",
        NameParams,
        api.NameRenewed,
        lambda serving, params: serving.node.renew_name(params.name),
        policy=Policy(LOCAL, audited=True, about="name"),
        errors=("name_not_held",),
    ),
    _row(
        "swarm.my_names",
        "The names of this node.",
        NoParams,
        list[api.LeasedName],
        lambda serving, _: serving.node.names(),
        policy=Policy(LOCAL),
    ),
    _row(
        "swarm.release_name",
        "Give up a name of this node.",
        NameParams,
        api.NameReleased,
        lambda serving, params: serving.node.release_name(params.name),
        policy=Policy(LOCAL, audited=True, about="name"),
        errors=("name_not_held",),
    ),
    _row(
        "swarm.transfer_name",
        "Sign a name of this node over to another key; the new owner accepts the entry.",
        TransferParams,
        api.NameTransferred,
        lambda serving, params: serving.node.transfer_name(params.name, params.new_pubkey),
        policy=Policy(LOCAL, audited=True, about="name"),
        errors=("name_not_held", "double_transfer"),
    ),
    _row(
        "swarm.accept_name",
        "Take up a name by the entry that its owner signed for this node.",
        AcceptParams,
        api.NameAccepted,
        lambda serving, params: serving.node.accept_name(params.entry),
        policy=Policy(LOCAL, audited=True),
        errors=("transfer_refused", "not_joined"),
    ),
    _row(
        "swarm.trust_name",
        "Believe from now on that a name belongs to this owner.",
        TrustParams,
        api.NameTrusted,
        lambda serving, params: serving.node.trust_name(params.name, params.owner),
        policy=Policy(OWNER, audited=True, about="name"),
        errors=("name_not_found", "not_joined", "pins_full"),
    ),
    _row(
        "swarm.equivocations",
        "Peers that signed two records with one sequence number.",
        NoParams,
        list[api.Equivocation],
        lambda serving, _: serving.node.equivocations(),
        policy=Policy(LOCAL),
    ),
    _row(
        "swarm.bans",
        "Peers and prefixes that this node does not talk to for a while.",
        NoParams,
        list[api.Ban],
        lambda serving, _: serving.node.bans(),
        policy=Policy(LOCAL),
    ),
    _row(
        "swarm.unban",
        "Lift the ban on a peer or a prefix.",
        SubjectParams,
        api.Unbanned,
        lambda serving, params: serving.node.unban(params.subject),
        policy=Policy(OWNER, audited=True, about="subject"),
    ),
    _row(
        "swarm.register_agent",
        "Let an agent, which is not this node, sign requests to this node; again every day.",
        AgentParams,
        api.AgentRegistered,
        _register_agent,
        policy=Policy(READERS | Role.NEWCOMER, rate=REGISTRATION_RATE, audited=True, about="agent_id"),
        errors=("work_too_weak", "too_many_agents"),
    ),
    _row(
        "swarm.create_token",
        "Make a token for a local program; its secret is shown this once.",
        CreateTokenParams,
        api.TokenCreated,
        _create_token,
        policy=Policy(Role.SOCKET, audited=True, about="label"),
        errors=("too_many_tokens",),
    ),
    _row(
        "swarm.list_tokens",
        "The tokens of this node, without their secrets.",
        NoParams,
        list[api.Token],
        _list_tokens,
        policy=Policy(Role.SOCKET),
    ),
    _row(
        "swarm.revoke_token",
        "Make a token open nothing from now on.",
        TokenParams,
        api.TokenRevoked,
        _revoke_token,
        policy=Policy(Role.SOCKET, audited=True, about="id"),
    ),
    _row(
        "swarm.drain",
        "Get a bootstrap node ready to be stopped: agents move to other relays. Until a restart.",
        DrainParams,
        api.Draining,
        lambda serving, params: serving.node.drain(params.on),
        policy=Policy(Role.SOCKET, audited=True, about="on"),
        errors=("not_a_bootstrap_node",),
    ),
    _row(
        "swarm.stop",
        "Stop this node cleanly.",
        StopParams,
        api.Stopping,
        lambda serving, params: serving.node.stop(params.release_name),
        policy=Policy(Role.SOCKET, audited=True),
    ),
    _row(
        "rpc.discover",
        "This interface as an OpenRPC document.",
        NoParams,
        dict[str, Any],
        _discover,
        policy=_READ,
    ),
)

METHODS: Final[Mapping[str, Method]] = {method.name: method for method in _TABLE}
"""All methods, by name."""
POLICIES: Final[Mapping[str, Policy]] = {method.name: method.policy for method in _TABLE}
"""What each method says of its callers."""
