"""What SIGHUP changes in a running node, and what waits for its next start (contract section 1).

Networks and limits are taken over at once; identity, listeners and local servers stay as they are, and the
names of those that differ are given back so that the log can say so.
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
        "log.level",
    }
)
"""Settings outside `[limits]` that a running node takes over; in `[limits]` it takes over all."""


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
    config = replace(
        running,
        network=replace(running.network, **network),  # type: ignore[arg-type]
        limits=fresh.limits,
        rpc=replace(running.rpc, http_hosts=fresh.rpc.http_hosts),
        log=replace(running.log, level=fresh.log.level),
        sources={**running.sources, **{name: fresh.sources[name] for name in changed}},
        warnings=fresh.warnings,
    )
    return Reload(config, changed, tuple(name for name in differing if name not in changed))


def _is_reloaded(setting: str) -> bool:
    return setting in RELOADED or setting.startswith("limits.")
