"""`wws-ops` from the operator's machine, against three hosts: what is read, denied, drained and upgraded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_cli.ops.inventory import Inventory
from tests.full_scale import only_in_full
from tests.hosts.nodes import FIRST, NAMES, SHORT_GATE, Nodes
from tests.prerequisites import require

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("hosts")]


@pytest.fixture(autouse=True)
def _prerequisites() -> None:
    require("root", "systemd-nspawn", "age")


class Ops:
    """`wws-ops` with the inventory of the nodes."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.inventory = nodes.folder / "inventory.json"
        self.inventory.write_text(nodes.inventory.to_json())

    def __call__(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        words = list(arguments)
        at = words.index("--") if "--" in words else len(words)
        words[at:at] = ["--inventory", str(self.inventory), "--json"]
        done = self.nodes.operator.run("wws-ops", *words, within=300)
        assert done.returncode == code, done.stdout + done.stderr
        said = json.loads(done.stdout)
        return {**said["data"], "errors": said["errors"]}


@pytest.fixture
def ops(nodes: Nodes) -> Ops:
    return Ops(nodes)


def test_an_operator_looks_at_nodes_and_keeps_somebody_out(nodes: Nodes, ops: Ops) -> None:
    seen = ops("status")["nodes"]
    assert [node["host"] for node in seen] == list(NAMES)
    assert all(node["peer_id_matches"] and node["version"] == FIRST for node in seen)
    assert all(node["disk_bytes"] > 0 and node["rss_bytes"] > 0 for node in seen)
    said = ops("exec", "--", "hostname; id -u")
    assert all(one["output"].splitlines()[1] == "0" for one in said["hosts"])
    first = NAMES[0]
    lines = ops("logs", first, "--lines", "2000")["logs"][0]["lines"]
    assert any("listening" in line for line in lines)

    said = ops("deny", "add", "100.100.100.0/28", "--reason", "flood")
    assert {one["result"] for one in said["hosts"]} == {"changed"}
    assert nodes[first].ssh("stat -c '%a %U %G' /etc/wws/deny.txt").stdout.strip() == "640 root wws"
    assert all("100.100.100.0/28" in one["entries"] for one in ops("deny", "list")["hosts"])
    mine = ops("deny", "add", f"{nodes.operator.address}/32", code=7)
    assert "your own address" in mine["errors"][0]["message"]
    ops("deny", "remove", "100.100.100.0/28")

    assert ops("drain", first)["hosts"][0]["draining"] is True
    states = {node["host"]: node["draining"] for node in ops("status")["nodes"]}
    assert states == {name: name == first for name in NAMES}
    ops("drain", first, "--undo")


@only_in_full
def test_an_upgrade_and_the_way_back_by_one_command_each(nodes: Nodes, ops: Ops, tmp_path: Path) -> None:
    release = nodes.release("1.1.0")
    gate = [word for name, value in SHORT_GATE.items() for word in ("--set", f"{name}={value}")]
    first = NAMES[0]  # one host: whole rolls are what other tests are about
    archive = ("--release", str(release.path), "--version", "1.1.0", "--sha256", release.sha256)
    said = ops("upgrade", first, *archive, *gate)
    assert [one["result"] for one in said["hosts"]] == ["upgraded"]
    assert [node["version"] for node in ops("status", first)["nodes"]] == ["1.1.0"]
    said = ops("rollback", first, *gate)
    assert [one["report"]["version"] for one in said["hosts"]] == [FIRST]

    keys = nodes.operator.run("age-keygen", "-o", str(tmp_path / "age.key"))
    recipient = next(word for word in (keys.stderr + keys.stdout).split() if word.startswith("age1"))
    said = ops("backup", first, "--dir", str(tmp_path / "backups"), "--recipient", recipient)
    file = said["hosts"][0]["report"]["file"]
    assert Path(file).read_bytes().startswith(b"age-encryption.org/")
    refused = ops("restore", first, "--file", file, "--key-file", str(tmp_path / "age.key"), code=7)
    assert refused["errors"][0]["code"] == "playbook_failed", "a node runs there"


@only_in_full
def test_a_host_that_is_off_is_a_row(nodes: Nodes, ops: Ops) -> None:
    """And one whose key is another, as well."""
    parsed = Inventory.read(ops.inventory)
    members = json.loads(parsed.to_json())
    members["hosts"][0]["ssh_port"] = 1
    members["hosts"][1]["host_key"] = members["hosts"][2]["host_key"]
    ops.inventory.write_text(json.dumps(members))
    states = [node["state"] for node in ops("status", code=8)["nodes"]]
    assert states[:2] == ["unreachable", "host_key_changed"]
    assert states[2] not in ("unreachable", "host_key_changed")
