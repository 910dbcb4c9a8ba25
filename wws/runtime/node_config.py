"""From the settings of a node to the records of its layers: the one place where a limit gets its name."""

from __future__ import annotations

from ipaddress import ip_network

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.config.records import NodeConfig
from wws.dht.kademlia import KademliaConfig
from wws.dht.routing import RoutingConfig
from wws.dht.store import StoreConfig
from wws.dht.upkeep import UpkeepConfig
from wws.discovery.dials import DialConfig
from wws.discovery.entry_points import EntryPointConfig
from wws.discovery.peer_cache import PeerCacheConfig
from wws.discovery.questions import QuestionConfig
from wws.discovery.race import DiscoveryConfig
from wws.mesh.admission import AdmissionConfig
from wws.mesh.connections import ConnectionTableConfig
from wws.mesh.deny import DenyList
from wws.mesh.memory import MemoryConfig
from wws.mesh.peers import PeerStoreConfig
from wws.mesh.rates import Share
from wws.names.record import name_key
from wws.names.witness.book import BookConfig
from wws.names.witness.budget import BudgetConfig
from wws.nat.dial_back_rules import DialBackConfig
from wws.nat.punch_budget import PunchBudgetConfig
from wws.relay.circuit_table import CircuitConfig
from wws.relay.reservations import ReservationConfig
from wws.relay.selection import SelectionConfig
from wws.relay.server import RelayConfig
from wws.runtime.dht_driver import PROTOCOL as KAD
from wws.runtime.dht_driver import DhtDriverConfig
from wws.runtime.dialer import DialerConfig
from wws.runtime.dns_resolve import DnsConfig
from wws.runtime.handlers import RATES, HandlersConfig
from wws.runtime.host import HostConfig
from wws.runtime.nat.autonat_server import AutonatServerConfig
from wws.runtime.nat.hole_punching import HolePuncherConfig
from wws.runtime.nat.reachability import ReachabilityDriverConfig
from wws.runtime.quic_transport import QuicTransportConfig
from wws.runtime.relay.circuits import CircuitsConfig
from wws.runtime.relay.client import RelayClientConfig
from wws.runtime.relay.server import RelayServerConfig
from wws.runtime.witness.server import WitnessServerConfig
from wws.transport.connection import ConnectionConfig
from wws.transport.quic.config import EndpointConfig, QuicConfig
from wws.transport.yamux_limits import YamuxConfig


