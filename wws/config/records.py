"""The settings of a node: every member of `config.toml`, its kind, its default and what it is for.

The records are frozen. They are filled by `wws.config.loading`; the layers never see them, the runtime hands
each layer the record of its own that it makes from these. `BOOTSTRAP_DEFAULTS` are the defaults that a
bootstrap node has instead (contract sections 4 and 8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wws.config.kinds import (
    Addresses,
    Count,
    DeniedNames,
    DeniedPeers,
    DeniedPrefixes,
    DnsServers,
    Domain,
    Endpoint,
    MeshName,
    Number,
    Prefixes,
    Publishers,
    Rate,
    Seconds,
    Size,
    Texts,
    Urls,
)

DEFAULT_PORT = 9000
"""Port of the mesh on a bootstrap node and in a container, TCP and UDP (contract section 8)."""
DEFAULT_RPC = "127.0.0.1:9370"
DEFAULT_HTTP = "127.0.0.1:9371"


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """`[identity]`"""

    path: str | None = None
    """The key file. The environment beats the flag here (contract section 3)."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """`[network]`"""

    name: str | None = None
    """Name of a saved network, or of the one that `domain` and `publishers` describe."""
    domain: Domain | None = None
    """Domain under which the network's records are published."""
    publishers: Publishers = ()
    """Public keys that may sign the list of entry points."""
    bootstrap_peers: Texts = ()
    """Pinned entry points. A malformed one is skipped with a warning and never stops the start."""
    listen: Addresses = ()
    """Where to listen; empty: every interface, at the port kept from the first start."""
    announce: Addresses = ()
    """Addresses to announce instead of those found out."""
    enable_tcp: bool = True
    enable_quic: bool = True
    enable_mdns: bool = True
    enable_relay_client: bool = True
    enable_relay_server: bool = True
    enable_autonat: bool = True
    enable_dcutr: bool = True
    enable_port_mapping: bool = True
    """Ask the router to open our port (PCP, NAT-PMP, UPnP) when we are behind one."""
    relay_only: bool = False
    """Announce relayed addresses only: records then do not show where the node is."""
    auto_discover_bootstrap: bool = True
    """Look entry points up in DNS."""
    bootstrap_mode: bool = False
    """Serve as a bootstrap, relay and witness node, and never take part as an agent."""
    max_peers: Count = 256
    """Connections in total (10,000 in bootstrap mode)."""
    dns_servers: DnsServers = ()
    """`IP[:PORT]` of the servers to ask; empty: the system's."""
    doh_servers: Urls = ()
    """Servers for DNS over HTTPS when the others fail; not used when `dns_servers` is set."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`[agent]`"""

    wws_name: MeshName | None = None
    """Name to claim and keep."""
    swarm: MeshName = "public"


