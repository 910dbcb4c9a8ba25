"""`wws-dns publish`: make DNS serve what is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage
from wws.discovery.bundle import Bundle
from wws_dns.plan import Plan, day
from wws_dns.publishing import Published, Publisher
from wws_dns.signing import RequestMalformed, SigningRequest, parse_request
from wws_dns.workspace import (
    ForceOption,
    HistoryOption,
    InventoryOption,
    KeyOption,
    RecordsOption,
    open_workspace,
    read_bounded,
)

SignedOption: TypeAlias = Annotated[
    str | None, typer.Option("--signed", metavar="FILE", help="Take the bundle that was signed elsewhere.")
]


def register(app: typer.Typer) -> None:
    command(
        app,
        publish,
        examples=(
            "wws-dns publish --key publisher.key",
            "wws-dns publish --signed signed.json",
            "wws-dns publish --prepare",
        ),
    )


def publish(
    options: Options,
    records: RecordsOption = None,
    inventory: InventoryOption = None,
    key: KeyOption = None,
    signed: SignedOption = None,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Only let resolvers keep records for 60 s, ahead of a change."),
    ] = False,
    history: HistoryOption = None,
    force_unsafe: ForceOption = False,
) -> Result:
    """Change DNS to what is wanted, and see that the authority serves it.

    Run twice, it changes nothing. What is unsafe is refused (exit code 7); look first with: wws-dns plan
    """
    if prepare and signed:
        raise WrongUsage("--prepare signs nothing; give one of --prepare and --signed.")
    work = open_workspace(
        records, inventory=inventory, keys=key, history=history, signs_here=signed is None and not prepare
    )
    publisher = work.publisher()
    if prepare:
        made = publisher.prepare(work.desired, work.signers)
    else:
        made = publisher.plan(work.desired, work.signers, signed=read_signed(signed, work.desired.domain))
    return carry_out(publisher, made, force_unsafe=force_unsafe)


def carry_out(publisher: Publisher, made: Plan, *, force_unsafe: bool) -> Result:
    """Publish a plan, and say so."""
    done = publisher.publish(made, force_unsafe=force_unsafe)
    forced = f"Forced: {', '.join(one.code for one in made.unsafe)}." if made.unsafe else ""
    lines = [made.render(), "", _told(done, publisher.provider.name), forced]
    return Result({**made.to_json(), **published_json(done)}, "\n".join(lines).rstrip())


def published_json(done: Published) -> dict[str, object]:
    """What is served now, for programs."""
    return {"changed": done.changed, "seq": done.seq, "expires_at": done.expires_at, "text": done.text}


def read_signed(path: str | None, domain: str) -> Bundle | None:
    """The signed bundle in a file. Raises `RequestMalformed` where it is not signed, or of another domain."""
    if path is None:
        return None
    request: SigningRequest = parse_request(read_bounded(Path(path), RequestMalformed))
    if request.domain != domain:
        raise RequestMalformed(f"{path} is of {request.domain}, not of {domain}.")
    if not request.is_signed:
        raise RequestMalformed(
            f"Nobody has signed {path}.", hint=f"On the machine with the key: wws-dns sign {path} --key FILE"
        )
    return request.bundle


def _told(done: Published, provider: str) -> str:
    if done.seq is None:
        return f"Nothing of ours is served by {provider} any more."
    word = "serves now" if done.changed else "serves already"
    return f"{provider} {word} bundle {done.seq}, which holds until {day(done.expires_at or 0)}."
