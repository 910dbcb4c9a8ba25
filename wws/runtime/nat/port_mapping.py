"""Has the router open our ports, from `start` to `close`: the sockets, tasks and timer of port mapping.

Nothing waits for it: the node joins meanwhile, and learns of a mapping by `on_change`. A mapping is a claim
of the router; whether the world gets through it is for others to say who dial it (AutoNAT).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from typing_extensions import override

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of_ip
from wws.errors import ParseError
from wws.machine import Command, Event
from wws.nat import nat_pmp
from wws.nat.gateway_requests import Answer, Port, Request
from wws.nat.pcp import NONCE_LENGTH
from wws.nat.port_mapping import MappingState, PortMapping, State
from wws.nat.port_mapping_events import (
    AskUpnp,
    Changed,
    Closing,
    DatagramReceived,
    FindUpnp,
    Finished,
    NetworkLost,
    PortMappingConfig,
    PortUnreachable,
    SendDatagram,
    Started,
    TimerFired,
    UpnpAnswered,
    UpnpFound,
)
from wws.runtime.clock import Clock
from wws.runtime.logs import logger
from wws.runtime.nat.gateway import default_gateway
from wws.runtime.nat.upnp import UpnpConfig, UpnpGateway, find_gateway
from wws.runtime.own_addresses import WILDCARDS

FindGateway: TypeAlias = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class PortMapperConfig:
    machine: PortMappingConfig = field(default_factory=PortMappingConfig)
    upnp: UpnpConfig = field(default_factory=UpnpConfig)
    look_interval: float = 30.0
    """Seconds between two looks whether there is another router, or other ports to map."""
    close_timeout: float = 2.0
    """Seconds that the router gets to take mappings back."""


class PortMapper:
    """The mappings of one node.

    `listening` is asked for the addresses of our sockets, `scope` for that of the mesh: only in a public one,
    and only for sockets that have a private address towards the router, is anything asked of it. Both are
    asked again from time to time, and on `refresh`.
    """

    def __init__(
        self,
        listening: Callable[[], Sequence[Multiaddr]],
        scope: Callable[[], Scope | None],
        config: PortMapperConfig | None = None,
        *,
        clock: Clock,
        rng: random.Random,
        gateway: FindGateway = default_gateway,
    ) -> None:
        self.on_change: list[Callable[[], None]] = []
        """Called when `mappings`, `state` or `reason` have changed."""
        self._listening = listening
        self._scope = scope
        self._config = config or PortMapperConfig()
        self._machine = PortMapping(rng, self._config.machine)
        self._clock = clock
        self._gateway = gateway
        # One for all: a router may refuse to change a mapping under another (RFC 6887, section 11.3).
        self._nonce = secrets.token_bytes(NONCE_LENGTH)
        self._network: tuple[str, str, tuple[Port, ...]] | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._ends: tuple[str, str] | None = None
        self._upnp: UpnpGateway | None = None
        self._asking: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None
        self._look_at: float | None = None
        self._woken = asyncio.Event()
        self._finished = asyncio.Event()

    @property
    def mappings(self) -> tuple[Multiaddr, ...]:
        """The external addresses, without our PeerId."""
        return self._machine.mappings

    @property
    def state(self) -> MappingState:
        """`pcp`, `nat-pmp` or `upnp`, `not offered`, or `none`: nothing was asked, or not answered yet."""
        return self._machine.offered

    @property
    def reason(self) -> str:
        """Why nothing is mapped when it is not offered, for people."""
        return self._machine.reason

    @property
    def counts(self) -> Counter[str]:
        """What was mapped, renewed, given back, forgotten by the router; refusals by reason."""
        return self._machine.counts

    def start(self) -> None:
        """Begin, in the background."""
        self._running = asyncio.get_running_loop().create_task(self._run(), name="port mapping")
        self._running.add_done_callback(_task_done)

    def refresh(self) -> None:
        """Look now whether there is anything else to map, or another router: cheap, and safe at any time."""
        self._look_at = None
        self._woken.set()

    async def close(self) -> None:
        """Give back what is mapped, in at most two seconds, and stop. Safe to call twice."""
        if self._running is None:
            return
        if not self._is_ending():
            self._handle(Closing())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.close_timeout):
                    await self._finished.wait()
        tasks = [task for task in (self._running, self._asking) if task is not None]
        self._running = self._asking = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._close_socket()

    # What goes on

    async def _run(self) -> None:
        while True:
            now = self._clock.monotonic()
            if self._look_at is None or now >= self._look_at:
                self._look_at = now + self._config.look_interval
                await self._look_at_network()
            self._handle(TimerFired())
            due = min(self._look_at or now, self._machine.next_wakeup() or float("inf"))
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - self._clock.monotonic())):
                    await self._woken.wait()

    async def _look_at_network(self) -> None:
        gateway = await self._gateway() if self._is_of_use() else None
        if self._is_ending():
            return
        local = await self._open_socket(gateway) if gateway is not None else None
        if self._is_ending():
            return
        ports = self._ports(local) if local is not None else ()
        network = (gateway, local, ports) if gateway is not None and local is not None and ports else None
        if network == self._network:
            return
        self._network = network
        self._upnp = None
        if self._asking is not None:
            self._asking.cancel()
        if network is None:
            self._close_socket()
            self._handle(NetworkLost())
        else:
            self._handle(Started(network[1], network[2], self._nonce))

    def _is_ending(self) -> bool:
        return self._machine.state in (State.CLOSING, State.CLOSED)

    def _is_of_use(self) -> bool:
        """What is mapped already stays while nobody is connected who would say where we are."""
        scope = self._scope()
        return scope is Scope.PUBLIC or (scope is None and self._network is not None)

    def _ports(self, local: str) -> tuple[Port, ...]:
        """Those of our sockets that the router can lead to."""
        found: dict[Port, None] = {}
        for address in self._listening():
            if address.host in (WILDCARDS[0], local) and address.port:
                found[Port("udp" if address.transport == "quic-v1" else "tcp", address.port)] = None
        return tuple(found)

    async def _open_socket(self, gateway: str) -> str | None:
        """Connect to the router, so that the kernel lets in what comes from there and nothing else; our own
        address towards it, if it makes sense to ask."""
        local = _local_address(gateway)
        if local is None or not _is_private(gateway) or not _is_private(local):
            return None
        if (
            self._transport is not None
            and not self._transport.is_closing()
            and self._ends == (gateway, local)
        ):
            return local
        self._close_socket()
        try:
            self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Receiver(self._handle), local_addr=(local, 0), remote_addr=(gateway, nat_pmp.PORT)
            )
        except OSError:
            return None
        self._ends = gateway, local
        return local

    def _close_socket(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _handle(self, event: Event) -> None:
        for command in self._machine.handle(event, self._clock.monotonic()):
            self._carry_out(command)
        self._woken.set()

    def _carry_out(self, command: Command) -> None:
        match command:
            case SendDatagram(data=data):
                if self._transport is not None:
                    self._transport.sendto(data)
            case FindUpnp(number=number):
                self._replace_task(self._find(number))
            case AskUpnp(number=number, request=request):
                self._replace_task(self._ask(number, request))
            case Changed():
                mapped = [str(address) for address in self.mappings]
                logger("port_mapping").info(
                    "port_mapping", state=self.state, mapped=mapped, reason=self.reason
                )
                for listener in self.on_change:
                    listener()
            case Finished():
                self._finished.set()
            case _:
                raise TypeError(f"no such command: {command!r}")

    # UPnP

    def _replace_task(self, work: Coroutine[object, object, Event]) -> None:
        """Do what takes several packets. What was under way is given up: the machine waits for one only."""
        if self._asking is not None:
            self._asking.cancel()
        self._asking = asyncio.get_running_loop().create_task(self._report(work), name="upnp")
        self._asking.add_done_callback(_task_done)

    async def _report(self, work: Coroutine[object, object, Event]) -> None:
        # Not from here: what the machine wants next replaces this task.
        asyncio.get_running_loop().call_soon(self._handle, await work)

    async def _find(self, number: int) -> Event:
        self._upnp = None
        if self._ends is not None:
            self._upnp = await find_gateway(*self._ends, self._config.upnp)
        return UpnpFound(number, self._upnp is not None)

    async def _ask(self, number: int, request: Request) -> Event:
        answer: Answer | None = await self._upnp.ask(request) if self._upnp is not None else None
        return UpnpAnswered(number, answer)


class _Receiver(asyncio.DatagramProtocol):
    """Port 5351 of the router."""

    def __init__(self, handle: Callable[[Event], None]) -> None:
        self._handle = handle

    @override
    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self._handle(DatagramReceived(data))

    @override
    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionRefusedError):
            self._handle(PortUnreachable())


def _task_done(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"bug in {task.get_name()}", "exception": error, "task": task}
        )


def _local_address(gateway: str) -> str | None:
    """The address of ours that packets to the router would carry; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((gateway, nat_pmp.PORT))
        except OSError:
            return None
        return str(sock.getsockname()[0])


def _is_private(ip: str) -> bool:
    try:
        return scope_of_ip(ip) in (Scope.LINK, Scope.PRIVATE)
    except ParseError:
        return False
