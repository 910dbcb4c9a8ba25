"""Asks peers to dial us (AutoNAT v2, client side), and notices when they have.

    ask ─► dial-request stream ─► (dial data) ─► answer ─────────┐
                                                                 ├─► reached, not reached, or nothing
    whoever comes with the nonce of a question ─► dial-back ─────┘

That we were reached is known by the nonce alone, and only from a new connection that came in, on the
transport that was asked about, at the host that it was asked for. That we were not is the server's word.
Everything else says nothing: a refusal, silence, an answer that does not fit.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.errors import RemoteProtocolError, Truncated, WwsError
from wws.identity.peer_id import PeerId
from wws.nat import autonat_v2
from wws.nat.autonat_v2 import (
    DialBack,
    DialBackResponse,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    ResponseStatus,
)
from wws.nat.servers import UNWILLING
from wws.runtime.connection import Connection
from wws.runtime.host import Host
from wws.runtime.streams import Stream

Outcome: TypeAlias = tuple[bool | None, str]
"""Whether we were reached, `None` where nothing can be said; and then the reason."""

_MINUTE: Final = 60.0
_DAY: Final = 86_400.0
_PIECE: Final = 4096
"""Bytes of dial data in one message: the most that the specification allows."""
_EXPECTED: Final = "expected"
_STATUSES: Final = {
    ResponseStatus.E_INTERNAL_ERROR: "internal_error",
    ResponseStatus.E_REQUEST_REJECTED: "rejected",
    ResponseStatus.E_DIAL_REFUSED: UNWILLING,
}


class DialDataTooMuch(RemoteProtocolError):
    """A server wants more data for a dial than it is worth."""

    code = "dial_data_too_much"


@dataclass(frozen=True, slots=True)
class AutonatClientConfig:
    messages: autonat_v2.MessageConfig = field(default_factory=autonat_v2.MessageConfig)
    timeout: float = 30.0
    """Seconds for one question: a server may want data, wait, dial and hand the nonce over."""
    late: float = 2.0
    """Seconds that a nonce may come after the answer which says that it was handed over."""
    dial_back_timeout: float = 10.0
    """Seconds that somebody who dials us back may take."""
    max_data: int = 100_000
    """Bytes that a server gets for one dial; the specification's most."""
    max_data_per_minute: int = 400_000
    """Bytes for all of them in any 60 seconds."""
    max_data_per_day: int = 4_000_000
    """Bytes for all of them in any 24 hours: with too few servers for a verdict nothing is ever settled, and
    somebody pays for his line by the byte."""


@dataclass(eq=False, slots=True)
class _Pending:
    address: Multiaddr
    at: Host
    since: float
    reached: asyncio.Event = field(default_factory=asyncio.Event)


