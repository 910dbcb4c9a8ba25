"""What peers can make a node keep, on real sockets: charged as it arrives, bounded, and free at the end."""

import asyncio
import contextlib
import gc
import random
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace

import psutil
import pytest

from tests.interop.ours import pattern, until
from tests.interop.peer import SINK
from tests.net.circuit_node import Member, RelayNode
from tests.net.hostile import Hostile
from tests.net.mesh_node import MeshNode, node
from tests.net.test_quic import node as quic_node
from wws.codec import varint
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.mesh.admission import AdmissionConfig
from wws.mesh.memory import MemoryConfig
from wws.mesh.rates import Share
from wws.runtime.handlers import HandlersConfig
from wws.runtime.host import HostConfig
from wws.runtime.streams import Stream
from wws.testing.scale import scale
from wws.transport.connection import SecureConnection
from wws.transport.yamux_frames import DATA, INITIAL_WINDOW

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

MIB = 1024 * 1024
NEVER = "/test/never"
LARGE = "/test/large"
MESSAGE = "/test/message"
SLACK = 24 * MIB
"""What the process may grow by for other reasons: the flooding side lives in it, too."""

PATIENT = HandlersConfig(all_streams=Share(1e6, 1e6), rate=Share(1e6, 1e6))


def limited(total: int, per_peer: int | None = None, **admission: object) -> HostConfig:
    """A host that keeps so much for its peers, and minds nothing else."""
    per_peer = per_peer or total
    return HostConfig(
        memory=MemoryConfig(total=total, per_peer=per_peer, per_group=total),
        handlers=PATIENT,
        admission=AdmissionConfig(accepts_per_second=100_000, **admission),  # type: ignore[arg-type]
    )


async def never_reads(stream: Stream) -> None:
    await asyncio.Event().wait()


async def answers_at_length(stream: Stream) -> None:
    await stream.write(pattern(MIB))


async def waits_with_its_message(stream: Stream) -> None:
    """As a request does whose turn has not come."""
    await stream.read_frame(MIB)
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def alice_with(config: HostConfig) -> AsyncIterator[MeshNode]:
    async with node("alice", config) as alice:
        for protocol, handler in (
            (NEVER, never_reads),
            (LARGE, answers_at_length),
            (MESSAGE, waits_with_its_message),
        ):
            alice.host.serve(protocol, handler)
        yield alice
        for connection in alice.host.connections():
            connection.close()
        await until(lambda: total(alice) == 0)
        assert len(alice.host.memory.ledger) == 0


def total(one: MeshNode) -> int:
    return one.host.memory.ledger.total


def shed(one: MeshNode) -> int:
    return one.host.refusals["connection", "memory"]


