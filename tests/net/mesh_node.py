"""A node of ours without names and discovery, put together for tests on loopback."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Self

from tests.interop.ours import echo, reverse, sink, until
from tests.interop.peer import ECHO, REVERSE, SINK
from wws.addresses.multiaddr import Multiaddr
from wws.dht.kademlia import Kademlia, KademliaConfig
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.kinds import NameRecords, PeerRecords
from wws.runtime.clock import Clock, SystemClock
from wws.runtime.connection import Connection
from wws.runtime.dht_driver import DhtDriver, DhtDriverConfig
from wws.runtime.dialer import Dialer, DialerConfig, Resolver
from wws.runtime.host import Host, HostConfig
from wws.runtime.identify_service import IdentifyConfig, IdentifyService
from wws.runtime.ping import PingConfig, PingService

NETWORK = "/wws/net/0123456789abcdef"
OTHER_NETWORK = "/wws/net/fedcba9876543210"
_TICK = 0.01


class MeshNode:
    """Host, dialer, identify, ping, Kademlia, and three test protocols."""

    def __init__(
        self,
        label: str,
        config: HostConfig | None = None,
        *,
        clock: Clock | None = None,
        network: str | None = NETWORK,
        dialer: DialerConfig | None = None,
        resolver: Resolver | None = None,
        identify: IdentifyConfig | None = None,
        ping: PingConfig | None = None,
        dht: DhtDriverConfig | None = None,
        kademlia: KademliaConfig | None = None,
        names: NameRecords | None = None,
    ) -> None:
        rng = random.Random(label)
        self.host = Host(
            Identity.from_label(label),
            replace(config or HostConfig(), tick=_TICK),
            clock=clock or SystemClock(),
            rng=rng,
        )
        self.dialer = Dialer(self.host, resolver or _no_names, dialer or DialerConfig())
        self.identify = IdentifyService(
            self.host, identify or IdentifyConfig(), lambda: tuple(self.host.listen_addresses)
        )
        self.identify.set_network(network)
        self.ping = PingService(self.host, ping or PingConfig(), rng)
        kinds = {kind.prefix: kind for kind in (names or NameRecords(), PeerRecords())}
        machine = Kademlia(self.host.identity.peer_id, kademlia or KademliaConfig(), rng, kinds)
        self.dht = DhtDriver(self.host, self.dialer, machine, dht or DhtDriverConfig(), network)
        for protocol, handler in ((ECHO, echo), (SINK, sink), (REVERSE, reverse)):
            self.host.serve(protocol, handler)

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, node: Self, *, server: bool = True) -> AsyncIterator[Self]:
        """The node listens on loopback until the end of the block, and serves the DHT if `server`."""
        await node.host.start()
        try:
            node.dht.set_mode(server)
            await node.host.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
            yield node
        finally:
            await node.dht.close()
            await node.dialer.close()
            await node.host.close()

    @property
    def peer_id(self) -> PeerId:
        return self.host.identity.peer_id

    @property
    def address(self) -> Multiaddr:
        """Where it listens, with /p2p/."""
        return self.host.listen_addresses[0].with_peer(self.peer_id)

    async def dial(self, address: Multiaddr) -> Connection:
        """A connection to `address`, which names the peer with /p2p/."""
        assert address.peer_id is not None
        return await self.dialer.connect(address.peer_id, [address])

    async def connection_with(self, peer: PeerId) -> Connection:
        """The connection with a peer that dialled us; waits for it."""
        await until(lambda: self.host.connection_to(peer) is not None)
        connection = self.host.connection_to(peer)
        assert connection is not None
        return connection

    @property
    def port(self) -> int:
        port = self.host.listen_addresses[0].port
        assert port
        return port

    async def join(self, other: "MeshNode") -> Connection:
        """Connect to another node and wait until both know each other."""
        connection = await self.dial(other.address)
        async with asyncio.timeout(20):
            assert await connection.wait_identified() is not None
            assert await (await other.connection_with(self.peer_id)).wait_identified() is not None
        return connection

    def slots(self) -> tuple[int, int, int]:
        """Slots, established connections, half-open ones."""
        return self.host.admission.total, len(self.host.table), len(self.host._half_open)


def node(
    label: str, config: HostConfig | None = None, **parts: object
) -> contextlib.AbstractAsyncContextManager[MeshNode]:
    """A running node, for `async with`; the parts are those of `MeshNode`, and `server`."""
    server = bool(parts.pop("server", True))
    return MeshNode.run(MeshNode(label, config, **parts), server=server)  # type: ignore[arg-type]


async def _no_names(address: Multiaddr) -> Sequence[Multiaddr]:
    raise WwsError(f"nothing here is known by name: {address}")
