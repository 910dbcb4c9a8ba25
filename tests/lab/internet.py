"""An internet on one machine: one router in the middle, and whatever is attached to it by public addresses.

    with Internet() as internet:
        alice = internet.host("alice", "198.18.1.2")
        home = Router(internet, "home", Kind.FULL_CONE, "198.18.2.2")     # tests.lab.nat

Every attachment is a slow link of its own to the router in the middle and has its addresses alone (/32,
/128), so any two hosts can have any addresses, also of one network, and no address is on-link for anybody
else. A packet crosses the link of its sender and that of its receiver: the round trip is twice the sum of
their delays. IPv4 and IPv6 addresses may be mixed. Leaving the block ends every program inside and
removes everything.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from tests.lab.namespaces import Namespace, processes_inside
from tests.lab.slow_links import Carrier, Link, LinkSpec

GATEWAY4 = "198.19.255.1"
GATEWAY6 = "fe80::1"
NEAR = LinkSpec(delay=0.005)
"""An access link of a home or an office."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where a bootstrap node stands: its networks, and how far away it is from everybody."""

    name: str
    address: str
    address6: str
    link: LinkSpec


REGIONS = (
    Region("eu", "192.0.2.10", "2001:db8:1::10", LinkSpec(delay=0.020, loss=0.01)),
    Region("us", "198.51.100.10", "2001:db8:2::10", LinkSpec(delay=0.060, loss=0.01)),
    Region("ap", "203.0.113.10", "2001:db8:3::10", LinkSpec(delay=0.100, loss=0.01)),
)
"""Three networks of documentation addresses, each with a network of IPv6."""


class Uplink:
    """How one machine is attached to the internet."""

    def __init__(
        self, internet: Internet, namespace: Namespace, port: str, link: Link, addresses: Sequence[str]
    ) -> None:
        self._internet = internet
        self._port = port
        self._routed: list[str] = []
        self.namespace = namespace
        self.link = link
        self.addresses: tuple[str, ...] = ()
        self._number(addresses)

    def renumber(self, *addresses: str) -> None:
        """Take all addresses away and give new ones, as providers do over night."""
        self._internet.router.ip(*(f"route del {network} dev {self._port}" for network in self._routed))
        self.namespace.ip("addr flush dev wan scope global")
        self._routed.clear()
        self._number(addresses)

    def route(self, network: str) -> None:
        """Let a network of IPv6 addresses be behind this machine."""
        via = f"via {self.addresses[-1]} " if ":" in self.addresses[-1] else ""
        self._internet.router.ip(f"route add {network} {via}dev {self._port}")
        self._routed.append(network)

    def cut(self) -> None:
        """Nothing passes any more; nobody is told."""
        self.link.change(loss=1.0)

    def mend(self, spec: LinkSpec = NEAR) -> None:
        self.link.change(delay=spec.delay, jitter=spec.jitter, loss=spec.loss, rate=spec.rate)

    def _number(self, addresses: Sequence[str]) -> None:
        self.addresses = tuple(addresses)
        inside, outside = [], []
        for address in addresses:
            if ":" in address:
                inside += [
                    f"addr add {address}/128 dev wan nodad",
                    f"route replace default via {GATEWAY6} dev wan",
                ]
                outside.append(f"route add {address}/128 dev {self._port}")
                self._routed.append(f"{address}/128")
            else:
                inside += [
                    f"addr add {address}/32 dev wan",
                    f"route replace {GATEWAY4} dev wan",
                    f"route replace default via {GATEWAY4} dev wan",
                ]
                outside.append(f"route add {address}/32 dev {self._port}")
                self._routed.append(f"{address}/32")
        self.namespace.ip(*inside)
        self._internet.router.ip(*outside)


class Internet:
    """The router in the middle, and all namespaces of the lab."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._ports = count(1)
        self.namespaces: list[Namespace] = []
        self.carrier = self._stack.enter_context(Carrier())
        self.router = self.namespace("internet")
        self.router.set_kernel(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        self.router.set_kernel(ipv4__conf__all__send_redirects=0, ipv4__conf__default__send_redirects=0)
        self.router.ip(f"addr add {GATEWAY4}/32 dev lo")

    def namespace(self, label: str) -> Namespace:
        """A further machine, attached to nothing."""
        made = self._stack.enter_context(Namespace(label))
        self.namespaces.append(made)
        return made

    def attach(self, namespace: Namespace, *addresses: str, link: LinkSpec = NEAR) -> Uplink:
        """Attach a machine by its interface `wan`."""
        port = f"port{next(self._ports)}"
        made = self.carrier.connect(namespace, "wan", self.router, port, link)
        self.router.ip(f"addr add {GATEWAY6}/64 dev {port} nodad")
        return Uplink(self, namespace, port, made, addresses)

    def host(self, label: str, *addresses: str, link: LinkSpec = NEAR) -> Uplink:
        """A host with public addresses and nothing in front of it."""
        return self.attach(self.namespace(label), *addresses, link=link)

    def close(self) -> None:
        """End what runs inside and remove everything; works at any stage."""
        for process in processes_inside(self.namespaces):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._stack.close()

    def __enter__(self) -> Internet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
