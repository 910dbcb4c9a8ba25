"""`wws-dns verify`: is the right thing served, by everybody, and do the nodes answer?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage
from wws.discovery.network import MAX_FILE, Network, NetworkFile, parse_net_argument, parse_network_file
from wws.discovery.publishers import PublisherKey
from wws.errors import LocalError, ParseError
from wws.rpc.codes import Exit
from wws.runtime.dns_exchange import parse_server, server_text
from wws_dns.asking import AskingConfig
from wws_dns.authority import find_authority
from wws_dns.dialling import Dialled, dial_all
from wws_dns.findings import Report, Server, VerifyConfig
from wws_dns.findings_report import result_of
from wws_dns.history import Publication
from wws_dns.old_clients import keys_now
from wws_dns.textfile import Metrics, TextfileOption, write_textfile
from wws_dns.verify import verify as verify_records
from wws_dns.workspace import HistoryOption, RecordsOption, open_workspace, read_bounded

RESOLVERS_VARIABLE: Final = "WWS_DNS_RESOLVERS"
"""Where the environment names resolvers: IP[:PORT], separated by commas."""
LEAST_RESOLVERS: Final = 3
MAX_SERVERS: Final = 32
MAX_PUBLISHED: Final = 64
"""Most bundles that are known as our own when a resolver still has one."""


class NoNetworkFile(LocalError):
    """There is no such network file."""

    code = "no_network_file"
    exit_code = Exit.USAGE


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose records are looked at, and what is known of them."""

    domain: str
    keys: tuple[PublisherKey, ...]
    published: tuple[Publication, ...] = ()
    """What was published from here lately, the last one last."""
    resolvers: tuple[str, ...] = ()
    """Those that the records file names."""
    authorities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    subject: Subject
    resolvers: tuple[tuple[str, int], ...]
    authorities: tuple[tuple[str, int], ...]
    dials: bool
    config: VerifyConfig


def register(app: typer.Typer) -> None:
    command(
        app,
        verify,
        examples=(
            "wws-dns verify --resolver 1.1.1.1 --resolver 8.8.8.8 --resolver 9.9.9.9",
            "wws-dns verify 'example.org#<publisher key>' --dial --strict --json",
            "wws-dns verify --authority 127.0.0.1:5300 --least-resolvers 0 --dial",
        ),
    )


