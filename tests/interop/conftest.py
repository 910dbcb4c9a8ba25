"""The foreign peers of the interoperability tests: one of each kind for a whole test module."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pytest
import pytest_asyncio
import uvloop

from tests.interop.ours import OurNode, until_true
from tests.interop.peer import IMPLEMENTATIONS, ForeignPeer, Implementation, build
from tests.prerequisites import require
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.runtime.connection import Connection


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the node runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def built() -> None:
    require("npm", "go>=1.21")
    for implementation in IMPLEMENTATIONS:
        build(implementation)


Kind: TypeAlias = tuple[Implementation, Transport]

OVER_TCP: list[Kind] = [(implementation, "tcp") for implementation in IMPLEMENTATIONS]
OVER_QUIC: list[Kind] = [(implementation, "quic-v1") for implementation in IMPLEMENTATIONS]

over_tcp = pytest.mark.parametrize("foreign", OVER_TCP, indirect=True, ids="-".join)
"""For a test of something that only TCP has."""
over_transports = pytest.mark.parametrize("transport", ["tcp", "quic-v1"])
over_quic = pytest.mark.parametrize("foreign", OVER_QUIC, indirect=True, ids="-".join)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[*OVER_TCP, *OVER_QUIC], ids="-".join)
async def foreign(request: pytest.FixtureRequest, built: None) -> AsyncIterator[ForeignPeer]:
    """A js or go peer on TCP or QUIC that the tests of a module share: each brings a node of its own."""
    implementation, transport = request.param
    seed = hashlib.sha256(f"{request.param} in {request.module.__name__}".encode()).hexdigest()
    async with ForeignPeer.start(
        implementation,
        seed_hex=seed,
        agent=f"{implementation}/1",
        listen=[str(Multiaddr.of("127.0.0.1", 0, transport))],
        quic=transport == "quic-v1",
    ) as peer:
        yield peer


@pytest_asyncio.fixture(loop_scope="module")
async def ours(request: pytest.FixtureRequest, foreign: ForeignPeer) -> AsyncIterator[OurNode]:
    """Our node, of an identity that the foreign peer has never met, on the transport of that peer."""
    async with OurNode.start(request.node.nodeid, listen=(transport_of(foreign),)) as node:
        yield node


def transport_of(foreign: ForeignPeer) -> Transport:
    """What it listens on."""
    transport = Multiaddr.parse(foreign.address).transport
    assert transport is not None
    return transport


Direction: TypeAlias = Literal["we-dial", "it-dials"]


@dataclass(frozen=True, slots=True)
class Link:
    """Our node and a foreign peer, connected."""

    ours: OurNode
    connection: Connection
    foreign: ForeignPeer
    us: str
    """Our PeerId, as the foreign peer is told it."""

    @property
    def transport(self) -> Transport:
        return transport_of(self.foreign)


@pytest_asyncio.fixture(loop_scope="module", params=["we-dial", "it-dials"])
async def link(request: pytest.FixtureRequest, ours: OurNode, foreign: ForeignPeer) -> Link:
    return await connect(ours, foreign, request.param)


async def connect(ours: OurNode, foreign: ForeignPeer, how: Direction) -> Link:
    us = str(ours.peer_id)
    if how == "we-dial":
        connection = await ours.dial(foreign.address)
        # Whose last word completes a handshake knows of it first. Let the peer know as well.
        await until_true(lambda: _knows(foreign, us))
    else:
        await foreign.dial(ours.address)
        connection = await ours.connection_with(foreign.peer_id)
    return Link(ours, connection, foreign, us)


async def _knows(foreign: ForeignPeer, peer_id: str) -> bool:
    return any(connection.peer_id == peer_id for connection in await foreign.connections())
