"""`wws-ops status|logs|exec|deny` with real nodes, on this machine and over a real sshd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agent_cli.ops import deny, machines
from agent_cli.ops.app import run, schema_of
from agent_cli.ops.inventory import Inventory
from tests.net.bootstrap import REPOSITORY, Bootstrap
from tests.net.ssh_server import SshServer
from tests.prerequisites import require
from wws import __version__
from wws.identity.keys import Identity

pytestmark = pytest.mark.net

EVE = str(Identity.from_label("eve").peer_id)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bootstrap]:
    config = '[deny]\nfile = "deny.txt"\n'
    folder = tmp_path_factory.mktemp("node")
    (folder / "h").mkdir(mode=0o700)
    (folder / "h" / "deny.txt").write_text("# ours\nwws:casino   # a comment\n")
    with Bootstrap(folder, config) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    require("sshd", "ssh-keygen")
    with SshServer(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture
def over_ssh(
    node: Bootstrap, server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The node as one behind SSH: with `wws-control` and settings where this test has them."""
    control = tmp_path / "wws-control"
    control.write_text(
        f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m bootstrap_node.control "$@"\n'
    )
    control.chmod(0o755)
    monkeypatch.setattr(machines, "CONTROL", str(control))
    monkeypatch.setattr(deny, "CONFIG", str(node.home / "config.toml"))
    return entry(server, home=str(node.home), peer_id=node.peer_id)


def entry(server: SshServer, name: str = "far", **more: Any) -> dict[str, Any]:
    """A host behind the server, as members of the inventory."""
    return {**asdict(server.host(name)), "multiaddrs": [], **more}


def ask(capsys: pytest.CaptureFixture[str], code: int, line: str, *words: str) -> dict[str, Any]:
    """What a command says with --json: its data, and its errors."""
    arguments = [*line.split(), *words]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    arguments.insert(at, "--json")
    assert run(arguments) == code
    envelope = json.loads(capsys.readouterr().out)
    assert envelope["schema"] == schema_of(arguments[:at])
    assert envelope["ok"] is (code == 0)
    return {**envelope["data"], "errors": envelope["errors"]}


