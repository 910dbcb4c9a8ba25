"""What `wws status` and `wws peers` say to people."""

import pytest

from agent_cli.commands import peers as peers_command
from agent_cli.commands.peers import peers
from agent_cli.commands.status import describe
from agent_cli.options import Options

TRIED = [
    {"source": "dns", "target": "example.org", "error": "NXDOMAIN"},
    {"source": "pinned", "target": "/ip4/203.0.113.7/tcp/9000", "error": "timeout"},
]


@pytest.mark.parametrize(
    "state, again, shown",
    [
        ("failed_retrying", 42.0, "found no way in, tries again in 42 s"),
        ("failed_retrying", None, "found no way in"),
        ("lost", 30.0, "lost all peers, tries again in 30 s"),
        ("lost", None, "lost all peers, reconnecting"),
        ("discovering", None, "looking for a way in"),
        ("stopping", None, "stopping"),
    ],
)
def test_a_node_without_a_way_in_says_what_was_tried_and_when_it_tries_again(
    state: str, again: float | None, shown: str
) -> None:
    lines = describe({"status": state, "joined": False, "join": {"tried": TRIED, "next_retry_s": again}})
    assert f"state      {shown}\n" in lines
    assert (
        "tried      dns example.org: NXDOMAIN\n           pinned /ip4/203.0.113.7/tcp/9000: timeout\n"
        in lines
    )


def test_what_was_tried_is_over_once_it_has_joined() -> None:
    assert "tried" not in describe({"status": "joined", "joined": True, "join": {"tried": TRIED}})


def test_peers_and_connections_are_told_apart() -> None:
    connections = {"direct": 4, "relayed": 0}
    assert "peers      4 direct, 0 relayed\n" in describe({"peers": 4, "connections": connections})
    told = describe({"peers": 3, "connections": connections})
    assert "peers      3 (4 connections: 4 direct, 0 relayed)\n" in told


def test_who_dialled_whom_and_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = {"peer_id": "12D3A", "name": None, "path": "direct", "relay": None, "transport": "tcp"}
    peer |= {"rtt_ms": 1.0, "agent": None, "addr": "/ip4/127.0.0.1/tcp/1/p2p/12D3A"}
    found = [{**peer, "direction": direction} for direction in ("in", "out")]
    monkeypatch.setattr(peers_command, "call", lambda *_, **__: {"peers": found})
    head, first, second, count = peers(Options()).text.splitlines()
    assert head.startswith("peer   dialled by  path")
    assert first.split()[:2] == ["12D3A", "them"]
    assert second.split()[:2] == ["12D3A", "us"]
    assert count == "1 peer, 2 connections"
