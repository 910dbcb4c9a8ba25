"""Ports opened by a real daemon: a router runs miniupnpd, alice asks, and the world gets through to her."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from tests.interop.ours import until
from tests.lab.miniupnpd import OUTSIDE, MappingHome
from tests.lab.threads import inside
from tests.prerequisites import require
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.nat.port_mapping_events import PortMappingConfig
from wws.runtime.clock import SystemClock
from wws.runtime.nat.port_mapping import PortMapper, PortMapperConfig

pytestmark = pytest.mark.root

EVERY_PROTOCOL = pytest.mark.parametrize("protocol", ["pcp", "nat-pmp", "upnp"])

BRIEF = PortMappingConfig(lifetime=3, min_lifetime=1)
WATCHFUL = PortMappingConfig(check_interval=0.3, upnp_check_interval=0.3)


@pytest.fixture(scope="module", autouse=True)
def _prerequisites() -> None:
    require("miniupnpd")


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[list[Multiaddr]]:
    """A TCP and a UDP port of alice that send back what comes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data, addr)

    server = await asyncio.start_server(echo, "0.0.0.0", 0)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("0.0.0.0", 0))
    tcp, udp = server.sockets[0].getsockname()[1], transport.get_extra_info("sockname")[1]
    try:
        yield [
            Multiaddr.parse(f"/ip4/0.0.0.0/tcp/{tcp}"),
            Multiaddr.parse(f"/ip4/0.0.0.0/udp/{udp}/quic-v1"),
            Multiaddr.parse("/ip4/127.0.0.1/tcp/5000"),
        ]
    finally:
        transport.close()
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def mapper(
    listening: list[Multiaddr], machine: PortMappingConfig | None = None, *, close_timeout: float = 2.0
) -> AsyncIterator[PortMapper]:
    made = PortMapper(
        lambda: listening,
        lambda: Scope.PUBLIC,
        PortMapperConfig(machine=machine or PortMappingConfig(), close_timeout=close_timeout),
        clock=SystemClock(),
        rng=random.Random(1),
    )
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def reached(lab: MappingHome, mappings: tuple[Multiaddr, ...]) -> list[bool]:
    """Whether the world gets an answer at each of these addresses."""
    found = []
    for address in mappings:
        assert address.host == OUTSIDE
        assert address.port is not None
        kind = socket.SOCK_STREAM if address.transport == "tcp" else socket.SOCK_DGRAM
        # In a thread: alice answers on this one.
        found.append(await asyncio.to_thread(lab.knock, kind, address.port, b"hello alice"))
    return found


@EVERY_PROTOCOL
def test_the_world_gets_through_until_the_end(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with echoing() as listening, mapper(listening) as ports:
            told: list[str] = []
            ports.on_change.append(lambda: told.append(ports.state))
            await until(lambda: len(ports.mappings) == 2)
            assert ports.state == protocol
            assert [(address.transport, address.port) for address in ports.mappings] == [
                ("tcp", listening[0].port),
                ("quic-v1", listening[1].port),
            ]
            assert lab.daemon.mapped() == 2
            mappings = ports.mappings
            assert await reached(lab, mappings) == [True, True]
            await ports.close()
            assert lab.daemon.mapped() == 0
            assert await reached(lab, mappings) == [False, False]
            assert ports.mappings == ()
            assert told == [protocol, "none"]

    with MappingHome(tmp_path, protocol) as lab:
        inside(lab.alice, work)


@EVERY_PROTOCOL
def test_leases_are_renewed_and_a_restarted_router_is_asked_again(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with echoing() as listening:
            async with mapper(listening, BRIEF) as ports:
                # Twice for each port: by now the first leases have ended.
                await until(lambda: ports.counts["renewed"] >= 4)
                assert await reached(lab, ports.mappings) == [True, True]
            async with mapper(listening, WATCHFUL) as ports:
                await until(lambda: lab.daemon.mapped() == 2 and len(ports.mappings) == 2)
                mappings = ports.mappings
                # Epochs are whole seconds, and two of them are forgiven.
                await until(lambda: lab.daemon.uptime > 3.2 or protocol == "upnp")
                lab.daemon.stop()
                lab.daemon.start()
                assert lab.daemon.mapped() == 0
                await until(lambda: lab.daemon.mapped() == 2 and ports.mappings == mappings)
                # By the epoch; with UPnP the daemon is at another port now.
                assert ports.counts["no_answer" if protocol == "upnp" else "forgotten"] > 0
                assert await reached(lab, mappings) == [True, True]

    with MappingHome(tmp_path, protocol) as lab:
        inside(lab.alice, work)


@EVERY_PROTOCOL
def test_behind_two_nats_nothing_is_offered(tmp_path: Path, protocol: str) -> None:
    async def work() -> None:
        async with mapper([Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")]) as ports:
            await until(lambda: ports.state != "none")
            assert (ports.state, ports.mappings) == ("not offered", ())
            assert ports.reason
            assert lab.daemon.mapped() == 0

    with MappingHome(tmp_path, protocol, outside="100.64.0.2") as lab:
        inside(lab.alice, work)


@EVERY_PROTOCOL
def test_a_port_that_another_has_is_mapped_to_one_of_ours(tmp_path: Path, protocol: str) -> None:
    """Two nodes behind one router, on the same port: each gets one of its own."""

    async def work() -> None:
        listening = [Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")]
        # Its address will be another's: the router cannot answer when it gives back.
        async with mapper(listening, close_timeout=0.1) as first:
            await until(lambda: bool(first.mappings))
            lab.alice.ip("route flush default", "addr flush dev eth0")
            lab.alice.ip("addr add 192.168.1.3/24 dev eth0", "route add default via 192.168.1.1")
            async with mapper(listening) as second:
                await until(lambda: bool(second.mappings))
                assert second.state == protocol
                assert first.mappings[0].port == 4001
                assert second.mappings[0].port != 4001
                assert lab.daemon.mapped() == 2

    with MappingHome(tmp_path, protocol) as lab:
        inside(lab.alice, work)


@EVERY_PROTOCOL
def test_a_node_that_died_gets_its_ports_again(tmp_path: Path, protocol: str) -> None:
    """What it had mapped stands until the lease ends; it may be taken over, not added to."""

    async def work() -> None:
        listening = [Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")]
        async with mapper(listening) as died:
            await until(lambda: bool(died.mappings))
            async with mapper(listening) as restarted:
                await until(lambda: bool(restarted.mappings))
                assert restarted.mappings == died.mappings
                assert lab.daemon.mapped() == 1

    with MappingHome(tmp_path, protocol) as lab:
        inside(lab.alice, work)