@dataclass(frozen=True, slots=True)
class RpcSettings:
    """`[rpc]`"""

    socket: str | None = None
    """Path of the unix socket; default: in the node's run folder."""
    tcp: Endpoint = DEFAULT_RPC
    """`IP:PORT` of the RPC server on TCP; empty: off."""
    http: Endpoint = DEFAULT_HTTP
    """`IP:PORT` of health, metrics and status page; empty: off."""
    http_hosts: Texts = ()
    """Values of the `Host` header to accept beside the names of the loopback."""


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """`[limits]`: every bound of the node."""

    # Connections
    accepts_per_s: Rate = 100.0
    """Inbound connections accepted a second (1,000 in bootstrap mode); over it they are reset at once."""
    accepts_per_s_per_prefix: Rate = 10.0
    """The same from one IPv4 /24 or IPv6 /56; a tenth of `accepts_per_s` unless set."""
    connections_per_prefix: Count = 32
    """Connections with one IPv4 /24 or IPv6 /56 (512 in bootstrap mode)."""
    connections_per_peer: Count = 4
    prefix_exempt: Prefixes = (
        "127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10",
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7",
    )  # fmt: skip
    """Networks to which no limit by prefix applies: loopback, link and private ones."""
    handshakes: Count = 256
    """Inbound connections that are still negotiating, in total (2,048 in bootstrap mode)."""
    phase_timeout: Seconds = 10.0
    """Longest phase of a handshake: a silent socket is gone by then."""
    dials: Count = 64
    """Outbound attempts at a time."""
    dial_timeout: Seconds = 10.0
    keepalive_interval: Seconds = 30.0
    """Silence on a connection after which it is pinged."""
    keepalive_timeout: Seconds = 10.0
    """Wait for the answer to that ping, after which the connection is given up."""
    streams_per_connection: Count = 512
    stream_window: Size = 16 * 1024 * 1024
    """Bytes that a stream may have in flight towards us, once its window has grown."""
    connection_window: Size = 16 * 1024 * 1024
    """By how much all windows of a connection may have grown together."""
    send_buffer: Size = 1024 * 1024
    """Bytes that wait to be sent on one connection before writers are made to wait."""
    memory: Size = 320 * 1024 * 1024
    """Bytes kept of what peers bring (448 MiB in bootstrap mode): for connections what records, providers and
    addresses leave of it, a quarter at least; over it the heaviest connections are closed."""
    memory_per_peer: Size = 32 * 1024 * 1024
    """Of these for one peer (16 MiB in bootstrap mode)."""
    memory_per_prefix: Size = 64 * 1024 * 1024
    """Of these for one IPv4 /24 or IPv6 /56, and for all circuits through one relay."""
    known_peers: Count = 4096
    addresses_per_peer: Count = 16
    cached_peers: Count = 500
    """Peers that worked, remembered over restarts."""
    dht_requests_per_s: Rate = 100.0
    """Requests of one peer a second; over it the peer is made to wait."""
    streams_per_s: Rate = 500.0
    """Streams that one peer may open in a second, of all protocols together; over it they are reset."""
    streams_per_s_per_protocol: Rate = 20.0
    """The same of one protocol that has no rate of its own; ten times as many at once."""

    # QUIC
    quic_handshakes: Count = 256
    """QUIC handshakes under way, in total (2,048 in bootstrap mode); with many of them the address of who
    begins a further one is validated first (Retry)."""

    # Relays
    circuits: Count = 256
    """Connections of ours through relays."""
    relay_reservations: Count = 2_048
    """As a relay: peers that hold a reservation."""
    relay_reservations_per_ip: Count = 32
    relay_reservations_per_prefix: Count = 128
    """From one IPv4 /24 or IPv6 /56."""
    relay_circuits: Count = 1_024
    """As a relay: circuits at a time."""
    relay_circuits_per_peer: Count = 32
    """Circuits that one peer has asked for; twice as many may lead to one peer."""
    relay_circuits_per_prefix: Count = 128
    relay_circuit_bytes: Size = 2 * 1024 * 1024
    """Bytes of one circuit, in each direction."""
    relay_circuit_duration: Seconds = 600.0
    relay_bytes_per_day: Number = 32 * 1024**3
    """Bytes carried for others in a day of UTC, all together; 0: no bound."""
    relay_probe_interval: Seconds = 1.5
    """Silence after which a relay that we depend on is asked whether it is still there."""

    # NAT
    dial_backs_per_minute: Count = 600
    """As an AutoNAT server: requests in a minute."""
    dial_backs_per_minute_per_peer: Count = 30
    dial_backs_per_minute_per_prefix: Count = 120
    hole_punches: Count = 16
    """Hole punches at a time."""

    # DHT
    dht_records: Count = 65_536
    """Records held for others."""
    dht_records_per_publisher: Count = 256
    dht_record_bytes: Size = 64 * 1024 * 1024
    """Bytes of all records held."""
    dht_provider_keys: Count = 16_384
    dht_providers_per_key: Count = 20
    dht_provider_keys_per_peer: Count = 256
    dht_operations: Count = 256
    """Look-ups of our own at a time; more wait."""
    dht_query_timeout: Seconds = 10.0

    # Witnesses of names
    witness_names: Count = 50_000
    """As a witness: names held, first claims included. When there are that many, new ones are refused."""
    witness_first_claims: Count = 5_000
    """First claims among them."""
    witness_names_per_owner_day: Count = 5
    """New names of one owner in a day."""
    witness_names_per_prefix_day: Count = 20
    """New names in a day of all owners of one IPv4 /24 or IPv6 /56."""

    # Discovery
    dns_timeout: Seconds = 5.0
    dns_records: Count = 1_000
    """Records of one answer that are looked at."""
    mdns_peers: Count = 64
    join_peer_timeout: Seconds = 10.0
    """Time that one entry point gets at the join."""
    retry_first: Seconds = 60.0
    """Wait before the next try when no way in was found; doubles with jitter."""
    retry_longest: Seconds = 900.0

    # Local interfaces
    rpc_clients: Count = 256
    rpc_line: Size = 2 * 1024 * 1024
    rpc_batch: Count = 100
    rpc_depth: Count = 64
    """Nesting of one JSON value."""
    rpc_idle_timeout: Seconds = 600.0
    rpc_pending: Count = 16
    """Requests of one client being worked on at a time."""
    http_clients: Count = 64
    http_request: Size = 8192
    """Bytes of an HTTP request's head."""
    http_timeout: Seconds = 10.0

    drain_timeout: Seconds = 2.0
    """Time that calls under way get after SIGTERM."""


