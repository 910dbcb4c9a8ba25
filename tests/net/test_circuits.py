"""Circuits on loopback: alice reaches bob, who listens nowhere that she knows, through carol, who relays."""

import asyncio
import socket
from collections.abc import Awaitable

import pytest

from tests.interop.ours import pattern, until
from tests.interop.peer import ECHO, SINK
from tests.net.circuit_node import Member, RelayNode
from tests.net.mesh_node import MeshNode, node
from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.relay.circuit_table import CircuitConfig
from wws.relay.messages import (
    HOP_PROTOCOL,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Status,
    StopMessage,
    StopType,
)
from wws.relay.watch import WatchConfig
from wws.runtime.circuit import Circuit
from wws.runtime.connection import Connection, HandshakeFailed
from wws.runtime.dialer import DialFailed
from wws.runtime.host import HostConfig
from wws.runtime.quic_transport import QuicTransport
from wws.runtime.relay.circuit_transport import CircuitTransport
from wws.runtime.relay.circuits import CircuitsConfig, RelayError
from wws.runtime.socket_connection import SocketConnection
from wws.runtime.streams import Stream, StreamReset
from wws.transport.noise import PeerIdMismatch

pytestmark = [pytest.mark.net, pytest.mark.usefixtures("leaves_nothing")]

MIB = 1024 * 1024


async def echoed(connection: Connection, data: bytes) -> bytes:
    """What comes back of `data`, written and read at the same time."""
    async with asyncio.timeout(60), connection.open_stream(ECHO) as stream, asyncio.TaskGroup() as tasks:

        async def write() -> None:
            await stream.write(data)
            stream.close_write()

        tasks.create_task(write())
        return await stream.read_to_end(len(data))


async def test_everything_works_over_a_circuit() -> None:
    async with RelayNode.run("carol") as carol, Member.run("bob") as bob, Member.run("alice") as alice:
        await bob.reserve(carol)
        address = bob.relayed_address
        assert str(address) == f"{carol.address}/p2p-circuit/p2p/{bob.mesh.peer_id}"
        connection = await alice.mesh.dial(address)
        assert connection.is_limited
        assert connection.peer_id == bob.mesh.peer_id
        assert connection.remote_address == address
        said = await connection.wait_identified()
        assert said is not None
        assert said.peer_id == bob.mesh.peer_id
        assert await alice.mesh.ping.ping(connection) > 0
        assert await echoed(connection, b"hello") == b"hello"
        back = await bob.mesh.connection_with(alice.mesh.peer_id)
        assert back.is_limited
        assert await echoed(back, b"hello yourself") == b"hello yourself"
        assert connection.circuit is not None
        assert connection.circuit.is_limited
        assert connection.circuit.bytes_left is not None
        assert carol.server.circuits == 1
        connection.close()
        await until(lambda: not carol.server.circuits and not bob.circuits.inbound)
        assert alice.circuits.outbound == 0


async def send(connection: Connection, size: int) -> None:
    async with asyncio.timeout(20), connection.open_stream(SINK) as stream:
        await stream.write(bytes(size))


async def stay(connection: Connection) -> None:
    """Wait for the end of a stream on which nothing happens."""
    async with asyncio.timeout(20), connection.open_stream(ECHO) as stream:
        await stream.write(b"are you still there?")
        while await stream.read():
            pass


async def codes_of(dial: Awaitable[Connection]) -> set[str]:
    """Why the attempts of a dial failed."""
    with pytest.raises(DialFailed) as failure:
        await dial
    return {attempt.code for attempt in failure.value.attempts}


def used_by(connection: Connection | None) -> int:
    assert connection is not None
    assert connection.circuit is not None
    return connection.circuit.use.received


