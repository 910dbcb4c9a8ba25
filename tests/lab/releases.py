"""Releases for hosts of the lab: a good one of the sources as they are, and others made from it.

    good = release("1.0.0")
    newer = release("1.1.0", newer_state_files)
    broken = release("1.1.0", leaks(dies_after=5))

A release is built once for the sources that it is made of, for the Python of Debian 12 alone, and kept in the
user's cache. The others share its files but for those that a change writes anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PYTHON = "3.11"
_BUILDER = REPOSITORY / "packaging" / "release.py"
_KEPT = 3
"""Sets of sources that the cache has releases of."""
_SOURCES = ("wws", "bootstrap_node", "packaging/release.py", "requirements/runtime.txt")

Change = Callable[["Staged"], None]


@dataclass(frozen=True, slots=True)
class Release:
    """An archive, and what is to be said of it."""

    path: Path
    sha256: str
    version: str


class Staged:
    """A release that is unpacked, to be changed before it is packed again."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text that is there once in a source file of ours."""
        text = (self.top / path).read_text("utf-8")
        if text.count(old) != 1:
            raise ValueError(f"{path} has {old!r} {text.count(old)} times")
        self.write(path, text.replace(old, new))

    def write(self, path: str, text: str) -> None:
        """Write a file anew. Until then it is shared with other releases, as is what was compiled of it."""
        file = self.top / path
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
        file.unlink(missing_ok=True)
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()
        file.write_text(text, "utf-8")
        file.chmod(mode)

    def before_main(self, code: str) -> None:
        """Let `wws-bootstrap` do something first; `arguments` are those of its command line."""
        self.write(
            "lib/own/bootstrap_node/__main__.py",
            "import sys\n"
            "from wws.runtime.__main__ import main\n"
            "arguments = sys.argv[1:]\n"
            f"{code}\n"
            "if __name__ == '__main__':\n"
            "    raise SystemExit(main(arguments, bootstrap=True))\n",
        )


def does_not_start(staged: Staged) -> None:
    """A library is missing."""
    staged.before_main("import a_library_that_was_forgotten")


def refuses_connections(staged: Staged) -> None:
    """It starts and says that all is well, but nobody else can connect."""
    staged.before_main(
        "while '--listen' in arguments:\n"
        "    at = arguments.index('--listen'); del arguments[at:at + 2]\n"
        "import os; os.environ.pop('WWS_NETWORK_LISTEN', None)\n"
        "arguments += ['--listen', '/ip4/127.0.0.1/tcp/9000', '--listen', '/ip4/127.0.0.1/udp/9000/quic-v1']"
    )


def wrong_peer_id(staged: Staged) -> None:
    """It has lost its key and makes a new one."""
    staged.before_main(
        "import os, pathlib\n"
        "while '--identity-path' in arguments:\n"
        "    at = arguments.index('--identity-path'); del arguments[at:at + 2]\n"
        "home = pathlib.Path(os.environ.get('STATE_DIRECTORY', '.'))\n"
        "os.environ['WWS_IDENTITY_PATH'] = str(home / 'new.key')"
    )


def leaks(dies_after: float, *, per_second: int = 8 * 1024 * 1024) -> Change:
    """It takes more and more memory, and is gone after a while, as if killed for that."""

    def change(staged: Staged) -> None:
        staged.before_main(
            "import os, threading, time\n"
            "def leak():\n"
            f"    kept, end = [], time.monotonic() + {dies_after!r}\n"
            "    while time.monotonic() < end:\n"
            f"        kept.append(os.urandom({per_second // 4})); time.sleep(0.25)\n"
            "    os.kill(os.getpid(), 9)\n"
            "threading.Thread(target=leak, daemon=True).start()"
        )

    return change


def newer_state_files(staged: Staged) -> None:
    """All that it keeps has a schema one newer, with members, tables and columns that nobody knows yet."""
    staged.replace(
        "lib/own/wws/runtime/state_files.py",
        '        schema = self._newer.get("schema", self._schema)\n',
        "        schema = self._schema + 1\n"
        "        members = {**members, 'of_a_newer_version': {'since': 2}}\n",
    )
    made = '            database.executescript(f"BEGIN;{TABLES}COMMIT;")\n'
    changed = (
        "ALTER TABLE log ADD COLUMN mood TEXT; ALTER TABLE entries ADD COLUMN mood TEXT; "
        "CREATE TABLE moods (a, b); PRAGMA user_version = 2;"
    )
    staged.replace(
        "lib/own/wws/runtime/witness/store.py",
        made,
        f"{made}        if schema < 2:\n            database.executescript('BEGIN;{changed}COMMIT;')\n",
    )


