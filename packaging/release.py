"""Builds what a bootstrap host runs: one archive with the node, its libraries and three programs.

    python packaging/release.py --out dist [--version 1.2.3] [--python 3.11 --python 3.12] [--arch x86_64]

It prints the path of the archive and its SHA-256, which everybody who uses the archive pins. Beside it lies
`<archive>.sha256` for `sha256sum --check`. Inside::

    wws-<version>/
      bin/wws-{bootstrap,connector,control}   POSIX sh: find the host's python3 and start it isolated
      lib/start.py                            puts the folders below on the path and runs a program
      lib/own/{wws,bootstrap_node}            our packages, compiled for each version of Python that is here
      lib/cp311, lib/cp312, …                 requirements/runtime.txt for that version
      VERSION, MANIFEST                       MANIFEST is for `sha256sum --check`

Libraries are binary wheels for the target with the hashes of requirements/runtime.txt; nothing is built, and
no code of theirs runs here. The same sources and requirements make the same bits: entries are sorted,
owners and times are fixed (`SOURCE_DATE_EPOCH`, else 2020), and compiled files are checked against nothing
when they are loaded. The bits also depend on the zlib and the Python that pack and compile.

Standard library only, and uv or else pip.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
"""Debian 12, Ubuntu 24.04, Debian 13."""
PACKAGES = ("wws", "bootstrap_node")
LEFT_OUT = frozenset({"wws/testing"})
"""Nothing that runs on a host imports it."""
PROGRAMS = {
    "wws-bootstrap": "bootstrap_node.__main__",
    "wws-connector": "wws.runtime.__main__",
    "wws-control": "bootstrap_node.control",
}
GLIBC = ("2_28", "2_17")
"""Oldest C libraries that wheels may be built for; all hosts that are supported have newer ones."""
FIXED_TIME = 1_577_836_800
"""2020-01-01. Zip files know no time before 1980, and tools complain about 1970."""
COMPRESSION = 6

_VERSION = re.compile(r"[0-9]+(\.[0-9]+){1,3}([a-z0-9.+-]*[a-z0-9])?")
_STAMP = re.compile(r'^__version__ = "[^"]*"$', re.MULTILINE)

LAUNCHER = """#!/bin/sh
# Runs {program} of this release with the first python3 that the release has libraries for.
set -eu

