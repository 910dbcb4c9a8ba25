"""The look-up: every pair of event and state, conversations, and a thousand random networks."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.dht.lookup import (
    TRANSITIONS,
    Answered,
    Ask,
    Failed,
    Finished,
    Lookup,
    LookupConfig,
    Pace,
    Start,
    State,
    Stop,
    TimerFired,
    Widen,
)
from wws.dht.messages import WirePeer
from wws.dht.positions import position_of_peer
from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.machine import Event

LOCAL = PeerId(bytes(32))
PEERS = [PeerId(number.to_bytes(32, "big")) for number in range(1, 600)]
ORDERED = sorted(PEERS, key=position_of_peer)
"""By their distance from position 0, the target of these tests."""


def named(*peers: PeerId) -> list[WirePeer]:
    return [WirePeer(peer) for peer in peers]


def lookup(config: LookupConfig | None = None, *, radius: int = 0) -> Lookup:
    return Lookup(0, LOCAL, config or LookupConfig(), lambda *_: Pace(0.2, 0.5), radius=radius)


def asked(commands: list[Ask | Finished]) -> list[PeerId]:
    return [command.peer for command in commands if isinstance(command, Ask)]


def in_state(state: State) -> Lookup:
    machine = lookup()
    if state is not State.IDLE:
        machine.handle(Start(named(ORDERED[0], ORDERED[1])), 0)
    if state is State.DONE:
        machine.handle(Stop(), 0)
    assert machine.state is state
    return machine


EVENTS: list[Event] = [
    Start(named(ORDERED[5])),
    Answered(ORDERED[0], named(ORDERED[2])),
    Failed(ORDERED[1]),
    TimerFired(),
    Widen(30),
    Stop(),
]


@pytest.mark.parametrize("state, event", list(product(State, EVENTS)))
def test_every_pair_moves_or_refuses(state: State, event: Event) -> None:
    machine = in_state(state)
    before = machine.closest(20), machine.asked, machine.next_wakeup()
    if (state, type(event)) in TRANSITIONS:
        machine.handle(event, 0.1)
        assert machine.state in (TRANSITIONS[state, type(event)], State.DONE)
        assert machine.state is not State.IDLE
    else:
        with pytest.raises(LocalProtocolError):
            machine.handle(event, 0.1)
        assert machine.state is state
        assert (machine.closest(20), machine.asked, machine.next_wakeup()) == before


@pytest.mark.parametrize("event", [Answered(ORDERED[9], ()), Failed(ORDERED[9])])
def test_an_answer_of_one_who_was_not_asked_is_our_bug(event: Event) -> None:
    with pytest.raises(LocalProtocolError):
        in_state(State.ASKING).handle(event, 0)


def test_with_nobody_known_it_is_over_at_once() -> None:
    machine = lookup()
    assert machine.handle(Start([]), 0) == [Finished()]
    assert machine.state is State.DONE
    assert machine.exhausted


def test_one_peer_that_names_nobody() -> None:
    machine = lookup()
    assert machine.handle(Start(named(ORDERED[3])), 0) == [Ask(ORDERED[3], ())]
    assert machine.handle(Answered(ORDERED[3], named(LOCAL, ORDERED[3])), 0.1) == [Finished()]
    assert machine.closest(20) == named(ORDERED[3])


def test_at_most_alpha_at_once_and_the_closest_first() -> None:
    machine = lookup(LookupConfig(paths=1))
    assert asked(machine.handle(Start(named(*ORDERED[10:30])), 0)) == ORDERED[10:20]
    assert asked(machine.handle(Answered(ORDERED[10], named(*ORDERED[:20])), 0.1)) == [ORDERED[0]]


def test_a_failed_peer_is_replaced_by_the_next() -> None:
    machine = lookup(LookupConfig(k=2, alpha=2))
    assert asked(machine.handle(Start(named(*ORDERED[:3])), 0)) == ORDERED[:2]
    assert asked(machine.handle(Failed(ORDERED[0]), 0.1)) == [ORDERED[2]]
    machine.handle(Answered(ORDERED[1], ()), 0.2)
    assert machine.handle(Answered(ORDERED[2], ()), 0.3) == [Finished()]
    assert machine.closest(2) == named(*ORDERED[1:3])


def test_slow_peers_free_their_place() -> None:
    machine = lookup(LookupConfig(k=6, alpha=2))
    assert asked(machine.handle(Start(named(*ORDERED[:6])), 0)) == ORDERED[:2]
    assert machine.next_wakeup() == 0.2
    assert asked(machine.handle(TimerFired(), 0.2)) == ORDERED[2:4]
    assert asked(machine.handle(Answered(ORDERED[0], ()), 0.3)) == [], "its place was given away before"
    assert asked(machine.handle(Answered(ORDERED[2], ()), 0.3)) == [ORDERED[4]]


def test_late_peers_are_not_waited_for_when_enough_answered() -> None:
    machine = lookup(LookupConfig(k=4, alpha=4, enough=3))
    assert asked(machine.handle(Start(named(*ORDERED[:6])), 0)) == ORDERED[:4]
    for peer in ORDERED[:2]:
        machine.handle(Answered(peer, ()), 0.1)
    assert machine.handle(TimerFired(), 0.2) == []
    assert machine.next_wakeup() == 0.5
    assert asked(machine.handle(TimerFired(), 0.5)) == [], "two late ones of four leave no more to ask"
    assert machine.state is State.ASKING, "two answers are not enough yet"
    assert asked(machine.handle(Answered(ORDERED[2], ()), 0.6)) == [ORDERED[4]]
    assert machine.handle(Answered(ORDERED[4], ()), 0.7) == [Finished()]
    machine.handle(Answered(ORDERED[3], ()), 3)
    assert machine.closest(4) == named(*ORDERED[:4]), "who answers late still counts"


def test_patience_ends_where_there_are_too_few() -> None:
    machine = lookup()
    machine.handle(Start(named(*ORDERED[:2])), 0)
    machine.handle(Answered(ORDERED[0], ()), 0.1)
    for when in (0.2, 0.5):
        assert machine.next_wakeup() == when
        assert machine.handle(TimerFired(), when) == []
    assert machine.next_wakeup() == 2.5
    assert machine.handle(TimerFired(), 2.5) == [Finished()]
    assert machine.next_wakeup() is None


def test_who_let_us_wait_before_gets_no_patience() -> None:
    gone = ORDERED[1]

    def pace_of(peer: PeerId, addresses: tuple[Multiaddr, ...], now: float) -> Pace:
        return Pace(0.2, 0.5, patience=0.5) if peer == gone else Pace(0.2, 0.5)

    machine = Lookup(0, LOCAL, LookupConfig(), pace_of)
    machine.handle(Start(named(*ORDERED[:2])), 0)
    machine.handle(Answered(ORDERED[0], ()), 0.1)
    assert machine.next_wakeup() == 0.2
    assert machine.handle(TimerFired(), 0.2) == []
    assert machine.next_wakeup() == 0.5
    assert machine.handle(TimerFired(), 0.5) == [Finished()]
    machine.handle(Answered(gone, ()), 3)
    assert machine.closest(2) == named(*ORDERED[:2]), "who answers yet still counts"


def test_bounds_of_queries_and_candidates() -> None:
    config = LookupConfig(max_queries=5, max_candidates=8)
    machine = lookup(config)
    waiting = asked(machine.handle(Start(named(*ORDERED[100:120])), 0))
    assert len(waiting) == 5
    while machine.state is State.ASKING:
        waiting += asked(machine.handle(Answered(waiting.pop(0), named(*ORDERED[:20])), 0.1))
    assert machine.asked == 5


def test_an_answer_is_read_only_as_far_as_k() -> None:
    machine = lookup(LookupConfig(k=3, alpha=3))
    machine.handle(Start(named(ORDERED[50])), 0)
    assert set(asked(machine.handle(Answered(ORDERED[50], named(*ORDERED[10:50])), 0.1))) == set(
        ORDERED[10:13]
    )


def test_of_one_prefix_only_three_count() -> None:
    machine = lookup(LookupConfig(k=5, alpha=5))
    crowd = [WirePeer(peer, (Multiaddr.of("203.0.113.5", 9000 + n),)) for n, peer in enumerate(ORDERED[:8])]
    others = [WirePeer(peer, (Multiaddr.of(f"198.51.{n}.1", 9000),)) for n, peer in enumerate(ORDERED[8:12])]
    private = [WirePeer(peer, (Multiaddr.of("10.0.0.1", 9000),)) for peer in ORDERED[12:16]]
    first = asked(machine.handle(Start(crowd + others + private), 0))
    assert first == ORDERED[:3] + ORDERED[8:10]
    claims_two = WirePeer(ORDERED[0], (Multiaddr.of("203.0.113.5", 9000), Multiaddr.of("192.0.2.1", 9000)))
    local_only = lookup(LookupConfig(k=5, alpha=5))
    assert len(asked(local_only.handle(Start(private), 0))) == 4, "private prefixes are exempt"
    hidden = lookup(LookupConfig(k=5, alpha=5, per_prefix=1))
    first = asked(hidden.handle(Start([claims_two, crowd[1], others[0]]), 0))
    assert first == [ORDERED[0], ORDERED[8]], "a second address does not hide the first one's prefix"


def test_within_the_radius_everybody_is_asked() -> None:
    radius = position_of_peer(ORDERED[6])
    machine = lookup(LookupConfig(k=4, alpha=20), radius=radius)
    assert asked(machine.handle(Start(named(*ORDERED[:12])), 0)) == ORDERED[:7]
    bounded = lookup(LookupConfig(k=4, alpha=20, widest=5), radius=radius)
    assert asked(bounded.handle(Start(named(*ORDERED[:12])), 0)) == ORDERED[:5]


def test_a_crowd_at_the_target_is_seen_and_looked_behind() -> None:
    """Within the radius twelve are expected; thirty stand there, most of them right at the target."""
    crowd, behind = ORDERED[:20], ORDERED[20:60]
    radius = position_of_peer(ORDERED[40])
    machine = lookup(LookupConfig(alpha=64, paths=1), radius=radius)
    machine.handle(Start(named(*crowd[:2])), 0)
    before = machine.is_dense
    machine.handle(Answered(crowd[0], named(*crowd)), 0.1)
    assert (before, machine.is_dense) == (False, True)
    assert asked(machine.handle(Answered(crowd[1], named(*behind)), 0.1))
    assert machine.k == 40
    assert machine.belongs(behind[5])
    # Late ones are waited for here: it may be them whom the crowd hides.
    for peer in crowd[2:16]:
        machine.handle(Answered(peer, ()), 0.2)
    assert Finished() not in machine.handle(TimerFired(), 1.0)
    ended = [*machine.handle(TimerFired(), 3.0), *machine.handle(TimerFired(), 3.0)]
    assert Finished() in ended


def test_an_honest_neighbourhood_is_not_dense() -> None:
    radius = position_of_peer(ORDERED[12])
    machine = lookup(radius=radius)
    machine.handle(Start(named(*ORDERED[:200])), 0)
    assert not machine.is_dense
    assert not lookup().is_dense
    assert machine.k == 20


def test_who_names_peers_that_do_not_answer_is_believed_no_longer() -> None:
    liar, honest = ORDERED[100], ORDERED[101]
    phantoms, real = ORDERED[:60], ORDERED[60:66]
    machine = lookup(LookupConfig(alpha=4, paths=1, believed=4))
    machine.handle(Start(named(liar, honest)), 0)
    assert asked(machine.handle(Answered(liar, named(*phantoms)), 0.1)) == phantoms[:3]
    assert asked(machine.handle(Answered(honest, named(*real, phantoms[20])), 0.1)) == [phantoms[3]]
    assert asked(machine.handle(Failed(phantoms[0]), 0.2)) == [phantoms[4]]
    # Slow is as bad as failed. From the fourth on only what somebody else named too is asked.
    commands = machine.handle(TimerFired(), 0.31)
    assert asked(commands)[0] == phantoms[20]
    assert set(asked(commands)[1:]) <= set(real)
    # Should it answer yet, those who named it are believed again.
    assert not machine._hearsay.believes(machine._candidates[phantoms[40]])
    machine.handle(Answered(phantoms[1], ()), 0.32)
    assert machine._hearsay.believes(machine._candidates[phantoms[40]])


def test_parties_are_told_apart_by_prefix() -> None:
    machine = lookup()
    one_prefix = [WirePeer(ORDERED[n], (Multiaddr.of(f"203.0.113.{n + 1}", 9000),)) for n in range(3)]
    machine.handle(Start([*one_prefix, WirePeer(ORDERED[5]), WirePeer(ORDERED[6])]), 0)
    assert machine.diversity(ORDERED[:3]) == 1
    assert machine.diversity([ORDERED[0], ORDERED[5], ORDERED[6]]) == 3


def test_a_lying_path_does_not_hide_what_the_others_find() -> None:
    """Of 20 seeds one leads into a made-up crowd at the very target; the other paths go on regardless."""
    honest = ORDERED[40:60]
    crowd = ORDERED[:20]
    seeds = ORDERED[100:120]
    liar = seeds[0]
    machine = lookup()
    waiting = asked(machine.handle(Start(named(*seeds)), 0))
    found: set[PeerId] = set()
    while waiting:
        peer = waiting.pop(0)
        found.add(peer)
        closer = crowd if peer is liar or peer in crowd else honest
        waiting += asked(machine.handle(Answered(peer, named(*closer)), 0.1))
    assert machine.state is State.DONE
    assert found >= set(crowd)
    assert len(found & set(honest)) >= 13
    assert {w.peer_id for w in machine.spread(20)} & set(honest), "and a value is stored there too"


def test_widen_goes_on_after_the_end() -> None:
    machine = lookup(LookupConfig(k=2, alpha=2))
    machine.handle(Start(named(*ORDERED[:6])), 0)
    machine.handle(Answered(ORDERED[0], ()), 0.1)
    assert machine.handle(Answered(ORDERED[1], ()), 0.1) == [Finished()]
    assert asked(machine.handle(Widen(4), 0.2)) == ORDERED[2:4]
    assert machine.state is State.ASKING
    assert machine.handle(Widen(2), 0.2) == [], "it never narrows"


def test_stop_asks_nobody_further() -> None:
    machine = lookup(LookupConfig(alpha=2))
    machine.handle(Start(named(*ORDERED[:6])), 0)
    assert machine.handle(Stop(), 0) == []
    assert machine.handle(Answered(ORDERED[0], named(*ORDERED[6:9])), 0.1) == []
    assert machine.closest(20) == named(ORDERED[0])


@settings(max_examples=60)
@given(
    size=st.integers(1, 150),
    seed=st.integers(0, 10_000),
    dead=st.sets(st.integers(0, 149), max_size=40),
    paths=st.integers(1, 4),
)
def test_in_any_network_it_ends_and_finds_the_closest(
    size: int, seed: int, dead: set[int], paths: int
) -> None:
    """Everybody knows the neighbourhood of the target and some random peers: the closest living are found."""
    rng = random.Random(seed)
    peers = rng.sample(PEERS, size)
    by_distance = sorted(peers, key=position_of_peer)
    living = [peer for peer in by_distance if peers.index(peer) not in dead]
    machine = lookup(LookupConfig(k=8, paths=paths, paths_from=10, max_queries=500))
    waiting = asked(machine.handle(Start(named(*rng.sample(peers, min(12, size)))), 0))
    steps = 0
    while waiting:
        steps += 1
        assert steps <= size, "nobody is asked twice"
        peer = waiting.pop(rng.randrange(len(waiting)))
        if peers.index(peer) in dead:
            waiting += asked(machine.handle(Failed(peer), steps))
            continue
        known = sorted({*rng.sample(living, min(6, len(living))), *by_distance[:60]}, key=position_of_peer)
        waiting += asked(machine.handle(Answered(peer, named(*known[: rng.randint(8, 20)])), steps))
    assert machine.state is State.DONE
    # An answer is read only as far as k, so what is behind many dead ones may stay unknown.
    if living and not dead & {peers.index(peer) for peer in by_distance[:8]} and machine.answered:
        assert [w.peer_id for w in machine.closest(8)] == living[:8]
