"""Bans: what adds up, how long they last, whom they spare."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import wws
from wws.errors import RemoteProtocolError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.mesh.bans import OFFENCES, Ban, Bans, BansConfig, Offence

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
PREFIX = "203.0.113.0/24"
MINUTE, DAY = 60.0, 86_400.0


def peer(number: int) -> PeerId:
    return Identity.from_label(f"mallory {number}").peer_id


def ban(bans: Bans, who: PeerId, now: float) -> Ban:
    """Let a peer offend until it is banned."""
    for _ in range(1000):
        if (made := bans.offended(who, Offence.BAD_SIGNATURE, now)) is not None:
            return made
    raise AssertionError("never banned")


# A life


def test_offences_add_up_to_a_ban_that_ends_by_itself() -> None:
    bans = Bans()
    assert [bans.offended(ALICE, Offence.BAD_SIGNATURE, now=0) for _ in range(3)] == [None, None, None]
    made = bans.offended(ALICE, Offence.BAD_SIGNATURE, now=0)
    assert made == Ban(ALICE, "peer", Offence.BAD_SIGNATURE, until=10 * MINUTE, count=1)
    assert bans.ban_of(ALICE, now=599) == made
    assert bans.listing(now=599) == [made]
    assert bans.ban_of(ALICE, now=600) is None
    assert bans.next_wakeup() == 600
    assert bans.expire(now=600) == [ALICE]
    assert bans.next_wakeup() is None
    assert (bans.points(ALICE, now=600), len(bans), bans.listing(now=600)) == (0, 0, [])


def test_each_ban_is_twice_as_long_up_to_a_day() -> None:
    bans, now, lengths = Bans(), 0.0, []
    for _ in range(12):
        made = ban(bans, ALICE, now)
        lengths.append((made.until - now) / MINUTE)
        now = made.until + 1
    assert lengths == [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440, 1440]


def test_after_a_day_without_a_ban_it_begins_anew() -> None:
    bans = Bans()
    second = ban(bans, ALICE, ban(bans, ALICE, 0).until)
    assert second.count == 2
    assert ban(bans, ALICE, second.until + DAY - 1).count == 3
    bans = Bans()
    assert ban(bans, ALICE, ban(bans, ALICE, 0).until + DAY).count == 1


def test_points_drain_so_that_a_rare_slip_never_adds_up() -> None:
    bans = Bans()
    for number in range(1000):  # one malformed message in two minutes
        assert bans.offended(ALICE, Offence.MALFORMED, now=120.0 * number) is None
    assert bans.points(ALICE, now=120.0 * 1000) == 0


@pytest.mark.parametrize("offence", Offence)
def test_so_many_of_each_offence_and_one_less(offence: Offence) -> None:
    config = BansConfig()
    needed = int(config.threshold / config.points[offence])
    bans = Bans(config)
    assert [bans.offended(ALICE, offence, now=0) for _ in range(needed - 1)] == [None] * (needed - 1)
    made = bans.offended(ALICE, offence, now=0)
    assert made is not None
    assert made.reason is offence


def test_unban_forgives_everything() -> None:
    bans = Bans()
    ban(bans, ALICE, 0)
    assert bans.unban(ALICE, now=1)
    assert bans.ban_of(ALICE, now=1) is None
    assert not bans.unban(ALICE, now=1)
    assert not bans.unban(BOB, now=1)
    assert ban(bans, ALICE, 2).count == 1
    assert bans.expire(now=600) == []  # the end of the first ban is nobody's any more


# Prefixes


def blame(bans: Bans, count: int, *, now: float = 0, innocent: int = 0) -> list[Ban | None]:
    return [
        bans.blame_prefix(PREFIX, ban(bans, peer(number), now), now, innocent=innocent)
        for number in range(count)
    ]


def test_many_banned_peers_of_one_prefix_ban_it() -> None:
    bans = Bans()
    *before, last = blame(bans, 8)
    assert before == [None] * 7
    assert last == Ban(PREFIX, "prefix", Offence.BAD_SIGNATURE, until=10 * MINUTE, count=1)
    assert bans.ban_of_prefix(PREFIX, now=0) == last
    assert bans.ban_of_prefix("198.51.100.0/24", now=0) is None
    assert len(bans.listing(now=0)) == len(bans) == 9
    assert PREFIX in bans.expire(now=600)
    assert bans.ban_of_prefix(PREFIX, now=600) is None


def test_who_is_banned_no_more_does_not_count() -> None:
    bans = Bans()
    assert blame(bans, 7) == [None] * 7
    assert bans.blame_prefix(PREFIX, ban(bans, peer(7), 600), 600, innocent=0) is None


def test_a_prefix_with_more_innocent_than_banned_peers_is_spared() -> None:
    assert blame(Bans(), 20, innocent=20) == [None] * 20
    assert blame(Bans(), 21, innocent=20)[20] is not None


def test_a_prefix_is_banned_for_an_hour_at_most() -> None:
    bans, now, lengths = Bans(BansConfig(peers_per_prefix=1)), 0.0, []
    for number in range(6):
        made = bans.blame_prefix(PREFIX, ban(bans, peer(number), now), now, innocent=0)
        assert made is not None
        lengths.append((made.until - now) / MINUTE)
        now = made.until
        bans.expire(now)
    assert lengths == [10, 20, 40, 60, 60, 60]


def test_unban_of_a_prefix_leaves_its_peers_banned() -> None:
    bans = Bans()
    blame(bans, 8)
    assert bans.unban(PREFIX, now=0)
    assert not bans.unban(PREFIX, now=0)
    assert bans.ban_of_prefix(PREFIX, now=0) is None
    assert bans.ban_of(peer(0), now=0) is not None


# Bounds


def test_one_suspect_more_than_are_remembered() -> None:
    bans = Bans(BansConfig(max_suspects=3))
    for number in range(4):
        bans.offended(peer(number), Offence.MALFORMED, now=0)
    assert bans.suspects == 3
    assert [bans.points(peer(number), now=0) for number in range(4)] == [0, 10, 10, 10]


def test_one_ban_more_than_there_is_room_for_ends_the_oldest() -> None:
    bans = Bans(BansConfig(max_banned=3))
    for number in range(4):
        ban(bans, peer(number), now=number)
    assert len(bans) == 3
    assert bans.ban_of(peer(0), now=4) is None
    assert bans.ban_of(peer(3), now=4) is not None


def test_bans_that_had_to_make_room_leave_nothing_behind() -> None:
    """Keys cost nothing: whoever has thousands banned in ten minutes must not fill the list of their ends."""
    bans = Bans(BansConfig(max_banned=5, max_prefixes=2, peers_per_prefix=1))
    for number in range(200):
        bans.blame_prefix(f"10.0.{number}.0/24", ban(bans, peer(number), number), number, innocent=0)
        assert len(bans._ends) <= 2 * (5 + 2)
    assert len(bans) == 5 + 2
    for _ in range(10):
        wakeup = bans.next_wakeup()
        if wakeup is None:
            break
        bans.expire(wakeup)
    assert len(bans) == 0


def test_one_prefix_more_than_are_remembered() -> None:
    bans = Bans(BansConfig(max_prefixes=2, peers_per_prefix=1))
    for number in range(3):
        bans.blame_prefix(f"10.0.{number}.0/24", ban(bans, peer(number), 0), 0, innocent=0)
    assert [bans.ban_of_prefix(f"10.0.{number}.0/24", 0) is not None for number in range(3)] == [
        False, True, True,
    ]  # fmt: skip


# The table


def faults() -> Iterator[type[RemoteProtocolError]]:
    """Every fault of a peer there is in the library."""
    for module in pkgutil.walk_packages(wws.__path__, "wws."):
        if not module.name.startswith(("wws.testing", "wws.runtime.__main__")):
            importlib.import_module(module.name)
    waiting = [RemoteProtocolError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        yield kind


# Not about peers of the mesh: what users typed, files, releases, DNS, RPC, records that the DHT has checked.
ELSEWHERE = (
    "wws.discovery",
    "wws.rpc",
    "wws.names",
    "wws.config",
    "wws.codec",
    "wws.identity",
    "wws.release",
    "wws.testing",
)


def test_each_fault_of_a_peer_is_decided_on() -> None:
    undecided = {
        kind.code
        for kind in faults()
        if kind.__module__.startswith("wws.")
        and not kind.__module__.startswith(ELSEWHERE)
        and kind.code not in OFFENCES
    }
    assert undecided == set()


@pytest.mark.parametrize(
    "word",
    ["wrong_network", "timeout", "stream_reset", "noise_decryption_failed", "protocol_not_supported",
     "keep_alive_timeout", "phase_timeout", "rate_limited_prefix", "streams_per_prefix", "truncated",
     "expired_record", "handshake_timeout", "unknown_namespace"],
)  # fmt: skip
def test_what_is_no_offence(word: str) -> None:
    """Being elsewhere, slow, cut off, of another version, or a neighbour of the wrong people."""
    assert OFFENCES[word] is None


# All histories


class AgainstAModel(RuleBasedStateMachine):
    """Against the plainest book-keeping that keeps the same promises."""

    config = BansConfig(peers_per_prefix=2, max_suspects=1000, max_banned=1000)

    def __init__(self) -> None:
        super().__init__()
        self.bans = Bans(self.config)
        self.now = 0.0
        self.points: dict[PeerId, float] = {}
        self.until: dict[PeerId, float] = {}
        self.counts: dict[PeerId, int] = {}

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 599.0, 600.0, 3600.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for who in self.points:
            self.points[who] = max(0.0, self.points[who] - seconds * self.config.forgiven_per_second)

    @rule()
    def housekeeping(self) -> None:
        self.bans.expire(self.now)

    @rule(who=st.integers(0, 3).map(peer), offence=st.sampled_from(Offence), times=st.integers(1, 60))
    def offend(self, who: PeerId, offence: Offence, times: int) -> None:
        for _ in range(times):
            made = self.bans.offended(who, offence, self.now)
            if self.until.get(who, 0.0) > self.now:
                assert made is None
                continue
            self.points[who] = self.points.get(who, 0.0) + self.config.points[offence]
            if self.points[who] < self.config.threshold - 1e-6:
                assert made is None
            elif made is not None:  # exactly at the threshold, rounding decides
                if self.now >= self.until.get(who, 0.0) + self.config.clean_after:
                    self.counts[who] = 0
                self.counts[who] = self.counts.get(who, 0) + 1
                length = min(self.config.first_ban * 2 ** (self.counts[who] - 1), self.config.longest_ban)
                assert made == Ban(who, "peer", offence, self.now + length, self.counts[who])
                self.until[who], self.points[who] = made.until, 0.0
                self.bans.blame_prefix(PREFIX, made, self.now, innocent=0)
            else:
                assert self.points[who] < self.config.threshold + 1e-6

    @rule(who=st.integers(0, 3).map(peer))
    def unban(self, who: PeerId) -> None:
        assert self.bans.unban(who, self.now) == (self.until.get(who, 0.0) > self.now)
        for known in (self.points, self.until, self.counts):
            known.pop(who, None)  # type: ignore[attr-defined]

    @invariant()
    def the_banned_are_those_of_the_model(self) -> None:
        banned = {who for who, until in self.until.items() if until > self.now}
        listing = self.bans.listing(self.now)
        assert {one.subject for one in listing if one.kind == "peer"} == banned
        assert all((self.bans.ban_of(peer(n), self.now) is not None) == (peer(n) in banned) for n in range(4))
        assert [one.until for one in listing] == sorted(one.until for one in listing)
        if (wakeup := self.bans.next_wakeup()) is not None:
            assert all(wakeup <= one.until for one in listing)
        else:
            assert not listing

    @invariant()
    def a_prefix_is_banned_no_longer_than_it_may_be(self) -> None:
        held = self.bans.ban_of_prefix(PREFIX, self.now)
        assert held is None or held.until <= self.now + self.config.longest_prefix_ban


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(stateful_step_count=30)
