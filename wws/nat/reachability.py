"""Whether we can be reached, address by address: whom to ask when, and what follows from the answers.

    candidates (interfaces, mapped, configured) ──────────────► rounds of questions ─► verdict
    candidates (seen by others: behind a NAT) ─► probe of the NAT's filtering ─┬ open ──► rounds ─► verdict
                                                                               └ filtered ────────► private

A round asks two servers of different parties to dial one address. Their words go into a `Judgement`: two that
agree, and a majority, make a verdict; one contrary answer brings the next round forward and changes nothing
else. A mapping that differs from peer to peer (`address_dependent`) is private without a question. What a
server refuses, or leaves unanswered, is no evidence: another one is asked.

Rounds come at once for a new address, after a minute, and then ever more rarely; a change of the machine's
network starts everything anew. The driver calls `handle(event, now)` and sleeps until `next_wakeup()`.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.nat.filtering import Filter, Filtering, Start, State
from wws.nat.observed import Party, Way, way_of
from wws.nat.reachability_events import (
    Answered,
    Ask,
    Candidate,
    CandidatesChanged,
    CloseProbe,
    NetworkChanged,
    OpenProbe,
    ProbeLost,
    ProbeOpened,
    ReachabilityConfig,
    Server,
    ServersChanged,
    TimerFired,
    VerdictsChanged,
)
from wws.nat.servers import Servers
from wws.nat.verdict import AddressVerdict, Judgement, Verdict


@dataclass(slots=True)
class _Subject:
    """One address, and the round of questions about it."""

    candidate: Candidate
    way: Way | None
    judgement: Judgement
    next_at: float
    interval: float
    asked: set[Party] = field(default_factory=set)
    """Parties asked in this round."""
    evidence: int = 0
    open_asks: int = 0
    changed: bool = False
    was_disputed: bool = False


@dataclass(frozen=True, slots=True)
class _Question:
    server: Server
    way: Way
    address: Multiaddr
    probe: int | None


class Reachability:
    """Verdicts on all our addresses. Pure: events and `now` come in, commands go out."""

    def __init__(self, config: ReachabilityConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._servers = Servers(config.servers, rng)
        self._ids = itertools.count(1)
        self._subjects: dict[Multiaddr, _Subject] = {}
        self._filterings: dict[Way, Filtering] = {}
        self._questions: dict[int, _Question] = {}
        self._told: tuple[tuple[Multiaddr, Verdict], ...] = ()
        self._wakeup: float | None = None
        self._last_through: dict[Way, PeerId] = {}
        self.results: Counter[tuple[str, str]] = Counter()
        """What came of questions (`ask`, `probe`), by result or reason."""

    # What is known

    @property
    def addresses(self) -> tuple[AddressVerdict, ...]:
        """Every candidate with its verdict, in the order in which they were given."""
        return tuple(self._verdict(subject) for subject in self._subjects.values())

    @property
    def verdict(self) -> Verdict:
        """`public` when any address is, `private` when none is and at least one was judged."""
        verdicts = {self._verdict(subject).verdict for subject in self._subjects.values()}
        if "public" in verdicts:
            return "public"
        return "private" if "private" in verdicts else "unknown"

    def filter_of(self, way: Way) -> Filter:
        """Whom the NAT lets in on a way, as far as a probe has shown it."""
        filtering = self._filterings.get(way)
        return "unknown" if filtering is None else filtering.filter

    def next_wakeup(self) -> float | None:
        return self._wakeup

    def handle(self, event: Event, now: float) -> list[Command]:
        """Raises `LocalProtocolError` for an event that is not one of ours.

        What comes late, to a question or probe that was given up, changes nothing.
        """
        commands: list[Command] = []
        match event:
            case CandidatesChanged(candidates=candidates):
                commands += self._take_candidates(candidates, now)
            case ServersChanged(servers=servers):
                self._take_servers(servers, now)
            case NetworkChanged():
                commands += self._start_anew()
            case Answered():
                commands += self._answered(event, now)
            case ProbeOpened():
                commands += self._probe_opened(event, now)
            case ProbeLost():
                self._probe_lost(event, now)
            case TimerFired():
                pass
            case _:
                raise LocalProtocolError(f"{type(event).__name__} is no event of reachability")
        commands += self._plan(now)
        if (said := tuple((one.address, one.verdict) for one in self.addresses)) != self._told:
            self._told = said
            commands.append(VerdictsChanged())
        return commands

    # Events

    def _take_candidates(self, candidates: tuple[Candidate, ...], now: float) -> list[Command]:
        wanted: dict[Multiaddr, Candidate] = {}
        for candidate in candidates:
            if len(wanted) < self._config.max_candidates:
                wanted.setdefault(candidate.address, candidate)
        before, self._subjects = self._subjects, {}
        for address, candidate in wanted.items():
            subject = before.get(address)
            if subject is None or subject.candidate.source != candidate.source:
                subject = _Subject(
                    candidate,
                    way_of(address),
                    Judgement(self._config.judgement),
                    now,
                    self._config.retry,
                )
            subject.candidate = candidate
            self._subjects[address] = subject
        needed = {subject.way for subject in self._subjects.values() if self._wants_probe(subject)}
        commands: list[Command] = []
        for way in [way for way in self._filterings if way not in needed]:
            commands += self._end_probe(self._filterings.pop(way))
        for needed_way in needed:
            if needed_way is not None and needed_way not in self._filterings:
                self._filterings[needed_way] = Filtering(self._config.probing, now)
        return commands

    def _take_servers(self, servers: tuple[Server, ...], now: float) -> None:
        """Whoever is new may know what the others could not say, so nothing undecided waits for its time."""
        before = self._servers.parties
        self._servers.update(servers)
        if self._servers.parties <= before:
            return
        for subject in self._subjects.values():
            if subject.judgement.verdict == "unknown":
                subject.next_at = min(subject.next_at, now)
        for filtering in self._filterings.values():
            if filtering.filter == "unknown":
                filtering.next_at = min(filtering.next_at, now)

    def _start_anew(self) -> list[Command]:
        commands: list[Command] = []
        for filtering in self._filterings.values():
            commands += self._end_probe(filtering)
        for question in self._questions.values():
            self._servers.release(question.server.peer)
        self._questions.clear()
        self._filterings.clear()
        self._subjects.clear()
        return commands

    def _answered(self, event: Answered, now: float) -> list[Command]:
        question = self._questions.pop(event.ask, None)
        if question is None:
            return []
        kind = "ask" if question.probe is None else "probe"
        result = {True: "reached", False: "not_reached", None: event.reason or "no_answer"}[event.reached]
        self.results[kind, result] += 1
        self._servers.answered(question.server.peer, question.way, event.reached, event.reason, now)
        if question.probe is not None:
            filtering = self._filterings.get(question.way)
            if filtering is None or filtering.probe != question.probe:
                return []
            probe = filtering.probe
            filtering.handle(event, now)
            return self._after_probe(filtering, probe, now)
        subject = self._subjects.get(question.address)
        if subject is not None and subject.open_asks:
            subject.open_asks -= 1
            if event.reached is not None:
                subject.evidence += 1
                subject.changed |= subject.judgement.heard(question.server.party, event.reached, now)
            if not subject.open_asks and subject.evidence >= self._config.judgement.agreement:
                self._end_round(subject, now)
        return []

    def _probe_opened(self, event: ProbeOpened, now: float) -> list[Command]:
        way, filtering = self._probing(event.probe)
        if way is None or filtering is None or filtering.through is None:
            return [CloseProbe(event.probe)]
        filtering.handle(event, now)
        # A server that lies about the probe's address would have the others dial somebody else.
        ours = {subject.candidate.address.host for subject in self._mapped_on(way)}
        if way_of(event.address) != way or event.address.host not in ours:
            return self._give_up(filtering, "other_address", now)
        helpers = self._servers.choose(
            way,
            now,
            count=self._config.probing.helpers,
            without={filtering.through.party},
            without_ips={filtering.through.ip},
        )
        if not helpers:
            return self._give_up(filtering, "no_helper", now)
        commands: list[Command] = []
        own = [filtering.through] if self._servers.is_free(filtering.through.peer, way, now) else []
        for server in (*helpers, *own):
            question = self._ask(server, way, event.address, event.probe, now)
            filtering.asked(question.ask, server)
            commands.append(question)
        return commands

    def _probe_lost(self, event: ProbeLost, now: float) -> None:
        _, filtering = self._probing(event.probe)
        if filtering is not None:
            self.results["probe", event.reason or "lost"] += 1
            self._drop_questions_of(event.probe)
            filtering.handle(event, now)

    # What to do next

    def _plan(self, now: float) -> list[Command]:
        commands: list[Command] = []
        wakeups: list[float | None] = []
        for way, filtering in self._filterings.items():
            if filtering.state is State.RESTING:
                if filtering.next_at <= now:
                    commands += self._start_probe(way, filtering, now)
                if filtering.state is State.RESTING:
                    due = filtering.next_at > now
                    wakeups.append(filtering.next_at if due else self._servers.next_free(way, now))
        for subject in self._subjects.values():
            if subject.way is not None and self._is_worth_asking(subject):
                if subject.next_at <= now:
                    commands += self._go_on(subject, subject.way, now)
                if subject.next_at > now:
                    wakeups.append(subject.next_at)
                elif subject.open_asks + subject.evidence < self._config.judgement.agreement:
                    wakeups.append(self._servers.next_free(subject.way, now))
        self._wakeup = min((time for time in wakeups if time is not None), default=None)
        return commands

    def _start_probe(self, way: Way, filtering: Filtering, now: float) -> list[Command]:
        """Through another server than the last time, if there is one."""
        through = self._servers.choose(way, now, count=3, to_probe_through=True)
        through.sort(key=lambda server: server.peer == self._last_through.get(way))
        for server in through:
            helpers = self._servers.choose(way, now, count=1, without={server.party}, without_ips={server.ip})
            if helpers:
                probe = next(self._ids)
                filtering.handle(Start(probe, server), now)
                self._last_through[way] = server.peer
                return [OpenProbe(probe, server.peer, way)]
        return []

    def _go_on(self, subject: _Subject, way: Way, now: float) -> list[Command]:
        """Ask as many as this round still needs; when nobody is left, a round that told too little ends."""
        missing = self._config.judgement.agreement - subject.evidence - subject.open_asks
        if missing <= 0:
            return []
        chosen = self._servers.choose(way, now, count=missing, without=subject.asked)
        if not chosen and not subject.open_asks and subject.asked:
            self._reset_round(subject)
            subject.next_at = now + self._jittered(subject.interval)
            subject.interval = min(subject.interval * 2, self._config.longest)
        commands: list[Command] = []
        for server in chosen:
            subject.asked.add(server.party)
            subject.open_asks += 1
            commands.append(self._ask(server, way, subject.candidate.address, None, now))
        return commands

    def _end_round(self, subject: _Subject, now: float) -> None:
        judgement = subject.judgement
        newly_disputed = judgement.is_disputed and not subject.was_disputed
        if subject.changed or newly_disputed:
            subject.interval = self._config.retry if judgement.verdict == "unknown" else self._config.recheck
        else:
            subject.interval = min(subject.interval * 2, self._config.longest)
        subject.was_disputed = judgement.is_disputed
        self._reset_round(subject)
        subject.next_at = now + self._jittered(subject.interval)

    def _reset_round(self, subject: _Subject) -> None:
        subject.asked.clear()
        subject.evidence, subject.changed = 0, False

    # Parts

    def _ask(self, server: Server, way: Way, address: Multiaddr, probe: int | None, now: float) -> Ask:
        ask = next(self._ids)
        self._questions[ask] = _Question(server, way, address, probe)
        self._servers.asked(server.peer, now)
        return Ask(ask, server.peer, address, probe)

    def _after_probe(self, filtering: Filtering, probe: int, now: float) -> list[Command]:
        """Close a probe that has ended; what it showed may make an address worth asking about at once."""
        if filtering.probe is not None:
            return []
        self._drop_questions_of(probe)
        filtering.next_at = now + self._jittered(filtering.next_at - now)
        self.results["filtering", filtering.filter] += 1
        return [CloseProbe(probe)]

    def _give_up(self, filtering: Filtering, reason: str, now: float) -> list[Command]:
        self.results["probe", reason] += 1
        commands = self._end_probe(filtering)
        filtering.give_up(now)
        return commands

    def _end_probe(self, filtering: Filtering) -> list[Command]:
        if filtering.probe is None:
            return []
        self._drop_questions_of(filtering.probe)
        return [CloseProbe(filtering.probe)]

    def _probing(self, probe: int) -> tuple[Way, Filtering] | tuple[None, None]:
        """What a probe is for; nothing, once it was given up."""
        for way, filtering in self._filterings.items():
            if filtering.probe == probe:
                return way, filtering
        return None, None

    def _drop_questions_of(self, probe: int) -> None:
        for ask in [ask for ask, question in self._questions.items() if question.probe == probe]:
            self._servers.release(self._questions.pop(ask).server.peer)

    def _mapped_on(self, way: Way) -> list[_Subject]:
        return [
            subject
            for subject in self._subjects.values()
            if subject.way == way and self._wants_probe(subject)
        ]

    def _wants_probe(self, subject: _Subject) -> bool:
        candidate = subject.candidate
        return (
            subject.way is not None
            and candidate.is_mapped_by_chance
            and candidate.mapping != "address_dependent"
        )

    def _is_worth_asking(self, subject: _Subject) -> bool:
        if not subject.candidate.is_mapped_by_chance:
            return True
        if not self._wants_probe(subject) or subject.way is None:
            return False
        filtering = self._filterings.get(subject.way)
        return filtering is not None and (filtering.filter == "open" or filtering.may_be_forwarded)

    def _verdict(self, subject: _Subject) -> AddressVerdict:
        candidate, judgement = subject.candidate, subject.judgement
        verdict, confidence = judgement.verdict, judgement.confidence
        if candidate.is_mapped_by_chance:
            filtering = None if subject.way is None else self._filterings.get(subject.way)
            if candidate.mapping == "address_dependent":
                verdict, confidence = "private", self._config.judgement.agreement
            elif filtering is None or filtering.filter == "unknown":
                verdict, confidence = "unknown", 0
            elif filtering.filter == "filtered" and not (
                filtering.may_be_forwarded and judgement.verdict == "public"
            ):
                verdict, confidence = "private", filtering.confidence
        return AddressVerdict(candidate.address, verdict, candidate.source, confidence)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1 - self._config.jitter, 1 + self._config.jitter)
