"""The book of agents: work, rate, bounds, and what is kept over a restart."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import WwsError
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.rpc.agents import AgentBook, AgentsConfig
from wws.rpc.policy import Rate
from wws.testing.rpc import registration

NOW = 1_790_000_000
ALICE = Identity.from_label("alice")


def book(swarm: str = "public", **config: object) -> AgentBook:
    return AgentBook(AgentsConfig(**config), swarm)  # type: ignore[arg-type]


def register(
    agents: AgentBook,
    params: dict,
    *,
    size: int = 1,
    vouched: bool = True,
    token: str | None = None,
    at: int = NOW,
) -> WwsError | None:
    try:
        agent = agents.register(
            params["agent_id"],
            params["public_key"],
            params["pow"],
            swarm_size=size,
            vouched=vouched,
            unix_now=at,
            token=token,
        )
    except WwsError as error:
        return error
    assert agent.expires_at == at + 86_400
    return None


def word(error: WwsError | None) -> str:
    return "ok" if error is None else error.code


def people(count: int) -> Iterator[dict]:
    for number in range(count):
        yield registration(Identity.from_label(f"agent {number}"))


def test_known_for_a_day() -> None:
    agents = book()
    did = ALICE.peer_id.did
    assert agents.find(did, NOW) is None
    assert register(agents, registration(ALICE)) is None
    found = agents.find(did, NOW + 86_399)
    assert found is not None
    assert found.public_key == ALICE.public_key
    assert agents.find(did, NOW + 86_400) is None


@pytest.mark.parametrize(
    "size, bits", [(1, 12), (199, 12), (200, 14), (1_999, 14), (2_000, 16), (19_999, 16), (20_000, 18)]
)
def test_the_work_follows_half_the_size_of_the_swarm(size: int, bits: int) -> None:
    agents = book()
    did = ALICE.peer_id.did
    # A nonce with a bit too few (a larger swarm's costs too much here), and what the refusal says.
    weak = next(
        nonce
        for nonce in range(1 << 24)
        if proof_of_work.leading_zero_bits("agent:public", did, nonce) == min(bits - 1, 13)
    )
    params = registration(ALICE) | {"pow": weak}
    error = register(agents, params, size=size)
    assert error is not None
    assert error.code == "work_too_weak"
    assert error.details == {"required_bits": bits}
    if bits <= 14:
        enough = registration(ALICE) | {"pow": proof_of_work.solve("agent:public", did, bits)}
        assert register(agents, enough, size=size) is None


def test_work_for_another_swarm_or_agent_is_worth_nothing() -> None:
    agents = book("elsewhere")
    assert word(register(agents, registration(ALICE))) == "work_too_weak"
    assert word(register(agents, registration(ALICE, swarm="elsewhere"))) == "ok"
    bobs = registration(Identity.from_label("bob"))
    assert word(register(book(), registration(ALICE) | {"pow": bobs["pow"]})) == "work_too_weak"


def test_once_an_hour_and_refused_attempts_do_not_count() -> None:
    agents = book()
    good = registration(ALICE)
    for _ in range(5):
        assert word(register(agents, good | {"pow": 0})) == "work_too_weak"
    assert register(agents, good) is None
    error = register(agents, good, at=NOW + 1)
    assert error is not None
    assert (error.code, error.details) == ("rate_limited", {"retry_after": 3599})
    assert register(agents, good, at=NOW + 3_600) is None


@pytest.mark.parametrize("back", [1, 3_600, 86_400 * 3])
def test_a_clock_set_back_does_not_lock_out_for_longer_than_the_rate(back: int) -> None:
    agents = book()
    assert register(agents, registration(ALICE)) is None
    error = register(agents, registration(ALICE), at=NOW - back)
    assert error is not None
    assert error.details["retry_after"] <= 3_600


def test_the_book_is_bounded_and_refuses() -> None:
    agents = book(max_agents=3, for_owner=0)
    verdicts = [word(register(agents, params)) for params in people(4)]
    assert verdicts == ["ok", "ok", "ok", "too_many_agents"]
    first = next(people(1))
    assert register(agents, first, at=NOW + 3_600) is None, "who is in the book may renew"
    fourth = list(people(4))[3]
    assert word(register(agents, fourth, at=NOW + 86_400)) == "ok", "who has lapsed makes room"


def test_a_token_cannot_fill_the_book() -> None:
    """Nor all of them: there is no way to take an agent out before its day is over."""
    agents = book(max_agents=6, for_owner=2, by_one_token=3)
    crowd = list(people(9))
    verdicts = [word(register(agents, params, token="a")) for params in crowd[:4]]
    assert verdicts == ["ok", "ok", "ok", "too_many_agents"]
    assert word(register(agents, crowd[0], token="a", at=NOW + 3_600)) == "ok", "it may renew its own"
    assert word(register(agents, crowd[3], token="b")) == "ok"
    assert word(register(agents, crowd[4], token="b")) == "too_many_agents", "what is left is the owner's"
    assert word(register(agents, crowd[4], vouched=False)) == "too_many_agents"
    assert [word(register(agents, params)) for params in crowd[5:8]] == ["ok", "ok", "too_many_agents"]
    again = book(max_agents=6, for_owner=2, by_one_token=3)
    again.load(json.loads(json.dumps(agents.to_json())))
    assert again.to_json() == agents.to_json()


def test_strangers_cannot_fill_the_book() -> None:
    agents = book(newcomers=Rate(2, 3600.0))
    crowd = list(people(5))
    assert [word(register(agents, params, vouched=False)) for params in crowd[:3]] == [
        "ok",
        "ok",
        "rate_limited",
    ]
    assert word(register(agents, crowd[3])) == "ok", "somebody here vouched for it"
    assert word(register(agents, crowd[2], vouched=False, at=NOW + 3_600)) == "ok"
    default = AgentsConfig()
    assert default.newcomers.times * 24 < default.max_agents


@pytest.mark.parametrize(
    "change",
    [
        {"public_key": "0" * 63},
        {"public_key": "0" * 65},
        {"public_key": "Z" * 64},
        {"public_key": ALICE.public_key.hex().upper()},
        {"agent_id": "did:swarm:" + "0" * 64},
        {"agent_id": "alice"},
        {"agent_id": str(ALICE.peer_id)},
    ],
)
def test_the_did_must_be_that_of_the_key(change: dict) -> None:
    assert word(register(book(), registration(ALICE) | change)) == "invalid_params"


@pytest.mark.parametrize("nonce", [-1, 2**53, 2**64])
def test_a_nonce_out_of_range_is_no_work(nonce: int) -> None:
    assert word(register(book(), registration(ALICE) | {"pow": nonce})) == "work_too_weak"


def test_kept_over_a_restart() -> None:
    agents = book()
    for params in people(3):
        register(agents, params, vouched=False)
    assert agents.version == 3
    again = book()
    again.load(json.loads(json.dumps(agents.to_json())))
    assert again.to_json() == agents.to_json()
    assert word(register(again, next(people(1)), at=NOW + 5)) == "rate_limited", "the hour goes on"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=70),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["public_key", "registered_at", "expires_at", "vouched"]), inner, max_size=4
            )
        ),
        max_leaves=10,
    )
)
def test_whatever_the_file_holds_gives_a_book(value: object) -> None:
    agents = book()
    agents.load(value)  # type: ignore[arg-type]
    assert len(agents) <= 3
