"""The dials of hole punching: plain ones, TCP from the listening port, QUIC from the listening socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.nat.punch_events import DialDirect, Punch
from wws.runtime.dialer import Dialer
from wws.runtime.host import Host


@dataclass(frozen=True, slots=True)
class PunchDialsConfig:
    stagger: float = 0.1
    """Seconds between two plain dials to one peer: the first that is through saves the others."""
    server_delay: float = 0.005
    """Seconds by which the side that waits for the other's first word dials later. Where nothing keeps SYNs
    out, the other's then comes to our listener; had ours come to that of the other, both would wait."""
    server_patience: float = 2.5
    """Seconds for that word, after which this side dials anew."""
    retry_gap: float = 0.1
    """Seconds between the first two QUIC dials to one target; each further gap is half as long again."""
    max_retry_gap: float = 1.0
    """The longest gap: who turns us down at once may be somebody who never asked for our packets."""
    grace: float = 0.2
    """Seconds that the other dials get to end by themselves once one is through."""


class PunchDials:
    """What is dialled for one peer."""

    def __init__(self, host: Host, dialer: Dialer, peer: PeerId, config: PunchDialsConfig) -> None:
        self._host = host
        self._dialer = dialer
        self._peer = peer
        self._config = config
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(self, command: DialDirect, failed: Callable[[], None]) -> None:
        """Dial all targets like anybody; `failed` is called when none led to the peer."""
        self._run(self._dial(command, failed))

    def punch(self, command: Punch) -> None:
        """Dial all targets at once, until one is through or the time is over."""
        until = command.until
        for target in command.targets:
            if target.transport == "tcp":
                self._run(self._punch_tcp(target, as_client=command.as_client, until=until))
            elif command.as_client:
                self._run(self._punch_quic(target, until=until))
        for target in command.private:
            self._run(self._dial_privately(target, until))

    def stop(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks)
        if self._host.connection_to(self._peer, direct=True) is None:
            _cancel(tasks)
        elif tasks:
            # One of them is just about to return its connection, and might take a cancellation for its end.
            asyncio.get_running_loop().call_later(self._config.grace, _cancel, tasks)

    async def _dial(self, command: DialDirect, failed: Callable[[], None]) -> None:
        targets = enumerate(command.targets)
        dials = [
            self._dial_once(target, command.until, index * self._config.stagger) for index, target in targets
        ]
        if not any(await asyncio.gather(*dials)):
            failed()

    async def _dial_privately(self, target: Multiaddr, until: float) -> None:
        await self._dial_once(target, until, 0.0)

    async def _dial_once(self, target: Multiaddr, until: float, wait: float) -> bool:
        await asyncio.sleep(wait)
        try:
            # Finds the direct connection that another dial has made meanwhile.
            await self._dialer.connect_at(self._peer, target, until - self._host.clock.monotonic())
        except WwsError:
            return False
        return True

    async def _punch_tcp(self, target: Multiaddr, *, as_client: bool, until: float) -> None:
        now = self._host.clock.monotonic
        if not as_client:
            await asyncio.sleep(self._config.server_delay)
        patience = None if as_client else self._config.server_patience
        while now() < until:
            try:
                async with asyncio.timeout(patience):
                    await self._dialer.punch_tcp(self._peer, target, initiator=as_client, until=until)
                return
            except TimeoutError:
                continue
            except WwsError:
                return  # nothing came through; the machine has a time-out for that

    async def _punch_quic(self, target: Multiaddr, *, until: float) -> None:
        quic = self._host.quic
        assert quic is not None, "without QUIC there are no such targets"
        gap = self._config.retry_gap
        while self._host.clock.monotonic() < until:
            try:
                await quic.dial(self._peer, target)
            except WwsError:
                await asyncio.sleep(gap)
                gap = min(gap * 1.5, self._config.max_retry_gap)
            else:
                return

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._host.spawn(work, "hole punch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
