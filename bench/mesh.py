"""A mesh of real processes to measure in: three bootstrap nodes, a DNS server for them, and an observer.

With root the agents stand behind a link of 80 ms round trip and 1 % loss in a network namespace of their own
(bootstrap nodes and DNS on the far side); without, everything is on loopback, and the figures say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.slow_link import slow_link
from wws import client
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.network import Network
from wws.discovery.publishers import PublisherKey
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.runtime import keyfile

DOMAIN = "bench.wws.test"
DELAY, LOSS = 0.04, 0.01
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
class Mesh:
    """What runs there."""

    place: Ground
    root: Path
    dns: str
    """The DNS server, as `--dns-server` takes it."""
    network: str
    """The network by its domain and publisher key."""
    pinned: Path
    """A network file that pins the bootstrap nodes."""
    observer: client.Client


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
async def running(
    *command: str, stdin: int | None = None, variables: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **(variables or {})},
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


@contextlib.asynccontextmanager
async def mesh(root: Path) -> AsyncIterator[Mesh]:
    """Three bootstrap nodes and an observer that has joined, until the end of the block."""
    with ground() as place:
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
                    (PublisherKey(publisher.public_key),),
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
                # All agents of the mesh come from one /24, which may claim twenty names a day.
                crowd = {"WWS_LIMITS_WITNESS_NAMES_PER_PREFIX_DAY": "10000"}
                await stack.enter_async_context(running(*place.far, *command, variables=crowd))
                await ready(home, "bootstrap")
            observer_home = root / "observer"
            command = node_command(
                observer_home, f"/ip4/{place.near_ip}/tcp/0", "--network", network, "--dns-server", dns
            )
            await stack.enter_async_context(running(*place.near, *command))
            await ready(observer_home, "default")
            observer = await stack.enter_async_context(client.connect(home=observer_home, node="default"))
            await until_joined(observer)
            yield Mesh(place, root, dns, network, pinned, observer)
