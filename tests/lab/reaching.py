"""Nodes of ours inside the lab that look at their own reachability, and servers that dial for them.

Each runs in a thread of its own that has entered its namespace: sockets are made where the thread is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from tests.lab.internet import REGIONS, Internet
from tests.lab.namespaces import Namespace
from tests.lab.punching import Inside
from tests.net.mesh_node import MeshNode
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.identity.keys import Identity
from wws.nat.dial_back_rules import DialBackConfig
from wws.runtime.clock import SystemClock
from wws.runtime.host import Host, HostConfig
from wws.runtime.nat.autonat_server import AutonatServer, AutonatServerConfig
from wws.runtime.nat.reachability import ReachabilityDriver, ReachabilityDriverConfig
from wws.runtime.quic_transport import QuicTransport

PATIENCE = 30.0


@dataclass(frozen=True)
class Finding:
    """What a node knows of its place at one moment."""

    reachability: str
    nat: str
    verdicts: dict[str, str]
    observed: tuple[str, ...]
    public_ips: frozenset[str]
    results: dict[tuple[str, str], int] = dataclass_field(compare=False, hash=False)


class LabServer:
    """A bootstrap node's part in this: it dials back."""

    def __init__(self, label: str, inside: Inside, addresses: Sequence[str], dial_timeout: float) -> None:
        self._inside = inside
        self.label = label
        self.addresses = inside.call(self._start(addresses, dial_timeout))

    async def _start(self, addresses: Sequence[str], dial_timeout: float) -> tuple[Multiaddr, ...]:
        self.mesh = MeshNode(self.label)
        host = self.mesh.host
        rules = DialBackConfig(max_wait=0.1)
        config = AutonatServerConfig(rules=rules, dial_timeout=dial_timeout)
        self.autonat = AutonatServer(host, _make_dial_host, config)
        host.quic = QuicTransport(host, host.identity)
        await host.start()
        for ip in addresses:
            for transport in ("tcp", "quic-v1"):
                await host.listen(Multiaddr.of(ip, 9000, transport))  # type: ignore[arg-type]
        return tuple(address.with_peer(self.mesh.peer_id) for address in host.listen_addresses)

    def close(self) -> None:
        self._inside.call(_close(self.mesh))


