"""QUIC: what a server of ours costs and gives beside js and go, under our clients and under go's."""

from __future__ import annotations

import statistics
import sys
from typing import Any

from bench import connections
from bench.servers import foreign, ours
from bench.table import number, render
from tests.interop.peer import SINK, ForeignPeer


async def run(steps: list[int], sequential: int, uploads: int, megabytes: int) -> dict[str, Any]:
    """All figures by implementation of the server."""
    results: dict[str, Any] = {}
    for name in connections.NAMES:
        start = ours("quic-v1") if name == "wws" else foreign(name, "quic-v1")
        async with start as server:
            print(f"measuring {name} over QUIC …", file=sys.stderr, flush=True)
            found = await connections.measure(server, steps, sequential, uploads, megabytes=megabytes)
            address = server.address
            if "/p2p/" not in address:
                address += f"/p2p/{server.peer_id}"
            async with ForeignPeer.start("go", dht_protocol=None, quic=True, listen=[]) as client:
                found["go_client"] = await _by_go(client, address, server.peer_id, sequential, uploads)
            results[name] = found
    return results


async def _by_go(
    client: ForeignPeer, address: str, peer_id: str, sequential: int, uploads: int
) -> dict[str, float]:
    """The same server under a client that costs less than it."""
    dialled = await client.dial_many(address, sequential)
    await client.dial(address)
    size = 32 * 1024 * 1024
    await client.upload(peer_id, size, protocol=SINK)
    rates = []
    for _ in range(uploads):
        _, seconds = await client.upload(peer_id, size, protocol=SINK)
        rates.append(size / seconds / 1e6)
    return {"sequential_per_s": dialled.rate, "upload_mb_s": statistics.median(rates)}


def table(results: dict[str, Any]) -> str:
    """The tables of `run`."""
    first = connections.table(
        results,
        stack="QUIC v1 + identify",
        title="QUIC (every client is ours, on the same machine)",
    )
    names = [name for name in connections.NAMES if name in results]
    rows = [
        ["handshakes/s, one after the other", "sequential_per_s", 0],
        ["upload MB/s, one stream", "upload_mb_s", 1],
    ]
    second = render(
        "QUIC (the client is go)",
        ["QUIC v1 + identify", *names],
        [
            [str(title), *(number(results[name]["go_client"][key], int(digits)) for name in names)]
            for title, key, digits in rows
        ],
    )
    return first + "\n" + second
