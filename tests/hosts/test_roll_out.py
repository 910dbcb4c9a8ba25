"""A release from nothing to three machines: built, signed, served, rolled out over a stack, and taken back.

By the scripts of release.yml and deploy.yml, with the real artefact, installer, engine, SSH and nodes; of
GitHub there is nothing. The operator's machine serves the mirror to itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.artefact.built import artefact
from tests.drills.hosts_world import NAMES, HostsWorld
from tests.full_scale import only_in_full
from tests.hosts.conftest import Tell
from tests.lab.hosts import Hosts
from tests.lab.operator import REPOSITORY
from tests.prerequisites import require

RELEASE = REPOSITORY / "scripts" / "release"
ROLL_OUT = REPOSITORY / "scripts" / "deploy" / "roll-out.sh"
PLATFORM = f"linux-{platform.machine()}"
ELSEWHERE = "https://releases.wws.test"
"""Where the builds believe releases to be: nobody is there, they are told of the mirror."""
ROLL_WITHIN = 900.0
DOES_NOT_START = """\
#!/bin/sh
# It says which version it is, and nothing more.
case "$*" in *--version*) exec "$(dirname "$(readlink -f "$0")")/wws-connector" --version ;; esac
exit 1
"""
JOINS_NOTHING = """\
#!/bin/sh
# All is well with it, but for what people install it for.
case " $* " in *" join "*) echo "no way in" >&2 && exit 9 ;; esac
exec "$(dirname "$(readlink -f "$0")")/wws-connector" --run-module agent_cli "$@"
"""

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(3_000),
    pytest.mark.xdist_group("hosts"),
    only_in_full,
]


class Releases:
    """Releases that one project makes: dry runs with the same keys, laid out on one mirror."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mirror = folder / "mirror"
        self.keys = folder / "keys"
        self.roots = self.keys / "trust" / "roots"
        self.mirror.mkdir(parents=True)

    def make(self, version: str, changed: Mapping[str, str] | None = None) -> None:
        """A dry run; `changed` are programs of the artefact that are others than they should be."""
        out = self.folder / version
        if not self.roots.exists():
            self._run("dry-run.sh", "--out", self.folder / "first", "--keys", self.keys, "--version", version)
            self._put(self.folder / "first", version)
            return
        stamps = out / "stamps"
        where = ("--version", version, "--releases", ELSEWHERE, "--roots", self.roots)
        self._run("stamps.sh", *where, "--network", out / "none", "--out", stamps)
        stamp: dict[str, object] = json.loads((stamps / "stamp.json").read_text())
        good = artefact(stamp, installer=stamps / "install.sh")
        (out / "artefact").mkdir()
        repacked(good, out / "artefact" / f"wws-{version}-{PLATFORM}.tar.gz", changed or {})
        given = ("--artefact", out / "artefact", "--keys", self.keys, "--without-container")
        self._run("dry-run.sh", "--out", out, "--version", version, "--releases", ELSEWHERE, *given)
        self._put(out, version)

    def _put(self, made: Path, version: str) -> None:
        files = ("--files", made / "release", "--version", version)
        self._run("mirror.sh", *files, "--channel", "stable", "--out", self.mirror)

    def _run(self, script: str, *words: str | Path) -> None:
        done = subprocess.run(
            [str(RELEASE / script), *map(str, words)],
            env={**os.environ, "PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ROLL_WITHIN,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]


def repacked(good: Path, target: Path, changed: Mapping[str, str]) -> None:
    """The same artefact with other programs, and the MANIFEST that fits it, which lies beside it as well."""
    with tarfile.open(good) as old, tarfile.open(target, "w:gz", compresslevel=1) as new:
        top = old.getnames()[0]
        manifest = ""
        for entry in old:
            content = old.extractfile(entry)
            data = None if content is None else content.read()
            name = entry.name.removeprefix(f"{top}/")
            if name in changed:
                data = changed[name].encode()
            if name == "MANIFEST" or entry.isdir():
                if entry.isdir():
                    new.addfile(entry)
                continue
            assert data is not None
            entry.size = len(data)
            manifest += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
            new.addfile(entry, io.BytesIO(data))
        last = tarfile.TarInfo(f"{top}/MANIFEST")
        last.size = len(manifest)
        new.addfile(last, io.BytesIO(manifest.encode()))
    target.with_name(target.name.replace(".tar.gz", ".MANIFEST")).write_text(manifest)


class Operating(HostsWorld):
    """The operator of a stack, who rolls releases out from a mirror."""

    name = "roll-out"

    def roll_out(self, version: str, releases: Releases, mirror: str) -> subprocess.CompletedProcess[str]:
        words = [
            "--stack",
            "prod",
            "--infra",
            self.home / "infra",
            "--releases",
            mirror,
            "--version",
            version,
        ]
        words += ["--roots", releases.roots, "--folder", self.home / f"roll-{version}", "--canary", "us"]
        words += ["--arch", platform.machine(), "--yes"]
        server = f"{self.hosts.operator.address}:53"
        return subprocess.run(
            [
                *self.prefix(),
                str(ROLL_OUT),
                *map(str, words),
                "--",
                "--authority",
                server,
                "--least-resolvers",
                "0",
            ],
            cwd=self.home,
            env={**self.environment(), "PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=ROLL_WITHIN,
            check=False,
        )

    def versions(self) -> dict[str, str]:
        """What each node says that it runs."""
        words = ["wws-ops", "status", "--json"]
        done = subprocess.run(
            [*self.prefix(), *words], env=self.environment(), capture_output=True, text=True, check=False
        )
        return {node["host"]: node["version"] for node in json.loads(done.stdout)["data"]["nodes"]}

    @contextmanager
    def served(self, mirror: Path) -> Iterator[str]:
        """A web server on the operator's own loopback."""
        command = [
            sys.executable,
            "-u",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "--directory",
            str(mirror),
            "0",
        ]
        server = subprocess.Popen(
            [*self.prefix(), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout is not None
            port = server.stdout.readline().partition(" port ")[2].split()[0]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.communicate()


def test_a_dry_run_is_rolled_out_to_three_machines_and_what_is_broken_taken_back(
    hosts: Hosts, tmp_path: Path, tell: Tell
) -> None:
    require("root", "systemd-nspawn", "go", "curl", "mmdebstrap")
    releases = Releases(tmp_path / "releases")
    took: dict[str, float] = {}

    def timed(what: str, began: float) -> None:
        took[what] = time.monotonic() - began

    began = time.monotonic()
    releases.make("1.1.0")
    timed("build, sign, verify and install a release", began)
    releases.make("1.2.0", {"bin/wws-bootstrap": DOES_NOT_START})
    releases.make("1.3.0", {"bin/wws": JOINS_NOTHING})
    world = Operating(hosts)
    with world, world.served(releases.mirror) as mirror:
        world.prepare("roll-out")  # three nodes that run 1.0.0
        assert world.versions() == dict.fromkeys(NAMES, "1.0.0")

        began = time.monotonic()
        rolled = world.roll_out("1.1.0", releases, mirror)
        timed("roll it out: canary, smoke test, the others, DNS, smoke test", began)
        assert rolled.returncode == 0, rolled.stdout[-6_000:]
        assert world.versions() == dict.fromkeys(NAMES, "1.1.0")
        order = [
            rolled.stdout.index(f"=== {part}\n") for part in ("canary", "smoke test through us", "the others")
        ]
        assert order == sorted(order)
        network = json.loads((world.home / "roll-1.1.0" / "network.json").read_text())
        assert network, "for the next release"

        began = time.monotonic()
        broken = world.roll_out("1.2.0", releases, mirror)
        timed("one that does not start: tried on the canary, taken back by itself", began)
        assert broken.returncode == 1, broken.stdout[-6_000:]
        assert "us runs 1.1.0 again and is well; 1.2.0 failed" in broken.stdout
        assert "=== the others" not in broken.stdout
        assert world.versions() == dict.fromkeys(NAMES, "1.1.0")

        began = time.monotonic()
        useless = world.roll_out("1.3.0", releases, mirror)
        timed("one that nobody can join with: on the canary, taken back after the smoke test", began)
        assert useless.returncode == 1, useless.stdout[-6_000:]
        assert "us goes back to 1.1.0" in useless.stdout
        assert "1.3.0 was taken back" in useless.stdout
        assert world.versions() == dict.fromkeys(NAMES, "1.1.0")
    tell(
        "a release, from nothing to three machines", "\n".join(f"  {s:6.1f} s  {w}" for w, s in took.items())
    )
