"""Signed bundles: the vectors, every byte tampered with, every rule at its edge."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.discovery.world import (
    ALICE,
    BOB,
    DOMAIN,
    KEYS,
    PUBLISHER,
    SECOND_PUBLISHER,
    SIGNED,
    UNIX,
    bundle,
    entry,
)
from wws.codec import base64
from wws.discovery.bundle import (
    MAX_ANSWER,
    MAX_TEXT,
    WARN_ANSWER,
    Bundle,
    BundleEntry,
    BundleError,
    BundleMalformed,
    BundleTooLarge,
    NoBundle,
    answer_size,
)
from wws.discovery.bundle_state import BundleConfig, BundleState, StateMalformed
from wws.discovery.publishers import PublisherKey, host_kind, key_id, parse_publisher_key
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.testing import scale

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "bundle.json").read_text())
NOW = VECTORS["now"]
PUBLISHERS = [PublisherKey(bytes.fromhex(publisher["key"])) for publisher in VECTORS["publishers"]]
THIRD = Identity.from_label("publisher3")


def fresh() -> BundleState:
    return BundleState(VECTORS["domain"], PUBLISHERS)


def key(identity: Identity) -> PublisherKey:
    return PublisherKey(identity.public_key)


# --- vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["one_signature", "two_signatures", "unknown_key_skipped", "rotation", "addresses_of_all_kinds"]
)
def test_accepted_vectors(name: str) -> None:
    state = fresh()
    accepted = state.accept(VECTORS[name], NOW)
    assert accepted.text == VECTORS[name]
    assert state.last == accepted


def test_vector_publishers() -> None:
    for publisher in VECTORS["publishers"]:
        identity = Identity.from_label(publisher["label"])
        assert identity.public_key.hex() == publisher["key"]
        assert key_id(identity.public_key) == publisher["id"]


def test_vector_peers() -> None:
    found = fresh().accept(VECTORS["one_signature"], NOW)
    assert [(str(e.peer_id), e.host, e.port) for e in found.entries] == [
        (peer["peer_id"], peer["host"], peer["port"]) for peer in VECTORS["peers"]
    ]


def test_we_sign_the_same_bytes() -> None:
    known = Bundle.parse(VECTORS["two_signatures"])
    assert known.sign(VECTORS["domain"], [PUBLISHER, SECOND_PUBLISHER]).text == VECTORS["two_signatures"]
    assert replace(known, signatures=()).sign(VECTORS["domain"], [PUBLISHER]).text == VECTORS["one_signature"]


REASONS = {
    "wrong domain": "bundle_bad_signature",
    "no known key": "publisher_unknown",
    "one byte of a host changed": "bundle_bad_signature",
    "signature bit": "bundle_bad_signature",
    "expired before now": "bundle_expired",
    "seq too far ahead": "bundle_seq_future",
    "rotation with one key": "bundle_rotation_refused",
    "rotation with one key twice": "bundle_rotation_refused",
    "not before: too far ahead": "bundle_not_yet_valid",
    "known key with a bad signature beside a good one": "bundle_bad_signature",
}


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_refused_vectors(case: dict[str, str]) -> None:
    state = fresh()
    with pytest.raises(BundleError) as caught:
        state.accept(case["text"], NOW)
    assert caught.value.code == REASONS.get(case["why"], "bundle_malformed")
    assert state.to_json() == fresh().to_json()


@pytest.mark.parametrize("case", VECTORS["history"], ids=lambda case: case["what"])
def test_history_vectors(case: dict[str, str]) -> None:
    state = fresh()
    state.accept(case["accepted"], NOW)
    before = state.to_json()
    if case["outcome"] == "accepted":
        state.accept(case["then"], NOW)
        return
    with pytest.raises(BundleError) as caught:
        state.accept(case["then"], NOW)
    if case["outcome"] != "refused":
        assert caught.value.code == case["outcome"]
    assert state.to_json() == before


# --- tampering ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one_signature", "rotation", "addresses_of_all_kinds"])
def test_every_byte_tampered_with_is_refused(name: str) -> None:
    text = VECTORS[name]
    for place in range(len(text)):
        for changed in {chr(ord(text[place]) ^ 1), chr(ord(text[place]) ^ 0x20), "0", ";", "é"} - {
            text[place]
        }:
            with pytest.raises(BundleError):
                fresh().accept(text[:place] + changed + text[place + 1 :], NOW)
        with pytest.raises(BundleError):
            fresh().accept(text[:place] + text[place + 1 :], NOW)


def test_every_truncation_is_refused() -> None:
    text = VECTORS["two_signatures"]
    whole_first = VECTORS["one_signature"]
    for end in range(len(text)):
        if text[:end] == whole_first:
            continue  # the first signature alone is enough: it covers all of the content
        with pytest.raises(BundleError):
            fresh().accept(text[:end], NOW)


def test_damage_of_any_kind_is_refused() -> None:
    rng = random.Random(1)
    texts = [VECTORS[name] for name in ("one_signature", "rotation", "addresses_of_all_kinds")]
    letters = ";,=:@/[].-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \n\x00é"
    for _ in range(scale(100_000, least=1_000)):
        whole = rng.choice(texts)
        text = whole
        for _ in range(rng.randint(1, 3)):
            place, width = rng.randrange(len(text)), rng.choice((0, 1, 1, 1, 5, 60))
            other = rng.choice(("", rng.choice(letters), text[place:][:20], ";sig=", ",", "keys="))
            text = text[:place] + other + text[place + width :]
        if text != whole:
            with pytest.raises(BundleError):
                fresh().accept(text, NOW)


@given(st.text(max_size=200) | st.text(max_size=200).map("v=wws1;".__add__))
def test_any_text_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BundleError):
        fresh().accept(text, NOW)


_HOSTS = st.sampled_from(
    ["a.example", "203.0.113.5", "2001:db8::1", "xn--bcher-kva.example", "::ffff:192.0.2.1"]
)
_ENTRIES = st.lists(
    st.builds(
        BundleEntry,
        st.sampled_from([ALICE, BOB]),
        _HOSTS,
        st.integers(1, 65535),
        st.sampled_from(["", "/t", "/q"]),
    ),
    min_size=1,
    max_size=16,
)


@given(_ENTRIES, st.integers(0, 2**53 - 1), st.integers(0, 2**40), st.integers(1, 90 * 86_400), st.booleans())
def test_what_is_signed_parses_back(
    entries: list[BundleEntry], seq: int, nbf: int, life: int, keys: bool
) -> None:
    made = bundle(*entries, seq=seq, nbf=nbf, exp=nbf + life, keys=KEYS if keys else None)
    assert Bundle.parse(made.text) == made


# --- form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "", ".", "a..b", "-a.example", "a-.example", "a_b.example", "A.example", "a.example.",
        "bücher.example", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1.2.3.4x.5", "x" * 64 + ".example",
        "a." * 127 + "ab", "[::1", "::1", "[::0]", "[0:0:0:0:0:0:0:1]", "[2001:DB8::1]", "[2001:db8::1%eth0]",
        "[::ffff:c000:201]", "[192.0.2.1]", "a b",
    ],
)  # fmt: skip
def test_hosts_that_are_none(host: str) -> None:
    text = f"v=wws1;seq=1;nbf=0;exp=9;peers={ALICE}@{host}:9000;sig=00000000:{'A' * 86}"
    with pytest.raises(BundleMalformed):
        Bundle.parse(text)


@pytest.mark.parametrize(
    "port", ["", "0", "00", "09000", "65536", "99999", "+1", "1e3", "9000/x", "9000/T", "9000/t/q"]
)
def test_ports_that_are_none(port: str) -> None:
    with pytest.raises(BundleMalformed):
        Bundle.parse(f"v=wws1;seq=1;nbf=0;exp=9;peers={ALICE}@a.example:{port};sig=00000000:{'A' * 86}")


def test_host_kinds() -> None:
    assert [host_kind(text) for text in ("a.example", "1.2.3.4", "::1", "1.2.3", "localhost")] == [
        "name", "ip4", "ip6", None, "name",
    ]  # fmt: skip


def test_limits_at_and_over() -> None:
    assert len(bundle(*[entry(ALICE, port=1 + n) for n in range(16)]).entries) == 16
    with pytest.raises(BundleMalformed):
        bundle(*[entry(ALICE, port=1 + n) for n in range(17)])
    assert bundle(exp=UNIX + 90 * 86_400)
    with pytest.raises(BundleMalformed):
        bundle(exp=UNIX + 90 * 86_400 + 1)
    with pytest.raises(BundleMalformed):
        bundle(exp=UNIX)
    keys = [key(Identity.from_label(f"key {n}")) for n in range(6)]
    assert bundle(keys=keys[:5])
    with pytest.raises(BundleMalformed):
        bundle(keys=keys)
    with pytest.raises(BundleMalformed):
        bundle(keys=[keys[0], keys[0]])
    with pytest.raises(BundleMalformed):
        bundle(seq=2**53)


def test_a_text_over_4_kib_is_refused_unparsed() -> None:
    with pytest.raises(BundleTooLarge):
        Bundle.parse("v=wws1;" + "x" * (MAX_TEXT - 6))
    with pytest.raises(BundleMalformed):
        Bundle.parse("v=wws1;" + "x" * (MAX_TEXT - 7))


def test_nobody_signs_for_a_host_that_nobody_is_at() -> None:
    with pytest.raises(BundleMalformed):
        bundle(entry(ALICE, "0.0.0.0"))
    # Received, such an entry is no reason to refuse the others.
    text = bundle(entry(ALICE)).body.replace("203.0.113.1", "240.0.0.1")
    unsigned = Bundle.parse(text + ";sig=00000000:" + "A" * 86)
    assert unsigned.addresses_of(ALICE) == ()


def test_addresses_by_kind() -> None:
    found = fresh().accept(VECTORS["addresses_of_all_kinds"], NOW)
    us = found.entries[0].peer_id
    assert [str(address.without_peer()) for address in found.addresses_of(us)] == [
        "/ip6/2001:db8::1/udp/9000/quic-v1",
        "/ip4/203.0.113.5/tcp/443",
    ]
    eu = found.entries[2].peer_id
    assert [str(address.without_peer()) for address in found.addresses_of(eu)] == [
        "/dns/eu.boot.example.org/udp/9000/quic-v1",
        "/dns/eu.boot.example.org/tcp/9000",
    ]


def test_sizes_that_a_publisher_has_to_keep() -> None:
    import dns.flags
    import dns.message
    import dns.rrset

    three = VECTORS["one_signature"]
    assert answer_size(VECTORS["domain"], [three]) <= MAX_ANSWER
    # Against the real encoder: never an underestimate, and close.
    query = dns.message.make_query(f"_wws-bundle._tcp.{VECTORS['domain']}.", "TXT", use_edns=0)
    answer = dns.message.make_response(query)
    chunks = " ".join(f'"{three[n : n + 255]}"' for n in range(0, len(three), 255))
    answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "TXT", chunks))
    real = len(answer.to_wire())
    assert real <= answer_size(VECTORS["domain"], [three]) <= real + 16
    assert WARN_ANSWER < MAX_ANSWER


def test_five_hosts_and_two_signatures_fit_one_datagram() -> None:
    hosts = [entry(ALICE, f"{where}.boot.example.org") for where in ("us", "eu", "ap", "sa", "af")]
    made = bundle(*hosts, signers=[PUBLISHER, SECOND_PUBLISHER])
    assert answer_size(DOMAIN, [made.text]) <= MAX_ANSWER
    assert answer_size(DOMAIN, [VECTORS["one_signature"]]) <= WARN_ANSWER


# --- state ----------------------------------------------------------------------------------------


def state(**settings: int) -> BundleState:
    return BundleState(DOMAIN, KEYS, **settings)


def test_the_floor_holds_at_first_contact() -> None:
    assert state(min_seq=UNIX).accept(bundle(seq=UNIX).text, UNIX)
    with pytest.raises(BundleError) as caught:
        state(min_seq=UNIX + 1).accept(bundle(seq=UNIX).text, UNIX)
    assert caught.value.code == "bundle_seq_low"


def test_numbers_and_times_at_the_edge() -> None:
    assert state().accept(bundle(seq=UNIX + 86_400).text, UNIX)
    with pytest.raises(BundleError, match="too far ahead"):
        state().accept(bundle(seq=UNIX + 86_401).text, UNIX)
    assert state().accept(bundle(nbf=UNIX + 300).text, UNIX)
    with pytest.raises(BundleError, match="holds from"):
        state().accept(bundle(nbf=UNIX + 301).text, UNIX)
    assert state().accept(bundle(exp=UNIX + 10).text, UNIX + 9)
    with pytest.raises(BundleError, match="expired"):
        state().accept(bundle(exp=UNIX + 10).text, UNIX + 10)


def test_a_bundle_of_the_future_is_not_remembered() -> None:
    judged = state()
    with pytest.raises(BundleError):
        judged.accept(bundle(seq=UNIX + 5, nbf=UNIX + 1_000).text, UNIX)
    assert judged.seq is None
    assert judged.accept(bundle(seq=UNIX).text, UNIX)


def test_the_last_good_bundle_outlives_its_time() -> None:
    judged = state()
    good = judged.accept(bundle(exp=UNIX + 10).text, UNIX)
    assert judged.in_force(UNIX + 9) == good
    assert judged.in_force(UNIX + 10) is None
    assert judged.last == good


def test_a_rotation_needs_the_keys_from_before() -> None:
    second, third = key(SECOND_PUBLISHER), key(THIRD)
    one = state()
    one.accept(bundle(keys=[second, third]).text, UNIX)  # one key known: one signature is all there can be
    assert set(one.keys) == {second, third}
    with pytest.raises(BundleError) as caught:
        one.accept(
            bundle(seq=UNIX + 1, keys=[key(PUBLISHER)], signers=[SECOND_PUBLISHER, PUBLISHER]).text, UNIX
        )
    assert caught.value.code == "bundle_rotation_refused"
    one.accept(bundle(seq=UNIX + 1, keys=[key(PUBLISHER)], signers=[SECOND_PUBLISHER, THIRD]).text, UNIX)
    assert one.keys == KEYS


def test_the_order_of_keys_is_no_change() -> None:
    two = BundleState(DOMAIN, [key(PUBLISHER), key(SECOND_PUBLISHER)])
    assert two.accept(bundle(keys=[key(SECOND_PUBLISHER), key(PUBLISHER)]).text, UNIX)


def test_choose_takes_the_highest_acceptable_number() -> None:
    low, high = bundle(seq=UNIX), bundle(entry(BOB), seq=UNIX + 9)
    future = bundle(seq=UNIX + 90_000)
    choice = state().choose(["v=spf1", low.text, "rubbish", future.text, high.text], UNIX)
    assert choice.bundle == high
    assert choice.changed
    assert choice.first_contact
    assert [error.code for error in choice.refused] == ["bundle_seq_future"]


def test_choose_says_equivocation_within_one_answer() -> None:
    ours, theirs = bundle(entry(ALICE)), bundle(entry(BOB))
    choice = state().choose([ours.text, theirs.text], UNIX)
    assert [error.code for error in choice.refused] == ["bundle_equivocation"]
    assert state().choose([theirs.text, ours.text], UNIX).bundle == choice.bundle


def test_choose_looks_at_four_candidates() -> None:
    texts = [bundle(seq=UNIX + n).text for n in range(5)]
    assert state().choose(texts, UNIX).bundle.seq == UNIX + 3
    assert BundleConfig().max_candidates == 4


def test_choose_without_a_bundle() -> None:
    judged = state()
    with pytest.raises(NoBundle):
        judged.choose([], UNIX)
    with pytest.raises(NoBundle):
        judged.choose(["v=wws2;x", "hello"], UNIX)
    with pytest.raises(BundleError) as caught:
        judged.choose(["v=wws1;x", bundle(signers=[THIRD]).text], UNIX)
    assert caught.value.code == "publisher_unknown"


def test_a_failed_refresh_never_replaces_a_good_list() -> None:
    judged = state()
    good = judged.choose([bundle().text], UNIX).bundle
    for texts in ([], ["v=wws1;"], [bundle(signers=[THIRD]).text], [bundle(seq=UNIX - 1).text]):
        with pytest.raises(BundleError):
            judged.choose(texts, UNIX)
        assert judged.in_force(UNIX) == good


def test_state_survives_a_restart() -> None:
    judged = state(min_seq=5)
    judged.accept(bundle(keys=[key(SECOND_PUBLISHER)]).text, UNIX)
    again = BundleState.from_json(judged.to_json())
    assert again.to_json() == judged.to_json()
    assert again.keys == (key(SECOND_PUBLISHER),)
    newer = {**judged.to_json(), "schema": 2, "unheard_of": True}
    assert BundleState.from_json(newer).to_json() == judged.to_json()
    assert BundleState.of(SIGNED, judged.to_json()).keys == (key(SECOND_PUBLISHER),)
    assert BundleState.of(replace(SIGNED, min_seq=9), judged.to_json()).min_seq == 9


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 3}, {"schema": True}, {"schema": None}, {"domain": 1}, {"keys": []}, {"keys": ["00"]},
        {"keys": [1]}, {"keys": ["00" * 32] * 6}, {"min_seq": -1}, {"min_seq": "1"}, {"bundle": "v=wws1;"},
        {"bundle": 1}, {"bundle": "x" * 5_000},
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_read(change: dict[str, object]) -> None:
    value = {**state().to_json(), **change}
    with pytest.raises(StateMalformed):
        BundleState.from_json(value)  # type: ignore[arg-type]


def test_a_state_of_another_network() -> None:
    with pytest.raises(StateMalformed):
        BundleState.of(replace(SIGNED, domain="other.example"), state().to_json())


def test_publisher_keys() -> None:
    raw = PUBLISHER.public_key
    assert parse_publisher_key(raw.hex()) == parse_publisher_key(base64.encode_url(raw)) == raw
    for text in (
        "",
        "00",
        "g" * 64,
        raw.hex()[:-1] + " ",
        base64.encode_url(raw)[:-1] + "!",
        base64.encode(raw),
    ):
        with pytest.raises(ParseError):
            parse_publisher_key(text)
