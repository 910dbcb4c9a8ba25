#!/usr/bin/env python3
"""Lets a whole network on this machine live for a while, with agents that come and go: what grows?

    scripts/nightly/soak.py [--minutes 60] [--json FILE]

`wws demo --keep` makes the network: two bootstrap nodes that live (a third was killed), and agents. Every
round another agent joins, claims a name, pings one that stays, and leaves. Open files and memory of the nodes
that stay are sampled after each round. Flat means: the median of the last quarter is not above that of the
second one by more than `FILES_MORE` files, nor by `MEMORY_MORE` of its memory. Each round must succeed.

Exit status: 1 something grew or failed, 2 wrong usage. Needs psutil (requirements/dev.txt).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

FILES_MORE = 8
MEMORY_MORE = 0.10
LEAST_ROUNDS = 20
"""Fewer say nothing about growth."""
ROUND_TIMEOUT = 120.0

Sample = dict[str, tuple[int, int]]
"""Node → open files, bytes of memory."""


class SoakFailed(Exception):
    """A round did not do what it must, or something grew. The text says what."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak; 0 when all stayed flat."""
    parser = argparse.ArgumentParser(
        prog="soak.py", description="Look for what grows while agents come and go."
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json", type=Path, help="write all samples there, too")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="wws-soak-") as temporary:
        demo = wws("demo", "--keep")
        try:
            samples, times = live(demo, Path(temporary), options.minutes * 60)
        except SoakFailed as error:
            sys.stderr.write(f"soak.py: {error}\n")
            return 1
        finally:
            wws("demo", "--stop", demo["folder"])
    if options.json is not None:
        options.json.write_text(json.dumps({"samples": samples, "seconds": times}), "utf-8")
    grown = growth(samples)
    third = max(1, len(times) // 3)
    sys.stdout.write(
        f"{len(times)} agents came and went; a round took {statistics.median(times[:third]):.1f} s in the "
        f"beginning, {statistics.median(times[-third:]):.1f} s in the end\n"
    )
    for line in grown:
        sys.stderr.write(f"soak.py: {line}\n")
    return 1 if grown else 0


def live(demo: dict[str, Any], folder: Path, seconds: float) -> tuple[list[Sample], list[float]]:
    """Rounds until the time is over: a sample after each, and how long each took. Raises `SoakFailed`."""
    stays = stayers(Path(demo["folder"]))
    target = next(agent["peer_id"] for agent in demo["agents"])
    samples: list[Sample] = []
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(samples) < LEAST_ROUNDS:
        began = time.monotonic()
        come_and_go(demo, folder / f"agent-{len(samples)}", f"soak-{len(samples)}", target)
        times.append(time.monotonic() - began)
        samples.append(sample(stays))
        shown = ", ".join(
            f"{node} {files} files {size >> 20} MiB" for node, (files, size) in samples[-1].items()
        )
        sys.stdout.write(f"round {len(samples)}, {times[-1]:.1f} s: {shown}\n")
        sys.stdout.flush()
    return samples, times


def come_and_go(demo: dict[str, Any], home: Path, name: str, target: str) -> None:
    """One agent's short life."""
    network = ("--network", demo["network"], "--dns-server", demo["dns_server"])
    where = ("--home", str(home))
    joined = wws("join", *where, *network, "--name", name, "--rpc", "", "--http", "")
    try:
        if not joined["joined"] or joined["name"] != name:
            raise SoakFailed(f"{name} joined so: {joined}")
        pong = wws("ping", *where, target, "-c", "2")
        if not pong["received"]:
            raise SoakFailed(f"{name} got no answer of {target}: {pong}")
    finally:
        wws("leave", *where, "--release-name")


def stayers(folder: Path) -> dict[str, psutil.Process]:
    """The nodes of the demo that run, by name."""
    found = {}
    for ready in sorted(folder.glob("**/run/*/ready.json")):
        pid = int(json.loads(ready.read_text("utf-8"))["pid"])
        if psutil.pid_exists(pid):
            found[ready.relative_to(folder).parts[0]] = psutil.Process(pid)
    if not found:
        raise SoakFailed(f"no node runs in {folder}")
    return found


def sample(nodes: dict[str, psutil.Process]) -> Sample:
    """What each has now. Raises `SoakFailed` for one that has ended."""
    try:
        return {name: (process.num_fds(), process.memory_info().rss) for name, process in nodes.items()}
    except psutil.NoSuchProcess as error:
        raise SoakFailed(f"a node has ended: {error}") from None


def growth(samples: Sequence[Sample]) -> list[str]:
    """What has grown from the second quarter to the last; the first one is for warming up."""
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    grown = []
    for node in samples[0]:
        files, memory = (
            [statistics.median(one[node][which] for one in part) for part in (early, late)]
            for which in (0, 1)
        )
        if files[1] > files[0] + FILES_MORE:
            grown.append(f"{node}: open files grew from {files[0]:g} to {files[1]:g}")
        if memory[1] > memory[0] * (1 + MEMORY_MORE):
            grown.append(f"{node}: memory grew from {memory[0] / 1e6:.0f} to {memory[1] / 1e6:.0f} MB")
    return grown


def wws(*words: str) -> dict[str, Any]:
    """The data of one command. Raises `SoakFailed`."""
    program = shutil.which("wws") or str(Path(sys.executable).with_name("wws"))
    done = subprocess.run(
        [program, *words, "--json"], capture_output=True, text=True, check=False, timeout=ROUND_TIMEOUT
    )
    if done.returncode:
        raise SoakFailed(
            f"wws {' '.join(words[:1])} ended with {done.returncode}: {done.stdout}{done.stderr}"
        )
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    return data


if __name__ == "__main__":
    raise SystemExit(main())
