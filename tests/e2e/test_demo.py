"""`wws demo`, whole: what it shows, and that nothing is left of it however it ends."""

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.programs import Programs
from wws.testing.scale import scale

pytestmark = [pytest.mark.net, pytest.mark.slow]


COMMAND = r"  \S.* (--home|demo --stop) "
"""A line with a command to copy."""


def leftovers(programs: Programs) -> list[str]:
    """What is still there of a demo: processes, folders, files in the runtime folder."""
    processes = [shlex.join(process.cmdline()) for process in programs.running()]
    folders = [*programs.folder.glob("wws-demo-*"), *(programs.folder / "runtime").iterdir()]
    return [*processes, *map(str, folders)]


def test_three_agents_reach_each_other_and_a_fourth_joins_without_one_bootstrap_node(
    programs: Programs,
) -> None:
    data = programs.json("demo", "--agents", "3")["data"]
    assert [agent["name"] for agent in data["agents"]] == ["alice", "bob", "carol", "dave"]
    assert all(agent["joined"] and agent["source"] == "bundle" for agent in data["agents"])
    assert [node["killed"] for node in data["bootstrap"]] == [True, False, False]
    assert [(found["from"], found["target"]) for found in data["reached"]] == [
        ("alice", "bob"),
        ("bob", "alice"),
        ("bob", "carol"),
        ("carol", "bob"),
        ("dave", "alice"),
    ]
    by_name = {agent["name"]: agent["peer_id"] for agent in data["agents"]}
    for found in data["reached"]:
        assert found["addr"].endswith(f"/p2p/{by_name[found['target']]}")
        assert found["rtt_ms"] > 0
    assert data["steps"][-1]["step"].startswith("everything is taken down")
    assert sum(step["took_s"] for step in data["steps"]) <= data["took_s"] + 0.01
    assert not data["kept"]
    assert leftovers(programs) == []


def test_a_kept_demo_runs_until_it_is_stopped(programs: Programs) -> None:
    shown = programs.wws("demo", "--keep")
    assert shown.returncode == 0, shown.stderr
    joined = r"^ +\d+\.\d s  alice has joined and holds wws:alice, witnessed by 3 of 3$"
    assert re.search(joined, shown.stdout, re.MULTILINE)
    assert re.search(r"^wws:alice  12D3KooW\w+ +\d+\.\d s ", shown.stdout, re.MULTILINE)
    commands = [line.split(maxsplit=1)[1] for line in shown.stdout.splitlines() if re.match(COMMAND, line)]
    *play, stop = [shlex.split(command) for command in commands]
    assert len(play) == 4
    for command in play:
        # As in another terminal: the demo's own processes have a runtime folder inside the demo.
        done = programs.wws(*command, XDG_RUNTIME_DIR=str(programs.folder))
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    assert programs.wws(*stop).returncode == 0
    assert leftovers(programs) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_lines", range(scale(10, least=1)))
def test_a_signal_takes_everything_down(programs: Programs, number: int, after_lines: int) -> None:
    process = programs.start("wws", "demo")
    assert process.stdout is not None
    for _ in range(after_lines + (number == signal.SIGTERM)):
        assert process.stdout.readline()
    if not after_lines and number == signal.SIGINT:
        _wait_for_folder(programs.folder, process)
    process.send_signal(number)
    output, diagnostics = process.communicate(timeout=60)
    assert process.returncode == 130, diagnostics
    assert "everything is taken down" in output
    assert leftovers(programs) == []


def test_what_a_killed_demo_left_can_be_stopped(programs: Programs) -> None:
    process = programs.start("wws", "demo")
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline()
    process.kill()
    process.communicate()
    folder = next(programs.folder.glob("wws-demo-*"))
    assert leftovers(programs)
    assert programs.json("demo", "--stop", folder.name)["data"] == {"stopped": folder.name}
    assert leftovers(programs) == []


def test_a_failure_shows_what_the_command_said(programs: Programs) -> None:
    process = programs.start("wws", "demo")
    assert process.stdout is not None
    for line in iter(process.stdout.readline, ""):
        if "alice has joined" in line:
            break
    else:
        pytest.fail(process.communicate()[1])
    ready = next(programs.folder.glob("wws-demo-*/alice/run/alice/ready.json"))
    os.kill(json.loads(ready.read_text())["pid"], signal.SIGKILL)
    output, diagnostics = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "everything is taken down" in output
    error = r"^error: wws --home=\S+ resolve wws:bob ended with exit code 3$"
    assert re.search(error, diagnostics, re.MULTILINE)
    assert '| {"schema": "wws.resolve/v1", "ok": false' in diagnostics
    assert leftovers(programs) == []


def test_only_the_folder_of_a_demo_is_removed(programs: Programs) -> None:
    mine = programs.folder / "mine"
    mine.mkdir()
    for notes in (None, "[]", '{"schema": 1}', '{"schema": 1, "processes": [[-1, null]]}'):
        if notes is not None:
            (mine / "demo.json").write_text(notes)
        failed = programs.json("demo", "--stop", str(mine), exit_code=2)
        assert failed["errors"][0]["code"] == "wrong_usage"
    assert mine.is_dir()


def _wait_for_folder(folder: Path, process: "subprocess.Popen[str]") -> None:
    """Until the demo has begun: a signal before that meets a Python that is still starting."""
    while not any(folder.glob("wws-demo-*")):
        assert process.poll() is None
