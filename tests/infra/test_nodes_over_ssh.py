"""How the stack asks a host for its node, over a real sshd; and nodes are changed one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_cli.remote import HostKeyWrong, HostUnreachable, LoginRefused
from tests.net.ssh_server import SshServer
from tests.prerequisites import require
from wws_infra.dynamic import playbook
from wws_infra.dynamic.node_on_host import RETIRE, Found, look, wait_for
from wws_infra.dynamic.playbook import NodesLeftAlone, PlaybookProvider, one_at_a_time

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


def test_nodes_are_changed_one_after_the_other_and_the_first_failure_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(playbook, "_failed", [])
    at_once, most = 0, 0

    def change(name: str) -> None:
        nonlocal at_once, most
        with one_at_a_time(name):
            at_once += 1
            most = max(most, at_once)
            at_once -= 1

    threads = [threading.Thread(target=change, args=(f"boot{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1

    with pytest.raises(OSError, match="full"), one_at_a_time("boot1"):
        raise OSError("the disk is full")
    with pytest.raises(NodesLeftAlone, match="boot2 was left as it is, because boot1 could not be changed"):
        change("boot2")


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
