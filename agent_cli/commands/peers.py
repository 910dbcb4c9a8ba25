"""`wws peers`: whom the local node is connected to."""

from __future__ import annotations

from typing import Any

import typer

from agent_cli import text
from agent_cli.compose import STATUS_TIMEOUT, call
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result


def register(app: typer.Typer) -> None:
    command(app, peers, examples=("wws peers", "wws peers --json"))


def peers(options: Options) -> Result:
    """List the peers that the local node is connected to, and which way each connection goes."""
    data: dict[str, Any] = call(options, "swarm.peers", timeout=STATUS_TIMEOUT)
    found = data["peers"]
    if not found:
        return Result(data, "No peers.")
    rows = [
        (
            peer["name"] or peer["peer_id"],
            "us" if peer["direction"] == "out" else "them",
            peer["path"] if peer["relay"] is None else f"relay {peer['relay']}",
            peer["transport"],
            text.milliseconds(peer["rtt_ms"]),
            peer["agent"],
            peer["addr"] if options.verbose else _short(peer["addr"]),
        )
        for peer in found
    ]
    head = ("peer", "dialled by", "path", "over", "round trip", "agent", "address")
    several = len({peer["peer_id"] for peer in found})
    count = f"{_counted(several, 'peer')}, {_counted(len(found), 'connection')}"
    return Result(data, f"{text.table(head, rows)}\n{count}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _short(address: str) -> str:
    """The address without the PeerId, which stands in the first column."""
    return address.partition("/p2p/")[0]
