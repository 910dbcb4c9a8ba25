"""The filters of the playbooks: what they refuse, and what a change of settings asks of a node."""

import importlib.util
from base64 import b64encode
from pathlib import Path
from types import ModuleType

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from wws.identity.keys import Identity

ANSIBLE = Path(__file__).parents[3] / "ansible"


def _load() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "wws_filters", ANSIBLE / "filter_plugins" / "wws_filters.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


filters = _load()


@pytest.mark.parametrize(
    "names, problems",
    [
        (["wws_version", "wws_ssh_allow", "ansible_host", "node_multiaddrs"], []),
        (["wws_ssh_alow"], ["there is no variable wws_ssh_alow; did you mean wws_ssh_allow?"]),
        (
            ["wws_release_sha512"],
            ["there is no variable wws_release_sha512; did you mean wws_release_sha256?"],
        ),
        (["wws_b", "wws_a"], ["there is no variable wws_a", "there is no variable wws_b"]),
    ],
)
def test_unknown_variables_are_named_with_the_nearest(names: list[str], problems: list[str]) -> None:
    assert filters.unknown_variables(names, str(ANSIBLE)) == problems


@pytest.mark.parametrize(
    "networks, problems",
    [
        (["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"], []),
        (["0.0.0.0/0"], ["0.0.0.0/0 is the whole internet"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/0 is the whole internet"]),
        (["::/0"], ["::/0 is the whole internet"]),
        (["192.0.2.1/24"], ["192.0.2.1/24 is no network: 192.0.2.1/24 has host bits set"]),
        (["home"], ["home is no network: 'home' does not appear to be an IPv4 or IPv6 network"]),
    ],
)
def test_networks_that_are_none_or_all(networks: list[str], problems: list[str]) -> None:
    assert filters.network_problems(networks) == problems


@given(st.lists(st.one_of(st.ip_addresses(), st.text(max_size=20)).map(str), max_size=8))
def test_any_list_of_networks_is_judged(networks: list[str]) -> None:
    problems = filters.network_problems(networks)
    if not problems:
        assert all(filters.covers(networks, network.partition("/")[0]) for network in networks)


@pytest.mark.parametrize(
    "networks, address, is_covered",
    [
        (["192.0.2.0/24"], "192.0.2.7", True),
        (["192.0.2.0/24"], "::ffff:192.0.2.7", True),
        (["192.0.2.0/24"], "192.0.3.7", False),
        (["2001:db8::/32", "192.0.2.0/24"], "2001:db8::1", True),
        ([], "192.0.2.7", False),
        (["home", "192.0.2.0/24"], "192.0.2.7", True),
    ],
)
def test_an_address_is_in_a_network(networks: list[str], address: str, is_covered: bool) -> None:
    assert filters.covers(networks, address) is is_covered


def test_settings_that_a_node_refuses_are_named_with_their_place() -> None:
    assert filters.config_problem("[limits]\nrelay_circuits = 7\n") == ""
    problem = filters.config_problem("[limits]\nrelay_circuit = 7\n")
    assert "config.toml:2" in problem
    assert "relay_circuits" in problem


@pytest.mark.parametrize(
    "old, new, needed",
    [
        ("[limits]\nrelay_circuits = 7\n", "# said anew\n[limits]\nrelay_circuits = 7\n", "nothing"),
        ("[limits]\nrelay_circuits = 7\n", "[limits]\nrelay_circuits = 8\n", "reload"),
        ("", "[deny]\nnames = ['mallory']\n", "reload"),
        ("[rpc]\nhttp = '127.0.0.1:1'\n", "[rpc]\nhttp = '127.0.0.1:2'\n", "restart"),
        ("[limits]\nrelay_circuits = 7\ndials = 3\n", "", "restart"),
        ("no toml", "[limits]\n", "restart"),
    ],
)
def test_what_a_change_of_settings_needs(old: str, new: str, needed: str) -> None:
    assert filters.config_change(old, new) == needed


def test_the_peer_id_of_an_identity() -> None:
    alice = Identity.from_label("alice")
    assert filters.peer_id(b64encode(alice.seed).decode()) == str(alice.peer_id)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64", b64encode(bytes(33)).decode()])
def test_what_is_no_identity_is_not_repeated(text: str) -> None:
    with pytest.raises(AnsibleFilterError) as refusal:
        filters.peer_id(text)
    assert text == "" or text not in str(refusal.value)
