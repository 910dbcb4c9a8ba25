"""Counters and gauges of the node, for `/metrics` (contract section 7) and `swarm.get_network_stats`.

Names are `wws_<area>_<what>_<unit>` and do not change. The registry is our own, one a node, so that several
nodes in one process count apart. What is counted on hot paths is bound to its labels once, up front; labels
come from closed sets of ours, never from what peers send, so the number of series is bounded.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from wws import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_REFUSAL_SERIES = 512
"""Most pairs of protocol and reason that are told apart; further ones count as `other`."""


class Metrics:
    """All that one node counts."""

    def __init__(self, *, process: bool = True) -> None:
        """With `process`, CPU, memory and file descriptors of this process are given, too."""
        # A start time for each series would double the answer, and the process has one.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.connections = Gauge("wws_connections", "Connections now open.", registry=registry)
        self.connections_opened = Counter(
            "wws_connections_opened",
            "Connections established; through a relay the transport is `circuit`.",
            ["direction", "transport"],
            registry=registry,
        )
        self.peers = Gauge("wws_peers", "Peers connected, each counted once.", registry=registry)
        self.kept_bytes = Gauge(
            "wws_kept_bytes", "Bytes kept for connections, what idle ones take included.", registry=registry
        )
        self.kept_bytes_bound = Gauge(
            "wws_kept_bytes_bound", "Above this the heaviest connections are closed.", registry=registry
        )
        self.relay_reservations = Gauge(
            "wws_relay_reservations", "Reservations that peers hold with this relay.", registry=registry
        )
        self.draining = Gauge(
            "wws_draining", "1 while the node gives no reservations and sends agents away.", registry=registry
        )
        self.relay_circuits = Gauge("wws_relay_circuits", "Circuits through this relay.", registry=registry)
        self.dht_records = Gauge("wws_dht_records", "Records held.", registry=registry)
        self.dht_providers = Gauge("wws_dht_providers", "Provider entries held.", registry=registry)
        self.dht_routing_peers = Gauge(
            "wws_dht_routing_peers", "Peers in the routing table.", registry=registry
        )
        self.dht_operations = Counter(
            "wws_dht_operations",
            "Look-ups of our own, by outcome.",
            ["operation", "result"],
            registry=registry,
        )
        self.handshakes = Counter(
            "wws_handshakes", "Handshakes, by outcome.", ["direction", "result"], registry=registry
        )
        self.dials = Counter("wws_dials", "Outbound attempts, by outcome.", ["result"], registry=registry)
        self.received_bytes = Counter(
            "wws_transport_received_bytes", "Bytes read from sockets of the mesh.", registry=registry
        )
        self.sent_bytes = Counter(
            "wws_transport_sent_bytes", "Bytes written to sockets of the mesh.", registry=registry
        )
        self.refused_total = Counter(
            "wws_refused",
            "What was refused, by protocol and reason.",
            ["protocol", "reason"],
            registry=registry,
        )
        self.bans = Gauge("wws_bans", "Peers and prefixes that are banned now.", registry=registry)
        self.refusal_lines_suppressed = Counter(
            "wws_refusal_lines_suppressed",
            "Log lines of refusals that were left out, for there were too many.",
            registry=registry,
        )
        self.names_held = Gauge("wws_names_held", "Names that this node holds.", registry=registry)
        self.witnesses_asked = Counter(
            "wws_witnesses_asked",
            "Questions to witnesses about our names: `receipt`, `dropped`, or why there was none.",
            ["op", "result"],
            registry=registry,
        )
        self.swarm_size = Gauge(
            "wws_swarm_size_peers", "Estimated number of peers in the swarm.", registry=registry
        )
        self.bundle_seq = Gauge(
            "wws_discovery_bundle_seq",
            "Number of the signed list of entry points that was accepted last.",
            registry=registry,
        )
        self.bundle_expires = Gauge(
            "wws_discovery_bundle_expires_timestamp_seconds",
            "When the signed list of entry points in force expires.",
            registry=registry,
        )
        info = Gauge("wws_build_info", "The version that runs.", ["version"], registry=registry)
        info.labels(__version__).set(1)
        self._refused: dict[tuple[str, str], Counter] = {}
        self._totals: dict[tuple[str, str], int] = {}
        if process:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)

    def refused(self, protocol: str, reason: str, count: int = 1) -> None:
        """Count a refusal. `protocol` is the part that refused (`tcp`, `kad`, `rpc`, `http`, …)."""
        key = protocol, reason
        counter = self._refused.get(key)
        if counter is None:
            if len(self._refused) >= MAX_REFUSAL_SERIES:
                key = "other", "other"
            counter = self._refused[key] = self.refused_total.labels(*key)
        counter.inc(count)
        self._totals[key] = self._totals.get(key, 0) + count

    def refusals(self) -> dict[tuple[str, str], int]:
        """How often each reason of each protocol has refused something."""
        return dict(self._totals)

    def follow(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Let a gauge without labels ask for its value when it is read, instead of being told each change."""
        gauge.set_function(value)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
