"""The node's counters in the form of Prometheus: taken from the parts when somebody asks for them."""

from __future__ import annotations

from collections import Counter

from wws.runtime.metrics import Metrics
from wws.runtime.nat.metrics import NatMetrics
from wws.runtime.node import Node
from wws.runtime.witness.metrics import WitnessMetrics


class NodeMetrics:
    """Fills a `Metrics` from a node. The parts count for themselves; here only differences are added."""

    def __init__(self, node: Node) -> None:
        self.metrics = Metrics()
        self._node = node
        self._seen: Counter[tuple[str, ...]] = Counter()
        follow = self.metrics.follow
        follow(self.metrics.connections, lambda: len(node.host.table))
        follow(self.metrics.peers, lambda: node.host.table.peer_count)
        follow(self.metrics.kept_bytes, lambda: node.host.memory.ledger.total)
        follow(self.metrics.kept_bytes_bound, lambda: node.host.memory.ledger.bound)
        follow(self.metrics.bans, lambda: node.host.gate.count)
        follow(self.metrics.draining, lambda: node.is_draining)
        follow(self.metrics.dht_records, lambda: len(node.dht.machine.records))
        follow(self.metrics.dht_providers, lambda: len(node.dht.machine.providers))
        follow(self.metrics.dht_routing_peers, lambda: len(node.dht.machine.routing))
        follow(self.metrics.names_held, lambda: sum(held.is_ours for held in node.names.names))
        if (relay := node.nat.relay_server) is not None:
            follow(self.metrics.relay_reservations, lambda: relay.reservations)
            follow(self.metrics.relay_circuits, lambda: relay.circuits)
        self._nat = NatMetrics(self.metrics.registry, node.nat, lambda: node.host.table.circuits)
        self._witness = None if node.witness is None else WitnessMetrics(self.metrics.registry, node.witness)
        follow(self.metrics.swarm_size, lambda: node.dht.machine.swarm_size(node.clock.monotonic()).count)

    def render(self) -> bytes:
        """The text that Prometheus reads, with everything counted up to now."""
        node, metrics = self._node, self.metrics
        self._nat.collect()
        if self._witness is not None:
            self._witness.collect()
        for (protocol, reason), count in node.refusals().items():
            if new := self._new(("refused", protocol, reason), count):
                metrics.refused(protocol, reason, new)
        for (kind, outcome), count in node.dht.operations.items():
            if new := self._new(("dht", kind, outcome), count):
                metrics.dht_operations.labels(kind, outcome).inc(new)
        for (op, result), count in node.witnesses.answers.items():
            metrics.witnesses_asked.labels(op, result).inc(self._new(("asked", op, result), count))
        suppressed = node.host.gate.refusal_log.suppressed
        metrics.refusal_lines_suppressed.inc(self._new(("suppressed",), suppressed))
        metrics.received_bytes.inc(self._new(("received",), node.host.received_bytes))
        metrics.sent_bytes.inc(self._new(("sent",), node.host.sent_bytes))
        metrics.dials.labels("succeeded").inc(self._new(("dials", "succeeded"), node.dialer.succeeded))
        metrics.dials.labels("failed").inc(self._new(("dials", "failed"), node.dialer.failed))
        for (direction, transport), count in node.host.opened.items():
            metrics.connections_opened.labels(direction, transport).inc(
                self._new(("opened", direction, transport), count)
            )
        for (direction, result), count in node.host.handshakes.items():
            metrics.handshakes.labels(direction, result).inc(
                self._new(("handshakes", direction, result), count)
            )
        bundle = node.discovery.machine.bundle(node.clock.unix())
        if bundle is not None:
            metrics.bundle_expires.set(bundle.expires_at)
            metrics.bundle_seq.set(bundle.seq)
        return metrics.render()

    def _new(self, key: tuple[str, ...], count: int) -> int:
        new = count - self._seen[key]
        self._seen[key] = count
        return new
