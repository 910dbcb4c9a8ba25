"""Serves AutoNAT v1 and v2: dials peers back and tells them whether it got through.

    dial-request stream ─► budget ─► DialBackRequest (wws.nat.dial_back) ─► answer on the stream
                                          │ Dial, Call
                                          ▼
                          a Host of its own for this one dial: no listener, a key made for it,
                          an ephemeral socket that has never sent to that address (wire.md section 2)

From the socket or port that we listen at, a dial would come through the way that the requester's own packets
have opened in its NAT, and everybody would look public.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.errors import ParseError, RemoteProtocolError, Truncated, WwsError
from wws.machine import Command
from wws.nat import autonat_v1, autonat_v2
from wws.nat.autonat_v2 import DialBack, DialBackResponse, DialDataResponse, DialRequest
from wws.nat.dial_back import (
    Answer,
    Asked,
    AskForData,
    Call,
    Called,
    Dial,
    DialBackRequest,
    Dialled,
    DialResult,
    Paid,
    TimerFired,
)
from wws.nat.dial_back_rules import (
    Budget,
    DialBackConfig,
    DialBackRefused,
    Requester,
    Surroundings,
    targets_of_v1,
)
from wws.runtime.connection import Connection
from wws.runtime.dialer import Dialer, DialerConfig, DialFailed
from wws.runtime.host import Host
from wws.runtime.own_addresses import expand
from wws.runtime.streams import Stream, StreamReset

_UNTRIED = frozenset({"transport_unavailable", "self", "too_many", "no_port", "scope", "other_peer"})
"""Codes of addresses that the dialer left out: they say nothing about the peer."""
_MAX_LEFTOVER = 64 * 1024
"""Bytes that are read and dropped behind a request that is done, until the peer has seen the answer."""


@dataclass(frozen=True, slots=True)
class AutonatServerConfig:
    rules: DialBackConfig = field(default_factory=DialBackConfig)
    v1: autonat_v1.MessageConfig = field(default_factory=autonat_v1.MessageConfig)
    v2: autonat_v2.MessageConfig = field(default_factory=autonat_v2.MessageConfig)
    request_timeout: float = 10.0
    """Seconds to wait for a request, and for the peer to take an answer."""
    data_timeout: float = 30.0
    """Seconds for all dial data."""
    dial_timeout: float = 5.0
    """Seconds for a dial, with its handshake: who asks waits this long for a no."""
    call_timeout: float = 5.0
    """Seconds to hand the nonce over."""


class AutonatServer:
    """Registers `/libp2p/autonat/1.0.0` and `/libp2p/autonat/2/dial-request` at the host when it is made.

    `make_dial_host` gives a host without listeners, not started yet, with a key of its own; it is closed
    after the one request that it is for. `own_addresses` says where we are reached, and nothing there is
    dialled: unless given, the sockets of `host`.
    """

    def __init__(
        self,
        host: Host,
        make_dial_host: Callable[[], Host],
        config: AutonatServerConfig,
        *,
        own_addresses: Callable[[], Iterable[Multiaddr]] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._host = host
        self._make_dial_host = make_dial_host
        self._config = config
        self._own_addresses = own_addresses or (lambda: host.listen_addresses)
        self._rng = rng or host.rng
        self._budget = Budget(config.rules)
        self.requests: Counter[tuple[str, str]] = Counter()
        """Requests by version (`v1`, `v2`) and outcome: `ok`, `dial_error`, `dial_back_error`, `refused`,
        `rejected` (over a limit), `bad_request`, `internal_error`, `aborted` (the peer broke it off)."""
        host.serve(autonat_v1.PROTOCOL, self._serve_v1)
        host.serve(autonat_v2.DIAL_REQUEST_PROTOCOL, self._serve_v2)

    @property
    def under_way(self) -> int:
        """Requests that are being served now."""
        return self._budget.under_way

    def reconfigure(self, config: AutonatServerConfig) -> None:
        """Let other bounds hold for requests that come from now on."""
        self._config = config
        self._budget.reconfigure(config.rules)

    def stop(self) -> None:
        """Take no new requests; those under way end by themselves or with the host."""
        self._host.stop_serving(autonat_v1.PROTOCOL)
        self._host.stop_serving(autonat_v2.DIAL_REQUEST_PROTOCOL)

    # Version 2

    async def _serve_v2(self, stream: Stream) -> None:
        requester = self._requester(stream.connection)
        try:
            self._budget.admit(requester, self._host.clock.monotonic())
        except DialBackRefused as refusal:
            with self._counting_aborted("v2"):
                await self._answer_v2(stream, Answer(autonat_v2.DialResponse(refusal.status), refusal.reason))
        else:
            request = DialBackRequest(requester, self._budget, self._config.rules, self._rng)
            try:
                with self._counting_aborted("v2"):
                    await self._converse(stream, request)
            finally:
                self._budget.release(requester)
        await self._see_off(stream)

    async def _converse(self, stream: Stream, request: DialBackRequest) -> None:
        """Bring one admitted request to its answer."""
        clock = self._host.clock
        async with asyncio.timeout(self._config.request_timeout):
            asked = await self._read(stream)
        if not isinstance(asked, DialRequest):
            raise RemoteProtocolError(f"{type(asked).__name__} where a dial request is expected")
        commands = request.handle(Asked(asked, self._surroundings(asked.addresses)), clock.monotonic())
        if isinstance(commands[0], AskForData):
            commands = await self._collect(stream, request, commands[0])
        if isinstance(commands[0], Dial):
            commands = await self._dial_back(stream.connection, request, commands[0])
        if not isinstance(commands[0], Answer):
            raise AssertionError("a request ends with its answer")
        await self._answer_v2(stream, commands[0])

    async def _collect(self, stream: Stream, request: DialBackRequest, ask: AskForData) -> list[Command]:
        """Let the peer pay for a dial to somebody else, and wait as long as the rules say."""
        clock = self._host.clock
        async with asyncio.timeout(self._config.data_timeout):
            await stream.write_frame(ask.message.encode())
            while request.next_wakeup() is None:
                piece = await self._read(stream)
                if not isinstance(piece, DialDataResponse):
                    raise RemoteProtocolError(f"{type(piece).__name__} where dial data is expected")
                request.handle(Paid(len(piece.data)), clock.monotonic())
        while (due := request.next_wakeup()) is not None:
            await asyncio.sleep(max(0.0, due - clock.monotonic()))
            if commands := request.handle(TimerFired(), clock.monotonic()):
                return commands
        raise AssertionError("who has paid is dialled")

    async def _dial_back(self, connection: Connection, request: DialBackRequest, dial: Dial) -> list[Command]:
        """Dial, hand the nonce over, and give every socket of it back."""
        clock = self._host.clock
        async with self._dialer() as dialer:
            try:
                back = await dialer.connect_at(connection.peer_id, dial.address, self._config.dial_timeout)
            except DialFailed as failure:
                return request.handle(Dialled(_result(failure)), clock.monotonic())
            commands = request.handle(Dialled(DialResult.CONNECTED), clock.monotonic())
            if not isinstance(commands[0], Call):
                raise AssertionError("who was reached is called")
            delivered = await self._call(back, commands[0])
            back.close("dialled back")
        return request.handle(Called(delivered), clock.monotonic())

    async def _call(self, back: Connection, call: Call) -> bool:
        """Hand the nonce over; whether the peer has taken it."""
        delivered = False
        with suppress(WwsError, TimeoutError):
            async with asyncio.timeout(self._config.call_timeout):
                async with back.open_stream(autonat_v2.DIAL_BACK_PROTOCOL) as stream:
                    await stream.agreed()
                    await stream.write_frame(DialBack(call.nonce).encode())
                    stream.close_write()
                    try:
                        answer = await stream.read_frame(autonat_v2.MAX_DIAL_BACK_BYTES)
                    except StreamReset:
                        # go resets the stream of every nonce that it takes; over QUIC this drops its answer.
                        delivered = not back.is_closed
                        raise
                    if answer is not None:
                        DialBackResponse.parse(answer)
                        delivered = True
                        await stream.finish()
        return delivered

    async def _answer_v2(self, stream: Stream, answer: Answer) -> None:
        message = answer.message
        if answer.reason is not None:
            self._host.count_refusal(autonat_v2.DIAL_REQUEST_PROTOCOL, answer.reason.value)
        async with asyncio.timeout(self._config.request_timeout):
            await stream.write_frame(message.encode())
        status = message.dial_status if message.status is autonat_v2.ResponseStatus.OK else message.status
        self.requests["v2", _outcome(status.name)] += 1

    async def _read(self, stream: Stream) -> autonat_v2.Message:
        frame = await stream.read_frame(self._config.v2.max_message_bytes)
        if frame is None:
            raise Truncated("the peer broke its request off")
        return autonat_v2.parse(frame, self._config.v2)

    # Version 1

    async def _serve_v1(self, stream: Stream) -> None:
        requester = self._requester(stream.connection)
        try:
            self._budget.admit(requester, self._host.clock.monotonic())
        except DialBackRefused as refusal:
            with self._counting_aborted("v1"):
                await self._answer_v1(stream, _refused_v1(refusal), refusal)
        else:
            try:
                with self._counting_aborted("v1"):
                    await self._serve_v1_admitted(stream, requester)
            finally:
                self._budget.release(requester)
        await self._see_off(stream)

    async def _serve_v1_admitted(self, stream: Stream, requester: Requester) -> None:
        status = autonat_v1.ResponseStatus
        async with asyncio.timeout(self._config.request_timeout):
            frame = await stream.read_frame(self._config.v1.max_message_bytes)
        if frame is None:
            raise Truncated("the peer broke its request off")
        try:
            asked = autonat_v1.parse(frame, self._config.v1)
        except ParseError as error:
            self._host.count_refusal(autonat_v1.PROTOCOL, error.code)
            await self._answer_v1(stream, autonat_v1.DialResponse(status.E_BAD_REQUEST, str(error)))
            return
        if not isinstance(asked, autonat_v1.Dial):
            await self._answer_v1(stream, autonat_v1.DialResponse(status.E_BAD_REQUEST, "not a request"))
            return
        try:
            around = self._surroundings(asked.addresses)
            targets = targets_of_v1(asked, requester, around, self._config.rules)
        except DialBackRefused as refusal:
            await self._answer_v1(stream, _refused_v1(refusal), refusal)
            return
        async with self._dialer() as dialer:
            try:
                back = await dialer.connect(
                    requester.peer, targets, any_scope=True, timeout=self._config.dial_timeout, direct=True
                )
            except DialFailed as failure:
                reached = _result(failure)
                answer = autonat_v1.DialResponse(
                    status.E_DIAL_ERROR if reached is DialResult.UNREACHABLE else status.E_INTERNAL_ERROR,
                    "no address was reached",
                )
            else:
                answer = autonat_v1.DialResponse(status.OK, "", back.remote_address.without_peer())
                back.close("dialled back")
        await self._answer_v1(stream, answer)

    async def _answer_v1(
        self, stream: Stream, answer: autonat_v1.DialResponse, refusal: DialBackRefused | None = None
    ) -> None:
        if refusal is not None:
            self._host.count_refusal(autonat_v1.PROTOCOL, refusal.reason.value)
        async with asyncio.timeout(self._config.request_timeout):
            await stream.write_frame(answer.encode())
        over_limit = refusal is not None and refusal.is_over_limit
        self.requests["v1", "rejected" if over_limit else _outcome(answer.status.name)] += 1

    # Both

    def _requester(self, connection: Connection) -> Requester:
        if connection.is_limited:
            return Requester(connection.peer_id, "", None, is_circuit=True)
        prefix = self._host.admission.limited_prefix(connection.remote_ip)
        return Requester(connection.peer_id, connection.remote_address.host, prefix)

    def _surroundings(self, addresses: Iterable[Multiaddr | None]) -> Surroundings:
        transports: set[Transport] = {"tcp"}
        if self._host.quic is not None:
            transports.add("quic-v1")
        return Surroundings(
            self._host.scope,
            frozenset(transports),
            tuple(expand(self._own_addresses())),
            frozenset(
                address.without_peer()
                for address in addresses
                if address is not None and address.is_ip and not _has_route(address)
            ),
        )

    @asynccontextmanager
    async def _dialer(self) -> AsyncIterator[Dialer]:
        """A dialer that has never dialled, from ephemeral sockets; nothing of it is left behind."""
        host = self._make_dial_host()
        rules = self._config.rules
        dialer = Dialer(
            host,
            _no_names,
            DialerConfig(
                timeout=self._config.dial_timeout,
                max_ports=rules.max_v1_addresses,
                max_addresses=rules.max_v1_addresses,
                retries=0,
                reuse_port=False,
            ),
        )
        try:
            await host.start()
            yield dialer
        finally:
            await dialer.close()
            await host.close()

    async def _see_off(self, stream: Stream) -> None:
        """Close our side, and wait for the peer to close its own: a reset could overtake the answer."""
        stream.close_write()
        left = _MAX_LEFTOVER
        # However the peer ends it: it had its answer.
        with suppress(WwsError, TimeoutError):
            async with asyncio.timeout(self._config.request_timeout):
                while left > 0 and (data := await stream.read()):
                    left -= len(data)

    @contextmanager
    def _counting_aborted(self, version: str) -> Iterator[None]:
        """Count a request that the peer breaks off or breaks the protocol in; the host counts why."""
        try:
            yield
        except (WwsError, TimeoutError):
            self.requests[version, "aborted"] += 1
            raise


def _result(failure: DialFailed) -> DialResult:
    tried = any(attempt.code not in _UNTRIED for attempt in failure.attempts)
    return DialResult.UNREACHABLE if tried else DialResult.NOT_DIALLED


def _refused_v1(refusal: DialBackRefused) -> autonat_v1.DialResponse:
    return autonat_v1.DialResponse(autonat_v1.ResponseStatus.E_DIAL_REFUSED, str(refusal))


def _outcome(status: str) -> str:
    """The label of a status: E_DIAL_ERROR is `dial_error`."""
    return {
        "E_DIAL_REFUSED": "refused",
        "E_REQUEST_REJECTED": "rejected",
    }.get(status, status.removeprefix("E_").lower())


def _has_route(address: Multiaddr) -> bool:
    """Whether this machine knows a way to the address. Connecting a UDP socket asks the kernel and sends
    nothing; what goes wrong on the way shows only in the dial."""
    family = socket.AF_INET if address.host_kind == "ip4" else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address.host, address.port or 1))
    except OSError:
        return False
    return True


async def _no_names(address: Multiaddr) -> Sequence[Multiaddr]:
    raise WwsError(f"names are not dialled back: {address}")
