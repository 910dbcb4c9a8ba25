"""The RPC interface that programs rely on: methods, parameters, members of the answers, error numbers."""

import dataclasses

import pytest

from wws.rpc import api, codes
from wws.rpc.methods import METHODS, POLICIES
from wws.rpc.params import is_required
from wws.rpc.policy import Role
from wws.rpc.wire import WireConfig
from wws.runtime.rpc_connection import ConnectionConfig
from wws.runtime.rpc_ports import DEFAULT_PORT
from wws.runtime.rpc_server import RpcServerConfig
from wws.testing.fake_node import FakeNode
from wws.testing.rpc import call

METHOD_PARAMS = {
    "swarm.get_status": [],
    "swarm.get_network_stats": [],
    "swarm.get_identity": ["did?"],
    "swarm.peers": [],
    "swarm.connect": ["addr"],
    "swarm.ping": ["target", "count?", "wait_direct?"],
    "swarm.register_name": ["name"],
    "swarm.resolve_name": ["name"],
    "swarm.renew_name": ["name"],
    "swarm.my_names": [],
    "swarm.release_name": ["name"],
    "swarm.transfer_name": ["name", "new_pubkey"],
    "swarm.accept_name": ["entry"],
    "swarm.trust_name": ["name", "owner?"],
    "swarm.equivocations": [],
    "swarm.bans": [],
    "swarm.unban": ["subject"],
    "swarm.register_agent": ["agent_id", "public_key", "pow"],
    "swarm.create_token": ["label?", "methods?", "rate?", "expires_in?"],
    "swarm.list_tokens": [],
    "swarm.revoke_token": ["id"],
    "swarm.drain": ["on?"],
    "swarm.stop": ["release_name?"],
    "rpc.discover": [],
}

MEMBERS: dict[type, set[str]] = {
    api.NodeStatus: {
        *("agent_id", "peer_id", "name", "status", "reachability", "tier", "peers", "uptime_s"),
        *(
            "node",
            "did",
            "network",
            "publishers",
            "nat",
            "relays",
            "addresses",
            "connections",
            "names",
            "traffic",
            "disk",
        ),
    },
    api.NetworkStats: {"swarm_size", "peers", "relays", "traffic"},
    api.SwarmSize: {"estimate", "low", "high", "method"},
    api.Relay: {"peer_id", "addr", "expires_at"},
    api.ConnectionCounts: {"direct", "relayed"},
    api.IdentityInfo: {"did", "peer_id", "node_id", "did_key", "name"},
    api.PeerConnection: {
        *("peer_id", "addr", "transport", "direction", "path", "relay", "rtt_ms", "agent", "name"),
    },
    api.PingReport: {"target", "peer_id", "sent", "received", "replies"},
    api.PingReply: {"seq", "rtt_ms", "path", "relay", "reason"},
    api.Resolved: {
        *("name", "swarm", "did", "peer_id", "addresses", "expires_at", "stale", "witnessed", "pinned"),
        "owner_changed",
    },
    api.NameRegistered: {"registered", "expires_at", "witnessed"},
    api.NameRenewed: {"renewed", "new_expires_at"},
    api.LeasedName: {"name", "swarm", "expires_at", "witnessed", "state", "holder", "problem", "way_back"},
    api.NameTransferred: {"name", "swarm", "transferred", "entry", "to"},
    api.NameAccepted: {"name", "swarm", "accepted", "expires_at", "witnessed"},
    api.NameTrusted: {"name", "swarm", "did", "peer_id", "before"},
    api.AgentRegistered: {"registered", "expires_at"},
    api.Token: {"id", "label", "methods", "rate", "created_at", "expires_at", "last_used"},
    api.TokenCreated: {"token", "secret"},
    api.TokenRevoked: {"id", "revoked"},
    api.Equivocation: {"name", "swarm", "peer_id", "seq", "found_at"},
    api.Draining: {"draining", "reservations", "announced_by", "circuits", "connections"},
    api.RelayService: {
        *("reservations", "announced_by", "circuits", "bytes_today", "bytes_per_day", "resets_in_s"),
    },
    api.WitnessService: {"entries", "provisional", "log_rows", "writable", "no_first_claims_until"},
    api.SignedList: {"seq", "expires_at"},
    api.Ban: {"subject", "kind", "reason", "until"},
}


def test_methods_and_their_params() -> None:
    assert {
        name: [
            field.name + ("" if is_required(field) else "?") for field in dataclasses.fields(method.params)
        ]
        for name, method in METHODS.items()
    } == METHOD_PARAMS


@pytest.mark.parametrize("record", MEMBERS, ids=lambda record: record.__name__)
def test_members_of_the_answers(record: type) -> None:
    assert MEMBERS[record] <= {field.name for field in dataclasses.fields(record)}


async def test_my_names_is_a_list() -> None:
    alice = FakeNode("alice")
    await alice.register_name("alice")
    (name,) = api.to_json(await call(alice, "swarm.my_names"))  # type: ignore[misc]
    assert isinstance(name, dict)
    assert {"name", "expires_at"} <= set(name)


async def test_the_openrpc_document_lists_each_method() -> None:
    document = await call(FakeNode("alice"), "rpc.discover")
    assert isinstance(document, dict)
    assert document["openrpc"].startswith("1.")
    assert {entry["name"] for entry in document["methods"]} == set(METHOD_PARAMS)


def test_error_numbers() -> None:
    assert (codes.PARSE_ERROR, codes.INVALID_REQUEST, codes.METHOD_NOT_FOUND) == (-32700, -32600, -32601)
    assert (codes.INVALID_PARAMS, codes.INTERNAL_ERROR) == (-32602, -32603)
    assert (codes.UNAUTHORISED, codes.NOT_FOUND, codes.REFUSED, codes.RATE_LIMITED) == (
        -32001,
        -32002,
        -32003,
        -32004,
    )
    assert (codes.TIMEOUT, codes.UNREACHABLE, codes.INTEGRITY) == (-32005, -32006, -32007)
    assert codes.rpc_number("owner_changed") == -32007


def test_bounds() -> None:
    assert WireConfig().max_line == 2 * 1024 * 1024
    assert WireConfig().max_batch == 100
    assert RpcServerConfig().max_clients == 256
    assert ConnectionConfig().idle_timeout == 600
    assert (RpcServerConfig().host, DEFAULT_PORT) == ("127.0.0.1", 9370)


def test_what_the_socket_alone_opens() -> None:
    assert {name for name, policy in POLICIES.items() if policy.who == Role.SOCKET} == {
        "swarm.drain",
        "swarm.stop",
        "swarm.create_token",
        "swarm.list_tokens",
        "swarm.revoke_token",
    }


def test_what_registered_agents_may_call() -> None:
    assert {name for name, policy in POLICIES.items() if Role.AGENT in policy.who} == {
        "swarm.get_status",
        "swarm.get_network_stats",
        "swarm.get_identity",
        "swarm.peers",
        "swarm.ping",
        "swarm.resolve_name",
        "swarm.register_agent",
        "rpc.discover",
    }


def test_what_strangers_may_call() -> None:
    assert [name for name, policy in POLICIES.items() if Role.NEWCOMER in policy.who] == [
        "swarm.register_agent"
    ]


def test_the_seeds_rates() -> None:
    assert str(POLICIES["swarm.register_agent"].rate) == "1 an hour (registrations of an agent)"
    assert str(POLICIES["swarm.register_name"].rate) == "5 a day (new names of the node)"
