"""The artefact as releases have it: made against the glibc of Debian 11, run in a Debian 11 without Python.

Only at the full scale: the first time a Python and an OpenSSL are built for it, which takes half an hour.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.artefact.built import REPOSITORY, unpack
from tests.full_scale import only_in_full
from tests.prerequisites import require

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(5_400),
    only_in_full,
]

SUITE = "bullseye"
GLIBC = (2, 31)
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
RUN = """
set -eu
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs tmpfs "$1/opt"
cp -a "$2/." "$1/opt"
ip link set lo up
shift_root=$1
shift 2
exec chroot "$shift_root" "$@"
"""
"""A root folder and what comes to its /opt; then the command."""


def mirror() -> list[str]:
    """Where Debian's packages come from here; nothing: from Debian."""
    if SOURCES.exists():
        for line in SOURCES.read_text().splitlines():
            if line.startswith("URIs: "):
                return [line.split()[1]]
    return []


@pytest.fixture(scope="module")
def userland() -> Path:
    """The root folder of a Debian 11 as small as they come: no Python, no certificates, nothing."""
    require("root", "mmdebstrap", "unshare", "chroot", "ip")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wws" / "userlands"
    root = base / SUITE
    if not root.is_dir():
        part = base / "part"
        shutil.rmtree(part, ignore_errors=True)
        base.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", SUITE, str(part), *mirror()],
            stdin=subprocess.DEVNULL,
            check=True,
        )
        part.rename(root)
    return root


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the builder for releases says of its archive."""
    require("root", "mmdebstrap")
    out = tmp_path_factory.mktemp("old-glibc")
    done = subprocess.run(
        [str(REPOSITORY / "packaging" / "frozen" / "old-glibc.sh"), "--out", str(out)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said: dict[str, object] = json.loads(done.stdout)
    return said


def run(userland: Path, top: Path, *command: str) -> str:
    """Run a command in the userland, with a network of its own and the artefact in /opt."""
    done = subprocess.run(
        [
            *("unshare", "--mount", "--net", "--propagation", "private"),
            *("/bin/sh", "-c", RUN, "sh", str(userland), str(top)),
            *("/usr/bin/env", "-i", "HOME=/tmp", "PATH=/usr/bin:/bin", *command),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_it_needs_no_newer_glibc_than_debian_11_has(built: dict[str, object]) -> None:
    assert tuple(map(int, str(built["glibc"]).split("."))) <= GLIBC
    assert Path(str(built["archive"])).stat().st_size <= 40_000_000


def test_a_whole_network_runs_in_a_bare_debian_11(
    userland: Path, built: dict[str, object], tmp_path: Path
) -> None:
    unpack(Path(str(built["archive"])), tmp_path)
    top = tmp_path / f"wws-{built['version']}"
    assert run(userland, top, "/bin/sh", "-c", "command -v python3 python || echo none") == "none\n"
    assert run(userland, top, "/opt/bin/wws", "--version") == f"wws {built['version']}\n"
    made = json.loads(run(userland, top, "/opt/bin/wws", "--json", "id", "new"))["data"]
    assert made["peer_id"].startswith("12D3KooW")
    shown = json.loads(run(userland, top, "/opt/bin/wws", "--json", "demo"))["data"]
    assert [agent["joined"] for agent in shown["agents"]] == [True, True, True]
    assert {(found["from"], found["target"]) for found in shown["reached"]} >= {
        ("alice", "bob"),
        ("bob", "alice"),
    }
