"""The servers that are measured side by side: ours, js-libp2p, go-libp2p. Each a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.interop.peer import ForeignPeer, Implementation
from wws.addresses.multiaddr import Transport


@dataclass(frozen=True, slots=True)
class Server:
    """A server under load."""

    name: str
    address: str
    peer_id: str
    pid: int


@contextlib.asynccontextmanager
async def ours(transport: Transport = "tcp") -> AsyncIterator[Server]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.serve",
        transport,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        ready = json.loads(await process.stdout.readline())
        yield Server("wws", ready["address"], ready["peer_id"], process.pid)
    finally:
        process.stdin.close()
        await process.wait()


@contextlib.asynccontextmanager
async def foreign(name: str, transport: Transport = "tcp") -> AsyncIterator[Server]:
    """`js` or `go`, as tests/interop builds it, without a DHT: what is measured is the connection."""
    implementation: Implementation = "js" if name == "js" else "go"
    port = "udp/0/quic-v1" if transport == "quic-v1" else "tcp/0"
    async with ForeignPeer.start(
        implementation,
        dht_protocol=None,
        monitor=False,
        quic=transport == "quic-v1",
        listen=[f"/ip4/127.0.0.1/{port}"],
    ) as peer:
        yield Server(name, peer.address, peer.peer_id, peer.pid)
