"""Who misbehaves is banned, who is denied is kept out: on real connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.interop.ours import until
from tests.net.hostile import Hostile
from tests.net.mesh_node import MeshNode, node
from tests.net.test_fail_closed import record_of
from tests.net.test_hostile import answer_identify, identified
from tests.net.test_quic import QuicNode
from tests.net.test_quic import node as quic_node
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import prefix_of
from wws.codec import varint
from wws.dht.messages import KadMessage, KadRecord, MessageType
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.mesh.admission import AdmissionConfig
from wws.mesh.bans import OFFENCES, BansConfig, Offence
from wws.mesh.deny import NOTHING, DenyList
from wws.mesh.identify import PUSH_PROTOCOL
from wws.mesh.rates import Share
from wws.names.record import name_key
from wws.relay.messages import STOP_PROTOCOL
from wws.runtime import gatekeeper
from wws.runtime.dht_driver import PROTOCOL as KAD
from wws.runtime.dialer import DialFailed, PeerBanned, PeerDenied
from wws.runtime.gatekeeper import GatekeeperConfig
from wws.runtime.handlers import HandlersConfig
from wws.runtime.host import HostConfig
from wws.runtime.streams import StreamReset
from wws.testing.clock import ManualClock
from wws.transport.quic.config import QuicConfig
from wws.transport.yamux_frames import DATA, FIN

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

MALLORY = Identity.from_label("mallory").peer_id
GARBAGE = varint.frame(b"\xff" * 50)


def denied(*peers: PeerId, prefixes: tuple[str, ...] = ()) -> DenyList:
    return DenyList.parse(map(str, peers), prefixes, (), name_key)


async def misbehave(alice: MeshNode, label: str = "mallory") -> None:
    """Send messages that are none until the connection is gone."""
    await misbehave_at(alice.port, label)


async def misbehave_at(port: int, label: str) -> None:
    """The same at a node of another process."""
    async with await Hostile.authenticated(port, label) as peer:
        for number in range(11):  # ten are enough, unless time passes
            peer.open(2 * number + 1, PUSH_PROTOCOL, GARBAGE)
            peer.frame(DATA, FIN, 2 * number + 1)
        await peer.gone()


async def test_who_sends_what_is_no_message_is_banned_for_ten_minutes() -> None:
    clock = ManualClock()
    async with node("alice", clock=clock) as alice, node("bob") as bob:
        await bob.join(alice)
        await misbehave(alice)
        assert alice.host.refusals[PUSH_PROTOCOL, "malformed"] in (10, 11)
        assert alice.host.refusals["bans", "peer"] == 1
        (ban,) = alice.host.gate.listing()
        assert (ban.subject, ban.kind, ban.reason) == (MALLORY, "peer", Offence.MALFORMED)
        assert ban.until == clock.monotonic() + 600
        before = alice.host.refusals["connection", "banned"]
        async with await Hostile.authenticated(alice.port, "mallory") as peer:  # known once it is proven
            await peer.gone()
        assert alice.host.refusals["connection", "banned"] == before + 1
        assert alice.host.gate.barred(MALLORY) == "banned"
        clock.advance(600)
        async with await Hostile.authenticated(alice.port, "mallory") as peer:
            await peer.ping()
            assert alice.host.connection_to(MALLORY) is not None
        assert alice.host.gate.count == 0
        assert await bob.ping.ping(await bob.connection_with(alice.peer_id)) >= 0


async def test_before_a_peer_is_proven_it_can_commit_nothing() -> None:
    async with node("alice") as alice:
        for _ in range(3):
            async with await Hostile.connect(alice.port) as peer:
                await peer.secure("mallory", stop_after="second")
                peer.say(b"\x00\x10" + bytes(16))
                await peer.gone()
        assert alice.host.gate.bans.suspects == 0


async def test_frames_that_are_forbidden_ban_after_some_connections() -> None:
    async with node("alice") as alice:
        for _ in range(6):
            async with await Hostile.authenticated(alice.port, "mallory") as peer:
                await peer.ping()  # from here on it is somebody
                peer.frame(9, 0, 0)
                await peer.gone()
        await until(lambda: alice.host.gate.barred(MALLORY) == "banned")
        assert [ban.reason for ban in alice.host.gate.listing()] == [Offence.VIOLATION]


async def test_a_peer_that_always_asks_too_much_is_banned() -> None:
    async with node("alice") as alice, await Hostile.authenticated(alice.port, "mallory") as peer:
        for number in range(32 + 102):
            peer.open(2 * number + 1, "/ipfs/id/1.0.0")
        await peer.gone()
        assert alice.host.refusals["/ipfs/id/1.0.0", "rate_limited"] >= 100
        assert [ban.reason for ban in alice.host.gate.listing()] == [Offence.RATE]


@pytest.mark.parametrize("forged", [True, False])
async def test_a_forged_record_is_an_offence_and_one_of_another_time_is_not(forged: bool) -> None:
    async with node("alice") as alice, await Hostile.authenticated(alice.port, "mallory") as peer:
        await answer_identify(peer, identified(peer, ()))
        record = record_of(Identity.from_label("bob"), "bob")
        until_then = str(record.expires_at).encode()
        value = record.value.replace(until_then, str(record.expires_at - 1).encode()) if forged else b"{}"
        key = record.key.encode()
        put = KadMessage(MessageType.PUT_VALUE, key, KadRecord(key, value), ())
        peer.open(1, KAD, varint.frame(put.encode()))
        await until(lambda: alice.dht.machine.refusals.total() == 1)
        assert alice.dht.machine.refusals["forged_record" if forged else "bad_record"] == 1
        assert alice.host.gate.bans.suspects == forged


async def test_a_relay_is_not_to_blame_for_those_who_ask_it() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await bob.join(alice)
        at_alice = await alice.connection_with(bob.peer_id)
        for word in OFFENCES:
            for _ in range(200):
                alice.host.gate.offended(at_alice, word, STOP_PROTOCOL)
        assert alice.host.gate.bans.suspects == 0
        assert alice.host.gate.refusal_log.written == 0  # nor may a firewall keep it out
        assert connection.is_established


async def test_other_networks_slow_ones_and_those_who_leave_commit_nothing() -> None:
    async with node("alice") as alice, node("carol", network="/wws/net/0000000000000000") as carol:
        connection = await carol.join(alice)
        async with connection.open_stream(KAD) as stream:
            await stream.write_frame(KadMessage(MessageType.PING, b"", None, ()).encode())
            with contextlib.suppress(StreamReset):
                assert await stream.read(1) == b""
        await until(lambda: alice.host.refusals[KAD, "wrong_network"] > 0)
        async with await Hostile.authenticated(alice.port) as peer:
            peer.open(1, KAD, GARBAGE[:5])
            peer.open(3, "/nobody/speaks/this")
            peer.frame(DATA, FIN, 1)
            await peer.ping()
        await until(lambda: alice.host.table.peer_count == 1)
        assert alice.host.gate.bans.suspects == 0


async def test_a_banned_peer_is_neither_dialled_nor_asked() -> None:
    async with node("alice") as alice, node("bob") as bob:
        await bob.join(alice)
        await until(lambda: bob.peer_id in alice.dht.machine.routing)
        connection = await alice.connection_with(bob.peer_id)
        for _ in range(11):
            alice.host.gate.offended(connection, "malformed", KAD)
        await until(lambda: not alice.host.connections())
        assert bob.peer_id not in alice.dht.machine.routing
        with pytest.raises(PeerBanned):
            await alice.dial(bob.address)
        with pytest.raises(PeerBanned):
            await alice.dialer.connect_at(bob.peer_id, bob.address, 1.0)
        assert alice.host.gate.unban(bob.peer_id)
        await alice.join(bob)


# Prefixes


@contextlib.asynccontextmanager
async def in_public(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MeshNode]:
    """A node for which loopback is a prefix of the public kind: there is no other way to have one here."""
    monkeypatch.setattr(gatekeeper, "public_prefix_of_ip", prefix_of)
    config = HostConfig(
        admission=AdmissionConfig(prefix_exempt=()),
        gate=GatekeeperConfig(bans=BansConfig(peers_per_prefix=3)),
    )
    async with node("alice", config, clock=ManualClock()) as alice:
        yield alice


async def test_many_banned_peers_of_a_prefix_close_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_public(monkeypatch) as alice, node("bob") as bob:
        for number in range(3):
            await misbehave(alice, f"mallory {number}")
        assert alice.host.gate.bans.ban_of_prefix("127.0.0.0/24", alice.host.clock.monotonic()) is not None
        async with await Hostile.connect(alice.port) as peer:  # reset at once, before a byte is read
            await peer.gone()
        assert alice.host.refusals["connection", "banned_prefix"] == 1
        await alice.join(bob)  # whom we want to talk to there has done nothing
        assert alice.host.gate.unban("127.0.0.0/24")
        async with await Hostile.authenticated(alice.port, "carol") as peer:
            await peer.ping()


async def test_a_prefix_with_innocent_peers_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(in_public(monkeypatch))
        for label in ("bob", "carol", "dave"):
            await (await stack.enter_async_context(node(label))).join(alice)
        for number in range(3):
            await misbehave(alice, f"mallory {number}")
        assert [ban.kind for ban in alice.host.gate.listing()] == ["peer"] * 3
        await misbehave(alice, "mallory 3")
        assert alice.host.refusals["bans", "prefix"] == 1
        assert alice.host.table.peer_count == 3  # they stay connected all the same


async def test_the_prefix_of_an_entry_point_is_never_banned(monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_public(monkeypatch) as alice, node("bob") as bob:
        await alice.join(bob)
        alice.host.set_entry_points({bob.peer_id})
        for number in range(6):
            await misbehave(alice, f"mallory {number}")
        assert [ban.kind for ban in alice.host.gate.listing()] == ["peer"] * 6


async def test_loopback_is_never_banned() -> None:
    config = HostConfig(
        admission=AdmissionConfig(prefix_exempt=()),
        gate=GatekeeperConfig(bans=BansConfig(peers_per_prefix=1)),
    )
    async with node("alice", config) as alice:
        await misbehave(alice)
        assert [ban.kind for ban in alice.host.gate.listing()] == ["peer"]


# The operator's list


async def test_a_denied_peer_is_turned_out_and_kept_out() -> None:
    async with node("alice") as alice, node("bob") as bob, node("carol") as carol:
        await bob.join(alice)
        await carol.join(alice)
        await until(lambda: bob.peer_id in alice.dht.machine.routing)
        alice.host.gate.set_deny(denied(bob.peer_id))
        await until(lambda: alice.host.table.peers() == [carol.peer_id])
        assert bob.peer_id not in alice.dht.machine.routing
        assert alice.host.refusals["connection", "denied"] == 1
        await until(lambda: not bob.host.connections())
        connection = await bob.dial(alice.address)
        await until(lambda: connection.is_closed)
        assert alice.host.refusals["connection", "denied"] == 2
        with pytest.raises(PeerDenied):
            await alice.dial(bob.address)
        alice.host.gate.set_deny(denied())
        await alice.join(bob)


async def test_a_denied_network_is_turned_out_and_kept_out() -> None:
    async with node("alice") as alice, node("bob") as bob:
        await bob.join(alice)
        alice.host.gate.set_deny(denied(prefixes=("127.0.0.0/8",)))
        await until(lambda: not alice.host.connections())
        async with await Hostile.connect(alice.port) as peer:
            await peer.gone()
        assert alice.host.refusals["connection", "denied"] == 2
        with pytest.raises(DialFailed) as caught:
            await alice.dial(bob.address)
        assert [attempt.code for attempt in caught.value.attempts] == ["denied"]
        assert alice.slots() == (0, 0, 0)


async def test_a_denied_name_is_neither_stored_nor_served() -> None:
    async with node("alice") as alice, node("bob") as bob:
        await bob.join(alice)
        await until(lambda: alice.peer_id in bob.dht.machine.routing)
        record = record_of(bob.host.identity, "casino")
        await bob.dht.put(record.key, record.value)
        assert record.key.encode() in [held.key for held in alice.dht.machine.records]
        alice.host.gate.set_deny(DenyList.parse((), (), ("casino",), name_key))
        assert len(alice.dht.machine.records) == 0
        await bob.dht.put(record.key, record.value)
        assert len(alice.dht.machine.records) == 0
        assert alice.dht.machine.refusals["name_denied"] >= 1
        assert alice.host.gate.bans.suspects == 0  # whose list it is not on does nothing wrong
        alice.host.gate.set_deny(NOTHING)
        await bob.dht.put(record.key, record.value)
        assert len(alice.dht.machine.records) == 1


async def test_the_denied_who_come_in_crowds_leave_nothing() -> None:
    async with node("alice") as alice:
        alice.host.gate.set_deny(denied(MALLORY))
        peers = await asyncio.gather(*[Hostile.authenticated(alice.port) for _ in range(20)])
        for peer in peers:
            async with peer:
                await peer.gone()
        await until(lambda: alice.slots() == (0, 0, 0))
        assert alice.host.refusals["connection", "denied"] == 20


# Over QUIC


async def test_who_is_banned_does_not_get_in_over_quic_either() -> None:
    async with quic_node("alice") as alice, quic_node("bob", listen=None) as bob:
        await bob.dial(alice)
        connection = await alice.inbound()
        for _ in range(11):
            alice.host.gate.offended(connection, "malformed", KAD)
        await until(lambda: alice.held() == (0, 0, 0, 0))
        with contextlib.suppress(WwsError):
            again = await bob.dial(alice)
            await until(lambda: again.is_closed)
        await until(lambda: alice.host.refusals["connection", "banned"] == 2)
        await until(lambda: alice.held() == (0, 0, 0, 0))


async def test_a_datagram_that_may_be_forged_is_counted_and_has_no_line() -> None:
    quick = QuicConfig(handshake_timeout=0.3)
    async with quic_node("alice") as alice, quic_node("bob", listen=None, quic=quick) as bob:
        alice.host.gate.set_deny(denied(prefixes=("127.0.0.1",)))
        with pytest.raises(WwsError):
            await bob.dial(alice)
        assert alice.host.refusals["connection", "denied"] >= 1
        assert alice.host.gate.refusal_log.written == 0
        async with await Hostile.connect(await tcp_port(alice)) as peer:  # over TCP the address is proven
            await peer.gone()
        assert alice.host.gate.refusal_log.written == 1


async def tcp_port(alice: QuicNode) -> int:
    bound = await alice.host.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
    return bound.port or 0


async def test_entry_points_are_never_banned() -> None:
    """All of them may have been upgraded to what we do not know: a ban would mean to leave the network."""
    async with node("alice") as alice, node("bob") as bob:
        alice.host.set_entry_points({bob.peer_id, MALLORY}, kept={bob.peer_id})
        await bob.join(alice)
        at_alice = await alice.connection_with(bob.peer_id)
        for word in OFFENCES:
            for _ in range(200):
                alice.host.gate.offended(at_alice, word, KAD)
        assert alice.host.gate.bans.suspects == 0
        assert at_alice.is_established
        assert alice.host.refusals["bans", "spared"] == 200 * sum(map(bool, OFFENCES.values()))
        await misbehave(alice)  # was met before, and is one of those that we may come back by: no more
        assert [ban.subject for ban in alice.host.gate.listing()] == [MALLORY]


async def test_a_relay_of_ours_is_not_banned_for_how_much_it_brings() -> None:
    """Who asks it for thousands of circuits to us would have us cut ourselves off."""
    few = HostConfig(handlers=HandlersConfig(all_streams=Share(1e-9, 10)))
    async with node("alice", few) as alice, await Hostile.authenticated(alice.port) as relay:
        await relay.ping()
        alice.host.table.protect(MALLORY, "relay")
        for stream in range(1, 401, 2):
            relay.open(stream, STOP_PROTOCOL)
        await relay.ping()
        assert alice.host.refusals["multistream", "rate_limited"] >= 150
        connection = alice.host.connection_to(MALLORY)
        assert connection is not None
        alice.host.gate.offended(connection, "yamux_frame_flood", "connection")
        assert alice.host.gate.bans.suspects == 0
        alice.host.gate.offended(connection, "malformed", KAD)
        assert alice.host.gate.bans.suspects == 1
