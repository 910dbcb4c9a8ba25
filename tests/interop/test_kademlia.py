"""Our node and the foreign peers in one DHT, and in two that must not mix.

The foreign peers take any value that does not start with `BAD`; our node takes records that are valid.
"""

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio

from tests.interop.ours import OurNode, until, until_true
from tests.interop.peer import IMPLEMENTATIONS, ForeignPeer, ForeignPeerError, Implementation
from wws.addresses.multiaddr import Transport
from wws.discovery.network import network_protocol_id
from wws.identity.peer_id import PeerId
from wws.names.peer_record import PeerRecord
from wws.names.record import NameRecord
from wws.testing.names import name_record, peer_record

pytestmark = [pytest.mark.interop, pytest.mark.net, pytest.mark.timeout(120)]

NOW = int(time.time())
"""When all records here were issued: of two claims of one owner the earlier one would win."""
CONTENT = b"\x12\x20" + hashlib.sha256(b"content").digest()
"""A SHA-256 multihash."""
NETWORK = network_protocol_id("example.org")


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest, built: None) -> Implementation:
    chosen: Implementation = request.param
    return chosen


@pytest_asyncio.fixture
async def bob(implementation: Implementation) -> AsyncIterator[ForeignPeer]:
    """A foreign peer of its own for each test: a routing table remembers peers that are long gone."""
    async with ForeignPeer.start(
        implementation, listen=["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"], quic=True
    ) as peer:
        yield peer


@pytest_asyncio.fixture(params=["we-dial", "it-dials", "over-quic"])
async def alice(request: pytest.FixtureRequest, bob: ForeignPeer) -> AsyncIterator[OurNode]:
    """Our node in one DHT with bob."""
    transport: Transport = "quic-v1" if request.param == "over-quic" else "tcp"
    async with OurNode.start("alice", serve_dht=True, listen=(transport,)) as node:
        if request.param == "we-dial":
            await node.dial(bob.address)
        elif request.param == "over-quic":
            assert (await node.dial(bob.address_of("quic-v1"))).transport == "quic-v1"
        else:
            await bob.dial(node.address)
        await in_one_dht(node, bob)
        yield node


async def in_one_dht(node: OurNode, peer: ForeignPeer) -> None:
    """Waits until each has the other in its routing table: both sides ask a new peer something first."""
    await until(lambda: PeerId.parse(peer.peer_id) in node.kademlia.routing)
    await until_true(lambda: knows(peer, str(node.peer_id)))


async def knows(peer: ForeignPeer, other: str) -> bool:
    return other in await peer.routing_table()


def record_of_carol(name: str = "carol", *, version: int = 0) -> NameRecord:
    return name_record("carol", name=name, registered_at=NOW, seq=NOW + version)


def peer_record_of_carol() -> PeerRecord:
    return peer_record("carol", issued_at=NOW)


def kept(node: OurNode, key: str) -> bytes | None:
    """What the node itself holds."""
    return node.kademlia.records.find(key.encode(), node.host.clock.unix())


async def test_put_here_get_there(alice: OurNode, bob: ForeignPeer) -> None:
    for record in (record_of_carol(), peer_record_of_carol()):
        assert await bob.get(record.key) is None
        done = await alice.dht.put(record.key, record.value)
        assert (done.stored, done.reachable) == (2, 2)
        assert await bob.get(record.key) == record.value
    assert alice.host.refusals.total() == 0


async def test_put_there_get_here(alice: OurNode, bob: ForeignPeer) -> None:
    for record in (record_of_carol(), peer_record_of_carol()):
        assert (await alice.dht.get(record.key)).value is None
        assert str(alice.peer_id) in await bob.put(record.key, record.value)
        assert kept(alice, record.key) == record.value
        done = await alice.dht.get(record.key)
        assert (done.value, done.answers, done.holders) == (record.value, 2, 2)
    newer = record_of_carol(version=1)
    assert (await alice.dht.put(newer.key, newer.value)).stored == 2
    assert await bob.get(newer.key) == newer.value
    assert alice.host.refusals.total() == 0


