"""`wws name`: the names of the local node's identity."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent_cli import text
from agent_cli.compose import STATUS_TIMEOUT, call
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command, group, make_app
from agent_cli.result import Result, WrongUsage
from agent_cli.targets import check_name

Name = Annotated[str, typer.Argument(metavar="NAME", help="3 to 32 of a-z, 0-9 and '-'.")]


def register(app: typer.Typer) -> None:
    names = make_app()
    group(names, name, examples=("wws name claim alice", "wws name list"))
    command(names, claim, examples=("wws name claim alice",))
    command(names, list_names, name="list", examples=("wws name list --json",))
    command(names, renew, examples=("wws name renew alice",))
    command(names, release, examples=("wws name release alice",))
    app.add_typer(names, name="name")


def name(options: Options, context: typer.Context) -> None:
    """Claim, list, renew and release the names of this identity."""
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws name --help")


def claim(options: Options, name: Name) -> Result:
    """Claim a name for this node; the node keeps renewing it while it runs."""
    wanted = check_name(name)
    with progress(options, f"claiming wws:{wanted}"):
        data: dict[str, Any] = call(options, "swarm.register_name", {"name": wanted})
    witnessed = "" if data["witnessed"] else ", unwitnessed"
    return Result(data, f"wws:{data['name']} is yours until {text.when(data['expires_at'])}{witnessed}")


def list_names(options: Options) -> Result:
    """List the names of this node and how long each lasts."""
    names: list[dict[str, Any]] = call(options, "swarm.my_names", timeout=STATUS_TIMEOUT)
    rows = [
        (
            entry["name"],
            entry["swarm"],
            entry["state"],
            text.when(entry["expires_at"]),
            "yes" if entry["witnessed"] else "no",
        )
        for entry in names
    ]
    shown = text.table(("name", "swarm", "state", "until", "witnessed"), rows) if rows else "No names."
    return Result({"names": names}, shown)


def renew(options: Options, name: Name) -> Result:
    """Extend the lease of a name now (the node does so by itself, long before it ends)."""
    data: dict[str, Any] = call(options, "swarm.renew_name", {"name": check_name(name)})
    return Result(data, f"wws:{data['name']} is renewed until {text.when(data['new_expires_at'])}")


def release(options: Options, name: Name) -> Result:
    """Give a name up. Others may claim it once the release has run out."""
    data: dict[str, Any] = call(options, "swarm.release_name", {"name": check_name(name)})
    free = f"; free for others from {text.when(data['free_at'])}" if data.get("free_at") else ""
    return Result(data, f"wws:{data['name']} is released{free}")
