"""Joining, with real processes, one agent after the other.

Times begin when the node's process begins, so they hold Python's start, too.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.mesh import Ground, mesh, node_command, ready, running, until_joined, until_resolved
from bench.table import number, render
from wws import client

SOURCES = ("dns", "pinned", "cache")


@dataclass(slots=True)
class Times:
    started: list[float] = field(default_factory=list)
    """Process start to open listeners."""
    first_peer: list[float] = field(default_factory=list)
    """Open listeners to joined."""
    resolvable: list[float] = field(default_factory=list)
    """Process start to resolved by another agent."""


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
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        async with mesh(root) as there:
            place, dns, network, pinned = there.place, there.dns, there.network, there.pinned
            dead = f"{place.far_ip}:1"
            results = {source: Times() for source in SOURCES}
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
                    await one_agent(place, home, name, net, server, there.observer, results[source])
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
