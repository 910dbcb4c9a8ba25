"""Token buckets, and the day's new names."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import WwsError
from wws.rpc.limits import Limits, LimitsConfig, RateLimited
from wws.rpc.new_names import NewNames
from wws.rpc.policy import Rate
from wws.testing.fake_node import FakeNode, FakeSwarm

NOW = 1_790_000_000
DAY = 86_400


def test_a_bucket_empties_and_fills_evenly() -> None:
    limits, rate = Limits(LimitsConfig()), Rate(2, 60.0)
    limits.take([("alice", rate)], 0)
    limits.take([("alice", rate)], 0)
    with pytest.raises(RateLimited) as caught:
        limits.take([("alice", rate)], 0)
    assert caught.value.details == {"retry_after": 30}
    with pytest.raises(RateLimited):
        limits.take([("alice", rate)], 29)
    limits.take([("alice", rate)], 30)
    limits.take([("bob", rate)], 30)


def test_from_all_buckets_or_from_none() -> None:
    limits, wide, narrow = Limits(LimitsConfig()), Rate(3, 60.0), Rate(1, 60.0)
    limits.take([("alice", wide), ("alice ping", narrow)], 0)
    for _ in range(5):
        with pytest.raises(RateLimited):
            limits.take([("alice", wide), ("alice ping", narrow)], 0)
    limits.take([("alice", wide)], 0)
    limits.take([("alice", wide)], 0)


def test_the_table_is_bounded_and_full_buckets_are_forgotten() -> None:
    limits, rate = Limits(LimitsConfig(max_buckets=3)), Rate(1, 60.0)
    for name in ("alice", "bob", "carol"):
        limits.take([(name, rate)], 0)
    with pytest.raises(RateLimited):
        limits.take([("dave", rate)], 0)
    limits.take([("dave", rate)], 60)
    assert len(limits) == 1


@given(st.lists(st.floats(0, 50), max_size=60), st.integers(1, 5))
def test_never_more_than_a_burst_and_what_filled_since(gaps: list[float], times: int) -> None:
    limits, now, taken = Limits(LimitsConfig()), 0.0, 0
    for gap in gaps:
        now += gap
        try:
            limits.take([("alice", Rate(times, 60.0))], now)
            taken += 1
        except RateLimited as error:
            retry = error.details["retry_after"]
            assert isinstance(retry, int)
            assert 1 <= retry <= 60
    assert taken <= times + now * times / 60.0 + 1e-6


# --- new names --------------------------------------------------------------------------------


async def claim(names: NewNames, node: FakeNode, name: str, at: int = NOW) -> str:
    try:
        await names.register(node, name, at)
    except WwsError as error:
        return error.code
    return "ok"


async def test_five_new_names_a_day() -> None:
    alice, names = FakeNode("alice"), NewNames("public")
    assert [await claim(names, alice, f"name-{n}") for n in range(5)] == ["ok"] * 5
    with pytest.raises(RateLimited) as caught:
        await names.register(alice, "name-5", NOW + 10)
    assert caught.value.details == {"retry_after": DAY - 10}
    assert len(await alice.names()) == 5
    assert await claim(names, alice, "name-5", NOW + DAY) == "ok"


async def test_malformed_refused_and_owned_ones_do_not_count() -> None:
    swarm = FakeSwarm()
    alice, bob, names = FakeNode("alice", swarm), FakeNode("bob", swarm), NewNames("public")
    await bob.register_name("taken")
    for _ in range(20):
        assert await claim(names, alice, "a") == "malformed_name"
        assert await claim(names, alice, "did:swarm:nothing") != "ok"
        assert await claim(names, alice, "taken") == "name_taken"
    assert [await claim(names, alice, f"name-{n}") for n in range(5)] == ["ok"] * 5
    for spelling in ("name-0", "NAME-1", "wws:name-2", "wws://name-3", "name-4@public"):
        assert await claim(names, alice, spelling) == "ok", "it owns it already"
    assert await claim(names, alice, "name-5") == "rate_limited"


async def test_a_name_counts_once_a_day() -> None:
    alice, names = FakeNode("alice"), NewNames("public")
    for _ in range(10):
        assert await claim(names, alice, "alice") == "ok"
        await alice.release_name("alice")
    assert [await claim(names, alice, f"name-{n}") for n in range(5)] == ["ok"] * 4 + ["rate_limited"]


async def test_claims_at_once_do_not_pass_together() -> None:
    class Slow(FakeNode):
        async def register_name(self, name: str):
            await asyncio.sleep(0)
            return await super().register_name(name)

    alice, names = Slow("alice"), NewNames("public")
    verdicts = await asyncio.gather(*(claim(names, alice, f"name-{n}") for n in range(20)))
    assert sorted(verdicts) == ["ok"] * 5 + ["rate_limited"] * 15
    assert len(await alice.names()) == 5


async def test_a_claim_that_is_cut_short_counts() -> None:
    class Stuck(FakeNode):
        async def register_name(self, name: str):
            await asyncio.Event().wait()

    alice, names = Stuck("alice"), NewNames("public", Rate(1, float(DAY)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await names.register(alice, "alice", NOW)
    assert await claim(names, FakeNode("bob"), "other") == "rate_limited"


async def test_the_day_goes_on_over_a_restart_and_a_clock_set_back() -> None:
    alice, names = FakeNode("alice"), NewNames("public")
    for number in range(5):
        await claim(names, alice, f"name-{number}")
    again = NewNames("public")
    again.load(json.loads(json.dumps(names.to_json())))
    assert await claim(again, alice, "name-5", NOW + 1) == "rate_limited"
    with pytest.raises(RateLimited) as caught:
        await again.register(alice, "name-5", NOW - 10 * DAY)
    retry = caught.value.details["retry_after"]
    assert isinstance(retry, int)
    assert retry <= DAY


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=9,
    )
)
def test_whatever_the_file_holds_gives_a_ledger(value: object) -> None:
    names = NewNames("public")
    names.load(value)  # type: ignore[arg-type]
    assert names.version == 0
