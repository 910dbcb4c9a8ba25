"""Many sockets at once: honest peers get in beside them, and afterwards as many slots are held as before."""

import asyncio
import contextlib
from ipaddress import ip_network

import psutil
import pytest

from tests.interop.ours import until
from tests.net.hostile import Hostile
from tests.net.mesh_node import node
from wws.mesh.admission import AdmissionConfig
from wws.mesh.connections import ConnectionTableConfig
from wws.runtime.dialer import DialerConfig
from wws.runtime.host import HostConfig
from wws.testing.scale import scale

pytestmark = [pytest.mark.net, pytest.mark.timeout(120), pytest.mark.usefixtures("leaves_nothing")]


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
