"""Figures for Prometheus, in the file that its node exporter reads (its "textfile" collector).

    wws_dns_bundle_expires_timestamp_seconds{domain="example.org"} 1797592000

An alert on the first of them, 14 days ahead, is in packaging/prometheus/wws-dns.rules.yml. The file is
written whole, also when the run failed: then it says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from wws.discovery.bundle import Bundle
from wws.runtime.whole_files import write_whole

TextfileOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--textfile", metavar="FILE", help="Write figures for Prometheus's node exporter (.prom)."),
]


@dataclass(frozen=True, slots=True)
class Metrics:
    """What one run found out."""

    domain: str
    run: Literal["renew", "verify"]
    unix_now: int
    is_ok: bool
    bundle: Bundle | None
    """What is served, as far as it is known."""
    warnings: int = 0
    errors: int = 0


def write_textfile(path: Path, metrics: Metrics) -> None:
    """Write the figures, readable by all: nothing in them is secret. Raises `MachineError`."""
    write_whole(path, metrics_text(metrics).encode())
    path.chmod(0o644)


def metrics_text(metrics: Metrics) -> str:
    """The figures in Prometheus's text format."""
    run = metrics.run
    lines: list[str] = []

    def gauge(name: str, about: str, value: int, **labels: str) -> None:
        pairs = ",".join(f'{key}="{text}"' for key, text in {"domain": metrics.domain, **labels}.items())
        head = [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
        lines.extend([] if head[0] in lines else head)
        lines.append(f"{name}{{{pairs}}} {value}")

    if metrics.bundle is not None:
        about = "Unix time at which clients stop taking the published bundle."
        gauge("wws_dns_bundle_expires_timestamp_seconds", about, metrics.bundle.expires_at)
        gauge("wws_dns_bundle_seq", "Number of the published bundle.", metrics.bundle.seq)
        gauge("wws_dns_bundle_peers", "Peers of the published bundle.", len(metrics.bundle.peers))
    gauge(f"wws_dns_{run}_timestamp_seconds", f"Unix time of the last {run}.", metrics.unix_now)
    gauge(f"wws_dns_{run}_ok", f"Whether the last {run} found or left all well.", int(metrics.is_ok))
    if run == "verify":
        about = "What the last verify found."
        gauge("wws_dns_verify_findings", about, metrics.errors, severity="error")
        gauge("wws_dns_verify_findings", about, metrics.warnings, severity="warning")
    return "\n".join(lines) + "\n"
