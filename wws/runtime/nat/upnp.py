"""Finds the router by UPnP and posts actions to it: the sockets of `wws.nat.upnp`.

Only the router is heard and asked, whatever a device on the network says; redirections and proxies are not
followed; every answer is bounded in size and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import h11
from typing_extensions import override

from wws.addresses.scope import Scope, scope_of_ip
from wws.errors import ParseError
from wws.nat import upnp
from wws.nat.gateway_requests import Address, Answer, AskAddress, Request
from wws.nat.upnp import Endpoint, Service


@dataclass(frozen=True, slots=True)
class UpnpConfig:
    """The bounds of what a router, or who passes for it, can make us do; times in seconds."""

    search_timeout: float = 2.5
    """How long answers to a search are waited for."""
    search_times: tuple[float, ...] = (0.0, 0.3, 1.0)
    """When the question is asked after the start: multicast gets lost on wireless networks."""
    request_timeout: float = 2.5
    """For one HTTP request."""
    max_body: int = 65_536
    """Longest body of an answer."""
    max_descriptions: int = 3
    """Different descriptions that are read in one search."""
    max_services: int = 4
    """Connections to the Internet of one router that are tried."""


class UpnpGateway:
    """A service of the router that takes our actions."""

    def __init__(self, service: Service, local: str, config: UpnpConfig) -> None:
        self._service = service
        self._local = local
        self._config = config

    async def ask(self, request: Request) -> Answer | None:
        """What the router answers; `None` when it does not, or not as it should. Never raises."""
        headers, body = upnp.encode(request, self._service, client=self._local)
        try:
            status, answer = await _http(
                "POST", self._service.endpoint, self._local, self._config, headers=headers, body=body
            )
            return upnp.decode(request, status, answer, client=self._local)
        except (OSError, TimeoutError, ParseError, h11.ProtocolError):
            return None


async def find_gateway(gateway: str, local: str, config: UpnpConfig) -> UpnpGateway | None:
    """The router at the IP `gateway`, asked from our IP `local`; one with a public address first."""
    loop = asyncio.get_running_loop()
    search = _Search(gateway)
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: search, sock=_search_socket(local))
    except OSError:
        return None
    asking = loop.create_task(_ask_again_and_again(transport, gateway, config), name="upnp search")
    second_best: UpnpGateway | None = None
    try:
        async with asyncio.timeout(config.search_timeout):
            for _ in range(config.max_descriptions):
                for service in await _services(await search.found.get(), local, config):
                    candidate = UpnpGateway(service, local, config)
                    answer = await candidate.ask(AskAddress())
                    if isinstance(answer, Address) and _is_public(answer.ip):
                        return candidate
                    second_best = second_best or candidate
                if second_best is not None:
                    break
    except TimeoutError:
        pass
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        transport.close()
    return second_best


class _Search(asyncio.DatagramProtocol):
    """Hears where descriptions are; each place once."""

    def __init__(self, gateway: str) -> None:
        self.found: asyncio.Queue[Endpoint] = asyncio.Queue(maxsize=8)
        self._gateway = gateway
        self._known: set[Endpoint] = set()

    @override
    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        if addr[0] != self._gateway:
            return
        try:
            endpoint = upnp.read_search_answer(data, self._gateway)
        except ParseError:
            return
        if endpoint not in self._known and not self.found.full():
            self._known.add(endpoint)
            self.found.put_nowait(endpoint)

    @override
    def error_received(self, exc: Exception) -> None:
        """The router says that nobody listens on port 1900; the group may still hear us."""


async def _ask_again_and_again(
    transport: asyncio.DatagramTransport, gateway: str, config: UpnpConfig
) -> None:
    before = 0.0
    for time in config.search_times:
        await asyncio.sleep(time - before)
        before = time
        for packet in upnp.searches():
            # To the router itself too (allowed since UPnP 1.1): its answer passes a firewall of this machine.
            for target in (upnp.SSDP_GROUP, gateway):
                transport.sendto(packet, (target, upnp.SSDP_PORT))


async def _services(origin: Endpoint, local: str, config: UpnpConfig) -> list[Service]:
    try:
        status, body = await _http("GET", origin, local, config)
        if status != 200:
            return []
        return upnp.read_description(body, origin, max_services=config.max_services)
    except (OSError, TimeoutError, ParseError, h11.ProtocolError):
        return []


async def _http(
    method: str,
    endpoint: Endpoint,
    local: str,
    config: UpnpConfig,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> tuple[int, bytes]:
    """One request on one connection: status and body. Raises `OSError`, `TimeoutError`, `ParseError` or
    `h11.ProtocolError`."""
    async with asyncio.timeout(config.request_timeout):
        reader, writer = await asyncio.open_connection(endpoint.ip, endpoint.port, local_addr=(local, 0))
        try:
            connection = h11.Connection(h11.CLIENT)
            fields = {
                "Host": f"{endpoint.ip}:{endpoint.port}",
                "Connection": "close",
                "Content-Length": str(len(body)),
                **(headers or {}),
            }
            request = h11.Request(method=method, target=endpoint.path, headers=list(fields.items()))
            writer.write(connection.send(request) or b"")
            if body:
                writer.write(connection.send(h11.Data(data=body)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            return await _answer(connection, reader, config)
        finally:
            writer.transport.abort()  # nothing more is wanted from it, also when it would go on


async def _answer(
    connection: h11.Connection, reader: asyncio.StreamReader, config: UpnpConfig
) -> tuple[int, bytes]:
    status, body = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > config.max_body:
                raise ParseError("an answer of a UPnP device is too long")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise ParseError("a UPnP device ends its answer early")


def _is_public(ip: str | None) -> bool:
    try:
        return scope_of_ip(ip or "") is Scope.PUBLIC
    except ParseError:
        return False


def _search_socket(local: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((local, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(local))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    except OSError:
        sock.close()
        raise
    return sock
