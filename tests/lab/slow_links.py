"""Slow links between namespaces in user space: delay, jitter, loss and rate where the kernel has no netem.

    with Carrier() as carrier:
        link = carrier.connect(alice, "wan", internet, "alice", LinkSpec(delay=0.02, loss=0.01))
        link.change(loss=1.0)       # cut

Needs root. A link is a TAP device in each of two namespaces; one process carries the frames of all links
across. The devices are gone when it ends, and it ends with the process that made it. Frames keep their
order, as they do on a wire.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.namespaces import Namespace

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_QUEUE = 4096
"""Frames under way on one link; further ones are dropped, as a router would."""
_LONGEST_QUEUE = 0.2
"""Seconds that a frame may have to wait until the link is free; it is dropped else."""
_BURST = 64
"""Frames taken from one device before the others have their turn."""
_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """What happens to a frame, in each direction."""

    delay: float = 0.0
    """Seconds."""
    jitter: float = 0.0
    """Up to so many seconds more or less."""
    loss: float = 0.0
    """Probability that it is lost; 1: the link is cut."""
    rate: float = 0.0
    """Bits a second, frames being sent one after the other; 0: at once."""


class Link:
    """One link that stands."""

    def __init__(self, carrier: Carrier, number: int, spec: LinkSpec) -> None:
        self._carrier = carrier
        self._number = number
        self.spec = spec

    def change(
        self,
        *,
        delay: float | None = None,
        jitter: float | None = None,
        loss: float | None = None,
        rate: float | None = None,
    ) -> None:
        """Change it from now on; what is under way arrives as it was sent."""
        given = {"delay": delay, "jitter": jitter, "loss": loss, "rate": rate}
        self.spec = replace(self.spec, **{name: value for name, value in given.items() if value is not None})
        self._carrier.tell({"link": self._number, **asdict(self.spec)})


class Carrier:
    """The process that carries the frames of all links of a lab."""

    def __init__(self, *, seed: int = 1) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Isolated and without site: it needs nothing, and starts at once.
            command = [sys.executable, "-IS", str(Path(__file__)), str(theirs.fileno()), str(seed)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self._count = 0

    def connect(
        self, first: Namespace, first_interface: str, second: Namespace, second_interface: str, spec: LinkSpec
    ) -> Link:
        """Make a link; both devices are up."""
        ends = (_tap(first, first_interface), _tap(second, second_interface))
        try:
            self.tell(asdict(spec), ends)
        finally:
            for end in ends:
                os.close(end)
        first.ip(f"link set {first_interface} up")
        second.ip(f"link set {second_interface} up")
        self._count += 1
        return Link(self, self._count - 1, spec)

    def tell(self, message: dict[str, float], descriptors: tuple[int, ...] = ()) -> None:
        """Say something to the process and wait until it is so."""
        socket.send_fds(self._control, [json.dumps(message).encode()], descriptors)
        if self._control.recv(_MESSAGE) != b"done":
            raise RuntimeError(f"the carrier of the slow links has ended: {self._process.wait()}")

    def close(self) -> None:
        self._control.close()
        self._process.wait()

    def __enter__(self) -> Carrier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tap(namespace: Namespace, name: str) -> int:
    """A new TAP device in a namespace: its descriptor."""
    with namespace.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return descriptor


# What follows runs in the process that carries.


class _Wire:
    """Both directions of one link."""

    __slots__ = ("delay", "jitter", "loss", "rate", "under_way")

    def __init__(self) -> None:
        self.delay = self.jitter = self.loss = self.rate = 0.0
        self.under_way = 0

    def set(self, message: dict[str, float]) -> None:
        self.delay, self.jitter, self.loss = message["delay"], message["jitter"], message["loss"]
        self.rate = message["rate"]


class _Direction:
    __slots__ = ("free", "last", "to", "wire")

    def __init__(self, wire: _Wire, to: int) -> None:
        self.wire, self.to, self.last = wire, to, 0.0
        self.free = 0.0
        """When the last bit of the frame before has been sent."""

    def arrival(self, now: float, length: int, rng: random.Random) -> float | None:
        """When a frame of so many bytes sent now arrives; None: never."""
        wire = self.wire
        if wire.under_way >= _QUEUE or rng.random() < wire.loss:
            return None
        sent = now
        if wire.rate:
            if self.free - now > _LONGEST_QUEUE:
                return None
            self.free = sent = max(self.free, now) + 8 * length / wire.rate
        wire.under_way += 1
        self.last = max(self.last, sent + max(0.0, wire.delay + rng.uniform(-wire.jitter, wire.jitter)))
        return self.last


def _carry(control: socket.socket, rng: random.Random) -> None:
    """Carry frames and obey, until the other end of `control` is gone."""
    wires: list[_Wire] = []
    directions: dict[int, _Direction] = {}
    under_way: list[tuple[float, int, _Direction, bytes]] = []
    count = 0
    ready = select.epoll()
    ready.register(control, select.EPOLLIN)
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for descriptor, _ in ready.poll(wait):
            if descriptor == control.fileno():
                text, ends, _, _ = socket.recv_fds(control, _MESSAGE, 2)
                if not text:
                    return
                message = json.loads(text)
                if ends:
                    wires.append(_Wire())
                    for end, other in ((ends[0], ends[1]), (ends[1], ends[0])):
                        directions[end] = _Direction(wires[-1], other)
                        ready.register(end, select.EPOLLIN)
                wires[message.get("link", -1)].set(message)
                control.send(b"done")
                continue
            direction = directions[descriptor]
            with contextlib.suppress(OSError):  # nothing more to read, or the device is down
                for _ in range(_BURST):
                    frame = os.read(descriptor, 65536)
                    arrival = direction.arrival(time.monotonic(), len(frame), rng)
                    if arrival is not None:
                        count += 1
                        heapq.heappush(under_way, (arrival, count, direction, frame))
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, _, direction, frame = heapq.heappop(under_way)
            direction.wire.under_way -= 1
            with contextlib.suppress(OSError):  # a device that is full or down loses frames
                os.write(direction.to, frame)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _carry(socket.socket(fileno=int(sys.argv[1])), random.Random(int(sys.argv[2])))
