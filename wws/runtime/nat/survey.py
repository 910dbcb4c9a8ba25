"""Surveys: hear on every transport what others see of us.

A NAT may treat TCP and UDP differently, and a node tends to be connected over one of them. So some servers
are also dialled over the other, from the socket that we listen at, just long enough to hear where they see
us: identify does the rest. Not where a way of the same family has shown that there is no NAT.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.nat.observed import ObservedAddresses, Way
from wws.nat.reachability_events import Server
from wws.runtime.connection import Connection, ConnectionLost
from wws.runtime.dialer import Dialer
from wws.runtime.host import Host
from wws.runtime.nat.probe import probe_target


@dataclass(frozen=True, slots=True)
class NatSurveyConfig:
    observers: int = 3
    """Parties that are to speak of each way: as many as it takes to tell every kind of NAT."""
    after: float = 1.0
    """Seconds from the first server to the first survey: by then most are connected."""
    again: float = 3600.0
    """Seconds between two surveys of one way."""
    retry: float = 120.0
    """The same after one in which nobody answered: UDP that was blocked may pass by now."""
    timeout: float = 5.0
    """Seconds for one dial."""


class NatSurvey:
    """Dials a few servers, beside the connections there are."""

    def __init__(
        self, host: Host, dialer: Dialer, observed: ObservedAddresses, config: NatSurveyConfig
    ) -> None:
        self._host = host
        self._dialer = dialer
        self._observed = observed
        self._config = config
        self._since: float | None = None
        self._next_at: dict[Way, float] = {}
        self._task: asyncio.Task[None] | None = None
        self.dials: Counter[str] = Counter()
        """Dials by outcome: `done`, or why not."""

    def begin_anew(self) -> None:
        """The network of this machine has changed."""
        self._next_at.clear()

    def run_if_due(self, ways: Sequence[Way], servers: Sequence[Server]) -> None:
        """Survey those of `ways` that are due."""
        now = self._host.clock.monotonic()
        if not servers:
            self._since = None
            return
        if self._since is None:
            self._since = now
        if now < self._since + self._config.after or (self._task is not None and not self._task.done()):
            return
        dials: list[tuple[Way, PeerId, Multiaddr]] = []
        for way in ways:
            if now >= self._next_at.get(way, now):
                self._next_at[way] = now + self._config.again
                dials += [(way, peer, target) for peer, target in self._dials(way, servers)]
        if dials:
            self._task = self._host.spawn(self._run(dials), "survey the NAT")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _dials(self, way: Way, servers: Sequence[Server]) -> list[tuple[PeerId, Multiaddr]]:
        """Servers of parties that have not said what they see on this way."""
        spoken = {one.party for one in self._observed.mappings(way) if one.outbound}
        dials: list[tuple[PeerId, Multiaddr]] = []
        for server in sorted(servers, key=lambda server: not server.is_preferred):
            connection = self._host.connection_to(server.peer, direct=True)
            if len(spoken) >= self._config.observers or connection is None or server.party in spoken:
                continue
            target = probe_target(connection, self._host.peers.addresses(server.peer), way)
            if target is not None:
                spoken.add(server.party)
                dials.append((server.peer, target))
        return dials

    async def _run(self, dials: Sequence[tuple[Way, PeerId, Multiaddr]]) -> None:
        silent = {way for way, _, _ in dials}
        for way, peer, target in dials:
            try:
                async with asyncio.timeout(self._config.timeout):
                    await self._dial(peer, target)
                self.dials["done"] += 1
                silent.discard(way)
            except WwsError as error:
                self.dials[error.code] += 1
            except TimeoutError:
                self.dials["timeout"] += 1  # of UDP most often: it is blocked
            except OSError:
                self.dials["no_socket"] += 1
        for way in silent:
            self._next_at[way] = self._host.clock.monotonic() + self._config.retry

    async def _dial(self, peer: PeerId, target: Multiaddr) -> None:
        if target.transport == "quic-v1":
            if self._host.quic is not None:
                await self._hear(await self._host.quic.dial(peer, target))
            return
        tcp = self._host.new_outbound(peer)
        try:
            # From another port than our listener's it would say nothing, hence no fall-back.
            await self._dialer.connect_tcp(tcp, target.host, target.port or 0, fall_back=False)
            await tcp.established()
            await self._hear(tcp)
        finally:
            if not tcp.is_established:
                tcp.abort(ConnectionLost("the survey is over"))

    async def _hear(self, connection: Connection) -> None:
        try:
            await connection.wait_identified()
            # At once: a mapping that nobody keeps open is no address to announce, not even for a moment.
            self._observed.closed(connection.connection_id, self._host.clock.monotonic())
        finally:
            connection.close("survey")
