"""Signed requests: the vector, everything that is refused, and the window of nonces as a state machine."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wws.codec import base64
from wws.codec.canonical import MAX_INTEGER
from wws.errors import ParseError, WwsError
from wws.identity.keys import Identity
from wws.rpc.signed import NotCanonical, Signed, SignedConfig, SignedRequests, signed_bytes
from wws.rpc.wire import Invalid, Request, WireConfig, parse_line
from wws.testing import scale
from wws.testing.rpc import NOW_MS, line, signed_request

ALICE, BOB = Identity.from_label("alice"), Identity.from_label("bob")
NODE = str(Identity.from_label("node").peer_id)
VECTOR = json.loads(Path(__file__).parents[2].joinpath("vectors/rpc-request.json").read_text())
STATUS = "swarm.get_status"


def judge(
    request: dict, *, requests: SignedRequests | None = None, key: Identity = ALICE, unix_ms: int = NOW_MS
) -> object:
    """The params, or the word of the refusal."""
    parsed = parse_line(line(request), WireConfig())
    if isinstance(parsed, Invalid):
        return parsed.code
    assert isinstance(parsed, Request)
    assert parsed.signed is not None
    requests = requests or fresh()
    try:
        params = requests.check(parsed.signed, parsed.method, parsed.params, key.public_key, unix_ms=unix_ms)
    except WwsError as error:
        return error.code
    requests.remember(parsed.signed)
    return params


def fresh(started_ms: int = NOW_MS - 3_600_000, **config: int) -> SignedRequests:
    return SignedRequests(SignedConfig(**config), NODE, started_ms)


def test_the_vector() -> None:
    request = VECTOR["request"]
    data = signed_bytes(request["method"], request["params"], request["timestamp"], request["nonce"])
    assert data.decode() == VECTOR["signed_bytes"]
    assert base64.encode(ALICE.sign(data)) == request["signature"]
    assert judge(request, unix_ms=VECTOR["now_ms"]) == {"name": "alice"}


@pytest.mark.parametrize(
    "member, value",
    [
        ("agent_id", None),
        ("agent_id", "did:swarm:" + "A" * 64),
        ("agent_id", "did:swarm:" + "a" * 63),
        ("agent_id", "did:swarm:" + "a" * 65),
        ("agent_id", "did:swarm:" + "\u0661" * 64),
        ("agent_id", ALICE.peer_id.did + "\n"),
        ("agent_id", 5),
        ("timestamp", None),
        ("timestamp", str(NOW_MS)),
        ("timestamp", float(NOW_MS)),
        ("timestamp", True),
        ("timestamp", 10**12 - 1),
        ("timestamp", 10**13),
        ("timestamp", -NOW_MS),
        ("nonce", None),
        ("nonce", "a" * 7),
        ("nonce", "a" * 65),
        ("nonce", "A3F9BC12"),
        ("nonce", "a3f9bc1g"),
        ("nonce", "a3f9bc12\n"),
        ("nonce", "\u0661" * 8),
        ("nonce", 12345678),
        ("signature", None),
        ("signature", "A" * 87 + "="),
        ("signature", "A" * 84 + "===="),
        ("signature", "A" * 88),
        ("signature", "-" * 86 + "=="),
        ("signature", " " * 88),
        ("signature", "\u0410" * 88),
        ("signature", []),
        ("other", "x"),
        ("params_", {}),
        ("Method", "swarm.stop"),
    ],
)
def test_members_are_exact(member: str, value: object) -> None:
    request = signed_request(ALICE, STATUS) | {member: value}
    if value is None:
        del request[member]
    assert judge(request) == "malformed_signed_request"


def test_a_signature_whose_spare_bits_are_set_is_another_text() -> None:
    request = signed_request(ALICE, STATUS)
    signature = str(request["signature"])
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(signature[85]) + 1]
    assert judge(request | {"signature": signature[:85] + last + "=="}) == "malformed_signed_request"


@pytest.mark.parametrize(
    "change, word",
    [
        ({"method": "swarm.stop"}, "request_signature_wrong"),
        ({"params": {"name": "bob"}}, "request_signature_wrong"),
        ({"params": {"name": "alice", "more": 1}}, "request_signature_wrong"),
        ({"params": {}}, "request_signature_wrong"),
        ({"timestamp": NOW_MS + 1}, "request_signature_wrong"),
        ({"nonce": "a3f9bc12a3f9bc13"}, "request_signature_wrong"),
        ({"nonce": "a3f9bc12a3f9bc120"}, "request_signature_wrong"),
        # What a reader that is less strict would take for the same.
        ({"method": "swarm.resolve_name{"}, "not_canonical"),
        ({"method": 'swarm.resolve_name{"name":"alice"}'}, "not_canonical"),
        ({"method": "Swarm.resolve_name"}, "not_canonical"),
        ({"method": "swarm.resolve_name "}, "not_canonical"),
        ({"method": "swarm\u200b.resolve_name"}, "not_canonical"),
        ({"method": "swarm"}, "not_canonical"),
        ({"params": {"name": "al\u0131ce"}}, "request_signature_wrong"),
        ({"params": {"name": "alic\u0065\u0301"}}, "request_signature_wrong"),
        ({"params": {"\uff4eame": "alice"}}, "request_signature_wrong"),
        ({"params": ["alice"]}, "not_canonical"),
        ({"params": {"name": 1.0}}, "not_canonical"),
        ({"params": {"name": 1e300}}, "not_canonical"),
        ({"params": {"name": MAX_INTEGER + 1}}, "not_canonical"),
        ({"params": {"name": -MAX_INTEGER - 1}}, "not_canonical"),
        ({"params": {"name": "\ud800"}}, "not_canonical"),
        ({"params": {"\udfff": "alice"}}, "not_canonical"),
        ({"params": {"name": "alice", "node": "12D3KooW"}}, "other_node"),
        ({"params": {"name": "alice", "node": None}}, "other_node"),
    ],
)
def test_what_was_changed_after_signing_is_refused(change: dict, word: str) -> None:
    request = signed_request(ALICE, "swarm.resolve_name", {"name": "alice"})
    assert judge(request | change) == word


def test_deep_params_are_not_signed() -> None:
    deep: object = 1
    for _ in range(16):
        deep = [deep]
    request = signed_request(ALICE, STATUS) | {"params": {"x": deep}}
    assert judge(request) == "not_canonical"


def test_a_member_twice_ends_the_connection_before_anything_is_verified() -> None:
    text = line(signed_request(ALICE, "swarm.resolve_name", {"name": "alice"}))
    for twice in (b'"nonce": "00000000", "nonce"', b'"name": "bob", "name"'):
        member = twice.rpartition(b" ")[2]
        with pytest.raises(WwsError) as caught:
            parse_line(text.replace(member, twice, 1), WireConfig())
        assert caught.value.code == "parse_error"


def test_escapes_and_order_are_not_part_of_the_value() -> None:
    request = signed_request(ALICE, STATUS, {"b": "\u00fc\u2028\x1f\U0001f600", "a": [1, {"z": "", "y": 0}]})
    for dumped in (
        json.dumps(request),
        json.dumps(request, ensure_ascii=False),
        json.dumps(request, indent=1),
    ):
        parsed = parse_line(dumped.replace("\n", " ").encode(), WireConfig())
        assert isinstance(parsed, Request)
        assert parsed.signed is not None
        params = fresh().check(parsed.signed, parsed.method, parsed.params, ALICE.public_key, unix_ms=NOW_MS)
        assert params == request["params"]


def test_another_key_does_not_sign_for_alice() -> None:
    request = signed_request(BOB, STATUS) | {"agent_id": ALICE.peer_id.did}
    assert judge(request) == "request_signature_wrong"


def test_the_params_say_for_which_node() -> None:
    assert judge(signed_request(ALICE, STATUS, {"node": NODE})) == {}
    assert judge(signed_request(ALICE, STATUS, {"node": str(BOB.peer_id), "a": 1})) == "other_node"
    # Another spelling of the same PeerId is not the same text, and nobody needs it.
    cid = Identity.from_label("node").peer_id.cid
    assert judge(signed_request(ALICE, STATUS, {"node": cid})) == "other_node"


@pytest.mark.parametrize(
    "off_ms, word",
    [
        (0, None),
        (300_000, None),
        (-300_000, None),
        (300_001, "timestamp_off"),
        (-300_001, "timestamp_off"),
        (86_400_000, "timestamp_off"),
        (-86_400_000, "timestamp_off"),
    ],
)
def test_five_minutes_either_way(off_ms: int, word: str | None) -> None:
    verdict = judge(signed_request(ALICE, STATUS, timestamp=NOW_MS + off_ms))
    assert verdict == (word or {})


def test_nothing_from_before_the_start() -> None:
    requests = fresh(started_ms=NOW_MS)
    assert judge(signed_request(ALICE, STATUS, timestamp=NOW_MS - 1), requests=requests) == "timestamp_off"
    assert judge(signed_request(ALICE, STATUS, timestamp=NOW_MS), requests=requests) == {}


def test_a_nonce_is_good_once_and_per_agent() -> None:
    requests = fresh()
    assert judge(signed_request(ALICE, STATUS), requests=requests) == {}
    assert judge(signed_request(ALICE, STATUS), requests=requests) == "nonce_seen"
    later = signed_request(ALICE, "swarm.peers", timestamp=NOW_MS + 5)
    assert judge(later, requests=requests) == "nonce_seen"
    assert judge(signed_request(BOB, STATUS), requests=requests, key=BOB) == {}


def test_what_is_refused_uses_no_nonce_up() -> None:
    requests = fresh()
    assert judge(signed_request(BOB, STATUS) | {"agent_id": ALICE.peer_id.did}, requests=requests) == (
        "request_signature_wrong"
    )
    assert requests.kept(ALICE.peer_id.did) == 0
    assert judge(signed_request(ALICE, STATUS), requests=requests) == {}


def test_a_nonce_is_kept_until_no_clock_could_accept_it() -> None:
    requests = fresh()
    request = signed_request(ALICE, STATUS)
    assert judge(request, requests=requests) == {}
    did = ALICE.peer_id.did
    other = signed_request(BOB, STATUS, timestamp=NOW_MS + 301_000)
    assert judge(other, requests=requests, key=BOB, unix_ms=NOW_MS + 301_000) == {}
    assert requests.kept(did) == 1
    other = signed_request(BOB, STATUS, timestamp=NOW_MS + 301_001, nonce="00000001")
    assert judge(other, requests=requests, key=BOB, unix_ms=NOW_MS + 301_001) == {}
    assert requests.kept(did) == 0
    # The clock is set back: by it the request would be fresh, and its nonce is forgotten.
    assert judge(request, requests=requests, unix_ms=NOW_MS + 1) == "timestamp_off"


@pytest.mark.parametrize("jump_ms", [86_400_000, -86_400_000, 301_000, -301_000])
def test_a_clock_that_jumps_opens_nothing(jump_ms: int) -> None:
    requests = fresh(started_ms=NOW_MS - 200_000_000)
    first = signed_request(ALICE, STATUS)
    assert judge(first, requests=requests) == {}
    for clock in (NOW_MS + jump_ms, NOW_MS, NOW_MS + 1, NOW_MS + jump_ms):
        assert judge(first, requests=requests, unix_ms=clock) in ("timestamp_off", "nonce_seen")


def test_a_full_window_refuses_and_forgets_nothing() -> None:
    requests = fresh()
    config = SignedConfig()
    signed = Signed(ALICE.peer_id.did, NOW_MS, "", bytes(64))
    for number in range(config.max_nonces):
        requests.remember(dataclasses.replace(signed, nonce=f"{number:08x}"))
    assert requests.kept(ALICE.peer_id.did) == config.max_nonces
    extra = signed_request(ALICE, STATUS, nonce="ffffffff")
    assert judge(extra, requests=requests) == "nonce_window_full"
    assert judge(signed_request(ALICE, STATUS, nonce="00000000"), requests=requests) == "nonce_seen"
    assert judge(signed_request(BOB, STATUS), requests=requests, key=BOB) == {}
    # Five minutes and a second later there is room again.
    moved = NOW_MS + config.keep_ms + 1
    assert judge(signed_request(ALICE, STATUS, timestamp=moved), requests=requests, unix_ms=moved) == {}
    assert requests.kept(ALICE.peer_id.did) == 1


def test_many_agents_share_a_bound_and_each_has_its_own_part() -> None:
    requests = fresh(max_nonces_in_all=4, own_share=2)
    for number in range(4):
        assert judge(signed_request(ALICE, STATUS, nonce=f"{number:08x}"), requests=requests) == {}
    assert judge(signed_request(ALICE, STATUS, nonce="ffffffff"), requests=requests) == "nonce_window_full"
    for number, word in enumerate([{}, {}, "nonce_window_full"]):
        request = signed_request(BOB, STATUS, nonce=f"{number:08x}")
        assert judge(request, requests=requests, key=BOB) == word


def test_agents_do_not_narrow_the_window_of_the_nodes_own_key() -> None:
    requests = SignedRequests(
        SignedConfig(max_nonces_in_all=2, own_share=1, max_windows=1), str(ALICE.peer_id), 0
    )
    for number in range(2):
        assert judge(signed_request(BOB, STATUS, nonce=f"{number:08x}"), requests=requests, key=BOB) == {}
    for number in range(3):
        assert judge(signed_request(ALICE, STATUS, nonce=f"{number:08x}"), requests=requests) == {}
    assert (
        judge(signed_request(BOB, STATUS, nonce="ffffffff"), requests=requests, key=BOB)
        == "nonce_window_full"
    )


def test_the_number_of_windows_is_bounded() -> None:
    requests = fresh(max_windows=1)
    assert judge(signed_request(ALICE, STATUS), requests=requests) == {}
    assert judge(signed_request(BOB, STATUS), requests=requests, key=BOB) == "nonce_window_full"


def test_a_request_with_a_clock_ahead_is_not_good_again_after_a_restart() -> None:
    before = fresh()
    ahead = signed_request(ALICE, STATUS, timestamp=NOW_MS + 200_000)
    assert judge(ahead, requests=before) == {}
    assert before.version == 1, "it must be saved before it is served"
    after = fresh(started_ms=NOW_MS + 1_000)
    after.load(before.to_json())
    assert judge(ahead, requests=after, unix_ms=NOW_MS + 2_000) == "timestamp_off"
    later = signed_request(ALICE, STATUS, timestamp=NOW_MS + 220_000, nonce="00000001")
    assert judge(later, requests=after, unix_ms=NOW_MS + 2_000) == {}


def test_a_request_is_not_good_again_after_a_kill_and_a_clock_set_back() -> None:
    """What was saved before it was served must be enough: a killed node saves nothing at the end."""
    before = fresh()
    request = signed_request(ALICE, STATUS, timestamp=NOW_MS - 1_000)
    assert judge(request, requests=before) == {}
    assert before.version == 1, "it must be saved before it is served"
    after = fresh(started_ms=NOW_MS - 60_000)
    after.load(before.to_json())
    assert judge(request, requests=after, unix_ms=NOW_MS - 50_000) == "timestamp_off"


def test_an_agent_costs_a_write_in_ten_seconds_and_not_one_a_call() -> None:
    requests, latest = fresh(), NOW_MS + 99 * 250
    for number in range(100):
        requests.remember(Signed(ALICE.peer_id.did, NOW_MS + 250 * number, f"{number:08x}", bytes(64)))
        ((_, saved),) = requests.to_json()
        assert saved >= NOW_MS + 250 * number
    assert requests.version == 3
    requests.settle()
    assert requests.to_json() == [[ALICE.peer_id.did, latest]], "exact at the end: no pause after a restart"


@settings(max_examples=scale(2000, least=50))
@given(
    st.dictionaries(
        st.sampled_from(["agent_id", "timestamp", "nonce", "signature", "token", "params", "id", "x"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=90) | st.lists(st.none()),
    )
)
def test_any_members_are_a_signature_or_refused(members: dict) -> None:
    try:
        signed = Signed.parse(members)
    except ParseError:
        return
    assert signed is None or len(signed.signature) == 64


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=scale(2000, least=50))
@given(st.text(max_size=20) | st.just(STATUS), JSON_VALUES)
def test_any_params_are_signed_or_refused(method: str, params: object) -> None:
    try:
        data = signed_bytes(method, params, NOW_MS, "00000000")  # type: ignore[arg-type]
    except NotCanonical:
        return
    assert data.startswith(method.encode() + b"{")


@settings(max_examples=scale(2000, least=50))
@given(
    *[st.tuples(st.sampled_from(["a.b", "a.bc"]), st.dictionaries(st.sampled_from("ab"), st.integers(0, 9)))]
    * 2
)
def test_different_requests_are_signed_as_different_bytes(one: tuple, other: tuple) -> None:
    first = signed_bytes(*one, NOW_MS, "00000000")
    second = signed_bytes(*other, NOW_MS, "00000000")
    assert (first == second) == (one == other)


class NonceWindow(RuleBasedStateMachine):
    """Against a model that remembers everything: no request is accepted twice, whatever the clock does, and
    an honest one is refused only for what the rules say."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SignedConfig(max_nonces=4, max_windows=8)
        self.requests = SignedRequests(self.config, NODE, NOW_MS)
        self.clock = self.highest = NOW_MS
        self.accepted: list[tuple[int, str]] = []

    @rule(
        step=st.sampled_from([0, 1, 1_000, 299_999, 300_001, 301_001, 86_400_000, -1, -300_000, -86_400_000])
    )
    def moves_the_clock(self, step: int) -> None:
        self.clock = max(10**12, self.clock + step)

    @rule(off=st.sampled_from([0, -1, 300_000, -300_000, 300_001, -300_001, 60_000]), nonce=st.integers(0, 9))
    def signs(self, off: int, nonce: int) -> None:
        self.sends(self.clock + off, f"{nonce:08x}")

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def replays(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.accepted))
        assert not self.sends(*request)

    def sends(self, timestamp: int, nonce: str) -> bool:
        if not 10**12 <= timestamp < 10**13:
            return False
        self.highest = max(self.highest, self.clock)
        live = [kept for kept in self.accepted if kept[0] + self.config.keep_ms >= self.highest]
        in_time = abs(timestamp - self.clock) <= 300_000 and timestamp >= NOW_MS
        in_time = in_time and timestamp >= self.highest - 300_000
        expected = in_time and nonce not in [seen for _, seen in live] and len(live) < 4
        request = signed_request(ALICE, STATUS, timestamp=timestamp, nonce=nonce)
        verdict = judge(request, requests=self.requests, unix_ms=self.clock)
        assert (verdict == {}) == expected, verdict
        if expected:
            assert (timestamp, nonce) not in self.accepted, "accepted twice"
            self.accepted.append((timestamp, nonce))
        return expected

    @invariant()
    def never_more_than_fit(self) -> None:
        assert self.requests.kept(ALICE.peer_id.did) <= 4


NonceWindow.TestCase.settings = settings(max_examples=scale(200, least=10), stateful_step_count=30)
test_the_window_of_nonces = NonceWindow.TestCase
