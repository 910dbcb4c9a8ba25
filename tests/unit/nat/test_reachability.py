"""The verdict on our addresses: in a small swarm, behind each kind of NAT, among liars, and in any order."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.machine import Command, Event
from wws.nat.kind import NatKind
from wws.nat.observed import Way, way_of
from wws.nat.reachability import Reachability
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
from wws.nat.verdict import Source, Verdict

CONFIG = ReachabilityConfig()
TCP4, QUIC4 = Way("tcp", 4), Way("quic-v1", 4)
WAYS = frozenset({TCP4, QUIC4, Way("tcp", 6)})
SERVERS = tuple(
    Server(
        Identity.from_label(f"server {number}").peer_id,
        f"20.0.{number}.1",
        4,
        number < 3,
        WAYS,
        keeps_apart=True,
    )
    for number in range(8)
)
PUBLIC = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")
MAPPED = Multiaddr.parse("/ip4/203.0.113.99/tcp/40000")
MAPPED_QUIC = Multiaddr.parse("/ip4/203.0.113.99/udp/40000/quic-v1")
SIX = Multiaddr.parse("/ip6/2001:db8::7/tcp/9000")


def candidate(address: Multiaddr, source: Source = "interface", mapping: NatKind = "unknown") -> Candidate:
    return Candidate(address, source, mapping)


def behind_nat(*addresses: Multiaddr) -> tuple[Candidate, ...]:
    return tuple(candidate(address, "observed", "endpoint_independent") for address in addresses)


@dataclass
class World:
    """A network around one machine, in virtual time: who gets through where, and who lies about it.

    `opens`: whether a server that was never sent to gets through to a mapping. `same_ip`: whether one that
    was sent to does, from another port. `forwarded`: addresses at which everybody gets through.
    """

    opens: bool = False
    same_ip: bool = False
    forwarded: frozenset[Multiaddr] = frozenset()
    liars: frozenset[int] = frozenset()
    """Servers that say they could not get through, and name a wrong address to a probe."""
    silent: frozenset[int] = frozenset()
    refusing: frozenset[int] = frozenset()
    probes_fail: bool = False
    config: ReachabilityConfig = CONFIG
    now: float = 0.0
    asked: list[Ask] = field(default_factory=list)
    through: list[OpenProbe] = field(default_factory=list)
    changes: int = 0

    def __post_init__(self) -> None:
        self.machine = Reachability(self.config, random.Random(1))
        self._queue: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._probes: dict[int, OpenProbe] = {}
        self._ports = itertools.count(50000)

    def tell(self, event: Event) -> None:
        for command in self.machine.handle(event, self.now):
            self._carry_out(command)

    def start(self, candidates: Iterable[Candidate], servers: Iterable[Server] = SERVERS[:3]) -> None:
        self.tell(CandidatesChanged(tuple(candidates)))
        self.tell(ServersChanged(tuple(servers)))

    def run(self, seconds: float) -> None:
        """Until that much later."""
        end = self.now + seconds
        while True:
            wakeup = self.machine.next_wakeup()
            if wakeup is not None:
                assert wakeup > self.now or self._queue, "a wake-up in the past would spin"
            times = [
                time for time in (wakeup, self._queue[0][0] if self._queue else None) if time is not None
            ]
            if not times or min(times) > end:
                self.now = end
                return
            self.now = max(self.now, min(times))
            if self._queue and self._queue[0][0] <= self.now:
                self.tell(heapq.heappop(self._queue)[2])
            else:
                self.tell(TimerFired())

    def verdicts(self) -> dict[Multiaddr, Verdict]:
        return {one.address: one.verdict for one in self.machine.addresses}

    def _later(self, seconds: float, event: Event) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), event))

    def _carry_out(self, command: Command) -> None:
        match command:
            case Ask():
                self.asked.append(command)
                reached, reason, seconds = self._outcome(command)
                self._later(seconds, Answered(command.ask, reached, reason))
            case OpenProbe(probe=probe, server=server):
                assert probe not in self._probes
                self._probes[probe] = command
                self.through.append(command)
                if self.probes_fail:
                    self._later(0.1, ProbeLost(probe, "timeout"))
                    return
                port = 1 if _number(server) in self.liars else next(self._ports)
                transport = command.way.transport
                self._later(0.1, ProbeOpened(probe, Multiaddr.of(MAPPED.host, port, transport)))
            case CloseProbe(probe=probe):
                self._probes.pop(probe, None)  # again, when it opened after all
            case VerdictsChanged():
                self.changes += 1

    def _outcome(self, ask: Ask) -> tuple[bool | None, str, float]:
        number = _number(ask.server)
        if number in self.silent:
            return None, "timeout", 20.0
        if number in self.refusing:
            return None, "dial_refused", 0.05
        if number in self.liars:
            return False, "", 0.05
        if ask.probe is not None:
            # Wherever the probe's port is a lie, nobody is there.
            is_own = self._probes[ask.probe].server == ask.server
            reached = (ask.address.port or 0) >= 50000 and (self.opens or (is_own and self.same_ip))
        elif ask.address in self.forwarded:
            reached = True
        elif ask.address.host == MAPPED.host:
            reached = self.opens or self.same_ip  # who dials our mapping has been sent to
        else:
            reached = False
        return (True, "", 0.1) if reached else (False, "", 5.0)


def _number(peer: object) -> int:
    return next(number for number, server in enumerate(SERVERS) if server.peer == peer)


# An address of an interface


def test_two_servers_in_two_prefixes_make_an_address_public() -> None:
    world = World(forwarded=frozenset({PUBLIC}))
    world.start([candidate(PUBLIC)])
    assert [ask.address for ask in world.asked] == [PUBLIC, PUBLIC]
    assert len({ask.server for ask in world.asked}) == 2
    world.run(1)
    assert world.verdicts() == {PUBLIC: "public"}
    assert world.machine.verdict == "public"
    assert world.machine.addresses[0].confidence == 2


def test_one_server_is_not_enough_and_the_second_is_asked_as_soon_as_it_comes() -> None:
    world = World(forwarded=frozenset({PUBLIC}))
    world.start([candidate(PUBLIC)], SERVERS[:1])
    world.run(3600)
    assert world.machine.verdict == "unknown"
    world.tell(ServersChanged(SERVERS[:2]))
    world.run(1)
    assert world.machine.verdict == "public"


def test_two_servers_in_one_prefix_are_one() -> None:
    same = Server(SERVERS[1].peer, "20.0.0.77", 4, True, WAYS)
    world = World(forwarded=frozenset({PUBLIC}))
    world.start([candidate(PUBLIC)], [SERVERS[0], same])
    world.run(600)
    assert world.machine.verdict == "unknown"


def test_below_public_scope_two_servers_are_enough_wherever_they_are() -> None:
    near = [Server(server.peer, "127.0.0.1", 4) for server in SERVERS[:2]]
    address = Multiaddr.parse("/ip4/127.0.0.1/tcp/9000")
    world = World(forwarded=frozenset({address}))
    world.start([candidate(address)], near)
    world.run(1)
    assert world.verdicts() == {address: "public"}


def test_a_firewall_makes_an_address_private() -> None:
    world = World()
    world.start([candidate(PUBLIC)])
    world.run(6)
    assert world.verdicts() == {PUBLIC: "private"}
    assert world.machine.verdict == "private"


def test_each_family_and_transport_is_judged_for_itself() -> None:
    world = World(forwarded=frozenset({SIX}))
    world.start([candidate(PUBLIC), candidate(SIX), *behind_nat(MAPPED_QUIC)])
    world.run(20)
    assert world.verdicts() == {PUBLIC: "private", SIX: "public", MAPPED_QUIC: "private"}
    assert world.machine.verdict == "public"


def test_a_name_is_not_asked_about() -> None:
    name = Multiaddr.parse("/dns4/alice.example/tcp/9000")
    world = World()
    world.start([candidate(name, "configured")])
    world.run(600)
    assert world.verdicts() == {name: "unknown"}
    assert world.asked == []


@pytest.mark.parametrize("source", ["mapped", "configured"])
def test_a_mapping_made_on_purpose_needs_no_probe(source: Source) -> None:
    world = World(forwarded=frozenset({MAPPED}))
    world.start([candidate(MAPPED, source)])
    world.run(1)
    assert world.verdicts() == {MAPPED: "public"}
    assert world.through == []


# Behind a NAT


def test_a_full_cone_is_found_open_by_the_probe_and_then_confirmed_by_two() -> None:
    world = World(opens=True, same_ip=True)
    world.start(behind_nat(MAPPED))
    assert world.asked == []
    world.run(0.15)
    [probe] = world.through
    assert all(ask.probe == probe.probe for ask in world.asked)
    assert probe.server not in {ask.server for ask in world.asked[:2]}
    assert world.machine.verdict == "unknown"
    world.run(1)
    assert world.verdicts() == {MAPPED: "public"}
    assert world.machine.filter_of(TCP4) == "open"
    assert len({ask.server for ask in world.asked if ask.address == MAPPED}) == 2


@pytest.mark.parametrize("same_ip", [False, True], ids=["port restricted", "address restricted"])
def test_a_nat_that_filters_is_private_and_stays_so(same_ip: bool) -> None:
    world = World(same_ip=same_ip)
    world.start(behind_nat(MAPPED, MAPPED_QUIC))
    world.run(6)
    assert set(world.verdicts().values()) == {"private"}
    world.run(7200)
    assert set(world.verdicts().values()) == {"private"}
    assert world.changes == 3  # unknown, then each of the two
    if same_ip:  # then nothing that a server says of our real mapping could be believed
        assert all(ask.probe is not None for ask in world.asked)


def test_a_symmetric_nat_is_private_without_a_question() -> None:
    world = World(opens=True)
    world.start([candidate(MAPPED, "observed", "address_dependent")])
    world.run(600)
    assert world.verdicts() == {MAPPED: "private"}
    assert world.asked == []
    assert world.through == []


def test_a_port_forwarded_by_hand_is_found_once_the_nat_is_known_to_filter_by_port() -> None:
    world = World(forwarded=frozenset({MAPPED}))
    world.start(behind_nat(MAPPED))
    world.run(6)
    assert world.verdicts() == {MAPPED: "private"}
    world.run(60)
    assert world.verdicts() == {MAPPED: "public"}
    assert len({probe.server for probe in world.through}) == 2


def test_two_servers_are_enough_behind_a_nat() -> None:
    for opens, expected in ((True, "public"), (False, "private")):
        world = World(opens=opens)
        world.start(behind_nat(MAPPED), SERVERS[:2])
        world.run(20)
        assert world.verdicts() == {MAPPED: expected}


def test_a_probe_needs_servers_at_two_addresses() -> None:
    near = [Server(server.peer, "10.0.0.1", 4, True, WAYS) for server in SERVERS[:3]]
    world = World(opens=True)
    world.start(behind_nat(MAPPED), near)
    world.run(600)
    assert world.through == []
    assert world.machine.verdict == "unknown"


def test_a_probe_that_finds_no_way_is_tried_again_ever_more_rarely() -> None:
    world = World(opens=True, probes_fail=True)
    world.start(behind_nat(MAPPED))
    world.run(3600)
    assert 4 <= len(world.through) <= 12
    assert world.machine.verdict == "unknown"
    assert world.machine.results["probe", "timeout"] == len(world.through)
    world.probes_fail = False
    world.run(3600)
    assert world.machine.verdict == "public"


def test_one_liar_of_three_only_delays() -> None:
    for liar in range(3):
        for opens, expected in ((True, "public"), (False, "private")):
            world = World(opens=opens, liars=frozenset({liar}))
            world.start(behind_nat(MAPPED), SERVERS[:3])
            world.run(120)
            assert world.verdicts() == {MAPPED: expected}, liar
    for liar in range(3):
        world = World(same_ip=True, liars=frozenset({liar}))
        world.start(behind_nat(MAPPED), SERVERS[:3])
        world.run(4 * 3600)
        assert world.verdicts() == {MAPPED: "private"}, liar


def test_a_probe_seen_at_another_ip_than_ours_is_given_up() -> None:
    machine = Reachability(CONFIG, random.Random(1))
    machine.handle(CandidatesChanged(behind_nat(MAPPED)), 0)
    [open_probe] = machine.handle(ServersChanged(SERVERS[:3]), 0)
    assert isinstance(open_probe, OpenProbe)
    victim = Multiaddr.parse("/ip4/198.51.100.1/tcp/22")
    assert machine.handle(ProbeOpened(open_probe.probe, victim), 1) == [CloseProbe(open_probe.probe)]
    assert machine.results["probe", "other_address"] == 1
    assert machine.handle(ProbeOpened(open_probe.probe, MAPPED), 2) == [CloseProbe(open_probe.probe)]


# Hysteresis and change


def test_one_contrary_answer_brings_the_next_round_forward_and_changes_nothing() -> None:
    world = World(forwarded=frozenset({PUBLIC}))
    world.start([candidate(PUBLIC)])
    world.run(3600)
    world.liars = frozenset({_number(world.asked[-1].server)})
    for _ in range(12):
        world.run(1800)
        assert world.verdicts() == {PUBLIC: "public"}
    assert world.changes == 2  # unknown, public


def test_an_address_that_stops_working_is_private_within_some_rounds() -> None:
    world = World(forwarded=frozenset({PUBLIC}))
    world.start([candidate(PUBLIC)])
    world.run(60)
    world.forwarded = frozenset()
    world.run(600)
    assert world.verdicts() == {PUBLIC: "private"}
    world.forwarded = frozenset({PUBLIC})
    world.run(1800)
    assert world.verdicts() == {PUBLIC: "public"}


def test_a_changed_network_forgets_every_verdict_and_ends_what_is_under_way() -> None:
    world = World(opens=True)
    world.start([candidate(PUBLIC), *behind_nat(MAPPED)])
    assert world.through
    world.tell(NetworkChanged())
    assert world.machine.addresses == ()
    assert world._probes == {}
    world.run(60)  # the old answers come, and mean nothing
    assert world.machine.verdict == "unknown"
    world.forwarded = frozenset({PUBLIC})
    world.tell(CandidatesChanged((candidate(PUBLIC),)))
    world.run(1)
    assert world.verdicts() == {PUBLIC: "public"}


def test_a_candidate_that_is_gone_is_forgotten_and_its_probe_closed() -> None:
    world = World(opens=True)
    world.start(behind_nat(MAPPED))
    world.tell(CandidatesChanged(()))
    assert world._probes == {}
    world.run(60)
    assert world.machine.addresses == ()


# Servers


def test_a_refusal_or_silence_is_no_evidence_and_another_is_asked() -> None:
    for kind in ("refusing", "silent"):
        world = World(forwarded=frozenset({PUBLIC}))
        setattr(world, kind, frozenset({0, 1, 2}))
        world.start([candidate(PUBLIC)], SERVERS[:5])
        world.run(60)
        assert world.verdicts() == {PUBLIC: "public"}
        assert world.machine.results["ask", "dial_refused" if kind == "refusing" else "timeout"] >= 2
        assert world.machine.results["ask", "reached"] >= 2


def test_strangers_who_mix_questions_up_lead_to_the_same_verdicts() -> None:
    strangers = [replace(server, keeps_apart=False) for server in SERVERS[:3]]
    for opens, expected in ((True, "public"), (False, "private")):
        world = World(opens=opens, forwarded=frozenset({PUBLIC}))
        world.start([candidate(PUBLIC), *behind_nat(MAPPED, MAPPED_QUIC)], strangers)
        world.run(60)
        assert world.verdicts() == {PUBLIC: "public", MAPPED: expected, MAPPED_QUIC: expected}


def test_questions_are_bounded_a_minute_whatever_the_servers_do() -> None:
    for world in (
        World(silent=frozenset(range(8))),
        World(refusing=frozenset(range(8))),
        World(liars=frozenset({0, 1, 2, 3}), opens=True, forwarded=frozenset({PUBLIC, SIX})),
    ):
        world.start([candidate(PUBLIC), candidate(SIX), *behind_nat(MAPPED, MAPPED_QUIC)], SERVERS)
        for _ in range(30):
            before = len(world.asked)
            world.run(60)
            assert len(world.asked) - before <= CONFIG.servers.per_minute
        assert len(world.asked) < 500


def test_more_candidates_than_are_judged() -> None:
    many = [candidate(PUBLIC.with_port(9000 + number)) for number in range(CONFIG.max_candidates + 1)]
    world = World()
    world.start(many)
    assert [one.address for one in world.machine.addresses] == [one.address for one in many[:-1]]


def test_in_a_swarm_of_three_bootstraps_and_two_users_everyone_gets_its_verdict() -> None:
    """go-libp2p #1877: with so few peers an external address was never confirmed."""
    for seed in range(20):
        for opens, expected in ((True, "public"), (False, "private")):
            user = World(opens=opens)
            user.machine = Reachability(CONFIG, random.Random(seed))
            user.start(behind_nat(MAPPED, MAPPED_QUIC), SERVERS[:3])
            user.run(12)
            assert user.machine.verdict == expected
    for me in range(3):
        bootstrap = World(forwarded=frozenset({PUBLIC}))
        bootstrap.start([candidate(PUBLIC)], [server for n, server in enumerate(SERVERS[:3]) if n != me])
        bootstrap.run(2)
        assert bootstrap.machine.verdict == "public"


