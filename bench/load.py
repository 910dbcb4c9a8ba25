"""The load: many honest peers of ours in one process, each with a key of its own, against one server.

    python -m bench.load '{"address": …, "peer_id": …, "pid": …, "steps": [100, 1000], "sequential": 200}'

Prints one JSON object. CPU and memory of the server are read from the operating system by its `pid`, so that
all implementations are measured alike. Sequential handshakes are timed end to end, both sides on one machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import statistics
import sys
import time
from typing import Any

import psutil
import uvloop

from bench.serve import OPEN_DOORS, SINK
from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.runtime.clock import SystemClock
from wws.runtime.connection import Connection
from wws.runtime.host import Host
from wws.runtime.identify_service import IdentifyConfig, IdentifyService
from wws.runtime.ping import PingConfig, PingService
from wws.runtime.quic_transport import QuicTransport

CHUNK = bytes(65536)
PARALLEL = 32


class Peer:
    """One honest client: it answers identify and ping like any other node."""

    def __init__(self, identity: Identity) -> None:
        self.host = Host(identity, OPEN_DOORS, clock=SystemClock(), rng=random.Random())
        IdentifyService(self.host, IdentifyConfig(), lambda: ())
        self.ping = PingService(self.host, PingConfig(), random.Random())
        self.quic: QuicTransport | None = None

    async def dial(self, server: PeerId, address: Multiaddr) -> Connection:
        if address.transport == "quic-v1":
            self.quic = self.quic or QuicTransport(self.host, self.host.identity)
            return await self.quic.dial(server, address)
        connection = self.host.new_outbound(server)
        await asyncio.get_running_loop().create_connection(
            lambda: connection, address.host, address.port or 0
        )
        await connection.established()
        return connection


class Load:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.server = PeerId.parse(settings["peer_id"])
        self.address = Multiaddr.parse(settings["address"])
        self.process = psutil.Process(settings["pid"])
        self.settings = settings
        self.held: list[tuple[Peer, Connection]] = []
        self.errors: list[str] = []

    def cpu(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    async def quiet(self) -> None:
        """Wait until the server has done what was asked of it: its CPU time stands still."""
        before = self.cpu()
        for _ in range(60):
            await asyncio.sleep(0.5)
            now = self.cpu()
            if now - before < 0.02:
                return
            before = now

    async def one(self, identity: Identity) -> tuple[Peer, Connection] | None:
        peer = Peer(identity)
        try:
            async with asyncio.timeout(60):
                connection = await peer.dial(self.server, self.address)
                await connection.wait_identified()
        except (WwsError, OSError, TimeoutError) as error:
            self.errors.append(f"{type(error).__name__}: {error}"[:200])
            return None
        return peer, connection

    async def sequential(self, count: int) -> float:
        """Handshakes a second, one after the other."""
        peers = [Peer(Identity.generate()) for _ in range(count)]
        if self.address.transport == "quic-v1":  # the client's certificate is made once in a node's life
            for peer in peers:
                peer.quic = QuicTransport(peer.host, peer.host.identity)
        start = time.perf_counter()
        connections = [await peer.dial(self.server, self.address) for peer in peers]
        elapsed = time.perf_counter() - start
        await self.quiet()
        for connection in connections:
            connection.close()
        await self.quiet()
        return count / elapsed

    async def grow_to(self, total: int) -> dict[str, float]:
        """Open connections until there are `total`: accepts a second, server CPU and memory for each."""
        wanted = [Identity.generate() for _ in range(total - len(self.held))]
        before, cpu, start = len(self.held), self.cpu(), time.perf_counter()
        todo = iter(wanted)

        async def worker() -> None:
            for identity in todo:
                if (pair := await self.one(identity)) is not None:
                    self.held.append(pair)

        await asyncio.gather(*(worker() for _ in range(PARALLEL)))
        elapsed = time.perf_counter() - start
        await self.quiet()
        opened = max(1, len(self.held) - before)
        return {
            "connections": len(self.held),
            "accepts_per_s": opened / elapsed,
            "cpu_ms_per_accept": (self.cpu() - cpu) * 1000 / opened,
            "rss_mb": self.process.memory_info().rss / 1e6,
        }

    async def idle_cpu(self, seconds: float) -> float:
        cpu = self.cpu()
        await asyncio.sleep(seconds)
        return (self.cpu() - cpu) / seconds * 100

    async def upload(self, peer: Peer, connection: Connection, megabytes: int) -> float:
        """MB/s on one stream, from the first byte to the server's count of all of them."""
        start = time.perf_counter()
        async with connection.open_stream(SINK) as stream:
            for _ in range(megabytes * 16):
                await stream.write(CHUNK)
            stream.close_write()
            answer = await stream.read_to_end(64)
        elapsed = time.perf_counter() - start
        if int(answer) != megabytes * (1 << 20):
            raise RuntimeError(f"the server counted {answer!r}")
        return megabytes * 1.048576 / elapsed

    async def run(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        warm = [await self.one(Identity.generate()) for _ in range(20)]
        for pair in warm:
            if pair is not None:
                pair[1].close()
        await self.quiet()
        result["sequential_per_s"] = await self.sequential(self.settings["sequential"])
        base = self.process.memory_info().rss / 1e6
        result["steps"] = [await self.grow_to(total) for total in self.settings["steps"]]
        last = result["steps"][-1]
        result["kb_per_connection"] = (last["rss_mb"] - base) * 1000 / max(1, last["connections"])
        result["idle_cpu_percent"] = await self.idle_cpu(5)
        peer, connection = self.held[0]
        for _ in range(50):
            await peer.ping.ping(connection)
        pings = sorted([await peer.ping.ping(connection) * 1000 for _ in range(1000)])
        result["ping_ms"] = {"p50": statistics.median(pings), "p99": pings[989]}
        size = self.settings.get("megabytes", 128)
        await self.upload(peer, connection, min(16, size))
        runs = [await self.upload(peer, connection, size) for _ in range(self.settings["uploads"])]
        result["upload_mb_s"] = {"median": statistics.median(runs), "all": runs}
        result["errors"] = len(self.errors)
        result["first_error"] = self.errors[:1]
        return result


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    settings = json.loads(sys.argv[1])

    async def go() -> None:
        print(json.dumps(await Load(settings).run()), flush=True)

    uvloop.run(go())


if __name__ == "__main__":
    main()
