"""Nodes that relay, and nodes that use relays, put together for tests on loopback."""

import contextlib
import random
from collections.abc import AsyncIterator

from tests.interop.ours import until
from tests.net.mesh_node import MeshNode, node
from wws.addresses.multiaddr import Multiaddr
from wws.relay.circuit_table import CircuitConfig
from wws.relay.reservations import ReservationConfig
from wws.relay.server import RelayConfig
from wws.runtime.host import HostConfig
from wws.runtime.relay.circuits import Circuits, CircuitsConfig
from wws.runtime.relay.client import RelayClient, RelayClientConfig
from wws.runtime.relay.server import RelayServer, RelayServerConfig


class RelayNode:
    """A node that relays for others."""

    def __init__(self, mesh: MeshNode, server: RelayServer) -> None:
        self.mesh = mesh
        self.server = server

    @property
    def address(self) -> Multiaddr:
        return self.mesh.address

    @classmethod
    @contextlib.asynccontextmanager
    async def run(
        cls,
        label: str,
        circuits: CircuitConfig | None = None,
        *,
        reservations: ReservationConfig | None = None,
        **parts: object,
    ) -> "AsyncIterator[RelayNode]":
        config = RelayServerConfig(
            RelayConfig(reservations or ReservationConfig(), circuits or CircuitConfig())
        )
        async with node(label, **parts) as mesh:
            server = RelayServer(
                mesh.host, lambda: tuple(mesh.host.listen_addresses), config, mesh.dht._network
            )
            server.enable(True)
            try:
                yield cls(mesh, server)
            finally:
                await server.close()


class Member:
    """A node that uses relays."""

    def __init__(self, mesh: MeshNode, circuits: Circuits, client: RelayClient) -> None:
        self.mesh = mesh
        self.circuits = circuits
        self.client = client

    @classmethod
    @contextlib.asynccontextmanager
    async def run(
        cls,
        label: str,
        host: HostConfig | None = None,
        *,
        circuits: CircuitsConfig | None = None,
        client: RelayClientConfig | None = None,
        **parts: object,
    ) -> "AsyncIterator[Member]":
        async with node(label, host, **parts) as mesh:
            # Behind a NAT, as it were: nobody gets in, and there is no address to tell.
            mesh.host.stop_listening()
            mesh.host.listen_addresses.clear()
            relay_client = RelayClient(
                mesh.host,
                mesh.dialer,
                client or RelayClientConfig(),
                random.Random(label),
                network=mesh.dht._network,
            )
            member = cls(
                mesh,
                Circuits(
                    mesh.host,
                    mesh.dialer,
                    circuits or CircuitsConfig(),
                    accepts_from=relay_client.holds_reservation_at,
                ),
                relay_client,
            )
            try:
                yield member
            finally:
                await relay_client.close()

    async def reserve(self, *relays: RelayNode) -> None:
        """Connect to the relays and hold a reservation at each."""
        for relay in relays:
            await self.mesh.join(relay.mesh)
        self.client.set_wanted(True)
        await until(lambda: len(self.client.reservations) == len(relays))

    @property
    def relayed_address(self) -> Multiaddr:
        """Through the relay of the oldest reservation, with /p2p/."""
        return self.client.reservations[0].addresses[0].with_peer(self.mesh.peer_id)
