"""A probe: a fresh socket that listens, and has only ever sent to one server (wire.md section 2, AutoNAT).

It is a host of its own with the same identity, so that a server that dials it finds whom it asked for. It
answers identify in the words of the node, takes dial-backs, and knows nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.nat.observed import Way, way_of
from wws.runtime.connection import Connection
from wws.runtime.dialer import Dialer, DialerConfig
from wws.runtime.host import Host
from wws.runtime.identify_service import IdentifyService
from wws.runtime.nat.autonat_client import AutonatClient
from wws.runtime.ping import PROTOCOL as PING
from wws.runtime.streams import Stream

_PING_LENGTH = 32


class ProbeFailed(WwsError):
    """The probe could not be opened, so nothing was found out."""

    code = "probe_failed"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NatProbe:
    """Made by `open`; `close` leaves nothing behind."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.connection: Connection | None = None
        self._dialer = Dialer(host, _no_names, DialerConfig(retries=0))
        self._held: Stream | None = None
        self._lost = asyncio.Event()
        host.listeners.connection_closed.append(self._closed)

    async def open(
        self,
        server: PeerId,
        target: Multiaddr,
        listen_ip: str,
        *,
        identify: IdentifyService,
        client: AutonatClient,
        timeout: float,
    ) -> Multiaddr:
        """Listen at a fresh port and dial `server` at `target` from it; where the server sees that socket.

        Raises `ProbeFailed`, `TimeoutError`; `close` is then still the caller's to call.
        """
        way = way_of(target)
        assert way is not None
        try:
            async with asyncio.timeout(timeout):
                identify.answer_for(self.host)
                client.listen_at(self.host)
                await self.host.start()
                bound = await self.host.listen(Multiaddr.of(listen_ip, 0, way.transport))
                connection = await self._dialer.connect_at(server, target, timeout)
                if connection.local_address.port != bound.port:
                    raise ProbeFailed("other_port", "the dial left from another port than the listener's")
                self.connection = connection
                seen = (await identify.ask(connection)).observed
                # A connection in use is not closed as a duplicate of the one that we have with the server.
                self._held = connection.open_stream(PING)
                await self._held.write(bytes(_PING_LENGTH))
        except ProbeFailed:
            raise
        except WwsError as error:
            raise ProbeFailed(error.code, str(error)) from error
        if seen is None or way_of(seen) != way or not seen.port:
            raise ProbeFailed("not_observed", "the server does not say where it sees the probe")
        return seen.without_peer()

    async def wait_lost(self) -> None:
        """Until the connection that keeps the NAT's mapping is gone."""
        await self._lost.wait()

    def _closed(self, connection: Connection) -> None:
        if connection is self.connection:
            self._lost.set()

    async def close(self) -> None:
        with suppress(WwsError):
            if self._held is not None:
                self._held.reset()
        await self._dialer.close()
        await self.host.close()


def probe_target(connection: Connection, known: Sequence[Multiaddr], way: Way) -> Multiaddr | None:
    """Where a probe can dial the peer at the other end of a connection: at the IP where we see it, nowhere
    else. Else the probe might send to the very machine that is to dial it, and the NAT would let that in."""
    addresses = [connection.remote_address] if connection.outbound else []
    for address in (*addresses, *known):
        if way_of(address) == way and address.host == connection.remote_address.host and address.port:
            return address.without_peer()
    return None


MakeProbeHost = Callable[[], Host]
"""A host with the node's identity that is not started, with `quic` set where the node speaks it."""


async def _no_names(address: Multiaddr) -> Sequence[Multiaddr]:
    raise WwsError(f"a probe dials no names: {address}")
