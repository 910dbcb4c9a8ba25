"""Our node and the foreign peers: connections, identities, the two ways to agree on a multiplexer."""

import asyncio
import hashlib

import pytest

from tests.interop.conftest import Direction, Link, connect, over_tcp, transport_of
from tests.interop.ours import OurNode, until, until_true
from tests.interop.peer import ECHO, ForeignPeer, ForeignPeerError
from wws.identity.keys import Identity
from wws.mesh.connections import ConnectionTableConfig
from wws.runtime.connection import Connection
from wws.runtime.dialer import DialFailed
from wws.runtime.host import HostConfig
from wws.transport.connection import ConnectionConfig, SecureConnection

pytestmark = [
    pytest.mark.interop,
    pytest.mark.net,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]


async def connections_with(foreign: ForeignPeer, peer_id: str) -> int:
    return sum(connection.peer_id == peer_id for connection in await foreign.connections())


async def test_both_know_each_other(link: Link) -> None:
    (seen,) = [one for one in await link.foreign.connections() if one.peer_id == link.us]
    assert str(link.connection.peer_id) == link.foreign.peer_id
    assert link.connection.transport == link.transport
    if link.transport == "tcp":
        assert (seen.security, seen.muxer) == ("/noise", "/yamux/1.0.0")
        assert seen.early_muxer is not False  # js does not say
        assert _agreed_early(link.connection)
    assert link.connection.outbound == (seen.direction == "inbound")
    assert await link.ours.half_close(link.connection, b"abc") == b"cba"
    assert await link.foreign.half_close(link.us, b"abc") == b"cba"


async def test_we_refuse_another_than_the_one_we_dialled(ours: OurNode, foreign: ForeignPeer) -> None:
    carol = Identity.from_label("carol").peer_id
    with pytest.raises(DialFailed) as caught:
        await ours.dial(foreign.address.replace(foreign.peer_id, str(carol)))
    assert [attempt.code for attempt in caught.value.attempts] == ["peer_id_mismatch"]
    assert ours.host.connections() == []
    await until_true(lambda: _none_with(foreign, str(ours.peer_id)))


async def test_we_are_refused_where_another_was_expected(ours: OurNode, foreign: ForeignPeer) -> None:
    carol = Identity.from_label("carol").peer_id
    with pytest.raises(ForeignPeerError):
        await foreign.dial(ours.address.replace(str(ours.peer_id), str(carol)))
    await until(lambda: not ours.host.connections())
    assert await connections_with(foreign, str(ours.peer_id)) == 0


def _agreed_early(connection: Connection) -> bool:
    assert isinstance(connection.machine, SecureConnection)
    return connection.machine.early_muxer


async def _none_with(foreign: ForeignPeer, peer_id: str) -> bool:
    return await connections_with(foreign, peer_id) == 0


async def test_we_leave_and_come_back(link: Link) -> None:
    for _ in range(3):
        connection = await link.ours.connection_with(link.foreign.peer_id)
        connection.close()
        await until_true(lambda: _none_with(link.foreign, link.us))
        again = await connect(link.ours, link.foreign, "we-dial")
        assert again.connection is not connection
        assert await link.ours.half_close(again.connection, b"abc") == b"cba"
        assert await link.foreign.half_close(link.us, b"abc") == b"cba"


async def test_it_leaves_and_comes_back(link: Link) -> None:
    peer = link.connection.peer_id
    for _ in range(3):
        await link.foreign.hang_up(link.us)
        await until(lambda: link.ours.host.connection_to(peer) is None)
        again = await connect(link.ours, link.foreign, "it-dials")
        assert await link.ours.half_close(again.connection, b"abc") == b"cba"
        assert await link.foreign.half_close(link.us, b"abc") == b"cba"


async def test_both_dial_at_once(ours: OurNode, foreign: ForeignPeer) -> None:
    us = str(ours.peer_id)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ours.dial(foreign.address))
        tasks.create_task(foreign.dial(ours.address))
    connection = await ours.connection_with(foreign.peer_id)
    # However many they are: those that stay work, from both sides.
    assert await ours.half_close(connection, b"abc") == b"cba"
    assert await foreign.half_close(us, b"abc") == b"cba"
    assert 1 <= await connections_with(foreign, us) <= 2


async def test_two_connections_of_one_peer_become_one(foreign: ForeignPeer) -> None:
    """A peer that was restarted, or copied: two processes with one key."""
    seed = hashlib.sha256(b"bob and his twin").hexdigest()
    quic = transport_of(foreign) == "quic-v1"
    at_once = HostConfig(table=ConnectionTableConfig(settle=0.0, settle_other=0.0))
    async with (
        OurNode.start("alice", at_once, listen=(transport_of(foreign),)) as alice,
        ForeignPeer.start(foreign.implementation, seed_hex=seed, quic=quic) as bob,
        ForeignPeer.start(foreign.implementation, seed_hex=seed, quic=quic) as twin,
    ):
        await bob.dial(alice.address)
        first = await alice.connection_with(bob.peer_id)
        await twin.dial(alice.address)
        await until(lambda: alice.host.handshakes.total() == 2 and len(alice.host.connections()) == 1)
        assert alice.host.connections() == [first]
        assert await alice.half_close(first, b"abc") == b"cba"
        assert await bob.half_close(str(alice.peer_id), b"abc") == b"cba"
        assert alice.host.refusals == {("connection", "duplicate"): 1}


@over_tcp
@pytest.mark.parametrize("how", ["we-dial", "it-dials"])
async def test_a_muxer_that_is_agreed_on_after_the_handshake(
    ours: OurNode, foreign: ForeignPeer, how: Direction
) -> None:
    config = HostConfig(early_muxer=False, connection=ConnectionConfig(optimistic=False))
    async with OurNode.start(f"{ours.label}, step by step", config) as slow:
        link = await connect(slow, foreign, how)
        assert not _agreed_early(link.connection)
        (seen,) = [one for one in await foreign.connections() if one.peer_id == link.us]
        assert not seen.early_muxer
        assert await slow.half_close(link.connection, b"abc") == b"cba"
        assert await foreign.half_close(link.us, b"abc") == b"cba"
        assert await foreign.echo(link.us, b"hello", protocol=ECHO) == b"hello"
