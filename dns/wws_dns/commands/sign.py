"""`wws-dns sign`: a signature where the key is. It asks no DNS and needs no network."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agent_cli import text
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage
from wws.discovery.bundle import Bundle
from wws.discovery.publishers import PublisherKey, key_id
from wws.identity.keys import Identity
from wws.runtime.whole_files import write_whole
from wws_dns.comparing import compare, difference
from wws_dns.looking import look
from wws_dns.old_clients import must_carry_keys
from wws_dns.plan import Unsafe, UnsafePlan, bundle_json, day
from wws_dns.planning import PlanningConfig, new_bundle
from wws_dns.signing import RequestMalformed, SigningRequest, parse_request
from wws_dns.workspace import KeyOption, RecordsOption, load_signers, open_workspace, read_bounded


def register(app: typer.Typer) -> None:
    command(
        app,
        sign,
        examples=(
            "wws-dns sign to-sign.json --key publisher.key",
            "wws-dns sign to-sign.json --key publisher.key --since last.json --out signed.json",
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
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="LAST", help="Refuse what is unsafe after what was signed last."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be signed; sign nothing.")
    ] = False,
    force_unsafe: Annotated[bool, typer.Option("--force-unsafe", help="Sign it all the same.")] = False,
) -> Result:
    """Sign a list of nodes, on the machine that has the key; publish it elsewhere with --signed.

    A file that somebody has signed already gets one signature more. The list decides whom everybody trusts:
    look at it first (--dry-run), and keep what you have signed here, to compare the next with (--since).
    """
    unix_now = int(time.time())
    unsafe: list[Unsafe] = []
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
            trusted=work.desired.keys or (),
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
        unsafe += seen.vouched.judge(None, bundle.keys or (), ())
    done = request.sign(signers, unix_now)
    mine = [PublisherKey(signer.public_key) for signer in signers]
    last = None if since is None else _last(since, done.domain, signers)
    unsafe += [] if last is None else compare(last, done.bundle, mine, unix_now)
    if unsafe and not (force_unsafe or dry_run):
        raise UnsafePlan(unsafe)
    target = None if dry_run else out or file
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
            ("keys from now on", "\n".join(f"{key_id(key)} {key.hex()}" for key in signed.keys or ())),
            ("since the last", None if last is None else difference(last, signed)),
            ("unsafe", "\n".join(f"({one.code}) {one.message}" for one in unsafe)),
            (
                "would be signed by" if dry_run else "signed by",
                ", ".join(name for name, _ in signed.signatures),
            ),
            ("file", target),
        ]
    )
    notes = [
        f"From this list on, key {key_id(key)} decides nothing any more: it is not among the keys."
        for key in mine
        if signed.keys is not None and key not in signed.keys
    ]
    if dry_run:
        return Result(data, told, notes=(*notes, "Nothing was signed."))
    if target is None:
        return Result(data, done.to_text().rstrip(), notes=tuple(notes))
    return Result(data, told, notes=(*notes, f"Where DNS is changed: wws-dns publish --signed {target}"))


def _last(path: str, domain: str, signers: Sequence[Identity]) -> Bundle:
    """What was signed last. Raises `RequestMalformed` where it is of another domain, or of other keys."""
    last = parse_request(read_bounded(Path(path), RequestMalformed))
    if last.domain != domain:
        raise RequestMalformed(f"This is to be signed for {domain}, and {path} was for {last.domain}.")
    if not any(last.signed_by(signer) for signer in signers):
        raise RequestMalformed(
            f"{path}: no key given here has signed that.", hint="Keep the last file that was signed here."
        )
    return last.bundle
