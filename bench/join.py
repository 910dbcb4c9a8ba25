"""Joining, with real processes: three bootstrap nodes, a DNS server, one agent after the other.

With root the agents stand behind a link of 80 ms round trip and 1 % loss in a network namespace of their own
(bootstrap nodes and DNS on the far side); without, everything is on loopback, and the table says so. Times
begin when the node's process begins, so they hold Python's start, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.table import number, render
from tests.lab.slow_link import slow_link
from wws import client
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.network import Network
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.runtime import keyfile

DOMAIN = "bench.wws.test"
DELAY, LOSS = 0.04, 0.01
SOURCES = ("dns", "pinned", "cache")
POLL = 0.01


@dataclass(slots=True)
class Ground:
    """Where the parties run."""

    near: list[str]
    """Command prefix for the agents."""
    far: list[str]
    """Command prefix for bootstrap nodes and DNS."""
    far_ip: str
    near_ip: str
    conditions: str


@dataclass(slots=True)
class Times:
    started: list[float] = field(default_factory=list)
    """Process start to open listeners."""
    first_peer: list[float] = field(default_factory=list)
    """Open listeners to joined."""
    resolvable: list[float] = field(default_factory=list)
    """Process start to resolved by another agent."""


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    if os.geteuid() == 0 and shutil.which("ip") and os.path.exists("/dev/net/tun"):
        with slow_link(delay=DELAY, loss=LOSS) as link:
            near, far = link.addresses
            conditions = f"{DELAY * 2000:.0f} ms round trip, {LOSS:.0%} loss each way"
            yield Ground(link.inside(0), link.inside(1), far, near, conditions)
    else:
        yield Ground([], [], "127.0.0.1", "127.0.0.1", "loopback without delay: no root here")


@contextlib.asynccontextmanager
async def running(*command: str, stdin: int | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def node_command(home: Path, listen: str, *more: str) -> list[str]:
    quiet = ("--rpc", "", "--http", "")
    return [sys.executable, "-m", "wws.runtime", "--home", str(home), "--listen", listen, *quiet, *more]


async def ready(home: Path, node: str) -> None:
    path = home / "run" / node / "ready.json"
    for _ in range(3000):
        await asyncio.sleep(POLL)  # another process writes it: there is nothing to wait on
        if path.exists():
            return
    raise RuntimeError(f"{node} did not come up")


async def until_joined(node: client.Client) -> None:
    while not (await node.status())["joined"]:  # noqa: ASYNC110 - another process decides
        await asyncio.sleep(POLL)


async def until_resolved(node: client.Client, name: str) -> None:
    while True:
        try:
            await node.resolve(name)
        except WwsError:
            await asyncio.sleep(POLL)
        else:
            return


async def one_agent(
    place: Ground, home: Path, name: str, network: str, dns: str, observer: client.Client, times: Times
) -> None:
    """Start an agent, and time how it comes in. Its home stays, with what it remembers."""
    start = time.perf_counter()
    listen = f"/ip4/{place.near_ip}/tcp/0"
    command = node_command(home, listen, "--name", name, "--network", network, "--dns-server", dns)
    async with running(*place.near, *command):
        await ready(home, name)
        listening = time.perf_counter()
        async with client.connect(home=home, node=name) as node:
            await until_joined(node)
            joined = time.perf_counter()
            await until_resolved(observer, name)
            resolved = time.perf_counter()
    times.started.append(listening - start)
    times.first_peer.append(joined - listening)
    times.resolvable.append(resolved - start)


async def run(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, ground() as place:
        root = Path(folder)
        publisher = Identity.generate()
        bootstraps: list[PeerId] = []
        async with contextlib.AsyncExitStack() as stack:
            keys = []
            for index in range(3):
                key = root / f"boot{index}.key"
                bootstraps.append(keyfile.create(key).peer_id)
                keys.append(key)
            entries = tuple(BundleEntry(peer, place.far_ip, 9001 + n) for n, peer in enumerate(bootstraps))
            now = int(time.time())
            bundle = Bundle(now, now - 60, now + 86_400, None, entries).sign(DOMAIN, [publisher])
            zone = root / "zone.json"
            zone.write_text(json.dumps({f"_wws-bundle._tcp.{DOMAIN}": {"TXT": [bundle.text]}}))
            serve = (sys.executable, "-m", "wws.testing.dns_server", "--zone", str(zone))
            dns_process = await stack.enter_async_context(running(*place.far, *serve, "--host", place.far_ip))
            assert dns_process.stdout is not None
            line = json.loads(await dns_process.stdout.readline())
            dns = f"{place.far_ip}:{line['port']}"
            network = f"{DOMAIN}#{publisher.public_key.hex()}"
            pinned = root / "network.json"
            pinned.write_bytes(
                Network(
                    "bench",
                    DOMAIN,
                    (publisher.public_key,),
                    tuple(
                        Multiaddr.of(place.far_ip, 9001 + n, "tcp", peer) for n, peer in enumerate(bootstraps)
                    ),
                    issued_at=now,
                ).to_file([publisher])
            )
            for index, key in enumerate(keys):
                home = root / f"b{index}"
                command = node_command(
                    home, f"/ip4/{place.far_ip}/tcp/{9001 + index}", "--bootstrap-mode",
                    "--identity-path", str(key), "--network", network, "--dns-server", dns,
                )  # fmt: skip
                await stack.enter_async_context(running(*place.far, *command))
                await ready(home, "bootstrap")
            observer_home = root / "observer"
            command = node_command(
                observer_home, f"/ip4/{place.near_ip}/tcp/0", "--network", network, "--dns-server", dns
            )
            await stack.enter_async_context(running(*place.near, *command))
            await ready(observer_home, "default")
            observer = await stack.enter_async_context(client.connect(home=observer_home, node="default"))
            await until_joined(observer)
            results = {source: Times() for source in SOURCES}
            dead = f"{place.far_ip}:1"
            for index in range(count):
                print(f"\rjoining {index + 1} of {count} …", end="", file=sys.stderr, flush=True)
                home = root / f"agent{index}"
                for source, net, server in (
                    ("dns", network, dns),
                    ("cache", network, dead),
                    ("pinned", str(pinned), dead),
                ):
                    if source == "pinned":
                        home = root / f"pinned{index}"
                    name = f"{'pinned' if source == 'pinned' else 'agent'}{index}"
                    await one_agent(place, home, name, net, server, observer, results[source])
            print(file=sys.stderr)
        return {
            "count": count,
            "conditions": place.conditions,
            "sources": {
                source: {
                    "started": times.started,
                    "first_peer": times.first_peer,
                    "resolvable": times.resolvable,
                }
                for source, times in results.items()
            },
        }


def table(results: dict[str, Any]) -> str:
    rows = []
    for source, times in results["sources"].items():
        row = [source]
        for what in ("started", "first_peer", "resolvable"):
            values = sorted(times[what])
            row += [number(statistics.median(values), 2), number(values[int(len(values) * 0.95)], 2)]
        rows.append(row)
    heads = [
        "source", "listening p50", "p95", "first peer p50", "p95", "start to resolvable p50", "p95",
    ]  # fmt: skip
    title = (
        f"Joining, seconds; {results['count']} times each; 3 bootstrap nodes, {results['conditions']}; "
        "`first peer` counts from open listeners, `resolvable` from the start of the process"
    )
    return render(title, heads, rows)
