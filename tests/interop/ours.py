"""Our node as the interoperability tests use it: host, dialer, identify, ping, the DHT and test protocols.

::

    async with OurNode.start("alice") as alice:
        connection = await alice.dial(bob.address)
        assert await alice.echo(connection, b"hello") == b"hello"

Each piece is the one that the real node is made of; only the composition is smaller. The protocols are those
that the foreign peers serve (tests/interop/peers/README.md).
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Self

from tests.interop.peer import ECHO, REVERSE, SINK, SLOW_SINK
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.dht.kademlia import Kademlia, KademliaConfig, RecordKind
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.kinds import NameRecords, PeerRecords
from wws.runtime.clock import SystemClock
from wws.runtime.connection import Connection
from wws.runtime.dht_driver import DhtDriver, DhtDriverConfig
from wws.runtime.dialer import Dialer, DialerConfig
from wws.runtime.host import Host, HostConfig
from wws.runtime.identify_service import IdentifyConfig, IdentifyService
from wws.runtime.ping import PingConfig, PingService
from wws.runtime.quic_transport import QuicTransport
from wws.runtime.streams import Stream

CHUNK = 64 * 1024
_PATIENCE = 20.0


class OurNode:
    """A running node of ours."""

    def __init__(self, label: str, config: HostConfig, network: str | None) -> None:
        rng = random.Random(label)
        self.label = label
        self.host = Host(Identity.from_label(label), config, clock=SystemClock(), rng=rng)
        self.host.quic = QuicTransport(self.host, self.host.identity)
        self.dialer = Dialer(self.host, _no_names, DialerConfig())
        self.identify = IdentifyService(
            self.host, IdentifyConfig(), lambda: tuple(self.host.listen_addresses)
        )
        self.identify.set_network(network)
        self.ping = PingService(self.host, PingConfig(), rng)
        kinds: tuple[RecordKind, ...] = (NameRecords(), PeerRecords())
        self.kademlia = Kademlia(self.peer_id, KademliaConfig(), rng, {kind.prefix: kind for kind in kinds})
        self.dht = DhtDriver(self.host, self.dialer, self.kademlia, DhtDriverConfig(), network)
        for protocol, handler in (
            (ECHO, echo),
            (SINK, sink),
            (SLOW_SINK, slow_sink),
            (REVERSE, reverse),
        ):
            self.host.serve(protocol, handler)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        label: str,
        config: HostConfig | None = None,
        *,
        network: str | None = None,
        serve_dht: bool = False,
        listen: Sequence[Transport] = ("tcp",),
    ) -> AsyncIterator[Self]:
        """A node that listens on loopback, closed at the end of the block.

        :param network: the `/wws/net/…` protocol of its network; None: an ad hoc network.
        """
        node = cls(label, config or HostConfig(), network)
        await node.host.start()
        try:
            node.dht.set_mode(serve_dht)
            for transport in listen:
                await node.host.listen(Multiaddr.of("127.0.0.1", 0, transport))
            node.dht.set_addresses(tuple(node.host.listen_addresses))
            yield node
        finally:
            await node.dht.close()
            await node.dialer.close()
            await node.host.close()

    @property
    def peer_id(self) -> PeerId:
        return self.host.identity.peer_id

    @property
    def address(self) -> str:
        """Where it listens, with /p2p/."""
        return str(self.host.listen_addresses[0].with_peer(self.peer_id))

    async def dial(self, address: str) -> Connection:
        """A connection to `address`, which names the peer with /p2p/."""
        target = Multiaddr.parse(address)
        assert target.peer_id is not None
        return await self.dialer.connect(target.peer_id, [target])

    async def connection_with(self, peer_id: str) -> Connection:
        """The connection with a peer that dialled us; waits for it."""
        peer = PeerId.parse(peer_id)
        await until(lambda: self.host.connection_to(peer) is not None)
        connection = self.host.connection_to(peer)
        assert connection is not None
        return connection

    # What the foreign peers can do as well

    async def echo_pattern(self, connection: Connection, size: int, *, on_the_way: int) -> int:
        """Sends `size` bytes and compares what comes back, writing and reading at the same time.

        :param on_the_way: how many bytes may be sent before the first of them has come back.
        """
        data = pattern(size)
        back = bytearray()
        came_back = asyncio.Event()
        async with connection.open_stream(ECHO) as stream, asyncio.TaskGroup() as tasks:

            async def write() -> None:
                for offset in range(0, size, CHUNK):
                    while offset + CHUNK - len(back) > on_the_way:
                        came_back.clear()
                        await came_back.wait()
                    await stream.write(data[offset : offset + CHUNK])
                stream.close_write()

            tasks.create_task(write())
            while chunk := await stream.read():
                back += chunk
                came_back.set()
        assert back == data
        return size

    async def half_close(self, connection: Connection, data: bytes, *, protocol: str = REVERSE) -> bytes:
        """Writes, closes the write side, then reads the answer to its end."""
        async with connection.open_stream(protocol) as stream:
            await stream.write(data)
            stream.close_write()
            return await stream.read_to_end(len(data) + 100)

    async def upload(self, connection: Connection, size: int, *, protocol: str = SINK) -> int:
        """The count the sink acknowledged."""
        return int(await self.half_close(connection, pattern(size), protocol=protocol))


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that no event tells of. Raises `TimeoutError` when it does not come."""
    async with asyncio.timeout(_PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def until_true(condition: Callable[[], Awaitable[bool]]) -> None:
    """The same for a condition that has to be asked for."""
    async with asyncio.timeout(_PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


def pattern(size: int) -> bytes:
    """The bytes 0, 1, … 250 over and over: a length that divides no buffer size, so a lost chunk shows."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def send_all(stream: Stream, data: bytes) -> None:
    await stream.write(data)
    stream.close_write()


# The test protocols


async def echo(stream: Stream) -> None:
    """Sends back what comes, reading no faster than it can write."""
    while data := await stream.read():
        await stream.write(data)
    stream.close_write()


async def sink(stream: Stream) -> None:
    """Counts bytes until the end, answers the count in decimal."""
    count = 0
    while data := await stream.read():
        count += len(data)
    await stream.write(b"%d" % count)
    stream.close_write()


async def slow_sink(stream: Stream) -> None:
    """The sink, at 64 KiB every 20 ms."""
    count = 0
    while data := await stream.read():
        count += len(data)
        await asyncio.sleep(0.02 * len(data) / CHUNK)
    await stream.write(b"%d" % count)
    stream.close_write()


async def reverse(stream: Stream) -> None:
    """Reads to the end, answers everything backwards."""
    await stream.write((await stream.read_to_end(1024 * 1024))[::-1])
    stream.close_write()


async def _no_names(address: Multiaddr) -> Sequence[Multiaddr]:
    raise WwsError(f"nothing here is known by name: {address}")
