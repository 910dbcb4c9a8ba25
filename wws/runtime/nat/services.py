"""Everything about NATs that one node does, put together: its own place, relays, holes, service to others.

    peers' words, dial-backs, the router ──► reachability ──► what is announced
                                                │ not public
                                                ▼
    relays ◄── reservations ── RelayClient      circuits ──► HolePuncher ──► direct connections

A bootstrap node is the other side of all this: it dials back for others, and relays.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from wws.addresses.multiaddr import Multiaddr
from wws.config.records import NodeConfig
from wws.identity.keys import Identity
from wws.runtime.dialer import Dialer
from wws.runtime.host import Host
from wws.runtime.identify_service import IdentifyService
from wws.runtime.logs import logger
from wws.runtime.nat.autonat_server import AutonatServer
from wws.runtime.nat.hole_punching import HolePuncher
from wws.runtime.nat.port_mapping import PortMapper
from wws.runtime.nat.reachability import ReachabilityDriver
from wws.runtime.node_config import (
    autonat_server_config,
    circuits_config,
    hole_puncher_config,
    host_config,
    quic_config,
    reachability_config,
    relay_client_config,
    relay_server_config,
)
from wws.runtime.own_addresses import announced
from wws.runtime.quic_transport import QuicTransport
from wws.runtime.relay.circuits import Circuits
from wws.runtime.relay.client import RelayClient
from wws.runtime.relay.server import RelayServer
from wws.runtime.state_files import StateFile


class NatServices:
    """Made before the host listens, so that no protocol is missing when the first peer asks for it."""

    def __init__(
        self,
        host: Host,
        dialer: Dialer,
        identify: IdentifyService,
        config: NodeConfig,
        *,
        network: str | None,
        relay_state: StateFile,
        on_change: Callable[[], None],
    ) -> None:
        """`network` is the `/wws/net/…` protocol, `relay_state` keeps the relay's budget over restarts;
        `on_change` is called when what is to be announced may have changed."""
        rng = host.rng
        self._host = host
        self._config = config
        self._is_bootstrap = config.network.bootstrap_mode
        self._announced: tuple[Multiaddr, ...] = ()
        self._quic: QuicTransport | None = None
        if config.network.enable_quic:
            host.quic = self._quic = QuicTransport(host, host.identity, quic_config(config))
        self.reachability = ReachabilityDriver(
            host, dialer, identify, self._make_probe_host, reachability_config(config), rng
        )
        self.reachability.on_change += [on_change, self._tell_place]
        self._told: tuple[str, str] | None = None
        self.relay_client = RelayClient(host, dialer, relay_client_config(config), rng, network=network)
        self.relay_client.on_change += [on_change, self._tell_relays]
        self.circuits: Circuits | None = None
        if config.network.enable_relay_client:
            self.circuits = Circuits(
                host,
                dialer,
                circuits_config(config),
                accepts_from=self.relay_client.holds_reservation_at,
            )
        self.puncher = HolePuncher(host, dialer, self.reachability, hole_puncher_config(config), rng)
        self.autonat_server: AutonatServer | None = None
        self.relay_server: RelayServer | None = None
        if self._is_bootstrap:
            if config.network.enable_autonat:
                self.autonat_server = AutonatServer(
                    host,
                    self._make_dial_host,
                    autonat_server_config(config),
                    # Those announced too: a host that is rented may have its public address from a NAT.
                    own_addresses=lambda: (*host.listen_addresses, *self._announced),
                    rng=rng,
                )
            if config.network.enable_relay_server:
                self.relay_server = RelayServer(
                    host, lambda: self._announced, relay_server_config(config), network, relay_state
                )
                self.relay_server.enable(True)  # before anybody can ask and be told that there is no relay
        self.port_mapper: PortMapper | None = None
        if config.network.enable_port_mapping and not self._is_bootstrap and not config.network.relay_only:
            self.port_mapper = PortMapper(
                lambda: host.listen_addresses, lambda: host.scope, clock=host.clock, rng=rng
            )
            self.port_mapper.on_change.append(self._ports_mapped)

    async def start(self) -> None:
        """Begin, once the host listens."""
        self.reachability.start()
        if self.relay_server is not None:
            await self.relay_server.start()
        if self.port_mapper is not None:
            self.port_mapper.start()

    async def close(self) -> None:
        """Give back what routers and relays keep for us, and end everything."""
        if self.autonat_server is not None:
            self.autonat_server.stop()
        if self.relay_server is not None:
            await self.relay_server.close()
        if self.port_mapper is not None:
            await self.port_mapper.close()
        await self.puncher.close()
        await self.relay_client.close()
        await self.reachability.close()

    def reconfigure(self, config: NodeConfig) -> None:
        """Let other limits hold from now on, and other addresses be announced."""
        self._config = config
        self.reachability.offer_configured(reachability_config(config).announce)
        if self.circuits is not None:
            self.circuits.reconfigure(circuits_config(config))
        if self.relay_server is not None:
            self.relay_server.reconfigure(relay_server_config(config))
        if self.autonat_server is not None:
            self.autonat_server.reconfigure(autonat_server_config(config))

    def announced(self) -> tuple[Multiaddr, ...]:
        """What to announce now, by all that is known. Decides as well whether relays are wanted."""
        host, network = self._host, self._config.network
        self._announced = announced(
            host.identity.peer_id,
            host.listen_addresses,
            [Multiaddr.parse(text) for text in network.announce],
            host.scope,
            verdicts=self.reachability.addresses,
            circuits=[address for held in self.relay_client.reservations for address in held.addresses],
            relay_only=network.relay_only,
            is_bootstrap=self._is_bootstrap,
        )
        self._want_relays()
        if self.port_mapper is not None:
            self.port_mapper.refresh()
        return self._announced

    def _tell_place(self) -> None:
        place = (self.reachability.reachability, self.reachability.nat)
        if place != self._told:
            self._told = place
            logger("nat").info("place", reachability=place[0], nat=place[1])

    def _tell_relays(self) -> None:
        held = [str(reservation.relay) for reservation in self.relay_client.reservations]
        logger("nat").info("relays", reserved=held)

    def dropped_datagrams(self) -> Mapping[str, int]:
        """What came over UDP and was not answered, by reason."""
        return self._quic.endpoint.dropped if self._quic is not None else {}

    def _want_relays(self) -> None:
        """Relays are wanted by who has no address for everybody: one of IPv4, for there are peers without
        IPv6, and an operator who says what to announce has said enough."""
        network = self._config.network
        if self._is_bootstrap or self.circuits is None or self._host.scope is None:
            return
        direct = [address for address in self._announced if not address.is_circuit]
        everybody = any(address.host_kind != "ip6" for address in direct)
        self.relay_client.set_wanted(network.relay_only or not (everybody or network.announce))

    def _ports_mapped(self) -> None:
        assert self.port_mapper is not None
        self.reachability.offer_mapped(self.port_mapper.mappings)

    def _make_dial_host(self) -> Host:
        """For one dial-back: no listeners, no port that was ever used towards the peer, no name of ours."""
        return self._side_host(Identity.generate())

    def _make_probe_host(self) -> Host:
        """For a probe of our NAT: ourselves, at a port that nobody knows."""
        return self._side_host(self._host.identity)

    def _side_host(self, identity: Identity) -> Host:
        config = replace(host_config(self._config), max_half_open=16, backlog=16)
        host = Host(identity, config, clock=self._host.clock, rng=random.Random(self._host.rng.random()))
        if self._config.network.enable_quic:
            host.quic = QuicTransport(host, identity, quic_config(self._config))
        return host
