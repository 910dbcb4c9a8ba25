"""Nodes of ours and foreign peers in the lab, each on a machine of its own with addresses that look public.

js and go take no documentation addresses for public ones, and offer, dial and judge public addresses only. So
the lab has others here: they lead nowhere but to its own router.

    with Lab() as lab:
        relay = lab.ours("relay", lab.host("5.9.0.1"), "5.9.0.1", serves=True)
        home = lab.home("5.1.0.1")
        bob = lab.foreign("go", home, listen=WILD, quic=True)
        bob.do(lambda peer: peer.dial(relay.address_of("tcp")))
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, TypeVar

from tests.interop.ours import until
from tests.interop.peer import ForeignPeer, Implementation
from tests.lab.internet import Internet
from tests.lab.namespaces import Namespace
from tests.lab.nat import Kind, Router
from tests.lab.punching import Inside
from tests.net.mesh_node import MeshNode
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.identity.keys import Identity
from wws.nat.punching import HolePunchConfig
from wws.nat.reachability_events import ProbingConfig, ReachabilityConfig
from wws.runtime.clock import SystemClock
from wws.runtime.connection import Connection
from wws.runtime.host import Host, HostConfig
from wws.runtime.nat.autonat_server import AutonatServer, AutonatServerConfig
from wws.runtime.nat.hole_punching import HolePuncher, HolePuncherConfig
from wws.runtime.nat.reachability import ReachabilityDriver, ReachabilityDriverConfig
from wws.runtime.quic_transport import QuicTransport
from wws.runtime.relay.circuits import Circuits, CircuitsConfig
from wws.runtime.relay.client import RelayClient, RelayClientConfig
from wws.runtime.relay.server import RelayServer, RelayServerConfig

T = TypeVar("T")

BOTH: tuple[Transport, ...] = ("tcp", "quic-v1")
PORT = 9000
PUNCH = HolePunchConfig()
QUICK = ReachabilityDriverConfig(
    look=0.5,
    machine=ReachabilityConfig(
        retry=0.5, recheck=1.0, longest=2.0, probing=ProbingConfig(retry=0.5, second_look=0.5, recheck=2.0)
    ),
)


def listening(ip: str, transports: Sequence[Transport] = BOTH, port: int = PORT) -> list[str]:
    return [str(Multiaddr.of(ip, port, transport)) for transport in transports]


class OurLabNode:
    """Our node on a machine of the lab: everything that has to do with NATs, in an ad hoc network."""

    def __init__(
        self,
        inside: Inside,
        label: str,
        ip: str,
        transports: Sequence[Transport],
        punch: HolePunchConfig,
    ) -> None:
        self._inside = inside
        self._closed = False
        inside.call(self._start(label, ip, transports, punch))

    async def _start(
        self, label: str, ip: str, transports: Sequence[Transport], punch: HolePunchConfig
    ) -> None:
        rng = random.Random(label)
        self.mesh = MeshNode(label, network=None)
        self.host = host = self.mesh.host
        self.mesh.identify._announced = self._announced
        host.quic = QuicTransport(host, host.identity)
        self.reachability = ReachabilityDriver(
            host, self.mesh.dialer, self.mesh.identify, self._side_host, QUICK, rng
        )
        self.autonat = self.reachability._client
        self.client = RelayClient(host, self.mesh.dialer, RelayClientConfig(), rng)
        self.circuits = Circuits(
            host, self.mesh.dialer, CircuitsConfig(), accepts_from=self.client.holds_reservation_at
        )
        self.puncher = HolePuncher(
            host, self.mesh.dialer, self.reachability, HolePuncherConfig(punch=punch), rng
        )
        self.autonat_server: AutonatServer | None = None
        self.relay_server: RelayServer | None = None
        self.is_public = ip != "0.0.0.0"
        if self.is_public:
            self.autonat_server = AutonatServer(host, self._stranger, AutonatServerConfig(dial_timeout=2.0))
            self.relay_server = RelayServer(host, self._announced, RelayServerConfig())
            self.relay_server.enable(True)
        await host.start()
        for address in listening(ip, transports):
            await host.listen(Multiaddr.parse(address))
        if not self.is_public:
            self.reachability.start()

    def call(self, work: Awaitable[T]) -> T:
        """Run something on the node's own machine."""

        async def run() -> T:
            return await work

        return self._inside.call(run())

    def wait(self, condition: Callable[[], bool]) -> None:
        self.call(until(condition))

    @property
    def peer_id(self) -> str:
        return str(self.mesh.peer_id)

    def address_of(self, transport: Transport) -> str:
        [address] = [one for one in self.host.listen_addresses if one.transport == transport]
        return str(address.with_peer(self.mesh.peer_id))

    def dial(self, address: str) -> Connection:
        """A connection there; both have identified."""
        return self.call(self._dial(address))

    async def _dial(self, address: str) -> Connection:
        connection = await self.mesh.dial(Multiaddr.parse(address))
        async with asyncio.timeout(20):
            await connection.wait_identified()
        return connection

    def reserve(self, relay: str) -> str:
        """Hold a reservation; the address through the relay, with /p2p/."""
        self.dial(relay)
        return self.call(self._reserve(Multiaddr.parse(relay)))

    async def _reserve(self, relay: Multiaddr) -> str:
        self.client.set_wanted(True)
        await until(lambda: bool(self.client.reservations))
        given = self.client.reservations[0].addresses
        [address] = [one for one in given if one.transport == relay.transport]
        return str(address.with_peer(self.mesh.peer_id))

    def _announced(self) -> tuple[Multiaddr, ...]:
        return tuple(self.host.listen_addresses) if self.is_public else ()

    def _stranger(self) -> Host:
        return self._new_host(Identity.generate())

    def _side_host(self) -> Host:
        return self._new_host(self.host.identity)

    def _new_host(self, identity: Identity) -> Host:
        host = Host(identity, HostConfig(), clock=SystemClock(), rng=random.Random(self.host.rng.random()))
        host.quic = QuicTransport(host, identity)
        return host

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._inside.call(self._close())

    async def _close(self) -> None:
        if self.autonat_server is not None:
            self.autonat_server.stop()
        if self.relay_server is not None:
            await self.relay_server.close()
        await self.puncher.close()
        await self.client.close()
        await self.reachability.close()
        await self.mesh.dht.close()
        await self.mesh.dialer.close()
        await self.host.close()


