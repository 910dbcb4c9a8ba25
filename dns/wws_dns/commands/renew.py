"""`wws-dns renew`: sign what is published anew before it expires. For a timer: mostly it changes nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage
from wws.discovery.bundle import Bundle
from wws.runtime.whole_files import write_whole
from wws_dns.commands.plan import shown
from wws_dns.commands.publish import SignedOption, carry_out, read_signed
from wws_dns.desired import MAX_LIFETIME_DAYS
from wws_dns.plan import Plan
from wws_dns.publishing import Publisher
from wws_dns.signing import SigningRequest
from wws_dns.textfile import Metrics, TextfileOption, write_textfile
from wws_dns.workspace import (
    ForceOption,
    HistoryOption,
    KeyOption,
    RecordsOption,
    Workspace,
    open_workspace,
)

WITHIN_DAYS = 14
"""Days before its end from which on a bundle is signed anew."""


def register(app: typer.Typer) -> None:
    command(
        app,
        renew,
        examples=(
            "wws-dns renew --key publisher.key",
            "wws-dns renew --now --key publisher.key",
            "wws-dns renew --request to-sign.json",
            "wws-dns renew --signed to-sign.json",
        ),
    )


def renew(
    options: Options,
    within: Annotated[
        int,
        typer.Option(
            "--within", metavar="DAYS", min=0, max=MAX_LIFETIME_DAYS, help="Renew when no more are left."
        ),
    ] = WITHIN_DAYS,
    now: Annotated[bool, typer.Option("--now", help="Renew, however long it still holds.")] = False,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="FILE", help="Write the bundle to be signed elsewhere into FILE."),
    ] = None,
    signed: SignedOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing.")] = False,
    records: RecordsOption = None,
    key: KeyOption = None,
    history: HistoryOption = None,
    textfile: TextfileOption = None,
    force_unsafe: ForceOption = False,
) -> Result:
    """Sign the published list anew when it expires within 14 days; else change nothing.

    What is published stays what it is: the records file is read for its provider and its keys only. Also
    gives records their usual time to live back, an hour after a change.
    """
    if sum((request is not None, signed is not None, bool(key))) > 1:
        raise WrongUsage("--request asks for a signature elsewhere, --signed and --key bring one: give one.")
    offline = request is not None or signed is not None
    work = open_workspace(records, keys=key, history=history, with_keys=not offline)
    work.believe_publishers()
    publisher = work.publisher()
    before = work.history.last
    served: Bundle | None = None if before is None else before.bundle
    is_ok = False
    try:
        bundle = read_signed(signed, work.desired.domain)
        made = (
            publisher.renew(work.signers, only_if_within_days=MAX_LIFETIME_DAYS if now else within)
            if bundle is None
            else publisher.plan(publisher.current(), signed=bundle)
        )
        served = made.before or served
        result = _carried_out(publisher, made, request, dry_run=dry_run, force_unsafe=force_unsafe)
        if work.history.last is not None:
            served = work.history.last.bundle
        is_ok = not made.needs_signature
        return result
    finally:
        if textfile is not None and not dry_run:
            _tell(work, Path(textfile), served, is_ok=is_ok)


def _carried_out(
    publisher: Publisher, made: Plan, request: str | None, *, dry_run: bool, force_unsafe: bool
) -> Result:
    if request is not None and made.bundle is not None and made.needs_signature:
        write_whole(Path(request), SigningRequest(made.domain, made.bundle).to_text().encode())
        note = f"Sign it where the key is: wws-dns sign {request} --key publisher.key"
        return shown(made, [note, f"Then, here: wws-dns renew --signed {request}"])
    if dry_run:
        return shown(made, [])
    return carry_out(publisher, made, force_unsafe=force_unsafe)


def _tell(work: Workspace, path: Path, served: Bundle | None, *, is_ok: bool) -> None:
    write_textfile(path, Metrics(work.desired.domain, "renew", int(time.time()), is_ok, served))
