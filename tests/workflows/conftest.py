"""A repository whose builders are stand-ins, with keys that were made for it."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.prerequisites import require
from tests.workflows.actions import STAND_IN, Actions
from tests.workflows.tools import ROOT
from wws import __version__

Tell = Callable[[str, str], None]
NEEDED = ("git", "curl", "make", "openssl", "ssh-keygen", "sha256sum", "tar")


def sign(*words: str | Path) -> str:
    """packaging/sign.py of the sources."""
    command = [sys.executable, str(ROOT / "packaging" / "sign.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_keys(folder: Path) -> Path:
    """A root key, a release key, and `trust` as packaging/trust would have them; returns the release key."""
    trust = folder / "trust"
    trust.mkdir(parents=True)
    (trust / "roots").write_text(sign("new-root", folder / "root.key") + "\n")
    key = sign("new-key", folder / "release.key")
    sign("release-keys", "--root", folder / "root.key", "--out", trust, "--key", key)
    return folder / "release.key"


def release_files(actions: Actions, version: str = __version__) -> Path:
    """A tiny signed release, served as a published one."""
    folder = actions.folder / f"made-{version}"
    run = functools.partial(_script, actions)
    run("stamps.sh", "--version", version, "--releases", actions.releases, "--out", folder / "stamps")
    built = folder / "built"
    built.mkdir()
    words = ("--version", version, "--stamp", folder / "stamps" / "stamp.json", "--out", built)
    installer = ("--installer", folder / "stamps" / "install.sh")
    subprocess.run(
        [sys.executable, str(STAND_IN / "artefact.py"), *map(str, (*words, *installer))], check=True
    )
    artefact = next(built.glob("*.tar.gz"))
    run(
        "packages.sh",
        "--version",
        version,
        "--stamps",
        folder / "stamps",
        "--artefact",
        artefact,
        "--out",
        built,
    )
    release = folder / "release"
    platforms = ("--platforms", "linux-" + platform.machine())
    run("assemble.sh", "--version", version, *platforms, "--out", release, built, folder / "stamps")
    key = actions.folder.parent / "keys" / "release.key"
    run("sign.sh", "--files", release, "--version", version, "--channel", "stable", "--key", key)
    served = actions.github / "served"
    run("mirror.sh", "--files", release, "--version", version, "--channel", "stable", "--out", served)
    return release


def _script(actions: Actions, name: str, *words: str | Path) -> None:
    """A script of releases, in the repository of the actions."""
    environment = {**os.environ, "PYTHON": sys.executable}
    if not (actions.repository / ".git").exists():
        actions.commit()
    command = [str(actions.repository / "scripts" / "release" / name), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def actions(tmp_path: Path) -> Iterator[Actions]:
    """A project that has held its key ceremony; its release key is the secret WWS_RELEASE_KEY."""
    with project(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Actions]:
    """The same with a release, for tests that change nothing of it: it lies in `made-VERSION/release`."""
    with project(tmp_path_factory.mktemp("released")) as made:
        release_files(made)
        yield made


@contextmanager
def project(folder: Path) -> Iterator[Actions]:
    require(*NEEDED)
    key = make_keys(folder / "keys")
    with Actions(folder / "actions") as made:
        shutil.copytree(folder / "keys" / "trust", made.repository / "packaging" / "trust")
        for builder in ("packaging/frozen/old-glibc.sh", "packaging/selfcontained.py"):
            made.replace(builder, STAND_IN / "artefact.py")
        for path, what in (
            ("packaging/packages.py", "packages"),
            ("packaging/sbom.py", "sbom"),
            ("packaging/container/image.py", "image"),
            ("packaging/release_json.py", "release_json"),
        ):
            made.replace(path, STAND_IN / "packages.py", what)
        made.program("sudo", STAND_IN / "recorder.py", "sudo")
        made.program("mmdebstrap", STAND_IN / "recorder.py", "mmdebstrap")
        made.secrets["WWS_RELEASE_KEY"] = key.read_text()
        yield made
