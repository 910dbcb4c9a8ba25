"""How the stack asks a host for its node, over a real sshd; and nodes are changed one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agent_cli.ops.inventory import Inventory
from agent_cli.ops.playbooks import PlaybookResult
from agent_cli.remote import HostKeyWrong, HostUnreachable, LoginRefused
from tests.net.ssh_server import SshServer
from tests.prerequisites import require
from wws_infra.dynamic import playbook
from wws_infra.dynamic.crud import ResourceFailed
from wws_infra.dynamic.node_on_host import RETIRE, Found, Installed, ask_installed, look, wait_for
from wws_infra.dynamic.playbook import SITE, UPGRADE, PlaybookProvider
from wws_infra.dynamic.turns import NodesLeftAlone, OtherNodeDown, Turns

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    require("sshd", "ssh-keygen")
    with SshServer(tmp_path_factory.mktemp("ssh")) as running:
        yield running


def answer(ok: bool, **data: object) -> str:
    return json.dumps({"schema": "wws-control.status/v1", "ok": ok, "data": data, "errors": []})


ANSWERS = {
    "a node": (answer(True, peer_id="12D3KooW", version="1.2.3", draining=True), Found("12D3KooW", "1.2.3")),
    "none": (answer(False), Found(problem="the node does not run")),
    "garbage": ("Traceback (most recent call last):", Found(problem="no node answers (exit code 3)")),
    "nothing": ("", Found(problem="no node answers (exit code 3)")),
    "too deep": ("[" * 100_000, Found(problem="no node answers (exit code 3)")),
    "a list": ("[]", Found(problem="the node does not run")),
    "other data": ('{"ok": true, "data": []}', Found(problem="the node does not run")),
}


@pytest.mark.parametrize("said, found", ANSWERS.values(), ids=ANSWERS)
def test_what_a_host_says_of_its_node(server: SshServer, tmp_path: Path, said: str, found: Found) -> None:
    (tmp_path / "said").write_text(said)
    control = tmp_path / "wws-control"
    control.write_text(f"#!/bin/sh\ncat {tmp_path}/said; exit 3\n")
    control.chmod(0o755)
    assert look(server.host(), server.key_file, control=str(control)) == found


def test_a_host_without_the_program_has_no_node(server: SshServer, tmp_path: Path) -> None:
    found = look(server.host(), server.key_file, control=str(tmp_path / "nowhere"))
    assert found == Found(problem="no node answers (exit code 127)")


def test_a_host_that_is_away_or_another_is_a_problem_and_no_error(server: SshServer) -> None:
    away = look(replace(server.host(), ssh_port=1), server.key_file)
    assert "no connection to 127.0.0.1:1" in away.problem
    other = look(server.host(key="other_key"), server.key_file)
    assert "the inventory knows the key" in other.problem


def retired(folder: Path, **codes: int) -> tuple[int, list[str]]:
    """What the script that retires a node comes to, and asks of systemd, whose answers are `codes`."""
    cases = "".join(f"{verb}) exit {code};; " for verb, code in codes.items())
    systemctl = folder / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$1" >>{folder}/asked\ncase "$1" in {cases} esac\n')
    systemctl.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", RETIRE, "sh", str(folder / "etc" / "sealed"), "a.service"],
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        check=False,
        timeout=60,
    )
    assert (folder / "etc" / "sealed").exists(), "sealed whatever becomes of the rest"
    return done.returncode, (folder / "asked").read_text().split()


def test_a_node_is_retired_only_when_it_has_stopped(tmp_path: Path) -> None:
    for name in ("well", "stubborn", "never"):
        (tmp_path / name).mkdir()
    assert retired(tmp_path / "well") == (0, ["cat", "disable", "stop"])
    code, asked = retired(tmp_path / "stubborn", stop=1)
    assert code != 0, "a node that may still run was taken for a stopped one"
    assert asked == ["cat", "disable", "stop", "kill", "stop"]
    assert retired(tmp_path / "never", cat=1) == (0, ["cat"])


def test_a_new_host_is_waited_for_and_another_one_is_not(server: SshServer) -> None:
    wait_for(server.host(), server.key_file, patience=0)
    with pytest.raises(HostUnreachable):
        wait_for(replace(server.host(), ssh_port=1), server.key_file, patience=0)
    with pytest.raises(LoginRefused):
        wait_for(server.host(), str(server.folder / "other_key"), patience=0)
    with pytest.raises(HostKeyWrong):
        wait_for(server.host(key="other_key"), server.key_file, patience=3_600)


def test_what_is_installed_on_a_host(server: SshServer, tmp_path: Path) -> None:
    home, current, peer_id = tmp_path / "home", tmp_path / "current", tmp_path / "peer_id"
    host = replace(server.host(), home=str(home))

    def asked() -> Installed:
        return ask_installed(host, server.key_file, current=str(current), peer_id=str(peer_id))

    assert asked() == Installed()
    home.mkdir()
    assert asked() == Installed()
    (home / "witness").write_text("promises")
    current.symlink_to("releases/1.0.0")
    peer_id.write_text("12D3KooW\n")
    assert asked() == Installed("1.0.0", "12D3KooW", True)


def test_nodes_that_run_are_changed_one_after_the_other_and_the_first_failure_ends_it() -> None:
    turns = Turns()
    at_once, most = 0, 0

    def change(name: str) -> None:
        nonlocal at_once, most
        with turns.of_one_that_runs(name):
            at_once += 1
            most = max(most, at_once)
            at_once -= 1

    threads = [threading.Thread(target=change, args=(f"boot{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1

    with pytest.raises(OSError, match="full"), turns.of_one_that_runs("boot1"):
        raise OSError("the disk is full")
    with pytest.raises(NodesLeftAlone, match="boot2 was left as it is, because boot1 could not be changed"):
        change("boot2")
    with turns.of_one_that_is_down("boot3"):
        pass  # it has nothing to lose: it is mended all the same


def test_a_node_that_runs_waits_for_those_that_are_down() -> None:
    turns, order = Turns(), list[str]()

    def change() -> None:
        with turns.of_one_that_runs("alice"):
            order.append("alice")

    thread = threading.Thread(target=change)
    with turns.of_one_that_is_down("bob"), turns.beside_others("carol"):
        thread.start()
        order.append("bob")
    thread.join()
    assert order == ["bob", "alice"]


def test_a_node_that_runs_is_left_alone_while_another_is_down() -> None:
    turns = Turns()
    with (
        pytest.raises(OtherNodeDown, match="alice was left as it is, because of bob, which is down") as told,
        turns.of_one_that_runs("alice", lambda: ["bob, which is down (no connection)"]),
    ):
        pytest.fail("alice was changed")
    assert "pulumi up --refresh" in told.value.hint


WANTED: dict[str, Any] = {"peer_id": "12D3KooW", "version": "1.0.0", "machine": "1", "address": "192.0.2.1"}


def compared(olds: dict[str, Any], **news: Any) -> bool:
    """Whether the provider would change the node."""
    result = PlaybookProvider().diff("12D3KooW", {**WANTED, **olds}, {**WANTED, **news})
    assert result.changes is not None
    return result.changes


def test_a_node_is_changed_when_settings_or_the_node_itself_have_changed() -> None:
    assert not compared({"running": True})
    assert compared({"running": False}), "it was found to be down, or to be another version"
    assert compared({"running": True}, version="1.1.0")
    assert compared({"running": True}, machine="2")
    # Neither the operator's own paths nor what was once known of promises make a change.
    assert not compared(
        {"running": True}, ssh_key_file="/srv/bob/key", archive="/tmp/x", seed="s", witness_lost=True
    )


def stack_of(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    """The inputs of a node beside two others, as the stack gives them."""
    archive = folder / "release.tar.gz"
    archive.write_bytes(b"a release")

    def place(other: str) -> dict[str, Any]:
        ip = f"192.0.2.{['alice', 'bob', 'carol'].index(other) + 1}"
        where = {"address": ip, "mesh_address": ip, "port": 9000, "ssh_user": "root", "ssh_port": 22}
        return {"name": other, "peer_id": f"12D3{other}", "host_key": "", **where}

    return {
        **place(name),
        "domain": "example.org",
        "network": "example.org",
        "network_file": "",
        "dns_servers": [],
        "machine": "1",
        "machine_stays": True,
        "ssh_key_file": "",
        "seed": "s",
        "witness_lost": False,
        "ssh_allow": [],
        "metrics_allow": [],
        "limits": {},
        "variables": {},
        "version": "1.1.0",
        "archive": str(archive),
        "sha256": sha256(b"a release").hexdigest(),
        "peers": [place(other) for other in ("alice", "bob", "carol") if other != name],
        **more,
    }


Ran = list[tuple[str, list[str], dict[str, Any]]]


def mended(
    monkeypatch: pytest.MonkeyPatch,
    news: dict[str, Any],
    installed: Installed,
    down: Collection[str],
    olds: dict[str, Any] | None = None,
) -> Ran:
    """The playbooks that a change of this node comes to: name, hosts of the inventory, variables."""
    ran: Ran = []

    def run(name: str, inventory: Inventory, **more: Any) -> PlaybookResult:
        assert more.get("limit", [news["name"]]) == [news["name"]]
        ran.append((name, [host.name for host in inventory.hosts], more["variables"]))
        return PlaybookResult(0)

    monkeypatch.setattr(playbook, "_turns", Turns())
    monkeypatch.setattr(playbook, "AWAY", 0.0)
    monkeypatch.setattr(playbook, "run_playbook", run)
    monkeypatch.setattr(playbook, "wait_for", lambda *_: None)
    monkeypatch.setattr(playbook, "forget_release", lambda *_: None)
    monkeypatch.setattr(playbook, "ask_installed", lambda *_: installed)
    monkeypatch.setattr(
        playbook, "look", lambda host, _: Found(problem="the node does not run" if host.name in down else "")
    )
    PlaybookProvider().update("", {**news, "version": "1.0.0", **(olds or {})}, news)
    return ran


def test_what_is_run_against_a_host_depends_on_what_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bob = stack_of(tmp_path, "bob")

    def steps(installed: Installed, *down: str) -> list[tuple[str, bool]]:
        ran = mended(monkeypatch, bob, installed, down)
        assert all(hosts == ["bob", "alice", "carol"] for name, hosts, _ in ran if name == UPGRADE)
        return [(name, bool(given.get("wws_witness_lost"))) for name, _, given in ran]

    # Everything is lost, while the others run something else: made anew, and it knows what it forgot.
    assert steps(Installed(), "bob") == [(SITE, True)]
    assert steps(Installed(), "bob", "carol") == [(SITE, True)]
    assert steps(Installed("1.0.0", "", False), "bob") == [(SITE, True)]
    # The same version, which is down or has other settings.
    assert steps(Installed("1.1.0", "12D3bob", True), "bob") == [(SITE, False)]
    assert steps(Installed("1.1.0", "12D3bob", True)) == [(SITE, False)]
    # Another version, whoever put it there.
    for version in ("1.0.0", "1.2.0"):
        assert steps(Installed(version, "12D3bob", True)) == [(UPGRADE, False), (SITE, False)]
        assert steps(Installed(version, "12D3bob", True), "bob") == [(UPGRADE, False), (SITE, False)]
    # Another node's host is for the playbook to refuse that changes no versions.
    assert steps(Installed("1.0.0", "12D3carol", True)) == [(SITE, False)]


def test_an_upgrade_takes_no_node_away_while_another_is_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bob, old = stack_of(tmp_path, "bob"), Installed("1.0.0", "12D3bob", True)
    with pytest.raises(ResourceFailed, match=r"because of carol, which is down .the node does not run"):
        mended(monkeypatch, bob, old, ["carol"])
    # One that this run makes is nobody's loss, and no host to ask.
    (_, hosts, _), _ = mended(monkeypatch, bob, old, ["carol"], {"neighbours": ["12D3alice"]})
    assert hosts == ["bob", "alice"]
    # Whoever must go on says so.
    forced = stack_of(tmp_path, "bob", variables={"wws_others_may_be_down": True})
    (_, _, given), _ = mended(monkeypatch, forced, old, ["carol"])
    assert given["wws_others_may_be_down"] is True


def test_another_archive_than_the_pinned_one_is_refused_in_the_preview(tmp_path: Path) -> None:
    provider, bob = PlaybookProvider(), stack_of(tmp_path, "bob")
    olds = {**bob, "version": "1.0.0", "running": True}
    assert provider.check({}, bob).failures == []
    assert provider.diff("", olds, bob).changes is True
    gone = str(tmp_path / "nowhere.tar.gz")
    for wrong, told in (({"sha256": "0" * 64}, "the SHA-256 of"), ({"archive": gone}, "cannot be read")):
        news = {**bob, **wrong}
        assert told in provider.check({}, news).failures[0].reason
        with pytest.raises(ResourceFailed, match=rf"release_differs.*{told}.*Nothing was changed"):
            provider.diff("", olds, news)
    # Who changes no node needs no archive.
    same = {**bob, "running": True}
    assert provider.check(same, {**bob, "archive": gone}).failures == []
    assert provider.diff("", same, {**bob, "archive": gone}).changes is False