main() {{
    release=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
    tried=
    for python in python3 python3.13 python3.12 python3.11; do
        tag=$("$python" -ISc 'import sys; print("cp%d%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if [ -d "$release/lib/$tag" ]; then
            exec "$python" -IS "$release/lib/start.py" {module} "$release/lib/$tag" "$@"
        fi
        tried="$tried $tag"
    done
    echo "{program}: this release has no libraries for a Python of this host (found:${{tried:- none}})" >&2
    exit 10
}}

main "$@"
"""
"""-I: no environment and no user's packages, -S: nor those of the system. All that is imported is ours."""

START = '''"""Runs one of our programs with the packages of this release: MODULE LIBRARIES ARGUMENTS…"""

import runpy
import sys
from pathlib import Path

module, libraries = sys.argv[1:3]
sys.path[:0] = [str(Path(__file__).parent / "own"), libraries]
sys.argv[1:3] = []
runpy.run_module(module, run_name="__main__", alter_sys=True)
'''


class ReleaseFailed(Exception):
    """The release was not built. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Built:
    """A release that lies somewhere."""

    path: Path
    sha256: str
    version: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Build one release; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="release.py", description="Build the archive that bootstrap hosts run."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the archive")
    parser.add_argument("--version", help="default: that of the sources")
    parser.add_argument(
        "--python", action="append", choices=PYTHONS, help="may be repeated; default: " + ", ".join(PYTHONS)
    )
    parser.add_argument("--arch", choices=("x86_64", "aarch64"), default=platform.machine())
    parser.add_argument(
        "--uncompiled",
        action="store_true",
        help="without .pyc files: hosts start slower, no interpreter needed here",
    )
    options = parser.parse_args(arguments)
    try:
        built = build(
            options.out,
            version=options.version,
            pythons=options.python or PYTHONS,
            arch=options.arch,
            compiled=not options.uncompiled,
        )
    except ReleaseFailed as error:
        sys.stderr.write(f"release.py: {error}\n")
        return 1
    sys.stdout.write(f"{built.path}\n{built.sha256}\n")
    return 0


def build(
    out: Path,
    *,
    version: str | None = None,
    pythons: Sequence[str] = PYTHONS,
    arch: str = "x86_64",
    compiled: bool = True,
) -> Built:
    """Stage and pack one release. Raises `ReleaseFailed`; then nothing is at the archive's place."""
    version = version or source_version()
    if _VERSION.fullmatch(version) is None:
        raise ReleaseFailed(f"{version!r} is no version: give one like 1.2.3")
    with tempfile.TemporaryDirectory(prefix="wws-release-") as temporary:
        top = Path(temporary, f"wws-{version}")
        stage(top, version, pythons=sorted(set(pythons)), arch=arch, compiled=compiled)
        return pack(top, out / f"wws-{version}-linux-{arch}.tar.gz")


def source_version() -> str:
    """The version that the sources have."""
    found = _STAMP.search((ROOT / "wws" / "__init__.py").read_text("utf-8"))
    if found is None:
        raise ReleaseFailed("wws/__init__.py has no version")
    return found.group().split('"')[1]


def stage(top: Path, version: str, *, pythons: Sequence[str], arch: str, compiled: bool) -> None:
    """Put all that belongs into a release below `top`, which does not exist yet."""
    interpreters = _interpreters(pythons) if compiled else {}
    own = top / "lib" / "own"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, own / package, ignore=_left_out)
    stamped = own / "wws" / "__init__.py"
    stamped.write_text(_STAMP.sub(f'__version__ = "{version}"', stamped.read_text("utf-8")), "utf-8")
    for python in pythons:
        _install(top / "lib" / _tag(python), python, arch)
    (top / "lib" / "start.py").write_text(START, "utf-8")
    (top / "bin").mkdir()
    for program, module in PROGRAMS.items():
        launcher = top / "bin" / program
        launcher.write_text(LAUNCHER.format(program=program, module=module), "utf-8")
        launcher.chmod(0o755)
    (top / "VERSION").write_text(f"{version}\n", "utf-8")
    for python, interpreter in interpreters.items():
        _compile(interpreter, top / "lib", ("own", _tag(python)))


def pack(top: Path, archive: Path) -> Built:
    """Write the MANIFEST of a staged release and pack it; the archive appears whole or not at all."""
    write_manifest(top)
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        write_archive(top, unfinished, COMPRESSION)
        digest = sha256(unfinished)
        sums = archive.with_name(f"{archive.name}.sha256")
        sums.unlink(missing_ok=True)  # never the sum of another archive
        unfinished.replace(archive)
        unfinished.write_text(f"{digest}  {archive.name}\n", "ascii")
        unfinished.replace(sums)
    finally:
        unfinished.unlink(missing_ok=True)
    return Built(archive, digest, (top / "VERSION").read_text("utf-8").strip())


def write_manifest(top: Path) -> None:
    """List each file of a staged release with its hash, for `sha256sum --check`."""
    files = sorted(path for path in top.rglob("*") if path.is_file() and path != top / "MANIFEST")
    lines = [f"{sha256(path)}  {path.relative_to(top).as_posix()}\n" for path in files]
    (top / "MANIFEST").write_text("".join(lines), "utf-8")


def write_archive(top: Path, archive: Path, compression: int) -> None:
    """Pack a folder under its name, so that the same content makes the same bits."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", compression, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path, entry in _entries(top):
            if entry.isfile():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)


def sha256(path: Path) -> str:
    """The hash of a file, in lower-case hex."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _entries(top: Path) -> Iterator[tuple[Path, tarfile.TarInfo]]:
    """What is packed, parents first; of what the build machine is like, only "may be run" gets in."""
    time = int(os.environ.get("SOURCE_DATE_EPOCH", FIXED_TIME))
    for path in (top, *sorted(top.rglob("*"))):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ReleaseFailed(f"{path.relative_to(top)} is neither file nor folder: a release has no links")
        entry = tarfile.TarInfo((Path(top.name) / path.relative_to(top)).as_posix())
        entry.mtime = time
        entry.uname = entry.gname = "root"
        if path.is_dir():
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        else:
            status = path.stat()
            entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
        yield path, entry


