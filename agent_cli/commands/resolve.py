"""`wws resolve`: who a target is, and where."""

from __future__ import annotations

from typing import Any

import typer

from agent_cli import text
from agent_cli.name_words import label, warnings_about, witnessed
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Result
from agent_cli.targets import Target, call_about, check_target


def register(app: typer.Typer) -> None:
    command(app, resolve, examples=("wws resolve alice", "wws resolve wws:alice@lab --json"))


def resolve(options: Options, target: Target) -> Result:
    """Find out who a name, DID or PeerId is and where it can be reached."""
    check_target(target)
    with progress(options, f"looking {target} up"):
        data: dict[str, Any] = call_about(options, target, "swarm.resolve_name", {"name": target})
    shown = text.pairs(
        [
            ("name", f"{label(data)}, {witnessed(data)}" if data.get("name") else None),
            ("did", data.get("did")),
            ("peer id", data.get("peer_id")),
            ("addresses", "\n".join(data.get("addresses", ()))),
            ("until", text.when(data.get("expires_at")) if data.get("expires_at") else None),
        ]
    )
    return Result(data, shown, notes=warnings_about(data, target))
