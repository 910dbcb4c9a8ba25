"""Playbooks, run by the real Ansible: what they are given, what they report, and how a failure is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent_cli.ops import playbooks, run_lock
from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.playbooks import (
    HostStats,
    NotByPlaybook,
    PlaybookFailed,
    PlaybookMissing,
    PlaybookUnreachable,
    playbook_folder,
    run_playbook,
)
from agent_cli.ops.run_lock import RunUnderWay, one_run
from tests.net.ssh_server import SshServer
from tests.prerequisites import require
from wws.identity.keys import Identity

REPOSITORY = Path(__file__).parents[2]

PLAYBOOK = """\
- name: Try
  hosts: bootstrap
  gather_facts: false
  tasks:
    - name: Say what was given
      ansible.builtin.debug:
        msg: "{{ wws_value }} for {{ wws_peer_id }}"
    - name: Use a secret
      ansible.builtin.command: echo {{ wws_secret | quote }}
      delegate_to: localhost
      no_log: true
    - name: Go over SSH
      ansible.builtin.raw: echo over-$((1 + 1))
      register: said
      when: wws_over_ssh | default(false)
    - name: Report
      ansible.builtin.copy:
        content: "{{ {'said': said.stdout | default('') | trim, 'secret': wws_secret | length} | to_json }}"
        dest: "{{ wws_report_dir }}/{{ inventory_hostname }}.json"
        mode: "0600"
      delegate_to: localhost
    - name: Fail on one
      ansible.builtin.fail:
        msg: "{{ inventory_hostname }} is not well"
      when: inventory_hostname == wws_fails | default('')
"""
HANGS = """\
- name: Hang
  hosts: bootstrap
  gather_facts: false
  tasks:
    - name: Wait
      ansible.builtin.command: sleep 600
      delegate_to: localhost
"""
SHOWS_THE_ENVIRONMENT = """\
- name: Try
  hosts: bootstrap
  gather_facts: false
  tasks:
    - name: Look
      ansible.builtin.debug:
        msg: "token is {{ lookup('ansible.builtin.env', 'HCLOUD_TOKEN') | default('none', true) }}, \
passphrase is {{ lookup('ansible.builtin.env', 'PULUMI_CONFIG_PASSPHRASE') | default('none', true) }}"
"""
SECRET = "{{ geheim }} 'x'"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of playbooks, and a user who has told Ansible to believe everybody."""
    made = tmp_path / "ansible"
    made.mkdir()
    (made / "try.yml").write_text(PLAYBOOK)
    (made / "hangs.yml").write_text(HANGS)
    monkeypatch.setenv("WWS_ANSIBLE", str(made))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    monkeypatch.setenv("ANSIBLE_SSH_ARGS", "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null")
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "minimal")
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    require("sshd", "ssh-keygen", "ssh")
    with SshServer(tmp_path_factory.mktemp("ssh")) as running:
        yield running


def host(name: str) -> HostEntry:
    return HostEntry(name, "192.0.2.1", str(Identity.from_label(name).peer_id), ())


INVENTORY = Inventory("example.org", "example.org", (host("alice"), host("bob")))
SECRETS = {name: {"wws_secret": SECRET} for name in ("alice", "bob")}


def test_each_host_gets_its_values_as_they_are_and_reports(tmp_path: Path) -> None:
    lines: list[str] = []
    result = run_playbook(
        "try.yml", INVENTORY, variables={"wws_value": "{{ 1 + 1 }}"}, secrets=SECRETS, on_line=lines.append
    )
    assert (result.rc, result.changed) == (0, 4)
    assert result.hosts["alice"] == HostStats(ok=3, changed=2)
    assert result.facts == {name: {"said": "", "secret": len(SECRET)} for name in ("alice", "bob")}
    said = "\n".join(lines)
    assert f"{{{{ 1 + 1 }}}} for {INVENTORY.hosts[0].peer_id}" in said
    assert "geheim" not in said
    assert not list(tmp_path.glob("wws-ops-*")), "the private folder is gone"


def test_a_playbook_does_not_get_an_operators_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCLOUD_TOKEN", "geheim")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "geheim")
    (folder / "try.yml").write_text(SHOWS_THE_ENVIRONMENT)
    lines: list[str] = []
    run_playbook("try.yml", INVENTORY, limit=["alice"], on_line=lines.append)
    said = "\n".join(lines)
    assert "token is none, passphrase is none" in said


def test_a_failure_names_host_task_and_reason_and_keeps_what_was_done() -> None:
    variables = {"wws_value": "x", "wws_fails": "bob"}
    with pytest.raises(PlaybookFailed) as caught:
        run_playbook("try.yml", INVENTORY, variables=variables, secrets=SECRETS)
    error = caught.value
    assert (error.host, error.task, error.message) == ("bob", "Fail on one", "bob is not well")
    assert (error.code, error.exit_code, error.result.rc) == ("playbook_failed", 7, 2)
    assert error.result.hosts["bob"].failed == 1
    assert error.result.hosts["alice"].failed == 0
    assert set(error.result.facts) == {"alice", "bob"}


