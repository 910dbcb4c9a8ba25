"""The commands of docs/packages.md that install the wheel, typed as they stand there, with the real tools."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from tests.full_scale import only_in_full
from tests.packages.conftest import VERSION, Packages
from tests.packages.environments import REPOSITORY, clean

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = (REPOSITORY / "docs" / "packages.md").read_text("utf-8")
BLOCKS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PREPARE, UV, PIPX, PIP = BLOCKS[:4]


class Desk:
    """A folder with what was downloaded, and the tools in PATH."""

    def __init__(self, folder: Path, packages: Packages) -> None:
        self.folder = folder
        for package in (packages.wheel, packages.sdist):
            shutil.copyfile(package, folder / package.name)
        self.write_sums()
        (folder / "home").mkdir()
        (folder / "path").mkdir()
        for name, program in {
            "uv": uv.find_uv_bin(),
            "pipx": str(Path(sys.executable).with_name("pipx")),
            "python3": sys.executable,
        }.items():
            # Not a link: Python takes one that lies in an environment for that environment.
            (folder / "path" / name).write_text(f'#!/bin/sh\nexec "{program}" "$@"\n')
            (folder / "path" / name).chmod(0o755)

    def write_sums(self, wrong: str = "") -> None:
        lines = [
            f"{wrong or hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(self.folder.glob("wws-*"))
        ]
        (self.folder / "SHA256SUMS").write_text("".join(lines))

    def type(self, *blocks: str) -> subprocess.CompletedProcess[str]:
        env = clean(os.environ)
        cache = subprocess.run(
            [uv.find_uv_bin(), "cache", "dir"], capture_output=True, text=True, check=True
        ).stdout.strip()
        own = {
            "PATH": f"{self.folder / 'path'}:{self.bin}:{env['PATH']}",
            "HOME": str(self.folder / "home"),
            "UV_CACHE_DIR": cache,
            "UV_PYTHON": sys.executable,
            "PIPX_DEFAULT_PYTHON": sys.executable,
            "XDG_DATA_HOME": str(self.folder / "home" / "data"),
            "XDG_BIN_HOME": str(self.bin),
            "PIPX_BIN_DIR": str(self.bin),
            "XDG_STATE_HOME": str(self.folder / "home" / "state"),
            "XDG_CACHE_HOME": str(self.folder / "home" / "cache"),
        }
        script = "set -eu\n" + "".join(blocks).replace("1.2.3", VERSION)
        return subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            env={**env, **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    @property
    def bin(self) -> Path:
        return self.folder / "home" / "bin"

    def assert_works(self, folder: Path) -> None:
        """`wws` runs, is the one of the wheel, and beside it are the locked libraries."""
        program = folder / "wws"
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        assert version.stdout == f"wws {VERSION}\n"
        home = {"HOME": str(self.folder / "home"), "PATH": "/usr/bin:/bin"}
        made = subprocess.run(
            [program, "--json", "id", "new"], env=home, capture_output=True, text=True, check=True
        )
        assert json.loads(made.stdout)["ok"] is True
        python = program.resolve().with_name("python")
        frozen = subprocess.run(
            [python, "-c", "import importlib.metadata as m; print(m.version('h11'), m.version('aioquic'))"],
            capture_output=True,
            text=True,
            check=True,
        )
        locked = (REPOSITORY / "requirements" / "agent.txt").read_text()
        h11, aioquic = frozen.stdout.split()
        assert f"\nh11=={h11} " in locked
        assert f"\naioquic=={aioquic} " in locked


@pytest.fixture
def desk(packages: Packages, tmp_path: Path) -> Desk:
    return Desk(tmp_path, packages)


def test_uv_tool_install(desk: Desk) -> None:
    done = desk.type(PREPARE, UV)
    assert done.returncode == 0, done.stderr
    desk.assert_works(desk.bin)


@only_in_full  # its own libraries come over the network, each time
def test_pipx_install(desk: Desk) -> None:
    done = desk.type(PREPARE, PIPX)
    assert done.returncode == 0, done.stderr + done.stdout
    desk.assert_works(desk.bin)


@only_in_full
def test_pip_install(desk: Desk) -> None:
    done = desk.type(PREPARE, PIP)
    assert done.returncode == 0, done.stderr + done.stdout
    desk.assert_works(desk.folder / "wws" / "bin")


def test_another_wheel_than_the_one_of_the_sums_is_refused(desk: Desk) -> None:
    desk.write_sums(wrong="0" * 64)
    done = desk.type(PREPARE, UV)
    assert done.returncode != 0
    assert not (desk.bin / "wws").exists()


@only_in_full
def test_pip_looks_by_itself(desk: Desk) -> None:
    desk.write_sums(wrong="0" * 64)
    done = desk.type(PREPARE.partition("\n")[2], PIP)
    assert done.returncode != 0
    assert "DO NOT MATCH" in done.stderr