@dataclass(frozen=True, slots=True)
class DenySettings:
    """`[deny]`: with whom this node deals in no case. What `file` lists is among the others once read."""

    peers: DeniedPeers = ()
    """PeerIds: neither dialled nor let in."""
    prefixes: DeniedPrefixes = ()
    """Networks or addresses: neither dialled nor let in."""
    names: DeniedNames = ()
    """Names, `name` or `name@swarm`: neither stored nor served, witnessed or resolved."""
    file: str | None = None
    """Path of a file with one entry a line, relative to the folder of `config.toml`."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`[log]`"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    file_bytes: Size = 5 * 1024 * 1024
    """Size at which the log file is rotated."""
    files: Number = 3
    """Rotated files kept beside the current one."""


SECTIONS: Mapping[str, type] = {
    "identity": IdentitySettings,
    "network": NetworkSettings,
    "agent": AgentSettings,
    "rpc": RpcSettings,
    "limits": LimitSettings,
    "deny": DenySettings,
    "log": LogSettings,
}

BOOTSTRAP_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "network": {
        "listen": (
            f"/ip4/0.0.0.0/tcp/{DEFAULT_PORT}",
            f"/ip4/0.0.0.0/udp/{DEFAULT_PORT}/quic-v1",
            f"/ip6/::/tcp/{DEFAULT_PORT}",
            f"/ip6/::/udp/{DEFAULT_PORT}/quic-v1",
        ),
        "max_peers": 10_000,
    },
    "limits": {
        "accepts_per_s": 1000.0,
        "connections_per_prefix": 512,
        "handshakes": 2048,
        "quic_handshakes": 2048,
        "dht_records": 131_072,
        "known_peers": 32_768,
        "memory": 448 * 1024 * 1024,
        "memory_per_peer": 16 * 1024 * 1024,
        "stream_window": 4 * 1024 * 1024,
        "connection_window": 8 * 1024 * 1024,
    },
}
"""Defaults of a bootstrap node where they differ."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All settings of one node, and where each came from."""

    identity: IdentitySettings = field(default_factory=IdentitySettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    rpc: RpcSettings = field(default_factory=RpcSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    deny: DenySettings = field(default_factory=DenySettings)
    log: LogSettings = field(default_factory=LogSettings)
    name: str | None = None
    """`--name` or `$WWS_AGENT_NAME`: chooses the key file, and calls the node unless `--node` does."""
    file: Path | None = None
    """The configuration file that was read, if there was one."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each setting came from, by its dotted name: `flag --listen`, `environment WWS_…`,
    `<file>:<line>`, `default`."""
    warnings: tuple[str, ...] = ()
    """What to tell the user once logging works, such as unknown variables."""

    def is_explicit(self, setting: str) -> bool:
        """Whether someone chose the value of `setting` (dotted, as `rpc.tcp`); defaults are not chosen."""
        return not self.sources.get(setting, "default").startswith("default")
