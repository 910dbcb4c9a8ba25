"""Judges what servers say about a domain: see `wws_dns.verify`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from wws.discovery.bundle import (
    MAX_ANSWER,
    PREFIX,
    WARN_ANSWER,
    Bundle,
    BundleEquivocation,
    BundleError,
    NoBundle,
)
from wws.discovery.bundle_state import BundleState
from wws.discovery.publishers import PublisherKey, host_kind
from wws.discovery.txt import bundle_name, dnsaddr_name, parse_dnsaddr, parse_seed, seed_name
from wws.errors import ParseError
from wws.runtime.dns_exchange import server_text
from wws_dns.asking import WAYS, Answer, Question, Way
from wws_dns.findings import Finding, Report, Server, ServerReport, Severity, VerifyConfig


class Judge:
    """Turns answers into findings. Pure: it asks nobody anything."""

    def __init__(
        self,
        domain: str,
        keys: Collection[PublisherKey],
        unix_now: int,
        config: VerifyConfig,
        former: Collection[str] = (),
        published_at: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.domain = domain
        self.reference: Bundle | None = None
        """The newest bundle that a name server has and a client would take; or, with none, the newest."""
        self._keys = tuple(keys)
        self._now = unix_now
        self._config = config
        self._former = frozenset(former)
        self._published_at = published_at
        self._answers: dict[tuple[tuple[str, int], str, str], list[Answer]] = {}
        self._findings: list[Finding] = []
        self._truth: dict[tuple[str, str], tuple[str, ...]] = {}
        """Name and kind → what the name server serves there that has the reference."""
        self._ttl = 0

    def add_answers(self, answers: Mapping[Question, Answer]) -> None:
        for question, answer in answers.items():
            self._answers.setdefault((question.server, question.name, question.kind), []).append(answer)

    def find_reference(self, authorities: Iterable[Server]) -> None:
        """Choose what should be served, from what the name servers have."""
        best: tuple[bool, int] | None = None
        for server in authorities:
            bundle, error = self._taken(self._values(server, bundle_name(self.domain)))
            if bundle is None:
                continue
            rank = (error is None, bundle.seq)
            if best is None or rank > best:
                best, self.reference = rank, bundle
                self._ttl = max(
                    (answer.ttl for answer in self._of(server, bundle_name(self.domain))), default=0
                )
                self._truth = {
                    (name, "TXT"): self._values(server, name)
                    for name in (bundle_name(self.domain), seed_name(self.domain), dnsaddr_name(self.domain))
                }

    def report(self, servers: Sequence[Server]) -> Report:
        """Everything that is wrong, with the records first and then server by server."""
        authorities = [server for server in servers if server.role == "authority"]
        self._learn_addresses(authorities)
        self._judge_records(authorities)
        reports = [self._judge_server(server) for server in servers]
        return Report(self.domain, self.reference, tuple(reports), tuple(self._findings))

    # The records themselves

    def _judge_records(self, authorities: Sequence[Server]) -> None:
        if not authorities:
            self._error("no_authority", f"No name server of {self.domain} is known.", hint=_SAY_AUTHORITY)
            return
        bundle = self.reference
        if bundle is None:
            if any(self._is_there(server) for server in authorities):
                self._error(
                    "bundle_missing",
                    f"No name server has a bundle of {self.domain}.",
                    hint="Publish one: wws-dns publish",
                )
            return
        _, error = self._taken((bundle.text,))
        if error is not None:
            self._error(error.code, f"Clients refuse the published bundle: {error}", hint=_mend(error))
        left = bundle.expires_at - self._now
        if error is None and left <= self._config.warn_days * 86_400:
            self._warn(
                "expires_soon",
                f"The bundle ends in {left // 86_400} days: {_until(left)}.",
                hint="Sign a new one: wws-dns renew",
            )
        if self._ttl > self._config.max_ttl:
            self._warn(
                "ttl_long",
                f"Resolvers keep the bundle for {self._ttl} s: so long a change takes to arrive.",
                hint=f"Publish with a TTL of {self._config.max_ttl}.",
            )
        self._judge_hints(bundle)

    def _judge_hints(self, bundle: Bundle) -> None:
        seeds = parse_seed(self._truth.get((seed_name(self.domain), "TXT"), ()))
        named = parse_dnsaddr(self._truth.get((dnsaddr_name(self.domain), "TXT"), ()))
        hinted = {address.peer_id for address in (*seeds.addresses, *named.addresses) if address.peer_id}
        strangers = sorted(str(peer) for peer in hinted - bundle.peers)
        if strangers:
            self._warn(
                "hint_unknown_peer",
                f"Hints name peers that the bundle does not: {', '.join(strangers)}. Nobody dials them.",
                hint="Let one plan write all records: wws-dns publish",
            )
        malformed = sum(
            count
            for hints in (seeds, named)
            for reason, count in hints.skipped.items()
            if reason in ("malformed", "no_peer_id")
        )
        if malformed:
            self._warn(
                "hint_malformed", f"{malformed} hints cannot be read.", hint="wws-dns plan shows them."
            )

    def _learn_addresses(self, authorities: Sequence[Server]) -> None:
        """Where the bundle's hosts are, by the word of the name servers. Other zones are left out."""
        for host in self.hosts:
            for kind in ("A", "AAAA"):
                for server in authorities:
                    answers = self._answers.get((server.address, host, kind), [])
                    if any(answer.is_authoritative and answer.is_answered for answer in answers):
                        self._truth[host, kind] = self._values(server, host, kind)
                        break
            if (host, "A") in self._truth and not (
                self._truth[host, "A"] or self._truth.get((host, "AAAA"), ())
            ):
                self._error(
                    "host_without_address",
                    f"The bundle names {host}, which has no address.",
                    hint="Give its addresses in what is to be published, and publish.",
                )

    # One server

    def _judge_server(self, server: Server) -> ServerReport:
        before = len(self._findings)
        name = bundle_name(self.domain)
        answers = {answer.question.way: answer for answer in self._of(server, name)}
        if not any(answer.is_answered for answer in answers.values()):
            reasons = Counter(answer.failure for answer in answers.values())
            why = reasons.most_common(1)[0][0] if reasons else "not asked"
            self._error(
                "server_silent", f"{server} does not answer: {why}.", hint=_SILENT_HINT, server=server
            )
        elif all(answer.failure in ("refused", "servfail") for answer in answers.values()):
            why = next(answer.failure for answer in answers.values())
            self._error(
                "server_refuses",
                f"{server} answers with {why}.",
                hint="Does it serve this zone? For a resolver: does DNSSEC of the zone hold?",
                server=server,
            )
        else:
            self._judge_ways(server, answers)
            self._judge_content(server)
        return self._report_of(server, answers, self._findings[before:])

    def _judge_ways(self, server: Server, answers: Mapping[Way, Answer]) -> None:
        tcp, edns, udp = answers.get("tcp"), answers.get("edns"), answers.get("udp")
        if tcp is not None and not tcp.is_answered:
            needed = any(one is not None and one.is_cut for one in (edns, udp))
            self._add(
                "error" if server.role == "authority" or needed else "warning",
                "no_tcp",
                f"{server} does not answer over TCP: who is behind a narrow way gets nothing.",
                hint="Open 53/tcp there.",
                server=server,
            )
        for one, what in ((edns, "UDP with EDNS"), (udp, "UDP")):
            if one is not None and not one.is_answered:
                self._error(
                    "no_udp", f"{server} does not answer over {what}.", hint=_SILENT_HINT, server=server
                )
        if server.role == "authority":
            largest = max((one.size for one in answers.values()), default=0)
            if largest > MAX_ANSWER or (edns is not None and edns.is_cut):
                self._error(
                    "answer_too_large",
                    f"The answer of {server} is larger than {MAX_ANSWER} bytes: it takes TCP everywhere.",
                    hint="Fewer entries, or one signature fewer, when no rotation needs it.",
                    server=server,
                )
            elif largest > WARN_ANSWER:
                self._warn(
                    "answer_large",
                    f"The answer of {server} has {largest} bytes: over {WARN_ANSWER} takes EDNS or TCP.",
                    server=server,
                )
        whole = {one.values for one in answers.values() if one.is_answered and not one.is_cut}
        if len(whole) > 1:
            self._error(
                "ways_differ",
                f"{server} says one thing over UDP and another over TCP.",
                hint=_LIE_HINT if server.role == "resolver" else "Is there more than one server behind it?",
                server=server,
            )

    def _judge_content(self, server: Server) -> None:
        """Compare what a server has with what should be there: nothing more is said when that is too old."""
        name = bundle_name(self.domain)
        values = self._values(server, name)
        if self.reference is None:
            if server.role == "resolver" and any(text.startswith(PREFIX) for text in values):
                self._lie(server, "it has a bundle, and the name servers have none", "bundle_invented")
            return
        before = len(self._findings)
        bundle, error = self._taken(values)
        was_ours = bundle is not None and bundle.text in self._former
        if (error is None or was_ours) and self._is_stale(server, bundle):
            return
        if isinstance(error, NoBundle):
            failure = next((one.failure for one in self._of(server, name) if one.failure), "no_answer")
            self._lie(server, f"it says that there is no bundle ({failure})", "bundle_stripped")
        elif error is not None and not (bundle is not None and bundle.body == self.reference.body):
            self._lie(server, f"its bundle is refused: {error}", error.code)
        elif bundle is not None and bundle.seq == self.reference.seq and bundle.body != self.reference.body:
            self._lie(server, f"it has another bundle with the number {bundle.seq}", BundleEquivocation.code)
        elif bundle is not None and bundle.seq > self.reference.seq:
            self._lie(
                server, f"it has bundle {bundle.seq}, newer than that of the name servers", "bundle_ahead"
            )
        elif values != self._truth[name, "TXT"]:
            self._lie(server, "it has other records beside the bundle", "records_differ")
        if len(self._findings) == before:  # about one who lies that much no more need be said
            self._judge_rest(server)

    def _is_stale(self, server: Server, bundle: Bundle | None) -> bool:
        """Whether it has an older good bundle; then it is said, by how long it may still have it."""
        if bundle is None or self.reference is None or bundle.seq >= self.reference.seq:
            return False
        # Where nobody knows when it was published: the number is the time of signing, or a little more.
        published_for = self._now - self._published_at.get(self.reference.seq, self.reference.seq)
        may_keep = self._ttl + self._config.grace
        what = f"{server} still has bundle {bundle.seq}, and {self.reference.seq} is published"
        left = max((answer.ttl for answer in self._of(server, bundle_name(self.domain))), default=0)
        if server.role == "authority":
            self._error(
                "authority_stale",
                f"{what}: it has not got the zone's last change.",
                hint="Look at the zone transfer between the name servers.",
                server=server,
            )
        elif 0 <= published_for <= may_keep:
            self._warn("still_cached", f"{what}: for {left} s more.", hint="Look again then.", server=server)
        else:
            self._error(
                "resolver_stale",
                f"{what}: it keeps answers for longer than their time to live, or replays old ones.",
                hint="Clients that have seen the new one refuse it; new ones are led to the old list. "
                "Tell its operator.",
                server=server,
            )
        return True

    def _judge_rest(self, server: Server) -> None:
        """The records beside the bundle: hints, and addresses of hosts."""
        odd: list[str] = []
        for (name, kind), truth in self._truth.items():
            if name == bundle_name(self.domain) or not self._was_asked(server, name, kind):
                continue
            values = self._values(server, name, kind)
            if values != truth:
                odd.append(f"at {name} it says {', '.join(values)[:120] or 'nothing'}")
        if odd:
            self._lie(server, "; ".join(odd), "records_differ")
        if server.role == "resolver":
            longest = max((one.ttl for one in self._of(server, bundle_name(self.domain))), default=0)
            if longest > self._ttl:
                self._warn(
                    "ttl_stretched",
                    f"{server} lets the bundle be kept for {longest} s, the name server says {self._ttl} s.",
                    hint="Changes reach those who ask it later than planned.",
                    server=server,
                )

    def _report_of(
        self, server: Server, answers: Mapping[Way, Answer], findings: Sequence[Finding]
    ) -> ServerReport:
        bundle, error = self._taken(self._values(server, bundle_name(self.domain)))
        graver = sorted(findings, key=lambda finding: finding.severity != "error")
        return ServerReport(
            server,
            graver[0].code if graver else "ok",
            bundle.seq if bundle is not None and (error is None or server.role == "authority") else None,
            max((one.ttl for one in answers.values() if one.values), default=None),
            {way: one.size if (one := answers.get(way)) and one.is_answered else None for way in WAYS},
            frozenset(way for way, one in answers.items() if one.is_cut),
        )

    # What was said

    def _of(self, server: Server, name: str, kind: str = "TXT") -> list[Answer]:
        return self._answers.get((server.address, name, kind), [])

    def _was_asked(self, server: Server, name: str, kind: str) -> bool:
        return any(answer.is_answered for answer in self._of(server, name, kind))

    def _is_there(self, server: Server) -> bool:
        """Whether it can say what there is, even if that is nothing."""
        answers = self._of(server, bundle_name(self.domain))
        return any(answer.failure in ("", "no_answer", "nxdomain") for answer in answers)

    def _values(self, server: Server, name: str, kind: str = "TXT") -> tuple[str, ...]:
        """What it has there: of several ways what came whole, the largest answer first."""
        whole = [
            answer for answer in self._of(server, name, kind) if answer.is_answered and not answer.is_cut
        ]
        return max((answer.values for answer in whole), key=len, default=())

    @property
    def hosts(self) -> list[str]:
        """The names of the reference whose addresses are compared."""
        if self.reference is None:
            return []
        hosts = {entry.host for entry in self.reference.entries if host_kind(entry.host) == "name"}
        return sorted(hosts)[: self._config.max_hosts]

    def _taken(self, values: Sequence[str]) -> tuple[Bundle | None, BundleError | None]:
        """The bundle that a client without memory takes from these texts, or the best refused one and why."""
        state = BundleState(self.domain, self._keys)
        try:
            return state.choose(values, self._now).bundle, None
        except BundleError as error:
            return _newest(values), error

    # Saying it

    def _lie(self, server: Server, what: str, code: str) -> None:
        if server.role == "authority":
            message, hint = (
                f"{server} differs: {what}.",
                "Look at the zone transfer between the name servers.",
            )
        else:
            message, hint = f"{server} lies, or is broken: {what}.", _LIE_HINT
        self._error(code, message, hint=hint, server=server)

    def _error(self, code: str, message: str, *, hint: str = "", server: Server | None = None) -> None:
        self._add("error", code, message, hint=hint, server=server)

    def _warn(self, code: str, message: str, *, hint: str = "", server: Server | None = None) -> None:
        self._add("warning", code, message, hint=hint, server=server)

    def _add(self, severity: Severity, code: str, message: str, *, hint: str, server: Server | None) -> None:
        at = server_text(server.address) if server else ""
        self._findings.append(Finding(code, severity, message, hint, at))