BROKEN: dict[str, Callable[[float], Change]] = {
    "does not start": lambda _: does_not_start,
    "refuses connections": lambda _: refuses_connections,
    "wrong PeerId": lambda _: wrong_peer_id,
    "leaks and dies": leaks,
}
"""Ways to be broken; each is given after how many seconds it is to die, if it does."""


def release(version: str, *changes: Change) -> Release:
    """The release of the sources with that number, and with these changes."""
    with _cached() as cache:
        plain = cache / "stage" / f"wws-{version}"
        if not plain.is_dir():
            _stage(cache / "stage", version)
        if not changes:
            archive = cache / f"wws-{version}-linux-x86_64.tar.gz"
            if not archive.exists():
                return _pack(plain, archive)
            return Release(archive, sha256_of(archive), version)
        with tempfile.TemporaryDirectory(prefix="changed-", dir=cache) as temporary:
            top = Path(temporary, plain.name)
            shutil.copytree(plain, top, copy_function=os.link)
            (top / "MANIFEST").unlink(missing_ok=True)
            for change in changes:
                change(Staged(top))
            made = _pack(top, Path(temporary, f"wws-{version}-linux-x86_64.tar.gz"))
            kept = cache / made.sha256[:16] / made.path.name
            kept.parent.mkdir(exist_ok=True)
            made.path.replace(kept)
            return Release(kept, made.sha256, version)


def corrupted(good: Release, folder: Path) -> Release:
    """An archive that was damaged on its way: some bits in the middle are other."""
    data = bytearray(good.path.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 64):
        data[at] ^= 0xFF
    path = folder / good.path.name
    path.write_bytes(data)
    return Release(path, good.sha256, good.version)


def entries(archive: Path) -> list[str]:
    """The names of what is in an archive."""
    with tarfile.open(archive) as tar:
        return tar.getnames()


def _stage(folder: Path, version: str) -> None:
    """Of the stages for several versions all but the stamp is shared."""
    builder = _builder()
    first = next((path for path in folder.glob("wws-*") if path.is_dir()), None)
    top = folder / f"wws-{version}"
    if first is None:
        part = folder / f"part-{os.getpid()}" / top.name
        try:
            builder.stage(part, version, pythons=[PYTHON], arch="x86_64", compiled=True)
        except builder.ReleaseFailed:  # no such interpreter here: it starts slower then
            shutil.rmtree(part, ignore_errors=True)
            builder.stage(part, version, pythons=[PYTHON], arch="x86_64", compiled=False)
        part.rename(top)
        return
    part = folder / f"part-{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(first, part, copy_function=os.link)
    (part / "MANIFEST").unlink(missing_ok=True)
    staged = Staged(part)
    staged.write("VERSION", f"{version}\n")
    stamped = "lib/own/wws/__init__.py"
    staged.replace(stamped, f'"{first.name.removeprefix("wws-")}"', f'"{version}"')
    part.rename(top)


def _pack(top: Path, archive: Path) -> Release:
    builder = _builder()
    builder.COMPRESSION = 1  # these are not sent far
    built = builder.pack(top, archive)
    return Release(built.path, built.sha256, built.version)


def _builder():  # type: ignore[no-untyped-def]  # a program, in a folder that is no package
    if "wws_release_builder" not in sys.modules:
        spec = importlib.util.spec_from_file_location("wws_release_builder", _BUILDER)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["wws_release_builder"] = module
        spec.loader.exec_module(module)
    return sys.modules["wws_release_builder"]


def sha256_of(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextlib.contextmanager
def _cached() -> Iterator[Path]:
    """The folder for the sources as they are, one process at a time."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wws" / "releases"
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = base / _fingerprint()
        (folder / "stage").mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        kept = sorted(
            (path for path in base.iterdir() if path.is_dir()), key=lambda path: -path.stat().st_mtime
        )
        for old in kept[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        yield folder


def _fingerprint() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for source in _SOURCES:
        root = REPOSITORY / source
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            digest.update(str(path.relative_to(REPOSITORY)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def run(release: Release, folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Unpack a release and run one of its programs with nothing of this machine but its Python."""
    with tarfile.open(release.path) as tar:
        tar.extractall(folder, filter="data")
    command = [str(folder / f"wws-{release.version}" / "bin" / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
