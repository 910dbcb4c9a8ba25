"""DNS hints: one bad record among others changes nothing, and no answer costs unbounded work."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.discovery.world import ALICE, BOB, at
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.txt import (
    HintConfig,
    bundle_name,
    dnsaddr_name,
    parse_dnsaddr,
    parse_seed,
    seed_name,
    seed_text,
)

SEEDS = json.loads((Path(__file__).parents[2] / "vectors" / "bundle.json").read_text())["seed_style_txt"]
BAD = [
    "", "v=1", "peer=/ip4/1.2.3.4/tcp/1", f"v=2 peer={at(ALICE)}", "v=1 peer=", "v=1 peer=/ip4/1.2.3.4/tcp/1",
    "v=1 peer=/ip4/999.1.1.1/tcp/1", f"v=1 peer={at(ALICE)} peer={at(BOB)}", f"v=1 v=2 peer={at(BOB)}",
    "v=spf1 -all", "\x00" * 50, "v=1 peer=" + "/" * 4_000, f"dnsaddr={at(BOB)}", f"V=1 PEER={at(BOB)}",
]  # fmt: skip


def test_the_vectors() -> None:
    hints = parse_seed(SEEDS)
    assert [seed_text(address) for address in hints.addresses] == SEEDS
    assert hints.skipped == {}


def test_unknown_keys_and_words_are_ignored() -> None:
    texts = [f"v=1 peer={at(ALICE)} region=eu weight=3", f"note v=1  peer={at(BOB)} x=y=z"]
    assert parse_seed(texts).addresses == (at(ALICE), at(BOB))


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_record_among_others_changes_nothing(bad: str) -> None:
    good = [f"v=1 peer={at(ALICE)}", f"v=1 peer={at(BOB)}"]
    for place in range(3):
        hints = parse_seed([*good[:place], bad, *good[place:]])
        assert hints.addresses == (at(ALICE), at(BOB))
        assert sum(hints.skipped.values()) == 1


def test_reasons_are_counted() -> None:
    texts = [f"v=1 peer={at(ALICE)}"] * 3 + [f"v=2 peer={at(BOB)}", "hello", "v=1 peer=/ip4/192.0.2.1/tcp/1"]
    assert parse_seed(texts).skipped == {"duplicate": 2, "version": 1, "not_a_hint": 1, "no_peer_id": 1}


def test_dnsaddr_records() -> None:
    texts = [
        f"dnsaddr={at(ALICE)}",
        f"dnsaddr=/dnsaddr/eu.example/p2p/{BOB}",
        "dnsaddr=",
        "dnsaddr",
        "other=x",
    ]
    hints = parse_dnsaddr(texts)
    assert [str(address) for address in hints.addresses] == [str(at(ALICE)), f"/dnsaddr/eu.example/p2p/{BOB}"]
    assert sum(hints.skipped.values()) == 3
    bare = "dnsaddr=/ip4/192.0.2.1/tcp/1"
    assert parse_dnsaddr([bare]).skipped == {"no_peer_id": 1}
    assert parse_dnsaddr([bare], any_peer=True).addresses == (Multiaddr.parse("/ip4/192.0.2.1/tcp/1"),)


def test_limits_at_and_over() -> None:
    config = HintConfig()
    texts = [f"v=1 peer={at(ALICE, port=1 + n)}" for n in range(1_100)]
    assert len(parse_seed(texts[:64]).addresses) == config.max_used
    assert parse_seed(texts[:64]).skipped == {}
    over = parse_seed(texts)
    assert len(over.addresses) == config.max_used
    assert over.skipped == {"too_many": 1_100 - 64}


@given(st.lists(st.text(max_size=60) | st.text(max_size=60).map("v=1 peer=/ip4/".__add__), max_size=20))
def test_any_records_are_read_without_complaint(texts: list[str]) -> None:
    for hints in (parse_seed(texts), parse_dnsaddr(texts)):
        assert len(hints.addresses) + sum(hints.skipped.values()) == len(texts)


def test_names() -> None:
    assert bundle_name("a.example") == "_wws-bundle._tcp.a.example"
    assert seed_name("a.example") == "_openswarm._tcp.a.example"
    assert dnsaddr_name("a.example") == "_dnsaddr.a.example"
