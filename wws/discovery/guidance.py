"""What was tried to find a way in, why it failed, and what the reader may try: facts first, then advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wws.codec.canonical import JsonObject
from wws.discovery.entry_points import Source

_UNREACHABLE = frozenset(
    {"connection_refused", "unreachable", "peer_unreachable", "timeout", "phase_timeout", "connection_lost"}
)
"""Codes of dials that found nobody, as the dialler gives them."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What one source of entry points gave."""

    source: str
    """`bundle`, `seed`, `dnsaddr`, `bootstrap`, `pinned`, `cache`, `mdns`."""
    code: str
    """`ok`, `empty`, `off`, `waiting`, or the code of what went wrong."""
    detail: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """One dial that failed."""

    peer_id: str
    address: str
    source: Source
    code: str


@dataclass(frozen=True, slots=True)
class SearchReport:
    """A round that found no way in."""

    network: str
    sources: tuple[SourceReport, ...]
    attempts: tuple[AttemptReport, ...]
    hints_ignored: int
    """Peers that only a DNS hint names: nobody whom this node trusts vouches for them."""
    local_is_entry_point: bool
    """This node is a way in itself: it may well be the first one up."""
    advice: tuple[str, ...]

    def to_json(self) -> JsonObject:
        """The report for `--json` and RPC."""
        return {
            "network": self.network,
            "sources": [
                {"source": s.source, "code": s.code, "detail": s.detail, "hint": s.hint} for s in self.sources
            ],
            "attempts": [
                {"peer_id": a.peer_id, "addr": a.address, "source": str(a.source), "code": a.code}
                for a in self.attempts
            ],
            "hints_ignored": self.hints_ignored,
            "local_is_entry_point": self.local_is_entry_point,
            "advice": list(self.advice),
        }


def advise(
    sources: Sequence[SourceReport],
    attempts: Sequence[AttemptReport],
    hints_ignored: int,
    *,
    local_is_entry_point: bool = False,
) -> tuple[str, ...]:
    """What to try next, most likely first, without repetition."""
    advice: list[str] = [report.hint for report in sources if report.hint]
    dns = [report.code for report in sources if report.source in ("bundle", "seed", "dnsaddr")]
    if dns and all(code in ("dns_timeout", "dns_network") for code in dns):
        advice.append(
            "no DNS server answers: check this machine's connection, or name one with --dns-server IP"
        )
    if dns and all(code in ("dns_nxdomain", "dns_no_answer", "bundle_missing", "empty") for code in dns):
        advice.append("nothing is published for this network's domain: check its name with its operator")
    codes = {attempt.code for attempt in attempts}
    if "wrong_peer_id" in codes:
        advice.append("a bootstrap node answers with another key: its operator has to publish the new PeerId")
    if codes and codes <= _UNREACHABLE:
        advice.append("no bootstrap node could be reached: check this machine's connection and its firewall")
    if not attempts and hints_ignored:
        advice.append("DNS names peers that no publisher has signed for: they are not dialled")
    if local_is_entry_point:
        advice.append("this node is an entry point itself: others come in through it")
    elif not attempts and not hints_ignored:
        advice.append("no entry point is known: give one with --bootstrap /ip4/…/tcp/9000/p2p/<PeerId>")
    return tuple(dict.fromkeys(advice))
