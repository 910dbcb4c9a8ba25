"""From the settings of a node to the records of its layers: the one place where a limit gets its name."""

from __future__ import annotations

from ipaddress import ip_network

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
from wws.mesh.peers import PeerStoreConfig
from wws.runtime.dht_driver import DhtDriverConfig
from wws.runtime.dialer import DialerConfig
from wws.runtime.dns_resolve import DnsConfig
from wws.runtime.host import HostConfig
from wws.transport.connection import ConnectionConfig
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
        max_half_open=limits.handshakes,
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
    return EntryPointConfig(max_lan_peers=config.limits.mdns_peers)


def dns_config(config: NodeConfig) -> DnsConfig:
    """Whom to ask for names. With servers of the user's own choice no other is asked."""
    network, limits = config.network, config.limits
    return DnsConfig(
        servers=network.dns_servers,
        doh_servers=() if network.dns_servers else network.doh_servers,
        timeout=limits.dns_timeout,
        max_records=limits.dns_records,
    )
