"""The RPC interface without a server: methods called as the owner, and requests as agents sign them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from wws.codec import base64
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.rpc.access import Access, AccessConfig
from wws.rpc.api import Json, NodeApi
from wws.rpc.methods import METHODS, POLICIES
from wws.rpc.policy import Role
from wws.rpc.serving import Principal, Serving
from wws.rpc.signed import signed_bytes

NOW_MS = 1_790_000_000_000
"""Unix time in milliseconds, where a test does not say another."""
OWNER = Principal(Role.SOCKET, "owner")


def make_access(
    node: PeerId, *, own_user: int = 1000, cookie: str | None = "cookie", config: AccessConfig | None = None
) -> Access:
    """The access of a node that started a minute before `NOW_MS`; the secrets it gives are all zeros."""
    return Access(
        own_user,
        cookie,
        node=node,
        table=POLICIES,
        started_ms=NOW_MS - 60_000,
        random_bytes=bytes,
        config=config,
    )


async def call(node: NodeApi, method: str, params: Json = None, *, access: Access | None = None) -> object:
    """Call a method of the node as its owner, judging nothing."""
    if access is None:
        access = make_access(PeerId.parse((await node.status()).peer_id))
    return await METHODS[method].call(Serving(node, access, OWNER, NOW_MS), params)


def signed_request(
    signer: Identity,
    method: str,
    params: Mapping[str, Json] | None = None,
    *,
    timestamp: int = NOW_MS,
    nonce: str = "a3f9bc12a3f9bc12",
    changed: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """A request as an agent signs it; `changed` members replace those of the signed one, None takes away."""
    body = None if params is None else dict(params)
    data = signed_bytes(method, body, timestamp, nonce)
    request: dict[str, Json] = {
        "jsonrpc": "2.0",
        "method": method,
        "id": 1,
        "agent_id": signer.peer_id.did,
        "timestamp": timestamp,
        "nonce": nonce,
        "signature": base64.encode(signer.sign(data)),
    }
    if body is not None:
        request["params"] = body
    return {name: value for name, value in {**request, **(changed or {})}.items() if value is not None}


def registration(agent: Identity, *, swarm: str = "public", bits: int = 12) -> dict[str, Json]:
    """The params of `swarm.register_agent` for an agent, its work done."""
    did = agent.peer_id.did
    work = proof_of_work.solve(f"agent:{swarm}", did, bits)
    return {"agent_id": did, "public_key": agent.public_key.hex(), "pow": work}


def line(request: Mapping[str, Json]) -> bytes:
    """A request as it travels."""
    return json.dumps(request).encode("ascii") + b"\n"
