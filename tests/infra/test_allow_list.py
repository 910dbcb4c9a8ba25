"""Lists of networks that may reach SSH and metrics: the world is refused in every spelling."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws_infra import allow_list
from wws_infra.allow_list import AllowListRefused

THE_WORLD = [
    ["0.0.0.0/0"],
    ["::/0"],
    ["0.0.0.0/00"],
    ["0.0.0.0/0.0.0.0"],
    ["203.0.113.7/0"],
    [" 0.0.0.0/0 "],
    ["0::/0"],
    ["0:0:0:0:0:0:0:0/0"],
    ["2001:db8::1/0"],
    ["0.0.0.0/1", "128.0.0.0/1"],
    ["128.0.0.0/1"],
    ["::/1"],
    ["8000::/1"],
    ["2000::/3"],
    ["::ffff:0:0/96"],
    ["::ffff:0.0.0.0/96"],
    ["::ffff:203.0.113.7/128"],
    ["64:ff9b::/96"],
    ["2002::/16"],
    ["2002::/19"],
    [f"{first}.0.0.0/8" for first in range(64)],
    [f"{first}.0.0.0/8" for first in range(1, 12, 2)],
    [f"{part}.0.0.0/2" for part in (0, 64, 128, 192)],
]


@pytest.mark.parametrize("entries", THE_WORLD, ids=lambda entries: entries[0])
def test_the_world_is_refused_however_it_is_written(entries: list[str]) -> None:
    with pytest.raises(AllowListRefused, match="SSH"):
        allow_list.parse(["203.0.113.0/24", *entries], what="SSH")


@pytest.mark.parametrize(
    "entries",
    [
        ["0/0"],
        ["any"],
        [""],
        ["203.0.113.0/33"],
        ["203.0.113.300"],
        ["2001:db8::/129"],
        ["example.org"],
        ["0x0/0"],
        ["*"],
    ],
    ids=lambda entries: entries[0] or "empty",
)
def test_what_is_no_network_is_refused(entries: list[str]) -> None:
    with pytest.raises(AllowListRefused, match="is no network"):
        allow_list.parse(entries, what="SSH")


def test_nobody_is_refused_for_ssh_and_fine_for_metrics() -> None:
    with pytest.raises(AllowListRefused, match="no network"):
        allow_list.parse([], what="SSH")
    assert allow_list.parse([], what="metrics", may_be_empty=True) == ()


def test_spellings_become_one() -> None:
    entries = ["2001:DB8:0::1/64", "203.0.113.7", "203.0.113.9/24", "203.0.113.0/255.255.255.0", "10.0.0.0/8"]
    assert allow_list.parse(entries, what="SSH") == (
        "10.0.0.0/8",
        "203.0.113.0/24",
        "203.0.113.7/32",
        "2001:db8::/64",
    )


def test_one_more_than_the_limit_is_refused() -> None:
    networks = [f"203.0.113.{2 * n}" for n in range(allow_list.MOST_NETWORKS)]
    assert len(allow_list.parse(networks, what="SSH")) == allow_list.MOST_NETWORKS
    with pytest.raises(AllowListRefused, match="more than"):
        allow_list.parse([*networks, "198.51.100.1"], what="SSH")


networks = st.one_of(
    st.ip_addresses(v=4).flatmap(lambda ip: st.integers(0, 32).map(lambda n: f"{ip}/{n}")),
    st.ip_addresses(v=6).flatmap(lambda ip: st.integers(0, 128).map(lambda n: f"{ip}/{n}")),
)


@given(st.lists(st.one_of(networks, st.text(max_size=20)), max_size=20))
def test_what_is_accepted_is_small_and_stays_as_it_is(entries: list[str]) -> None:
    try:
        accepted = allow_list.parse(entries, what="SSH")
    except AllowListRefused:
        return
    assert allow_list.parse(accepted, what="SSH") == accepted
    for network in map(ipaddress.ip_network, accepted):
        share = network.num_addresses / 2**network.max_prefixlen
        assert share <= 1 / 256