def _left_out(folder: str, names: list[str]) -> set[str]:
    relative = Path(folder).relative_to(ROOT)
    return {
        name
        for name in names
        if name == "__pycache__" or name.endswith(".pyc") or (relative / name).as_posix() in LEFT_OUT
    }


def _tag(python: str) -> str:
    return "cp" + python.replace(".", "")


def _install(target: Path, python: str, arch: str) -> None:
    """The libraries for one version of Python, as the lock file has them."""
    requirements = str(ROOT / "requirements" / "runtime.txt")
    common = ["--target", str(target), "--python-version", python, "--require-hashes", "--no-deps"]
    if shutil.which("uv") is not None:
        command = [
            "uv",
            "pip",
            "install",
            "--quiet",
            *common,
            "--only-binary",
            ":all:",
            "--link-mode",
            "copy",
        ]
        command += ["--python-platform", f"{arch}-manylinux_{GLIBC[0]}"]
    else:
        command = [sys.executable, "-m", "pip", "install", "--quiet", *common, "--only-binary=:all:"]
        command += ["--implementation", "cp", "--abi", _tag(python), "--abi", "abi3", "--abi", "none"]
        for glibc in GLIBC:
            command += ["--platform", f"manylinux_{glibc}_{arch}"]
        command += ["--platform", f"manylinux2014_{arch}"]
    _run([*command, "-r", requirements], f"the libraries for Python {python} could not be fetched")
    for path in sorted(target.iterdir()):
        if path.name in {"bin", ".lock"}:
            _remove(path)
    for path in [*target.rglob("__pycache__"), *target.glob("*.dist-info/*")]:
        # What is left of the metadata is what libraries ask for at run time, and licences.
        if path.name not in {"METADATA", "entry_points.txt", "licenses", "LICENSE", "LICENSE.txt"}:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _interpreters(pythons: Sequence[str]) -> dict[str, str]:
    """Those that are here, by version. Without the others hosts of theirs start slower, and that is said."""
    found = {python: _interpreter(python) for python in pythons}
    for python in [python for python, interpreter in found.items() if interpreter is None]:
        sys.stderr.write(
            f"release.py: there is no Python {python} here to compile with: what is for it is shipped "
            f"uncompiled, and hosts with it start slower\n"
        )
    return {python: interpreter for python, interpreter in found.items() if interpreter is not None}


def _interpreter(python: str) -> str | None:
    """An interpreter of that version, which compiles for it; `None` where there is none here."""
    candidates = [f"python{python}", sys.executable]
    if shutil.which("uv") is not None:
        found = subprocess.run(
            ["uv", "python", "find", "--no-python-downloads", python],
            capture_output=True,
            text=True,
            check=False,
        )
        candidates.append(found.stdout.strip())
    for candidate in filter(None, candidates):
        try:
            answer = subprocess.run(
                [candidate, "-ISc", 'import sys; print("%d.%d" % sys.version_info[:2])'],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            continue
        if answer.stdout.strip() == python:
            return candidate
    return None


def _compile(interpreter: str, lib: Path, folders: Sequence[str]) -> None:
    """Compile in one process and a fixed order: what is shared in memory shows in the bits."""
    program = (
        "import compileall, py_compile, sys\n"
        "lib, *folders = sys.argv[1:]\n"
        "mode = py_compile.PycInvalidationMode.UNCHECKED_HASH\n"
        "done = [compileall.compile_dir(f'{lib}/{folder}', quiet=2, workers=1, stripdir=lib,\n"
        "        prependdir='lib', invalidation_mode=mode) for folder in folders]\n"
        "sys.exit(not all(done))\n"
    )
    # A fixed seed: sets of constants are written in the order of their hashes.
    env: Mapping[str, str] = {**os.environ, "PYTHONHASHSEED": "0"}
    _run([interpreter, "-sSc", program, str(lib), *folders], "the sources do not compile", env)


def _run(command: Sequence[str], failure: str, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise ReleaseFailed(f"{failure}:\n{(done.stderr or done.stdout).strip()[-2_000:]}")


if __name__ == "__main__":
    raise SystemExit(main())
