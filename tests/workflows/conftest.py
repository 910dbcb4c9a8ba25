"""A repository whose builders are stand-ins, with keys that were made for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.prerequisites import require
from tests.workflows.actions import STAND_IN, Actions
from tests.workflows.tools import ROOT

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


@pytest.fixture
def actions(tmp_path: Path) -> Iterator[Actions]:
    """A project that has held its key ceremony; its release key is the secret WWS_RELEASE_KEY."""
    require(*NEEDED)
    key = make_keys(tmp_path / "keys")
    with Actions(tmp_path / "actions") as made:
        shutil.copytree(tmp_path / "keys" / "trust", made.repository / "packaging" / "trust")
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
