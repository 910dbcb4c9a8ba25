"""deploy.yml, run: a canary, the others, the network of the next release; and what is taken back."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.full_scale import only_in_full
from tests.workflows.actions import STAND_IN, Actions, Ran
from tests.workflows.conftest import release_files
from wws import __version__

OLD = "0.0.9"
NAMES = ("eu", "us", "ap")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def stack(actions: Actions) -> Actions:
    """Three nodes of an older version, and a release that is published."""
    for program in ("pulumi", "wws-ops", "wws-dns"):
        actions.program(program, STAND_IN / "operating.py", program)
    actions.replace("packaging/check_network.py", STAND_IN / "recorder.py", "check_network.py")
    (actions.github / "nodes").write_text("".join(f"{name} {OLD}\n" for name in NAMES))
    old = {"version": OLD, "archive": "~/releases/old.tar.gz", "sha256": "ab" * 32}
    (actions.github / "release").write_text(json.dumps(old))
    actions.variables["WWS_STACK"] = "prod"
    actions.secrets["PULUMI_CONFIG_PASSPHRASE"] = "correct horse battery staple"
    release_files(actions)
    remote = actions.folder / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True, capture_output=True)
    actions.variables["WWS_NETWORK_REMOTE"] = str(remote)
    return actions


def deploy(actions: Actions, version: str = __version__) -> Ran:
    actions.commit()
    inputs = {"version": version, "canary": "us"}
    return actions.run(
        "deploy.yml", "workflow_dispatch", {"inputs": inputs, "repository": {"default_branch": "main"}}
    )


def versions(actions: Actions) -> list[str]:
    return [line.split()[1] for line in (actions.github / "nodes").read_text().splitlines()]


def commands(actions: Actions) -> list[str]:
    """What was done, in order, without what only looks."""
    found = (re.match(r"wws-ops ((?:upgrade|rollback)(?: [a-z]+)?)", line) for line in actions.said)
    return [match[1] for match in found if match]


def test_one_node_first_then_the_others_then_a_proposal(stack: Actions) -> None:
    ran = deploy(stack)
    assert ran.ok, str(ran)
    assert commands(stack) == ["upgrade us", "upgrade"]
    assert versions(stack) == [__version__] * 3
    assert any(line.startswith("wws-dns verify") for line in stack.said)
    assert any(line.startswith("pr create --head network/") for line in stack.said)
    branches = subprocess.run(
        ["git", "--git-dir", stack.variables["WWS_NETWORK_REMOTE"], "show", "--stat", "--format=%s", "--all"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "packaging/network.json" in branches
    assert "correct horse" not in ran.output


@only_in_full
def test_a_canary_that_is_not_well_leaves_the_others_alone(stack: Actions) -> None:
    (stack.github / "breaks").write_text(f"us {__version__}\n")
    ran = deploy(stack)
    assert not ran.ok
    assert commands(stack) == ["upgrade us"]
    assert versions(stack) == [OLD] * 3
    assert not any(line.startswith("pr create") for line in stack.said)


@only_in_full
def test_a_canary_that_strangers_cannot_join_through_goes_back(stack: Actions) -> None:
    (stack.github / "joins-fail").touch()
    ran = deploy(stack)
    assert not ran.ok
    assert commands(stack) == ["upgrade us", "rollback us"]
    assert versions(stack) == [OLD] * 3


@only_in_full
@pytest.mark.parametrize("what", ["breaks", "dns-is-wrong"])
def test_what_fails_after_the_canary_takes_all_of_them_back(stack: Actions, what: str) -> None:
    (stack.github / what).write_text(f"ap {__version__}\n")
    ran = deploy(stack)
    assert not ran.ok
    assert versions(stack) == [OLD] * 3, str(ran)
    backs = [word for word in commands(stack) if word.startswith("rollback")]
    assert backs == (
        ["rollback eu", "rollback us"] if what == "breaks" else [f"rollback {name}" for name in NAMES]
    )


@only_in_full
def test_a_release_that_was_changed_is_not_rolled_out(stack: Actions) -> None:
    served = stack.github / "served" / "download" / f"v{__version__}"
    archive = next(served.glob("*-linux-*.tar.gz"))
    archive.write_bytes(archive.read_bytes() + b"x")
    ran = deploy(stack)
    assert not ran.ok
    assert commands(stack) == []
    assert "is not what SHA256SUMS says" in ran.output


@only_in_full
def test_secrets_become_private_files_and_are_gone_in_the_end(stack: Actions, tmp_path: Path) -> None:
    stack.secrets["WWS_STACK_SETTINGS"] = "config:\n  wws:domain: example.org"
    ran = deploy(stack)
    assert ran.ok, str(ran)
    assert not list(stack.folder.rglob("Pulumi.prod.yaml"))
    assert "wws:domain" not in ran.output
