"""The sockets of mDNS: one for each interface, on UDP port 5353, IPv4.

IPv6 is left out on purpose: what it would find on a local network are link-local addresses, and a multiaddr
has no place for the interface that those need. Where no interface can do multicast the service is quietly
absent.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial

from typing_extensions import override

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.mdns import AnswerWanted, Found, LocalPeers, MdnsConfig, announced_on
from wws.identity.peer_id import PeerId

GROUP = "224.0.0.251"
PORT = 5353
_IP_MULTICAST_ALL = 49
"""Linux: 0 makes a socket hear only the interface that it joined the group on."""


class Mdns:
    """Finds peers and is found by them, from `start` to `close`.

    `addresses` is asked for what this node listens on before each announcement; `found` is called with each
    peer that is heard, again whenever it speaks.
    """

    def __init__(
        self,
        local: PeerId,
        addresses: Callable[[], Sequence[Multiaddr]],
        found: Callable[[PeerId, Sequence[Multiaddr]], None],
        *,
        config: MdnsConfig | None = None,
        interfaces: Sequence[str] | None = None,
        port: int = PORT,
        rng: random.Random | None = None,
    ) -> None:
        self.peers = LocalPeers(local, rng or random.Random(), config)
        self.interfaces: list[str] = []
        """The interfaces that are served."""
        self._addresses = addresses
        self._found = found
        self._config = config or MdnsConfig()
        self._wanted = interfaces
        self._port = port
        self._rng = rng or random.Random()
        self._links: list[_Link] = []
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen on every interface that allows it, and ask. Never raises for want of one."""
        loop = asyncio.get_running_loop()
        for index, name in socket.if_nameindex():
            if self._wanted is not None and name not in self._wanted:
                continue
            loopback = _is_loopback(name)
            try:
                sock = _multicast_socket(index, self._port, "127.0.0.1" if loopback else "0.0.0.0")  # noqa: S104
            except OSError:
                continue  # an interface without IPv4 or without multicast
            link = _Link(self, loopback=loopback)
            transport, _ = await loop.create_datagram_endpoint(partial(_same, link), sock=sock)
            link.opened(transport)
            self._links.append(link)
            self.interfaces.append(name)
        if self._links:
            self._asking = loop.create_task(self._ask_again_and_again(), name="mdns")

    async def close(self) -> None:
        """Say goodbye and stop. Safe to call twice."""
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking
            self._asking = None
        for link in self._links:
            link.announce(goodbye=True)
            link.close()
        self._links.clear()

    async def _ask_again_and_again(self) -> None:
        before = 0.0
        for time in self._config.query_times:
            await asyncio.sleep(time - before)
            before = time
            self._ask()
        while True:
            wait = self._config.query_interval * (1 + self._config.query_jitter * self._rng.random())
            await asyncio.sleep(wait)
            self._ask()

    def _ask(self) -> None:
        for link in self._links:
            link.send(self.peers.query())

    def heard(self, link: _Link, packet: bytes, source: str) -> None:
        """A packet has come in on a link."""
        for heard in self.peers.receive(packet, source, asyncio.get_running_loop().time()):
            match heard:
                case Found(peer_id=peer_id, addresses=addresses):
                    self._found(peer_id, addresses)
                case AnswerWanted():
                    for other in self._links:
                        other.announce()

    def addresses(self) -> Sequence[Multiaddr]:
        """What this node listens on now."""
        return self._addresses()

    @property
    def destination(self) -> tuple[str, int]:
        return GROUP, self._port


class _Link(asyncio.DatagramProtocol):
    """One interface."""

    def __init__(self, service: Mdns, *, loopback: bool) -> None:
        self._service = service
        self._loopback = loopback
        self._transport: asyncio.DatagramTransport | None = None

    def opened(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def send(self, packet: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(packet, self._service.destination)

    def announce(self, *, goodbye: bool = False) -> None:
        ours = announced_on(self._service.addresses(), loopback=self._loopback)
        packet = self._service.peers.announcement(ours, goodbye=goodbye)
        if packet is not None:
            self.send(packet)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @override
    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self._service.heard(self, data, str(addr[0]))

    @override
    def error_received(self, exc: Exception) -> None:
        """An interface that is down now may be up at the next question."""


def _same(link: _Link) -> _Link:
    return link


def _is_loopback(name: str) -> bool:
    return name == "lo" or name.startswith("lo0")


def _multicast_socket(index: int, port: int, source: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            # Other mDNS services use this port too.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(("", port))
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        interface = struct.pack("4s4si", socket.inet_aton(GROUP), socket.inet_aton(source), index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, interface)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)  # RFC 6762 section 11
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # other nodes on this machine
    except OSError:
        sock.close()
        raise
    return sock
