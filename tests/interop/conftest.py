"""The foreign peers of the interoperability tests: one of each implementation for a whole test module."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pytest
import pytest_asyncio
import uvloop

from tests.interop.ours import OurNode, until_true
from tests.interop.peer import IMPLEMENTATIONS, ForeignPeer, build
from tests.prerequisites import require
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


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=IMPLEMENTATIONS)
async def foreign(request: pytest.FixtureRequest, built: None) -> AsyncIterator[ForeignPeer]:
    """A js or go peer that the tests of a module share: each test brings a node of its own."""
    seed = hashlib.sha256(f"{request.param} in {request.module.__name__}".encode()).hexdigest()
    async with ForeignPeer.start(request.param, seed_hex=seed, agent=f"{request.param}/1") as peer:
        yield peer


@pytest_asyncio.fixture(loop_scope="module")
async def ours(request: pytest.FixtureRequest, foreign: ForeignPeer) -> AsyncIterator[OurNode]:
    """Our node, of an identity that the foreign peer has never met."""
    async with OurNode.start(request.node.nodeid) as node:
        yield node


Direction: TypeAlias = Literal["we-dial", "it-dials"]


@dataclass(frozen=True, slots=True)
class Link:
    """Our node and a foreign peer, connected."""

    ours: OurNode
    connection: Connection
    foreign: ForeignPeer
    us: str
    """Our PeerId, as the foreign peer is told it."""


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