async def test_relays_are_reached_by_quic_as_well() -> None:
    async with RelayNode.run("carol") as carol, Member.run("bob") as bob, Member.run("alice") as alice:
        for one in (carol, bob, alice):
            one.mesh.host.quic = QuicTransport(one.mesh.host, one.mesh.host.identity)
        await carol.mesh.host.listen(Multiaddr.parse("/ip4/127.0.0.1/udp/0/quic-v1"))
        by_quic = carol.mesh.host.listen_addresses[1].with_peer(carol.mesh.peer_id)
        assert (await bob.mesh.dial(by_quic)).transport == "quic-v1"
        bob.client.set_wanted(True)
        await until(lambda: len(bob.client.reservations) == 1)
        address = by_quic.circuit()
        assert address in bob.client.reservations[0].addresses
        connection = await alice.mesh.dial(address.with_peer(bob.mesh.peer_id))
        assert connection.transport == "quic-v1"
        assert connection.is_limited
        assert str(connection.local_address) == str(address)
        data = pattern(MIB)
        assert await echoed(connection, data) == data


async def test_ten_megabytes_both_ways() -> None:
    big = CircuitConfig(max_bytes=64 * MIB)
    async with RelayNode.run("carol", big) as carol, Member.run("bob") as bob, Member.run("alice") as alice:
        await bob.reserve(carol)
        connection = await alice.mesh.dial(bob.relayed_address)
        data = pattern(10 * MIB)
        assert await echoed(connection, data) == data
        assert connection.circuit is not None
        assert connection.circuit.use.sent > len(data)
        assert connection.circuit.use.received > len(data)


async def test_the_limit_of_bytes_is_named_where_it_is_hit() -> None:
    small = CircuitConfig(max_bytes=MIB)
    async with RelayNode.run("carol", small) as carol, Member.run("bob") as bob, Member.run("alice") as alice:
        await bob.reserve(carol)
        connection = await alice.mesh.dial(bob.relayed_address)
        assert connection.circuit is not None
        assert connection.circuit.limit_bytes == MIB
        with pytest.raises(StreamReset) as ended:
            await send(connection, 4 * MIB)
        assert ended.value.code == "relay_limit"
        assert connection.is_closed
        assert carol.server.ended["circuit_bytes"] == 1
        # Whoever wants to go on dials again, and gets a new circuit.
        again = await alice.mesh.dialer.connect(bob.mesh.peer_id, [bob.relayed_address])
        assert await echoed(again, b"hello") == b"hello"


async def test_the_limit_of_time_is_named_where_it_is_hit() -> None:
    short = CircuitConfig(max_duration=1.0)
    async with RelayNode.run("carol", short) as carol, Member.run("bob") as bob, Member.run("alice") as alice:
        await bob.reserve(carol)
        connection = await alice.mesh.dial(bob.relayed_address)
        assert connection.circuit is not None
        assert connection.circuit.limit_seconds == 1
        with pytest.raises(StreamReset) as ended:
            await stay(connection)
        assert ended.value.code == "relay_limit"