async def fill(peer: Hostile, streams: int, size: int = INITIAL_WINDOW - 100) -> None:
    """Open streams and fill the window of each, or be cut off on the way."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        for stream in range(1, 2 * streams, 2):
            peer.open(stream, NEVER)
            for offset in range(0, size, 60_000):
                peer.frame(DATA, 0, stream, bytes(min(60_000, size - offset)))
                await peer.drain()
                if peer.writer.is_closing():
                    return
        await peer.ping()


async def test_hoarders_of_windows_are_shed_one_by_one() -> None:
    """Each fills forty windows that nobody reads: ten megabytes, where four are allowed."""
    process = psutil.Process()
    hoarders = scale(40, least=4)
    async with alice_with(limited(12 * MIB, 4 * MIB)) as alice, node("bob") as bob:
        honest = await bob.join(alice)
        gc.collect()
        before = process.memory_info().rss
        most = 0
        async with contextlib.AsyncExitStack() as stack:
            for number in range(hoarders):
                peer = await stack.enter_async_context(
                    await Hostile.authenticated(alice.port, f"mallory {number}")
                )
                await fill(peer, 40)
                most = max(most, total(alice))
                assert total(alice) <= 12 * MIB
            assert shed(alice) == hoarders
            assert await bob.ping.ping(honest) >= 0
        assert most <= 12 * MIB
        assert process.memory_info().rss - before < 12 * MIB * 1.5 + SLACK


async def test_over_the_total_the_heaviest_goes_and_the_modest_stay() -> None:
    async with alice_with(limited(4 * MIB)) as alice, node("bob") as bob:
        honest = await bob.join(alice)
        async with contextlib.AsyncExitStack() as stack:
            peers = [
                await stack.enter_async_context(await Hostile.authenticated(alice.port, f"mallory {number}"))
                for number in range(3)
            ]
            for peer, streams in zip(peers, (3, 6, 8), strict=True):
                await fill(peer, streams)
            await until(lambda: shed(alice) == 1)
            await until(lambda: set(alice.host.table.peers()) == {bob.peer_id, _peer(0), _peer(1)})
            assert await bob.ping.ping(honest) >= 0


def _peer(number: int) -> PeerId:
    return Identity.from_label(f"mallory {number}").peer_id


async def test_all_of_a_prefix_share_its_bound() -> None:
    """Loopback is made to count as a prefix here."""
    config = limited(64 * MIB, prefix_exempt=(), max_per_prefix=1000, accepts_per_second_prefix=100_000)
    config = replace(config, memory=replace(config.memory, per_group=3 * MIB))
    async with alice_with(config) as alice, contextlib.AsyncExitStack() as stack:
        for number in range(8):
            peer = await stack.enter_async_context(
                await Hostile.authenticated(alice.port, f"mallory {number}")
            )
            await fill(peer, 2)
            assert alice.host.memory.ledger.of_group("127.0.0.0/24") <= 3 * MIB
        assert shed(alice) > 0


async def test_all_circuits_of_a_relay_share_its_bound() -> None:
    """Nobody sees the prefix of who comes through a relay; so all of them weigh as one."""
    async with RelayNode.run("carol") as carol, Member.run("bob") as bob, Member.run("alice") as alice:
        await bob.reserve(carol)
        connection = await alice.mesh.dial(bob.relayed_address)
        assert connection.is_limited
        theirs = await bob.mesh.connection_with(alice.mesh.peer_id)
        relay, ledgers = f"relay {carol.mesh.peer_id}", []
        for one, circuit in ((alice.mesh, connection), (bob.mesh, theirs)):
            ledgers.append(one.host.memory.ledger)
            assert circuit.account is not None
            assert ledgers[-1].of_group(relay) == circuit.account.held
        connection.close()
        await until(lambda: not any(ledger.of_group(relay) for ledger in ledgers))


async def test_messages_that_never_end_are_charged() -> None:
    """Nothing of them can be decrypted, so no stream and no window bounds them."""
    count = 20
    async with alice_with(limited(600_000)) as alice, contextlib.AsyncExitStack() as stack:
        for number in range(count):
            peer = await stack.enter_async_context(
                await Hostile.authenticated(alice.port, f"mallory {number}")
            )
            await peer.ping()
            peer.say((65_535).to_bytes(2, "big") + bytes(60_000))
            await peer.drain()
            assert total(alice) <= 600_000
        await until(lambda: shed(alice) > 0)
        kept = count - shed(alice)
        await until(lambda: total(alice) >= kept * 60_000)


async def test_who_asks_for_much_and_reads_nothing_is_charged_for_the_answers() -> None:
    """A megabyte for each of a hundred little questions: the windows, the socket, and what writers hold."""
    async with alice_with(limited(64 * MIB, 8 * MIB)) as alice, node("bob") as bob:
        honest = await bob.join(alice)
        async with await Hostile.authenticated(alice.port) as peer:
            for stream in range(1, 200, 2):
                peer.open(stream, LARGE)
                with contextlib.suppress(ConnectionError):
                    await peer.drain()
            await until(lambda: shed(alice) == 1)
            await peer.gone()
        assert await bob.ping.ping(honest) >= 0
        await until(lambda: total(alice) < MIB)


@pytest.mark.parametrize("does", ["read", "write"])
async def test_a_handler_that_is_cut_off_leaves_nothing_to_the_collector(does: str) -> None:
    """An error that a stream keeps and raises held the frame, and with it a megabyte of answer."""
    held: list[weakref.ref[Answer]] = []

    async def cut_off(stream: Stream) -> None:
        answer = Answer(MIB)
        held.append(weakref.ref(answer))
        await (stream.read_exactly(10) if does == "read" else stream.write(answer))

    async with alice_with(limited(64 * MIB)) as alice:
        alice.host.serve("/test/cut", cut_off)
        gc.disable()
        try:
            async with await Hostile.authenticated(alice.port) as peer:
                for stream in range(1, 11, 2):
                    peer.open(stream, "/test/cut")
                await until(lambda: len(held) == 5)
            await until(lambda: not any(answer() for answer in held))
        finally:
            gc.enable()


class Answer(bytearray):
    """Bytes that can be watched."""


async def test_messages_that_wait_for_their_turn_are_charged_until_they_are_done_with() -> None:
    size = 200_000
    async with alice_with(limited(64 * MIB)) as alice, await Hostile.authenticated(alice.port) as peer:
        await peer.ping()
        before = total(alice)
        for stream in (1, 3, 5):
            peer.open(stream, MESSAGE, varint.encode(size))
            for _ in range(4):
                peer.frame(DATA, 0, stream, bytes(size // 4))
        await until(lambda: total(alice) > before + 3 * size)
        assert total(alice) < before + 3 * (size + 10_000)
        (connection,) = alice.host.connections()
        assert connection.machine.unread == 0  # all of it is granted once more
        assert connection.waiting < 1000


async def test_single_bytes_cost_little_more_than_they_say() -> None:
    """A peer chooses how it cuts its frames; what it makes us keep is what it is charged."""
    streams, size = 20, scale(20_000)
    async with alice_with(limited(64 * MIB)) as alice, await Hostile.authenticated(alice.port) as peer:
        await peer.ping()
        gc.collect()
        tracemalloc.start()
        try:
            held, charged = tracemalloc.get_traced_memory()[0], total(alice)
            for stream in range(1, 2 * streams, 2):
                peer.open(stream, NEVER)
                for _ in range(size // 500):
                    peer.frames(*((DATA, 0, stream, b"x"),) * 500)
                    await peer.drain()
            await peer.ping()
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] - held
            charged = total(alice) - charged
        finally:
            tracemalloc.stop()
        assert charged >= streams * size
        assert held < charged * 1.25 + 200_000


async def test_silent_connections_and_empty_streams_take_no_more_than_they_are_charged() -> None:
    """The memory of the hostile side counts here, too."""
    count, streams = scale(1_000, least=50), 100
    config = replace(limited(64 * MIB, max_connections=2 * count), max_half_open=count)
    async with alice_with(config) as alice, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(await Hostile.authenticated(alice.port, "first"))
        await first.ping()
        gc.collect()
        tracemalloc.start()
        try:
            held, charged = tracemalloc.get_traced_memory()[0], total(alice)
            for stream in range(1, 2 * streams, 2):
                first.open(stream, NEVER)
            await first.ping()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - held < total(alice) - charged
            held, charged = tracemalloc.get_traced_memory()[0], total(alice)
            for number in range(count):
                await stack.enter_async_context(await Hostile.connect(alice.port))
                if number == 20:  # what is made once
                    held, charged = tracemalloc.get_traced_memory()[0], total(alice)
            await until(lambda: alice.slots()[2] == count)
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - held < total(alice) - charged
        finally:
            tracemalloc.stop()


async def test_windows_do_not_grow_without_room() -> None:
    """They have their first size always: that much is granted with every stream."""
    config = limited(64 * MIB)
    config = replace(config, memory=replace(config.memory, growth_share=0.0))
    async with alice_with(config) as alice, node("bob") as bob:
        connection = await bob.join(alice)
        theirs = await alice.connection_with(bob.peer_id)
        assert isinstance(theirs.machine, SecureConnection)
        yamux = theirs.machine._yamux
        assert yamux is not None
        async with connection.open_stream(SINK) as stream:
            for _ in range(20):
                await stream.write(pattern(MIB // 2))
                assert yamux._table.growth == 0
            stream.close_write()
            await stream.read_to_end(100)


async def test_what_comes_over_quic_is_charged_and_shed_alike() -> None:
    async with quic_node("alice") as alice, quic_node("bob") as bob, quic_node("carol") as carol:
        alice.host.serve(NEVER, never_reads)
        alice.host.reconfigure(replace(alice.host.config, memory=MemoryConfig(per_peer=1_500_000)))
        greedy, modest = await bob.dial(alice), await carol.dial(alice)
        ledger = alice.host.memory.ledger

        async def write(stream: Stream) -> None:
            with contextlib.suppress(WwsError):
                await stream.write(pattern(900_000))

        await write(modest.open_stream(NEVER))
        await until(lambda: ledger.of_peer(carol.peer_id) > 900_000)
        await asyncio.gather(*(write(greedy.open_stream(NEVER)) for _ in range(4)))
        await until(lambda: alice.host.refusals["connection", "memory"] == 1)
        assert ledger.of_peer(bob.peer_id) == 0
        assert modest.is_established
        for connection in alice.host.connections():
            connection.close()
        await until(lambda: ledger.total == 0)


async def test_whatever_comes_and_goes_the_ledger_ends_at_nothing() -> None:
    """Peers that open, fill, read, reset and leave in any order, some of them shed."""
    pick = random.Random(5)
    async with alice_with(limited(3 * MIB, 2 * MIB)) as alice:
        peers: list[tuple[Hostile, int]] = []
        for number in range(scale(1_000, least=60)):
            action = pick.randrange(5)
            if action == 0 or not peers:
                peers.append((await Hostile.authenticated(alice.port, f"mallory {number % 7}"), 1))
                continue
            index = pick.randrange(len(peers))
            peer, stream = peers[index]
            match action:
                case 1:
                    peer.open(stream, NEVER, bytes(pick.randrange(60_000)))
                    peers[index] = (peer, stream + 2)
                case 2:
                    peer.open(stream, LARGE)
                    peers[index] = (peer, stream + 2)
                case 3:
                    peer.open(stream, MESSAGE, varint.encode(50_000) + bytes(pick.randrange(50_000)))
                    peers[index] = (peer, stream + 2)
                case _:
                    del peers[index]
                    await peer.close()
            await peer.drain()
            assert total(alice) <= 3 * MIB
        for peer, _ in peers:
            await peer.close()
        await until(lambda: not alice.host.connections())
        await until(lambda: total(alice) == 0)
        ledger = alice.host.memory.ledger
        assert (len(ledger), ledger._peers, ledger._groups) == (0, {}, {})
