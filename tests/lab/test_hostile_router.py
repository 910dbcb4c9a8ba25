"""What a router, or a neighbour who would like to be taken for it, cannot make us do."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from tests.interop.ours import until
from tests.lab.namespaces import Namespace, connect
from tests.lab.threads import inside
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.nat.gateway_requests import Address, AskAddress
from wws.runtime.clock import SystemClock
from wws.runtime.nat.port_mapping import PortMapper
from wws.runtime.nat.upnp import UpnpConfig, UpnpGateway, find_gateway

pytestmark = pytest.mark.root

ROUTER, ALICE, MALLORY = "10.0.0.1", "10.0.0.2", "10.0.0.3"
SSDP, MAPPING, HTTP = 1900, 5351, 5000
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
QUICK = UpnpConfig(search_timeout=0.4, request_timeout=0.2)
PORT = Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")


@dataclass
class Neighbours:
    """The router and mallory are on one side of a cable, alice is on the other."""

    others: Namespace
    alice: Namespace
    asked: list[str] = field(default_factory=list)
    """The request lines that came to the router or to mallory, after the name of whom they came to."""


@pytest.fixture
def neighbours() -> Iterator[Neighbours]:
    with Namespace("others") as others, Namespace("alice") as alice:
        connect(others, "eth0", alice, "eth0")
        others.ip(f"addr add {ROUTER}/24 dev eth0", f"addr add {MALLORY}/24 dev eth0")
        alice.ip(f"addr add {ALICE}/24 dev eth0", f"route add default via {ROUTER}")
        yield Neighbours(others, alice)


def found(location: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nLOCATION: {location}\r\n\r\n".encode()


def page(body: str, status: str = "200 OK", header: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{header}\r\n{body}".encode()


def description(control: str, base: str = "") -> str:
    return (
        f"<root><URLBase>{base}</URLBase><device><serviceList><service><serviceType>{SERVICE}</serviceType>"
        f"<controlURL>{control}</controlURL></service></serviceList></device></root>"
    )


THERE = f"http://{MALLORY}:{HTTP}/admin"
HERE = f"http://{ROUTER}:{HTTP}/d.xml"
GOOD = page(description("/control"))
ANSWER = page("<r><NewExternalIPAddress>198.51.100.7</NewExternalIPAddress></r>")
FAULT = page("<r><errorCode>501</errorCode></r>", "500 Error")


@contextlib.asynccontextmanager
async def search_answered(lan: Neighbours, sender: str, *answers: bytes) -> AsyncIterator[None]:
    """Whoever searches at the router gets these answers, from the IP `sender`."""
    sending = lan.others.socket(socket.SOCK_DGRAM, address=sender)

    class Device(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            for answer in answers:
                sending.sendto(answer, addr)

    listening = lan.others.socket(socket.SOCK_DGRAM, SSDP, address=ROUTER)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Device, sock=listening)
    try:
        yield
    finally:
        transport.close()
        sending.close()


@contextlib.asynccontextmanager
async def web_server(lan: Neighbours, ip: str, answer: Callable[[str], bytes | None]) -> AsyncIterator[None]:
    """Answers with the bytes that `answer` has for a request line; with `None` it never does."""
    name = "router" if ip == ROUTER else "mallory"

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            line = (await reader.readuntil(b"\r\n")).decode().strip()
            lan.asked.append(f"{name}: {line}")
            data = answer(line)
            if data is None:
                await reader.read()
            else:
                writer.write(data)
                writer.write_eof()
                await reader.read()
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, sock=lan.others.socket(socket.SOCK_STREAM, HTTP, address=ip))
    try:
        yield
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving)
        await server.wait_closed()


@contextlib.asynccontextmanager
async def search(
    lan: Neighbours, location: str, pages: Mapping[str, bytes | None], sender: str = ROUTER
) -> AsyncIterator[UpnpGateway | None]:
    """What alice finds when the router's web server has these pages; mallory has one for everything."""
    async with (
        search_answered(lan, sender, found(location)),
        web_server(lan, ROUTER, lambda line: pages.get(line.split(" ")[1], page("", "404 No"))),
        web_server(lan, MALLORY, lambda _: ANSWER),
    ):
        yield await find_gateway(ROUTER, ALICE, QUICK)