def host_config(config: NodeConfig) -> HostConfig:
    """Connections: admission, the table, streams."""
    limits, network = config.limits, config.network
    return HostConfig(
        admission=AdmissionConfig(
            max_connections=network.max_peers + limits.handshakes,
            max_per_prefix=limits.connections_per_prefix,
            accepts_per_second=limits.accepts_per_s,
            accepts_per_second_prefix=limits.accepts_per_s_per_prefix,
            prefix_exempt=tuple(ip_network(text) for text in limits.prefix_exempt),
        ),
        table=ConnectionTableConfig(
            max_per_peer=limits.connections_per_peer,
            high_water=network.max_peers,
            low_water=max(1, network.max_peers * 7 // 8),
        ),
        peers=PeerStoreConfig(max_peers=limits.known_peers, max_addresses=limits.addresses_per_peer),
        connection=ConnectionConfig(
            yamux=YamuxConfig(
                max_inbound_streams=limits.streams_per_connection,
                max_window=limits.stream_window,
                max_growth=limits.connection_window,
                max_unread=limits.connection_window,
                max_buffered=limits.send_buffer,
                keep_alive_interval=limits.keepalive_interval,
                ping_timeout=limits.keepalive_timeout,
            ),
            handshake_timeout=limits.phase_timeout,
        ),
        phase_timeout=limits.phase_timeout,
        handlers=HandlersConfig(
            negotiation_timeout=limits.phase_timeout,
            all_streams=Share(limits.streams_per_s, 4 * limits.streams_per_s, prefix_share=4),
            rate=Share(limits.streams_per_s_per_protocol, 10 * limits.streams_per_s_per_protocol),
            # Requests wait for their turn; that many streams nobody needs who asks and waits.
            rates={
                **RATES,
                KAD: Share(2 * limits.dht_requests_per_s, 512 + limits.dht_requests_per_s, prefix_share=4),
            },
        ),
        max_half_open=limits.handshakes,
        max_circuits=limits.circuits,
        memory=MemoryConfig(
            total=limits.memory, per_peer=limits.memory_per_peer, per_group=limits.memory_per_prefix
        ),
    )


def deny_list(config: NodeConfig) -> DenyList:
    """With whom this node deals in no case."""
    deny = config.deny
    return DenyList.parse(deny.peers, deny.prefixes, deny.names, name_key)


def quic_config(config: NodeConfig) -> QuicTransportConfig:
    """QUIC: its connections and its sockets."""
    limits = config.limits
    return QuicTransportConfig(
        connection=QuicConfig(
            handshake_timeout=limits.phase_timeout, max_inbound_streams=limits.streams_per_connection
        ),
        endpoint=EndpointConfig(max_half_open=limits.quic_handshakes),
    )


def reachability_config(config: NodeConfig) -> ReachabilityDriverConfig:
    """How we find out how others reach us."""
    return ReachabilityDriverConfig(
        # Who hides is told nothing by servers that try addresses of his, and tells them none.
        enabled=config.network.enable_autonat and not config.network.relay_only,
        announce=tuple(Multiaddr.parse(text) for text in config.network.announce),
    )


def relay_server_config(config: NodeConfig) -> RelayServerConfig:
    """What we do as a relay for others."""
    limits = config.limits
    return RelayServerConfig(
        relay=RelayConfig(
            reservations=ReservationConfig(
                max_reservations=limits.relay_reservations,
                max_per_ip=limits.relay_reservations_per_ip,
                max_per_prefix=limits.relay_reservations_per_prefix,
            ),
            circuits=CircuitConfig(
                max_circuits=limits.relay_circuits,
                max_per_source=limits.relay_circuits_per_peer,
                max_per_destination=2 * limits.relay_circuits_per_peer,
                max_per_prefix=limits.relay_circuits_per_prefix,
                max_bytes=limits.relay_circuit_bytes,
                max_duration=limits.relay_circuit_duration,
            ),
            bytes_per_day=limits.relay_bytes_per_day,
        )
    )


def relay_client_config(config: NodeConfig) -> RelayClientConfig:
    """How we find relays for ourselves."""
    return RelayClientConfig(selection=SelectionConfig(probe_interval=config.limits.relay_probe_interval))


def witness_config(config: NodeConfig) -> WitnessServerConfig:
    """What we hold as a witness of names."""
    limits = config.limits
    return WitnessServerConfig(
        book=BookConfig(
            max_entries=limits.witness_names,
            max_provisional=limits.witness_first_claims,
            budget=BudgetConfig(
                names_per_owner=limits.witness_names_per_owner_day,
                names_per_prefix=limits.witness_names_per_prefix_day,
            ),
        )
    )


def circuits_config(config: NodeConfig) -> CircuitsConfig:
    """Connections of ours through relays: half of them in each direction."""
    each = max(1, config.limits.circuits // 2)
    return CircuitsConfig(max_inbound=each, max_inbound_per_relay=max(1, each * 3 // 4), max_outbound=each)


def autonat_server_config(config: NodeConfig) -> AutonatServerConfig:
    """Dialling others back, for them to know whether they can be reached."""
    limits = config.limits
    return AutonatServerConfig(
        rules=DialBackConfig(
            requests_per_minute_peer=limits.dial_backs_per_minute_per_peer,
            requests_per_minute_prefix=limits.dial_backs_per_minute_per_prefix,
            requests_per_minute=limits.dial_backs_per_minute,
        )
    )


def hole_puncher_config(config: NodeConfig) -> HolePuncherConfig:
    """From relayed to direct connections."""
    return HolePuncherConfig(
        enabled=config.network.enable_dcutr,
        relay_only=config.network.relay_only,
        budget=PunchBudgetConfig(max_concurrent=config.limits.hole_punches),
    )


def dialer_config(config: NodeConfig) -> DialerConfig:
    return DialerConfig(timeout=config.limits.dial_timeout, max_concurrent=config.limits.dials)


def kademlia_config(config: NodeConfig) -> KademliaConfig:
    """The DHT: what is kept for others, and how long a query may take."""
    limits = config.limits
    max_peers = config.network.max_peers
    return KademliaConfig(
        # Fewer than are connected at most, so that trimming always finds peers that nothing protects.
        routing=RoutingConfig(max_peers=min(1_024, max_peers * 3 // 4)),
        upkeep=UpkeepConfig(wanted_peers=min(160, max_peers * 5 // 8)),
        store=StoreConfig(
            max_records=limits.dht_records,
            max_bytes=limits.dht_record_bytes,
            max_per_publisher=limits.dht_records_per_publisher,
            max_provided_keys=limits.dht_provider_keys,
            max_providers=limits.dht_providers_per_key,
            max_keys_per_provider=limits.dht_provider_keys_per_peer,
        ),
        query_timeout=limits.dht_query_timeout,
        max_operations=limits.dht_operations,
    )


def dht_driver_config(config: NodeConfig) -> DhtDriverConfig:
    return DhtDriverConfig(max_requests_per_second=config.limits.dht_requests_per_s)


def discovery_config(config: NodeConfig) -> DiscoveryConfig:
    """The times of the search for a way in."""
    limits = config.limits
    return DiscoveryConfig(
        dials=DialConfig(timeout=limits.join_peer_timeout),
        questions=QuestionConfig(timeout=limits.dns_timeout),
        first_retry=limits.retry_first,
        longest_retry=limits.retry_longest,
    )


def peer_cache_config(config: NodeConfig) -> PeerCacheConfig:
    return PeerCacheConfig(max_peers=config.limits.cached_peers)


def entry_point_config(config: NodeConfig) -> EntryPointConfig:
    spoken: list[Transport] = ["tcp"] if config.network.enable_tcp else []
    if config.network.enable_quic:
        spoken.append("quic-v1")
    return EntryPointConfig(max_lan_peers=config.limits.mdns_peers, transports=frozenset(spoken))


def dns_config(config: NodeConfig) -> DnsConfig:
    """Whom to ask for names. With servers of the user's own choice no other is asked."""
    network, limits = config.network, config.limits
    return DnsConfig(
        servers=network.dns_servers,
        doh_servers=() if network.dns_servers else network.doh_servers,
        timeout=limits.dns_timeout,
        max_records=limits.dns_records,
    )
