"""Builds the wheel and the source distribution.

    python packaging/packages.py --out dist [--version 1.2.3] [--stamp stamp.json]

It prints the path and the SHA-256 of each. The checkout stays as it is: all that Git has or would take is
copied to a folder of its own, and there the version and the stamp are put in. The stamp says what only a
release knows (where releases are, who signs them, the default network); both packages get it as
`wws/stamp.json`.

The source distribution is the whole repository: everything that building, testing and operating needs. A
wheel that is built from it, by this program or by any other front end, is the wheel beside it, bit for bit.

The same sources make the same bits on every machine, at any time: times are `SOURCE_DATE_EPOCH` or else a
fixed one, owners and modes are normal ones, entries are sorted. The bits also depend on hatchling, which is
locked in requirements/dev.txt, and on the zlib that packs.

Standard library, and hatchling.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from release import sha256

ROOT = Path(__file__).resolve().parent.parent
FIXED_TIME = 1_580_601_600
"""2020-02-02: what hatchling takes by itself, so that every front end makes the same wheel of our sources."""
STAMP = Path("wws", "stamp.json")
NOT_SOURCES = frozenset(
    {"__pycache__", "node_modules", "build", "dist", "PKG-INFO", ".git", ".venv", ".build", ".hypothesis"}
)
"""Left out where no Git says what belongs: in an unpacked source distribution that was worked in."""

_VERSION = re.compile(r"[0-9]+(\.[0-9]+){1,3}((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?")
"""The canonical form alone: what is normalised would have one name in the tag and another in file names."""
_ASSIGNMENT = re.compile(r'^__version__ = "([^"]*)"$', re.MULTILINE)


class PackagesFailed(Exception):
    """Nothing was built. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that lies somewhere."""

    path: Path
    sha256: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Build both packages; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="packages.py", description="Build the wheel and the sdist.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the packages")
    parser.add_argument("--version", help="default: that of the stamp, else that of the sources")
    parser.add_argument("--stamp", type=Path, help="what a release knows; becomes wws/stamp.json")
    options = parser.parse_args(arguments)
    try:
        built = build(options.out, version=options.version, stamp=options.stamp)
    except PackagesFailed as error:
        sys.stderr.write(f"packages.py: {error}\n")
        return 1
    for package in built:
        sys.stdout.write(f"{package.path}\n{package.sha256}\n")
    return 0


def build(out: Path, *, version: str | None = None, stamp: Path | None = None) -> tuple[Package, Package]:
    """The wheel and the sdist, in this order. Raises `PackagesFailed`; then `out` has what it had before."""
    if importlib.util.find_spec("hatchling") is None:
        raise PackagesFailed("there is no hatchling here: run make .venv/.ready, then .venv/bin/python")
    stamped = _read_stamp(stamp) if stamp is not None else None
    version = _version(version, stamped)
    with tempfile.TemporaryDirectory(prefix="wws-packages-") as temporary:
        sources, made = Path(temporary, "sources"), Path(temporary, "made")
        stage(sources, version, stamped)
        if stamped is not None:
            _check_stamp(sources)
        _hatchling(sources, made)
        names = (f"wws-{version}-py3-none-any.whl", f"wws-{version}.tar.gz")
        if sorted(path.name for path in made.iterdir()) != sorted(names):
            raise PackagesFailed(f"hatchling made {sorted(path.name for path in made.iterdir())}")
        out.mkdir(parents=True, exist_ok=True)
        return _put(made / names[0], out), _put(made / names[1], out)


def stage(target: Path, version: str, stamp: bytes | None) -> None:
    """Copy the sources to `target`, which is not there yet, and put version and stamp into the copy."""
    for name in source_files():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
        copy.chmod(0o755 if (ROOT / name).stat().st_mode & 0o100 else 0o644)
    versioned = target / "wws" / "__init__.py"
    versioned.write_text(_ASSIGNMENT.sub(f'__version__ = "{version}"', versioned.read_text("utf-8")), "utf-8")
    if stamp is not None:
        (target / STAMP).write_bytes(stamp)


def source_files() -> Iterator[Path]:
    """What belongs to the sources, relative and sorted: what Git has or would take, else all that is here.

    Raises `PackagesFailed` for a link: a package has none.
    """
    for name in sorted(_known_to_git() if (ROOT / ".git").exists() else _found()):
        path = ROOT / name
        if path.is_symlink():
            raise PackagesFailed(f"{name} is a link: put the file itself there")
        if path.is_file():  # one that was removed is known to Git until that is committed
            yield name


def source_version() -> str:
    """The version that the sources have."""
    found = _ASSIGNMENT.search((ROOT / "wws" / "__init__.py").read_text("utf-8"))
    if found is None:
        raise PackagesFailed("wws/__init__.py has no version")
    return found[1]


def _known_to_git() -> Iterator[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if answer.returncode:
        raise PackagesFailed(f"git does not say what the sources are: {answer.stderr.decode().strip()}")
    return (Path(os.fsdecode(name)) for name in answer.stdout.split(b"\0") if name)


def _found() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_SOURCES and not name.endswith("_cache")]
        here = Path(folder).relative_to(ROOT)
        yield from (here / name for name in files if name not in NOT_SOURCES and not name.endswith(".pyc"))


def _read_stamp(path: Path) -> bytes:
    try:
        text = path.read_bytes()
        members = json.loads(text)
    except (OSError, ValueError) as error:
        raise PackagesFailed(f"the stamp {path} cannot be read: {error}") from None
    if not isinstance(members, dict):
        raise PackagesFailed(f"{path} is no stamp: a JSON object, see wws/stamp.py")
    return text


def _check_stamp(sources: Path) -> None:
    """Let the staged sources read the stamp that they got: what they refuse is never shipped."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from wws.errors import LocalError\n"
        "from wws.stamp import stamp\n"
        "try: stamp()\n"
        "except LocalError as error: sys.exit(str(error))\n"
    )
    command = [sys.executable, "-ISBc", program, str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackagesFailed(f"the stamp is not one that can be shipped: {done.stderr.strip()[-2_000:]}")


def _version(asked: str | None, stamp: bytes | None) -> str:
    in_stamp = json.loads(stamp).get("version") if stamp is not None else None
    version = asked or in_stamp or source_version()
    if in_stamp is not None and in_stamp != version:
        raise PackagesFailed(f"the stamp is for version {in_stamp}, not {version}")
    if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
        raise PackagesFailed(f"{version!r} is no version: give one like 1.2.3 or 1.2.3rc1")
    return version


def _hatchling(sources: Path, made: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(made), "-t", "sdist", "-t", "wheel"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("HATCH_")}
    env.setdefault("SOURCE_DATE_EPOCH", str(FIXED_TIME))
    env["PYTHONPATH"] = ""
    done = subprocess.run(command, cwd=sources, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackagesFailed(f"hatchling failed:\n{(done.stderr or done.stdout).strip()[-2_000:]}")


def _put(made: Path, out: Path) -> Package:
    """The package appears whole or not at all."""
    digest = sha256(made)
    unfinished = out / f".{made.name}.{os.getpid()}"
    try:
        shutil.copyfile(made, unfinished)
        unfinished.replace(out / made.name)
    finally:
        unfinished.unlink(missing_ok=True)
    return Package(out / made.name, digest)


if __name__ == "__main__":
    raise SystemExit(main())
