"""What NAT services count, in the form of Prometheus: taken from the parts when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from wws.nat.kind import NatKind
from wws.nat.verdict import Verdict
from wws.runtime.nat.services import NatServices

_Labels = TypeVar("_Labels", bound=tuple[str, ...])


class NatMetrics:
    """Adds its series to a registry; `collect` brings those up to date that cannot ask for their values."""

    def __init__(self, registry: CollectorRegistry, nat: NatServices, circuits: Callable[[], int]) -> None:
        """`circuits` says how many of our connections go through relays."""
        self._nat = nat
        self._registry = registry
        self._seen: dict[tuple[str, tuple[str, ...]], int] = {}

        def gauge(name: str, help_text: str, value: Callable[[], float]) -> None:
            Gauge(name, help_text, registry=registry).set_function(value)

        gauge("wws_connections_relayed", "Connections of ours that go through relays.", circuits)
        gauge(
            "wws_relay_client_reservations",
            "Reservations that we hold at relays.",
            lambda: len(nat.relay_client.reservations),
        )
        gauge("wws_hole_punches_under_way", "Hole punches under way.", lambda: nat.puncher.under_way)
        if (server := nat.relay_server) is not None:
            gauge(
                "wws_relay_day_bytes",
                "Bytes carried for others in the day of UTC that runs.",
                lambda: server.bytes_today,
            )
            gauge(
                "wws_relay_day_budget_bytes",
                "Bytes that may be carried in a day; 0: no bound.",
                lambda: server.budget,
            )
        self._verdict = Gauge(
            "wws_nat_reachability", "1 for what this node is to others.", ["verdict"], registry=registry
        )
        self._kind = Gauge(
            "wws_nat_kind", "1 for how the NAT before this node maps ports.", ["kind"], registry=registry
        )
        self._counters = {
            "relayed": self._counter("wws_relay_bytes", "Bytes carried for others.", "direction"),
            "served": self._counter("wws_relay_served", "What others were granted here.", "kind"),
            "ended": self._counter("wws_relay_circuits_ended", "Circuits that have ended here.", "reason"),
            "reserving": self._counter(
                "wws_relay_client_requests", "Our requests to relays, by outcome.", "request", "result"
            ),
            "circuits": self._counter(
                "wws_circuits", "Our connections through relays, by outcome.", "direction", "result"
            ),
            "punches": self._counter(
                "wws_hole_punches", "Hole punches, by outcome.", "role", "transport", "result"
            ),
            "checks": self._counter(
                "wws_autonat_checks", "What we asked AutoNAT servers, by outcome.", "request", "result"
            ),
            "dialled back": self._counter(
                "wws_autonat_dial_backs", "Who dialled us with a nonce: `expected`, or why not.", "result"
            ),
            "surveys": self._counter(
                "wws_nat_surveys", "Dials that only ask where we are seen, by outcome.", "result"
            ),
            "disbelieved": self._counter(
                "wws_nat_observations_refused", "What peers say that they see of us, not believed.", "reason"
            ),
            "autonat": self._counter(
                "wws_autonat_requests", "What AutoNAT clients asked us, by outcome.", "version", "result"
            ),
            "mapping": self._counter("wws_port_mappings", "What the router was asked and did.", "what"),
        }

    def collect(self) -> None:
        """Bring everything up to date."""
        nat = self._nat
        for verdict in get_args(Verdict):
            self._verdict.labels(verdict).set(verdict == nat.reachability.reachability)
        for kind in get_args(NatKind):
            self._kind.labels(kind).set(kind == nat.reachability.nat)
        self._add("reserving", nat.relay_client.outcomes)
        self._add("punches", nat.puncher.outcomes)
        self._add("checks", nat.reachability.results)
        self._add("dialled back", _single(nat.reachability.dialled_back))
        self._add("surveys", _single(nat.reachability.surveys))
        self._add("disbelieved", _single(nat.reachability.refused_observations))
        if nat.circuits is not None:
            self._add("circuits", nat.circuits.outcomes)
        if nat.autonat_server is not None:
            self._add("autonat", nat.autonat_server.requests)
        if nat.port_mapper is not None:
            self._add("mapping", _single(nat.port_mapper.counts))
        if (server := nat.relay_server) is not None:
            self._add("relayed", _single(server.relayed_bytes))
            self._add("served", _single(server.served))
            self._add("ended", _single(server.ended))

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=self._registry)

    def _add(self, name: str, counts: Mapping[_Labels, int]) -> None:
        for labels, count in counts.items():
            new = count - self._seen.get((name, labels), 0)
            if new:
                self._seen[name, labels] = count
                self._counters[name].labels(*labels).inc(new)


def _single(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(label,): count for label, count in counts.items()}
