"""`wws-dns keygen`: a publisher key. It decides whom a network trusts; DNS may be elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from agent_cli import text
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result
from wws.codec import base64
from wws.discovery.publishers import key_id, parse_domain
from wws.runtime.keyfile import KeyExists, create, load


def register(app: typer.Typer) -> None:
    command(
        app,
        keygen,
        examples=(
            "wws-dns keygen publisher.key --domain example.org",
            "wws-dns keygen publisher.key --show --json",
        ),
    )


def keygen(
    options: Options,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where the key is to lie.")] = "publisher.key",
    show: Annotated[bool, typer.Option("--show", help="Show the key that is there; make none.")] = False,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="DOMAIN", help="Also say what to join the network with.")
    ] = None,
) -> Result:
    """Make a publisher key, mode 0600; one that is there is never replaced.

    Make two, on two machines: with one alone lost or stolen, nobody can follow to a new one.
    """
    path = Path(file).expanduser()
    named = None if domain is None else parse_domain(domain)
    try:
        identity = load(path, os.environ) if show else create(path)
    except KeyExists as error:
        raise KeyExists(
            str(error),
            hint=f"Show its public half: wws-dns keygen {path} --show. Another: name another file.",
        ) from None
    public = identity.public_key
    url = base64.encode_url(public)
    network = None if named is None else f"{named}#{url}"
    data = {
        "path": str(path),
        "made": not show,
        "public_key": public.hex(),
        "public_key_base64url": url,
        "key_id": key_id(public),
        "network": network,
    }
    shown = text.pairs(
        [
            ("key file", path),
            ("public key", public.hex()),
            ("key id", key_id(public)),
            ("join with", None if network is None else f"wws join --network '{network}'"),
        ]
    )
    notes = (
        () if show else ("Keep a copy of the key file where only you get at it; it cannot be made again.",)
    )
    return Result(data, shown, notes=notes)
