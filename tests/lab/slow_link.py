"""A slow link between two network namespaces, in user space: works where the kernel has no netem. Needs root.

    with slow_link(delay=0.04, loss=0.01) as link:
        subprocess.run([*link.inside(0), "ping", "-c1", link.addresses[1]])

Two namespaces, a TAP device in each, and a process that carries the frames across: each waits `delay` seconds
and is lost with probability `loss`, in either direction. Everything goes away with the context. The addresses
are documentation addresses, so the nodes take them for public ones.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI, _CLONE_NEWNET = 0x400454CA, 0x0002, 0x1000, 0x40000000
_QUEUE = 4096
"""Frames on their way in one direction; further ones are dropped, as a router would."""
_MTU = 1500


@dataclass(frozen=True, slots=True)
class SlowLink:
    """The two ends: `inside(0)` and `inside(1)` are command prefixes that run there."""

    namespaces: tuple[str, str]
    addresses: tuple[str, str]

    def inside(self, end: int) -> list[str]:
        return ["ip", "netns", "exec", self.namespaces[end]]


@contextlib.contextmanager
def slow_link(*, delay: float, loss: float, seed: int = 1) -> Iterator[SlowLink]:
    """Make the link, and take it down at the end."""
    tag = f"wws{os.getpid() % 100_000}"
    names = (f"{tag}a", f"{tag}b")
    addresses = ("203.0.113.1", "203.0.113.2")
    made: list[str] = []
    carrier: subprocess.Popen[str] | None = None
    try:
        for name in names:
            _ip("netns", "add", name)
            made.append(name)
            _ip("-n", name, "link", "set", "lo", "up")
        carrier = subprocess.Popen(
            [sys.executable, str(Path(__file__)), *names, str(delay), str(loss), str(seed)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        assert carrier.stdout is not None
        if carrier.stdout.readline().strip() != "ready":
            raise RuntimeError("the slow link did not come up")
        for name, address in zip(names, addresses, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "slow0")
            _ip("-n", name, "link", "set", "slow0", "up", "mtu", str(_MTU))
        yield SlowLink(names, addresses)
    finally:
        if carrier is not None:
            carrier.kill()
            carrier.wait()
        for name in made:
            _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _tap(namespace: str, name: str) -> int:
    """A TAP device in a namespace: its descriptor."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    finally:
        libc.setns(home, _CLONE_NEWNET)
        os.close(home)
        os.close(there)
    return descriptor


def _carry(ends: tuple[int, int], delay: float, loss: float, rng: random.Random) -> None:
    """Carry frames until the parent goes away."""
    under_way: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        readable, _, _ = select.select([*ends, sys.stdin], [], [], wait)
        if sys.stdin in readable:
            return
        now = time.monotonic()
        for end in readable:
            other = ends[1] if end == ends[0] else ends[0]
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame = os.read(end, 65536)
                    if rng.random() >= loss and len(under_way) < 2 * _QUEUE:
                        count += 1
                        heapq.heappush(under_way, (now + delay, count, other, frame))
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, end, frame = heapq.heappop(under_way)
            with contextlib.suppress(OSError):  # a device that is down loses frames
                os.write(end, frame)


def main() -> None:
    parser = argparse.ArgumentParser(description="Carry frames between the TAP devices of two namespaces.")
    parser.add_argument("namespaces", nargs=2)
    parser.add_argument("delay", type=float)
    parser.add_argument("loss", type=float)
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    first, second = (_tap(namespace, "slow0") for namespace in options.namespaces)
    print("ready", flush=True)
    _carry((first, second), options.delay, options.loss, random.Random(options.seed))


if __name__ == "__main__":
    main()
