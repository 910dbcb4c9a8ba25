"""Nobody is banned, rated or kept out by a firewall for what somebody else does, or for what we do slowly."""

import asyncio
import socket

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from tests.interop.ours import until
from tests.interop.peer import SINK
from tests.net.hostile import Hostile
from tests.net.mesh_node import node
from tests.net.test_hostile import answer_identify, identified
from tests.net.test_quic import node as quic_node
from wws.codec import varint
from wws.dht.messages import KadMessage, MessageType
from wws.identity.keys import Identity
from wws.mesh.admission import AdmissionConfig
from wws.runtime.dht_driver import PROTOCOL as KAD
from wws.runtime.dht_driver import DhtDriverConfig
from wws.runtime.host import HostConfig
from wws.runtime.refusals import ABUSE
from wws.testing.names import name_record
from wws.transport.yamux_frames import DATA, HEADER, HEADER_LENGTH, RST

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

MALLORY = Identity.from_label("mallory").peer_id


async def test_a_datagram_in_anothers_name_writes_no_line_of_him() -> None:
    """A first datagram alone can break rules, and comes from wherever it says: no firewall may hear of it."""
    async with quic_node("alice") as alice:
        (address,) = alice.host.listen_addresses
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(3):
                configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"])
                browser = QuicConnection(configuration=configuration)
                browser.connect((address.host, address.port), now=0.0)
                for data, _ in browser.datagrams_to_send(now=0.0):
                    sock.sendto(data, (address.host, address.port or 0))
        await until(lambda: alice.host.refusals["connection", "quic_violation"] == 3)
        assert alice.host.gate.refusal_log.written == 0


async def test_a_silent_socket_is_nothing_for_a_firewall() -> None:
    """A web page may open some in each of its readers' browsers, and ours may be the slow end."""
    async with node("alice", HostConfig(phase_timeout=0.1)) as alice:
        async with await Hostile.connect(alice.port) as peer:
            await peer.gone()
        assert alice.host.refusals["connection", "phase_timeout"] == 1
        assert "phase_timeout" not in ABUSE


async def test_who_looks_much_up_at_once_is_turned_down_nowhere() -> None:
    """In a small network every look-up asks the same few peers: an honest node keeps to what they take."""
    async with node("alice") as alice, node("bob") as bob:
        await bob.join(alice)
        unix_now = int(bob.host.clock.unix())
        keys = [name_record(f"bob{number}", registered_at=unix_now).key for number in range(250)]
        found = await asyncio.gather(*map(bob.dht.get, keys))
        assert [done.value for done in found] == [None] * len(keys)
        assert not alice.host.refusals
        assert not alice.host.gate.bans.suspects


async def test_neighbours_do_not_wait_for_what_somebody_queues_and_drops() -> None:
    """Mallory asks on many streams at once and gives them up, from the prefix that bob comes from."""
    everywhere = HostConfig(admission=AdmissionConfig(prefix_exempt=()))
    slow = DhtDriverConfig(max_requests_per_second=0.1, prefix_share=4)
    request = varint.frame(KadMessage(MessageType.PING, b"", None, ()).encode())
    async with (
        node("alice", everywhere, dht=slow) as alice,
        node("bob") as bob,
        await Hostile.authenticated(alice.port) as peer,
    ):
        await answer_identify(peer, identified(peer, ()))
        handled = alice.host.handlers.of_peers
        for stream in range(1, 201, 2):
            peer.open(stream, KAD, request)
        await until(lambda: handled[MALLORY, KAD] == 100)
        for stream in range(1, 201, 2):
            peer.frame(DATA, RST, stream)
        await until(lambda: not handled[MALLORY, KAD])
        now = alice.host.clock.monotonic()
        assert alice.dht._turns.take(MALLORY, now) - now < 11
        connection = await bob.join(alice)
        assert (prefix := alice.host.admission.limited_prefix("127.0.0.1")) is not None
        assert alice.dht._prefix_turns.take(prefix, now) - now < 6
        assert connection.is_established


async def test_a_neighbour_waits_for_no_more_than_the_share_of_the_prefix() -> None:
    everywhere = HostConfig(admission=AdmissionConfig(prefix_exempt=()))
    slow = DhtDriverConfig(max_requests_per_second=0.1, prefix_share=1000)
    request = varint.frame(KadMessage(MessageType.PING, b"", None, ()).encode())
    async with (
        node("alice", everywhere, dht=slow) as alice,
        node("bob") as bob,
        await Hostile.authenticated(alice.port) as peer,
    ):
        await answer_identify(peer, identified(peer, ()))
        for stream in range(1, 41, 2):
            peer.open(stream, KAD, request)
        await until(lambda: alice.host.handlers.of_peers[MALLORY, KAD] == 20)  # waits for minutes, by itself
        await bob.join(alice)
        async with asyncio.timeout(5):
            assert (await bob.dht.get(name_record("bob", registered_at=0).key)).value is None


# Who keeps us busy


def tiny_frames(peer: Hostile, stream: int, count: int) -> None:
    """Single bytes of a message that does not end."""
    frames = b"".join(HEADER.pack(0, DATA, 0, stream, 1) + b"\0" for _ in range(count))
    for offset in range(0, len(frames), 5_000 * (HEADER_LENGTH + 1)):
        peer.say(peer.sealed(frames[offset : offset + 5_000 * (HEADER_LENGTH + 1)]))


@pytest.mark.parametrize("is_relay", [False, True])
async def test_who_sends_tiny_frames_is_read_slowly_and_that_is_no_offence(is_relay: bool) -> None:
    """Each takes as long as one of a kilobyte. A relay of ours is not slowed: others cut what it brings."""
    async with node("alice") as alice, node("bob") as bob:
        await bob.join(alice)
        async with await Hostile.authenticated(alice.port) as peer:
            await peer.ping()
            if is_relay:
                alice.host.table.protect(MALLORY, "relay")
            connection = alice.host.connection_to(MALLORY)
            assert connection is not None
            peer.open(1, SINK)
            tiny_frames(peer, 1, 12_000)
            await peer.drain()
            if is_relay:
                await peer.ping()
                assert alice.host.refusals["connection", "tiny_frames"] == 0
            else:
                await until(lambda: alice.host.refusals["connection", "tiny_frames"] == 1)
                assert connection.machine.unread < 12_000  # the rest waits outside
            assert await bob.ping.ping(await bob.connection_with(alice.peer_id)) >= 0
            assert alice.host.gate.bans.suspects == 0
            assert connection.is_established


async def test_decent_frames_are_read_as_fast_as_they_come() -> None:
    async with node("alice") as alice, node("bob") as bob:
        await bob.join(alice)
        async with await Hostile.authenticated(alice.port) as peer:
            peer.open(1, SINK)
            for _ in range(20):
                peer.frame(DATA, 0, 1, bytes(10_000))
            await peer.ping()
            assert alice.host.refusals["connection", "tiny_frames"] == 0
