"""The inventory: it survives writing and reading, and nothing odd gets into files of SSH and Ansible."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cli.ops.inventory import (
    MAX_HOSTS,
    HostEntry,
    Inventory,
    InventoryMalformed,
    UnknownHost,
    literal,
)
from wws.identity.keys import Identity

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def host(name: str, **more: Any) -> HostEntry:
    peer_id = str(Identity.from_label(name).peer_id)
    addresses = (f"/ip4/192.0.2.1/tcp/9000/p2p/{peer_id}", "/ip4/192.0.2.1/udp/9000/quic-v1")
    members = {"address": "192.0.2.1", "peer_id": peer_id, "multiaddrs": addresses, "host_key": HOST_KEY}
    return HostEntry(name, **{**members, **more})


INVENTORY = Inventory(
    "example.org",
    "example.org#" + "ab" * 32,
    (
        host("one", region="ash"),
        host("two", ssh_user="admin", ssh_port=2222),
        host("here", managed_by="local"),
    ),
    ("192.0.2.53", "[2001:db8::1]:5353"),
    "~/.ssh/id_ed25519",
)


def members(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(INVENTORY.to_json())
    for path, new in changes.items():
        *way, last = path.split("__")
        at = value
        for step in way:
            at = at[int(step[1:])] if step[1:].isdecimal() else at[step]
        if new is ...:
            del at[last]
        else:
            at[last] = new
    return value


def test_what_is_written_is_read() -> None:
    assert Inventory.parse(INVENTORY.to_json()) == INVENTORY
    least = {"schema": 1, "domain": "", "network": "n.json", "hosts": []}
    assert Inventory.parse(json.dumps(least)) == Inventory("", "n.json", ())


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"schema": 2}, "schema '2', this program reads 1"),
        ({"schema": ...}, "'schema' is missing"),
        ({"host": []}, "no member 'host'"),
        ({"network": ...}, "'network' is missing"),
        ({"hosts": {}}, "a list of at most"),
        ({"domain": "no domain"}, "domain: "),
        ({"domain": 7}, "domain: a printable text"),
        ({"network": "example.org#{{ key }}"}, "network: "),
        ({"dns_servers": ["ns.example.org"]}, "dns_servers: "),
        ({"dns_servers": "192.0.2.1"}, "dns_servers: a list"),
        ({"ssh_key_file": "key -o ProxyCommand=sh"}, "ssh_key_file: "),
        ({"ssh_key_file": "{{ lookup('pipe', 'id') }}"}, "ssh_key_file: "),
        ({"hosts__h0__name": "-x"}, "hosts[0].name"),
        ({"hosts__h0__name": "one\n"}, "hosts[0].name"),
        ({"hosts__h0__name": "two"}, "name two is there twice"),
        ({"hosts__h0__address": "-oProxyCommand=sh"}, "hosts[0].address"),
        ({"hosts__h0__address": "{{ 1 }}"}, "hosts[0].address"),
        ({"hosts__h0__peer_id": "12D3KooWnobody"}, "hosts[0]: "),
        ({"hosts__h0__peer_id": str(Identity.from_label("eve").peer_id)}, "is an address of another peer"),
        ({"hosts__h0__multiaddrs": ["nonsense"]}, "hosts[0]: "),
        ({"hosts__h0__multiaddrs": ["/ip4/192.0.2.1/tcp/1"] * 17}, "a list of at most 16"),
        ({"hosts__h0__region": "a\x1b[2J"}, "hosts[0].region"),
        ({"hosts__h0__ssh_user": "root -v"}, "hosts[0].ssh_user"),
        ({"hosts__h0__ssh_port": 0}, "hosts[0].ssh_port"),
        ({"hosts__h0__ssh_port": True}, "hosts[0].ssh_port"),
        ({"hosts__h0__ssh_port": "22"}, "hosts[0].ssh_port"),
        ({"hosts__h0__host_key": "ssh-ed25519"}, "no public key"),
        ({"hosts__h0__host_key": "ssh-rsa " + HOST_KEY.split()[1]}, "no public key"),
        ({"hosts__h0__host_key": f"{HOST_KEY}\n* {HOST_KEY}"}, "a printable text"),
        ({"hosts__h0__managed_by": "magic"}, "'ssh' or 'local'"),
        ({"hosts__h0__home": "state"}, "hosts[0].home"),
        ({"hosts__h0__home": "/x; rm -rf /"}, "hosts[0].home"),
        ({"hosts__h0__node": "../x"}, "hosts[0].node"),
        ({"hosts__h0__http": "nowhere"}, "hosts[0].http"),
        ({"hosts__h0__hostkey": HOST_KEY}, "hosts[0]: there is no member 'hostkey'"),
    ],
)
def test_what_is_odd_is_refused_with_its_place(changes: dict[str, Any], says: str) -> None:
    text = json.dumps(members(**changes))
    with pytest.raises(InventoryMalformed, match=re.escape(says)):
        Inventory.parse(text)


def test_a_mistyped_member_is_told_its_name() -> None:
    with pytest.raises(InventoryMalformed) as caught:
        Inventory.parse(json.dumps(members(hosts__h1__ssh_prot=2222)))
    assert caught.value.hint == "Did you mean 'ssh_port'?"


def test_bounds() -> None:
    many = replace(INVENTORY, hosts=tuple(host(f"h{number}") for number in range(MAX_HOSTS)))
    assert len(Inventory.parse(many.to_json()).hosts) == MAX_HOSTS
    with pytest.raises(InventoryMalformed):
        Inventory.parse(replace(many, hosts=(*many.hosts, host("more"))).to_json())
    for text in ("", "[]", "[" * 100_000, '{"schema": 1, "schema": 1}', " " * 300_000, "null"):
        with pytest.raises(InventoryMalformed):
            Inventory.parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(list(members()) + list(members()["hosts"][0])), inner)
        ),
        max_leaves=20,
    )
)
def test_whatever_comes_is_read_or_refused(value: Any) -> None:
    for text in (
        json.dumps(value),
        json.dumps(members(hosts=[value])),
        json.dumps({**members(), "hosts": value}),
    ):
        try:
            read = Inventory.parse(text)
        except InventoryMalformed:
            continue
        assert Inventory.parse(read.to_json()) == read


@given(st.text(max_size=300))
def test_no_text_makes_a_second_line_of_known_hosts(key: str) -> None:
    try:
        read = Inventory.parse(json.dumps(members(hosts__h0__host_key=key)))
    except InventoryMalformed:
        return
    assert "\n" not in read.hosts[0].known_host
    assert read.hosts[0].known_host == ""


def test_comments_behind_a_key_are_no_part_of_it() -> None:
    read = Inventory.parse(json.dumps(members(hosts__h0__host_key=f"{HOST_KEY} root@one")))
    assert read.hosts[0].known_host == f"192.0.2.1 {HOST_KEY}"
    assert INVENTORY.hosts[1].known_host == f"[192.0.2.1]:2222 {HOST_KEY}"


def test_hosts_are_found_by_name() -> None:
    assert [one.name for one in INVENTORY.choose(["two", "one", "two"])] == ["one", "two"]
    assert len(INVENTORY.choose([])) == 3
    with pytest.raises(UnknownHost) as caught:
        INVENTORY.choose(["tow"])
    assert (caught.value.hint, caught.value.exit_code) == ("Did you mean two?", 4)


def test_ansible_gets_the_hosts_their_keys_and_nothing_to_evaluate(tmp_path: Path) -> None:
    path = INVENTORY.write_ansible(tmp_path, extra={"one": {"wws_secret": "{{ x }}", "list": ["{% y"]}})
    tree = json.loads(path.read_text())["all"]["children"]["bootstrap"]
    assert list(tree["hosts"]) == ["one", "two"]
    assert tree["hosts"]["one"]["wws_secret"] == {"__ansible_unsafe": "{{ x }}"}
    assert tree["hosts"]["one"]["list"] == [{"__ansible_unsafe": "{% y"}]
    assert tree["hosts"]["two"]["ansible_become"] is True
    assert "StrictHostKeyChecking=yes" in tree["vars"]["ansible_ssh_common_args"]
    assert tree["vars"]["ansible_ssh_private_key_file"] == "~/.ssh/id_ed25519"
    assert (tmp_path / "known_hosts").read_text() == (f"192.0.2.1 {HOST_KEY}\n[192.0.2.1]:2222 {HOST_KEY}\n")
    for written in tmp_path.iterdir():
        assert written.stat().st_mode & 0o077 == 0
    with pytest.raises(UnknownHost):
        INVENTORY.write_ansible(tmp_path, extra={"here": {"x": 1}})


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=10))
def test_only_templates_are_marked(value: Any) -> None:
    text = json.dumps(value)
    assert literal(value) == value or re.search(r"\{[{%#]", text)
