"""The gate of an upgrade has one bound for all of its parts, and so has going back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.playbooks.modules import Given
from tests.unit.playbooks.test_wws_release import Service, root, wws_release

__all__ = ["root"]

REPOSITORY = Path(__file__).parents[3]
NEVER = 3600.0
"""Seconds that each part may take by itself; what is left of the whole must be what counts."""


class Deaf(Service):
    """A node that starts, and is never ready."""

    def is_ready(self) -> bool:
        return False


def switch(root: Path, unit: Service, **given: object) -> dict[str, object]:
    (root / "releases/1.1.0").mkdir()
    usual = {"version": "1.1.0", "seal": str(root / "sealed"), "drain_wait": 0, "home": "/nowhere"}
    result: dict[str, object] = wws_release.switch(Given(**usual, **given), wws_release.Releases(root), unit)
    return result


def test_a_node_has_what_is_left_of_the_whole_to_be_ready(root: Path) -> None:
    with pytest.raises(wws_release.Failed, match="is not ready after 0 s"):
        switch(root, Deaf(root), ready_within=NEVER, within=0)


@pytest.mark.parametrize("within, left", [(None, 30.0), (5.0, 5.0), (NEVER, 30.0)])
def test_a_node_has_what_is_left_of_the_whole_to_stop(root: Path, within: float | None, left: float) -> None:
    given = []

    class Noted(Service):
        def control(self, *command: str, within: float = 0) -> str:
            given.append((command[0], within))
            return super().control(*command)

    switch(root, Noted(root), ready_within=20, within=within)
    assert given[0] == ("stop", left)


@pytest.mark.parametrize("left, is_held", [(None, True), (0.0, True), (-1.0, False)])
def test_a_node_that_took_too_long_is_not_watched_for_less(
    root: Path, left: float | None, is_held: bool
) -> None:
    unit = Service(root)
    unit.runs_from = "releases/1.1.0"
    given = Given(pid=os.getpid(), hold_for=0, left=left, rss_max=7000, rss_growth=128)
    if is_held:
        assert wws_release.hold(given, None, unit)["changed"] is False
        return
    with pytest.raises(wws_release.Failed, match="it took too long"):
        wws_release.hold(given, None, unit)


def play(folder: Path, tasks: list[dict[str, object]], **variables: object) -> str:
    """What Ansible says of tasks that fail; the host is this machine."""
    inventory = {
        "bootstrap": {
            "hosts": {
                "eu": {
                    "ansible_connection": "local",
                    "ansible_host": "127.0.0.1",
                    "ansible_python_interpreter": sys.executable,
                    "wws_peer_id": "nobody",
                }
            }
        }
    }
    (folder / "hosts.json").write_text(json.dumps(inventory))
    # Beside the playbooks of the repository, or what they need would not be found.
    book = [{"hosts": "bootstrap", "gather_facts": False, "tasks": tasks}]
    (folder / "ansible").symlink_to(REPOSITORY / "ansible")
    (folder / "agent_cli").symlink_to(REPOSITORY / "agent_cli")
    (folder / "plays").mkdir()
    (folder / "plays" / "play.yml").write_text(json.dumps(book))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", "--inventory", str(folder / "hosts.json")),
            *(str(folder / "plays" / "play.yml"), "--extra-vars", json.dumps(variables)),
        ],
        cwd=REPOSITORY / "ansible",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(folder), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout


def part(name: str, **variables: object) -> dict[str, object]:
    return {"import_role": {"name": "release", "tasks_from": name}, "vars": variables}


def test_the_look_from_outside_has_what_is_left_of_the_whole(tmp_path: Path) -> None:
    """It is refused here for whom it is to look for, so it ends at once."""
    deadline = time.time() + 60
    gate = part("gate", release_wanted="1.1.0", release_deadline=deadline, release_switched={})
    said = play(tmp_path, [gate], wws_gate_probe=NEVER, wws_gate_within=NEVER)
    found = re.search(r'"--timeout", "([0-9.]+)", "--peer-id", "nobody"', said)
    assert found is not None, said
    assert 1 <= float(found[1]) <= 60
    assert "Watch the node" not in said, said


def test_a_gate_that_nothing_could_pass_is_refused(tmp_path: Path) -> None:
    said = play(tmp_path, [part("bounds")], wws_gate_hold=60)
    assert "wws_gate_hold is 60 s and wws_gate_within is 60.0 s" in said, said
