"""The self-contained artefact of the sources as they are: built once per content, kept in the user's cache.

    archive = artefact()            # ~/.cache/wws/artefacts/<content>/…/wws-0.1.0-linux-x86_64.tar.gz
    archive = artefact({"schema": 1, "version": "1.2.3", …})    # of that version, with that stamp inside
    folder = unpacked()             # …/wws-0.1.0, to run bin/wws of

Only the first call takes its time (30 s): Python and the libraries are frozen once for as long as our sources
import the same of them. Other sources or another stamp take some seconds, and the same ones nothing. Beside
an archive lies its `.MANIFEST`. It is made with the Python that runs the tests and for this machine;
releases are made by packaging/frozen/old-glibc.sh.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from tests.prerequisites import require, skip

REPOSITORY = Path(__file__).parents[2]
_BUILDER = REPOSITORY / "packaging" / "selfcontained.py"
_SOURCES = (
    *("wws", "agent_cli", "bootstrap_node"),
    *("packaging/selfcontained.py", "packaging/release.py", "packaging/frozen", "requirements/agent.txt"),
)
_LEFT_OUT = ("agent_cli/ops/", "agent_cli/remote.py")
FROZEN = "frozen"
_KEPT = 4
"""Sets of sources that the cache has artefacts of."""
_IN_USE = 3600.0
"""Seconds after it was asked for that an artefact is not removed."""
_BUILD_WITHIN = 600
_COMPRESSION = "1"
"""These are not sent far."""


def artefact(stamp: Mapping[str, object] | None = None, *, installer: Path | None = None) -> Path:
    """The archive, of the version of the stamp or else of the sources. Skips where none can be built.

    In it is this installer, or else that of the sources.
    """
    with _cached() as cache:
        return _archive(cache, stamp, installer)


def unpacked(stamp: Mapping[str, object] | None = None) -> Path:
    """The top folder of the unpacked archive, for all to run programs of and for nobody to change."""
    with _cached() as cache:
        archive = _archive(cache, stamp)
        folder = archive.parent / "unpacked"
        if not folder.is_dir():
            part = archive.parent / "part"
            shutil.rmtree(part, ignore_errors=True)
            unpack(archive, part)
            part.rename(folder)
        (top,) = folder.iterdir()
        return top


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive below a folder, as everybody does."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def build(out: Path, *options: str) -> dict[str, object]:
    """Run the builder; what it says. Raises `RuntimeError` with its words when it fails."""
    done = subprocess.run(
        [sys.executable, str(_BUILDER), "--out", str(out), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_WITHIN,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    said: dict[str, object] = json.loads(done.stdout)
    return said


def _archive(cache: Path, stamp: Mapping[str, object] | None, installer: Path | None = None) -> Path:
    content = json.dumps(stamp, sort_keys=True).encode()
    given = content if installer is None else content + installer.read_bytes()
    plain = stamp is None and installer is None
    folder = cache / ("plain" if plain else hashlib.sha256(given).hexdigest()[:16])
    if not (folder / "built.json").exists():
        folder.mkdir(exist_ok=True)
        options = ["--frozen", str(cache.parent / FROZEN), "--compression", _COMPRESSION]
        if stamp is not None:
            (folder / "stamp.json").write_bytes(content)
            options += ["--stamp", str(folder / "stamp.json"), "--version", str(stamp["version"])]
        installer = installer or REPOSITORY / "install.sh"
        if installer.exists():
            options += ["--installer", str(installer)]
        built = build(folder, *options)
        (folder / "built.json").write_text(json.dumps(built))
    return Path(json.loads((folder / "built.json").read_bytes())["archive"])


@contextlib.contextmanager
def _cached() -> Iterator[Path]:
    """The folder for the sources as they are, one process at a time."""
    if find_spec("PyInstaller") is None:
        skip("PyInstaller is not installed")
    if sys.platform == "linux":
        require("objdump", "strip")  # PyInstaller and packaging/selfcontained.py call them
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wws" / "artefacts"
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = base / _fingerprint()
        folder.mkdir(exist_ok=True)
        os.utime(folder)
        (base / FROZEN).mkdir(exist_ok=True)
        _forget_old(base)
        _forget_old(base / FROZEN)
        yield folder


def _forget_old(folder: Path) -> None:
    """Keep what was asked for last, and all that somebody may still be using."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name != FROZEN]
    for old in sorted(found, key=lambda path: -path.stat().st_mtime)[_KEPT:]:
        if old.stat().st_mtime < time.time() - _IN_USE:
            shutil.rmtree(old, ignore_errors=True)


def _fingerprint() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for source in (*_SOURCES, "install.sh"):
        root = REPOSITORY / source
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            name = path.relative_to(REPOSITORY).as_posix()
            if path.is_file() and "__pycache__" not in name and not name.startswith(_LEFT_OUT):
                digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
