"""What DNS is asked, how often, and what its answers are taken for.

The signed bundle decides who is trusted and is judged by `BundleState`; the seed's records and `_dnsaddr` are
hints. All are asked together at the start of each round and once an hour while joined; one that is not
answered in time counts as failed, whatever the driver does, so that no server holds up a round.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from wws.discovery.bundle import BundleEquivocation, BundleError, NoBundle
from wws.discovery.bundle_state import BundleState
from wws.discovery.entry_points import EntryPoints
from wws.discovery.guidance import SourceReport
from wws.discovery.network import Network
from wws.discovery.race_events import BundleTaken, DnsAnswered, DnsKind, QueryDns, SaveNetworkState, Warn
from wws.discovery.txt import bundle_name, dnsaddr_name, parse_dnsaddr, parse_seed, seed_name
from wws.machine import Command

_REFUSALS = frozenset(error.code for error in BundleError.__subclasses__() if error is not NoBundle)


@dataclass(frozen=True, slots=True)
class QuestionConfig:
    """The times of asking, in seconds."""

    timeout: float = 5.0
    """For each question, with all servers and fallbacks."""
    answer_grace: float = 2.0
    """How much longer the driver may take to answer before a question counts as timed out."""
    refresh: float = 3_600.0
    """How often a joined node asks for a newer bundle."""
    jitter: float = 0.2
    """Each such wait is shorter by a random share of at most this."""


class Questions:
    """The questions of one network; an ad hoc network has none."""

    def __init__(
        self,
        network: Network,
        entry_points: EntryPoints,
        bundles: BundleState | None,
        rng: random.Random,
        config: QuestionConfig,
    ) -> None:
        self._entry_points = entry_points
        self._bundles = bundles
        self._rng = rng
        self._config = config
        self._names: dict[DnsKind, str] = {}
        if not network.is_ad_hoc:
            if bundles is not None:
                self._names[DnsKind.BUNDLE] = bundle_name(network.domain)
            self._names[DnsKind.SEED] = seed_name(network.domain)
            self._names[DnsKind.DNSADDR] = dnsaddr_name(network.domain)
        self._open: dict[DnsKind, float] = {}
        """When each question that is not answered has to be."""
        self._outdated: set[DnsKind] = set()
        """Questions that were open when a fresh answer was asked for."""
        self._reports: dict[DnsKind, SourceReport] = {}
        self._refresh_at: float | None = None

    @property
    def are_open(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._open)

    @property
    def list_is_refused(self) -> bool:
        """Whether DNS has only lists that nobody whom we know has signed, and we never had a good one."""
        report = self._reports.get(DnsKind.BUNDLE)
        known = self._bundles is not None and self._bundles.last is not None
        return report is not None and report.code in _REFUSALS and not known

    def ask(self, now: float) -> list[Command]:
        """Ask everything that is not being asked."""
        if not self._names:
            return []
        self._refresh_at = now + self._config.refresh * (1 - self._config.jitter * self._rng.random())
        return [self._query(kind, now) for kind in self._names if kind not in self._open]

    def ask_afresh(self, now: float) -> list[Command]:
        """Ask everything; what is being asked is asked once more then: the answer may know only what was."""
        self._outdated.update(self._open)
        return self.ask(now)

    def answered(self, event: DnsAnswered, now: float, unix_now: int) -> list[Command]:
        """Take what an answer holds."""
        self._open.pop(event.kind, None)
        return self._take(event, unix_now) + self._ask_outdated(event.kind, now)

    def _ask_outdated(self, kind: DnsKind, now: float) -> list[Command]:
        if kind not in self._outdated:
            return []
        self._outdated.discard(kind)
        return [self._query(kind, now)]

    def _query(self, kind: DnsKind, now: float) -> Command:
        self._open[kind] = now + self._config.timeout
        return QueryDns(kind, self._names[kind], self._config.timeout)

    def _take(self, event: DnsAnswered, unix_now: int) -> list[Command]:
        kind = event.kind
        if event.error is not None:
            self._reports[kind] = SourceReport(str(kind), event.error, event.detail)
            return []
        if kind is DnsKind.BUNDLE:
            return self._take_bundle(event.texts, unix_now)
        hints = parse_seed(event.texts) if kind is DnsKind.SEED else parse_dnsaddr(event.texts)
        self._entry_points.add_hints(hints.addresses)
        skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(hints.skipped.items()))
        detail = f"{len(hints.addresses)} hints" + (f", skipped: {skipped}" if skipped else "")
        self._reports[kind] = SourceReport(str(kind), "ok" if hints.addresses else "empty", detail)
        return []

    def time_passed(self, now: float) -> list[Command]:
        """Give up what is overdue, and ask again when it is time."""
        commands: list[Command] = []
        for kind, deadline in list(self._open.items()):
            if deadline + self._config.answer_grace <= now:
                del self._open[kind]
                self._reports[kind] = SourceReport(str(kind), "dns_timeout")
                commands += self._ask_outdated(kind, now)
        if self._refresh_at is not None and self._refresh_at <= now:
            commands += self.ask(now)
        return commands

    def next_wakeup(self) -> float | None:
        """When `time_passed` has something to do."""
        times = [deadline + self._config.answer_grace for deadline in self._open.values()]
        return min([*times, self._refresh_at] if self._refresh_at is not None else times, default=None)

    def reports(self) -> list[SourceReport]:
        """What came of each kind of question last."""
        return [
            self._reports.get(kind, SourceReport(str(kind), "waiting"))
            if kind in self._names
            else SourceReport(str(kind), "off")
            for kind in DnsKind
        ]

    def _take_bundle(self, texts: tuple[str, ...], unix_now: int) -> list[Command]:
        if self._bundles is None:
            return []
        try:
            choice = self._bundles.choose(texts, unix_now)
        except BundleError as error:
            self._reports[DnsKind.BUNDLE] = SourceReport("bundle", error.code, str(error), error.hint)
            return [] if isinstance(error, NoBundle) else [Warn(error.code, str(error), error.hint)]
        self._reports[DnsKind.BUNDLE] = SourceReport("bundle", "ok", f"number {choice.bundle.seq}")
        commands: list[Command] = [
            Warn(error.code, str(error), error.hint)
            for error in choice.refused
            if isinstance(error, BundleEquivocation)
        ]
        if choice.first_contact:
            message = (
                "first contact with this network: whether its list of entry points is the newest "
                "cannot be told yet (normal at a first join)"
            )
            commands.append(Warn("bundle_first_contact", message))
        if choice.changed:
            commands += [SaveNetworkState(self._bundles.to_json()), BundleTaken(choice.bundle)]
        return commands
