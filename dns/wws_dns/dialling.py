"""Sees whether the nodes of a bundle answer where it says, with the keys it says, over TCP and over QUIC.

Each dial is made by a stranger with a key of his own, forgotten afterwards, and ends when the handshake
has proven the PeerId: nothing is joined.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import Bundle
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.runtime.clock import SystemClock
from wws.runtime.dialer import Attempt, Dialer, DialerConfig, DialFailed
from wws.runtime.dns_resolve import DnsConfig, DnsError, DnsResolver
from wws.runtime.host import Host, HostConfig
from wws.runtime.quic_transport import QuicTransport

WRONG_PEER = "peer_id_mismatch"
"""Code of a dial that somebody else answered."""


@dataclass(frozen=True, slots=True)
class DiallingConfig:
    """The bounds of trying nodes."""

    timeout: float = 10.0
    """Seconds for one dial."""
    max_dials: int = 64
    """Most addresses that are tried; a bundle has 16 entries of two transports."""
    max_addresses: int = 4
    """Most IP addresses of a host name."""
    max_concurrent: int = 8
    """Dials under way at once."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """What came of one address."""

    peer_id: PeerId
    address: Multiaddr
    """As it was dialled: an IP address, or the name that could not be looked up."""
    seconds: float | None
    """Until the handshake was done; `None`: it failed."""
    code: str = ""
    """Why it failed."""
    message: str = ""

    @property
    def is_ok(self) -> bool:
        return self.seconds is not None


async def dial_all(
    bundle: Bundle, servers: Sequence[str] = (), config: DiallingConfig | None = None
) -> tuple[Dialled, ...]:
    """Try every address of the bundle. Names are looked up at `servers`, or as this system does it."""
    bounds = config or DiallingConfig()
    resolver = DnsResolver(DnsConfig(servers=tuple(servers), max_hosts=bounds.max_addresses))
    room = asyncio.Semaphore(bounds.max_concurrent)

    async def one(peer_id: PeerId, address: Multiaddr) -> list[Dialled]:
        async with room:
            try:
                targets = await resolver.expand(address)
            except DnsError as error:
                return [Dialled(peer_id, address.without_peer(), None, error.code, str(error))]
            return [await _dial(peer_id, target, bounds) for target in targets]

    wanted = dict.fromkeys(
        (entry.peer_id, address) for entry in bundle.entries for address in entry.addresses()
    )
    tried = await asyncio.gather(*(one(*pair) for pair in list(wanted)[: bounds.max_dials]))
    return tuple(dialled for some in tried for dialled in some)


async def _dial(peer_id: PeerId, address: Multiaddr, config: DiallingConfig) -> Dialled:
    host = Host(Identity.generate(), HostConfig(), clock=SystemClock(), rng=random.Random())
    host.quic = QuicTransport(host, host.identity)
    dialer = Dialer(host, _no_names, replace(DialerConfig(), timeout=config.timeout, retries=0))
    await host.start()
    start = time.monotonic()
    try:
        await dialer.connect_at(peer_id, address.with_peer(peer_id), config.timeout)
        return Dialled(peer_id, address.without_peer(), time.monotonic() - start)
    except DialFailed as failure:
        attempt = next(iter(failure.attempts), Attempt(address, failure.code, str(failure)))
        return Dialled(peer_id, address.without_peer(), None, attempt.code, attempt.message)
    finally:
        await dialer.close()
        await host.close()


async def _no_names(address: Multiaddr) -> Sequence[Multiaddr]:
    """Names were looked up before; an address is itself."""
    return [address]
