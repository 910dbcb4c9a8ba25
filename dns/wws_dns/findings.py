"""What looking at the published records comes to: who was asked, what is wrong, and with whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from wws.discovery.bundle import Bundle
from wws.runtime.dns_exchange import server_text
from wws_dns.asking import AskingConfig, Way
from wws_dns.desired import DEFAULT_TTL

Role: TypeAlias = Literal["authority", "resolver"]
Severity: TypeAlias = Literal["error", "warning"]

SILENT = frozenset({"server_silent", "server_refuses", "no_authority"})
"""Errors that say nothing about the records: somebody could not be asked."""


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """What counts as wrong, and the bounds of looking."""

    warn_days: int = 14
    """Days before its end at which a bundle is warned of."""
    max_ttl: int = DEFAULT_TTL
    """Seconds above which a time to live is warned of: so long a change takes to arrive."""
    clock_slack: int = 300
    """How far a bundle's begin may be ahead of the clock, in seconds."""
    grace: int = 60
    """Seconds beyond its time to live for which an old answer may still be somewhere."""
    max_hosts: int = 16
    """Most host names of a bundle whose addresses are compared."""
    asking: AskingConfig = field(default_factory=AskingConfig)


@dataclass(frozen=True, slots=True)
class Server:
    """Whom to ask."""

    address: tuple[str, int]
    role: Role
    name: str = ""
    """Of a name server, where it is known."""

    def __str__(self) -> str:
        return server_text(self.address) + (f" ({self.name})" if self.name else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    code: str
    severity: Severity
    message: str
    hint: str = ""
    server: str = ""
    """Whose doing it is; empty: the records themselves are meant."""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """What one server serves."""

    server: Server
    verdict: str
    """`ok`, or the code of the gravest finding about it."""
    seq: int | None
    """Of the bundle there that a client would take."""
    ttl: int | None
    sizes: Mapping[Way, int | None]
    """Way → bytes of the answer with the bundle; `None`: no answer."""
    cut: frozenset[Way]
    """The ways in which it was cut short."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    domain: str
    bundle: Bundle | None
    """What should be served."""
    servers: tuple[ServerReport, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")