async def test_a_circuit_that_is_nearly_used_up_makes_way_for_the_next() -> None:
    config = CircuitConfig(max_bytes=MIB)
    async with (
        RelayNode.run("carol", config) as carol,
        Member.run("bob") as bob,
        Member.run("alice") as alice,
    ):
        await bob.reserve(carol)
        first = await alice.mesh.dial(bob.relayed_address)
        async with first.open_stream(ECHO) as stream:  # goes on while others begin
            await stream.write(b"one")
            assert await stream.read_exactly(3) == b"one"
            await echoed(first, bytes(MIB * 4 // 5))
            assert first.is_leaving
            second = await alice.mesh.dialer.connect(bob.mesh.peer_id, [bob.relayed_address])
            assert second is not first
            assert alice.mesh.host.connection_to(bob.mesh.peer_id) is second
            await until(lambda: used_by(bob.mesh.host.connection_to(alice.mesh.peer_id)) < MIB // 2)
            await stream.write(b"two")
            assert await stream.read_exactly(3) == b"two"
            stream.close_write()
            assert await stream.read() == b""
        await until(lambda: first.is_closed)
        assert await echoed(second, b"hello") == b"hello"


async def test_the_relay_dies() -> None:
    async with (
        RelayNode.run("dave") as dave,
        Member.run("bob") as bob,
        Member.run("alice") as alice,
        RelayNode.run("carol") as carol,
    ):
        await bob.reserve(carol, dave)
        through = {one.relay: one.addresses[0] for one in bob.client.reservations}
        through_carol = through[carol.mesh.peer_id].with_peer(bob.mesh.peer_id)
        through_dave = through[dave.mesh.peer_id].with_peer(bob.mesh.peer_id)
        connection = await alice.mesh.dial(through_carol)
        back = await bob.mesh.connection_with(alice.mesh.peer_id)
        async with connection.open_stream(ECHO) as stream:
            await stream.write(b"hello")
            assert await stream.read() == b"hello"
            carol.mesh.host.stop_listening()
            for one in carol.mesh.host.connections():
                one.abort(HandshakeFailed("the power went out"))
            with pytest.raises(StreamReset) as ended:
                await stream.read()
        assert ended.value.code == "stream_reset"
        await until(lambda: connection.is_closed and back.is_closed)
        await until(lambda: [one.relay for one in bob.client.reservations] == [dave.mesh.peer_id])
        assert bob.client.outcomes["relay", "lost"] == 1
        assert "relay_unreachable" in await codes_of(
            alice.mesh.dialer.connect(bob.mesh.peer_id, [through_carol])
        )
        again = await alice.mesh.dialer.connect(bob.mesh.peer_id, [through_carol, through_dave])
        assert await echoed(again, b"hello again") == b"hello again"


async def test_the_relay_in_use_falls_silent() -> None:
    """Nothing closes. Alice notices that nothing comes back, and whatever she does next goes another way."""
    quick = CircuitsConfig(
        relay_timeout=1.0,
        watch=WatchConfig(probe_interval=0.1, probe_timeout=0.3, last_chance=0.5, stall=60),
    )
    async with (
        RelayNode.run("carol") as carol,
        RelayNode.run("dave") as dave,
        Member.run("bob") as bob,
        Member.run("alice", circuits=quick) as alice,
    ):
        await bob.reserve(carol, dave)
        through = [
            next(one.addresses[0] for one in bob.client.reservations if one.relay == relay.mesh.peer_id)
            for relay in (carol, dave)
        ]
        connection = await alice.mesh.dial(through[0].with_peer(bob.mesh.peer_id))
        async with connection.open_stream(ECHO) as stream:
            await stream.write(b"hello")
            assert await stream.read_exactly(5) == b"hello"
            theirs = await carol.mesh.connection_with(alice.mesh.peer_id)
            assert isinstance(theirs, SocketConnection)
            assert theirs._transport is not None
            theirs._transport.pause_reading()
            await until(lambda: alice.mesh.host.connection_to(bob.mesh.peer_id) is None)
            again = await alice.mesh.dialer.connect(bob.mesh.peer_id, through)
            assert again.circuit is not None
            assert again.circuit.relay == dave.mesh.peer_id
            assert await echoed(again, b"hello") == b"hello"
            # What was under way gets another chance, for the relay may only have been slow; not for ever.
            with pytest.raises(StreamReset):
                await stream.read()


async def test_relays_that_we_are_connected_to_are_tried_first() -> None:
    async with RelayNode.run("carol") as carol, Member.run("bob") as bob, Member.run("alice") as alice:
        await bob.reserve(carol)
        await alice.mesh.join(carol.mesh)
        dead = carol.address.with_peer(Identity.from_label("dave").peer_id).with_port(1).circuit()
        connection = await alice.mesh.dialer.connect(bob.mesh.peer_id, [dead, bob.relayed_address])
        assert connection.circuit is not None
        assert connection.circuit.relay == carol.mesh.peer_id
        assert alice.circuits.outcomes == {("out", "done"): 1}


async def test_what_keeps_a_circuit_from_being_opened() -> None:
    async with (
        RelayNode.run("carol", CircuitConfig(max_per_destination=1)) as carol,
        RelayNode.run("dave") as dave,
        Member.run("bob") as bob,
        Member.run("alice") as alice,
        Member.run("erin") as erin,
    ):
        peer, connect = bob.mesh.peer_id, alice.mesh.dialer.connect
        through_carol = carol.address.circuit().with_peer(peer)
        assert await codes_of(connect(peer, [through_carol])) == {"relay_no_reservation"}
        await bob.reserve(carol)
        await erin.mesh.dial(through_carol)
        assert await codes_of(connect(peer, [through_carol])) == {"relay_limit"}
        frank = Identity.from_label("frank").peer_id
        nobody = dave.address.with_peer(frank).circuit()
        assert await codes_of(connect(Identity.from_label("grace").peer_id, [nobody])) == {
            "relay_unreachable"
        }
        through_itself = carol.address.circuit().with_peer(carol.mesh.peer_id)
        through_who_is_sought = dave.address.with_peer(frank).circuit().with_peer(frank)
        assert await codes_of(connect(frank, [through_who_is_sought])) == {"relay_refused"}
        with pytest.raises(WwsError) as refused:
            await alice.circuits.dial(carol.mesh.peer_id, through_itself)
        assert refused.value.code == "relay_refused"
        assert alice.circuits.outbound == 0
        assert alice.circuits.outcomes["out", "relay_no_reservation"] == 1
        assert alice.circuits.outcomes["out", "relay_limit"] == 1


async def test_a_circuit_on_which_nothing_goes_is_closed() -> None:
    async with (
        RelayNode.run("carol") as carol,
        Member.run("bob") as bob,
        Member.run("alice", circuits=CircuitsConfig(watch=WatchConfig(idle_timeout=0.1))) as alice,
    ):
        await bob.reserve(carol)
        connection = await alice.mesh.dial(bob.relayed_address)
        async with connection.open_stream(ECHO) as stream:
            await stream.write(b"!")
            assert await stream.read_exactly(1) == b"!"
            await asyncio.sleep(0.2)  # as long as there is a stream, nothing is too long
            assert not connection.is_closed
            stream.close_write()
            assert await stream.read() == b""
        await until(lambda: connection.is_closed and not carol.server.circuits)


async def test_a_circuit_without_a_handshake_does_not_last() -> None:
    """What the relay brings is held to the same time-out as a socket."""
    config = HostConfig(phase_timeout=0.2)
    async with RelayNode.run("carol") as carol, Member.run("bob", config) as bob:
        await bob.reserve(carol)
        relay = await carol.mesh.connection_with(bob.mesh.peer_id)
        for _ in range(3):
            stream = relay.open_stream(STOP_PROTOCOL)
            request = StopMessage(StopType.CONNECT, peer=Identity.from_label("alice").peer_id)
            await stream.write_frame(request.encode())
            assert StopMessage.parse(await stream.read_frame(4096) or b"").status is Status.OK
        assert bob.circuits.inbound == 3
        await until(lambda: bob.circuits.inbound == 0)
        assert bob.circuits.outcomes["in", "handshake_failed"] == 3
        await until(lambda: not any(one.protocol == STOP_PROTOCOL for one in relay.streams.values()))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CircuitsConfig(max_inbound=2), "circuits_total"),
        (CircuitsConfig(max_inbound_per_relay=2), "circuits_per_relay"),
        (CircuitsConfig(max_inbound_per_source=2), "circuits_per_source"),
    ],
)
async def test_a_relay_that_floods_us(config: CircuitsConfig, reason: str) -> None:
    async with RelayNode.run("carol") as carol, Member.run("bob", circuits=config) as bob:
        await bob.reserve(carol)
        relay = await carol.mesh.connection_with(bob.mesh.peer_id)
        request = StopMessage(StopType.CONNECT, peer=Identity.from_label("alice").peer_id).encode()
        for _ in range(2):
            stream = relay.open_stream(STOP_PROTOCOL)
            await stream.write_frame(request)
            assert StopMessage.parse(await stream.read_frame(4096) or b"").status is Status.OK
        for _ in range(20):
            assert await stop_asked(relay, request) is Status.RESOURCE_LIMIT_EXCEEDED
        assert bob.circuits.inbound == 2
        assert bob.mesh.host.refusals[STOP_PROTOCOL, reason] == 20


