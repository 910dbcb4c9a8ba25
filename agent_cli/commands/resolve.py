"""`wws resolve`: who a target is, and where."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent_cli import text
from agent_cli.compose import call
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result
from agent_cli.targets import check_target


def register(app: typer.Typer) -> None:
    command(app, resolve, examples=("wws resolve alice", "wws resolve wws:alice@lab --json"))


def resolve(
    options: Options,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A name or wws: URI, a DID, or a PeerId.")],
) -> Result:
    """Find out who a name, DID or PeerId is and where it can be reached."""
    check_target(target)
    data: dict[str, Any] = call(options, "swarm.resolve_name", {"name": target})
    shown = text.pairs(
        [
            ("name", _name(data)),
            ("did", data.get("did")),
            ("peer id", data.get("peer_id")),
            ("addresses", "\n".join(data.get("addresses", ()))),
            ("until", text.when(data.get("expires_at")) if data.get("expires_at") else None),
        ]
    )
    return Result(data, shown, notes=_notes(data))


def _name(data: dict[str, Any]) -> str | None:
    if not data.get("name"):
        return None
    return f"wws:{data['name']}" + ("" if data.get("swarm") == "public" else f"@{data.get('swarm')}")


def _notes(data: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    if data.get("stale"):
        notes.append("warning: the lease has run out; only its owner may renew it now.")
    if data.get("owner_changed"):
        notes.append("The name was transferred to this owner; the pin has moved along.")
    if data.get("name") and not data.get("witnessed") and data.get("first_pin"):
        notes.append("Seen for the first time and not witnessed: pinned to this key from now on.")
    return tuple(notes)
