"""Whom to ask: order, parties, pauses and bounds."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.identity.keys import Identity
from wws.nat.observed import Way
from wws.nat.reachability_events import Server, ServersConfig
from wws.nat.servers import UNWILLING, Servers

CONFIG = ServersConfig()
TCP4, TCP6 = Way("tcp", 4), Way("tcp", 6)
ALL = [
    Server(
        Identity.from_label(f"server {number}").peer_id, f"20.0.{number}.1", 4, number < 3, keeps_apart=True
    )
    for number in range(10)
]


def servers(*chosen: Server, config: ServersConfig = CONFIG) -> Servers:
    book = Servers(config, random.Random(1))
    book.update(chosen)
    return book


def test_entry_points_come_first_and_of_them_those_of_the_family() -> None:
    six = replace(ALL[5], ip="2001:db8::5", version=6)
    book = servers(*ALL[:5], six)
    assert set(book.choose(TCP4, 0, count=3)) == set(ALL[:3])
    assert book.choose(TCP6, 0, count=1) == [six]
    assert set(book.choose(TCP4, 0, count=10)) == {*ALL[:5], six}


def test_what_fails_for_the_other_family_does_not_pause_a_server() -> None:
    book = servers(ALL[0])
    book.asked(ALL[0].peer, 0)
    book.answered(ALL[0].peer, TCP6, None, "rejected", 0)
    assert book.choose(TCP6, 0, count=1) == []
    assert book.choose(TCP4, 0, count=1) == [ALL[0]]


def test_of_the_other_family_a_server_is_asked_one_thing_at_a_time() -> None:
    book = servers(ALL[0])
    assert book.choose(TCP6, 0, count=1) == [ALL[0]]
    book.asked(ALL[0].peer, 0)
    assert book.choose(TCP6, 0, count=1) == []
    assert book.choose(TCP4, 0, count=1) == [ALL[0]]


def test_one_of_each_party() -> None:
    near = [replace(server, ip=f"20.0.0.{number}") for number, server in enumerate(ALL[:3], 1)]
    book = servers(*near, ALL[3])
    assert len(book.choose(TCP4, 0, count=4)) == 2
    assert book.choose(TCP4, 0, count=4, without={near[0].party}) == [ALL[3]]
    assert book.choose(TCP4, 0, count=4, without={near[0].party}, without_ips={ALL[3].ip}) == []


def test_a_probe_goes_through_those_that_it_can_dial() -> None:
    probed = replace(ALL[4], probe_ways=frozenset({TCP4}))
    book = servers(*ALL[:3], probed)
    assert book.choose(TCP4, 0, count=4, to_probe_through=True) == [probed]


def test_who_gives_no_answer_is_left_alone_for_longer_each_time() -> None:
    book = servers(ALL[0])
    now = 0.0
    for pause in (CONFIG.pause, 2 * CONFIG.pause, 4 * CONFIG.pause):
        book.asked(ALL[0].peer, now)
        book.answered(ALL[0].peer, TCP4, None, "timeout", now)
        assert book.choose(TCP4, now, count=1) == []
        assert book.next_free(TCP4, now) == now + pause
        now += pause
        assert book.choose(TCP4, now, count=1) == [ALL[0]]
    book.asked(ALL[0].peer, now)
    book.answered(ALL[0].peer, TCP4, True, "", now)
    book.asked(ALL[0].peer, now)
    book.answered(ALL[0].peer, TCP4, None, "timeout", now)
    assert book.next_free(TCP4, now) == now + CONFIG.pause


def test_who_will_not_dial_a_way_is_asked_for_others() -> None:
    book = servers(ALL[0])
    book.asked(ALL[0].peer, 0)
    book.answered(ALL[0].peer, TCP6, None, UNWILLING, 0)
    assert book.choose(TCP6, 0, count=1) == []
    assert book.choose(TCP4, 0, count=1) == [ALL[0]]
    assert book.next_free(TCP6, 0) == CONFIG.longest_pause


@pytest.mark.parametrize(
    "config, fits",
    [
        (ServersConfig(in_flight_per_server=2), 2),
        (ServersConfig(in_flight=3, in_flight_per_server=9), 3),
        (ServersConfig(per_minute=4, in_flight=99, in_flight_per_server=9), 4),
        (ServersConfig(per_minute_per_server=5, in_flight=99, in_flight_per_server=9), 5),
    ],
)
def test_one_question_more_than_fits(config: ServersConfig, fits: int) -> None:
    book = servers(ALL[0], config=config)
    for _ in range(fits):
        assert book.choose(TCP4, 0, count=1)
        book.asked(ALL[0].peer, 0)
    assert book.choose(TCP4, 0, count=1) == []
    for _ in range(fits):
        book.answered(ALL[0].peer, TCP4, True, "", 0)
    by_minute = fits in (config.per_minute, config.per_minute_per_server)
    assert bool(book.choose(TCP4, 1, count=1)) is not by_minute
    assert book.next_free(TCP4, 1) == (60 if by_minute else None)
    assert book.choose(TCP4, 60, count=1) == [ALL[0]]


def test_who_does_not_keep_questions_apart_is_asked_one_at_a_time() -> None:
    stranger = replace(ALL[0], keeps_apart=False)
    book = servers(stranger)
    book.asked(stranger.peer, 0)
    assert book.choose(TCP4, 0, count=1) == []
    assert not book.is_free(stranger.peer, TCP4, 0)
    assert not book.is_free(ALL[1].peer, TCP4, 0)  # not connected at all
    book.answered(stranger.peer, TCP4, True, "", 0)
    assert book.is_free(stranger.peer, TCP4, 0)


def test_no_more_servers_are_considered_than_the_bound_entry_points_first() -> None:
    book = servers(*reversed(ALL), config=ServersConfig(max_servers=3))
    assert len(book) == 3
    assert set(book.choose(TCP4, 0, count=9)) == set(ALL[:3])


def test_who_leaves_takes_its_questions_along() -> None:
    book = servers(*ALL[:2], config=ServersConfig(in_flight=2))
    book.asked(ALL[0].peer, 0)
    book.asked(ALL[0].peer, 0)
    assert book.choose(TCP4, 0, count=1) == []
    book.update(ALL[1:2])
    assert book.choose(TCP4, 0, count=1) == [ALL[1]]
    book.answered(ALL[0].peer, TCP4, True, "", 0)  # late
    book.release(ALL[0].peer)
    assert book.choose(TCP4, 0, count=9) == [ALL[1]]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "yes", "none", "unwilling", "release", "update"]),
            st.integers(0, 3),
            st.floats(0, 30),
        ),
        max_size=80,
    )
)
def test_whatever_happens_the_bounds_hold(steps: list[tuple[str, int, float]]) -> None:
    config = ServersConfig(in_flight=3, per_minute=6, per_minute_per_server=4)
    book = servers(*ALL[:4], config=config)
    now, asked = 0.0, list[float]()
    for step, number, seconds in steps:
        now += seconds
        server = ALL[number]
        match step:
            case "ask":
                for chosen in book.choose(TCP4, now, count=number):
                    book.asked(chosen.peer, now)
                    asked.append(now)
            case "release":
                book.release(server.peer)
            case "update":
                book.update(ALL[number : number + 2])
            case _:
                answer = {"yes": (True, ""), "none": (None, "timeout"), "unwilling": (None, UNWILLING)}[step]
                book.answered(server.peer, TCP4, *answer, now)
        assert sum(now - 60 < at for at in asked) <= config.per_minute
        assert 0 <= book._in_flight <= config.in_flight
        free = book.next_free(TCP4, now)
        assert free is None or free > now