def _newest(values: Sequence[str]) -> Bundle | None:
    parsed: list[Bundle] = []
    for text in values[:16]:
        try:
            parsed.append(Bundle.parse(text))
        except ParseError:
            continue
    return max(parsed, key=lambda bundle: bundle.seq, default=None)


def _until(seconds: int) -> str:
    hours = max(0, seconds) // 3_600
    return f"{hours} hours from now" if hours < 48 else f"{hours // 24} days from now"


def _mend(error: BundleError) -> str:
    return {
        "bundle_expired": "Sign a new one at once: wws-dns renew",
        "publisher_unknown": "Was it signed with another key than the network's? wws-dns rotate show",
        "bundle_bad_signature": "It was changed after signing. Publish it again: wws-dns publish",
        "bundle_not_yet_valid": "The clock here, or of the machine that signed it, is wrong.",
        "bundle_seq_future": "The clock here, or of the machine that signed it, is wrong.",
    }.get(error.code, "Publish a good one: wws-dns publish")


_SAY_AUTHORITY = "Name one: --authority IP[:PORT]"
_SILENT_HINT = "Is it up, and does a firewall let UDP and TCP to port 53 of it pass?"
_LIE_HINT = (
    "Clients refuse what is not signed, but get no list from it. Ask it again with dig; if it stays so, "
    "tell its operator and let clients there use --dns-server."
)
