"""`wws-dns plan`: what would change in DNS. It looks, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Problem, Result, WrongUsage
from wws.rpc.codes import Exit
from wws.runtime.whole_files import write_whole
from wws_dns.commands.publish import SignedOption, read_signed
from wws_dns.plan import Plan, UnsafePlan
from wws_dns.signing import SigningRequest
from wws_dns.workspace import HistoryOption, InventoryOption, KeyOption, RecordsOption, open_workspace


def register(app: typer.Typer) -> None:
    command(
        app,
        plan,
        examples=(
            "wws-dns plan --key publisher.key",
            "wws-dns plan --request to-sign.json",
            "wws-dns plan --records records.toml --inventory inventory.json --json",
        ),
    )


def plan(
    options: Options,
    records: RecordsOption = None,
    inventory: InventoryOption = None,
    key: KeyOption = None,
    signed: SignedOption = None,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="FILE", help="Write the bundle to be signed elsewhere into FILE."),
    ] = None,
    history: HistoryOption = None,
) -> Result:
    """Show what would change in DNS, and what is unsafe about it; exit code 7 when something is.

    Nothing is changed. The records file is TOML: domain, a [[node]] with peer_id and host for each node, and
    [provider] with kind, zone, and server or path.
    """
    if request is not None and (key or signed):
        raise WrongUsage("--request asks for a signature elsewhere; --key and --signed bring one.")
    work = open_workspace(
        records, inventory=inventory, keys=key, history=history, signs_here=request is None and signed is None
    )
    signers = () if request is not None else work.signers
    made = work.publisher().plan(work.desired, signers, signed=read_signed(signed, work.desired.domain))
    notes: list[str] = []
    if request is not None:
        if made.bundle is None or not made.needs_signature:
            notes.append(f"Nothing is to be signed, so {request} was not written.")
        else:
            write_whole(Path(request), SigningRequest(made.domain, made.bundle).to_text().encode())
            notes.append(f"Sign it where the key is: wws-dns sign {request} --key publisher.key")
    elif made.needs_signature:
        notes.append(
            "To publish it, give the key (--key FILE), or have it signed elsewhere (--request FILE)."
        )
    return shown(made, notes)


def shown(made: Plan, notes: list[str]) -> Result:
    """A plan as the result of a command that only looks."""
    if not made.unsafe:
        return Result(made.to_json(), made.render(), notes=tuple(notes))
    problems = tuple(Problem(one.code, one.message, UnsafePlan.hint) for one in made.unsafe)
    return Result(made.to_json(), made.render(), notes=tuple(notes), errors=problems, exit_code=Exit.REFUSED)