def verify(
    options: Options,
    net: Annotated[
        str | None,
        typer.Argument(metavar="[NET]", help="<domain>#<key>, or a network.json (that of the records file)."),
    ] = None,
    records: RecordsOption = None,
    history: HistoryOption = None,
    resolver: Annotated[
        list[str] | None,
        typer.Option("--resolver", metavar="IP[:PORT]", help="A resolver; repeat ($WWS_DNS_RESOLVERS)."),
    ] = None,
    authority: Annotated[
        list[str] | None,
        typer.Option(
            "--authority", metavar="IP[:PORT]", help="A name server to ask (those that the resolvers know)."
        ),
    ] = None,
    least_resolvers: Annotated[
        int, typer.Option("--least-resolvers", min=0, max=MAX_SERVERS, help="Resolvers that must be named.")
    ] = LEAST_RESOLVERS,
    dial: Annotated[bool, typer.Option("--dial", help="Dial every node, over TCP and QUIC.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for warnings, too.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=60.0, help="Seconds to wait for an answer.")
    ] = 3.0,
    textfile: TextfileOption = None,
) -> Result:
    """Ask the zone's name servers and at least three resolvers, over UDP, EDNS and TCP, and compare.

    Signatures, sizes, times to live and the end of the bundle are checked; who serves something else is
    named. Exit codes: 0 all is well, 4 nothing is published, 5 somebody cannot be asked or dialled, 8 what
    is served is wrong somewhere. Fourteen days before its end the bundle is warned of.
    """
    subject = _subject(net, records, history)
    named = (resolver or [], os.environ.get(RESOLVERS_VARIABLE, "").split(","), subject.resolvers)
    resolvers = _resolvers(named, least_resolvers)
    asked = Asked(
        subject,
        resolvers,
        parse_servers(authority or subject.authorities),
        dial,
        VerifyConfig(asking=AskingConfig(timeout=timeout)),
    )
    if not resolvers and not asked.authorities:
        raise WrongUsage("Nobody is named who could be asked.", hint="Give --authority or --resolver.")
    report, dialled = look(asked)
    unix_now = int(time.time())
    result = result_of(report, dialled, unix_now, strict=strict)
    if textfile is not None:
        write_textfile(
            Path(textfile),
            Metrics(
                report.domain,
                "verify",
                unix_now,
                not result.errors,
                report.bundle,
                warnings=sum(one.severity == "warning" for one in report.findings),
                errors=len(report.errors) + sum(not one.is_ok for one in dialled),
            ),
        )
    return result


def _subject(net: str | None, records: str | None, history: str | None) -> Subject:
    """What is looked at: NET, else what the records file and the history say. Reads no key."""
    if net is not None:
        named = parse_net_argument(net)
        if isinstance(named, NetworkFile):
            named = parse_network_file(read_bounded(Path(named.path), NoNetworkFile, most=MAX_FILE))
        if not isinstance(named, Network) or not named.publishers:
            raise WrongUsage(f"{net[:80]!r} names no publisher key.", hint="Write <domain>#<key>.")
        return Subject(named.domain, named.publishers)
    work = open_workspace(records, history=history, with_keys=False)
    keys = keys_now(work.history) or work.desired.keys
    if not keys:
        raise WrongUsage(
            f"No publisher key of {work.desired.domain} is known here: nothing was published from here yet.",
            hint=f"Name it: wws-dns verify '{work.desired.domain}#<key>'",
        )
    return Subject(
        work.desired.domain,
        keys,
        work.history.published[-MAX_PUBLISHED:],
        work.records.resolvers,
        work.records.authorities,
    )


def look(asked: Asked) -> tuple[Report, tuple[Dialled, ...]]:
    """Ask everybody, and dial the nodes where that is wanted."""
    return asyncio.run(_look(asked))


async def _look(asked: Asked) -> tuple[Report, tuple[Dialled, ...]]:
    names: dict[tuple[str, int], str] = dict.fromkeys(asked.authorities, "")
    if not names:
        found = await find_authority(asked.subject.domain, asked.resolvers, asked.config.asking)
        names = dict(found.servers)
    servers = [Server(address, "authority", name) for address, name in names.items()]
    servers += [Server(address, "resolver") for address in asked.resolvers]
    subject = asked.subject
    report = await verify_records(
        subject.domain,
        subject.keys,
        servers,
        int(time.time()),
        asked.config,
        former=[one.bundle.text for one in subject.published[:-1]],
        published_at={one.bundle.seq: one.at for one in subject.published},
    )
    dialled: tuple[Dialled, ...] = ()
    if asked.dials and report.bundle is not None:
        # The word of the authority on where its hosts are, not that of a resolver that may lie.
        own = [server_text(address) for address in asked.authorities]
        dialled = await dial_all(report.bundle, own)
    return report, dialled


def parse_servers(given: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Servers as they are typed, each once. Raises `WrongUsage`."""
    try:
        servers = tuple(dict.fromkeys(parse_server(word.strip()) for word in given if word.strip()))
    except ParseError as error:
        raise WrongUsage(str(error)) from None
    if len(servers) > MAX_SERVERS:
        raise WrongUsage(f"{len(servers)} servers; at most {MAX_SERVERS} are asked.")
    return servers


def _resolvers(named: Sequence[Sequence[str]], least: int) -> tuple[tuple[str, int], ...]:
    """The first of several lists that names any. Raises `WrongUsage` for fewer than `least`."""
    resolvers = next((found for one in named if (found := parse_servers(one))), ())
    if len(resolvers) < least:
        raise WrongUsage(
            f"{len(resolvers)} resolvers are named, and it takes {least} to see who of them is wrong.",
            hint="Name those that your users have: --resolver IP[:PORT], again and again, or resolvers = […] "
            "in the records file. Public ones are 1.1.1.1, 8.8.8.8 and 9.9.9.9. Where there are none, as in "
            "the stack local: --least-resolvers 0",
        )
    return resolvers
