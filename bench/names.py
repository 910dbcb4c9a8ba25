"""Names, with real processes: registered with three witnesses, resolved by another agent, and from memory.

`register` is one `swarm.register_name`: the look-up, the proof of work, two rounds to the witnesses, the put
and the look-up that confirms it. `resolve` is the first look-up by an agent that has never heard of the name,
`again` the same name a moment later; the way over the unix socket is part of each.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.mesh import Mesh, mesh, node_command, ready, running, until_joined
from bench.table import number, render
from wws import client

NAMES_EACH = 5
"""New names that an owner may claim in a day."""
AGAIN = 20


async def run(owners: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with mesh(Path(folder)) as there:
            times: dict[str, list[float]] = {"register": [], "resolve": [], "again": []}
            witnessed = 0
            for index in range(owners):
                print(f"\rowner {index + 1} of {owners} …", end="", file=sys.stderr, flush=True)
                witnessed += await _one_owner(there, index, times)
            print(file=sys.stderr)
            return {"conditions": there.place.conditions, "witnessed": witnessed, **times}


async def _one_owner(there: Mesh, index: int, times: dict[str, list[float]]) -> int:
    home, name = there.root / f"owner{index}", f"owner{index}"
    command = node_command(
        home, f"/ip4/{there.place.near_ip}/tcp/0", "--node", name,
        "--network", there.network, "--dns-server", there.dns,
    )  # fmt: skip
    witnessed = 0
    async with running(*there.place.near, *command):
        await ready(home, name)
        async with client.connect(home=home, node=name) as node:
            await until_joined(node)
            for number_ in range(NAMES_EACH):
                wanted = f"name-{index}-{number_}"
                start = time.perf_counter()
                registered = await node.register_name(wanted)
                times["register"].append(time.perf_counter() - start)
                witnessed += bool(registered["witnessed"])
                start = time.perf_counter()
                await there.observer.resolve(wanted)
                times["resolve"].append(time.perf_counter() - start)
                for _ in range(AGAIN):
                    start = time.perf_counter()
                    await there.observer.resolve(wanted)
                    times["again"].append(time.perf_counter() - start)
    return witnessed


def table(results: dict[str, Any]) -> str:
    rows = []
    for what in ("register", "resolve", "again"):
        values = sorted(results[what])
        p50, p95 = statistics.median(values), values[int(len(values) * 0.95)]
        rows.append(
            [what, str(len(values)), number(p50 * 1000), number(p95 * 1000), number(values[-1] * 1000)]
        )
    title = (
        f"Names, milliseconds; 3 bootstrap nodes are the witnesses, {results['conditions']}; "
        f"{results['witnessed']} of {len(results['register'])} witnessed"
    )
    return render(title, ["", "times", "p50", "p95", "longest"], rows)
