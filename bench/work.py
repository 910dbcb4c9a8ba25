"""What proof of work costs on this machine, by the bits that the schedule asks for (wire.md section 6)."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

from bench.table import number, render
from wws.identity import proof_of_work
from wws.identity.keys import Identity

BITS = (12, 14, 16, 18)


def run(count: int) -> dict[str, Any]:
    """Seconds of one core for each of `count` identities, by bits."""
    people = [Identity.from_label(f"worker{index}").peer_id.did for index in range(count)]
    seconds: dict[int, list[float]] = {}
    for bits in BITS:
        print(f"\rworking for {bits} bits …", end="", file=sys.stderr, flush=True)
        seconds[bits] = []
        for did in people:
            start = time.process_time()
            proof_of_work.solve("name:public:alice", did, bits)
            seconds[bits].append(time.process_time() - start)
    print(file=sys.stderr)
    return {"count": count, "seconds": seconds}


def table(results: dict[str, Any]) -> str:
    rows = []
    for bits, seconds in results["seconds"].items():
        values = sorted(seconds)
        mean = statistics.fmean(values)
        rate = 2 ** int(bits) / mean
        rows.append(
            [f"{bits} bits", number(mean, 3), number(statistics.median(values), 3),
             number(values[int(len(values) * 0.95)], 3), number(rate / 1000, 0)]
        )  # fmt: skip
    title = f"Proof of work, seconds of one core; {results['count']} identities each"
    return render(title, ["", "mean", "p50", "p95", "thousand hashes a second"], rows)
