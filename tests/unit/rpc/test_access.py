"""Who may call: every kind of caller against every row of the table, tiers, credentials, and rates."""

import dataclasses

import pytest

from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.rpc import codes
from wws.rpc.access import Access, AccessConfig, Caller, Granted, TierTooLow
from wws.rpc.limits import LimitsConfig
from wws.rpc.methods import METHODS, POLICIES
from wws.rpc.policy import LOCAL, OWNER, READERS, Counted, Policy, Rate, Role, Tier
from wws.rpc.serving import Principal
from wws.rpc.turns import Standing
from wws.rpc.wire import Invalid, Request, WireConfig, parse_line
from wws.testing.rpc import NOW_MS, line, make_access, registration, signed_request

NODE, ALICE, BOB = (Identity.from_label(label) for label in ("node", "alice", "bob"))
SOCKET, TCP = Caller(1000), Caller(None)


def request_of(value: dict) -> Request:
    parsed = parse_line(line(value), WireConfig())
    assert isinstance(parsed, Request), parsed
    return parsed


def plain(method: str, **members: object) -> Request:
    return request_of({"jsonrpc": "2.0", "method": method, "id": 1, **members})


def judge(
    access: Access, caller: Caller, request: Request, policy: Policy, *, now: float, unix_ms: int
) -> Granted:
    """Who calls, and that it may call the method of this policy: as the desk does."""
    granted = access.identify(caller, request, unix_ms=unix_ms)
    access.permit(granted.caller, request.method, policy, now=now, unix_ms=unix_ms)
    return granted


def verdict(
    access: Access, caller: Caller, request: Request, policy: Policy | None = None, now: float = 0
) -> str:
    """`ok`, or the word of the refusal."""
    try:
        judge(access, caller, request, policy or POLICIES[request.method], now=now, unix_ms=NOW_MS)
    except WwsError as error:
        return error.code if codes.rpc_number(error.code) is not None else f"{error.code} has no number"
    return "ok"


def registered(access: Access, agent: Identity) -> None:
    params = registration(agent)
    access.register_agent(
        params["agent_id"],
        params["public_key"],
        params["pow"],
        swarm_size=1,
        caller=Principal(Role.SOCKET, "owner"),
        unix_ms=NOW_MS,
    )


def token_for(access: Access, *methods: str, rate: int = 600) -> str:
    return access.create_token("", methods, rate, 3600, unix_ms=NOW_MS).secret


ALL_FOR_TOKENS = [name for name, policy in POLICIES.items() if Role.TOKEN in policy.who]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", list(Role))
def test_every_caller_against_every_row(role: Role, method: str) -> None:
    access = make_access(NODE.peer_id)
    params = registration(ALICE) if method == "swarm.register_agent" else None
    caller = TCP
    match role:
        case Role.SOCKET:
            caller, request = SOCKET, plain(method)
        case Role.COOKIE:
            request = plain(method, token="cookie")
        case Role.TOKEN:
            request = plain(method, token=token_for(access, *ALL_FOR_TOKENS))
        case Role.NODE:
            request = request_of(signed_request(NODE, method, params))
        case Role.AGENT:
            registered(access, ALICE)
            request = request_of(signed_request(ALICE, method, params))
        case Role.NEWCOMER:
            request = request_of(signed_request(ALICE, method, params))
    expected = "ok" if role in POLICIES[method].who else "not_allowed"
    if role is Role.NEWCOMER and method != "swarm.register_agent":
        expected = "agent_unknown"
    assert verdict(access, caller, request) == expected


def test_a_row_is_open_to_no_more_than_it_must_be() -> None:
    for method, policy in POLICIES.items():
        assert policy.who & ~(READERS | Role.NEWCOMER) == Role(0)
        assert Role.SOCKET in policy.who, "the owner on the socket may call everything"
        if Role.AGENT in policy.who:
            assert not policy.audited or method == "swarm.register_agent", "agents change nothing"
        if Role.TOKEN in policy.who:
            assert LOCAL & policy.who == LOCAL
        if Role.COOKIE in policy.who:
            assert OWNER & policy.who == OWNER


def test_no_method_has_a_parameter_that_signed_requests_use_for_themselves() -> None:

    for method in METHODS.values():
        assert "node" not in {field.name for field in dataclasses.fields(method.params)}


def test_what_the_audit_log_shows_is_a_parameter_and_not_a_secret() -> None:

    for method in METHODS.values():
        names = {field.name for field in dataclasses.fields(method.params)}
        assert method.policy.about is None or method.policy.about in names
        assert method.policy.about not in ("token", "secret", "pow", "entry")