def test_an_unknown_event_is_a_bug_of_ours() -> None:
    machine = Reachability(CONFIG, random.Random(1))
    with pytest.raises(LocalProtocolError):
        machine.handle(Event(), 0)


EVENTS: list[st.SearchStrategy[Event]] = [
    st.builds(
        CandidatesChanged,
        st.lists(
            st.builds(
                Candidate,
                st.sampled_from([PUBLIC, MAPPED, MAPPED_QUIC, SIX]),
                st.sampled_from(["interface", "observed", "mapped", "configured"]),
                st.sampled_from(["unknown", "endpoint_independent", "address_dependent"]),
            ),
            max_size=4,
        ).map(tuple),
    ),
    st.builds(ServersChanged, st.lists(st.sampled_from(SERVERS), max_size=6, unique=True).map(tuple)),
    st.builds(NetworkChanged),
    st.builds(TimerFired),
    st.builds(Answered, st.integers(1, 40), st.sampled_from([True, False, None]), st.sampled_from(["", "x"])),
    st.builds(ProbeOpened, st.integers(1, 40), st.sampled_from([MAPPED, MAPPED_QUIC, PUBLIC])),
    st.builds(ProbeLost, st.integers(1, 40), st.just("x")),
]


@given(st.lists(st.tuples(st.one_of(*EVENTS), st.floats(0, 100)), max_size=60), st.randoms())
def test_whatever_comes_in_whatever_order_bounds_hold(
    happenings: list[tuple[Event, float]], rng: random.Random
) -> None:
    machine = Reachability(CONFIG, rng)
    now = 0.0
    open_asks: dict[int, Ask] = {}
    probes: dict[int, OpenProbe] = {}
    for event, seconds in happenings:
        now += seconds
        match event:
            case Answered(ask=ask):
                open_asks.pop(ask, None)
            case ProbeLost(probe=probe):
                probes.pop(probe, None)
        try:
            commands = machine.handle(event, now)
        except LocalProtocolError:
            assert isinstance(event, ProbeOpened)  # twice
            continue
        for command in commands:
            match command:
                case Ask():
                    assert command.ask not in open_asks
                    open_asks[command.ask] = command
                case OpenProbe():
                    assert command.way not in {probe.way for probe in probes.values()}
                    probes[command.probe] = command
                case CloseProbe(probe=probe):
                    probes.pop(probe, None)
        for ask in open_asks.values():
            assert way_of(ask.address) is not None
        wakeup = machine.next_wakeup()
        assert wakeup is None or wakeup > now
        for one in machine.addresses:
            assert 0 <= one.confidence <= 3