async def test_our_own_bounds() -> None:
    async with (
        RelayNode.run("carol") as carol,
        Member.run("bob", circuits=CircuitsConfig(max_inbound_per_source=1)) as bob,
        Member.run("alice", circuits=CircuitsConfig(max_outbound=2)) as alice,
    ):
        await bob.reserve(carol)
        target = bob.relayed_address
        await alice.circuits.dial(bob.mesh.peer_id, target)
        with pytest.raises(WwsError) as refused:
            await alice.circuits.dial(bob.mesh.peer_id, target)
        assert refused.value.code in ("relay_limit", "relay_refused")
        assert bob.mesh.host.refusals[STOP_PROTOCOL, "circuits_per_source"] == 1
        alice.circuits._outbound += 1
        with pytest.raises(WwsError) as full:
            await alice.circuits.dial(bob.mesh.peer_id, target)
        assert full.value.code == "relay_limit"
        alice.circuits._outbound -= 1
        alice.circuits.reconfigure(CircuitsConfig(max_outbound=1))
        with pytest.raises(WwsError) as lowered:
            await alice.circuits.dial(bob.mesh.peer_id, target)
        assert lowered.value.code == "relay_limit"
        assert alice.circuits.outbound == 1


async def stop_asked(connection: Connection, request: bytes) -> Status:
    """What the other end answers to a stop request."""
    async with asyncio.timeout(20), connection.open_stream(STOP_PROTOCOL) as stream:
        await stream.write_frame(request)
        data = await stream.read_frame(4096)
        assert data is not None
        await stream.finish()
        return StopMessage.parse(data).status