@pytest.mark.parametrize("tier", list(Tier))
@pytest.mark.parametrize("known", [None, *Tier])
def test_a_row_with_a_tier_denies_whose_tier_is_unknown_or_lower(tier: Tier, known: Tier | None) -> None:
    access = make_access(NODE.peer_id)
    row = Policy(READERS, tier=tier)
    caller = Principal(Role.SOCKET, "owner", tier=known)
    if known is not None and known >= tier:
        access.permit(caller, "swarm.extra", row, now=0, unix_ms=NOW_MS)
        return
    with pytest.raises(TierTooLow):
        access.permit(caller, "swarm.extra", row, now=0, unix_ms=NOW_MS)


def test_today_nobody_reaches_a_row_with_a_tier() -> None:
    """An extra row of the table, as a later version may have: nobody's tier is known, so it is closed."""
    access = make_access(NODE.peer_id)
    registered(access, ALICE)
    row = Policy(READERS, tier=Tier.AGENT)
    status = "swarm.get_status"
    assert verdict(access, SOCKET, plain(status), row) == "tier_too_low"
    assert verdict(access, TCP, plain(status, token="cookie"), row) == "tier_too_low"
    assert verdict(access, TCP, plain(status, token=token_for(access, status)), row) == "tier_too_low"
    assert verdict(access, TCP, request_of(signed_request(ALICE, status)), row) == "tier_too_low"
    assert verdict(access, TCP, request_of(signed_request(NODE, status)), row) == "tier_too_low"


@pytest.mark.parametrize(
    "caller, token, method, expected",
    [
        (Caller(1000), None, "swarm.stop", "ok"),
        (Caller(1000), "wrong", "swarm.stop", "ok"),
        (Caller(1001), "cookie", "swarm.get_status", "unauthorised"),
        (Caller(0), "cookie", "swarm.get_status", "unauthorised"),
        (Caller(-1), "cookie", "swarm.get_status", "unauthorised"),
        (Caller(None), None, "swarm.get_status", "unauthorised"),
        (Caller(None), "", "swarm.get_status", "unauthorised"),
        (Caller(None), "cookiE", "swarm.get_status", "unauthorised"),
        (Caller(None), "cookie", "swarm.get_status", "ok"),
        (Caller(None), "cookie", "swarm.stop", "not_allowed"),
        (Caller(None), "cookie", "swarm.create_token", "not_allowed"),
    ],
)
def test_the_socket_and_the_cookie(caller: Caller, token: str | None, method: str, expected: str) -> None:
    members = {} if token is None else {"token": token}
    assert verdict(make_access(NODE.peer_id), caller, plain(method, **members)) == expected


def test_without_a_cookie_nobody_comes_in_over_tcp() -> None:
    assert verdict(make_access(NODE.peer_id, cookie=None), TCP, plain("swarm.get_status", token="")) == (
        "unauthorised"
    )


@pytest.mark.parametrize("caller", [SOCKET, TCP])
@pytest.mark.parametrize("token", ["cookie", "wrong", ""])
def test_a_token_and_a_signature_together_are_refused(caller: Caller, token: str) -> None:
    access = make_access(NODE.peer_id)
    request = request_of(signed_request(NODE, "swarm.get_status", changed={"token": token}))
    assert verdict(access, caller, request) == "two_credentials"
    # It used nothing up: the same request without the token is still good.
    assert verdict(access, caller, request_of(signed_request(NODE, "swarm.get_status"))) == "ok"


def test_another_users_process_gains_nothing_by_signing() -> None:
    request = request_of(signed_request(NODE, "swarm.get_status"))
    assert verdict(make_access(NODE.peer_id), Caller(1001), request) == "unauthorised"


def test_on_the_socket_a_signature_narrows() -> None:
    """Who signs as an agent is that agent, whoever's process it is."""
    access = make_access(NODE.peer_id)
    registered(access, ALICE)
    assert verdict(access, SOCKET, request_of(signed_request(ALICE, "swarm.stop"))) == "not_allowed"


def test_another_agents_name_is_not_registered() -> None:
    access = make_access(NODE.peer_id)
    registered(access, ALICE)
    request = request_of(signed_request(ALICE, "swarm.register_name", {"name": "alice"}))
    assert verdict(access, TCP, request) == "not_allowed"


