"""Two streams made into one way: what comes in at one end goes out at the other, in both directions.

Back-pressure passes through: a piece is read only when the one before has gone out, so each direction holds
at most one. So does a half-close, and a reset at one end resets the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wws.errors import WwsError
from wws.runtime.streams import Stream

CHUNK = 64 * 1024
"""Bytes that a direction holds at most."""


async def splice(near: Stream, far: Stream, passes: Callable[[int, bool], bool]) -> bool:
    """Carry bytes between two streams until nothing of either is left; whether both ended in good order.

    `passes(count, to_far)` is asked before each piece goes on; it says no once it has reset both streams. A
    cancelled caller finds both reset, too.
    """
    back = asyncio.get_running_loop().create_task(_carry(far, near, passes, to_far=False))
    try:
        forth = await _carry(near, far, passes, to_far=True)
        return await back and forth
    finally:
        if not back.done():  # cancelled
            back.cancel()
            near.reset()
            far.reset()
            await asyncio.gather(back, return_exceptions=True)


async def _carry(source: Stream, sink: Stream, passes: Callable[[int, bool], bool], *, to_far: bool) -> bool:
    try:
        while data := await source.read(CHUNK):
            if not passes(len(data), to_far):
                return False
            await sink.write(data)
        sink.close_write()
    except WwsError:  # either end is gone, and so is the other now
        source.reset()
        sink.reset()
        return False
    return True
