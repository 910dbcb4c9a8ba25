"""`wws-dns rollback`: back to an earlier list, under a higher number, since clients never go back."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_cli import text
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result
from wws_dns.commands.plan import shown
from wws_dns.commands.publish import carry_out
from wws_dns.history import History
from wws_dns.plan import bundle_json, day
from wws_dns.workspace import ForceOption, HistoryOption, KeyOption, RecordsOption, open_workspace


def register(app: typer.Typer) -> None:
    command(
        app,
        rollback,
        examples=(
            "wws-dns rollback --list",
            "wws-dns rollback --key publisher.key",
            "wws-dns rollback --to 1790000000 --key publisher.key --dry-run",
        ),
    )


def rollback(
    options: Options,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="SEQ", help="The number to go back to (the last other list)."),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List what was published; change nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing.")] = False,
    records: RecordsOption = None,
    key: KeyOption = None,
    history: HistoryOption = None,
    force_unsafe: ForceOption = False,
) -> Result:
    """Publish an earlier list again, under a higher number.

    Afterwards the records file says something else than DNS: set it back, too, before the next publish.
    """
    work = open_workspace(records, keys=key, history=history, with_keys=not listing)
    if listing:
        return _listed(work.history)
    publisher = work.publisher()
    made = publisher.rollback(to, work.signers)
    if dry_run:
        return shown(made, [])
    return carry_out(publisher, made, force_unsafe=force_unsafe)


def _listed(history: History) -> Result:
    rows = [
        (one.bundle.seq, day(one.at), day(one.bundle.expires_at), len(one.bundle.peers))
        for one in reversed(history.published)
    ]
    published = [{"at": one.at, **bundle_json(one.bundle)} for one in reversed(history.published)]
    table = text.table(("number", "published", "holds until", "nodes"), rows) if rows else "Nothing yet."
    return Result({"domain": history.domain, "published": published}, table)
