"""The probes of our NAT that are open, each a task from `open` to the `ProbeLost` that ends it.

OpenProbe ─► a host of its own, a dial to the server ─► ProbeOpened ─► … ─► ProbeLost
CloseProbe ─► the task is cancelled, and closes what it had; nobody waits for a word of it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from wws.machine import Event
from wws.nat.observed import way_of
from wws.nat.reachability_events import OpenProbe, ProbeLost, ProbeOpened
from wws.runtime.host import Host
from wws.runtime.identify_service import IdentifyService
from wws.runtime.nat.autonat_client import AutonatClient
from wws.runtime.nat.probe import MakeProbeHost, NatProbe, ProbeFailed, probe_target


@dataclass(frozen=True, slots=True)
class ProbesConfig:
    timeout: float = 10.0
    """Seconds to open a probe."""
    lifetime: float = 45.0
    """Seconds that a probe may be open."""


class Probes:
    """Opens and ends probes; `feed` is told what becomes of them."""

    def __init__(
        self,
        host: Host,
        identify: IdentifyService,
        client: AutonatClient,
        make_probe_host: MakeProbeHost,
        config: ProbesConfig,
        feed: Callable[[Event], None],
    ) -> None:
        self._host = host
        self._identify = identify
        self._client = client
        self._make_probe_host = make_probe_host
        self._config = config
        self._feed = feed
        self._running: dict[int, _Running] = {}

    def open(self, command: OpenProbe) -> None:
        """Begin a probe; `ProbeOpened` or `ProbeLost` follows."""
        running = _Running()
        running.task = self._host.spawn(self._run(command, running), "probe the NAT")
        running.task.add_done_callback(lambda _: self._running.pop(command.probe, None))
        self._running[command.probe] = running

    def end(self, probe: int) -> None:
        """Close a probe, if it is open or being opened; nothing follows."""
        if (running := self._running.get(probe)) is not None:
            running.end()

    def host_of(self, probe: int) -> Host | None:
        """The host of a probe that is open."""
        running = self._running.get(probe)
        return None if running is None else running.host

    async def close(self) -> None:
        """End all probes; nothing is left of them."""
        for running in self._running.values():
            running.end()
        tasks = [running.task for running in self._running.values()]
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, command: OpenProbe, running: _Running) -> None:
        connection = self._host.connection_to(command.server, direct=True)
        known = self._host.peers.addresses(command.server)
        target = None if connection is None else probe_target(connection, known, command.way)
        # It listens where we do.
        ips = (own.host for own in self._host.listen_addresses if way_of(own) == command.way)
        listen_ip = next(ips, None)
        if target is None or listen_ip is None:
            self._feed(ProbeLost(command.probe, "no_address"))
            return
        probe = NatProbe(self._make_probe_host())
        running.host = probe.host
        try:
            address = await probe.open(
                command.server,
                target,
                listen_ip,
                identify=self._identify,
                client=self._client,
                timeout=self._config.timeout,
            )
            self._feed(ProbeOpened(command.probe, address))
            async with asyncio.timeout(self._config.lifetime):
                await probe.wait_lost()
            reason = "connection_lost"
        except ProbeFailed as failure:
            reason = failure.reason
        except TimeoutError:
            reason = "timeout"
        finally:
            running.is_ending = True
            await probe.close()
        self._feed(ProbeLost(command.probe, reason))


@dataclass(eq=False, slots=True)
class _Running:
    task: asyncio.Task[None] = field(init=False)
    host: Host | None = None
    is_ending: bool = False

    def end(self) -> None:
        """End it, once: a second cancellation would keep it from closing its sockets."""
        if not self.is_ending:
            self.is_ending = True
            self.task.cancel()
