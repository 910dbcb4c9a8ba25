"""Handshakes, memory, CPU, upload and ping of a server under load: ours, js, go, by the same clients."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from bench.servers import Server, foreign, ours
from bench.table import number, render

NAMES = ("wws", "js", "go")


async def measure(
    server: Server, steps: list[int], sequential: int, uploads: int, *, megabytes: int = 128
) -> dict[str, Any]:
    settings = {
        "address": server.address,
        "peer_id": server.peer_id,
        "pid": server.pid,
        "steps": steps,
        "sequential": sequential,
        "uploads": uploads,
        "megabytes": megabytes,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", json.dumps(settings), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load on {server.name} failed")
    result: dict[str, Any] = json.loads(out)
    return result


async def run(steps: list[int], foreign_steps: list[int], sequential: int, uploads: int) -> dict[str, Any]:
    """All figures by implementation; a foreign one that was not built is left out, and said."""
    results: dict[str, Any] = {}
    for name in NAMES:
        start = ours() if name == "wws" else foreign(name)
        async with start as server:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            results[name] = await measure(
                server, steps if name == "wws" else foreign_steps, sequential, uploads
            )
    return results


def table(
    results: dict[str, Any],
    *,
    stack: str = "TCP + Noise + yamux + identify",
    title: str = "Connections (every client is ours, on the same machine)",
) -> str:
    names = [name for name in NAMES if name in results]
    rows: list[list[str]] = []

    def row(title: str, value: Callable[[dict[str, Any]], str]) -> None:
        cells = []
        for name in names:
            try:
                cells.append(value(results[name]))
            except (KeyError, IndexError, StopIteration):
                cells.append("-")
        rows.append([title, *cells])

    row("handshakes/s, one after the other", lambda r: number(r["sequential_per_s"], 0))
    totals = sorted({step["connections"] for result in results.values() for step in result["steps"]})
    for total in totals:

        def at(result: dict[str, Any], key: str, digits: int, total: int = total) -> str:
            return number(next(s for s in result["steps"] if s["connections"] == total)[key], digits)

        row(f"accepts/s up to {total:,}", lambda r, at=at: at(r, "accepts_per_s", 0))
        row(f"CPU ms an accept up to {total:,}", lambda r, at=at: at(r, "cpu_ms_per_accept", 2))
        row(f"resident MB at {total:,}", lambda r, at=at: at(r, "rss_mb", 0))
    row("kB a connection", lambda r: number(r["kb_per_connection"]))
    row("idle CPU % with all of them", lambda r: number(r["idle_cpu_percent"]))
    row("upload MB/s, one stream", lambda r: number(r["upload_mb_s"]["median"], 0))
    row("ping ms p50", lambda r: number(r["ping_ms"]["p50"], 3))
    row("ping ms p99", lambda r: number(r["ping_ms"]["p99"], 3))
    row("errors", lambda r: str(r["errors"]))
    heads = [stack, *names]
    if "go" in results and "wws" in results:
        heads.append("wws/go")
        for cells in rows:
            cells.append(_ratio(cells, names))
    return render(title, heads, rows)


def _ratio(cells: list[str], names: list[str]) -> str:
    try:
        own = float(cells[1 + names.index("wws")].replace(",", ""))
        other = float(cells[1 + names.index("go")].replace(",", ""))
        return f"{own / other:.2f}"
    except (ValueError, ZeroDivisionError):
        return "-"