def test_an_honest_router(neighbours: Neighbours) -> None:
    async def work() -> None:
        async with search(neighbours, HERE, {"/d.xml": GOOD, "/control": ANSWER}) as gateway:
            assert gateway is not None
            assert neighbours.asked == ["router: GET /d.xml HTTP/1.1", "router: POST /control HTTP/1.1"]

    inside(neighbours.alice, work)


HOSTILE: dict[str, tuple[str, Mapping[str, bytes | None], str]] = {
    "location elsewhere": (THERE, {}, ROUTER),
    "mallory answers": (HERE, {"/d.xml": GOOD, "/control": ANSWER}, MALLORY),
    "control elsewhere": (HERE, {"/d.xml": page(description(THERE))}, ROUTER),
    "base elsewhere": (HERE, {"/d.xml": page(description("/admin", THERE))}, ROUTER),
    "redirection": (HERE, {"/d.xml": page("", "302 Found", f"Location: {THERE}\r\n")}, ROUTER),
    "document type": (HERE, {"/d.xml": page("<!DOCTYPE root []>" + description("/control"))}, ROUTER),
    "endless body": (HERE, {"/d.xml": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 10_000_000}, ROUTER),
    "endless head": (HERE, {"/d.xml": b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1_000_000}, ROUTER),
    "cut short": (HERE, {"/d.xml": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<root>"}, ROUTER),
    "no HTTP": (HERE, {"/d.xml": bytes(100)}, ROUTER),
    "silence": (HERE, {"/d.xml": None}, ROUTER),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_nobody_is_found_and_nobody_else_is_asked(neighbours: Neighbours, case: str) -> None:
    async def work() -> None:
        async with search(neighbours, *HOSTILE[case]) as gateway:
            assert gateway is None
            assert not any(line.startswith("mallory") for line in neighbours.asked)

    inside(neighbours.alice, work)


@pytest.mark.parametrize("answer", [FAULT, None, b"", page("<r/>", "302 Found", f"Location: {THERE}\r\n")])
def test_an_answer_without_an_address_is_none(neighbours: Neighbours, answer: bytes | None) -> None:
    async def work() -> None:
        async with search(neighbours, HERE, {"/d.xml": GOOD, "/control": answer}) as gateway:
            assert gateway is not None
            assert not isinstance(await gateway.ask(AskAddress()), Address)
            assert not any(line.startswith("mallory") for line in neighbours.asked)

    inside(neighbours.alice, work)


def test_at_most_three_descriptions_are_read(neighbours: Neighbours) -> None:
    async def work() -> None:
        places = [found(f"http://{ROUTER}:{HTTP}/{number}.xml") for number in range(4)]
        async with (
            search_answered(neighbours, ROUTER, *places),
            web_server(neighbours, ROUTER, lambda _: page("", "404 No")),
        ):
            assert await find_gateway(ROUTER, ALICE, QUICK) is None
        assert len(neighbours.asked) == 3

    inside(neighbours.alice, work)


@contextlib.asynccontextmanager
async def mapper(scope: Callable[[], Scope | None]) -> AsyncIterator[PortMapper]:
    made = PortMapper(lambda: [PORT], scope, clock=SystemClock(), rng=random.Random(1))
    made.start()
    try:
        yield made
    finally:
        await made.close()


async def next_packet(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    received: list[tuple[bytes, tuple[str, int]]] = []

    def has_come() -> bool:
        with contextlib.suppress(BlockingIOError):
            received.append(sock.recvfrom(1100, socket.MSG_DONTWAIT))
        return bool(received)

    await until(has_come)
    return received[0]


def granted(request: bytes, ip: str) -> bytes:
    """The answer to a PCP request that grants everything, with the external address `ip`."""
    lifetime, packed = request[4:8], bytes(10) + b"\xff\xff" + socket.inet_aton(ip)
    return bytes((2, 129, 0, 0)) + lifetime + bytes(16) + request[24:44] + packed


def test_only_the_router_answers(neighbours: Neighbours) -> None:
    """Mallory hears the question too, and knows all that is in it."""

    async def work() -> None:
        async with mapper(lambda: Scope.PUBLIC) as ports:
            request, alice = await next_packet(router)
            for forging in (mallory, router_elsewhere):
                forging.sendto(granted(request, "198.51.100.66"), alice)
            router.sendto(granted(request, "198.51.100.7"), alice)
            await until(lambda: bool(ports.mappings))
            assert [address.host for address in ports.mappings] == ["198.51.100.7"]
            closing = asyncio.create_task(ports.close())
            request, alice = await next_packet(router)
            assert request[4:8] == bytes(4)
            router.sendto(granted(request, "198.51.100.7"), alice)
            await closing
            assert ports.counts["given_back"] == 1

    with (
        neighbours.others.socket(socket.SOCK_DGRAM, MAPPING, address=ROUTER) as router,
        neighbours.others.socket(socket.SOCK_DGRAM, address=ROUTER) as router_elsewhere,
        neighbours.others.socket(socket.SOCK_DGRAM, MAPPING, address=MALLORY) as mallory,
    ):
        inside(neighbours.alice, work)


def test_another_router_is_asked_after_a_change_of_network(neighbours: Neighbours) -> None:
    """Alice takes her laptop elsewhere: what was mapped there is forgotten, and the new router is asked."""

    async def work() -> None:
        async with mapper(lambda: Scope.PUBLIC) as ports:
            request, alice = await next_packet(router)
            router.sendto(granted(request, "198.51.100.7"), alice)
            await until(lambda: bool(ports.mappings))
            neighbours.alice.ip(f"route replace default via {MALLORY}")
            ports.refresh()
            request, alice = await next_packet(other)
            assert ports.mappings == ()
            other.sendto(granted(request, "198.51.100.8"), alice)
            await until(lambda: bool(ports.mappings))
            assert [address.host for address in ports.mappings] == ["198.51.100.8"]
            other.close()  # or giving back would wait for an answer

    with (
        neighbours.others.socket(socket.SOCK_DGRAM, MAPPING, address=ROUTER) as router,
        neighbours.others.socket(socket.SOCK_DGRAM, MAPPING, address=MALLORY) as other,
    ):
        inside(neighbours.alice, work)


@pytest.mark.parametrize("scope", [None, Scope.LOOPBACK, Scope.LINK, Scope.PRIVATE])
def test_nothing_is_asked_in_a_mesh_that_is_not_public(neighbours: Neighbours, scope: Scope | None) -> None:
    assert not heard_by_router(neighbours, scope)


def test_nothing_is_asked_by_a_machine_with_a_public_address(neighbours: Neighbours) -> None:
    neighbours.alice.ip(f"addr del {ALICE}/24 dev eth0", "addr add 198.51.100.2/24 dev eth0")
    neighbours.alice.ip(f"route add {ROUTER} dev eth0", f"route add default via {ROUTER}")
    assert not heard_by_router(neighbours, Scope.PUBLIC)


def test_nothing_is_asked_without_a_router(neighbours: Neighbours) -> None:
    neighbours.alice.ip("route del default")
    assert not heard_by_router(neighbours, Scope.PUBLIC)


def heard_by_router(lan: Neighbours, scope: Scope | None) -> bool:
    """Whether anything comes to the router's port when alice looks around in a mesh of this scope."""
    looks = 0

    def asked_for_scope() -> Scope | None:
        nonlocal looks
        looks += 1
        return scope

    async def work() -> None:
        async with mapper(asked_for_scope) as ports:
            await until(lambda: looks == 1)
            ports.refresh()
            await until(lambda: looks == 2)  # which begins when the first is over
            assert (ports.state, ports.mappings) == ("none", ())

    with lan.others.socket(socket.SOCK_DGRAM, MAPPING, address=ROUTER) as router:
        inside(lan.alice, work)
        router.setblocking(False)
        try:
            router.recv(1)
        except BlockingIOError:
            return False
        return True
