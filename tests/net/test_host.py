"""Two and three nodes of ours on loopback: how connections and streams live, settle and end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.interop.ours import pattern, until
from tests.interop.peer import ECHO, REVERSE, SINK
from tests.net.mesh_node import node
from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.mesh.admission import AdmissionConfig
from wws.mesh.connections import ConnectionTableConfig
from wws.mesh.memory import MemoryConfig
from wws.runtime.connection import HandshakeFailed
from wws.runtime.dialer import DialerConfig, DialFailed
from wws.runtime.handlers import HandlersConfig
from wws.runtime.host import HostConfig
from wws.runtime.streams import Stream, StreamReset
from wws.testing.clock import ManualClock
from wws.transport.connection import ConnectionConfig
from wws.transport.yamux_limits import YamuxConfig

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

CAROL = Identity.from_label("carol").peer_id
QUICK_SETTLE = HostConfig(table=ConnectionTableConfig(settle=0.05, settle_other=0.3))


async def test_two_nodes_connect_identify_and_ping() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.join(bob)
        assert connection.identification is not None
        assert connection.identification.peer_id == bob.peer_id
        assert connection.identification.addresses == tuple(bob.host.listen_addresses)
        assert bob.peer_id in alice.host.table.peers()
        assert await alice.ping.ping(connection) >= 0
        assert alice.slots() == bob.slots() == (1, 1, 0)


async def test_dials_at_the_same_time_are_one_dial() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connections = await asyncio.gather(*[alice.dial(bob.address) for _ in range(10)])
        assert len(set(connections)) == 1
        assert alice.slots() == (1, 1, 0)


async def test_a_peer_that_left_can_come_again() -> None:
    async with node("alice") as alice:
        for _ in range(3):
            async with node("bob") as bob:
                await bob.join(alice)
                assert alice.slots() == (1, 1, 0)
            await until(lambda: alice.slots() == (0, 0, 0))


async def test_a_peer_that_says_it_leaves_is_dialled_anew() -> None:
    async with node("alice") as alice, node("bob") as bob:
        first = await alice.dial(bob.address)
        stream = first.open_stream(ECHO)
        await stream.write(b"hello")
        assert await stream.read_exactly(5) == b"hello"
        at_bob = await bob.connection_with(alice.peer_id)
        at_bob.machine.go_away(0)
        at_bob.flush()
        await until(lambda: first.is_leaving)
        assert alice.host.connection_to(bob.peer_id) is None
        second = await alice.dial(bob.address)
        assert second is not first
        await stream.write(b"again")  # what was open goes on
        assert await stream.read_exactly(5) == b"again"
        await stream.finish()
        await until(lambda: first.is_closed)
        assert await alice.ping.ping(second) > 0


async def test_of_a_simultaneous_open_exactly_one_connection_is_left() -> None:
    async with node("alice", QUICK_SETTLE) as alice, node("bob", QUICK_SETTLE) as bob:
        await asyncio.gather(alice.dial(bob.address), bob.dial(alice.address))
        await until(lambda: alice.slots() == bob.slots() == (1, 1, 0))
        for one, other in ((alice, bob), (bob, alice)):
            connection = await one.connection_with(other.peer_id)
            assert await one.ping.ping(connection) >= 0
        assert (
            alice.host.refusals["connection", "duplicate"] + bob.host.refusals["connection", "duplicate"] <= 1
        )


async def test_a_connection_whose_peer_has_vanished_goes_when_the_peer_comes_again() -> None:
    """The old socket stays open and silent, as after a power cut: only the new connection answers."""
    quick = HostConfig(
        table=ConnectionTableConfig(settle=300, settle_other=300),
        connection=ConnectionConfig(yamux=YamuxConfig(ping_timeout=0.2)),
    )
    async with node("alice", quick) as alice, node("bob") as before, node("bob") as after:
        old = await before.join(alice)
        old._transport.pause_reading()  # type: ignore[union-attr]
        new = await after.dial(alice.address)
        await until(lambda: alice.host.refusals["connection", "keep_alive_timeout"] == 1)
        await until(lambda: alice.slots() == (1, 1, 0))
        assert (await alice.connection_with(before.peer_id)).remote_port == new.local_address.port
        assert await alice.ping.ping(alice.host.connections()[0]) >= 0


# Limits


async def test_one_connection_more_than_a_peer_may_have() -> None:
    config = HostConfig(table=ConnectionTableConfig(max_per_peer=2))
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(node("alice", config))
        twins = [await stack.enter_async_context(node("bob")) for _ in range(3)]
        for twin in twins[:2]:
            await twin.dial(alice.address)
        await until(lambda: len(alice.host.table) == 2)
        connection = await twins[2].dial(alice.address)
        await until(lambda: connection.is_closed)
        assert alice.host.refusals["connection", "connections_per_peer"] == 1
        assert alice.slots() == (2, 2, 0)


async def test_one_connection_more_than_the_node_may_have() -> None:
    config = HostConfig(admission=AdmissionConfig(max_connections=2))
    quick = DialerConfig(retry_wait=(0.0, 0.01))
    async with node("alice", config) as alice, node("bob") as bob, node("carol") as carol:
        await bob.dial(alice.address)
        await carol.dial(alice.address)
        async with node("dave", dialer=quick) as dave:
            with pytest.raises(DialFailed) as failed:
                await dave.dial(alice.address)
            assert [attempt.code for attempt in failed.value.attempts] == ["handshake_failed"]
            assert alice.host.refusals["connection", "connections_total"] == 3  # the dialer tries again twice
            assert alice.slots() == (2, 2, 0)
        await carol.host.close()
        await until(lambda: alice.slots() == (1, 1, 0))
        async with node("dave") as dave:
            await dave.dial(alice.address)


async def test_a_full_node_trims_although_nobody_new_gets_in() -> None:
    clock = ManualClock()
    config = HostConfig(
        admission=AdmissionConfig(max_connections=2),
        table=ConnectionTableConfig(high_water=1, low_water=1, grace=30),
    )
    async with (
        node("alice", config, clock=clock) as alice,
        node("bob", server=False) as bob,
        node("carol", server=False) as carol,
    ):
        await bob.join(alice)
        await carol.join(alice)
        alice.host.table.protect(carol.peer_id, "friend")
        assert alice.slots() == (2, 2, 0)
        clock.advance(31)
        await until(lambda: alice.slots() == (1, 1, 0))
        assert alice.host.table.peers() == [carol.peer_id]
        assert alice.host.refusals["connection", "trimmed"] == 1


async def test_one_stream_more_than_a_handler_takes_of_a_peer() -> None:
    config = HostConfig(handlers=HandlersConfig(max_per_peer=2))
    async with node("alice", config) as alice, node("bob") as bob:
        connection = await bob.join(alice)
        async with connection.open_stream(ECHO) as first, connection.open_stream(ECHO) as second:
            for stream in (first, second):
                await stream.write(b"hello")
                assert await stream.read() == b"hello"
            async with connection.open_stream(ECHO) as third:
                await third.write(b"hello")
                with pytest.raises(StreamReset):
                    await third.read()
            assert alice.host.refusals[ECHO, "streams_per_peer"] == 1
            assert await bob.ping.ping(connection) >= 0  # other protocols have room of their own
            second.close_write()
            assert await second.read() == b""
            await until(lambda: alice.host.handlers.of_peers[bob.peer_id, ECHO] == 1)
            async with connection.open_stream(ECHO) as fourth:
                await fourth.write(b"hello")
                assert await fourth.read() == b"hello"
    assert not alice.host.handlers.of_peers


async def test_one_stream_more_than_a_handler_takes_of_a_prefix() -> None:
    """Loopback is made to count here: bob and carol share a prefix, and each is within its own limit."""
    config = HostConfig(
        handlers=HandlersConfig(max_per_peer=2, max_per_prefix=3),
        admission=AdmissionConfig(prefix_exempt=()),
    )
    async with node("alice", config) as alice, node("bob") as bob, node("carol") as carol:
        connections = [await bob.join(alice), await carol.join(alice)]
        streams = []
        for connection in (*connections, connections[0]):
            streams.append(connection.open_stream(ECHO))
            await streams[-1].write(b"hello")
            assert await streams[-1].read() == b"hello"
        streams.append(connections[1].open_stream(ECHO))
        await streams[-1].write(b"hello")
        with pytest.raises(StreamReset):
            await streams[-1].read()
        assert alice.host.refusals[ECHO, "streams_per_prefix"] == 1
        for stream in streams:
            stream.reset()
        await until(lambda: not any(protocol == ECHO for _, protocol in alice.host.handlers.of_prefixes))


async def test_who_is_over_the_rate_of_accepts_gets_in_later() -> None:
    clock = ManualClock()
    config = HostConfig(admission=AdmissionConfig(accepts_per_second=1))
    patient = DialerConfig(retries=1000, retry_wait=(0.0, 0.01))
    async with node("alice", config, clock=clock) as alice, node("bob") as bob:
        await bob.dial(alice.address)
        async with node("carol", dialer=patient) as carol:
            dial = asyncio.create_task(carol.dial(alice.address))
            await until(lambda: alice.host.refusals["connection", "accept_rate"] >= 2)
            assert not dial.done()
            clock.advance(1)
            await dial
        assert alice.host.refusals["connection", "accept_rate"] >= 2


# Dials that lead nowhere


async def test_another_peer_than_was_dialled() -> None:
    async with node("alice") as alice, node("bob") as bob:
        with pytest.raises(DialFailed) as failed:
            await alice.dial(bob.address.without_peer().with_peer(CAROL))
        assert {attempt.code for attempt in failed.value.attempts} == {"peer_id_mismatch"}
        await until(lambda: alice.slots() == bob.slots() == (0, 0, 0))


async def test_we_do_not_dial_ourselves() -> None:
    async with node("alice") as alice:
        with pytest.raises(DialFailed, match="ourselves"):
            await alice.dial(alice.address)
        with pytest.raises(DialFailed, match="ourselves"):  # our address under another name
            await alice.dial(alice.address.without_peer().with_peer(CAROL))
        assert alice.slots() == (0, 0, 0)


async def test_a_twin_of_ourselves_is_not_a_peer() -> None:
    async with node("alice") as alice, node("alice") as twin:
        with pytest.raises(HandshakeFailed, match="ourselves"):
            await alice.dialer._attempt_once(alice.peer_id, twin.address)
        await until(lambda: alice.slots() == twin.slots() == (0, 0, 0))


async def test_our_own_limit_is_said_at_once_and_not_after_a_time_out() -> None:
    config = HostConfig(admission=AdmissionConfig(max_connections=0))
    quick = DialerConfig(retries=0)
    async with node("alice", config, dialer=quick) as alice, node("bob") as bob:
        connection = alice.host.new_outbound(bob.peer_id)
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", bob.port)
        await until(lambda: not alice.host._connections)
        with pytest.raises(HandshakeFailed):
            await connection.established()


async def test_a_cancelled_dial_leaves_nothing() -> None:
    async with silent_server() as port, node("alice") as alice:
        address = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}/p2p/{CAROL}")
        dial = asyncio.create_task(alice.dialer.connect_at(CAROL, address, 20))
        await until(lambda: alice.host.admission.total == 1)
        dial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dial
        await until(lambda: alice.slots() == (0, 0, 0))
        assert alice.host._connections == {}


async def test_who_gives_up_waiting_for_a_dial_leaves_it_to_the_others() -> None:
    async with node("alice") as alice, node("bob") as bob:
        first = asyncio.create_task(alice.dial(bob.address))
        second = asyncio.create_task(alice.dial(bob.address))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).is_established
        assert alice.slots() == (1, 1, 0)


async def test_a_dial_with_bad_addresses_does_not_spoil_one_with_good_ones() -> None:
    """What a peer told us of bob leads into the void; what we are given while that is tried leads to him."""
    async with (
        silent_server() as port,
        node("alice", HostConfig(phase_timeout=0.2)) as alice,
        node("bob") as bob,
    ):
        lie = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}/p2p/{bob.peer_id}")
        first = asyncio.create_task(alice.dial(lie))
        await until(lambda: alice.host.admission.total == 1)
        assert (await alice.dial(bob.address)).is_established
        with contextlib.suppress(DialFailed):
            await first


async def test_names_without_an_answer_hold_up_nobody() -> None:
    asked: set[Multiaddr] = set()

    async def never(address: Multiaddr) -> Sequence[Multiaddr]:
        asked.add(address)
        await asyncio.Event().wait()
        raise AssertionError("nothing wakes it")

    hasty = DialerConfig(resolve_timeout=0.05)
    async with node("alice", dialer=hasty, resolver=never) as alice, node("bob") as bob:
        names = [Multiaddr.parse(f"/dns4/n{number}.example.org/tcp/9000") for number in range(4)]
        assert (await alice.dialer.connect(bob.peer_id, [*names, bob.address])).is_established
        assert asked == set(names)
        with pytest.raises(DialFailed) as failed:
            await alice.dialer.connect(CAROL, names)
        assert {attempt.code for attempt in failed.value.attempts} == {"timeout"}


# Streams


async def test_half_close_in_both_orders() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.join(bob)

        async def talks_first(stream: Stream) -> None:
            await stream.write(b"bye")
            stream.close_write()
            talks_first.heard = await stream.read_to_end(100)  # type: ignore[attr-defined]

        bob.host.serve("/test/talks-first", talks_first)
        async with connection.open_stream(REVERSE) as stream:  # we end first, then the peer
            await stream.write(b"abc")
            stream.close_write()
            assert await stream.read_to_end(10) == b"cba"
        async with connection.open_stream("/test/talks-first") as stream:  # the peer ends first, then we
            await stream.write(b"first half, ")
            assert await stream.read_to_end(10) == b"bye"
            await stream.write(b"second half")
            stream.close_write()
        await until(lambda: getattr(talks_first, "heard", b"") == b"first half, second half")
        await until(lambda: not connection.streams and connection.machine.open_streams == 0)


async def test_a_peer_that_resets_mid_transfer() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.join(bob)

        async def gives_up(stream: Stream) -> None:
            await stream.read_exactly(1000)
            stream.reset()

        bob.host.serve("/test/gives-up", gives_up)
        async with connection.open_stream("/test/gives-up") as stream:
            with pytest.raises(StreamReset):
                await stream.write(pattern(10_000_000))
        await until(lambda: not connection.streams and connection.machine.open_streams == 0)
        assert await alice.ping.ping(connection) >= 0


async def test_a_peer_that_vanishes_mid_transfer() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.join(bob)
        async with connection.open_stream(SINK) as stream:
            await stream.write(pattern(100_000))
            (await bob.connection_with(alice.peer_id)).abort(StreamReset("power cut"))
            with pytest.raises(WwsError):
                await stream.write(pattern(10_000_000))
            with pytest.raises(WwsError):
                await stream.read()
        await until(lambda: alice.slots() == bob.slots() == (0, 0, 0))


async def test_back_pressure_reaches_from_the_reader_to_the_writer_and_ends() -> None:
    go_on = asyncio.Event()
    received = 0

    async def stops(stream: Stream) -> None:
        nonlocal received
        await go_on.wait()
        while data := await stream.read():
            received += len(data)
        stream.close_write()

    size = 4_000_000
    async with node("alice") as alice, node("bob") as bob:
        bob.host.serve("/test/stops", stops)
        connection = await alice.join(bob)
        async with connection.open_stream("/test/stops") as stream, asyncio.TaskGroup() as tasks:

            async def write() -> None:
                await stream.write(pattern(size))
                stream.close_write()

            writer = tasks.create_task(write())
            theirs = await bob.connection_with(alice.peer_id)
            await until(lambda: theirs.machine.unread > 255 * 1024)
            assert theirs.machine.unread <= 256 * 1024  # the initial window, less the negotiation
            assert connection.waiting == 0  # the writer holds the rest
            assert not writer.done()
            go_on.set()
            assert await stream.read() == b""
        assert received == size
        assert theirs.machine.unread == 0


async def test_what_waits_for_all_peers_together_is_bounded() -> None:
    """The connection that holds the most goes; the others stay."""

    async def never_reads(stream: Stream) -> None:
        await asyncio.Event().wait()

    config = HostConfig(memory=MemoryConfig(total=600_000))
    async with node("alice", config) as alice, node("bob") as bob, node("carol") as carol:
        alice.host.serve("/test/never", never_reads)
        greedy, modest = await bob.join(alice), await carol.join(alice)
        streams = [greedy.open_stream("/test/never") for _ in range(4)]
        with contextlib.suppress(StreamReset):
            async with asyncio.TaskGroup() as tasks:
                for stream in streams:
                    tasks.create_task(_write_quietly(stream, pattern(256 * 1024)))
        await until(lambda: alice.host.refusals["connection", "memory"] == 1)
        await until(lambda: alice.host.table.peers() == [carol.peer_id])
        assert await carol.ping.ping(modest) >= 0


async def _write_quietly(stream: Stream, data: bytes) -> None:
    with contextlib.suppress(WwsError):
        await stream.write(data)


async def test_a_cancelled_read_loses_nothing_and_a_cancelled_write_leaks_nothing() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.join(bob)
        async with connection.open_stream(ECHO) as stream:
            for _ in range(5):
                reader = asyncio.create_task(stream.read())
                await asyncio.sleep(0)
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
            await stream.write(b"hello")
            await until(lambda: bool(stream._buffer))
            reader = asyncio.create_task(stream.read())
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            assert await stream.read() == b"hello"
        connection.pause_writing()  # as asyncio says when the socket is full
        stream = connection.open_stream(ECHO)
        for _ in range(5):
            writer = asyncio.create_task(stream.write(pattern(1000)))
            await until(lambda: bool(connection._drainers))
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            assert connection._drainers == []
        connection.resume_writing()
        stream.reset()
        assert await alice.ping.ping(connection) >= 0


async def test_one_stream_with_much_to_do_does_not_hold_up_the_others() -> None:
    """A handler that never has to wait for its peer still lets others run."""
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.join(bob)
        stream = connection.open_stream(ECHO)
        await stream.write(bytes(32_000))
        await until(lambda: sum(map(len, stream._buffer)) == 32_000)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(other())
        for _ in range(1000):
            assert len(await stream.read(32)) == 32
        task.cancel()
        assert turns >= 10
        stream.reset()


async def test_closing_a_host_with_everything_under_way() -> None:
    """Half-open sockets, streams in use, a dial without an answer: nothing is left. The fixture looks."""
    async with silent_server() as port, node("alice") as alice, node("bob") as bob:
        connection = await alice.join(bob)
        streams = [connection.open_stream(ECHO) for _ in range(20)]
        for stream in streams:
            await stream.write(b"hello")
        reader, writer = await asyncio.open_connection("127.0.0.1", bob.port)
        await until(lambda: bob.slots()[2] == 1)
        dial = asyncio.create_task(bob.dial(Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}/p2p/{CAROL}")))
        await until(lambda: bob.host.admission.total == 3)
        await bob.dialer.close()
        await bob.host.close()
        assert bob.slots() == (0, 0, 0)
        assert not bob.host._tasks
        assert not bob.host._connections
        with pytest.raises(asyncio.CancelledError):
            await dial
        with pytest.raises(StreamReset):
            await streams[0].read_to_end(100)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """A port that accepts and says nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