def test_a_token_opens_what_it_was_made_for() -> None:
    access = make_access(NODE.peer_id)
    secret = token_for(access, "swarm.peers")
    assert verdict(access, TCP, plain("swarm.peers", token=secret)) == "ok"
    assert verdict(access, TCP, plain("swarm.get_status", token=secret)) == "not_allowed"
    assert verdict(access, TCP, plain("swarm.stop", token=secret)) == "not_allowed"
    access.revoke_token(access.list_tokens()[0].id)
    assert verdict(access, TCP, plain("swarm.peers", token=secret)) == "unauthorised"


def test_a_signed_request_comes_without_node_to_the_method() -> None:
    access = make_access(NODE.peer_id)
    params = {"name": "bob", "node": str(NODE.peer_id)}
    request = request_of(signed_request(NODE, "swarm.resolve_name", params))
    granted = access.identify(TCP, request, unix_ms=NOW_MS)
    assert granted.params == {"name": "bob"}


# --- rates ------------------------------------------------------------------------------------


def test_each_caller_has_a_rate_of_its_own() -> None:
    config = AccessConfig(limits=LimitsConfig(owner=Rate(3, 60), agent=Rate(2, 60)))
    access = make_access(NODE.peer_id, config=config)
    registered(access, ALICE)
    secret = token_for(access, "read", rate=1)
    status = "swarm.get_status"

    def agent(number: int) -> Request:
        return request_of(signed_request(ALICE, status, nonce=f"{number:08x}"))

    assert [verdict(access, TCP, plain(status, token=secret)) for _ in range(2)] == ["ok", "rate_limited"]
    assert [verdict(access, TCP, agent(n)) for n in range(3)] == ["ok", "ok", "rate_limited"]
    assert [verdict(access, SOCKET, plain(status)) for _ in range(4)] == ["ok"] * 3 + ["rate_limited"]
    # The cookie is the same owner.
    assert verdict(access, TCP, plain(status, token="cookie")) == "rate_limited"
    assert verdict(access, TCP, plain(status, token=secret), now=60) == "ok"
    assert verdict(access, TCP, agent(9), now=60) == "ok"


def test_a_row_limits_tokens_and_agents_but_not_the_owner() -> None:
    rate = POLICIES["swarm.ping"].rate
    assert rate is not None
    assert rate.counted is Counted.CALLS
    access = make_access(NODE.peer_id)
    secret = token_for(access, "read", rate=1000)
    found = [verdict(access, TCP, plain("swarm.ping", token=secret)) for _ in range(rate.times + 1)]
    assert found == ["ok"] * rate.times + ["rate_limited"]
    assert verdict(access, TCP, plain("swarm.get_status", token=secret)) == "ok"
    assert {verdict(access, SOCKET, plain("swarm.ping")) for _ in range(100)} == {"ok"}


def test_what_is_not_allowed_takes_nothing_from_a_rate() -> None:
    access = make_access(NODE.peer_id)
    secret = token_for(access, "swarm.peers", rate=1)
    for _ in range(5):
        assert verdict(access, TCP, plain("swarm.get_status", token=secret)) == "not_allowed"
    assert verdict(access, TCP, plain("swarm.peers", token=secret)) == "ok"


def test_a_signed_request_over_the_rate_is_used_up() -> None:
    access = make_access(NODE.peer_id, config=AccessConfig(limits=LimitsConfig(agent=Rate(1, 60))))
    registered(access, ALICE)
    requests = [request_of(signed_request(ALICE, "swarm.peers", nonce=f"{n:08x}")) for n in range(2)]
    assert [verdict(access, TCP, request) for request in requests] == ["ok", "rate_limited"]
    assert verdict(access, TCP, requests[1], now=60) == "nonce_seen"


def test_newcomers_share_a_rate_and_do_not_touch_anybody_elses() -> None:
    access = make_access(NODE.peer_id, config=AccessConfig(limits=LimitsConfig(newcomers=Rate(1, 60))))
    found = [
        verdict(access, TCP, request_of(signed_request(agent, "swarm.register_agent", registration(agent))))
        for agent in (ALICE, BOB)
    ]
    assert found == ["ok", "rate_limited"]
    assert verdict(access, TCP, plain("swarm.get_status", token="cookie")) == "ok"


# --- registering ------------------------------------------------------------------------------


def register(
    access: Access, signer: Identity, params: dict, nonce: str = "00000000", unix_ms: int = NOW_MS
) -> str:
    """Judge and carry out a registration signed by `signer`."""
    request = request_of(
        signed_request(signer, "swarm.register_agent", params, timestamp=unix_ms, nonce=nonce)
    )
    try:
        granted = judge(access, TCP, request, POLICIES[request.method], now=unix_ms / 1000, unix_ms=unix_ms)
        answer = access.register_agent(
            params["agent_id"],
            params["public_key"],
            params["pow"],
            swarm_size=1,
            caller=granted.caller,
            unix_ms=unix_ms,
        )
    except WwsError as error:
        return error.code
    assert answer.expires_at == unix_ms // 1000 + 86_400
    return "ok"


