"""Many sockets at once: honest peers get in beside them, and afterwards as many slots are held as before."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network

import psutil
import pytest

from tests.interop.ours import pattern, until
from tests.interop.peer import ECHO
from tests.net.conftest import Tell
from tests.net.hostile import Hostile
from tests.net.mesh_node import MeshNode, node
from tests.net.relaying import relay
from wws.codec import varint
from wws.dht.messages import KadMessage, KadRecord, MessageType
from wws.identity.keys import Identity
from wws.mesh import identify
from wws.mesh.admission import AdmissionConfig
from wws.mesh.bans import BansConfig
from wws.mesh.connections import ConnectionTableConfig
from wws.mesh.identify import Identification
from wws.mesh.memory import MemoryConfig
from wws.mesh.rates import Share
from wws.relay.messages import HOP_PROTOCOL, HopMessage, HopType
from wws.relay.reservations import ReservationConfig
from wws.relay.server import RelayConfig
from wws.runtime.dht_driver import PROTOCOL as KAD
from wws.runtime.dht_driver import DhtDriverConfig
from wws.runtime.dialer import DialerConfig
from wws.runtime.gatekeeper import GatekeeperConfig
from wws.runtime.handlers import HandlersConfig
from wws.runtime.host import HostConfig
from wws.runtime.relay.server import RelayServerConfig
from wws.runtime.streams import Stream
from wws.testing.names import name_record
from wws.testing.scale import scale
from wws.transport.yamux_frames import DATA, FIN

MALLORY = Identity.from_label("mallory").peer_id

pytestmark = [pytest.mark.net, pytest.mark.timeout(120), pytest.mark.usefixtures("leaves_nothing")]


MIB = 1024 * 1024
SLACK = 32 * MIB
"""What the process may grow by for other reasons than what alice keeps: the flood comes from it, too."""
BETWEEN = 0.012
"""Seconds between two gets: sooner they would wait for their turn, which is ten milliseconds, and not for the
flood."""
NEVER, LARGE = "/test/never", "/test/large"
NO_RATES = HandlersConfig(all_streams=Share(1e6, 1e6), rate=Share(1e6, 1e6), rates={})
NO_BANS = GatekeeperConfig(bans=BansConfig(threshold=1e9))
OPEN = AdmissionConfig(accepts_per_second=1e6, accepts_per_second_prefix=1e6)


class Flooded:
    """Alice under a flood, and bob who goes on asking her for a record."""

    def __init__(self, alice: MeshNode) -> None:
        self.alice = alice
        self.baseline: list[float] = []
        self.during: list[float] = []
        self.most = 0

    def look(self) -> None:
        """Note what alice keeps for her peers, which is never more than she may."""
        ledger = self.alice.host.memory.ledger
        self.most = max(self.most, ledger.total)
        assert ledger.total <= ledger.config.total

    def refused(self, protocol: str, *reasons: str) -> int:
        return sum(self.alice.host.refusals[protocol, reason] for reason in reasons)


@contextlib.asynccontextmanager
async def flooded(alice: MeshNode, tell: Tell, what: str, *, bob: MeshNode) -> AsyncIterator[Flooded]:
    """Every get of bob's works, before the block and within it; the process grows by no more than it may."""
    flood = Flooded(alice)
    await bob.join(alice)
    record = name_record("bob", registered_at=int(alice.host.clock.unix()) - 60)
    value = record.value
    assert (await bob.dht.put(record.key, value)).stored

    async def get(times: list[float]) -> None:
        started = time.perf_counter()
        assert (await bob.dht.get(record.key)).value == value
        times.append(time.perf_counter() - started)

    async def go_on_getting() -> None:
        while not is_over.is_set():
            await get(flood.during)
            await asyncio.sleep(BETWEEN)

    for number in range(35):
        await get(flood.baseline if number >= 5 else [])  # what joining takes is over after some
        await asyncio.sleep(BETWEEN)
    gc.collect()
    process, is_over = psutil.Process(), asyncio.Event()
    before = process.memory_info().rss
    async with asyncio.timeout(90):
        getting = asyncio.create_task(go_on_getting())
        try:
            yield flood
        finally:
            is_over.set()
            await getting
    flood.look()
    grown = process.memory_info().rss - before
    assert grown < 1.5 * flood.most + SLACK
    tell(
        "floods",
        f"{what}: get p99 {p99(flood.during):.1f} ms, before {p99(flood.baseline):.1f} ms; "
        f"kept for peers {flood.most / MIB:.1f} MiB at most; process +{grown / MIB:.1f} MiB",
    )


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)] * 1000 if times else 0.0


