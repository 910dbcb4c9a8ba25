"""`wws-ops probe`: is a node well, as seen by somebody who has never met it?

Exit codes: 0 all is well, 5 no connection over TCP or QUIC, 7 the node is there and does not do its work,
8 somebody else answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

import typer

from agent_cli import text
from agent_cli.compose import home_of
from agent_cli.ops.probing import CHECKS, CheckName, Findings, Target, probe
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Problem, Result, WrongUsage
from wws.addresses.multiaddr import Multiaddr
from wws.config.records import NodeConfig
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws.rpc.codes import Exit
from wws.runtime.network_choice import choose_network
from wws.runtime.state_files import NetworkFiles

MAX_ADDRESSES = 16


def register(app: typer.Typer) -> None:
    command(
        app,
        probe_node,
        name="probe",
        examples=(
            "wws-ops probe --address /ip4/192.0.2.1/tcp/9000 --peer-id 12D3KooW…",
            "wws-ops probe --address /ip4/192.0.2.1/udp/9000/quic-v1/p2p/12D3KooW… --retry --json",
        ),
    )


def probe_node(
    options: Options,
    address: Annotated[
        list[str],
        typer.Option("--address", metavar="MULTIADDR", help="Where it is; repeat it: all must lead to it."),
    ],
    peer_id: Annotated[
        str | None, typer.Option("--peer-id", metavar="PEERID", help="Who must answer there.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option("--network", metavar="NET", help="Its network: a domain, DOMAIN#KEY, or a file."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="URL", help="Read its metrics, too: http://IP:PORT/metrics"),
    ] = None,
    expect_version: Annotated[
        str | None, typer.Option("--expect-version", metavar="VERSION", help="The version that must answer.")
    ] = None,
    dns_server: Annotated[
        list[str] | None,
        typer.Option("--dns-server", metavar="IP[:PORT]", help="Ask this server for names in addresses."),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="CHECK", help=f"Leave out: {', '.join(CHECKS)}.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again until all is well, or the time is over.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, max=600, metavar="S", help="Seconds for all of it.")
    ] = 20.0,
) -> Result:
    """Do with a node what an agent does, from here: dial it, reserve a slot, put a record and get it.

    A node of its own with a new key does it; nothing on this machine is read or written. Exit code 0 when
    all is well, 5 when it cannot be reached, 7 when it does not do its work, 8 when somebody else answers.
    """
    target = _target(options, address, peer_id, network, metrics, expect_version, dns_server or [])
    left_out = frozenset(_check(name) for name in skip or [])
    with progress(options, f"Looking at {target.peer_id}…"):
        found = asyncio.run(probe(target, timeout=timeout, retry=retry, skip=left_out))
    return result_of(found)


def result_of(found: Findings) -> Result:
    """One line a check, errors for those that failed, and the exit code."""
    rows = [
        (
            check.name,
            {True: "ok", False: "FAILED", None: "-"}[check.ok],
            text.milliseconds(check.seconds * 1000) if check.seconds else "-",
            check.message,
        )
        for check in found.checks
    ]
    data = {
        "peer_id": str(found.target.peer_id),
        "healthy": found.is_healthy,
        "agent": found.agent,
        "attempts": found.attempts,
        "duration_ms": round(found.seconds * 1000, 1),
        "checks": [
            {
                "check": check.name,
                "ok": check.ok,
                "address": check.address or None,
                "duration_ms": round(check.seconds * 1000, 1),
                "code": check.code or None,
                "message": check.message,
            }
            for check in found.checks
        ],
    }
    problems = tuple(
        Problem(
            check.code, f"{check.name}: {check.message}" + (f" ({check.address})" if check.address else "")
        )
        for check in found.failed
    )
    if not problems and not found.is_healthy:
        problems = (Problem("nothing_checked", "Nothing was checked."),)
    return Result(data, text.table(("check", "", "took", ""), rows), errors=problems, exit_code=_exit(found))


def _exit(found: Findings) -> Exit:
    failed = {check.name for check in found.failed}
    if found.is_healthy:
        return Exit.DONE
    if "peer_id" in failed:
        return Exit.INTEGRITY
    return Exit.UNREACHABLE if failed & {"tcp", "quic"} else Exit.REFUSED


def _target(
    options: Options,
    addresses: list[str],
    peer_id: str | None,
    network: str | None,
    metrics: str | None,
    version: str | None,
    dns_servers: list[str],
) -> Target:
    if len(addresses) > MAX_ADDRESSES:
        raise WrongUsage(f"At most {MAX_ADDRESSES} addresses.")
    try:
        parsed = [Multiaddr.parse(one) for one in addresses]
        named = {one.peer_id for one in parsed if one.peer_id is not None}
    except ParseError as error:
        raise WrongUsage(f"--address: {error}.") from None
    try:
        if peer_id is not None:
            named.add(PeerId.parse(peer_id))
    except ParseError as error:
        raise WrongUsage(f"--peer-id {peer_id!r:.80}: {error}.") from None
    if len(named) != 1:
        what = "The addresses name several peers." if named else "Which peer must answer is not said."
        raise WrongUsage(what, hint="Say it once: --peer-id PEERID")
    for one in parsed:
        if one.is_circuit or one.transport is None:
            raise WrongUsage(f"{one} is no address over TCP or QUIC.")
    if metrics is not None and not _is_plain_http(metrics):
        raise WrongUsage(
            f"{metrics[:200]!r} is no URL of metrics.", hint="Write it like: http://127.0.0.1:9371/metrics"
        )
    for server in dns_servers:
        _check_server(server)
    protocol = None
    if network is not None:
        files = NetworkFiles(home_of(options))
        protocol = choose_network(network, NodeConfig(), files, allow_unsigned=True).network.protocol_id
    return Target(
        next(iter(named)),
        tuple(one.without_peer() for one in parsed),
        network=protocol,
        metrics=metrics,
        version=version,
        dns_servers=tuple(dns_servers),
    )


def _check(name: str) -> CheckName:
    if name not in CHECKS:
        raise WrongUsage(f"There is no check {name[:40]!r}.", hint=f"There are: {', '.join(CHECKS)}.")
    return name


def _check_server(text_of: str) -> None:
    host, _, port = (
        text_of.rpartition(":") if text_of.count(":") == 1 or "]:" in text_of else (text_of, "", "53")
    )
    try:
        ipaddress.ip_address(host.strip("[]"))
        if not 0 < int(port) < 65_536:
            raise ValueError(port)
    except ValueError:
        raise WrongUsage(f"{text_of[:80]!r} is no DNS server.", hint="Write it like: 192.0.2.1:53") from None


def _is_plain_http(url: str) -> bool:
    try:
        place = urlsplit(url)
        return place.scheme == "http" and bool(place.hostname) and (place.port is None or place.port > 0)
    except ValueError:
        return False