async def test_a_holder_of_an_old_record_is_brought_the_new_one(bob: ForeignPeer) -> None:
    old, new = (record_of_carol(version=version) for version in (0, 1))
    async with OurNode.start("alice", serve_dht=True) as alice:
        await alice.dht.put(new.key, new.value)
        await alice.dial(bob.address)
        await in_one_dht(alice, bob)
        await bob.put(old.key, old.value)
        assert kept(alice, new.key) == new.value
        assert (await alice.dht.get(new.key)).value == new.value
        await until_true(lambda: _finds(bob, new))


async def _finds(peer: ForeignPeer, record: NameRecord) -> bool:
    return await peer.get(record.key) == record.value


@pytest.mark.parametrize("what", ["no record", "under another key", "of no kind"])
async def test_who_brings_what_is_not_valid_is_refused_that_and_nothing_more(
    alice: OurNode, bob: ForeignPeer, what: str
) -> None:
    """One at a time: who goes on with forgeries is banned for a while."""
    good = record_of_carol()
    await alice.dht.put(good.key, good.value)
    key, value = {
        "no record": (good.key, b"no record"),
        "under another key": (record_of_carol("dave").key, good.value),
        "of no kind": ("/wws/unknown/1", b"of no kind"),
    }[what]
    await bob.put(key, value)
    assert kept(alice, key) == (good.value if key == good.key else None)
    with suppress(ForeignPeerError):  # both insist on correcting us
        await bob.get(key)
    assert (await alice.dht.get(good.key)).value == good.value
    assert await knows(bob, str(alice.peer_id))
    assert PeerId.parse(bob.peer_id) in alice.kademlia.routing
    other = peer_record_of_carol()
    await bob.put(other.key, other.value)
    assert kept(alice, other.key) == other.value


async def test_providers(alice: OurNode, bob: ForeignPeer) -> None:
    await bob.provide(CONTENT)
    await until(lambda: bool(alice.kademlia.providers.find(CONTENT, alice.host.clock.monotonic())))
    (found,) = (await alice.dht.find_providers(CONTENT)).providers
    assert str(found.peer_id) == bob.peer_id
    assert [str(address.with_peer(found.peer_id)) for address in found.addresses] == list(bob.addresses)
    await alice.dht.provide(CONTENT)
    providers = {provider.peer_id: provider.addresses for provider in await bob.find_providers(CONTENT)}
    assert str(alice.peer_id) in providers
    found_here = {str(peer.peer_id) for peer in (await alice.dht.find_providers(CONTENT)).providers}
    assert found_here == {bob.peer_id, str(alice.peer_id)}


async def test_peers_are_found_through_each_other(
    alice: OurNode, bob: ForeignPeer, implementation: Implementation
) -> None:
    async with (
        ForeignPeer.start(implementation, quic=True) as carol,
        OurNode.start("dave", serve_dht=True) as dave,
    ):
        await carol.dial(alice.address)
        await dave.dial(bob.address)
        await in_one_dht(alice, carol)
        await in_one_dht(dave, bob)
        # bob learns of carol through alice, alice of dave through bob.
        await until_true(lambda: _finds_where(bob, carol))
        first = (await alice.dht.find(dave.peer_id)).peers[0]
        assert first.peer_id == dave.peer_id
        await alice.dialer.connect(dave.peer_id, first.addresses)
        # What carol puts, dave gets: neither was told of the other.
        record = record_of_carol()
        await until_true(lambda: _puts_at_two(carol, record))  # it counts only whom it has reached by then
        assert (await dave.dht.get(record.key)).value == record.value


async def _finds_where(peer: ForeignPeer, other: ForeignPeer) -> bool:
    """A busy one may answer before it has taken in what it was told of the other's addresses."""
    found = await peer.find_peer(other.peer_id)
    assert found is not None
    places = [{address.partition("/p2p/")[0] for address in one.addresses} for one in (found, other)]
    return places[0] == places[1]


async def _puts_at_two(peer: ForeignPeer, record: NameRecord) -> bool:
    return len(await peer.put(record.key, record.value)) >= 2


