"""`wws self` of the real artefact, installed by the real install.sh: nothing of this Python takes part.

The program changes and removes the very files that it runs from.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.artefact.built import REPOSITORY, artefact
from tests.prerequisites import require
from tests.release_signing import Signer
from wws import __version__
from wws.testing.scale import scale_factor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first one builds

NEXT = "99.0.0"
WITHIN = 90


@dataclass
class Machine:
    """A user's home, releases that lie in folders, and what is installed."""

    home: Path
    releases: Path

    @property
    def prefix(self) -> Path:
        return self.home / ".local"

    @property
    def env(self) -> dict[str, str]:
        return {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home), "PATH": "/usr/bin:/bin"}

    def publish(self, version: str) -> Path:
        """The signed folder of a release of the sources as they are."""
        stamp = None
        if version != __version__:
            stamp = {"schema": 1, "version": version, "commit": None, "releases": None}
            stamp |= {"roots": [Signer().root_text], "network": None}
        archive = artefact(stamp)
        folder = self.releases / version
        folder.mkdir(parents=True)
        for path in (archive, archive.with_name(archive.name.removesuffix(".tar.gz") + ".MANIFEST")):
            shutil.copy(path, folder)
        Signer().sign_folder(folder)
        return folder

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.home, env=self.env, capture_output=True, text=True, timeout=WITHIN
        )

    def install(self, folder: Path) -> None:
        words = [
            "--offline",
            str(folder),
            "--root-key",
            Signer().root_text,
            "--no-service",
            "--no-modify-path",
        ]
        done = self.run("sh", str(REPOSITORY / "install.sh"), *words)
        assert done.returncode == 0, done.stderr

    def own(self, *words: str, code: int = 0) -> dict[str, Any]:
        """`wws self …`: the data, or the error where another exit code is expected."""
        done = self.run(str(self.prefix / "bin" / "wws"), "--json", "self", *words)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        data: dict[str, Any] = found["data"] if code == 0 else found["errors"][0]
        return data


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    require("ssh-keygen", "tar", "gzip")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Machine(home, tmp_path / "releases")


def test_an_installation_verifies_itself_and_removes_itself(machine: Machine) -> None:
    folder = machine.publish(__version__)
    machine.install(folder)
    found = machine.own("verify")
    assert (found["version"], found["root"]) == (__version__, Signer().root_text)
    assert machine.own("rollback", code=4)["code"] == "no_previous_version"
    again = machine.own("update", "--offline", str(folder))
    assert again["changed"] is False
    assert any("already" in line for line in again["said"])

    library = next(path for path in (machine.prefix / "share/wws/current/bin").rglob("*.so*"))
    content = library.read_bytes()
    library.write_bytes(content[:-1])
    assert machine.own("verify", code=8)["code"] == "files_differ"
    library.write_bytes(content)

    assert machine.own("uninstall")["purged"] is False
    assert os.listdir(machine.home) == [".openswarm"]
    assert os.listdir(machine.home / ".openswarm") == ["identity.key"]


@pytest.mark.skipif(scale_factor() < 1, reason="the same with a second artefact: in full runs")
def test_update_and_back(machine: Machine) -> None:
    machine.install(machine.publish(__version__))
    key = (machine.home / ".openswarm/identity.key").read_bytes()
    found = machine.own("update", "--offline", str(machine.publish(NEXT)))
    assert (found["version"], found["previous"], found["changed"]) == (NEXT, __version__, True)
    assert machine.run(str(machine.prefix / "bin/wws"), "--version").stdout == f"wws {NEXT}\n"
    assert machine.own("verify")["previous"] == {"version": __version__, "ok": True, "code": None}
    assert machine.own("rollback")["version"] == __version__
    assert machine.run(str(machine.prefix / "bin/wws"), "--version").stdout == f"wws {__version__}\n"
    assert machine.own("verify")["version"] == __version__
    assert machine.own("rollback")["version"] == NEXT
    assert (machine.home / ".openswarm/identity.key").read_bytes() == key
    machine.own("uninstall", "--purge", "--yes")
    assert os.listdir(machine.home) == []
