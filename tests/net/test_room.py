"""Room for newcomers: nobody fills a node's connections for good."""

import asyncio
import contextlib

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import node
from wws.dht.kademlia import KademliaConfig
from wws.dht.lookup import LookupConfig
from wws.dht.routing import RoutingConfig, RoutingTable
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.mesh.connections import ConnectionTableConfig
from wws.runtime.dht_driver import DhtDriverConfig
from wws.runtime.host import HostConfig

pytestmark = [pytest.mark.net, pytest.mark.timeout(60)]


def test_the_peers_worth_keeping_are_bounded() -> None:
    local = Identity.from_label("alice").peer_id
    table = RoutingTable(local.position, RoutingConfig(bucket_size=2))
    for number in range(200):
        table.add(Identity.from_label(str(number)).peer_id, (), None, number)
    assert len(table) > 100
    useful = table.useful(3)
    assert {contact.peer for contact in table.closest(local.position, 3)} <= useful
    assert 3 <= len(useful) <= 2 * len(table.bucket_sizes()) + 3


@pytest.mark.usefixtures("leaves_nothing")
async def test_members_beyond_the_places_of_the_table_make_room() -> None:
    """Whoever says that he is of our network is a member: a dozen of them must not lock the others out."""
    small = HostConfig(table=ConnectionTableConfig(high_water=7, low_water=6, grace=0, trim_interval=0))
    few_places = KademliaConfig(lookup=LookupConfig(k=1), routing=RoutingConfig(bucket_size=1))
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(
            node("alice", small, kademlia=few_places, dht=DhtDriverConfig(protect_interval=0))
        )
        sybils = [await stack.enter_async_context(node(f"sybil {number}")) for number in range(16)]
        for sybil in sybils:
            with contextlib.suppress(WwsError):  # thrown out in the middle of it
                await (await sybil.dial(alice.address)).wait_identified()
        async with asyncio.timeout(20):
            await until(lambda: len(alice.host.table) <= 7)
        bob = await stack.enter_async_context(node("bob"))
        connection = await bob.dial(alice.address)
        assert await connection.wait_identified() is not None
        assert alice.host.refusals["connection", "trimmed"] > 0
        kept = sum(map(alice.host.table.is_protected, alice.host.table.peers()))
        assert kept <= len(alice.dht.machine.routing.bucket_sizes()) + 1
