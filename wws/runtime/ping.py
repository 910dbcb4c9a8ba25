"""Ping: 32 random bytes there and back (libp2p "ping", `/ipfs/ping/1.0.0`)."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from wws.errors import RemoteProtocolError, WwsError
from wws.mesh.rates import Share, SharedRates
from wws.runtime.connection import Connection
from wws.runtime.host import Host
from wws.runtime.streams import Stream

PROTOCOL = "/ipfs/ping/1.0.0"
_LENGTH = 32


@dataclass(frozen=True, slots=True)
class PingConfig:
    timeout: float = 10.0
    """Seconds to wait for one answer."""
    idle_timeout: float = 120.0
    """Seconds without a ping after which a stream of the peer's is given up."""
    share: Share = field(default_factory=lambda: Share(100.0, 2_048, prefix_share=4))
    """Pings of 32 bytes that are answered, on all streams; over it the stream is reset."""
    max_tracked: int = 4_096
    """Peers, and prefixes, whose rate is remembered."""


class WrongEcho(RemoteProtocolError):
    """The peer answered a ping with other bytes than were sent."""

    code = "wrong_echo"


class PingTimeout(WwsError):
    """The peer did not answer the ping in time."""

    code = "timeout"


class PingService:
    """Answers pings, and sends them."""

    def __init__(self, host: Host, config: PingConfig, rng: random.Random) -> None:
        self._host = host
        self._config = config
        self._rng = rng
        self._rates = SharedRates(config.share, config.max_tracked)
        host.serve(PROTOCOL, self._answer)

    async def ping(self, connection: Connection) -> float:
        """One round trip in seconds, on a stream of its own: on QUIC rust answers only the first of a stream.

        Raises `PingTimeout`, `WrongEcho`, `StreamReset`, `StreamRefused`, `ConnectionLost`.
        """
        sent = self._rng.randbytes(_LENGTH)
        try:
            async with asyncio.timeout(self._config.timeout):
                async with connection.open_stream(PROTOCOL) as stream:
                    start = self._host.clock.monotonic()
                    await stream.write(sent)
                    answer = await stream.read_exactly(_LENGTH)
                    elapsed = self._host.clock.monotonic() - start
                    await stream.finish()
        except TimeoutError:
            raise PingTimeout(f"no answer within {self._config.timeout:g} s") from None
        if answer != sent:
            raise WrongEcho()
        return elapsed

    async def _answer(self, stream: Stream) -> None:
        peer, clock = stream.connection.peer_id, self._host.clock
        prefix = self._host.admission.limited_prefix(stream.connection.remote_ip)
        while True:
            async with asyncio.timeout(self._config.idle_timeout):
                data = await stream.read()  # as it comes: by 32 bytes a flood would cost far more
                if not data:
                    break
                self._rates.check(peer, prefix, clock.monotonic(), len(data) / _LENGTH)
                await stream.write(data)
        stream.close_write()
