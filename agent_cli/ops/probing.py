"""The look at a bootstrap node from outside: does it do for somebody it has never seen what it is there for?

A node of its own is made for it, with a new key, no listeners, no files, and nobody else to ask. It dials the
node over TCP and QUIC, and does with it what an agent does:

    tcp, quic     a connection at that address, and no other
    peer_id       who answers has proven to be the expected peer
    identify      it says that it relays, serves the DHT, and is of our network
    clock         its clock and ours agree
    reservation   it reserves a slot of its relay for us, with a voucher of its own
    dht_put       it takes a record of ours
    dht_get       it gives the record to somebody else
    metrics       its metrics can be read (only where an address of them was given)

What it leaves behind is one record that lapses within the hour; the slot is free when the probe hangs up.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from wws.addresses.multiaddr import Multiaddr
from wws.dht.messages import KadMessage, KadRecord, MessageType
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.mesh.clock_check import TOLERANCE
from wws.names.peer_record import PeerRecord
from wws.relay.messages import HOP_PROTOCOL, MAX_MESSAGE, HopMessage, HopType, Status
from wws.relay.voucher import check_voucher
from wws.runtime.clock import SystemClock
from wws.runtime.connection import Connection
from wws.runtime.dht_driver import PROTOCOL as KAD_PROTOCOL
from wws.runtime.dialer import Dialer, DialerConfig, DialFailed
from wws.runtime.dns_exchange import DnsConfig
from wws.runtime.dns_resolve import DnsResolver
from wws.runtime.host import Host, HostConfig
from wws.runtime.identify_service import IdentifyConfig, IdentifyService
from wws.runtime.quic_transport import QuicTransport, QuicTransportConfig

CheckName = Literal[
    "tcp", "quic", "peer_id", "identify", "clock", "reservation", "dht_put", "dht_get", "metrics"
]
CHECKS: Final[tuple[CheckName, ...]] = (
    "tcp",
    "quic",
    "peer_id",
    "identify",
    "clock",
    "reservation",
    "dht_put",
    "dht_get",
    "metrics",
)
"""All checks, in the order in which they are made."""

WRONG_PEER: Final = "peer_id_mismatch"
"""The word of a handshake in which somebody else than the expected peer has answered."""


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    dial_timeout: float = 10.0
    """Seconds for one address."""
    request_timeout: float = 5.0
    """Seconds for one request on a connection that stands."""
    record_lifetime: int = 3_600
    """Seconds that the record lives that is put into the DHT."""
    max_metrics: int = 4 * 1024 * 1024
    """Bytes of metrics that are read."""
    retry_wait: float = 1.0
    """Seconds between two attempts when the probe is to wait for a node that starts."""
    least_attempt: float = 1.0
    """An attempt for which fewer seconds are left is not begun."""


@dataclass(frozen=True, slots=True)
class Target:
    """A node to look at."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]
    network: str | None = None
    """Its `/wws/net/…` protocol; `None`: an ad hoc network, or any."""
    metrics: str | None = None
    """`http://IP:PORT/metrics`"""
    version: str | None = None
    """The version that must answer; `None`: any."""
    dns_servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """What came of one check. `ok` is None for one that was not made."""

    name: CheckName
    ok: bool | None
    message: str = ""
    code: str = ""
    seconds: float = 0.0
    address: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of a probe."""

    target: Target
    checks: tuple[Check, ...]
    seconds: float
    attempts: int = 1
    agent: str = ""
    """What the node says it is: `wws/0.4.0 bootstrap`."""

    @property
    def is_healthy(self) -> bool:
        """Whether something was checked, and nothing failed."""
        return any(check.ok for check in self.checks) and all(check.ok is not False for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.ok is False)


class CheckFailed(WwsError):
    """The node answered, and not as it must."""

    code = "check_failed"

    def __init__(self, message: str, *, code: str = "check_failed") -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # says which


async def probe(
    target: Target,
    *,
    timeout: float,
    retry: bool = False,
    skip: frozenset[CheckName] = frozenset(),
    config: ProbeConfig | None = None,
) -> Findings:
    """Look at the node, within `timeout` seconds; with `retry` again until all is well or they are over.

    What fails is in the findings. Nothing is left running when this returns or is cancelled.
    """
    config = config or ProbeConfig()
    started = time.monotonic()
    attempts = 0
    while True:
        attempts += 1
        left = timeout - (time.monotonic() - started)
        attempt = _Attempt(target, skip, config)
        try:
            async with asyncio.timeout(left):
                await attempt.run()
        except TimeoutError:
            attempt.out_of_time(timeout)
        found = Findings(
            target, attempt.findings(), time.monotonic() - started, attempts, agent=attempt.agent
        )
        left = timeout - found.seconds
        if found.is_healthy or not retry or left < config.retry_wait + config.least_attempt:
            return found
        await asyncio.sleep(config.retry_wait)


@dataclass(slots=True)
class _Side:
    """A node of our own with one connection to the node that is looked at."""

    host: Host
    connection: Connection
    address: Multiaddr


@dataclass(slots=True)
class _Attempt:
    """One round of all checks."""

    target: Target
    skip: frozenset[CheckName]
    config: ProbeConfig
    agent: str = ""
    _done: list[Check] = field(default_factory=list)
    _running: tuple[CheckName, str, float] | None = None

    async def run(self) -> None:
        """Make the checks that can be made. Only what `Findings` can hold comes of it."""
        async with AsyncExitStack() as stack:
            sides: list[_Side] = []
            for address in self.target.addresses:
                name = _check_of(address)
                await self._try(name, lambda at=address: self._dial(stack, sides, at), address=str(address))  # type: ignore[misc]  # a default binds the address of this round
            if sides:
                if all(check.ok for check in self._done if check.name == "peer_id"):
                    self._done.append(Check("peer_id", True, str(self.target.peer_id)))
                await self._look_at(stack, sides)
        if self.target.metrics is not None:
            await self._try("metrics", self._metrics, address=self.target.metrics)

    def out_of_time(self, timeout: float) -> None:
        """The time was over in the middle of something."""
        if self._running is not None:
            name, address, began = self._running
            message = f"no answer before the {timeout:g} s were over"
            self._done.append(Check(name, False, message, "timeout", time.monotonic() - began, address))

    def findings(self) -> tuple[Check, ...]:
        """What was found, in order; with those that were not made, but that there was something for."""
        made = {check.name for check in self._done}
        spoken = {_check_of(address) for address in self.target.addresses}
        nothing_for = {name for name in ("tcp", "quic") if name not in spoken}
        if self.target.metrics is None:
            nothing_for.add("metrics")
        missing = [
            Check(name, None, "skipped" if name in self.skip else "not made: something before it failed")
            for name in CHECKS
            if name not in made and name not in nothing_for
        ]
        return tuple(sorted([*self._done, *missing], key=lambda check: CHECKS.index(check.name)))

    async def _look_at(self, stack: AsyncExitStack, sides: list[_Side]) -> None:
        """The checks that need a connection."""
        first = sides[0]
        await self._try("identify", lambda: self._identify(first))
        await self._try("clock", lambda: self._clock(first))
        await self._try("reservation", lambda: self._reserve(first))
        unix_now = first.host.clock.unix()
        record = PeerRecord.sign(
            first.host.identity,
            addresses=(),
            seq=unix_now,
            issued_at=unix_now,
            expires_at=unix_now + self.config.record_lifetime,
        )
        if await self._try("dht_put", lambda: self._put(first, record)):
            await self._try("dht_get", lambda: self._get(stack, sides, record))

    async def _try(self, name: CheckName, work: Callable[[], Awaitable[str]], *, address: str = "") -> bool:
        """Make one check: `work` gives back what to say, or raises what is wrong. Whether all is well."""
        if name in self.skip:
            return False
        began = time.monotonic()
        self._running = name, address, began
        try:
            message, code, ok = await work(), "", True
        except WwsError as error:
            message, code, ok = str(error), error.code, False
        except _RequestTimeout as error:
            message, code, ok = str(error), "timeout", False
        took = time.monotonic() - began
        self._running = None
        if code == WRONG_PEER:  # the way there works, and leads to somebody else
            self._done.append(Check(name, True, "somebody answers", "", took, address))
            name = "peer_id"
        self._done.append(Check(name, ok, message, code, took, address))
        return ok

    # The checks

    async def _dial(self, stack: AsyncExitStack, sides: list[_Side], address: Multiaddr) -> str:
        host, dialer = await stack.enter_async_context(_our_side(self.target))
        try:
            connection = await dialer.connect_at(self.target.peer_id, address, self.config.dial_timeout)
        except DialFailed as error:
            wrong = next((one for one in error.attempts if one.code == WRONG_PEER), None)
            if wrong is not None:
                raise CheckFailed(wrong.message, code=WRONG_PEER) from None
            code = error.attempts[-1].code if error.attempts else error.code
            raise CheckFailed("; ".join(one.message for one in error.attempts), code=code) from None
        sides.append(_Side(host, connection, address))
        return str(connection.remote_address.without_peer())

    async def _identify(self, side: _Side) -> str:
        async with _bounded(self.config.request_timeout, "it does not say what it is"):
            said = await side.connection.wait_identified()
        if said is None:
            raise CheckFailed("it does not say what it is", code="not_identified")
        self.agent = said.agent_version or ""
        protocols = said.protocols or ()
        for protocol, code, what in (
            (HOP_PROTOCOL, "no_relay", "relays for nobody (is it draining?)"),
            (KAD_PROTOCOL, "no_dht", "does not serve the DHT"),
        ):
            if protocol not in protocols:
                raise CheckFailed(f"{self.agent or 'it'} {what}", code=code)
        if self.target.network is not None and said.network != self.target.network:
            raise CheckFailed(f"it is of another network: {said.network or 'ad hoc'}", code="wrong_network")
        version = self.agent.partition(" ")[0].partition("/")[2]
        if self.target.version is not None and version != self.target.version:
            message = f"version {version or 'unknown'} answers, not {self.target.version}"
            raise CheckFailed(message, code="wrong_version")
        return self.agent

    async def _clock(self, side: _Side) -> str:
        said = side.connection.identification
        if said is None or said.clock is None:
            raise CheckFailed("it does not tell the time", code="no_clock")
        ahead = said.clock - side.host.clock.unix()
        if abs(ahead) > TOLERANCE:
            way = "ahead of" if ahead > 0 else "behind"
            raise CheckFailed(f"its clock is {abs(ahead)} s {way} the one here", code="clock_skew")
        return f"{ahead:+d} s"

    async def _reserve(self, side: _Side) -> str:
        async with (
            _bounded(self.config.request_timeout, "the relay does not answer"),
            side.connection.open_stream(HOP_PROTOCOL) as stream,
        ):
            await stream.write_frame(HopMessage(HopType.RESERVE).encode())
            data = await stream.read_frame(MAX_MESSAGE)
        answer = HopMessage.parse(data or b"")
        if answer.status is not Status.OK or answer.reservation is None:
            why = answer.status.name.lower() if data else "no answer"
            raise CheckFailed(f"the relay refuses a reservation: {why}", code="relay_refused")
        if answer.reservation.voucher is None:
            raise CheckFailed("the relay gives no voucher", code="no_voucher")
        unix_now = side.host.clock.unix()
        check_voucher(
            answer.reservation.voucher,
            relay=self.target.peer_id,
            peer=side.host.identity.peer_id,
            unix_now=unix_now,
        )
        return f"for {max(0, answer.reservation.expire - unix_now)} s"

    async def _put(self, side: _Side, record: PeerRecord) -> str:
        key = record.key.encode()
        answer = await self._ask(
            side,
            KadMessage(MessageType.PUT_VALUE, key, KadRecord(key, record.value)),
            "does not take a record",
        )
        if answer.record is None or answer.record.value != record.value:
            raise CheckFailed("the DHT did not take the record", code="not_stored")
        return f"{len(record.value)} bytes"

    async def _get(self, stack: AsyncExitStack, sides: list[_Side], record: PeerRecord) -> str:
        """By somebody else than who has put it, so that it comes from what the node keeps."""
        if len(sides) < 2:
            await self._dial(stack, sides, sides[0].address)
        key = record.key.encode()
        answer = await self._ask(sides[-1], KadMessage(MessageType.GET_VALUE, key), "does not give a record")
        if answer.record is None:
            raise CheckFailed("the record that was just put is not there", code="not_found")
        if answer.record.value != record.value:
            raise CheckFailed("another record than the one that was put is there", code="wrong_value")
        return f"{len(answer.record.value)} bytes"

    async def _ask(self, side: _Side, request: KadMessage, what: str) -> KadMessage:
        async with (
            _bounded(self.config.request_timeout, f"the DHT {what}"),
            side.connection.open_stream(KAD_PROTOCOL) as stream,
        ):
            await stream.write_frame(request.encode())
            data = await stream.read_frame(128 * 1024)
        if data is None:
            raise CheckFailed(f"the DHT {what}", code="refused")
        return KadMessage.parse(data)

    async def _metrics(self) -> str:
        assert self.target.metrics is not None
        status, text = await asyncio.to_thread(_read_metrics, self.target.metrics, self.config)
        if status != 200:
            raise CheckFailed(f"the metrics answer with {status}: {text[:200]}", code="metrics_refused")
        names = {line.split("{", 1)[0].split(" ", 1)[0] for line in text.splitlines() if line[:4] == "wws_"}
        if "wws_connections" not in names:
            raise CheckFailed("this is something else than our metrics", code="metrics_unknown")
        return f"{len(names)} metrics"


class _RequestTimeout(Exception):
    """One request took too long; the whole probe has time left."""


@asynccontextmanager
async def _bounded(seconds: float, message: str) -> AsyncIterator[None]:
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise
        raise _RequestTimeout(f"{message} within {seconds:g} s") from None


@asynccontextmanager
async def _our_side(target: Target) -> AsyncIterator[tuple[Host, Dialer]]:
    """A host with a new key that listens nowhere, and what dials for it."""
    host = Host(Identity.generate(), HostConfig(), clock=SystemClock(), rng=random.Random())
    host.quic = QuicTransport(host, host.identity, QuicTransportConfig())
    dialer = Dialer(host, DnsResolver(DnsConfig(servers=target.dns_servers)).expand, DialerConfig())
    identify = IdentifyService(host, IdentifyConfig(agent_suffix=" probe", tell_private=False), tuple)
    identify.set_network(target.network)
    await host.start()
    try:
        yield host, dialer
    finally:
        await dialer.close()
        await host.close()


def _check_of(address: Multiaddr) -> CheckName:
    return "quic" if address.transport == "quic-v1" else "tcp"


def _read_metrics(url: str, config: ProbeConfig) -> tuple[int, str]:
    """Status and text. Raises `CheckFailed`."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=config.request_timeout)

    def hang_up() -> None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    # Each step has its time-out; all together have this one, or an answer could be dripped for ever.
    end = threading.Timer(config.request_timeout, hang_up)
    end.daemon = True
    try:
        connection.connect()
        end.start()
        connection.request("GET", place.path or "/metrics")
        answer = connection.getresponse()
        return answer.status, answer.read(config.max_metrics).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise CheckFailed(f"the metrics cannot be read: {error}", code="metrics_unreachable") from error
    finally:
        end.cancel()
        connection.close()
