"""Somebody who can write a stack's configuration makes no code of it, no keys, and no open doors."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from wws_infra import allow_list
from wws_infra.providers import provider_for
from wws_infra.providers.interface import Provider
from wws_infra.settings import RESERVED, SettingsRefused, StackSettings

LOCAL: dict[str, Any] = {"domain": "example.org", "nodes": [{"name": "boot1"}, {"name": "boot2"}]}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJCeMCIsyNwO7PUSvY9bqXTR7fQk9nGSuoJKy8mrvtE4"
HOSTS: dict[str, Any] = {
    "provider": "hosts",
    "domain": "example.org",
    "nodes": [{"name": "boot1", "address": "192.0.2.1", "host_key": KEY}],
    "ssh_allow": ["203.0.113.7/32"],
    "release": {"version": "1.0", "archive": "/srv/release.tar.gz", "sha256": "ab" * 32},
}


def refused(values: dict[str, Any]) -> str:
    with pytest.raises((SettingsRefused, allow_list.AllowListRefused)) as caught:
        provider_for(values)
    return str(caught.value)


def test_the_settings_that_are_attacked_are_right() -> None:
    provider_for(LOCAL)
    provider_for(HOSTS)


@pytest.mark.parametrize(
    "variables",
    [
        {"ansible_connection": "local"},
        {"ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o ProxyCommand=id"},
        {"ansible_become_exe": "/tmp/sudo"},
        {"ansible_python_interpreter": "/tmp/python"},
        {"wws_ssh_allow": ["0.0.0.0/1", "128.0.0.0/1"]},
        {"wws_identity": "c2VjcmV0"},
        {"wws_release_sha256": "cd" * 32},
        {"wws_report_dir": "/srv/alice/.ssh"},
        {"wws_limits\n": {}},
    ],
    ids=str,
)
def test_variables_are_the_roles_own_and_none_that_the_stack_decides(variables: dict[str, Any]) -> None:
    assert "wws:variables" in refused({**HOSTS, "variables": variables})


def test_all_that_the_stack_gives_to_the_role_is_reserved() -> None:
    given = {
        "wws_version",
        "wws_ssh_allow",
        "wws_metrics_allow",
        "wws_identity",
        "wws_network",
        "wws_peer_id",
    }
    assert given <= RESERVED


@pytest.mark.parametrize(
    "limits", [{"x = 1\n[rpc]\nlisten": "y"}, {"a.b": 1}, {"": 1}, {'"': 1}, {"a]": 1}], ids=str
)
def test_a_limit_is_one_name(limits: dict[str, Any]) -> None:
    assert "wws:limits" in refused({**LOCAL, "limits": limits})


@pytest.mark.parametrize("value", ["a\nb = 1", '"', "\u2028", "\x7f"], ids=ascii)
def test_a_limits_value_stays_a_value(value: object) -> None:
    from wws_infra.providers.local.node import _config

    read = tomllib.loads(_config({"limits": {"peers": value}}))
    assert set(read) == {"network", "limits"}
    assert set(read["limits"]) == {"peers"}
    assert read["limits"]["peers"] == value


@pytest.mark.parametrize(
    "change",
    [
        {"address": "fe80::1%a\nmallory ssh-ed25519 AAAA"},
        {"address": "2001:db8::1%x -oProxyCommand=id"},
        {"ipv6": "fe80::1%eth0"},
        {"ssh_address": "-oProxyCommand=id"},
        {"ssh_address": "a b"},
        {"ssh_address": "a\n"},
        {"ssh_user": "root -oProxyCommand=id"},
        {"ssh_user": "root\n"},
        {"name": "boot1\n"},
        {"name": "../boot"},
    ],
    ids=str,
)
def test_what_names_a_host_holds_nothing_else(change: dict[str, Any]) -> None:
    (node,) = HOSTS["nodes"]
    assert "wws:nodes.0" in refused({**HOSTS, "nodes": [{**node, **change}]})


@pytest.mark.parametrize("network", ["fe80::1%a\n accept/128", "fe80::%x/64", "192.0.2.1/32\n"], ids=ascii)
@pytest.mark.parametrize("which", ["ssh_allow", "metrics_allow"])
def test_a_network_holds_nothing_else(which: str, network: str) -> None:
    refused({**HOSTS, which: [network]})
    with pytest.raises(allow_list.AllowListRefused):
        allow_list.parse([network.strip()] if "%" in network else [network + "x"], what="ssh")


@pytest.mark.parametrize(
    "change",
    [
        {"ssh_key_file": "/tmp/x -o ProxyCommand=id"},
        {"ssh_key_file": "/tmp/{{ lookup('pipe', 'id') }}"},
        {"ssh_key_file": "/tmp/a\nb"},
        {"dns_servers": ["192.0.2.53\nrpc"]},
        {"dns_servers": ["--rpc=0.0.0.0:1"]},
        {"release": {**HOSTS["release"], "version": "1.0\n"}},
        {"release": {**HOSTS["release"], "version": "../../etc"}},
    ],
    ids=str,
)
def test_what_goes_into_files_and_commands_holds_nothing_else(change: dict[str, Any]) -> None:
    refused({**HOSTS, **change})


HALVES = ["0.0.0.0/1", "128.0.0.0/1"]


@pytest.mark.parametrize("which", ["ssh_allow", "metrics_allow"])
@pytest.mark.parametrize(
    "networks", [HALVES, ["::/1", "8000::/1"], ["::ffff:0:0/96"], ["0.0.0.0/2"]], ids=str
)
def test_a_cloud_that_is_added_refuses_the_world_too(which: str, networks: list[str]) -> None:
    """A provider's author need not think of it."""

    class Cloud(Provider[Any, Any]):
        has_regions = False

        def host(self, node: Any, firewall: Any, opts: Any) -> Any:
            raise NotImplementedError

    values = {
        "provider": "cloud",
        "domain": "example.org",
        "nodes": [{"name": "boot1"}],
        "ssh_allow": ["192.0.2.0/24"],
        "release": HOSTS["release"],
        "section": {},
        which: networks,
    }
    types = StackSettings[Cloud.node_type, Cloud.section_type]
    with pytest.raises((SettingsRefused, allow_list.AllowListRefused, ValueError)):
        Cloud(types.model_validate(json.loads(json.dumps(values)))).check()
