"""One slow link between two machines, for measurements of a single way. Needs root.

    with slow_link(delay=0.04, loss=0.01) as link:
        subprocess.run([*link.inside(0), "ping", "-c1", link.addresses[1]])

The addresses are documentation addresses, so the nodes take them for public ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.lab.internet import Internet
from tests.lab.namespaces import Namespace
from tests.lab.slow_links import LinkSpec


@dataclass(frozen=True, slots=True)
class SlowLink:
    """The two ends: `inside(0)` and `inside(1)` are command prefixes that run there."""

    namespaces: tuple[Namespace, Namespace]
    addresses: tuple[str, str]

    def inside(self, end: int) -> list[str]:
        return ["nsenter", f"--net={self.namespaces[end].path}"]


@contextlib.contextmanager
def slow_link(*, delay: float, loss: float) -> Iterator[SlowLink]:
    """Make the link, and take it down at the end. A frame waits `delay` seconds in either direction."""
    addresses = ("203.0.113.1", "203.0.113.2")
    with Internet() as internet:
        slow = internet.host("slow", addresses[0], link=LinkSpec(delay=delay, loss=loss))
        near = internet.host("near", addresses[1], link=LinkSpec())
        yield SlowLink((slow.namespace, near.namespace), addresses)