async def test_nobody_but_our_relays_may_bring_circuits() -> None:
    async with (
        RelayNode.run("carol") as carol,
        Member.run("bob") as bob,
        Member.run("alice") as alice,
        node("mallory") as mallory,
    ):
        await bob.reserve(carol)
        dave = Identity.from_label("dave").peer_id
        from_dave = StopMessage(StopType.CONNECT, peer=dave).encode()
        refusals = bob.mesh.host.refusals
        await bob.mesh.join(mallory)
        stranger = await mallory.connection_with(bob.mesh.peer_id)
        assert await stop_asked(stranger, from_dave) is Status.PERMISSION_DENIED
        assert refusals[STOP_PROTOCOL, "no_reservation_there"] == 1
        circuit = await alice.mesh.dial(bob.relayed_address)
        assert await stop_asked(circuit, from_dave) is Status.PERMISSION_DENIED
        assert refusals[STOP_PROTOCOL, "over_a_circuit"] == 1
        relay = await carol.mesh.connection_with(bob.mesh.peer_id)
        for peer in (bob.mesh.peer_id, carol.mesh.peer_id):
            request = StopMessage(StopType.CONNECT, peer=peer).encode()
            assert await stop_asked(relay, request) is Status.MALFORMED_MESSAGE
        assert refusals[STOP_PROTOCOL, "impossible_source"] == 2
        for garbage in (b"", b"\xff" * 20, StopMessage(StopType.STATUS, status=Status.OK).encode()):
            assert await stop_asked(relay, garbage) is Status.MALFORMED_MESSAGE
        assert refusals[STOP_PROTOCOL, "malformed"] == 3
        assert bob.circuits.inbound == 1


async def carry(mesh: MeshNode, stream: Stream, expected: PeerId) -> SocketConnection:
    """A connection that `mesh` begins on a raw stream, as a dialler does on a circuit."""
    circuit = Circuit(stream.connection.peer_id, stream.connection.remote_address)
    connection = mesh.host.new_outbound(expected, circuit=circuit)
    transport = CircuitTransport(
        stream, connection, circuit, spawn=mesh.host.spawn, clock=mesh.host.clock.monotonic
    )
    transport.start()
    mesh.host.spawn(transport.run(), "circuit")
    return connection


async def test_a_relay_that_lies_about_the_source() -> None:
    """The relay says dave and is at the other end itself: what the handshake proves is not what was said."""
    async with RelayNode.run("carol") as carol, Member.run("bob") as bob:
        await bob.reserve(carol)
        relay = await carol.mesh.connection_with(bob.mesh.peer_id)
        stream = relay.open_stream(STOP_PROTOCOL)
        dave = Identity.from_label("dave").peer_id
        await stream.write_frame(StopMessage(StopType.CONNECT, peer=dave).encode())
        answer = await stream.read_frame(4096)
        assert answer is not None
        assert StopMessage.parse(answer).status is Status.OK
        connection = await carry(carol.mesh, stream, bob.mesh.peer_id)
        await until(lambda: bob.circuits.outcomes["in", "peer_id_mismatch"] == 1)
        await until(lambda: connection.is_closed)
        assert bob.mesh.host.connection_to(dave) is None
        assert bob.mesh.host.refusals["connection", "peer_id_mismatch"] == 1
        await until(lambda: bob.circuits.inbound == 0)


