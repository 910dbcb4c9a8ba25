"""`wws ping`: round trips to a peer, and which way each went."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent_cli import text
from agent_cli.name_words import warnings_about
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Problem, Result
from agent_cli.targets import Target, call_about, check_target, is_name
from wws.rpc.codes import Exit


def register(app: typer.Typer) -> None:
    command(app, ping, examples=("wws ping bob", "wws ping wws:bob -c 1 --require-direct --json"))


def ping(
    options: Options,
    target: Target,
    count: Annotated[int, typer.Option("-c", "--count", min=1, max=100, help="How many round trips.")] = 4,
    require_direct: Annotated[
        bool, typer.Option("--require-direct", help="Exit 6 when it is reached only through a relay.")
    ] = False,
) -> Result:
    """Measure round trips to a peer, and say whether each went direct or through which relay."""
    check_target(target)
    patience = _patience(count, require_direct)
    hole = f" (a hole punch gets up to {patience} s)" if patience else ""
    with progress(options, f"pinging {target}{hole}"):
        notes = _looked_at(options, target)
        params = {"target": target, "count": count, "wait_direct": patience}
        data: dict[str, Any] = call_about(options, target, "swarm.ping", params)
    shown = "\n".join(_line(reply) for reply in data["replies"])
    shown += f"\n{data['received']} of {data['sent']} answered by {data['peer_id']}"
    if data["received"] == 0:
        problem = Problem("peer_unreachable", f"{target} did not answer.", _why(data))
        return Result(data, shown, notes=notes, errors=(problem,), exit_code=Exit.UNREACHABLE)
    if require_direct and not any(_is_direct(reply) for reply in data["replies"]):
        problem = Problem("relayed_only", f"{target} was reached only through a relay.", _why(data))
        return Result(data, shown, notes=notes, errors=(problem,), exit_code=Exit.RELAYED_ONLY)
    return Result(data, shown, notes=notes)


def _looked_at(options: Options, target: str) -> tuple[str, ...]:
    """What to look at twice in a name. It is looked up for this first, and cached then for the ping."""
    if not is_name(target):
        return ()
    answer: dict[str, Any] = call_about(options, target, "swarm.resolve_name", {"name": target})
    return warnings_about(answer, target)


def _patience(count: int, require_direct: bool) -> int:
    """Seconds for a hole punch under way: all attempts for who insists, one or two for who pings some times,
    none for who wants one quick answer."""
    return 20 if require_direct else 3 if count > 1 else 0


def _line(reply: dict[str, Any]) -> str:
    if reply["rtt_ms"] is None:
        return f"{reply['seq']}: no answer" + (f" ({reply['reason']})" if reply["reason"] else "")
    way = "direct" if reply["path"] == "direct" else f"via {reply['relay']}"
    reason = f" ({reply['reason']})" if reply["reason"] else ""
    return f"{reply['seq']}: {text.milliseconds(reply['rtt_ms'])} {way}{reason}"


def _is_direct(reply: dict[str, Any]) -> bool:
    return reply["rtt_ms"] is not None and reply["path"] == "direct"


def _why(data: dict[str, Any]) -> str:
    return next((reply["reason"] for reply in reversed(data["replies"]) if reply["reason"]), "")
