"""Whether a node is there: dialled from here as an agent dials it, and asked for its PeerId."""

from __future__ import annotations

import asyncio

from agent_cli.ops.probing import CHECKS, Target, probe
from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId

TIMEOUT = 15.0
"""Seconds that a node gets to answer."""
_OTHERS = frozenset(CHECKS) - {"tcp", "peer_id"}


def answers(ip: str, port: int, peer_id: str) -> bool:
    """Whether that peer answers at that address, over TCP."""
    target = Target(PeerId.parse(peer_id), (Multiaddr.of(ip, port),))
    return asyncio.run(probe(target, timeout=TIMEOUT, skip=_OTHERS)).is_healthy
