"""`wws-dns sign`: a signature where the key is. It asks no DNS and needs no network."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from agent_cli import text
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage
from wws.discovery.publishers import PublisherKey, key_id
from wws.runtime.whole_files import write_whole
from wws_dns.looking import look
from wws_dns.old_clients import must_carry_keys
from wws_dns.plan import bundle_json, day
from wws_dns.planning import PlanningConfig, new_bundle
from wws_dns.signing import RequestMalformed, SigningRequest, parse_request
from wws_dns.workspace import KeyOption, RecordsOption, load_signers, open_workspace, read_bounded


def register(app: typer.Typer) -> None:
    command(
        app,
        sign,
        examples=(
            "wws-dns sign to-sign.json --key publisher.key",
            "wws-dns sign --records records.toml --key publisher.key --out signed.json",
        ),
    )


def sign(
    options: Options,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="What plan --request wrote; signed in place without --out."),
    ] = None,
    key: KeyOption = None,
    records: RecordsOption = None,
    above: Annotated[
        int, typer.Option("--above", min=0, metavar="SEQ", help="With --records: the highest number so far.")
    ] = 0,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Where the result goes.")] = None,
) -> Result:
    """Sign a list of nodes, on the machine that has the key; publish it elsewhere with --signed.

    A file that somebody has signed already gets one signature more. Look at the list before you sign: it
    decides whom everybody trusts.
    """
    unix_now = int(time.time())
    if file is not None and records is not None:
        raise WrongUsage("FILE and --records are two sources; give one.")
    if file is not None:
        request = parse_request(read_bounded(Path(file), RequestMalformed))
        signers = load_signers([Path(one) for one in key or ()], os.environ)
        if not signers:
            raise WrongUsage("No key is given.", hint="Give the publisher key: --key FILE")
    else:
        work = open_workspace(records, keys=key)
        signers = work.signers
        if not signers:
            raise WrongUsage("No key is given.", hint="Give the publisher key: --key FILE")
        seen = look(
            work.history,
            (),
            unix_now,
            declared=work.desired.keys,
            signers=[PublisherKey(signer.public_key) for signer in signers],
        )
        keys = work.desired.keys or seen.known
        bundle = new_bundle(
            work.desired,
            keys if must_carry_keys(seen.clients, keys) else None,
            above=max(above, seen.highest),
            unix_now=unix_now,
            backdate=PlanningConfig().backdate,
        )
        request = SigningRequest(work.desired.domain, bundle)
    done = request.sign(signers, unix_now)
    target = out or file
    if target is not None:
        write_whole(Path(target), done.to_text().encode())
    signed = done.bundle
    data = {"domain": done.domain, "file": target, "bundle": bundle_json(signed)}
    told = text.pairs(
        [
            ("domain", done.domain),
            ("number", signed.seq),
            ("holds", f"{day(signed.not_before)} to {day(signed.expires_at)}"),
            ("nodes", "\n".join(map(str, signed.entries))),
            ("keys from now on", "\n".join(map(key_id, signed.keys or ()))),
            ("signed by", ", ".join(name for name, _ in signed.signatures)),
            ("file", target),
        ]
    )
    if target is None:
        return Result(data, done.to_text().rstrip())
    return Result(data, told, notes=(f"Where DNS is changed: wws-dns publish --signed {target}",))
