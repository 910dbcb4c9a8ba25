"""What SIGHUP changes in a running node, and what waits for its next start (contract section 1).

Networks and the limits that peers meet are taken over at once; identity, listeners, local servers and the
bounds of our own work stay as they are, and the names of those that differ are given back so that the log can
say so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from wws.config.loading import all_settings, value_of
from wws.config.records import NodeConfig

RELOADED = frozenset(
    {
        "network.name",
        "network.domain",
        "network.publishers",
        "network.bootstrap_peers",
        "network.auto_discover_bootstrap",
        "network.dns_servers",
        "network.doh_servers",
        "network.announce",
        "network.max_peers",
        "rpc.http_hosts",
        "deny.peers",
        "deny.prefixes",
        "deny.names",
        "deny.file",
        "log.level",
        *(
            f"limits.{name}"
            for name in (
                "accepts_per_s",
                "accepts_per_s_per_prefix",
                "connections_per_prefix",
                "connections_per_peer",
                "prefix_exempt",
                "handshakes",
                "phase_timeout",
                "streams_per_connection",
                "stream_window",
                "connection_window",
                "send_buffer",
                "memory",
                "memory_per_peer",
                "memory_per_prefix",
                "keepalive_interval",
                "keepalive_timeout",
                "streams_per_s",
                "streams_per_s_per_protocol",
                "circuits",
                "relay_reservations",
                "relay_reservations_per_ip",
                "relay_reservations_per_prefix",
                "relay_circuits",
                "relay_circuits_per_peer",
                "relay_circuits_per_prefix",
                "relay_circuit_bytes",
                "relay_circuit_duration",
                "relay_bytes_per_day",
                "dial_backs_per_minute",
                "dial_backs_per_minute_per_peer",
                "dial_backs_per_minute_per_prefix",
                "witness_names",
                "witness_first_claims",
                "witness_names_per_owner_day",
                "witness_names_per_prefix_day",
            )
        ),
    }
)
"""Settings that a running node takes over; those of a connection hold for new connections."""


@dataclass(frozen=True, slots=True)
class Reload:
    """A reload: the settings that hold from now on, what has changed, and what waits for a restart."""

    config: NodeConfig
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def reload_config(running: NodeConfig, fresh: NodeConfig) -> Reload:
    """What of `fresh`, read again from the same places, a node may take over that runs with `running`."""
    differing = [name for name in all_settings() if value_of(running, name) != value_of(fresh, name)]
    changed = tuple(name for name in differing if _is_reloaded(name))
    network = {
        name.partition(".")[2]: value_of(fresh, name) for name in changed if name.startswith("network.")
    }
    limits = {name.partition(".")[2]: value_of(fresh, name) for name in changed if name.startswith("limits.")}
    config = replace(
        running,
        network=replace(running.network, **network),  # type: ignore[arg-type]
        limits=replace(running.limits, **limits),  # type: ignore[arg-type]
        deny=fresh.deny,
        rpc=replace(running.rpc, http_hosts=fresh.rpc.http_hosts),
        log=replace(running.log, level=fresh.log.level),
        sources={**running.sources, **{name: fresh.sources[name] for name in changed}},
        warnings=fresh.warnings,
    )
    return Reload(config, changed, tuple(name for name in differing if name not in changed))


def _is_reloaded(setting: str) -> bool:
    return setting in RELOADED
