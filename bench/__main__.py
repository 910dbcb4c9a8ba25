"""`python -m bench [--quick] [--json FILE] [SECTION …]`: sections: see `SECTIONS`."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from bench import connections, join, names, nat, quic, rpc, simulated, work

SECTIONS = ("connections", "quic", "nat", "join", "names", "dht", "rpc", "work")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure WWS beside its peers.")
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="smaller figures, for a look")
    parser.add_argument("--json", metavar="FILE", help="write all figures there, too")
    options = parser.parse_args()
    wanted = options.sections or list(SECTIONS)
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"unknown section {', '.join(sorted(unknown))}")
    started = time.time()
    results: dict[str, Any] = {"machine": machine()}
    print(results["machine"], flush=True)
    if "connections" in wanted:
        steps = [100, 1000] if options.quick else [100, 1000, 5000, 10_000]
        results["connections"] = asyncio.run(
            connections.run(steps, steps[:3], 100 if options.quick else 300, 3 if options.quick else 5)
        )
        print(connections.table(results["connections"]), flush=True)
    if "quic" in wanted:
        steps = [100] if options.quick else [100, 1000, 2000]
        results["quic"] = asyncio.run(quic.run(steps, 50 if options.quick else 200, 3, 32))
        print(quic.table(results["quic"]), flush=True)
    if "nat" in wanted:
        try:
            results["nat"] = nat.run(1 if options.quick else 5)
            print(nat.table(results["nat"]), flush=True)
        except RuntimeError as error:
            print(f"left out: nat ({error})", file=sys.stderr, flush=True)
    if "join" in wanted:
        results["join"] = asyncio.run(join.run(5 if options.quick else 30))
        print(join.table(results["join"]), flush=True)
    if "names" in wanted:
        results["names"] = asyncio.run(names.run(2 if options.quick else 10))
        print(names.table(results["names"]), flush=True)
    if "dht" in wanted:
        results["dht"] = simulated.run(300 if options.quick else 1000)
        print(simulated.table(results["dht"]), flush=True)
    if "rpc" in wanted:
        seconds = 1.0 if options.quick else 5.0
        results["rpc"] = asyncio.run(rpc.run(seconds))
        print(rpc.table(results["rpc"], seconds), flush=True)
    if "work" in wanted:
        results["work"] = work.run(5 if options.quick else 30)
        print(work.table(results["work"]), flush=True)
    print(f"took {time.time() - started:.0f} s", file=sys.stderr)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    return (
        f"{psutil.cpu_count()} CPUs, {psutil.virtual_memory().total / 1e9:.0f} GB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, load {load}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
