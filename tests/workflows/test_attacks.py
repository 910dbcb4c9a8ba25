"""Attacks on what releases and rolls out: a server, another user, names that people choose."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflows.tools import ROOT, WORKFLOWS

only_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="to be somebody else takes root")
DEPLOY = ROOT / "scripts" / "deploy"
CHOSEN_BY_STRANGERS = re.compile(
    r"github\.(head_ref|event\.(pull_request|issue|comment|review|discussion|head_commit|commits|pages))"
)
"""Titles, texts, names of branches and of people: whoever opens a pull request writes them."""


def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )


def test_an_installer_that_is_not_of_the_release_is_not_run(tmp_path: Path) -> None:
    """The machine that rolls out has the keys to all nodes; the smoke test runs what a server gives it."""
    witness, inventory = tmp_path / "was run", tmp_path / "inventory.json"
    served, verified = tmp_path / "served.sh", tmp_path / "install.sh"
    served.write_text(f": >'{witness}'\nexit 1\n")
    verified.write_text("exit 1\n")
    inventory.write_text("{}")
    smoke = (DEPLOY / "smoke.sh", "--installer", served, "--version", "1.2.3", "--inventory", inventory)
    done = run(*smoke, "--like", verified, TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert "is not the install.sh of the release" in done.stderr
    assert not witness.exists()
    verified.write_text(served.read_text())
    run(*smoke, "--like", verified, TMPDIR=str(tmp_path))
    assert witness.exists()


def test_every_smoke_test_insists_on_the_installer_that_was_verified() -> None:
    for path in (DEPLOY / "roll-out.sh", ROOT / ".github" / "workflows" / "deploy.yml"):
        text = path.read_text("utf-8")
        assert text.count("smoke.sh") == text.count("--like ") > 0, path


@pytest.mark.parametrize("step", ["preview", "canary", "up", "back"])
def test_a_roll_out_that_everybody_can_change_is_not_gone_on_with(tmp_path: Path, step: str) -> None:
    """What it says of itself names the program of the stack, which is run."""
    folder = tmp_path / "roll"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "deploy.json").write_text("{}")
    done = run(sys.executable, DEPLOY / "deploy.py", step, "--folder", folder)
    assert done.returncode == 1
    assert "others on this machine can change" in done.stderr


@only_as_root
def test_a_roll_out_of_another_user_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "roll"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65_533, 65_533)
    done = run(sys.executable, DEPLOY / "deploy.py", "preview", "--folder", folder)
    assert done.returncode == 1
    assert "others on this machine can change" in done.stderr


@pytest.mark.parametrize(
    "version, tags", [("1.2.3", ["1.2.3", "latest"]), ("1.2.3b1", ["1.2.3b1"]), ("1.2.3rc1", ["1.2.3rc1"])]
)
def test_a_candidate_never_becomes_the_image_that_everybody_pulls(
    tmp_path: Path, version: str, tags: list[str]
) -> None:
    skopeo = tmp_path / "skopeo"
    skopeo.write_text(f'#!/bin/sh\nfor word; do :; done\necho "$word" >>\'{tmp_path}/pushed\'\n: >"${{6}}"\n')
    skopeo.chmod(0o755)
    container = (ROOT / "scripts" / "release" / "container.sh", "--files", tmp_path, "--version", version)
    done = run(
        *(*container, "--image", "registry.test/Wws", "--latest"),
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        REGISTRY_USER="alice",
        REGISTRY_TOKEN="a token",
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    pushed = (tmp_path / "pushed").read_text().split()
    assert pushed == [f"docker://registry.test/wws:{tag}" for tag in tags]


@pytest.mark.parametrize(
    "tag",
    [
        *(
            "v1.2.3$(id)",
            "v1.2.3;id",
            "v1.2.3`id`",
            "v1.2.3\nchannel=stable",
            "v1.2.3 --rehearsal",
            "v../../x",
        ),
        *("--help=x", "-v", "v", "", "v01.2.3", "v1.2.3-rc1+x", "v99999999999999.0.0", "V1.2.3"),
    ],
)
def test_no_name_of_a_tag_says_more_than_a_version(tmp_path: Path, tag: str) -> None:
    """Whoever may push a tag chooses its name; it ends up in outputs, names of files and commands."""
    output = tmp_path / "output"
    output.touch()
    done = run(ROOT / "scripts" / "release" / "check-tag.sh", tag, GITHUB_OUTPUT=str(output))
    assert done.returncode in (1, 2)
    assert output.read_text() == ""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_that_strangers_write_gets_into_a_workflow(path: Path) -> None:
    text = path.read_text("utf-8")
    assert CHOSEN_BY_STRANGERS.findall(text) == []
    for trigger in ("pull_request_target", "workflow_run", "issue_comment", "issues:", "fork:", "watch:"):
        assert not re.search(rf"^  {trigger}", text, re.MULTILINE), trigger
