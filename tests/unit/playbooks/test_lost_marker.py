"""The marker of a witness that has forgotten, put into a home that somebody else may have prepared."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml  # type: ignore[import-untyped]  # comes with ansible-core

from tests.prerequisites import require

TASKS = Path(__file__).parents[3] / "ansible/roles/bootstrap_node/tasks/config.yml"
NODE = "daemon"
"""One with a group of the same name, as the node's user has."""


def script(home: Path) -> str:
    """What the task runs on the host."""
    tasks = yaml.safe_load(TASKS.read_text("utf-8"))
    (task,) = [task for task in tasks if "when" in task and task["when"] == "wws_witness_lost"]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["dirname"] = os.path.dirname
    book = home / "state/bootstrap/witness.sqlite"
    names = {"bootstrap_node_home": home, "bootstrap_node_book": str(book), "bootstrap_node_user": NODE}
    text: str = environment.from_string(task["ansible.builtin.shell"]["cmd"]).render(names)
    return text


@pytest.fixture
def root() -> Iterator[Path]:
    require("root", "setpriv")
    folder = Path(tempfile.mkdtemp(prefix="wws-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_the_marker_is_the_nodes_own(root: Path) -> None:
    subprocess.run(["sh", "-c", script(root / "home")], check=True)
    node = pwd.getpwnam(NODE).pw_uid
    assert (root / "home/state/bootstrap/witness.sqlite").read_text() == "lost"
    found = {path.relative_to(root).as_posix(): path.stat() for path in (root / "home").rglob("*")}
    assert set(found) == {"home/state", "home/state/bootstrap", "home/state/bootstrap/witness.sqlite"}
    assert {(stat.st_uid, stat.st_mode & 0o077) for stat in found.values()} == {(node, 0)}
    assert (root / "home").stat().st_uid == node


@pytest.mark.parametrize("planted", ["state", "state/bootstrap", "state/bootstrap/witness.sqlite.new"])
def test_no_link_of_the_node_leads_root_elsewhere(root: Path, planted: str) -> None:
    """Whose node was taken over would own what the link leads to."""
    secret = root / "secrets/key"
    secret.parent.mkdir()
    secret.write_text("secret")
    secret.chmod(0o600)
    place, node = root / "home" / planted, pwd.getpwnam(NODE)
    place.parent.mkdir(parents=True)
    place.symlink_to(secret if planted.endswith(".new") else secret.parent)
    for path in (root / "home", *(root / "home").rglob("*")):
        os.chown(path, node.pw_uid, node.pw_gid, follow_symlinks=False)
    subprocess.run(["sh", "-c", script(root / "home")], check=False)
    assert (secret.stat().st_uid, secret.parent.stat().st_uid, secret.read_text()) == (0, 0, "secret")
    assert os.listdir(secret.parent) == ["key"]
