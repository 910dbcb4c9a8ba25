"""A relay on loopback, and the two ends of a circuit by hand: raw hop and stop streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.net.mesh_node import MeshNode, node
from wws.identity.peer_id import PeerId
from wws.relay.messages import (
    HOP_PROTOCOL,
    MAX_MESSAGE,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Status,
    StopMessage,
    StopType,
)
from wws.runtime.connection import Connection
from wws.runtime.host import HostConfig
from wws.runtime.relay.server import RelayServer, RelayServerConfig
from wws.runtime.state_files import StateFile
from wws.runtime.streams import Stream

OK = StopMessage(StopType.STATUS, status=Status.OK)


@contextlib.asynccontextmanager
async def relay(
    config: RelayServerConfig | None = None,
    host: HostConfig | None = None,
    *,
    state: StateFile | None = None,
    **parts: object,
) -> AsyncIterator[tuple[MeshNode, RelayServer]]:
    """A running node `relay` and the relay server on it, switched on."""
    async with node("relay", host, **parts) as one:
        network = one.dht._network
        server = RelayServer(
            one.host, lambda: tuple(one.host.listen_addresses), config or RelayServerConfig(), network, state
        )
        await server.start()
        server.enable(True)
        try:
            yield one, server
        finally:
            await server.close()


async def ask(connection: Connection, request: HopMessage | bytes) -> HopMessage:
    """One request on a stream of its own, and its answer."""
    async with asyncio.timeout(20), connection.open_stream(HOP_PROTOCOL) as stream:
        return await ask_on(stream, request, last=True)


async def ask_on(stream: Stream, request: HopMessage | bytes, *, last: bool = False) -> HopMessage:
    async with asyncio.timeout(20):
        await stream.write_frame(request if isinstance(request, bytes) else request.encode())
        data = await stream.read_frame(MAX_MESSAGE)
        assert data is not None
        if last:
            await stream.finish()
        return HopMessage.parse(data)


async def reserve(connection: Connection) -> HopMessage:
    return await ask(connection, HopMessage(HopType.RESERVE))


async def connect(connection: Connection, to: PeerId) -> tuple[Stream, HopMessage]:
    """The hop stream and the answer; with OK the stream is the circuit."""
    stream = connection.open_stream(HOP_PROTOCOL)
    return stream, await ask_on(stream, HopMessage(HopType.CONNECT, peer=to))


@dataclass
class Destination:
    """Takes circuits, and does with each what it was told to."""

    answer: StopMessage | bytes | None = OK
    """`None`: silence."""
    then: Callable[[Stream], Awaitable[None]] | None = None
    asked: list[StopMessage] = field(default_factory=list)

    def serve(self, one: MeshNode) -> None:
        one.host.serve(STOP_PROTOCOL, self._serve)

    async def _serve(self, stream: Stream) -> None:
        data = await stream.read_frame(MAX_MESSAGE)
        assert data is not None
        self.asked.append(StopMessage.parse(data))
        if self.answer is None:
            await stream.read()
            return
        raw = self.answer if isinstance(self.answer, bytes) else self.answer.encode()
        await stream.write_frame(raw)
        if self.then is None:
            await stream.finish()
        else:
            await self.then(stream)
