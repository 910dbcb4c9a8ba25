"""`wws call`: any RPC method of the local node."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Annotated

import typer

from agent_cli.compose import call as call_node
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage


def register(app: typer.Typer) -> None:
    command(
        app,
        call,
        examples=(
            "wws call swarm.bans",
            """wws call swarm.resolve_name '{"name": "alice"}'""",
            "wws call rpc.discover | jq '.methods[].name'",
        ),
    )


def call(
    options: Options,
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="Such as swarm.bans; rpc.discover lists them.")
    ],
    params: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="Parameters, an object or an array; - reads stdin.")
    ] = None,
) -> Result:
    """Call an RPC method of the local node and print its answer as JSON."""
    result = call_node(options, method, _parse(method, params))
    return Result({"method": method, "result": result}, json.dumps(result, indent=2, ensure_ascii=False))


def _parse(method: str, text: str | None) -> dict[str, object] | list[object] | None:
    if text is None:
        return None
    if text == "-":
        text = sys.stdin.read()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"The parameters are not JSON: {error}", hint=_form(method, text)) from None
    if not isinstance(value, (dict, list)):
        raise WrongUsage("The parameters must be a JSON object or array.", hint=_form(method, text))
    return value


def _form(method: str, text: str) -> str:
    """How parameters are written, with what was typed where that can be seen."""
    member, equals, value = text.partition("=")
    object_ = {member: value} if equals and member.isidentifier() else {"name": "alice"}
    return f"Write them so: wws call {method} {shlex.quote(json.dumps(object_))}"
