"""The foreign peers against each other: an oracle is proven before it judges our node."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import pytest
import pytest_asyncio

from tests.interop.peer import (
    IMPLEMENTATIONS,
    SLOW_SINK,
    ForeignPeer,
    ForeignPeerError,
    Implementation,
    build,
)
from tests.prerequisites import require

pytestmark = [pytest.mark.interop, pytest.mark.net, pytest.mark.timeout(300)]

ALICE_SEED = hashlib.sha256(b"alice").hexdigest()
BOB_SEED = hashlib.sha256(b"bob").hexdigest()
KEY = "/wws/names/" + hashlib.sha256(b"carol").hexdigest()
CONTENT = b"\x12\x20" + hashlib.sha256(b"content").digest()
"""A SHA-256 multihash."""

PAIRS: list[tuple[Implementation, Implementation, str]] = [
    ("js", "go", "/ip4/127.0.0.1/tcp/0"),
    ("go", "js", "/ip4/127.0.0.1/udp/0/quic-v1"),
]
"""Who dials whom; in each test both do everything."""


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    require("npm", "go>=1.21")
    for implementation in IMPLEMENTATIONS:
        build(implementation)


@pytest_asyncio.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}-dials-{pair[1]}")
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[ForeignPeer, ForeignPeer]]:
    """Alice, who has dialled bob."""
    alice_is, bob_is, listen = request.param
    at = {"listen": [listen], "quic": True}
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(ForeignPeer.start(alice_is, seed_hex=ALICE_SEED, **at))
        bob = await stack.enter_async_context(ForeignPeer.start(bob_is, seed_hex=BOB_SEED, **at))
        connection = await alice.dial(bob.address)
        assert connection.peer_id == bob.peer_id
        if "/tcp/" in listen:
            assert (connection.security, connection.muxer) == ("/noise", "/yamux/1.0.0")
        yield alice, bob


async def _in_routing_tables(*peers: ForeignPeer) -> None:
    """Waits until each peer has every other one: both implementations ask a new peer something first."""
    everyone = {peer.peer_id for peer in peers}
    async with asyncio.timeout(20):
        for peer in peers:
            while not everyone - {peer.peer_id} <= await peer.routing_table():
                await asyncio.sleep(0.05)


async def test_streams(pair: tuple[ForeignPeer, ForeignPeer]) -> None:
    for one, other in (pair, pair[::-1]):
        assert len(await one.ping(other.peer_id, 3)) == 3
        assert len(await one.ping_stream(other.peer_id, 3)) == 3
        assert await one.echo(other.peer_id, b"hello") == b"hello"
        assert await one.half_close(other.peer_id, b"abc") == b"cba"
        assert await one.streams(other.peer_id, 100) == 100
        assert await one.echo_pattern(other.peer_id, 1_000_000) == 1_000_000
        assert (await one.upload(other.peer_id, 1_000_001))[0] == 1_000_001
        assert (await one.upload(other.peer_id, 1_000_001, protocol=SLOW_SINK))[0] == 1_000_001


async def test_identify(pair: tuple[ForeignPeer, ForeignPeer]) -> None:
    for one, other in (pair, pair[::-1]):
        identified = await one.identified(other.peer_id)
        assert "/wws/kad/1.0.0" in identified.protocols
        assert identified.addresses == tuple(
            address.removesuffix(f"/p2p/{other.peer_id}") for address in other.addresses
        )
        assert identified.signed_record
        await other.serve_echo("/test/late/1")
        pushed = await one.identified(other.peer_id, count=identified.count + 1)
        assert "/test/late/1" in pushed.protocols


async def test_dht(pair: tuple[ForeignPeer, ForeignPeer]) -> None:
    alice, bob = pair
    await _in_routing_tables(alice, bob)
    assert await alice.get(KEY) is None
    assert bob.peer_id in await alice.put(KEY, b"from alice")
    assert await bob.get(KEY) == b"from alice"
    with suppress(ForeignPeerError):  # go refuses to try, js learns it from bob
        assert await alice.put(KEY, b"BAD") == []
    assert await bob.get(KEY) == b"from alice"
    await bob.provide(CONTENT)
    assert {found.peer_id for found in await alice.find_providers(CONTENT)} == {bob.peer_id}
    found = await alice.find_peer(bob.peer_id)
    assert found is not None


async def test_networks_of_another_protocol_do_not_mix() -> None:
    async with (
        ForeignPeer.start("go", dht_protocol="/ipfs/kad/1.0.0") as alice,
        ForeignPeer.start("js") as bob,
        ForeignPeer.start("go") as carol,
    ):
        await alice.dial(bob.address)
        await carol.dial(bob.address)
        await _in_routing_tables(bob, carol)
        assert await alice.routing_table() == set()
        assert await bob.routing_table() == {carol.peer_id}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_the_wrong_peer_is_refused(implementation: Implementation) -> None:
    async with ForeignPeer.start(implementation) as alice, ForeignPeer.start("go") as bob:
        elsewhere = alice.address.replace(alice.peer_id, bob.peer_id)
        with pytest.raises(ForeignPeerError):
            await bob.dial(elsewhere)
        async with ForeignPeer.start(implementation) as carol:
            with pytest.raises(ForeignPeerError):
                await carol.dial(elsewhere)
            assert await carol.connections() == []


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_many_dials(implementation: Implementation) -> None:
    async with ForeignPeer.start(implementation) as alice, ForeignPeer.start("go") as bob:
        run = await alice.dial_many(bob.address, 5, concurrency=2, keep=True)
        assert (run.connected, run.errors) == (5, {})
        assert len(await bob.connections()) == 5
        assert await alice.release() == 5
        assert await bob.resident_memory() > 1_000_000
        assert await bob.cpu_seconds() > 0


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_it_ends_with_its_driver(implementation: Implementation) -> None:
    async with ForeignPeer.start(implementation) as alice:
        assert (await alice.call("info"))["peer_id"] == alice.peer_id
    with pytest.raises(ConnectionRefusedError):
        await alice.call("info")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
async def test_a_peer_that_cannot_start_says_why(implementation: Implementation) -> None:
    with pytest.raises(ForeignPeerError, match="before it was ready") as caught:
        async with ForeignPeer.start(implementation, seed_hex="00"):
            pass
    assert "32" in "\n".join(caught.value.__notes__)