async def test_a_relay_that_leads_elsewhere() -> None:
    async with node("carol") as carol, Member.run("bob") as bob, Member.run("alice") as alice:

        async def to_itself(stream: Stream) -> None:
            """Instead of bob, the relay answers the handshake."""
            assert HopMessage.parse(await stream.read_frame(4096) or b"").type is HopType.CONNECT
            await stream.write_frame(HopMessage(HopType.STATUS, status=Status.OK).encode())
            circuit = Circuit(stream.connection.peer_id, stream.connection.remote_address)
            connection = carol.host.new_inbound(circuit=circuit)
            transport = CircuitTransport(
                stream, connection, circuit, spawn=carol.host.spawn, clock=carol.host.clock.monotonic
            )
            transport.start()
            await transport.run()

        carol.host.serve(HOP_PROTOCOL, to_itself)
        with pytest.raises(PeerIdMismatch):
            await alice.circuits.dial(bob.mesh.peer_id, carol.address.circuit().with_peer(bob.mesh.peer_id))
        await until(lambda: alice.circuits.outbound == 0)


@pytest.mark.parametrize("answer", [b"", b"\xff" * 9, HopMessage(HopType.CONNECT).encode()])
async def test_a_relay_that_talks_nonsense(answer: bytes) -> None:
    async with node("carol") as carol, Member.run("alice") as alice:

        async def nonsense(stream: Stream) -> None:
            await stream.read_frame(4096)
            await stream.write_frame(answer)
            stream.close_write()

        carol.host.serve(HOP_PROTOCOL, nonsense)
        bob = Identity.from_label("bob").peer_id
        with pytest.raises(RelayError) as refused:
            await alice.circuits.dial(bob, carol.address.circuit().with_peer(bob))
        assert refused.value.code in ("relay_unreachable", "relay_refused")
        assert alice.circuits.outbound == 0


async def test_a_dial_that_is_given_up_leaves_nothing() -> None:
    """At each of its steps: while the relay is silent, and while the peer is."""
    async with node("carol") as carol, Member.run("alice") as alice:
        bob = Identity.from_label("bob").peer_id
        asked = asyncio.Event()

        async def silent(stream: Stream) -> None:
            await stream.read_frame(4096)
            asked.set()
            await stream.read()

        async def silent_peer(stream: Stream) -> None:
            await stream.read_frame(4096)
            await stream.write_frame(HopMessage(HopType.STATUS, status=Status.OK).encode())
            await stream.read()
            asked.set()
            while await stream.read():
                pass

        nobody = socket.create_server(("127.0.0.1", 0))  # the kernel answers for it, and nobody else
        port = nobody.getsockname()[1]
        relay_id = Identity.from_label("dave").peer_id
        target = carol.address.with_port(port).with_peer(relay_id).circuit()
        dials = [asyncio.create_task(alice.circuits.dial(bob, target)) for _ in range(2)]
        await until(lambda: len(alice.circuits._relay_dials) == 1)
        for dial in dials:
            dial.cancel()
        await asyncio.wait(dials)
        nobody.close()
        assert alice.circuits.outbound == 0
        for behaviour in (silent, silent_peer):
            asked.clear()
            carol.host.serve(HOP_PROTOCOL, behaviour)
            dial = asyncio.create_task(alice.circuits.dial(bob, carol.address.circuit().with_peer(bob)))
            async with asyncio.timeout(20):
                await asked.wait()
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dial
            await until(lambda: alice.circuits.outbound == 0)
            relay = alice.mesh.host.connection_to(carol.peer_id)
            assert relay is not None
            streams = relay.streams
            await until(lambda: not streams)  # noqa: B023 - awaited before the next turn
