"""Drives discovery: dials, DNS questions, mDNS, what is remembered on disk; and tells how the join goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wws.addresses.multiaddr import Multiaddr
from wws.codec.canonical import JsonObject
from wws.discovery.bundle import Bundle
from wws.discovery.guidance import SearchReport
from wws.discovery.race import Discovery
from wws.discovery.race_events import (
    BundleTaken,
    Dial,
    DialFailed,
    DialSucceeded,
    DnsAnswered,
    Joined,
    LostAllPeers,
    MdnsFound,
    NoWayIn,
    PeerConnected,
    PeerCountChanged,
    PeerDisconnected,
    PeerIdentified,
    QueryDns,
    RetryRequested,
    SaveNetworkState,
    SavePeerCache,
    Started,
    StartMdns,
    Stopped,
    TimerFired,
    Warn,
)
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.rpc.api import JoinState
from wws.runtime.connection import Connection
from wws.runtime.dialer import Dialer
from wws.runtime.dialer import DialFailed as DialError
from wws.runtime.dns_resolve import DnsError, DnsResolver
from wws.runtime.host import Host
from wws.runtime.logs import logger

_CODES = {"peer_id_mismatch": "wrong_peer_id", "network_unreachable": "unreachable"}
"""Codes of the dialler in the words of discovery's advice."""


class LocalDiscovery(Protocol):
    """mDNS, as far as discovery needs it."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(slots=True)
class JoinView:
    """How far the node has come on its way in."""

    state: JoinState = "starting"
    source: str | None = None
    lan_only: bool = False
    report: SearchReport | None = None
    retry_at: float | None = None
    """Monotonic time of the next attempt."""
    warnings: dict[str, str] = field(default_factory=dict)
    """Messages by code."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever `state` changes; whoever waits clears it."""


@dataclass(frozen=True, slots=True)
class DiscoveryFiles:
    """Where discovery's memory goes; each writes its file whole."""

    save_network_state: Callable[[JsonObject], None]
    save_peer_cache: Callable[[JsonObject], None]