def about(count: int) -> object:
    """Within a hundredth."""
    return pytest.approx(count, rel=0.01)


async def test_thousands_of_half_open_connections(tell: Tell) -> None:
    """Each beyond the bound pushes out the oldest, and is counted."""
    count = scale(10_000, least=300)
    room = count // 4
    config = HostConfig(max_half_open=room, admission=replace(OPEN, max_connections=count))
    async with (
        node("alice", config) as alice,
        node("bob") as bob,
        flooded(alice, tell, f"{count} half-open connections", bob=bob) as flood,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(count):
            await stack.enter_async_context(await Hostile.connect(alice.port))
            if number % 50 == 0:
                flood.look()
                assert alice.slots()[2] <= room
        await until(lambda: flood.refused("connection", "half_open") >= count - room)
        assert flood.refused("connection", "half_open") == about(count - room)
        assert alice.slots()[2] == room
        await stack.aclose()
        await until(lambda: alice.slots() == (1, 1, 0))
        assert flood.refused("connection", "half_open", "handshake_incomplete") == about(count)


async def test_reservations_of_a_thousand_identities_in_one_prefix(tell: Tell) -> None:
    count, places = scale(1000, least=60), 16
    # Loopback is made to count as a prefix here.
    admission = replace(OPEN, prefix_exempt=(), max_per_prefix=2_000, max_connections=2_000)
    config = HostConfig(admission=admission, handlers=NO_RATES, table=ConnectionTableConfig(high_water=2_000))
    bounds = RelayConfig(ReservationConfig(max_per_ip=places, max_per_prefix=places))
    request = varint.frame(HopMessage(HopType.RESERVE).encode())
    async with (
        relay(RelayServerConfig(bounds), config) as (alice, server),
        node("bob") as bob,
        flooded(alice, tell, f"{count} reservations from one prefix", bob=bob) as flood,
        contextlib.AsyncExitStack() as stack,
    ):
        alice.host.set_entry_points(set())
        for number in range(count):
            peer = await stack.enter_async_context(await Hostile.authenticated(alice.port, f"sybil {number}"))
            await peer.answer_identify(f"sybil {number}")
            peer.open(1, HOP_PROTOCOL, request)
            peer.frame(DATA, FIN, 1)
            await peer.drain()
            flood.look()
        words = ("reservations_ip", "reservations_prefix")
        await until(lambda: flood.refused(HOP_PROTOCOL, *words) >= count - places)
        assert flood.refused(HOP_PROTOCOL, *words) == about(count - places)
        assert server.reservations == places


async def test_a_storm_of_identify(tell: Tell) -> None:
    """Questions and pushes by the hundred: what is over the rate of a peer is refused, and counted."""
    pushes, allowed = scale(2_000, least=200), 16
    rates = {identify.PUSH_PROTOCOL: Share(0.001, allowed)}
    config = HostConfig(handlers=replace(NO_RATES, rates=rates), gate=NO_BANS)
    async with (
        node("alice", config) as alice,
        node("bob") as bob,
        flooded(alice, tell, f"{pushes} identify pushes", bob=bob) as flood,
        await Hostile.authenticated(alice.port) as peer,
    ):
        await peer.answer_identify("mallory")
        said = Identification(agent_version="mallory", protocols=("/x/" + "y" * 200,) * 50).encode()
        for number in range(pushes):
            peer.open(2 * number + 1, identify.PUSH_PROTOCOL, said)
            peer.frame(DATA, FIN, 2 * number + 1)
            if number % 50 == 49:
                await peer.ping()
                flood.look()
        await until(lambda: flood.refused(identify.PUSH_PROTOCOL, "rate_limited") >= pushes - allowed)
        assert flood.refused(identify.PUSH_PROTOCOL, "rate_limited") == about(pushes - allowed)
        await until(lambda: not alice.host.handlers.of_peers[MALLORY, identify.PUSH_PROTOCOL])


async def test_oversized_puts(tell: Tell) -> None:
    """A value over its limit in a message within its own, and a message over it, which is not read at all."""
    count = scale(1_000, least=100)
    config = HostConfig(handlers=NO_RATES, gate=NO_BANS)
    quick = DhtDriverConfig(max_requests_per_second=1e6)
    key = b"/wws/names/public/alice"
    large = varint.frame(KadMessage(MessageType.PUT_VALUE, key, KadRecord(key, bytes(60_000)), ()).encode())
    async with (
        node("alice", config, dht=quick) as alice,
        node("bob") as bob,
        flooded(alice, tell, f"{count} oversized puts", bob=bob) as flood,
        await Hostile.authenticated(alice.port) as peer,
    ):
        await peer.answer_identify("mallory")
        for number in range(count):
            stream = 2 * number + 1
            if number % 2:
                peer.open(stream, KAD, varint.encode(MIB))
            else:
                peer.open(stream, KAD)
                peer.frame(DATA, FIN, stream, large)
            if number % 20 == 19:
                await peer.ping()
                flood.look()
        words = ("too_large", "malformed", "value_too_large")
        await until(lambda: flood.refused(KAD, *words) >= count)
        assert flood.refused(KAD, *words) == count
        assert len(alice.dht.machine.records) == 1  # bob's


async def test_frames_without_data(tell: Tell) -> None:
    """A header alone costs a peer twelve bytes: who sends them by the thousand is cut off."""
    peers = scale(30, least=3)
    async with (
        node("alice", HostConfig(handlers=NO_RATES, gate=NO_BANS)) as alice,
        node("bob") as bob,
        flooded(alice, tell, f"header-only frames of {peers} peers", bob=bob) as flood,
        contextlib.AsyncExitStack() as stack,
    ):
        for number in range(peers):
            peer = await stack.enter_async_context(
                await Hostile.authenticated(alice.port, f"mallory {number}")
            )
            peer.open(1, ECHO)
            for _ in range(20):
                peer.frames(*((DATA, 0, 1, b""),) * 500)
                await peer.drain()
                flood.look()
            await peer.gone()
        await until(lambda: flood.refused("connection", "yamux_frame_flood") >= peers)
        assert flood.refused("connection", "yamux_frame_flood") == peers


async def test_windows_filled_and_never_read(tell: Tell) -> None:
    """Hoarders over what one peer may have are closed, each once; the others keep what they have."""
    peers, memory = scale(60, least=6), MemoryConfig(total=16 * MIB, per_peer=4 * MIB, per_group=16 * MIB)
    config = HostConfig(handlers=NO_RATES, gate=NO_BANS, admission=OPEN, memory=memory)
    async with node("alice", config) as alice, node("bob") as bob:
        alice.host.serve(NEVER, _never_reads)
        async with (
            flooded(alice, tell, f"{peers} hoarders of 10 MiB each", bob=bob) as flood,
            contextlib.AsyncExitStack() as stack,
        ):
            for number in range(peers):
                peer = await stack.enter_async_context(
                    await Hostile.authenticated(alice.port, f"mallory {number}")
                )
                for stream in range(1, 80, 2):
                    peer.open(stream, NEVER)
                    for _ in range(4):
                        peer.frame(DATA, 0, stream, bytes(65_000))
                    with contextlib.suppress(ConnectionError):
                        await peer.drain()
                    flood.look()
                await peer.gone()
            await until(lambda: flood.refused("connection", "memory") >= peers)
            assert flood.refused("connection", "memory") == peers


async def test_answers_that_nobody_reads(tell: Tell) -> None:
    """A megabyte asked for on each of a hundred streams, by peers that take none of it."""
    peers, memory = scale(40, least=4), MemoryConfig(total=16 * MIB, per_peer=4 * MIB, per_group=16 * MIB)
    config = HostConfig(handlers=NO_RATES, gate=NO_BANS, admission=OPEN, memory=memory)
    async with node("alice", config) as alice, node("bob") as bob:
        alice.host.serve(LARGE, _answers_at_length)
        async with (
            flooded(alice, tell, f"{peers} readers of 100 MiB who do not read", bob=bob) as flood,
            contextlib.AsyncExitStack() as stack,
        ):
            for number in range(peers):
                peer = await stack.enter_async_context(
                    await Hostile.authenticated(alice.port, f"mallory {number}")
                )
                for stream in range(1, 200, 2):
                    peer.open(stream, LARGE)
                with contextlib.suppress(ConnectionError):
                    await peer.drain()
                await until(lambda number=number: flood.refused("connection", "memory") > number)  # type: ignore[misc]
                flood.look()
            assert flood.refused("connection", "memory") == peers


async def _never_reads(stream: Stream) -> None:
    await asyncio.Event().wait()


async def _answers_at_length(stream: Stream) -> None:
    await stream.write(pattern(MIB))


async def test_an_honest_peer_joins_among_silent_sockets() -> None:
    """Nobody gets past the accept rate, yet who asks again gets a turn; half-open ones make room."""
    count = scale(1000)
    config = HostConfig(max_half_open=count // 4, admission=AdmissionConfig(max_connections=count // 3))
    patient = DialerConfig(retries=10, retry_wait=(0.05, 0.2))
    async with (
        node("alice", config) as alice,
        node("bob", dialer=patient) as bob,
        contextlib.AsyncExitStack() as stack,
    ):
        joining = None
        for number in range(count):
            with contextlib.suppress(ConnectionError):
                await stack.enter_async_context(await Hostile.connect(alice.port))
            if number == count // 2:
                joining = asyncio.create_task(bob.join(alice))
            assert alice.host.admission.total <= count // 3
            assert alice.slots()[2] <= count // 4
        assert joining is not None
        connection = await joining
        assert await bob.ping.ping(connection) >= 0
        refused = alice.host.refusals
        reasons = ("half_open", "accept_rate", "connections_total", "handshake_incomplete")
        assert sum(refused["connection", reason] for reason in reasons) > 0
        await stack.aclose()
        await until(lambda: alice.slots() == (1, 1, 0))


async def test_reconnects_of_one_peer_leave_nothing() -> None:
    """However it leaves: at once, within the handshake, after it, politely or not."""
    process = psutil.Process()
    everybody = HostConfig(admission=AdmissionConfig(accepts_per_second=100_000))
    async with node("alice", everybody) as alice, node("bob") as bob:
        honest = await bob.join(alice)
        tasks, files = len(asyncio.all_tasks()), process.num_fds()
        known = len(alice.host.peers)
        for number in range(scale(1000)):
            async with await Hostile.connect(alice.port) as peer:
                match number % 5:
                    case 0:
                        pass
                    case 1:
                        await peer.secure("mallory", stop_after="first")
                    case 2:
                        await peer.secure("mallory", stop_after="second")
                    case 3:
                        await peer.secure("mallory")
                    case _:
                        await peer.secure("mallory")
                        await peer.ping()
        await until(lambda: alice.slots() == (1, 1, 0))
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: process.num_fds() <= files)
        host = alice.host
        assert len(host._connections) == len(host._admitted) == len(host._due) == 1
        assert not host.handlers.negotiating
        assert len(host.peers) <= known + 1
        assert host.table.peers() == [bob.peer_id]
        assert await bob.ping.ping(honest) >= 0


async def test_reconnects_of_one_peer_that_never_closes_what_it_had() -> None:
    config = HostConfig(
        admission=AdmissionConfig(accepts_per_second=100_000),
        table=ConnectionTableConfig(max_per_peer=4, settle=0.05, settle_other=0.05),
    )
    async with node("alice", config) as alice, contextlib.AsyncExitStack() as stack:
        for _ in range(scale(200)):
            peer = await stack.enter_async_context(await Hostile.authenticated(alice.port))
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await peer.ping()
            assert len(alice.host.table) <= 4
        await until(lambda: alice.host.refusals["connection", "connections_per_peer"] > 0)


async def test_one_prefix_cannot_take_all_places() -> None:
    """Loopback is made to count here; an exempt network has no such limit."""
    limits = AdmissionConfig(max_per_prefix=3, accepts_per_second_prefix=1000, prefix_exempt=())
    exempt = AdmissionConfig(max_per_prefix=3, prefix_exempt=(ip_network("127.0.0.0/8"),))
    for admission, places in ((limits, 3), (exempt, 6)):
        async with (
            node("alice", HostConfig(admission=admission)) as alice,
            contextlib.AsyncExitStack() as stack,
        ):
            peers = [await stack.enter_async_context(await Hostile.connect(alice.port)) for _ in range(6)]
            if places == 3:
                for peer in peers[3:]:
                    await peer.gone()
                assert alice.host.refusals["connection", "connections_prefix"] == 3
            await until(lambda places=places: alice.slots() == (places, 0, places))  # type: ignore[misc]
