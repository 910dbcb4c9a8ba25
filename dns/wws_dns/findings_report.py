"""How `wws-dns verify` says what it found: a table for people, an object for programs, an exit code."""

from __future__ import annotations

from collections.abc import Sequence

from agent_cli import text
from agent_cli.result import Problem, Result
from wws.codec.canonical import JsonObject, JsonValue
from wws.rpc.codes import Exit
from wws.runtime.dns_exchange import server_text
from wws_dns.asking import WAYS
from wws_dns.dialling import WRONG_PEER, Dialled
from wws_dns.findings import SILENT, Report, ServerReport
from wws_dns.plan import bundle_json, day


def result_of(report: Report, dialled: Sequence[Dialled], unix_now: int, *, strict: bool) -> Result:
    """What was found, as the result of a command."""
    problems = [Problem(one.code, one.message, one.hint) for one in report.errors]
    problems += [_dial_problem(one) for one in dialled if not one.is_ok]
    warnings = [finding for finding in report.findings if finding.severity == "warning"]
    if strict:
        problems += [Problem(one.code, one.message, one.hint) for one in warnings]
    data = {**to_json(report), "dials": [_dial_json(one) for one in dialled]}
    if report.bundle is not None:
        data["expires_in_s"] = report.bundle.expires_at - unix_now
    notes = () if strict else tuple(f"warning: {one.message} {one.hint}".rstrip() for one in warnings)
    return Result(
        data,
        _shown(report, dialled, unix_now),
        notes,
        errors=tuple(problems),
        exit_code=_exit_code({problem.code for problem in problems}),
    )


def to_json(report: Report) -> dict[str, object]:
    """The report for programs."""
    findings: list[JsonValue] = [
        {
            "code": one.code,
            "severity": one.severity,
            "server": one.server or None,
            "message": one.message,
            "hint": one.hint,
        }
        for one in report.findings
    ]
    return {
        "domain": report.domain,
        "bundle": None if report.bundle is None else bundle_json(report.bundle),
        "servers": [_server_json(one) for one in report.servers],
        "findings": findings,
    }


def _exit_code(codes: set[str]) -> Exit:
    """8 when something false or ill is served, 4 when nothing is, 5 when somebody could not be asked."""
    if not codes:
        return Exit.DONE
    unreachable = SILENT | {"node_unreachable"}
    if codes <= unreachable:
        return Exit.UNREACHABLE
    if codes <= unreachable | {"bundle_missing"}:
        return Exit.NOT_FOUND
    return Exit.INTEGRITY


def _dial_problem(dialled: Dialled) -> Problem:
    if dialled.code == WRONG_PEER:
        return Problem(
            "wrong_peer",
            f"At {dialled.address} somebody else answers than {dialled.peer_id}.",
            "Does the host run with its own key? If that is lost, publish its new PeerId.",
        )
    return Problem(
        "node_unreachable",
        f"{dialled.peer_id} does not answer at {dialled.address}: {dialled.message}.",
        "Is it up (wws-ops status), and is its port open for TCP and UDP?",
    )


def _shown(report: Report, dialled: Sequence[Dialled], unix_now: int) -> str:
    bundle = report.bundle
    if bundle is None:
        lines = [f"{report.domain}: no bundle."]
    else:
        signed_by = ", ".join(name for name, _ in bundle.signatures)
        left = text.duration(max(0, bundle.expires_at - unix_now))
        what = f"bundle {bundle.seq}, {len(bundle.entries)} entries, signed by {signed_by}"
        lines = [f"{report.domain}: {what}, until {day(bundle.expires_at)} ({left})"]
    if report.servers:
        head = ("server", "role", "verdict", "bundle", "ttl", *WAYS)
        lines += ["", text.table(head, (_row(one) for one in report.servers))]
    if dialled:
        rows = [
            (
                one.peer_id,
                one.address,
                f"{one.seconds * 1_000:.0f} ms" if one.seconds is not None else one.code,
            )
            for one in dialled
        ]
        lines += ["", text.table(("node", "address", "answers"), rows)]
    return "\n".join(lines)


def _row(report: ServerReport) -> tuple[object, ...]:
    sizes = [
        f"{size} cut" if size is not None and way in report.cut else size
        for way, size in ((way, report.sizes.get(way)) for way in WAYS)
    ]
    return (report.server, report.server.role, report.verdict, report.seq, report.ttl, *sizes)


def _server_json(report: ServerReport) -> JsonObject:
    cut: list[JsonValue] = [*sorted(report.cut)]
    return {
        "server": server_text(report.server.address),
        "role": report.server.role,
        "name": report.server.name or None,
        "verdict": report.verdict,
        "seq": report.seq,
        "ttl": report.ttl,
        "sizes": {way: report.sizes.get(way) for way in WAYS},
        "cut": cut,
    }


def _dial_json(dialled: Dialled) -> JsonObject:
    return {
        "peer_id": str(dialled.peer_id),
        "address": str(dialled.address),
        "ok": dialled.is_ok,
        "ms": None if dialled.seconds is None else round(dialled.seconds * 1_000),
        "code": dialled.code or None,
        "message": dialled.message or None,
    }