class DiscoveryDriver:
    """Runs one search for the whole life of a node."""

    def __init__(
        self,
        host: Host,
        dialer: Dialer,
        resolver: DnsResolver,
        machine: Discovery,
        files: DiscoveryFiles,
        *,
        ask_dns: bool,
        local: Callable[[Callable[[PeerId, Sequence[Multiaddr]], None]], LocalDiscovery] | None,
    ) -> None:
        self.view = JoinView()
        self.machine = machine
        self.on_joined: list[Callable[[], None]] = []
        """Called each time that the network is entered."""
        self.on_bundle: list[Callable[[Bundle], None]] = []
        self.is_member: Callable[[Connection], bool] = lambda _: True
        """Whether a connected peer belongs to our network: only such are remembered for the next start."""
        self._host = host
        self._dialer = dialer
        self._resolver = resolver
        self._files = files
        self._ask_dns = ask_dns
        self._make_local = local
        self._local: LocalDiscovery | None = None
        self._counted: set[PeerId] = set()
        """Connected peers that are entry points or of our network: while there is one, we are in."""
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        host.listeners.peer_connected.append(self._peer_connected)
        host.listeners.peer_identified.append(self._peer_identified)
        host.listeners.peer_disconnected.append(self._peer_disconnected)

    def start(self) -> None:
        """Begin the search. Returns at once."""
        self._set_state("discovering")
        self._feed(Started())

    def retry(self) -> None:
        """Begin the next round now."""
        self._feed(RetryRequested())

    async def stop(self) -> None:
        """End the search and the mDNS service."""
        self._set_state("stopping")
        self._feed(Stopped())
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._local is not None:
            await self._local.close()

    def entry_points_connected(self) -> set[PeerId]:
        """The connected peers that the network's rules call entry points."""
        unix_now = self._host.clock.unix()
        return {peer for peer in self._host.table.peers() if self.machine.is_entry_point(peer, unix_now)}

    # What happens on the host

    def _peer_connected(self, peer: PeerId) -> None:
        # An entry point is known by its key; anybody else has to say first which network it is of.
        if self.machine.is_entry_point(peer, self._host.clock.unix()):
            self._count(peer)

    def _peer_identified(self, connection: Connection) -> None:
        if self.is_member(connection):
            self._count(connection.peer_id)
            addresses = self._host.peers.addresses(connection.peer_id)
            if addresses:
                self._feed(PeerIdentified(connection.peer_id, addresses))

    def _peer_disconnected(self, peer: PeerId) -> None:
        if peer in self._counted:
            self._counted.discard(peer)
            self._feed(PeerDisconnected(peer))
            self._entry_points_changed()
            self._feed(PeerCountChanged(len(self._counted)))

    def _count(self, peer: PeerId) -> None:
        if peer not in self._counted:
            self._counted.add(peer)
            self._feed(PeerConnected(peer))
            self._entry_points_changed()
            self._feed(PeerCountChanged(len(self._counted)))

    def _entry_points_changed(self) -> None:
        peers, unix_now = self.entry_points_connected(), self._host.clock.unix()
        # Everybody who was ever met may be a cached entry point: only those of their own right are kept.
        kept = {peer for peer in peers if self.machine.entry_points.is_root(peer, unix_now)}
        self._host.set_entry_points(peers, kept=kept)
        self.machine.entry_points.mesh_scope = self._host.scope

    # The machine

    def _feed(self, event: Event) -> None:
        if self._stopped:
            return
        now, unix_now = self._host.clock.monotonic(), self._host.clock.unix()
        for command in self.machine.handle(event, now, unix_now):
            self._carry_out(command)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakeup = self.machine.next_wakeup()
        if wakeup is not None:
            delay = max(0.0, wakeup - self._host.clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._feed, TimerFired())

    def _carry_out(self, command: Command) -> None:
        log = logger("discovery")
        match command:
            case Dial():
                self._host.spawn(self._dial(command), f"discover {command.peer_id}")
            case QueryDns():
                self._host.spawn(self._query(command), f"ask {command.name}")
            case StartMdns():
                if self._make_local is not None:
                    self._local = self._make_local(self._found_locally)
                    self._host.spawn(self._local.start(), "mdns")
            case Joined(peer_id=peer_id, source=source, lan_only=lan_only):
                log.info("joined", peer=str(peer_id), source=str(source), lan_only=lan_only)
                self.view.source, self.view.lan_only, self.view.retry_at = str(source), lan_only, None
                self._set_state("joined")
                for joined in self.on_joined:
                    joined()
            case LostAllPeers(message=message):
                log.warning(message)
                self._set_state("lost")
            case NoWayIn(report=report, retry_in=retry_in):
                # A bootstrap node that nobody has come to yet is a way in, and misses none.
                say = log.info if report.local_is_entry_point else log.warning
                say("no way in", retry_in=round(retry_in, 1), advice="; ".join(report.advice))
                self.view.report = report
                self.view.retry_at = self._host.clock.monotonic() + retry_in
                self._set_state("failed_retrying")
            case Warn(code=code, message=message):
                log.warning(message, code=code)
                self.view.warnings[code] = message
            case BundleTaken(bundle=bundle):
                log.info("bundle taken", seq=bundle.seq, peers=len(bundle.peers))
                self._entry_points_changed()
                for taken in self.on_bundle:
                    taken(bundle)
            case SaveNetworkState(value=value):
                self._save(self._files.save_network_state, value)
            case SavePeerCache(value=value):
                self._save(self._files.save_peer_cache, value)
            case _:
                raise AssertionError(f"unknown command {command}")

    async def _dial(self, dial: Dial) -> None:
        try:
            connection = await self._dialer.connect_at(dial.peer_id, dial.address, dial.timeout)
        except DialError as error:
            code = error.attempts[-1].code if error.attempts else error.code
            self._feed(DialFailed(dial.peer_id, dial.address, _CODES.get(code, code)))
            return
        if not self.machine.is_entry_point(dial.peer_id, self._host.clock.unix()):
            await connection.wait_identified()
            if not self.is_member(connection):
                self._host.count_refusal("discovery", "wrong_network")
                if connection.outbound:
                    connection.close("of another network")
                self._feed(DialFailed(dial.peer_id, dial.address, "wrong_network"))
                return
        self._feed(DialSucceeded(dial.peer_id, dial.address))

    async def _query(self, query: QueryDns) -> None:
        if not self._ask_dns:
            self._feed(DnsAnswered(query.kind, error="off", detail="DNS is not asked (settings)"))
            return
        try:
            async with asyncio.timeout(query.timeout):
                answer = await self._resolver.txt(query.name)
        except DnsError as error:
            self._feed(DnsAnswered(query.kind, error=error.code, detail=str(error)))
        except TimeoutError:
            self._feed(DnsAnswered(query.kind, error="dns_timeout", detail="no answer in time"))
        else:
            self._feed(DnsAnswered(query.kind, answer.texts))

    def _found_locally(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> None:
        self._feed(MdnsFound(peer, tuple(addresses)))

    def _save(self, write: Callable[[JsonObject], None], value: JsonObject) -> None:
        try:
            write(value)
        except WwsError as error:
            # Remembering is not worth stopping for: the next start asks DNS again.
            self.view.warnings[error.code] = str(error)
            logger("discovery").warning(str(error), code=error.code)

    def _set_state(self, state: JoinState) -> None:
        self.view.state = state
        self.view.changed.set()