class Looker:
    """A node somewhere that finds out how it is reached."""

    def __init__(self, label: str, inside: Inside, config: ReachabilityDriverConfig) -> None:
        self._inside = inside
        self.label = label
        self.seen: list[tuple[str, str]] = []
        """Everything that it ever took its place for."""
        inside.call(self._start(config))

    async def _start(self, config: ReachabilityDriverConfig) -> None:
        self.mesh = MeshNode(self.label)
        host = self.mesh.host
        host.quic = QuicTransport(host, host.identity)
        self.reach = ReachabilityDriver(
            host, self.mesh.dialer, self.mesh.identify, self._make_probe_host, config, random.Random(1)
        )
        self.reach.on_change.append(lambda: self.seen.append((self.reach.reachability, self.reach.nat)))
        await host.start()
        for transport in ("tcp", "quic-v1"):
            await host.listen(Multiaddr.of("0.0.0.0", 9000, transport))  # type: ignore[arg-type]
            await host.listen(Multiaddr.of("::", 9000, transport))  # type: ignore[arg-type]
        self.reach.start()

    def join(self, servers: Sequence[LabServer], transports: Sequence[Transport], version: int) -> None:
        """Connect to each server over the transport that stands in its place."""
        self._inside.call(self._join(servers, transports, version))

    async def _join(
        self, servers: Sequence[LabServer], transports: Sequence[Transport], version: int
    ) -> None:
        self.mesh.host.set_entry_points({server.mesh.peer_id for server in servers})

        async def connect(server: LabServer, transport: Transport) -> None:
            [way] = [
                address
                for address in server.addresses
                if address.transport == transport and address.host_kind == f"ip{version}"
            ]
            connection = await self.mesh.dialer.connect_at(server.mesh.peer_id, way, PATIENCE)
            assert await connection.wait_identified() is not None

        await asyncio.gather(*map(connect, servers, transports))

    def wait(self, reachability: str, nat: str, seconds: float = PATIENCE) -> Finding:
        """Until it has found this, or so long; what it has found then."""
        return self._inside.call(self._wait(reachability, nat, seconds))

    def wait_judged(self) -> Finding:
        """Until every address has a verdict; what it has found then."""
        return self._inside.call(self._wait_judged())

    async def _wait_judged(self) -> Finding:
        async with asyncio.timeout(PATIENCE):
            while any(one.verdict == "unknown" for one in self.reach.addresses):
                await asyncio.sleep(0.02)
        return await self._wait(self.reach.reachability, self.reach.nat, 0)

    def wait_public(self, address: str) -> Finding:
        """Until this address is public; what it has found then."""
        return self._inside.call(self._wait_public(address))

    async def _wait_public(self, address: str) -> Finding:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE / 2):
                while (address, "public") not in [
                    (str(one.address), one.verdict) for one in self.reach.addresses
                ]:
                    await asyncio.sleep(0.02)
        return await self._wait(self.reach.reachability, self.reach.nat, 0)

    async def _wait(self, reachability: str, nat: str, seconds: float) -> Finding:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (self.reach.reachability, self.reach.nat) != (reachability, nat):
                    await asyncio.sleep(0.02)
        return Finding(
            self.reach.reachability,
            self.reach.nat,
            {str(one.address): one.verdict for one in self.reach.addresses},
            tuple(map(str, self.reach.observed())),
            self.reach.public_ips(),
            dict(self.reach.results),
        )

    def leave(self) -> None:
        """Close every connection."""
        self._inside.call(self._leave())

    async def _leave(self) -> None:
        for connection in self.mesh.host.connections():
            connection.close("moving")
        while self.mesh.host.connections():
            await asyncio.sleep(0.02)

    def ping_all(self) -> None:
        """Have something to say to everybody."""
        self._inside.call(self._ping_all())

    async def _ping_all(self) -> None:
        await asyncio.gather(*map(self.mesh.ping.ping, self.mesh.host.connections()))

    def pause(self, seconds: float) -> None:
        self._inside.call(asyncio.sleep(seconds))

    def close(self) -> None:
        self._inside.call(self._close())

    async def _close(self) -> None:
        await self.reach.close()
        await _close(self.mesh)

    def _make_probe_host(self) -> Host:
        return _host(self.mesh.host.identity)


@contextlib.contextmanager
def three_servers(internet: Internet, *, dial_timeout: float = 2.0) -> Iterator[list[LabServer]]:
    """In three regions, without the loss of the real ones: who measures a verdict wants no dice."""
    with contextlib.ExitStack() as stack:
        servers = []
        for region in REGIONS:
            namespace = internet.host(region.name, region.address, region.address6).namespace
            inside = stack.enter_context(Inside(namespace))
            server = LabServer(region.name, inside, (region.address, region.address6), dial_timeout)
            stack.callback(server.close)
            servers.append(server)
        yield servers


@contextlib.contextmanager
def looker(
    namespace: Namespace, config: ReachabilityDriverConfig | None = None, *, label: str = "alice"
) -> Iterator[Looker]:
    with Inside(namespace) as inside:
        alice = Looker(label, inside, config or ReachabilityDriverConfig())
        try:
            yield alice
        finally:
            alice.close()


def _make_dial_host() -> Host:
    return _host(Identity.generate())


def _host(identity: Identity) -> Host:
    host = Host(identity, HostConfig(tick=0.05), clock=SystemClock(), rng=random.Random())
    host.quic = QuicTransport(host, identity)
    return host


async def _close(mesh: MeshNode) -> None:
    await mesh.dht.close()
    await mesh.dialer.close()
    await mesh.host.close()
