"""Where things stand in the key space: SHA-256, read as a number; the distance of two is their XOR.

libp2p specifications, kad-dht/README.md, "Distance". Peers and prefixes recur thousands of times in the
answers of others, so both are remembered; the functions are pure, and the memory bounded.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import AddressRefused, public_prefix_of_ip
from wws.identity.peer_id import PeerId

KEY_BITS = 256
KEY_SPACE = 1 << KEY_BITS


@lru_cache(maxsize=16_384)
def position_of_peer(peer: PeerId) -> int:
    """The position of a peer: SHA-256 of the bytes of its PeerId."""
    return peer.position


@lru_cache(maxsize=4_096)
def position_of_key(key: bytes) -> int:
    """The position of a key: SHA-256 of its bytes."""
    return int.from_bytes(hashlib.sha256(key).digest(), "big")


@lru_cache(maxsize=16_384)
def public_prefix_of(address: Multiaddr) -> str | None:
    """The prefix whose holder answers at `address`, or `None` where prefix limits do not apply: below public
    scope, and for names, whose addresses are not known here. A circuit counts as its relay's prefix."""
    if not address.is_ip:
        return None
    try:
        return public_prefix_of_ip(address.host)
    except AddressRefused:
        return None
