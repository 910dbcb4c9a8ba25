"""Proof of work: a speed bump for who wants many names or agents, and no more than that (wire.md section 6).

A nonce `n` (an integer from 0 to 2^53−1) counts when

    SHA-256("wws-pow-v1" 00 context 00 did 00 n as 8 bytes big-endian)

has at least `bits` leading zero bits. Contexts are `agent:<swarm>` and `name:<swarm>:<name>`; the DID in it
makes the work worthless to anybody else, the missing time makes it last as long as the key.
"""

from __future__ import annotations

import hashlib

from wws.codec.canonical import MAX_INTEGER
from wws.errors import LocalProtocolError

LEAST_BITS = 12
"""What every name record needs, however small the swarm."""
MOST_BITS = 24
"""What we are ready to solve: 2^24 hashes take about ten seconds. Who asks for more is not served."""

_DOMAIN = b"wws-pow-v1\x00"
_SCHEDULE = ((100, 12), (1_000, 14), (10_000, 16))
_BITS_ABOVE = 18


def bits_for(swarm_size: int) -> int:
    """The bits to ask for in a swarm of about `swarm_size` nodes. Who asks passes half its estimate."""
    return next((bits for size, bits in _SCHEDULE if swarm_size < size), _BITS_ABOVE)


def leading_zero_bits(context: str, did: str, nonce: int) -> int:
    """How much work `nonce` shows for this context and DID."""
    digest = hashlib.sha256(_prefix(context, did) + nonce.to_bytes(8, "big")).digest()
    return 256 - int.from_bytes(digest, "big").bit_length()


def verify(context: str, did: str, nonce: int, bits: int) -> bool:
    """Whether `nonce` shows at least `bits` of work. A nonce out of range shows none; never raises."""
    return 0 <= nonce <= MAX_INTEGER and leading_zero_bits(context, did, nonce) >= bits


def search(context: str, did: str, bits: int, start: int, count: int) -> int | None:
    """The smallest good nonce among `count` from `start`, or `None`: so that a caller can work in slices."""
    if not 0 <= bits <= MOST_BITS:
        raise LocalProtocolError(f"a proof of work of {bits} bits is not attempted, the limit is {MOST_BITS}")
    start_state = hashlib.sha256(_prefix(context, did))
    too_large = 1 << (64 - bits)
    for nonce in range(start, min(start + count, MAX_INTEGER + 1)):
        state = start_state.copy()
        state.update(nonce.to_bytes(8, "big"))
        if int.from_bytes(state.digest()[:8], "big") < too_large:
            return nonce
    return None


def solve(context: str, did: str, bits: int) -> int:
    """The smallest good nonce. Takes about 2^bits hashes of CPU: call it off the event loop.

    Raises `LocalProtocolError` for more than `MOST_BITS`.
    """
    start = 0
    while (nonce := search(context, did, bits, start, 1 << 16)) is None:
        start += 1 << 16
    return nonce


def _prefix(context: str, did: str) -> bytes:
    return b"%s%s\x00%s\x00" % (_DOMAIN, context.encode(), did.encode())
