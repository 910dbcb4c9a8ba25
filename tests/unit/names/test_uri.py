"""What a user may call another node (contract.md section 2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.names.uri import (
    AddressTarget,
    DidTarget,
    MalformedName,
    NameTarget,
    PeerTarget,
    TargetError,
    is_name,
    nearest_name,
    parse_name,
    parse_target,
)
from wws.testing.names import ADDRESS, person

ALICE = person("alice").peer_id
TO_ALICE = ADDRESS.with_peer(ALICE)


@pytest.mark.parametrize(
    "text, target",
    [
        ("alice", NameTarget("alice")),
        ("ALICE", NameTarget("alice")),
        ("wws:alice", NameTarget("alice")),
        ("WWS:Alice", NameTarget("alice")),
        ("wws://alice", NameTarget("alice")),
        ("wws://alice@lab", NameTarget("alice", "lab")),
        ("wws://alice/", NameTarget("alice")),
        ("wWs://ALICE@Lab/", NameTarget("alice", "lab")),
        (f"wws://{ALICE.did}/", DidTarget(ALICE.did)),
        (f"wws://{ALICE}/", PeerTarget(ALICE)),
        (f"WWS:{ALICE.did_key}", PeerTarget(ALICE)),
        ("wws:alice@LAB", NameTarget("alice", "lab")),
        ("alice@public", NameTarget("alice")),
        ("a-1", NameTarget("a-1")),
        ("0" * 32, NameTarget("0" * 32)),
        ("12d3koo", NameTarget("12d3koo")),
        (ALICE.did, DidTarget(ALICE.did)),
        (f"wws:{ALICE.did}", DidTarget(ALICE.did)),
        (f"wws://{ALICE.did}", DidTarget(ALICE.did)),
        (str(ALICE), PeerTarget(ALICE)),
        (ALICE.cid, PeerTarget(ALICE)),
        (f"wws:{ALICE}", PeerTarget(ALICE)),
        (f"wws://{ALICE.cid}", PeerTarget(ALICE)),
        (ALICE.did_key, PeerTarget(ALICE)),
        (str(TO_ALICE), AddressTarget(TO_ALICE, ALICE)),
    ],
)
def test_every_form(text: str, target: object) -> None:
    assert parse_target(text) == target


def test_the_default_swarm_is_for_names_that_say_none() -> None:
    assert parse_target("alice", default_swarm="lab") == NameTarget("alice", "lab")
    assert parse_target("alice@public", default_swarm="lab") == NameTarget("alice")


@pytest.mark.parametrize(
    "text, nearest",
    [
        ("", None),
        ("al", "al-agent"),
        ("alice smith", "alice-smith"),
        ("-alice-", "alice"),
        ("al_ice", "al-ice"),
        ("did", "did-agent"),
        ("PEER", "peer-agent"),
        ("wws", "wws-agent"),
        ("a" * 33, "a" * 32),
        ("alice.", "alice"),
        ("alice/", "alice"),
        ("\u0430lice", "lice"),
        ("alice\u212a", "alice"),
        ("ß", None),
        ("wws:wws:alice", "wws-alice"),
        ("alice\n", "alice"),
    ],
)
def test_malformed_names_say_the_rule_and_the_nearest_valid_form(text: str, nearest: str | None) -> None:
    with pytest.raises(MalformedName) as error:
        parse_target(text)
    assert error.value.code == "malformed_name"
    assert "3 to 32" in str(error.value)
    assert (repr(nearest) in error.value.hint) if nearest else not error.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "alice@",
        "alice@di d",
        "alice@did",
        "alice@lab@lab",
        "@lab",
        "did:swarm:12",
        ALICE.did.upper().replace("DID:SWARM", "did:swarm"),
        "did:web:example.org",
        "did:key:z6Mk",
        f"{ALICE}x",
        str(ALICE)[:-1],
        "bafz" + "a" * 60,
        "/ip4/203.0.113.7/tcp/9000",
        "/ip4/203.0.113.7/tcp/9000/p2p/alice",
        f"wws:{TO_ALICE}",
        f"wws://{TO_ALICE}",
        "/" * 2_000,
        "wws:",
        "wws://",
        "wws:///",
        "wws:///alice",
        "wws:/alice",
        "wws:alice/",
        "wws://alice//",
        "wws://alice/ssh",
        "wws://alice/?",
        "wws://alice?x=1",
        "wws://alice#top",
        "wws://alice:9000",
        "wws://user:word@alice",
        "wws://al%69ce",
        "alice%40lab",
        "wws://alice%2F",
        f"wws:{ALICE.did}%00",
        "http://alice",
        "wws://www.alice",
        " alice",
        "wws: alice",
        "alice\u200d",
        "\uff41lice",
        "al\u0131ce",
        "alice\u0301",
        "ALİCE",
        "wws\uff1aalice",
        "\u202ealice",
        ALICE.did.upper(),
        f"wws:{str(ALICE).lower()}",
    ],
)
def test_other_malformed_targets(text: str) -> None:
    with pytest.raises(TargetError):
        parse_target(text)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]", fullmatch=True).filter(is_name)


@given(st.builds(NameTarget, NAMES, NAMES | st.just("public")))
def test_names_round_trip(target: NameTarget) -> None:
    assert parse_target(str(target)) == target
    assert parse_target(str(target).upper()) == target


@pytest.mark.parametrize("target", [DidTarget(ALICE.did), PeerTarget(ALICE), AddressTarget(TO_ALICE, ALICE)])
def test_others_round_trip(target: object) -> None:
    assert parse_target(str(target)) == target


FRAGMENTS = st.sampled_from(
    [
        "wws:",
        "//",
        "did:",
        "swarm:",
        "key:z",
        str(ALICE),
        ALICE.cid,
        "@",
        "/p2p/",
        "/ip4/1.2.3.4",
        "/tcp/1",
        "alice",
        "-",
    ]
)


@given(st.text(max_size=60) | st.lists(FRAGMENTS | st.text(max_size=3), max_size=6).map("".join))
def test_any_text_is_a_target_or_a_typed_error(text: str) -> None:
    try:
        target = parse_target(text)
    except TargetError:
        return
    assert parse_target(str(target)) == target


@given(st.text(max_size=50))
def test_the_nearest_name_is_a_name(text: str) -> None:
    nearest = nearest_name(text)
    assert nearest is None or parse_name(nearest) == nearest
