"""The local RPC: requests a second and p99 with 50 clients, each waiting for its answer before the next call.

One node without a network, on loopback. The clients are in another process, which shares the machine's cores
with the node. By socket and by TCP with the cookie; `get_identity` is the cheapest method there is, and
`get_status` the one that reads the most.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.mesh import ready, running
from bench.table import number, render

CLIENTS = 50
METHODS = ("swarm.get_identity", "swarm.get_status")


async def run(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        command = (
            sys.executable, "-m", "wws.runtime", "--home", str(home), "--node", "rpc", "--bootstrap-mode",
            "--listen", "/ip4/127.0.0.1/tcp/0", "--rpc", "127.0.0.1:0", "--http", "",
        )  # fmt: skip
        async with running(*command):
            await ready(home, "rpc")
            found = json.loads((home / "run" / "rpc" / "ready.json").read_text())
            cookie = (home / "run" / "rpc" / "rpc.cookie").read_text().strip()
            results = {}
            for way in ("socket", "tcp"):
                for method in METHODS:
                    call: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
                    if way == "tcp":
                        call["token"] = cookie
                    line = json.dumps(call).encode() + b"\n"
                    results[f"{way}, {method}"] = await _measure(found, way, line, seconds)
            return results


async def _measure(found: dict[str, str], way: str, line: bytes, seconds: float) -> list[float]:
    until = time.perf_counter() + seconds
    times: list[float] = []

    async def one_client() -> None:
        if way == "socket":
            reader, writer = await asyncio.open_unix_connection(found["socket"])
        else:
            host, _, port = found["rpc"].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
        while (start := time.perf_counter()) < until:
            writer.write(line)
            answer = await reader.readline()
            if b'"result"' not in answer:
                raise RuntimeError(f"the node answered {answer[:200]!r}")
            times.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
    return times


def table(results: dict[str, list[float]], seconds: float) -> str:
    rows = []
    for what, times in results.items():
        values = sorted(times)
        p50, p99 = values[len(values) // 2], values[int(len(values) * 0.99)]
        rows.append([what, number(len(values) / seconds, 0), number(p50 * 1000), number(p99 * 1000)])
    title = f"Local RPC, {CLIENTS} clients at once, each one call at a time"
    return render(title, ["", "requests/s", "p50 ms", "p99 ms"], rows)
