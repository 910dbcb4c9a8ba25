"""The node: the whole wiring in one place, its start, its life, and its end.

key ─► host (sockets, connections) ─► identify, ping
             │                ├────► NAT: reachability, relays, hole punching ─► what we announce
             │                └────► Kademlia ─► names, peer record ◄─── witnesses
             └── discovery (cache, pinned, DNS, mDNS) ─► joined ─► names are claimed
RPC (unix socket, TCP) and HTTP (health, metrics, status) look at all of it through `NodeFace`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from wws.addresses.multiaddr import Multiaddr
from wws.codec.canonical import JsonObject
from wws.config.records import NodeConfig
from wws.dht.kademlia import Kademlia
from wws.discovery.bundle import Bundle
from wws.discovery.bundle_state import BundleState, StateMalformed
from wws.discovery.peer_cache import PeerCache, PeerCacheMalformed
from wws.discovery.race import Discovery
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.mesh.clock_check import ClockCheck
from wws.names.kinds import NameRecords, PeerRecords, WitnessSets
from wws.runtime.arguments import Preparation
from wws.runtime.clock import Clock
from wws.runtime.connection import Connection
from wws.runtime.dht_driver import DhtDriver
from wws.runtime.dialer import Dialer
from wws.runtime.discovery_driver import DiscoveryDriver, DiscoveryFiles
from wws.runtime.dns_resolve import DnsResolver
from wws.runtime.former_identities import FormerIdentities
from wws.runtime.host import Host
from wws.runtime.identify_service import IdentifyConfig, IdentifyService
from wws.runtime.listening import open_listeners
from wws.runtime.logs import logger
from wws.runtime.mdns import Mdns
from wws.runtime.names_driver import NamesDriver, TooManyNames
from wws.runtime.nat.services import NatServices
from wws.runtime.network_choice import NetworkChoice
from wws.runtime.node_config import (
    deny_list,
    dht_driver_config,
    dialer_config,
    discovery_config,
    dns_config,
    entry_point_config,
    host_config,
    kademlia_config,
    peer_cache_config,
    witness_config,
)
from wws.runtime.own_addresses import expand
from wws.runtime.pin_store import PinStore
from wws.runtime.ping import PingConfig, PingService
from wws.runtime.resolution import NameResolver
from wws.runtime.state_files import NetworkFiles, PortFile, StateFile
from wws.runtime.witness.client import WitnessClient
from wws.runtime.witness.server import WitnessServer
from wws.runtime.witness.store import WitnessStore

WITNESS_ENTRY_BYTES = 700
"""Memory that a name takes at its witness, about."""
WITNESS_WATCH = 60.0
"""Seconds between two looks whether the time of the witnesses before is over."""
_GOODBYE_WITHIN = 1.0
"""Seconds for telling our peers that we leave; who has not heard by then finds out."""


class Node:
    """One node, from its listeners to its names. Made inside a running event loop."""

    def __init__(
        self,
        preparation: Preparation,
        identity: Identity,
        choice: NetworkChoice,
        *,
        clock: Clock,
        rng: random.Random,
        env: Mapping[str, str],
    ) -> None:
        config = preparation.config
        self.preparation = preparation
        self.config = config
        self.identity = identity
        self.choice = choice
        self.clock = clock
        self.env = env
        self.started_at = clock.monotonic()
        self.clock_check = ClockCheck()
        self.warnings: list[str] = [*config.warnings, *choice.warnings]
        self.former = FormerIdentities(preparation.node, preparation.identity, identity.peer_id, env)
        self.is_bootstrap = config.network.bootstrap_mode
        network = choice.network

        self.resolver = DnsResolver(dns_config(config))
        self.host = Host(identity, host_config(config), clock=clock, rng=rng)
        self.host.gate.set_deny(deny_list(config))
        self.dialer = Dialer(self.host, self.resolver.expand, dialer_config(config))
        self.identify = IdentifyService(
            self.host,
            IdentifyConfig(
                agent_suffix=" bootstrap" if self.is_bootstrap else "",
                tell_private=not config.network.relay_only,
            ),
            lambda: self.addresses,
        )
        self.identify.set_network(network.protocol_id)
        self.ping = PingService(self.host, PingConfig(), rng)
        self.addresses: tuple[Multiaddr, ...] = ()
        """What we announce."""
        self.nat = NatServices(
            self.host,
            self.dialer,
            self.identify,
            config,
            network=network.protocol_id,
            relay_state=StateFile(preparation.node.relay),
            on_change=self.refresh_addresses,
        )

        self.name_records = NameRecords(self.witness_sets)
        self.peer_records = PeerRecords()
        self.dht = DhtDriver(
            self.host,
            self.dialer,
            Kademlia(
                identity.peer_id,
                kademlia_config(config),
                rng,
                {kind.prefix: kind for kind in (self.name_records, self.peer_records)},
            ),
            dht_driver_config(config),
            network.protocol_id,
        )
        self.witnesses = WitnessClient(
            self.host,
            self.dialer,
            self.witness_sets,
            lambda peer: self.discovery.machine.entry_points.addresses_of(peer, clock.unix()),
        )
        self.resolution = NameResolver(
            self.host,
            self.dht,
            names=self.name_records,
            peers=self.peer_records,
            pins=PinStore(preparation.home),
            domain=network.domain,
            proofs=StateFile(preparation.node.equivocations),
            is_denied=self.denies_name,
            is_peer_denied=self.denies_peer,
        )
        self.names = NamesDriver(
            self.host,
            self.dht,
            self.witnesses,
            names=self.name_records,
            resolver=self.resolution,
            node=preparation.node,
            rng=rng,
        )
        self.witness = self._make_witness() if self.is_bootstrap and not network.is_ad_hoc else None
        """What we are for the names of others."""
        self.discovery = self._make_discovery(rng)
        self._is_leaving = False
        self.is_draining = False
        self.on_draining: list[Callable[[bool], None]] = []
        """Called when this node begins to drain, or stays after all."""
        self._is_new_here = False
        self._started_names = False
        self._told_witnesses = self.witness_sets()
        self._witness_timer: asyncio.TimerHandle | None = None

        self.host.listeners.peer_identified.append(self._peer_identified)
        self.host.listeners.peer_connected.append(lambda _: self.refresh_addresses())
        self.host.listeners.met_ourselves.append(self.names.met_ourselves)
        self.discovery.on_joined.append(self._joined)
        self.discovery.on_bundle.append(self._bundle_taken)
        self.discovery.is_member = self.dht.is_of_our_network

    async def start(self) -> None:
        """Open the listeners and begin to look for the network. Raises `CannotListen`, `PortTaken`."""
        await self.host.start()
        self.warnings += await open_listeners(self.host, self.config, PortFile(self.preparation.node))
        if self.former.warning is not None:
            logger("node").warning(self.former.warning, code="identity_changed")
        self.former.remember()
        # A node that others are told of must answer them from the first connection on.
        if self.is_bootstrap or self.config.network.announce:
            self.dht.set_mode(True)
        if self.witness is not None:
            await self.witness.start()
        self._watch_witnesses()
        await self.nat.start()
        self.refresh_addresses()
        self.discovery.start()

    async def stop(self) -> None:
        """Leave in good order: nothing is left when this returns."""
        self.host.stop_listening()
        try:
            await self._say_goodbye()
        finally:
            await self._close()

    async def _close(self) -> None:
        await self.discovery.stop()
        self.names.close()
        if self._witness_timer is not None:
            self._witness_timer.cancel()
        if self.witness is not None:
            await self.witness.close()
        await self.resolution.close()
        await self.nat.close()
        await self.dht.close()
        await self.dialer.close()
        await self.host.close()

    async def _say_goodbye(self) -> None:
        """Tell our peers that we serve the DHT no longer. They would name us to others until they notice by
        themselves, and whoever is named somebody who has gone waits for him. A bootstrap node comes back."""
        self._is_leaving = True
        if self.is_bootstrap or not self.dht.set_mode(False):
            return
        # Those first who are in our table: we are in theirs, more likely than in others'.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_WITHIN):
                await self.identify.push_all(lambda one: one.peer_id in self.dht.machine.routing)

    def reload(self, config: NodeConfig) -> None:
        """Take over settings that were read again; a node without a way in looks for one at once."""
        self.config = config
        self.host.reconfigure(host_config(config))
        self.host.gate.set_deny(deny_list(config))
        self.nat.reconfigure(config)
        if self.witness is not None:
            self.witness.reconfigure(witness_config(config))
        self.refresh_addresses()
        self.discovery.retry()

    def drain(self, on: bool) -> None:
        """Get ready to be stopped without anybody noticing, or be as before. A restart ends it.

        Those who are reached through us are told to find other relays, and new ones are sent there. What is
        there goes on: circuits, connections, the DHT, the witness.
        """
        if on == self.is_draining:
            return
        self.is_draining = on
        logger("node").info("draining" if on else "not draining")
        relay = self.nat.relay_server
        if relay is not None and relay.drain(on):
            self.host.spawn(self.identify.push_all(relay.is_holder), "identify push")
        for listener in self.on_draining:
            listener(on)

    def refresh_addresses(self) -> None:
        """Find out what to announce now; whoever has to know is told of a change."""
        addresses = self.nat.announced()
        if addresses == self.addresses or self._is_leaving:
            return
        self.addresses = addresses
        # Who cannot be dialled asks the DHT and serves none of it. A bootstrap node always serves.
        direct = tuple(address for address in addresses if not address.is_circuit)
        mode_changed = self.dht.set_mode(self.is_bootstrap or bool(direct))
        self.dht.set_addresses(direct)
        self.names.set_addresses(addresses)
        logger("node").info(
            "addresses", announced=[str(address.without_peer()) for address in addresses], server=mode_changed
        )
        self.host.spawn(self.identify.push_all(), "identify push")

    def refusals(self) -> Counter[tuple[str, str]]:
        """Everything that was refused, by protocol and reason."""
        refused = Counter(self.host.refusals)
        refused.update({("kad", reason): count for reason, count in self.dht.machine.refusals.items()})
        refused.update({("quic", reason): count for reason, count in self.nat.dropped_datagrams().items()})
        return refused

    def denies_name(self, name_or_key: str) -> bool:
        """Whether the operator's list has the name; the list changes with a reload."""
        return self.host.gate.deny.denies_name(name_or_key)

    def denies_peer(self, peer: PeerId) -> bool:
        """Whether the operator's list has the peer."""
        return self.host.gate.deny.denies_peer(peer)

    def witness_sets(self) -> WitnessSets:
        """The witnesses of names now: W, and W′ for a while after a change (wire.md section 5)."""
        return self.discovery.machine.witnesses(self.clock.unix())

    def is_joined(self) -> bool:
        return self.discovery.view.state == "joined"

    def is_vouched_for(self) -> bool:
        """Whether this node is in its network by an entry point, or is one. Else whoever is connected may be
        of no network at all, for anybody may dial us and say what he likes: such a swarm names nobody."""
        unix_now = self.clock.unix()
        is_one = self.is_bootstrap or self.discovery.machine.entry_points.local_is_one(unix_now)
        return is_one or (self.is_joined() and not self.discovery.view.lan_only)

    def _joined(self) -> None:
        self._is_new_here = True
        self.refresh_addresses()
        self._attend_to_names()

    def _bundle_taken(self, _: Bundle) -> None:
        self.dht.reconsider_peers()
        self.nat.relay_client.reconsider()
        self._watch_witnesses()
        self._attend_to_names()

    def _watch_witnesses(self) -> None:
        """Tell the names when W or W′ is another, by a new bundle or as the time of the set before ends."""
        if (witnesses := self.witness_sets()) != self._told_witnesses:
            self._told_witnesses = witnesses
            self.names.witnesses_changed()
        if self._witness_timer is not None:
            self._witness_timer.cancel()
            self._witness_timer = None
        if witnesses[1]:
            loop = asyncio.get_running_loop()
            self._witness_timer = loop.call_later(WITNESS_WATCH, self._watch_witnesses)

    def _attend_to_names(self) -> None:
        """After a join, once a peer can be asked: claim our names, or go on with what waited for one."""
        if not self._is_new_here or not any(map(self.dht.is_member, self.host.connections())):
            return
        self._is_new_here = False
        self.names.wake()
        if self._started_names:
            return
        self._started_names = True
        self.names.start_peer_record()
        if self.is_bootstrap:
            return
        swarm = self.config.agent.swarm
        wanted = dict.fromkeys(self.names.saved_names())
        if self.config.agent.wws_name is not None:
            wanted[self.config.agent.wws_name, swarm] = None
        for name, in_swarm in wanted:
            try:
                self.names.begin_claim(name, in_swarm)
            except TooManyNames as error:  # of the last run there are as many as fit, and one is asked for
                self.warnings.append(f"wws:{name} is not claimed: {error}. {error.hint}")

    def _peer_identified(self, connection: Connection) -> None:
        self._attend_to_names()
        said = connection.identification
        if said is not None and said.clock is not None:
            self.clock_check.heard(connection.peer_id, said.clock, self.clock.unix())
            if self.clock_check.is_off and "clock_skew" not in self.discovery.view.warnings:
                skew = self.clock_check.skew or 0
                way = "ahead of" if skew > 0 else "behind"
                message = (
                    f"The clock of this machine is {abs(skew):.0f} s {way} those of its peers; "
                    "leases and signatures depend on it. Set it (timedatectl set-ntp true)."
                )
                self.discovery.view.warnings["clock_skew"] = message
                logger("node").warning(message)

    def _make_witness(self) -> WitnessServer:
        witness = WitnessServer(
            self.host,
            self.identity,
            WitnessStore(self.preparation.node.witness),
            self.witness_sets,
            lambda: self.dht.machine.swarm_size(self.clock.monotonic()).count,
            self.choice.network.protocol_id,
            self.denies_name,
            witness_config(self.config),
        )
        self.host.memory.elsewhere["witness"] = lambda: witness.entries * WITNESS_ENTRY_BYTES
        return witness

    def _make_discovery(self, rng: random.Random) -> DiscoveryDriver:
        network, settings = self.choice.network, self.config.network
        hidden = settings.relay_only
        files = NetworkFiles(self.preparation.home)
        cache_file = StateFile(self.preparation.node.peer_cache)
        machine = Discovery(
            self.identity.peer_id,
            network,
            self._read_cache(cache_file),
            rng,
            typed=self.choice.typed,
            bundles=self._read_bundles(files),
            config=discovery_config(self.config),
            entry_point_config=entry_point_config(self.config),
        )
        return DiscoveryDriver(
            self.host,
            self.dialer,
            self.resolver,
            machine,
            DiscoveryFiles(
                lambda value: files.raise_state(network.name, value),
                cache_file.write,
            ),
            ask_dns=self.config.network.auto_discover_bootstrap,
            # mDNS tells everybody around where we are.
            local=self._make_mdns if settings.enable_mdns and not (network.is_ad_hoc or hidden) else None,
        )

    def _make_mdns(self, found: Callable[[PeerId, Sequence[Multiaddr]], None]) -> Mdns:
        return Mdns(self.identity.peer_id, lambda: expand(self.host.listen_addresses), found)

    def _read_cache(self, file: StateFile) -> PeerCache:
        domain, bounds = self.choice.network.domain, peer_cache_config(self.config)
        value = file.read()
        if value is None:
            return PeerCache(domain, config=bounds)
        try:
            return PeerCache.from_json(value, domain, self.clock.unix(), bounds)
        except PeerCacheMalformed as error:
            self.warnings.append(str(error))
            return PeerCache(domain, config=bounds)

    def _read_bundles(self, files: NetworkFiles) -> BundleState | None:
        network = self.choice.network
        if not network.publishers:
            return None
        remembered: JsonObject | None = files.read_state(network.name)
        try:
            return BundleState.of(network, remembered)
        except StateMalformed as error:
            self.warnings.append(f"starting without what was remembered of {network.name}: {error}")
            return BundleState.of(network, None)