def test_a_newcomer_registers_once_and_renews_after_an_hour() -> None:
    access = make_access(NODE.peer_id)
    params = registration(ALICE)
    assert register(access, ALICE, params) == "ok"
    assert register(access, ALICE, params) == "nonce_seen", "a replay"
    assert register(access, ALICE, params, nonce="00000001") == "rate_limited"
    assert register(access, ALICE, params, nonce="00000002", unix_ms=NOW_MS + 3_600_000) == "ok"
    status = signed_request(ALICE, "swarm.get_status", nonce="00000003")
    assert verdict(access, TCP, request_of(status)) == "timestamp_off", "the clock has moved on"


def test_an_agent_registers_itself_alone() -> None:
    access = make_access(NODE.peer_id)
    bobs = registration(BOB)
    assert register(access, ALICE, bobs) == "invalid_params", "the key is not alice's"
    alices = registration(ALICE)
    assert register(access, ALICE, alices | {"agent_id": BOB.peer_id.did}) == "not_allowed"
    assert register(access, ALICE, alices | {"public_key": BOB.public_key.hex()}) == "invalid_params"
    assert register(access, ALICE, alices, nonce="00000001") == "ok"
    assert register(access, ALICE, bobs, nonce="00000002") == "not_allowed"


def test_the_node_is_no_agent_of_its_own() -> None:
    access = make_access(NODE.peer_id)
    assert register(access, NODE, registration(NODE)) == "not_allowed"


def test_a_registration_without_a_key_is_of_nobody() -> None:
    access = make_access(NODE.peer_id)
    for params in (None, {}, {"public_key": 5}):
        request = request_of(signed_request(ALICE, "swarm.register_agent", params))
        assert verdict(access, TCP, request) == "agent_unknown"


def test_a_lapsed_agent_is_unknown_and_its_old_requests_stay_used_up() -> None:
    access = make_access(NODE.peer_id)
    assert register(access, ALICE, registration(ALICE)) == "ok"
    late = NOW_MS + 86_400_000 - 1_000
    used = request_of(signed_request(ALICE, "swarm.peers", timestamp=late, nonce="0000000a"))
    assert access.identify(TCP, used, unix_ms=late).caller.role is Role.AGENT
    lapsed = NOW_MS + 86_400_000
    fresh = request_of(signed_request(ALICE, "swarm.peers", timestamp=lapsed, nonce="0000000b"))
    with pytest.raises(WwsError) as caught:
        access.identify(TCP, fresh, unix_ms=lapsed)
    assert caught.value.code == "agent_unknown"
    assert register(access, ALICE, registration(ALICE), nonce="0000000c", unix_ms=lapsed) == "ok"
    with pytest.raises(WwsError) as caught:
        access.identify(TCP, used, unix_ms=lapsed + 1)
    assert caught.value.code == "nonce_seen"


def test_a_line_shows_a_token_or_the_cookie_before_it_is_parsed() -> None:
    access = make_access(NODE.peer_id)
    secret = token_for(access, "read")
    assert access.shown_in(b'{"token":"cookie"}') is Standing.OWNER
    assert access.shown_in(b'{"token": "%s"}' % secret.encode()) is Standing.PROGRAM
    assert access.shown_in(b'{"token":"wwst_wrong"}') is Standing.STRANGER
    long = b"x" * 4096
    assert access.shown_in(b'{"token":"cookie",' + long * 9) is Standing.OWNER
    assert access.shown_in(long * 9 + b',"token":"cookie"}') is Standing.OWNER
    assert access.shown_in(long + b',"token":"cookie",' + long) is Standing.STRANGER, (
        "nothing is searched there"
    )
    halves = b'"token":"coo' + b"x" * (2 * 4096) + b'kie"'
    assert access.shown_in(long[:-12] + halves) is Standing.STRANGER, "what lies apart is not put together"
    assert access.shown_in(b'{"agent_id":"%s"}' % ALICE.peer_id.did.encode()) is Standing.STRANGER


def test_the_wire_refuses_half_a_signature() -> None:
    parsed = parse_line(line(signed_request(ALICE, "swarm.peers", changed={"signature": None})), WireConfig())
    assert isinstance(parsed, Invalid)
    assert parsed.code == "malformed_signed_request"