class AutonatClient:
    """Registers `/libp2p/autonat/2/dial-back` at the host when it is made. `nonce` draws 64 bits that nobody
    can guess."""

    def __init__(self, host: Host, config: AutonatClientConfig, nonce: Callable[[], int]) -> None:
        self._host = host
        self._config = config
        self._nonce = nonce
        self._pending: dict[int, _Pending] = {}
        self._paid: deque[tuple[float, int]] = deque()
        self.dialled_back: Counter[str] = Counter()
        """Who came with a nonce: `expected`, or why it does not count."""
        self.listen_at(host)

    def listen_at(self, host: Host) -> None:
        """Take dial-backs at another host of this node too."""

        async def dial_back(stream: Stream) -> None:
            await self._dial_back(host, stream)

        host.serve(autonat_v2.DIAL_BACK_PROTOCOL, dial_back)

    async def ask(self, server: PeerId, address: Multiaddr, at: Host) -> Outcome:
        """Have a connected server dial `address`, where host `at` of this node should be. Never raises a
        `WwsError`: that is an outcome."""
        connection = self._host.connection_to(server, direct=True)
        if connection is None:
            return None, "not_connected"
        nonce = self._nonce()
        pending = _Pending(address, at, self._host.clock.monotonic())
        self._pending[nonce] = pending
        try:
            try:
                async with asyncio.timeout(self._config.timeout):
                    response = await self._request(connection, DialRequest((address,), nonce))
                outcome = _meaning(response)
                if outcome[0]:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._config.late):
                            await pending.reached.wait()
            except WwsError as error:
                outcome = None, error.code
            except TimeoutError:
                outcome = None, "timeout"
            if pending.reached.is_set():
                return True, ""  # whatever the server says
            return (None, "nonce_missing") if outcome[0] else outcome
        finally:
            del self._pending[nonce]

    async def _request(self, connection: Connection, request: DialRequest) -> DialResponse:
        async with connection.open_stream(autonat_v2.DIAL_REQUEST_PROTOCOL) as stream:
            await stream.write_frame(request.encode())
            answer = await self._read(stream)
            if isinstance(answer, DialDataRequest):
                await self._pay(stream, answer)
                answer = await self._read(stream)
            if not isinstance(answer, DialResponse):
                raise RemoteProtocolError(f"{type(answer).__name__} where an answer is expected")
            stream.close_write()
            return answer

    async def _read(self, stream: Stream) -> autonat_v2.Message:
        frame = await stream.read_frame(self._config.messages.max_message_bytes)
        if frame is None:
            raise Truncated("the server gave no answer")
        return autonat_v2.parse(frame, self._config.messages)

    async def _pay(self, stream: Stream, asked: DialDataRequest) -> None:
        """Send the data that a server wants before it dials another IP than it sees us at."""
        now = self._host.clock.monotonic()
        while self._paid and self._paid[0][0] + _DAY <= now:
            self._paid.popleft()
        today = sum(count for _, count in self._paid)
        spent = sum(count for at, count in self._paid if at + _MINUTE > now)
        if asked.byte_count > self._config.max_data:
            raise DialDataTooMuch(f"a server wants {asked.byte_count} bytes for a dial")
        if today + asked.byte_count > self._config.max_data_per_day:
            raise DialDataTooMuch("servers have had enough of our data for today")
        if spent + asked.byte_count > self._config.max_data_per_minute:
            raise DialDataTooMuch("servers have had enough data of us for this minute")
        self._paid.append((now, asked.byte_count))
        left = asked.byte_count
        while left > 0:
            piece = min(left, _PIECE)
            await stream.write_frame(DialDataResponse(bytes(piece)).encode())
            left -= piece

    async def _dial_back(self, host: Host, stream: Stream) -> None:
        connection = stream.connection
        async with asyncio.timeout(self._config.dial_back_timeout):
            frame = await stream.read_frame(autonat_v2.MAX_DIAL_BACK_BYTES)
            if frame is None:
                raise Truncated("a dial-back without a nonce")
            pending = self._pending.get(DialBack.parse(frame).nonce)
            found = "unknown_nonce" if pending is None else _judge(pending, host, connection)
            self.dialled_back[found] += 1
            if pending is None or found != _EXPECTED:
                self._host.count_refusal(autonat_v2.DIAL_BACK_PROTOCOL, found)
                stream.reset()
                return
            pending.reached.set()
            await stream.write_frame(DialBackResponse().encode())
            stream.close_write()
            await stream.read_to_end(autonat_v2.MAX_DIAL_BACK_BYTES)


def _judge(pending: _Pending, host: Host, connection: Connection) -> str:
    """`expected`, or why a nonce on this connection does not show that we can be reached: any peer that we
    have asked knows it, and could say it over the connection that we have with it, or have another say it."""
    if host is not pending.at:
        return "other_host"
    if connection.outbound or connection.is_limited or connection.opened_at < pending.since:
        return "other_connection"
    return _EXPECTED if connection.transport == pending.address.transport else "other_transport"


def _meaning(response: DialResponse) -> Outcome:
    if response.status is not ResponseStatus.OK:
        return None, _STATUSES[response.status]
    if response.index != 0:
        return None, "other_address"
    match response.dial_status:
        case DialStatus.OK:
            return True, ""
        case DialStatus.E_DIAL_ERROR:
            return False, ""
        case _:
            return None, "dial_back_error"