class ForeignLabPeer:
    """A foreign peer on a machine of the lab, driven from there."""

    def __init__(self, inside: Inside, implementation: Implementation, config: dict[str, Any]) -> None:
        self._inside = inside
        self._stack = contextlib.AsyncExitStack()
        entering = self._stack.enter_async_context(ForeignPeer.start(implementation, **config))
        self.peer = inside.call(entering)

    def do(self, what: Callable[[ForeignPeer], Awaitable[T]]) -> T:
        """Have the peer do something."""

        async def run() -> T:
            return await what(self.peer)

        return self._inside.call(run())

    def close(self) -> None:
        self._inside.call(self._stack.aclose())


class Lab:
    """An internet, and what runs on its machines; all gone at the end of the block."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.internet = self._stack.enter_context(Internet())
        self._addresses = count(1)

    def address(self) -> str:
        """A public one that nobody has yet."""
        return f"5.100.{next(self._addresses)}.1"

    def host(self, *addresses: str) -> Namespace:
        """A machine with public addresses."""
        return self.internet.host(addresses[0], *addresses).namespace

    def home(self, address: str, kind: Kind = Kind.PORT_RESTRICTED) -> Namespace:
        """A machine behind a NAT with that public address."""
        return Router(self.internet, f"router {address}", kind, address).host(f"behind {address}")

    def ours(
        self,
        label: str,
        machine: Namespace,
        ip: str = "0.0.0.0",
        transports: Sequence[Transport] = BOTH,
        punch: HolePunchConfig = PUNCH,
    ) -> OurLabNode:
        """Our node. With an address of its own it serves others, else it is taken to be behind a NAT."""
        node = OurLabNode(self._stack.enter_context(Inside(machine)), label, ip, transports, punch)
        self._stack.callback(node.close)
        return node

    def foreign(self, implementation: Implementation, machine: Namespace, **config: Any) -> ForeignLabPeer:
        """A foreign peer; the configuration is that of tests/interop/peers/README.md."""
        inside = self._stack.enter_context(Inside(machine))
        peer = ForeignLabPeer(inside, implementation, {"quic": True, "dht_protocol": None, **config})
        self._stack.callback(peer.close)
        return peer

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
