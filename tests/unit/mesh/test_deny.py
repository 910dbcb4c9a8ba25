"""The operator's list: how entries are written, and what they match."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.mesh.deny import NOTHING, DenyList, parse_denied_name, parse_peer, parse_prefix
from wws.names.record import name_key

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id


def deny(
    peers: tuple[str, ...] = (), prefixes: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> DenyList:
    return DenyList.parse(peers, prefixes, names, name_key)


def test_a_peer_in_either_spelling() -> None:
    assert deny((str(ALICE),)).denies_peer(ALICE)
    assert deny((ALICE.cid,)).denies_peer(ALICE)
    assert not deny((str(ALICE),)).denies_peer(BOB)


@pytest.mark.parametrize(
    "entry, inside, outside",
    [
        ("203.0.113.0/24", ["203.0.113.0", "203.0.113.255", "::ffff:203.0.113.7"], ["203.0.112.255", "::1"]),
        ("203.0.113.7", ["203.0.113.7"], ["203.0.113.6", "203.0.113.8"]),
        ("10.0.0.0/8", ["10.1.2.3"], ["11.0.0.0"]),
        ("2001:db8::/32", ["2001:db8:1::7"], ["2001:db9::", "203.0.113.7"]),
        ("2001:db8::7", ["2001:db8::7"], ["2001:db8::8"]),
    ],
)  # fmt: skip
def test_a_prefix_matches_what_is_inside(entry: str, inside: list[str], outside: list[str]) -> None:
    denied = deny(prefixes=(entry,))
    assert all(map(denied.denies_ip, inside))
    assert not any(map(denied.denies_ip, outside))


def test_a_name_is_known_by_its_text_and_by_its_key() -> None:
    denied = deny(names=("bad", "wws:Worse@lab"))
    for same in ("bad", "bad@public", name_key("bad"), "worse@lab", name_key("worse", "lab")):
        assert denied.denies_name(same)
    for other in ("worse", "bad@lab", name_key("worse"), name_key("bad", "lab"), "", "@", "wws:bad"):
        assert not denied.denies_name(other)


def test_nothing_denies_nobody() -> None:
    assert not NOTHING
    assert not NOTHING.denies_peer(ALICE)
    assert not NOTHING.denies_ip("203.0.113.7")
    assert not NOTHING.denies_ip("")  # through a relay there is none
    assert not NOTHING.denies_name("alice")
    assert deny(prefixes=("10.0.0.0/8",)).denies_ip("no address") is False


@pytest.mark.parametrize(
    "parse, text",
    [
        (parse_peer, "12D3KooW"),
        (parse_peer, ""),
        (parse_peer, "alice"),
        (parse_prefix, "203.0.113.7/24"),
        (parse_prefix, "203.0.113.0/33"),
        (parse_prefix, "0.0.0.0/0"),
        (parse_prefix, "::/0"),
        (parse_prefix, "::ffff:203.0.113.0/120"),
        (parse_prefix, "example.org"),
        (parse_prefix, ""),
        (parse_denied_name, ""),
        (parse_denied_name, "wws:"),
        (parse_denied_name, "alice@"),
        (parse_denied_name, "@lab"),
    ],
)
def test_what_is_no_entry(parse: object, text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)  # type: ignore[operator]


@given(st.lists(st.ip_addresses(network="203.0.112.0/20").map(str), max_size=20), st.data())
def test_the_lookup_agrees_with_the_plain_one(ips: list[str], data: st.DataObject) -> None:
    lengths = [data.draw(st.integers(16, 32)) for _ in ips]
    networks = [
        ipaddress.ip_network(f"{ip}/{length}", strict=False) for ip, length in zip(ips, lengths, strict=True)
    ]
    denied = deny(prefixes=tuple(map(str, networks)))
    asked = data.draw(st.ip_addresses(network="203.0.112.0/20"))
    assert denied.denies_ip(str(asked)) == any(asked in network for network in networks)


@given(st.text(max_size=60))
def test_any_text_is_an_entry_or_refused(text: str) -> None:
    for parse in (parse_peer, parse_prefix, parse_denied_name):
        try:
            parse(text)
        except ParseError:
            pass
