"""From a circuit to a direct connection on loopback: two nodes that listen, and tell nobody where."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from tests.interop.ours import until
from tests.interop.peer import ECHO
from tests.net.circuit_node import RelayNode
from tests.net.mesh_node import MeshNode, node
from wws.addresses.multiaddr import Multiaddr
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.nat.dcutr import PROTOCOL, HolePunch, Type
from wws.nat.kind import NatKind
from wws.nat.punch_events import Punch
from wws.nat.punching import HolePunchConfig, Role, State
from wws.runtime.connection import Connection
from wws.runtime.nat.hole_punching import HolePuncher, HolePuncherConfig
from wws.runtime.nat.punch_dials import PunchDials, PunchDialsConfig
from wws.runtime.quic_transport import QuicTransport, QuicTransportConfig
from wws.runtime.relay.circuits import Circuits, CircuitsConfig
from wws.runtime.relay.client import RelayClient, RelayClientConfig
from wws.runtime.streams import Stream, StreamReset
from wws.transport.multistream import ProtocolNotSupported

pytestmark = [pytest.mark.net, pytest.mark.usefixtures("leaves_nothing")]

DEFAULT = HolePuncherConfig()
OFF = HolePuncherConfig(enabled=False)
QUICK = HolePuncherConfig(punch=HolePunchConfig(punch_timeout=0.4, reversal_timeout=0.4, connect_timeout=1.0))


class Place:
    """What reachability would say."""

    def __init__(self) -> None:
        self.on_change: list[Callable[[], None]] = []
        self.nat: NatKind = "unknown"
        self.seen: tuple[Multiaddr, ...] = ()
        self.ips: frozenset[str] = frozenset()

    def observed(self) -> tuple[Multiaddr, ...]:
        return self.seen

    def public_ips(self) -> frozenset[str]:
        return self.ips

    def change(self) -> None:
        for tell in self.on_change:
            tell()


class Member:
    """A node with relays and hole punching; it listens, but says so to nobody unless it `announces`."""

    def __init__(self, mesh: MeshNode, client: RelayClient, puncher: HolePuncher, place: Place) -> None:
        self.mesh = mesh
        self.client = client
        self.puncher = puncher
        self.place = place

    @classmethod
    @contextlib.asynccontextmanager
    async def run(
        cls, label: str, config: HolePuncherConfig = DEFAULT, *, announces: bool = False
    ) -> "AsyncIterator[Member]":
        async with node(label, server=False) as mesh:
            if not announces:
                mesh.identify._announced = lambda: ()
            rng, place = random.Random(label), Place()
            client = RelayClient(mesh.host, mesh.dialer, RelayClientConfig(), rng, network=mesh.dht._network)
            Circuits(mesh.host, mesh.dialer, CircuitsConfig(), accepts_from=client.holds_reservation_at)
            puncher = HolePuncher(mesh.host, mesh.dialer, place, config, rng)
            try:
                yield cls(mesh, client, puncher, place)
            finally:
                await puncher.close()
                await client.close()

    @property
    def peer_id(self) -> PeerId:
        return self.mesh.peer_id

    async def reserve(self, relay: RelayNode) -> None:
        await self.mesh.join(relay.mesh)
        self.client.set_wanted(True)
        await until(lambda: len(self.client.reservations) == 1)

    async def dial_relayed(self, other: "Member") -> Connection:
        address = other.client.reservations[0].addresses[0].with_peer(other.peer_id)
        connection = await self.mesh.dial(address)
        assert connection.is_limited
        return connection

    def direct(self, other: "Member") -> Connection | None:
        return self.mesh.host.connection_to(other.peer_id, direct=True)


@contextlib.asynccontextmanager
async def two(
    alice: HolePuncherConfig = DEFAULT,
    bob: HolePuncherConfig = DEFAULT,
    *,
    alice_announces: bool = False,
    reachable: bool = True,
) -> AsyncIterator[tuple[Member, Member, Connection]]:
    """Alice, who has dialled bob through a relay; unless `reachable`, nobody listens where they say."""
    async with (
        RelayNode.run("relay") as relay,
        Member.run("alice", alice, announces=alice_announces) as one,
        Member.run("bob", bob) as other,
    ):
        await other.reserve(relay)
        await one.mesh.join(relay.mesh)
        if not reachable:
            hide(one)
            hide(other)
        circuit = await one.dial_relayed(other)
        await until(lambda: other.mesh.host.connection_to(one.peer_id) is not None)
        yield one, other, circuit


async def test_a_circuit_becomes_a_direct_connection_over_tcp() -> None:
    async with two() as (alice, bob, circuit):
        await until(lambda: alice.direct(bob) is not None and bob.direct(alice) is not None)
        await until(lambda: bool(bob.puncher.outcomes) and bool(alice.puncher.outcomes))
        assert bob.puncher.outcomes == {("initiator", "tcp", "first_attempt"): 1}
        assert alice.puncher.outcomes == {("receiver", "tcp", "first_attempt"): 1}
        assert alice.puncher.why_not_direct(bob.peer_id) is None
        # New streams go over it, it is identified, and the circuit goes when it carries none.
        direct = alice.mesh.host.connection_to(bob.peer_id)
        assert direct is not None
        assert not direct.is_limited
        assert await direct.wait_identified() is not None
        assert await alice.mesh.ping.ping(direct) >= 0
        await until(lambda: circuit.is_closed)
        assert alice.puncher.under_way == bob.puncher.under_way == 0
        await until(lambda: not alice.puncher._sides and not bob.puncher._sides)


async def test_a_circuit_becomes_a_direct_connection_over_quic() -> None:
    async with (
        RelayNode.run("relay") as relay,
        Member.run("alice") as alice,
        Member.run("bob") as bob,
    ):
        await bob.reserve(relay)
        await alice.mesh.join(relay.mesh)
        for member in (alice, bob):
            host = member.mesh.host
            hide(member)
            member.place.seen = ()
            host.quic = QuicTransport(host, host.identity)
            await host.listen(Multiaddr.parse("/ip4/127.0.0.1/udp/0/quic-v1"))
        await alice.dial_relayed(bob)
        await until(lambda: bool(bob.puncher.outcomes) and bool(alice.puncher.outcomes))
        assert bob.puncher.outcomes == {("initiator", "quic-v1", "first_attempt"): 1}
        assert alice.puncher.outcomes == {("receiver", "quic-v1", "first_attempt"): 1}
        direct = alice.direct(bob)
        assert direct is not None
        assert direct.outbound  # who dialled the circuit is the client
        assert await alice.mesh.ping.ping(direct) >= 0


async def test_a_stream_on_the_circuit_goes_on_until_it_is_done() -> None:
    async with two() as (alice, bob, circuit):
        async with circuit.open_stream(ECHO) as stream:
            await stream.write(b"before")
            await until(lambda: alice.direct(bob) is not None)
            assert not circuit.is_closed
            await stream.write(b" and after")
            stream.close_write()
            assert await stream.read_to_end(100) == b"before and after"
        await until(lambda: circuit.is_closed)


async def test_a_peer_that_announces_where_it_listens_is_dialled_back() -> None:
    async with two(alice_announces=True) as (alice, bob, _):
        await until(lambda: bob.direct(alice) is not None)
        await until(lambda: bool(bob.puncher.outcomes))
        assert bob.puncher.outcomes == {("initiator", "tcp", "reversed"): 1}
        direct = bob.direct(alice)
        assert direct is not None
        assert direct.outbound


async def test_the_protocol_is_served_before_the_first_circuit_can_arrive() -> None:
    async with Member.run("alice") as alice:
        assert PROTOCOL in alice.mesh.host.protocols


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (OFF, "hole punching is off (enable_dcutr)"),
        (HolePuncherConfig(relay_only=True), "relay-only: this node does not show its addresses"),
    ],
)
async def test_who_does_not_want_to_punches_nobody(config: HolePuncherConfig, words: str) -> None:
    async with two(bob=config) as (alice, bob, circuit):
        assert PROTOCOL not in bob.mesh.host.protocols
        assert await circuit.wait_identified() is not None
        with pytest.raises(ProtocolNotSupported):
            await exchange(circuit, HolePunch(Type.CONNECT))
        assert bob.puncher.why_not_direct(alice.peer_id) == words
        await alice.puncher.wait_settled(bob.peer_id, 20)
        assert alice.puncher.why_not_direct(bob.peer_id) == "the peer does not speak /libp2p/dcutr"
        assert alice.direct(bob) is None


async def test_who_does_not_want_to_is_not_punched_and_shows_no_address() -> None:
    async with two(alice=HolePuncherConfig(relay_only=True)) as (alice, bob, _):
        await until(lambda: bob.puncher.outcomes == {("initiator", "", "unsupported"): 1})
        await bob.puncher.wait_settled(alice.peer_id, 10)
        assert bob.puncher.why_not_direct(alice.peer_id) == "the peer does not speak /libp2p/dcutr"


async def test_when_nothing_comes_through_people_are_told_why() -> None:
    config = replace(QUICK, punch=replace(QUICK.punch, expect_timeout=0.5))
    async with two(config, config, reachable=False) as (alice, bob, circuit):
        assert (bob.puncher.why_not_direct(alice.peer_id) or "").startswith("hole punching is going on")
        await bob.puncher.wait_settled(alice.peer_id, 20)
        await alice.puncher.wait_settled(bob.peer_id, 20)
        assert bob.puncher.why_not_direct(alice.peer_id) == "3 attempts failed: nothing came through"
        assert alice.puncher.why_not_direct(bob.peer_id) == "3 attempts failed: nothing came through"
        assert bob.puncher.outcomes == {("initiator", "", "failed"): 1}
        assert alice.puncher.outcomes == {("receiver", "", "failed"): 1}
        assert not circuit.is_closed
        assert await alice.mesh.ping.ping(circuit) >= 0


async def test_a_sync_that_never_comes_leaves_nothing_behind() -> None:
    quick = replace(QUICK, punch=replace(QUICK.punch, sync_timeout=0.2, expect_timeout=0.2))
    async with two(quick, OFF) as (alice, bob, _):
        theirs = bob.mesh.host.connection_to(alice.peer_id)
        assert theirs is not None
        async with theirs.open_stream(PROTOCOL) as stream:
            await stream.write_frame(HolePunch(Type.CONNECT, tuple(bob.mesh.host.listen_addresses)).encode())
            assert await stream.read_frame(4096) is not None
            with pytest.raises(StreamReset):
                await stream.read()
        assert alice.puncher.outcomes["receiver", "", "no_sync"] == 1
        await alice.puncher.wait_settled(bob.peer_id, 10)
        assert alice.puncher.under_way == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (HolePunch(Type.SYNC).encode(), "unexpected_message"),
        (b"\x08\x07", "malformed"),
        (b"", "malformed"),
        (bytes(4097), "too_large"),
    ],
)
async def test_bad_messages_end_the_exchange_and_nothing_else(message: bytes, reason: str) -> None:
    async with two(bob=OFF) as (alice, bob, circuit):
        theirs = bob.mesh.host.connection_to(alice.peer_id)
        assert theirs is not None
        with pytest.raises(StreamReset):
            await exchange(theirs, message)
        assert alice.mesh.host.refusals[PROTOCOL, reason] == 1
        assert not circuit.is_closed


async def test_only_who_accepted_the_circuit_may_take_the_initiative() -> None:
    async with two(alice=OFF) as (_, bob, circuit):
        with pytest.raises(StreamReset):
            await exchange(circuit, HolePunch(Type.CONNECT))
        assert bob.mesh.host.refusals[PROTOCOL, "not_its_turn"] == 1


async def test_a_flood_of_connects_is_refused() -> None:
    config = replace(QUICK, budget=replace(QUICK.budget, attempts_per_minute_peer=3))
    async with two(config, OFF) as (alice, bob, _):
        theirs = bob.mesh.host.connection_to(alice.peer_id)
        assert theirs is not None
        victim = HolePunch(Type.CONNECT, (Multiaddr.parse("/ip4/127.0.0.1/tcp/1"),))
        refused = 0
        for _ in range(8):
            try:
                await exchange(theirs, victim)
            except StreamReset:
                refused += 1
        assert refused == 5
        assert alice.mesh.host.refusals[PROTOCOL, "punch_rate_peer"] == 5


async def test_hostile_addresses_are_not_dialled() -> None:
    async with two(QUICK, OFF) as (alice, bob, _):
        theirs = bob.mesh.host.connection_to(alice.peer_id)
        assert theirs is not None
        names = tuple(
            map(Multiaddr.parse, ("/dns4/victim.test/tcp/1", "/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/1"))
        )
        stream = theirs.open_stream(PROTOCOL)
        async with stream:
            await stream.write_frame(HolePunch(Type.CONNECT, names).encode())
            assert await stream.read_frame(4096) is not None
            await stream.write_frame(HolePunch(Type.SYNC).encode())
            side = alice.puncher._sides[bob.peer_id, Role.RECEIVER]
            await until(lambda: side.machine.state is State.PUNCHING)
            assert not side.dials._tasks
        assert alice.mesh.host.refusals[PROTOCOL, "target_refused"] == 3


async def test_who_turns_us_down_at_once_is_dialled_less_and_less() -> None:
    """A peer may name a QUIC server that has nothing to do with it."""
    async with node("alice", server=False) as alice, node("victim", server=False) as victim:
        for one in (alice, victim):
            one.host.quic = QuicTransport(one.host, one.host.identity, QuicTransportConfig())
            await one.host.listen(Multiaddr.parse("/ip4/127.0.0.1/udp/0/quic-v1"))
        config = PunchDialsConfig(retry_gap=0.02, max_retry_gap=60.0)
        dials = PunchDials(alice.host, alice.dialer, Identity.from_label("bob").peer_id, config)
        until_then = alice.host.clock.monotonic() + 1.0
        dials.punch(Punch(tuple(victim.host.listen_addresses[1:]), (), True, until_then))
        while dials._tasks:
            await asyncio.wait(dials._tasks)
        assert 1 <= victim.host.handshakes["in", "failed"] <= 10


async def test_both_take_the_initiative_and_one_goes_on() -> None:
    slow = HolePuncherConfig(punch=HolePunchConfig(identify_timeout=0.01))
    async with (
        RelayNode.run("relay") as relay,
        Member.run("alice", slow) as alice,
        Member.run("bob", slow) as bob,
    ):
        await alice.reserve(relay)
        await bob.reserve(relay)
        await asyncio.gather(
            alice.mesh.dialer.dial_circuit(bob.peer_id, relayed(bob)),  # type: ignore[misc]
            bob.mesh.dialer.dial_circuit(alice.peer_id, relayed(alice)),  # type: ignore[misc]
            return_exceptions=True,
        )
        await until(lambda: alice.direct(bob) is not None and bob.direct(alice) is not None)
        await until(lambda: alice.puncher.under_way == bob.puncher.under_way == 0)


async def test_when_the_direct_connection_is_lost_another_is_punched() -> None:
    config = HolePuncherConfig(punch=HolePunchConfig(min_rest=0.1))
    async with two(config, config) as (alice, bob, circuit), circuit.open_stream(ECHO) as stream:
        await stream.write(b"this keeps the circuit")
        await until(lambda: alice.direct(bob) is not None and bob.direct(alice) is not None)
        first = alice.direct(bob)
        assert first is not None
        first.close("for the test")
        await until(lambda: alice.direct(bob) not in (None, first))


async def test_waiting_ends_with_the_direct_connection() -> None:
    async with two() as (alice, bob, _):
        await alice.puncher.wait_settled(bob.peer_id, 20)
        assert alice.direct(bob) is not None
        assert not alice.puncher._waiters


async def test_waiting_is_bounded() -> None:
    async with two(reachable=False) as (alice, bob, _):
        await alice.puncher.wait_settled(bob.peer_id, 0.05)
        assert (alice.puncher.why_not_direct(bob.peer_id) or "").startswith("hole punching is going on")
        assert not alice.puncher._waiters


async def test_new_addresses_end_the_rest() -> None:
    quick = replace(QUICK, punch=replace(QUICK.punch, min_rest=0.1, attempts=1))
    async with two(quick, quick, reachable=False) as (alice, bob, _):
        await bob.puncher.wait_settled(alice.peer_id, 20)
        assert bob.puncher.outcomes == {("initiator", "", "failed"): 1}
        for member in (alice, bob):
            await member.mesh.host.listen(Multiaddr.parse("/ip4/127.0.0.1/tcp/0"))
            member.place.seen = ()
            member.place.change()
        await until(lambda: bob.direct(alice) is not None)


# Tools


def relayed(member: Member) -> Multiaddr:
    return member.client.reservations[0].addresses[0].with_peer(member.peer_id)


def hide(member: Member) -> None:
    """Close the listeners, and go on saying where they were."""
    member.place.seen = tuple(member.mesh.host.listen_addresses)
    member.mesh.host.stop_listening()
    member.mesh.host.listen_addresses.clear()
    member.place.change()


async def exchange(connection: Connection, message: HolePunch | bytes) -> HolePunch:
    """Send a first message and read the answer."""
    stream: Stream = connection.open_stream(PROTOCOL)
    async with asyncio.timeout(20), stream:
        await stream.write_frame(message if isinstance(message, bytes) else message.encode())
        data = await stream.read_frame(4096)
        assert data is not None
        return HolePunch.parse(data, connection.peer_id)
