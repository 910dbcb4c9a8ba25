"""Where callers who are not the owner wait for their part of the loop's time (`wws.rpc.turns`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from wws.rpc.turns import LIMITED, Standing, TimeShare, TurnsConfig


class Turns:
    """The queues of one server, one for each standing but the owner's."""

    def __init__(self, config: TurnsConfig) -> None:
        self._config = config
        self._queues = {standing: (asyncio.Lock(), TimeShare(config, standing)) for standing in LIMITED}

    async def wait(self, standing: Standing) -> None:
        """Until it is the caller's turn: who came first goes first. May be cancelled at any moment."""
        if standing not in self._queues:
            return
        lock, share = self._queues[standing]
        async with lock:
            # Others may spend more of the share meanwhile: their calls were let in before.
            while (delay := share.delay(time.monotonic())) > 0:  # noqa: ASYNC110 - time is what it waits for
                await asyncio.sleep(delay)

    @contextmanager
    def counted(self, standing: Standing, *, calls: int = 0) -> Iterator[None]:
        """Count the time that the block takes, which must not await, and what `calls` calls cost besides."""
        started = time.perf_counter()
        try:
            yield
        finally:
            if standing in self._queues:
                used = time.perf_counter() - started + calls * self._config.per_call
                self._queues[standing][1].spent(used, time.monotonic())
