"""`wws token`: scoped access to the local node for programs that are not yours alone."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer

from agent_cli import text
from agent_cli.compose import STATUS_TIMEOUT, call, running_node
from agent_cli.options import Options
from agent_cli.quantities import parse_duration, parse_rate
from agent_cli.registration import command, group, make_app
from agent_cli.result import Problem, Result, WrongUsage
from wws.rpc.codes import Exit

DAY: Final = 86_400
SHORTEST, LONGEST = 60, 366 * DAY
"""Seconds that a token may last."""
FASTEST: Final = 100_000
"""Calls a minute that a token may have."""
SHOWN: Final = 3
"""Methods of a token that a list shows; the rest is counted, unless --verbose."""


def register(app: typer.Typer) -> None:
    tokens = make_app()
    group(tokens, token, examples=("wws token create", "wws token list"))
    command(
        tokens,
        create,
        examples=(
            "wws token create --label dashboard",
            "wws token create --methods names --expires 12h --quiet > token",
            "wws token create --methods swarm.ping,swarm.peers --rate 10/s --json",
        ),
    )
    command(tokens, list_tokens, name="list", examples=("wws token list", "wws token list --json"))
    command(tokens, revoke, examples=("wws token revoke 3f2a90c1d4e5",))
    app.add_typer(tokens, name="token")


def token(options: Options, context: typer.Context) -> None:
    """Let local programs call some methods of the node, so often and so long as you say."""
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws token --help")


def create(
    options: Options,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="M[,M...]",
            help="What it opens: methods, or read, names, agents for sets of them (read; repeats).",
        ),
    ] = None,
    rate: Annotated[
        str, typer.Option(metavar="N/UNIT", help="How often it may call: 10/s, 600/min, 100/h.")
    ] = "600/min",
    expires: Annotated[str, typer.Option(metavar="TIME", help="How long it lasts: 90s, 12h, 30d.")] = "30d",
    label: Annotated[str, typer.Option(metavar="TEXT", help="What it is for, to know it again.")] = "",
) -> Result:
    """Make a token; its secret is printed this once.

    The secret is all that goes to stdout. A program sends it as the member "token" beside "method", over the
    node's TCP port for RPC. Sets of methods: read opens what changes nothing, names claims, renews and
    releases names, agents registers agents.
    """
    wanted = [word.strip() for given in methods or ["read"] for word in given.split(",")]
    if not all(wanted):
        raise WrongUsage(
            "A method in --methods is empty.", hint="Write them like: --methods read,swarm.connect"
        )
    a_minute, is_exact = parse_rate(rate, most=FASTEST)
    rounded = None if is_exact else rate
    params = {
        "label": label,
        "methods": wanted,
        "rate": a_minute,
        "expires_in": parse_duration(expires, least=SHORTEST, most=LONGEST),
    }
    if not label:
        del params["label"]
    data: dict[str, Any] = call(options, "swarm.create_token", params, timeout=STATUS_TIMEOUT)
    return Result(data, data["secret"], notes=_explained(data["token"], wanted, rounded, _port(options)))


def list_tokens(options: Options) -> Result:
    """List the tokens, never their secrets."""
    found: list[dict[str, Any]] = call(options, "swarm.list_tokens", timeout=STATUS_TIMEOUT)
    now = time.time()
    rows = [
        (
            entry["id"],
            entry["label"] or None,
            _methods(entry["methods"], everything=options.verbose),
            _rate(entry),
            "expired" if entry["expires_at"] <= now else text.when(entry["expires_at"]),
            "never" if entry["last_used"] is None else text.when(entry["last_used"]),
        )
        for entry in found
    ]
    head = ("id", "label", "methods", "rate", "until", "last used")
    shown = text.table(head, rows) if rows else options.exact("No tokens. Make one: wws token create")
    return Result({"tokens": found}, shown)


def revoke(
    options: Options,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As wws token list shows it.")],
) -> Result:
    """End a token now."""
    data: dict[str, Any] = call(options, "swarm.revoke_token", {"id": token_id}, timeout=STATUS_TIMEOUT)
    if not data["revoked"]:
        problem = Problem(
            "not_found", f"There is no token {token_id}.", "Those that there are: wws token list"
        )
        return Result(data, errors=(problem,), exit_code=Exit.NOT_FOUND)
    return Result(data, f"The token {data['id']} opens nothing any more.")


def _port(options: Options) -> str | None:
    """Where programs use a token."""
    return running_node(options).rpc


def _explained(
    made: dict[str, Any], asked: list[str], rounded: str | None, port: str | None
) -> tuple[str, ...]:
    """What the token is good for. `asked`: methods and sets of them; `rounded`: a rate that was not kept."""
    opened, count = ", ".join(asked), len(made["methods"])
    counted = "" if count == len(asked) else f" ({count} methods)"
    how_often = f"{rounded}, counted by the minute: {_rate(made)}" if rounded else _rate(made)
    where = f"over TCP, to {port}" if port else "over TCP, which is off at this node (wws join --rpc IP:PORT)"
    return (
        f"The token {made['id']} opens {opened}{counted} until {text.when(made['expires_at'])}; {how_often}.",
        f'Its secret is shown only now. A program sends it as "token" beside "method", {where}.',
        f"To end it: wws token revoke {made['id']}",
    )


def _rate(entry: dict[str, Any]) -> str:
    return f"{entry['rate']} {'call' if entry['rate'] == 1 else 'calls'} a minute"


def _methods(methods: list[str], *, everything: bool) -> str:
    if everything or len(methods) <= SHOWN + 1:
        return ", ".join(methods)
    return f"{', '.join(methods[:SHOWN])} and {len(methods) - SHOWN} more"