async def test_a_client_is_served_and_not_asked(implementation: Implementation) -> None:
    async with (
        OurNode.start("alice", serve_dht=True) as alice,
        ForeignPeer.start(implementation, dht_mode="client") as bob,
    ):
        await bob.dial(alice.address)
        await until_true(lambda: knows(bob, str(alice.peer_id)))
        record = record_of_carol()
        assert await bob.put(record.key, record.value) == [str(alice.peer_id)]
        assert await bob.get(record.key) == record.value
        assert len(alice.kademlia.routing) == 0
        done = await alice.dht.put(record.key, record.value)
        assert (done.stored, done.reachable) == (1, 1)


async def test_our_client_asks_and_is_not_asked(bob: ForeignPeer) -> None:
    async with OurNode.start("alice", serve_dht=False) as alice:
        connection = await alice.dial(bob.address)
        await until(lambda: PeerId.parse(bob.peer_id) in alice.kademlia.routing)
        assert connection.identification is not None
        record = record_of_carol()
        await alice.dht.put(record.key, record.value)
        assert await bob.get(record.key) == record.value
        assert (await alice.dht.get(record.key)).value == record.value
        assert await bob.routing_table() == set()


async def test_the_public_network_does_not_mix_with_ours(implementation: Implementation) -> None:
    async with (
        OurNode.start("alice", serve_dht=True) as alice,
        ForeignPeer.start(implementation, dht_protocol="/ipfs/kad/1.0.0") as stranger,
        ForeignPeer.start("go") as bob,
    ):
        await stranger.dial(alice.address)
        await alice.dial(bob.address)
        await in_one_dht(alice, bob)
        connection = await alice.connection_with(stranger.peer_id)
        said = await connection.wait_identified()
        assert said is not None
        assert "/ipfs/kad/1.0.0" in (said.protocols or ())
        await stranger.identified(str(alice.peer_id))
        assert connection.peer_id not in alice.kademlia.routing
        assert await stranger.routing_table() == set()
        assert await bob.routing_table() == {str(alice.peer_id)}
        record = record_of_carol()
        assert (await alice.dht.put(record.key, record.value)).reachable == 2
        # It neither learns of our peers from us, nor we of its.
        assert {str(peer.peer_id) for peer in (await alice.dht.find(connection.peer_id)).peers} <= {
            bob.peer_id
        }


async def test_a_peer_that_names_no_network_is_served_and_never_asked(bob: ForeignPeer) -> None:
    async with OurNode.start("alice", network=NETWORK, serve_dht=True) as alice:
        connection = await alice.dial(bob.address)
        await connection.wait_identified()
        await until_true(lambda: knows(bob, str(alice.peer_id)))
        record = record_of_carol()
        assert str(alice.peer_id) in await bob.put(record.key, record.value)
        assert kept(alice, record.key) == record.value
        assert await bob.get(record.key) == record.value
        assert len(alice.kademlia.routing) == 0
        other = peer_record_of_carol()
        done = await alice.dht.put(other.key, other.value)
        assert (done.stored, done.reachable) == (1, 1)
        assert (await alice.dht.find(PeerId.parse(bob.peer_id))).peers == ()


async def test_a_peer_that_joins_our_network_later_is_asked_from_then_on(bob: ForeignPeer) -> None:
    async with OurNode.start("alice", network=NETWORK, serve_dht=True) as alice:
        connection = await alice.dial(bob.address)
        await connection.wait_identified()
        assert len(alice.kademlia.routing) == 0
        await bob.serve_echo(NETWORK)
        await until(lambda: connection.peer_id in alice.kademlia.routing)
        record = record_of_carol()
        assert (await alice.dht.put(record.key, record.value)).stored == 2


async def test_a_peer_of_another_network_is_not_answered(bob: ForeignPeer) -> None:
    await bob.serve_echo(network_protocol_id("example.net"))
    async with OurNode.start("alice", network=NETWORK, serve_dht=True) as alice:
        connection = await alice.dial(bob.address)
        said = await connection.wait_identified()
        assert said is not None
        assert said.network == network_protocol_id("example.net")
        await bob.identified(str(alice.peer_id))
        record = record_of_carol()
        await alice.dht.put(record.key, record.value)
        # Whom they have just met, both ask something.
        await until(lambda: alice.host.refusals["/wws/kad/1.0.0", "wrong_network"] > 0)
        with suppress(ForeignPeerError):  # go says that it has nobody to ask
            assert await bob.get(record.key) is None
        assert len(alice.kademlia.routing) == 0
