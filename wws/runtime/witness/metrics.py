"""What a witness counts, in the form of Prometheus: taken from it when somebody asks."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge

from wws.names.witness.messages import Op
from wws.runtime.witness.server import WitnessServer


class WitnessMetrics:
    """Adds the series of a witness to a registry; `collect` brings its counters up to date."""

    def __init__(self, registry: CollectorRegistry, witness: WitnessServer) -> None:
        self._witness = witness
        self._seen: Counts[tuple[str, str]] = Counts()
        entries = Gauge(
            "wws_witness_entries", "Names held as a witness, by state.", ["state"], registry=registry
        )
        entries.labels("full").set_function(lambda: witness.entries - witness.provisional)
        entries.labels("provisional").set_function(lambda: witness.provisional)
        Gauge("wws_witness_log_rows", "Receipts in the log.", registry=registry).set_function(
            lambda: witness.log_rows
        )
        Gauge(
            "wws_witness_writable", "1 while what is to be promised can be written down.", registry=registry
        ).set_function(lambda: witness.is_writable)
        Gauge(
            "wws_witness_no_first_claims_until_timestamp_seconds",
            "Until when no first claims are made, because promises were lost; 0: they are made.",
            registry=registry,
        ).set_function(lambda: witness.no_first_claims_until)
        self._receipts = Counter(
            "wws_witness_receipts", "Receipts given, by operation.", ["op"], registry=registry
        )
        self._failures = Counter(
            "wws_witness_failures",
            "Batches of promises that could not be written, by error.",
            ["error"],
            registry=registry,
        )
        for op in Op:
            self._receipts.labels(op.value)

    def collect(self) -> None:
        """Count what has happened since the last time."""
        for op, count in self._witness.receipts.items():
            self._receipts.labels(op).inc(self._new("op", op, count))
        for error, count in self._witness.failures.items():
            self._failures.labels(error).inc(self._new("error", error, count))

    def _new(self, kind: str, label: str, count: int) -> int:
        new = count - self._seen[kind, label]
        self._seen[kind, label] = count
        return new
