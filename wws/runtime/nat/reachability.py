"""Knows how we are reached: brings what peers see, and what servers could dial, to the machines of `wws.nat`.

identify answers ─► ObservedAddresses ─► NAT kind, external addresses ─┐
interfaces, port mappings, settings ───────────────────────────────────┴► candidates ─┐
connected peers that serve AutoNAT v2 ────────────────────────────────────► servers ──┴► Reachability
                                                                                            │ │
questions over the connections there are ◄─ Ask ────────────────────────────────────────────┘ │
probes, hosts of their own ◄─ OpenProbe, CloseProbe ──────────────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Network, ip_address

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import unwrap
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.nat.autonat_v2 import DIAL_REQUEST_PROTOCOL
from wws.nat.candidates import find_candidates, shown_addresses
from wws.nat.kind import KindMemory, KindMemoryConfig, NatKind, kind_by
from wws.nat.observed import Observation, ObservedAddresses, ObservedConfig, Way, way_of
from wws.nat.reachability import Reachability
from wws.nat.reachability_events import (
    Answered,
    Ask,
    Candidate,
    CandidatesChanged,
    CloseProbe,
    NetworkChanged,
    OpenProbe,
    ReachabilityConfig,
    Server,
    ServersChanged,
    TimerFired,
)
from wws.nat.verdict import AddressVerdict, Verdict
from wws.runtime.connection import Connection
from wws.runtime.dialer import Dialer
from wws.runtime.host import Host
from wws.runtime.identify_service import IdentifyService
from wws.runtime.nat.autonat_client import AutonatClient, AutonatClientConfig
from wws.runtime.nat.probe import MakeProbeHost, probe_target
from wws.runtime.nat.probes import Probes, ProbesConfig
from wws.runtime.nat.survey import NatSurvey, NatSurveyConfig
from wws.runtime.own_addresses import expand, interface_addresses, source_address


@dataclass(frozen=True, slots=True)
class ReachabilityDriverConfig:
    enabled: bool = True
    """`enable_autonat`: ask servers. What peers see is noted in any case."""
    announce: tuple[Multiaddr, ...] = ()
    """Addresses that the user has configured, at the start: see `offer_configured`."""
    observed: ObservedConfig = field(default_factory=ObservedConfig)
    kinds: KindMemoryConfig = field(default_factory=KindMemoryConfig)
    machine: ReachabilityConfig = field(default_factory=ReachabilityConfig)
    client: AutonatClientConfig = field(default_factory=AutonatClientConfig)
    gather: float = 0.1
    """Seconds from something new to thinking about it: peers come in numbers, one thought does for all."""
    look: float = 2.0
    """Seconds between two looks at the addresses of this machine."""
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    max_servers: int = 256
    """Servers that are remembered while they are connected, entry points always."""
    ask_again: float = 600.0
    """Seconds between two times that observers are asked anew behind a NAT: not all tell it by themselves."""
    ask_again_soonest: float = 10.0
    """Seconds between two such times when something hints at a change."""
    observers: int = 3
    """Peers that are asked anew."""
    survey: NatSurveyConfig = field(default_factory=NatSurveyConfig)


class ReachabilityDriver:
    """What is known of our own reachability. Registers `/libp2p/autonat/2/dial-back` when it is made."""

    def __init__(
        self,
        host: Host,
        dialer: Dialer,
        identify: IdentifyService,
        make_probe_host: MakeProbeHost,
        config: ReachabilityDriverConfig,
        rng: random.Random,
    ) -> None:
        self._host = host
        self._dialer = dialer
        self._identify = identify
        self._config = config
        self._observed = ObservedAddresses(config.observed)
        self._kinds = KindMemory(config.kinds)
        self._machine = Reachability(config.machine, rng)
        self._client = AutonatClient(host, config.client, lambda: secrets.randbits(64))
        self._configured = config.announce
        self._mapped: tuple[Multiaddr, ...] = ()
        self._interfaces: frozenset[str] = frozenset()
        self._own: tuple[Multiaddr, ...] = ()
        self._sources: dict[bool, str] = {}
        self._candidates: tuple[Candidate, ...] = ()
        self._known: dict[PeerId, Server] = {}
        self._servers: tuple[Server, ...] = ()
        self._judged_by: tuple[object, ...] = ()
        """What decides, besides what it says itself, whether a peer is a server for us."""
        self._probes = Probes(host, identify, self._client, make_probe_host, config.probes, self._feed)
        self._ask_again_at = host.clock.monotonic() + config.ask_again
        self._asked_again_at = float("-inf")
        self._survey = NatSurvey(host, dialer, self._observed, config.survey)
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._thinking: asyncio.TimerHandle | None = None
        self._seen: tuple[Multiaddr, ...] = ()
        self._public_ips: frozenset[str] = frozenset()
        self._told: tuple[object, ...] = ()
        self._running = False
        self.on_change: list[Callable[[], None]] = []
        """Called when any of the properties says something new."""
        identify.public_ips = self.public_ips
        dialer.neighbour_addresses = identify.neighbour_addresses
        host.listeners.peer_identified.append(self._peer_identified)
        host.listeners.connection_closed.append(self._connection_closed)

    # What is known

    @property
    def nat(self) -> NatKind:
        """The kind of NAT we are behind, the worst of all ways."""
        return self._kinds.summary(self._host.clock.monotonic())

    @property
    def reachability(self) -> Verdict:
        """`public` when any address of ours is, `private` when none is and at least one was judged."""
        return self._machine.verdict

    @property
    def addresses(self) -> tuple[AddressVerdict, ...]:
        """Every address that we may have, with its verdict; without our PeerId."""
        return self._machine.addresses

    def observed(self) -> tuple[Multiaddr, ...]:
        """Our addresses as others see them, whether or not strangers get through; best first.

        Of each way those that enough observers agree on, two at most; else the one that was seen last.
        """
        return self._seen

    def public_ips(self) -> frozenset[str]:
        """Our public IPs that enough observers agree on."""
        return self._public_ips

    @property
    def results(self) -> Counter[tuple[str, str]]:
        """What came of questions (`ask`) and probes (`probe`, `filtering`), by result or reason."""
        return self._machine.results

    @property
    def refused_observations(self) -> Counter[str]:
        """Words of observers that were not believed, by reason."""
        return self._observed.refusals

    @property
    def surveys(self) -> Counter[str]:
        """Dials that only asked where we are seen, by outcome."""
        return self._survey.dials

    @property
    def dialled_back(self) -> Counter[str]:
        """Who came with a nonce: `expected`, or why it did not count."""
        return self._client.dialled_back

    # Life

    def start(self) -> None:
        """Begin, once the listeners are open."""
        self._running = True
        self._look()

    async def close(self) -> None:
        """End what is under way; nothing is left of it."""
        self._running = False
        for timer in (self._timer, self._looking, self._thinking):
            if timer is not None:
                timer.cancel()
        await self._probes.close()
        await self._survey.close()

    def offer_configured(self, addresses: tuple[Multiaddr, ...]) -> None:
        """The user has configured these addresses now, and no others."""
        self._configured = addresses
        self.refresh()

    def offer_mapped(self, addresses: tuple[Multiaddr, ...]) -> None:
        """A router has opened these ports for us, and no others."""
        self._mapped = addresses
        self.refresh()

    def refresh(self) -> None:
        """Think again, soon: the scope, the entry points or the listeners may have changed."""
        if self._running and self._thinking is None:
            self._thinking = asyncio.get_running_loop().call_later(self._config.gather, self._think)

    # What happens

    def _peer_identified(self, connection: Connection) -> None:
        said = connection.identification
        if said is None or not connection.is_established or connection.is_limited:
            return
        if said.observed is not None:
            self._observed.saw(
                Observation(
                    connection.connection_id,
                    connection.peer_id,
                    connection.remote_ip,
                    connection.outbound,
                    connection.local_address,
                    said.observed.without_peer(),
                ),
                self._host.listen_addresses,
                self._host.scope,
                self._host.clock.monotonic(),
            )
        self._look_at_server(connection.peer_id)
        self.refresh()

    def _connection_closed(self, connection: Connection) -> None:
        self._observed.closed(connection.connection_id, self._host.clock.monotonic())
        if connection.peer_id in self._known:
            self._look_at_server(connection.peer_id)
            self.refresh()

    def _look(self) -> None:
        """Have the addresses of this machine changed? Is a survey due?"""
        self._looking = asyncio.get_running_loop().call_later(self._config.look, self._look)
        self._interfaces = frozenset(interface_addresses(ipv6=False) + interface_addresses(ipv6=True))
        self._own = tuple(expand(self._host.listen_addresses))
        moved = False
        for ipv6 in (False, True):
            source = source_address(ipv6)
            if source is not None:
                before = self._sources.get(ipv6)
                # IPv6 addresses within a network come and go, for privacy.
                moved |= before is not None and _network(before) != _network(source)
                self._sources[ipv6] = source
        if moved:
            self._observed.forget_all()
            self._kinds.forget_all()
            self._survey.begin_anew()
            self._candidates = ()
            self._ask_again_at = 0.0
            self._feed(NetworkChanged())
        self._think()
        unsure = [way for way in self._ways() if not self._has_no_nat(way.version)]
        self._survey.run_if_due(unsure, self._servers)
        if moved or (unsure and self._host.clock.monotonic() >= self._ask_again_at):
            self._ask_observers_again()

    def _think(self) -> None:
        """Bring what is known now to the machine, and tell what is new."""
        if self._thinking is not None:
            self._thinking.cancel()
            self._thinking = None
        now, scope = self._host.clock.monotonic(), self._host.scope
        self._observed.expire(now)
        for way in self._observed.ways():
            mappings = self._observed.mappings(way)
            self._kinds.seen(way, kind_by(mappings, self._interfaces, self._host.entry_points), now)
        public_ips = self._observed.public_ips()
        if public_ips and self._public_ips - public_ips:
            self._survey.begin_anew()  # what was seen of the other ways holds no more either
        self._public_ips = public_ips
        self._seen = shown_addresses(self._observed, scope)
        judged_by = (scope, public_ips, frozenset(self._host.entry_points), self._identify.network)
        if judged_by != self._judged_by:
            self._judged_by = judged_by
            for connection in self._host.connections():
                self._look_at_server(connection.peer_id)
        candidates = find_candidates(
            scope,
            configured=self._configured,
            own=self._own,
            mapped=self._mapped,
            observed=self._observed,
            interfaces=self._interfaces,
            kind_of_way=lambda way: self._kinds.of(way, now),
        )
        if candidates != self._candidates:
            self._candidates = candidates
            self._feed(CandidatesChanged(candidates))
        if (servers := tuple(self._known.values())) != self._servers:
            self._servers = servers
            self._feed(ServersChanged(servers))
        self._tell()

    def _tell(self) -> None:
        verdicts = tuple((one.address, one.verdict) for one in self.addresses)
        said = (self.nat, self.reachability, verdicts, self._seen, self._public_ips)
        if said != self._told:
            self._told = said
            for listener in self.on_change:
                listener()

    # Servers

    def _look_at_server(self, peer: PeerId) -> None:
        """Does this peer dial for us, and may we believe it a little?"""
        connection = self._host.connection_to(peer, direct=True)
        server = None if connection is None else self._server_of(connection)
        if server is None:
            self._known.pop(peer, None)
        elif peer in self._known or server.is_preferred or len(self._known) < self._config.max_servers:
            self._known[peer] = server

    def _server_of(self, connection: Connection) -> Server | None:
        said, peer, scope = connection.identification, connection.peer_id, self._host.scope
        if said is None or DIAL_REQUEST_PROTOCOL not in (said.protocols or ()):
            return None
        is_entry_point = peer in self._host.entry_points
        network = self._identify.network
        if network is not None and not is_entry_point and said.network != network:
            return None
        # Who is nearer than the mesh, or behind the same NAT, sees another side of us than everybody else.
        if scope is None or connection.scope is None or connection.scope < scope:
            return None
        ip = connection.remote_address.host
        if ip in self._public_ips and ip not in self._interfaces:
            return None
        known = self._host.peers.addresses(peer)
        ways = frozenset(way for way in self._ways() if probe_target(connection, known, way) is not None)
        is_ours = (said.agent_version or "").startswith("wws/")
        return Server(peer, ip, unwrap(ip).version, is_entry_point, ways, keeps_apart=is_ours)

    def _ways(self) -> list[Way]:
        """How our own sockets could be reached."""
        ways = (way_of(address) for address in self._host.listen_addresses)
        return list(dict.fromkeys(way for way in ways if way is not None))

    def _has_no_nat(self, version: int) -> bool:
        now = self._host.clock.monotonic()
        return any(self._kinds.of(way, now) == "none" for way in self._ways() if way.version == version)

    def _ask_observers_again(self) -> None:
        """A NAT may have given us another address on the connections that live on (QUIC does): hear it."""
        now = self._host.clock.monotonic()
        if not self._servers or now < self._asked_again_at + self._config.ask_again_soonest:
            return
        self._asked_again_at = now
        self._ask_again_at = now + self._config.ask_again * self._host.rng.uniform(0.8, 1.2)
        servers = sorted(self._servers, key=lambda server: not server.is_preferred)
        for server in servers[: self._config.observers]:
            if (connection := self._host.connection_to(server.peer, direct=True)) is not None:
                self._host.spawn(self._identify.ask_again(connection), "ask an observer again")

    # The machine

    def _feed(self, event: Event) -> None:
        if not self._running or not self._config.enabled:
            return
        for command in self._machine.handle(event, self._host.clock.monotonic()):
            self._carry_out(command)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (wakeup := self._machine.next_wakeup()) is not None:
            delay = max(0.0, wakeup - self._host.clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._feed, TimerFired())
        self._tell()

    def _carry_out(self, command: Command) -> None:
        match command:
            case Ask():
                self._host.spawn(self._ask(command), "ask to be dialled")
            case OpenProbe():
                self._probes.open(command)
            case CloseProbe(probe=probe):
                self._probes.end(probe)

    async def _ask(self, ask: Ask) -> None:
        at = self._host if ask.probe is None else self._probes.host_of(ask.probe)
        if at is None:
            self._feed(Answered(ask.ask, None, "probe_closed"))
            return
        reached, reason = await self._client.ask(ask.server, ask.address, at)
        if reached is False and ask.probe is None:
            self._ask_observers_again()  # are we still where we think?
        self._feed(Answered(ask.ask, reached, reason))


def _network(ip: str) -> str:
    """The address itself for IPv4, the /64 for IPv6."""
    address = ip_address(ip)
    return ip if address.version == 4 else str(IPv6Network((int(address) >> 64 << 64, 64)))
