"""What `wws-ops` says to people: hints that lead on, and words in the place of Python's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_cli.ops import drain, rollout
from agent_cli.ops.app import run
from agent_cli.ops.destroy import Resource, refusals
from agent_cli.ops.inventory import Inventory
from agent_cli.ops.machines import Outcome
from agent_cli.ops.playbooks import PlaybookResult
from agent_cli.ops.status import NodeState, shown
from wws.identity.keys import Identity
from wws.testing.names import NOW

PEER = str(Identity.from_label("alice").peer_id)


def inventory(folder: Path, **more: str) -> Path:
    host = {"name": "one", "address": "127.0.0.1", "peer_id": PEER, "multiaddrs": [], **more}
    path = folder / "inventory.json"
    path.write_text(json.dumps({"schema": 1, "domain": "", "network": "n.json", "hosts": [host]}))
    return path


def test_a_stopped_node_of_this_machine_is_started_by_its_stack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = inventory(tmp_path, managed_by="local", home=str(tmp_path))
    assert run(["status", "--inventory", str(path), "--json"]) == 3
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["code"] == "node_not_running"
    assert "pulumi up --refresh" in error["hint"]
    assert "systemctl" not in error["hint"]


def test_without_the_stack_the_inventory_still_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pulumi = tmp_path / "pulumi"
    pulumi.write_text("#!/bin/sh\necho \"error: no stack named 'prod' found\" >&2\nexit 255\n")
    pulumi.chmod(0o755)
    (tmp_path / "Pulumi.yaml").write_text("name: wws\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert run(["status", "--stack", "prod", "--infra", str(tmp_path), "--json"]) == 10
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert error["code"] == "stack_failed"
    assert "--inventory FILE" in error["hint"]


@pytest.mark.parametrize("until, is_told", [(NOW + 7_200, True), (NOW - 1, False), (0, False), (None, False)])
def test_a_witness_that_makes_no_first_claims_yet_is_told_of(
    until: int | None, is_told: bool, tmp_path: Path
) -> None:
    known = Inventory.read(inventory(tmp_path))
    said = {"peer_id": PEER, "status": "joined", "witness_entries": 0, "witness_no_first_claims_until": until}
    result = shown(known, [Outcome(known.hosts[0], NodeState(said, None))], NOW)
    assert any("one: no first claims until 2" in note for note in result.notes) is is_told


def test_a_drained_node_is_told_of_in_words() -> None:
    text = drain.table_of([("one", True, 0, 0, 0, 3), ("two", False, 1, 0, 0, 3)])
    assert "yes" in text
    assert "no " in text
    assert "True" not in text
    assert "False" not in text


def test_all_that_keeps_a_stack_from_going_is_said_at_once() -> None:
    key = Resource("urn:pulumi:prod::wws::a:Seed::boot1", "a:Seed", "1", True, True)
    words = [
        one.code for one in refusals([key], "prod", "example.org", "example.com", keep=False, give_up=False)
    ]
    assert words == ["resources_protected", "not_confirmed"]
    (asked,) = refusals([key], "prod", "example.org", None, keep=False, give_up=False)
    assert asked.code == "resources_protected"
    (wrong,) = refusals([key], "prod", "example.org", "example.com", keep=True, give_up=False)
    assert "example.org" in wrong.hint
    assert refusals([key], "prod", "example.org", "example.org", keep=True, give_up=False) == []


@pytest.mark.parametrize("installed", [True, False])
def test_a_restore_tells_of_the_promises_and_of_a_node_that_is_still_to_be_installed(installed: bool) -> None:
    result = PlaybookResult(
        0, facts={"one": {"result": "restored", "book": "put back", "installed": installed}}
    )
    assert "promises as a witness: put back" in rollout._table(["one"], result)
    assert ["pulumi up --refresh" in line for line in rollout._not_installed(result)] == [True] * (
        not installed
    )


def test_a_host_of_an_interrupted_run_is_not_said_to_be_untouched() -> None:
    result = PlaybookResult(130, facts={"one": {"result": "upgraded"}}, is_interrupted=True)
    assert [rollout._word(name, result) for name in ("one", "two")] == ["upgraded", "not finished"]