def test_over_ssh_only_the_key_of_the_inventory_is_believed(server: SshServer) -> None:
    good = Inventory("example.org", "example.org", (server.host("alice"),), ssh_key_file=server.key_file)
    variables = {"wws_value": "x", "wws_over_ssh": True}
    result = run_playbook("try.yml", good, variables=variables, secrets={"alice": {"wws_secret": "x"}})
    assert result.facts["alice"]["said"] == "over-2"
    bad = replace(good, hosts=(server.host("alice", key="other_key"),))
    with pytest.raises(PlaybookUnreachable, match="Host key verification failed") as caught:
        run_playbook("try.yml", bad, variables=variables, secrets={"alice": {"wws_secret": "x"}})
    assert (caught.value.host, caught.value.task, caught.value.exit_code) == ("alice", "Go over SSH", 5)
    assert caught.value.result.hosts["alice"].unreachable == 1


def test_a_playbook_that_is_none_says_where(folder: Path) -> None:
    (folder / "bad.yml").write_text("- hosts: all\n  taskz: []\n")
    with pytest.raises(PlaybookFailed, match="'taskz' is not a valid attribute") as caught:
        run_playbook("bad.yml", INVENTORY)
    assert (caught.value.host, caught.value.result.hosts) == ("", {})


def test_what_cannot_be_run_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlaybookMissing):
        run_playbook("none.yml", INVENTORY)
    with pytest.raises(NotByPlaybook):
        run_playbook("try.yml", replace(INVENTORY, hosts=(replace(host("carol"), managed_by="local"),)))
    monkeypatch.setenv("WWS_ANSIBLE", "/nowhere")
    with pytest.raises(PlaybookMissing):
        run_playbook("try.yml", INVENTORY)


def test_ansible_itself_is_not_taken_for_the_playbooks(tmp_path: Path) -> None:
    assert playbook_folder({}).name == "ansible"
    (tmp_path / "ansible" / "modules").mkdir(parents=True, exist_ok=True)  # site-packages, as pip fills it
    with pytest.raises(PlaybookMissing) as caught:
        playbook_folder({}, beside=tmp_path)
    assert "--editable" in caught.value.hint


def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(PlaybookFailed, match="more than 3 s"):
        run_playbook("hangs.yml", INVENTORY, timeout=3)


def test_one_that_does_not_want_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playbooks, "PATIENCE", 0.2)
    said: list[str] = []
    with open(tmp_path / "lock", "wb") as lock:
        rc, last = playbooks._run(
            ["sh", "-c", "trap '' TERM; echo begun; while :; do sleep 0.1; done"],
            {"PATH": os.environ["PATH"]},
            tmp_path,
            (lock.fileno(),),
            said.append,
            timeout=1,
        )
    assert rc != 0
    assert said == ["begun"]
    assert last[-1] == "The playbook took more than 1 s and was ended."


HANGING = """
import sys
from pathlib import Path
from agent_cli.ops.inventory import Inventory
from agent_cli.ops.playbooks import PlaybookInterrupted, run_playbook

try:
    run_playbook("hangs.yml", Inventory.read(Path(sys.argv[1])), on_line=lambda line: print(line, flush=True))
except PlaybookInterrupted as error:
    print(error, dict(error.result.facts), error.result.is_interrupted, flush=True)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that is in its task, in a process of its own."""
    inventory = tmp_path / "inventory.json"
    inventory.write_text(INVENTORY.to_json())
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(inventory)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        assert any("TASK [Wait]" in line for line in process.stdout)
        yield process
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_leaves_nothing_and_says_what_was_done(
    tmp_path: Path, hanging: subprocess.Popen[str], number: signal.Signals
) -> None:
    hanging.send_signal(number)
    assert hanging.stdout is not None
    said = hanging.stdout.read()
    assert hanging.wait(60) == 130
    # Ansible shows a task before it tells us of it.
    assert re.fullmatch(r"Interrupted( at: Wait)?\. \{\} True", said.splitlines()[-1])
    assert not list(tmp_path.glob("wws-ops-*"))


def test_a_second_run_on_a_network_is_refused_as_long_as_the_playbook_lives(
    tmp_path: Path, hanging: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "LONGEST_WAIT", 30.0)
    with pytest.raises(
        RunUnderWay, match=rf"example\.org .* hangs\.yml, since .* UTC, pid {hanging.pid}\."
    ) as one:
        run_playbook("try.yml", INVENTORY)
    assert (one.value.code, one.value.exit_code) == ("run_under_way", 7)
    assert (tmp_path / "state/wws/runs").stat().st_mode & 0o777 == 0o700
    with pytest.raises(PlaybookFailed):  # without its variables, but it runs
        run_playbook("try.yml", replace(INVENTORY, domain="example.net"))

    hanging.kill()
    hanging.wait()
    with pytest.raises(RunUnderWay, match="pid") as two:
        run_playbook("try.yml", INVENTORY)
    worker = two.value.details["pid"]
    assert isinstance(worker, int)
    assert worker != hanging.pid
    assert f"kill -INT -- -{worker}" in two.value.hint

    waiting = threading.Timer(0.5, os.killpg, (worker, signal.SIGINT))
    waiting.start()
    with (
        one_run("example.org", "site.yml", wait=True),
        one_run("example.org", "site.yml", wait=True),
        pytest.raises(RunUnderWay),
        one_run("example.org", "upgrade.yml", wait=False),
    ):
        pass
    waiting.join()
    with one_run("example.org", "upgrade.yml", wait=False):
        pass
