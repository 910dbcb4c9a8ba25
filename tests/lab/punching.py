"""Nodes of ours inside the lab, without discovery and names: a relay, and two that punch.

Each runs in a thread of its own that has entered its namespace: sockets are made where the thread is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.lab.namespaces import Namespace
from tests.net.mesh_node import MeshNode
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.identity.peer_id import PeerId
from wws.nat.kind import NatKind
from wws.relay.server import RelayConfig
from wws.runtime.host import Host
from wws.runtime.nat.hole_punching import HolePuncher, HolePuncherConfig
from wws.runtime.quic_transport import QuicTransport
from wws.runtime.relay.circuits import Circuits, CircuitsConfig
from wws.runtime.relay.client import RelayClient, RelayClientConfig
from wws.runtime.relay.server import RelayServer, RelayServerConfig

T = TypeVar("T")
PATIENCE = 30.0


@dataclass(frozen=True)
class How:
    """How alice and bob are set up."""

    config: HolePuncherConfig = field(default_factory=HolePuncherConfig)
    transports: tuple[Transport, ...] = ("quic-v1", "tcp")
    """What they listen on; over the first of them they are connected to the relay, which sees them there."""


class Inside:
    """An event loop in a thread inside a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there, and wait for what it returns."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def _main(self) -> None:
        with self._namespace.entered():
            self._loop = asyncio.new_event_loop()
            self._loop.call_soon(self._ready.set)
            self._loop.run_forever()
            self._loop.close()

    def __enter__(self) -> Inside:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Place:
    """What reachability would say: where the relay sees us."""

    def __init__(self, mesh: MeshNode, nat: NatKind) -> None:
        self.on_change: list[Callable[[], None]] = []
        self.nat = nat
        self._mesh = mesh

    def observed(self) -> tuple[Multiaddr, ...]:
        seen = [one.identification.observed for one in self._mesh.host.connections() if one.identification]
        return tuple(address for address in seen if address is not None and not address.is_circuit)

    def public_ips(self) -> frozenset[str]:
        return frozenset(address.host for address in self.observed())


class LabRelay:
    """A relay on a public address."""

    def __init__(self, inside: Inside, address: str) -> None:
        self._inside = inside
        self.addresses = inside.call(self._start(address))

    async def _start(self, address: str) -> tuple[Multiaddr, ...]:
        self.mesh = MeshNode("relay")
        host = self.mesh.host
        await _listen(host, address, 9000, ("tcp", "quic-v1"))
        network = self.mesh.dht._network
        self.server = RelayServer(
            host, lambda: tuple(host.listen_addresses), RelayServerConfig(RelayConfig()), network
        )
        self.server.enable(True)
        return tuple(address.with_peer(self.mesh.peer_id) for address in host.listen_addresses)

    def close(self) -> None:
        self._inside.call(self._close())

    async def _close(self) -> None:
        await self.server.close()
        await _close(self.mesh)


class Puncher:
    """A node somewhere, connected to the relay."""

    def __init__(
        self, label: str, inside: Inside, relay: tuple[Multiaddr, ...], nat: NatKind, how: How
    ) -> None:
        self._inside = inside
        inside.call(self._start(label, relay, nat, how))

    async def _start(self, label: str, relay: tuple[Multiaddr, ...], nat: NatKind, how: How) -> None:
        self.mesh = MeshNode(label)
        self.mesh.identify._announced = lambda: ()
        rng = random.Random(label)
        host = self.mesh.host
        self.client = RelayClient(
            host, self.mesh.dialer, RelayClientConfig(), rng, network=self.mesh.dht._network
        )
        Circuits(host, self.mesh.dialer, CircuitsConfig(), accepts_from=self.client.holds_reservation_at)
        self.place = Place(self.mesh, nat)
        self.puncher = HolePuncher(host, self.mesh.dialer, self.place, how.config, rng)
        assert relay[0].is_ip
        await _listen(host, "::" if relay[0].host_kind == "ip6" else "0.0.0.0", 0, how.transports)
        [way] = [address for address in relay if address.transport == how.transports[0]]
        assert way.peer_id is not None
        connection = await self.mesh.dialer.connect_at(way.peer_id, way, PATIENCE)
        assert await connection.wait_identified() is not None

    def reserve(self) -> Multiaddr:
        """Hold a reservation; the address through the relay."""
        return self._inside.call(self._reserve())

    async def _reserve(self) -> Multiaddr:
        self.client.set_wanted(True)
        while not self.client.reservations:
            await asyncio.sleep(0.05)
        return self.client.reservations[0].addresses[0].with_peer(self.mesh.peer_id)

    def reach(self, address: Multiaddr) -> tuple[str, str | None]:
        """Dial through a relay and let the punch end: `direct` or `relay`, and why."""
        return self._inside.call(self._reach(address))

    async def _reach(self, address: Multiaddr) -> tuple[str, str | None]:
        connection = await self.mesh.dial(address)
        peer = connection.peer_id
        await self.puncher.wait_settled(peer, PATIENCE)
        direct = self.mesh.host.connection_to(peer, direct=True)
        if direct is not None:
            await self.mesh.ping.ping(direct)
        return ("relay" if direct is None else direct.transport), self.puncher.why_not_direct(peer)

    @property
    def peer_id(self) -> PeerId:
        return self.mesh.peer_id

    def close(self) -> None:
        self._inside.call(self._close())

    async def _close(self) -> None:
        await self.puncher.close()
        await self.client.close()
        await _close(self.mesh)


async def _listen(host: Host, ip: str, port: int, transports: tuple[Transport, ...]) -> None:
    if "quic-v1" in transports:
        host.quic = QuicTransport(host, host.identity)
    await host.start()
    for transport in transports:
        await host.listen(Multiaddr.of(ip, port, transport))


async def _close(mesh: MeshNode) -> None:
    await mesh.dht.close()
    await mesh.dialer.close()
    await mesh.host.close()


@contextlib.contextmanager
def punchers(
    relay: tuple[Namespace, str],
    alice: tuple[Namespace, NatKind],
    bob: tuple[Namespace, NatKind],
    how: How = How(),
) -> Iterator[tuple[Puncher, Puncher]]:
    """Alice and bob, both connected to the relay."""
    with contextlib.ExitStack() as stack:
        server = LabRelay(stack.enter_context(Inside(relay[0])), relay[1])
        stack.callback(server.close)
        made = []
        for label, (namespace, nat) in (("alice", alice), ("bob", bob)):
            one = Puncher(label, stack.enter_context(Inside(namespace)), server.addresses, nat, how)
            stack.callback(one.close)
            made.append(one)
        yield made[0], made[1]
