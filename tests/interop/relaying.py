"""Our node as a relay, and as one that is reached through relays, as the interoperability tests use them."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tests.interop.ours import OurNode, until
from tests.interop.peer import ForeignPeer, Implementation
from wws.addresses.multiaddr import Transport
from wws.relay.server import RelayConfig
from wws.runtime.relay.circuits import Circuits, CircuitsConfig
from wws.runtime.relay.client import RelayClient, RelayClientConfig
from wws.runtime.relay.server import RelayServer, RelayServerConfig

BOTH: tuple[Transport, ...] = ("tcp", "quic-v1")
LOOPBACK = ("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1")


@dataclass(frozen=True, slots=True)
class Member:
    """Our node with what it takes to use relays."""

    node: OurNode
    circuits: Circuits
    client: RelayClient

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, label: str, *, listen: Sequence[Transport] = ()) -> AsyncIterator[Member]:
        async with OurNode.start(label, listen=listen) as node:
            rng = random.Random(label)
            client = RelayClient(node.host, node.dialer, RelayClientConfig(), rng)
            circuits = Circuits(
                node.host, node.dialer, CircuitsConfig(), accepts_from=client.holds_reservation_at
            )
            try:
                yield cls(node, circuits, client)
            finally:
                await client.close()

    async def reserve(self, relay: str) -> str:
        """Hold a reservation at the relay; the address through it, by the same transport, with /p2p/."""
        connection = await self.node.dial(relay)
        await connection.wait_identified()
        self.client.set_wanted(True)
        await until(lambda: bool(self.client.reservations))
        given = self.client.reservations[0].addresses
        [address] = [one for one in given if one.transport == connection.transport]
        return str(address.with_peer(self.node.peer_id))


@dataclass(frozen=True, slots=True)
class OurRelay:
    """Our node as a relay on loopback, by TCP and QUIC."""

    node: OurNode
    server: RelayServer

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, config: RelayConfig | None = None) -> AsyncIterator[OurRelay]:
        async with OurNode.start("relay", listen=BOTH) as node:
            server = RelayServer(
                node.host,
                lambda: tuple(node.host.listen_addresses),
                RelayServerConfig(config or RelayConfig()),
            )
            server.enable(True)
            try:
                yield cls(node, server)
            finally:
                await server.close()

    def address_of(self, transport: Transport) -> str:
        listening = self.node.host.listen_addresses
        [address] = [one for one in listening if one.transport == transport]
        return str(address.with_peer(self.node.peer_id))


def foreign_member(
    implementation: Implementation, **config: object
) -> contextlib.AbstractAsyncContextManager[ForeignPeer]:
    """A foreign peer that uses relays, and makes no direct connection of what goes through one."""
    return ForeignPeer.start(
        implementation, listen=list(LOOPBACK), quic=True, relay_client=True, dht_protocol=None, **config
    )


def foreign_relay(
    implementation: Implementation, **limits: int
) -> contextlib.AbstractAsyncContextManager[ForeignPeer]:
    """A foreign relay: `limit_seconds` and `limit_bytes` are those of each circuit."""
    return ForeignPeer.start(
        implementation, listen=list(LOOPBACK), quic=True, relay_client=True, relay=limits, dht_protocol=None
    )
