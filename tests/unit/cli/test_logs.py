"""`wws logs`: the last lines over rotated files, and following through a rotation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent_cli.app import run
from agent_cli.commands.logs import last_lines
from wws.runtime.homes import Home


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WWS_HOME", str(tmp_path))
    monkeypatch.delenv("WWS_NODE", raising=False)
    path = Home(tmp_path).node("alice").log
    path.parent.mkdir(parents=True)
    return path


def test_the_last_lines_reach_back_into_rotated_files(log: Path) -> None:
    log.write_text("7\n8\n")
    log.with_name("log.1").write_text("4\n5\n6\n")
    log.with_name("log.2").write_text("2\n3\n")
    log.with_name("log.10").write_text("0\n1\n")
    assert last_lines(log, 3) == ["6", "7", "8"]
    assert last_lines(log, 100) == list("012345678")
    assert last_lines(log, 0) == []


def test_a_line_longer_than_a_block_comes_whole(log: Path) -> None:
    log.write_text("x" * 200_000 + "\nlast\n")
    assert [len(line) for line in last_lines(log, 2)] == [200_000, 4]


def test_without_a_running_node(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "no_log"
    log.write_text("one\ntwo \x1b[31mred\n")
    assert run(["logs", "-n", "1"]) == 0
    assert capsys.readouterr().out == "two \N{REPLACEMENT CHARACTER}[31mred\n"
    assert run(["logs", "--node", "carol", "--json"]) == 3


@pytest.mark.parametrize("as_json", [False, True])
def test_following_goes_on_through_a_rotation(log: Path, as_json: bool) -> None:
    log.write_text("one\n")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from agent_cli.app import main; main()",
            "logs",
            "--follow",
            "--home",
            str(log.parents[2]),
        ]
        + ["--json"] * as_json,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None

    def line() -> str:
        assert process.stdout is not None
        text = process.stdout.readline()
        return json.loads(text)["data"]["line"] if as_json else text.rstrip("\n")

    try:
        assert line() == "one"
        with log.open("a") as file:
            file.write("two\n")
        assert line() == "two"
        log.rename(log.with_name("log.1"))
        log.write_text("three\n")
        assert line() == "three"
    finally:
        process.terminate()
        process.communicate()