def test_all_nodes_in_one_table_those_that_cannot_be_asked_too(
    node: Bootstrap, server: SshServer, over_ssh: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = node.entry("two", peer_id=EVE, multiaddrs=[], home=str(node.folder))
    gone = entry(server, "gone", ssh_port=1)
    inventory = node.inventory(stopped, over_ssh | {"peer_id": _other(1)}, gone, ssh_key_file=server.key_file)
    said = ask(capsys, 8, f"status --inventory {inventory}")
    states = {one["host"]: one["state"] for one in said["nodes"]}
    assert list(states) == ["one", "two", "far", "gone"]
    assert (states["two"], states["far"], states["gone"]) == ("stopped", "wrong_key", "unreachable")
    first = said["nodes"][0]
    assert first["peer_id_matches"] is True
    assert first["version"] == __version__
    assert first["rss_bytes"] > 10_000_000
    assert 0 < first["disk_free_bytes"] <= first["disk_bytes"]
    assert {
        "reservations",
        "circuits",
        "bundle_seq",
        "witness_entries",
        "draining",
        "uptime_s",
    } <= first.keys()
    assert said["nodes"][2]["peer_id"] == node.peer_id
    assert [error["code"] for error in said["errors"]] == [
        "node_not_running",
        "peer_id_mismatch",
        "host_unreachable",
    ]
    assert run(["status", "one", "gone", "--inventory", str(inventory)]) == 5
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 3
    assert "unreachable" in shown.out
    assert "gone: no connection to 127.0.0.1:1" in shown.err


def _other(number: int) -> str:
    return str(Identity.from_label(f"other {number}").peer_id)


def test_the_same_over_ssh_as_here(
    node: Bootstrap, server: SshServer, over_ssh: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = node.folder / "far.json"
    members = {"schema": 1, "domain": "example.org", "network": "example.org", "hosts": [over_ssh]}
    path.write_text(json.dumps({**members, "ssh_key_file": server.key_file}))
    said = ask(capsys, 0, f"status --inventory {path}")["nodes"][0]
    assert (said["peer_id"], said["peer_id_matches"]) == (node.peer_id, True)
    assert said["disk_bytes"] > 0
    assert ask(capsys, 0, f"drain far --inventory {path}")["hosts"][0]["draining"] is True
    assert ask(capsys, 0, f"status --inventory {path}")["nodes"][0]["state"] == "draining"
    assert ask(capsys, 0, f"drain far --undo --inventory {path}")["hosts"][0]["draining"] is False


def test_a_host_without_a_node_says_so(
    node: Bootstrap, server: SshServer, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = node.inventory(entry(server), ssh_key_file=server.key_file)
    said = ask(capsys, 3, f"status far --inventory {inventory}")
    assert said["nodes"][0]["state"] == "not_installed"
    wrong = node.inventory(entry(server, host_key=server.host(key="other_key").host_key))
    assert ask(capsys, 8, f"status far --inventory {wrong}")["nodes"][0]["state"] == "host_key_changed"


def test_commands_on_hosts(node: Bootstrap, server: SshServer, capsys: pytest.CaptureFixture[str]) -> None:
    others = [entry(server, "far"), entry(server, "farther", peer_id=EVE)]
    inventory = node.inventory(*others, ssh_key_file=server.key_file)
    said = ask(capsys, 0, f"exec far farther --inventory {inventory} --", "printf", "%s", "--json $HOME")
    assert [(one["host"], one["output"]) for one in said["hosts"]] == [
        ("far", "--json $HOME"),
        ("farther", "--json $HOME"),
    ]
    said = ask(capsys, 7, f"exec far --inventory {inventory} --", "echo a | tr a b; exit 4")
    assert said["hosts"][0] == {"host": "far", "exit_code": 4, "output": "b\n", "errors": ""}
    assert said["errors"][0]["code"] == "command_failed"
    said = ask(capsys, 5, f"exec far --timeout 1 --inventory {inventory} --", "sleep", "600")
    assert said["errors"][0]["code"] == "timeout"
    assert ask(capsys, 2, f"exec far --inventory {inventory}")["errors"][0]["code"] == "wrong_usage"
    assert ask(capsys, 2, f"exec one --inventory {inventory} -- true")["errors"][0]["code"] == "host_is_local"
    assert ask(capsys, 4, f"exec fra --inventory {inventory} -- true")["errors"][0]["hint"].startswith(
        "Did you"
    )


def test_logs(node: Bootstrap, capsys: pytest.CaptureFixture[str]) -> None:
    inventory = node.inventory()
    said = ask(capsys, 0, f"logs one --lines 1000 --inventory {inventory}")["logs"][0]
    assert said["host"] == "one"
    assert any("listening" in line for line in said["lines"])
    assert ask(capsys, 0, f"logs --lines 0 --inventory {inventory}")["logs"][0]["lines"] == []
    later = ask(capsys, 0, f"logs --since 2999-01-01T00:00 --inventory {inventory}")
    assert later["logs"][0]["lines"] == []
    assert ask(capsys, 0, f"logs --since 1h --inventory {inventory}")["logs"][0]["lines"]
    assert (
        ask(capsys, 2, f"logs --since yesterday --inventory {inventory}")["errors"][0]["code"]
        == "wrong_usage"
    )


def test_logs_that_are_followed_end_when_interrupted(node: Bootstrap) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "agent_cli.ops",
            "logs",
            "--follow",
            "--json",
            "--inventory",
            node.inventory(),
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        first = json.loads(process.stdout.readline())
        assert (first["schema"], first["data"]["host"]) == ("wws-ops.logs/v1", "one")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_of_two_operators_at_one_deny_list_the_second_is_told(node: Bootstrap) -> None:
    known = Inventory.read(node.inventory())
    (host,) = known.hosts
    alice = bob = deny._read_at(host, known)
    before = (node.home / "deny.txt").read_text()
    deny._write_at(host, known, alice, before + "198.51.100.0/24\n")
    with pytest.raises(deny.DenyFileChanged):
        deny._write_at(host, known, bob, before + "203.0.113.0/24\n")
    assert (node.home / "deny.txt").read_text() == before + "198.51.100.0/24\n"
    deny._write_at(host, known, deny._read_at(host, known), before)
    assert (node.home / "deny.txt").read_text() == before


def test_the_deny_list_is_the_same_everywhere(
    node: Bootstrap, server: SshServer, over_ssh: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = node.inventory(ssh_key_file=server.key_file)
    listed = node.home / "deny.txt"
    before = listed.read_text()
    said = ask(capsys, 0, f"deny add 198.51.100.0/24 {EVE} wws:poker --reason flood --inventory {inventory}")
    assert said["hosts"] == [{"host": "one", "result": "changed"}]
    assert listed.read_text().startswith(before)
    assert "198.51.100.0/24   # 2" in listed.read_text()
    assert listed.stat().st_mode == (node.home / "config.toml").stat().st_mode
    said = ask(capsys, 0, f"deny add 198.51.100.0/24 --inventory {inventory}")
    assert said["hosts"] == [{"host": "one", "result": "unchanged"}]
    entries = ask(capsys, 0, f"deny list --inventory {inventory}")["hosts"][0]["entries"]
    assert entries == [EVE, "198.51.100.0/24", "wws:casino", "wws:poker"]

    far = node.folder / "far.json"
    members = {"schema": 1, "domain": "example.org", "network": "example.org", "hosts": [over_ssh]}
    far.write_text(json.dumps({**members, "ssh_key_file": server.key_file}))
    said = ask(capsys, 0, f"deny remove 198.51.100.0/24 {EVE} wws:poker --inventory {far}")
    assert said["hosts"] == [{"host": "far", "result": "changed"}]
    assert listed.read_text() == before


def test_nobody_shuts_out_his_own(
    node: Bootstrap, server: SshServer, over_ssh: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    inventory = node.inventory(ssh_key_file=server.key_file)
    before = (node.home / "deny.txt").read_text()
    for mine in (node.peer_id, "127.0.0.1", "127.0.0.0/8"):
        said = ask(capsys, 7, f"deny add {mine} --inventory {inventory}")
        assert said["errors"][0]["code"] == "deny_refused"
    # Where the command comes from, as the host sees it: this host is called by a name.
    far = node.folder / "far.json"
    members = {"schema": 1, "domain": "example.org", "network": "example.org"}
    hosts = [over_ssh | {"address": "localhost"}]
    far.write_text(json.dumps({**members, "hosts": hosts, "ssh_key_file": server.key_file}))
    said = ask(capsys, 7, f"deny add 127.0.0.0/16 --inventory {far}")
    assert "your own address" in said["errors"][0]["message"]
    for odd in ("example.org", "wws:", "12D3KooWx", "#", "0.0.0.0/0", "198.51.100.7/24"):
        assert ask(capsys, 2, f"deny add {odd} --inventory {inventory}")["errors"]
    assert (node.home / "deny.txt").read_text() == before


def test_the_stolen_key_of_a_node_is_denied_on_the_others(
    node: Bootstrap, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = node.entry("gone", peer_id=EVE, multiaddrs=[], home=str(node.folder))
    inventory = node.inventory(gone)
    said = ask(capsys, 7, f"deny add {EVE} --inventory {inventory}")
    assert "--stolen" in said["errors"][0]["hint"]
    said = ask(capsys, 0, f"deny add {EVE} --stolen --inventory {inventory}")
    assert said["hosts"] == [{"host": "one", "result": "changed"}]
    assert EVE in ask(capsys, 0, f"deny list --host one --inventory {inventory}")["hosts"][0]["entries"]
    assert ask(capsys, 2, f"deny add 198.51.100.0/24 --stolen --inventory {inventory}")["errors"]
    assert ask(capsys, 0, f"deny remove {EVE} --host one --inventory {inventory}")["hosts"]


def test_nothing_is_denied_anywhere_while_a_host_cannot_be_asked(
    node: Bootstrap, server: SshServer, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (node.home / "deny.txt").read_text()
    inventory = node.inventory(entry(server, "gone", ssh_port=1), ssh_key_file=server.key_file)
    said = ask(capsys, 5, f"deny add 198.51.100.0/24 --inventory {inventory}")
    assert said["errors"][0]["code"] == "host_unreachable"
    assert (node.home / "deny.txt").read_text() == before
    assert ask(capsys, 0, f"deny add 198.51.100.0/24 --host one --inventory {inventory}")["hosts"]
    assert ask(capsys, 0, f"deny remove 198.51.100.0/24 --host one --inventory {inventory}")["hosts"]
    bare = node.entry("bare", peer_id=EVE, multiaddrs=[], home=str(node.folder))
    said = ask(capsys, 7, f"deny list --host bare --inventory {node.inventory(bare)}")
    assert said["errors"][0]["code"] == "deny_file_missing"


def test_which_nodes_must_be_said(
    node: Bootstrap, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WWS_INVENTORY", raising=False)
    assert ask(capsys, 2, "status")["errors"][0]["code"] == "wrong_usage"
    assert ask(capsys, 2, "status --inventory x --stack y")["errors"][0]["code"] == "wrong_usage"
    assert ask(capsys, 10, "status --inventory /nowhere")["errors"][0]["code"] == "cannot_read"
    monkeypatch.setenv("WWS_INVENTORY", str(node.inventory()))
    assert ask(capsys, 0, "status")["nodes"][0]["host"] == "one"
