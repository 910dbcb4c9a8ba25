"""What holds for every workflow: it is well-formed, pins what it runs, and may no more than it needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes with ansible-core

from tests.prerequisites import require
from tests.workflows.tools import ROOT, WORKFLOWS, tool

NAMES = [path.name for path in WORKFLOWS]
PINNED = re.compile(r"^ *(?:- )?uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
SECRET = re.compile(r"\bsecrets\.[A-Z]")
SCRIPTS = sorted(path for path in (ROOT / "scripts").rglob("*") if path.suffix in {".sh", ".py"})
EVERY = pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
Json = dict[str, Any]


def run(*command: str | Path) -> None:
    """A checker that must be content. It finds shellcheck and our own programs on the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    words = [str(word) for word in command]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def read(path: Path) -> Json:
    document: Json = yaml.safe_load(path.read_text("utf-8"))
    return document


def jobs(path: Path) -> Iterator[tuple[str, Json]]:
    yield from read(path)["jobs"].items()


def steps(path: Path) -> Iterator[tuple[str, Json]]:
    for name, job in jobs(path):
        for step in job["steps"]:
            yield name, step


def test_all_are_here() -> None:
    assert NAMES == ["ci.yml", "deploy.yml", "dns-renew.yml", "nightly.yml", "release.yml"]


def test_actionlint_finds_nothing() -> None:
    require("shellcheck")
    run(tool("actionlint"), *WORKFLOWS)


def test_zizmor_finds_nothing() -> None:
    run("zizmor", "--offline", "--no-progress", ROOT / ".github" / "workflows")


def test_they_fit_the_schema_of_github() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


@EVERY
def test_actions_are_pinned_by_commit_and_say_which_version_that_is(path: Path) -> None:
    lines = [line for line in path.read_text("utf-8").splitlines() if re.match(r" *(- )?uses:", line)]
    assert lines
    assert [line for line in lines if not PINNED.match(line)] == []


def test_an_action_is_the_same_commit_everywhere() -> None:
    found: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, pin in re.findall(r"uses: ([\w./-]+)@(.*)", path.read_text("utf-8")):
            found.setdefault(action, set()).add(pin)
    assert {action: pins for action, pins in found.items() if len(pins) > 1} == {}


@EVERY
def test_nothing_is_allowed_but_what_a_job_asks_for(path: Path) -> None:
    assert read(path)["permissions"] == {}
    for name, job in jobs(path):
        assert isinstance(job.get("permissions"), dict), f"{name} says what it may"
        for what, level in job["permissions"].items():
            if level == "write":
                asked = re.search(rf"^      {what}: write # \S", path.read_text("utf-8"), re.MULTILINE)
                sibling = what in {"attestations", "packages", "pull-requests"}
                assert asked or sibling, f"{name} says why it may write {what}"


@EVERY
def test_jobs_end_and_do_not_overtake_each_other(path: Path) -> None:
    assert read(path)["concurrency"]["group"]
    for name, job in jobs(path):
        assert 0 < job["timeout-minutes"] <= 330, name


@EVERY
def test_checkouts_keep_no_token(path: Path) -> None:
    for name, step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


@EVERY
def test_commands_hold_no_expressions(path: Path) -> None:
    """What comes from outside reaches a shell as a variable: it can be no command, and is not logged."""
    for name, step in steps(path):
        assert "${{" not in step.get("run", ""), f"{name}: {step.get('name')}"


@EVERY
def test_secrets_are_seen_by_the_steps_that_need_them(path: Path) -> None:
    document = read(path)
    assert not SECRET.search(str(document.get("env")))
    for name, job in document["jobs"].items():
        assert not SECRET.search(str(job.get("env"))), name
        for step in job["steps"]:
            if SECRET.search(str({key: value for key, value in step.items() if key != "env"})):
                pytest.fail(f"{name}: {step.get('name')} has a secret elsewhere than in its env")


@EVERY
def test_who_holds_secrets_is_approved(path: Path) -> None:
    """Secrets belong to environments, which a person approves; none is of the whole repository."""
    for name, job in jobs(path):
        if SECRET.search(str(job)):
            assert job.get("environment"), name


@EVERY
def test_the_work_is_done_by_files(path: Path) -> None:
    """A workflow says when and with what; what is done can be run, and is tested, without GitHub."""
    if path.name == "dns-renew.yml":
        pytest.skip("it calls wws-dns, which is tested by itself")
    for name, step in steps(path):
        assert len(step.get("run", "").splitlines()) <= 6, f"{name}: {step.get('name')}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT / "scripts")))
def test_scripts_say_what_they_do(path: Path) -> None:
    assert path.stat().st_mode & 0o111, "it can be run"
    words = [sys.executable, str(path)] if path.suffix == ".py" else ["sh", str(path)]
    said = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=30, check=False)
    assert said.returncode == 0, said.stderr
    assert path.name in said.stdout
    if path.suffix == ".sh":
        unknown = subprocess.run(
            [*words, "--nonsense", "x"], capture_output=True, text=True, timeout=30, check=False
        )
        assert unknown.returncode == 2, unknown.stderr


def test_shellcheck_finds_nothing() -> None:
    require("shellcheck")
    run("shellcheck", *(path for path in SCRIPTS if path.suffix == ".sh"))
