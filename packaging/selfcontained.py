"""Builds the self-contained artefact: one archive that needs no Python of a machine.

    python packaging/selfcontained.py --out dist [--version 1.2.3] [--stamp FILE] [--installer FILE]
                                      [--python PATH] [--glibc-floor 2.31]

It prints one JSON object: the archive, its MANIFEST that lies beside it, their SHA-256, the version, and the
oldest glibc that it runs with (`null` on macOS). Inside::

    wws-<version>/
      bin/wws, wws-connector, wws-bootstrap, wws-control    one program, which is what it is called by
      bin/lib/                                              Python, libraries and our packages, compiled
      share/install.sh                                      the installer of this release, when one is given
      share/licenses/                                       of Python and the libraries
      VERSION, MANIFEST                                     MANIFEST is for `sha256sum --check`

The work has two steps. `freeze` lets PyInstaller collect Python and what our sources import
(packaging/frozen/): slow, and the same for as long as they import the same. `stage` makes a release of it:
our packages, version, stamp, installer, manifest.

`--python` has PyInstaller and exactly what requirements/agent.txt locks; it decides for which machines the
archive is: it is built on Linux for that machine's C library or newer, so a release is built with
packaging/frozen/old-glibc.sh. On macOS the files are signed ad hoc, or with `WWS_CODESIGN_IDENTITY`.

The same sources, requirements and Python make the same bits: entries are sorted, owners and times fixed
(`SOURCE_DATE_EPOCH`, else 2020), compiled files carry no time and no path of this machine. The bits depend on
the Python and the tools (strip, zlib) that made them.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import release
from frozen.elf import MAGIC, Floor, Glibc, floor

ROOT = release.ROOT
FROZEN = ROOT / "packaging" / "frozen"
REQUIREMENTS = ROOT / "requirements" / "agent.txt"
PROGRAMS = ("wws", "wws-connector", "wws-bootstrap", "wws-control")
PACKAGES = ("wws", "agent_cli", "bootstrap_node")
LEFT_OUT = ("agent_cli/ops/", "agent_cli/remote.py")
"""An operator's tools: they need Ansible, Pulumi and a Python."""
SYSTEMS = {"Linux": "linux", "Darwin": "macos"}
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
COMPRESSION = 9
STAMP = "stamp.json"
ASK = "import sys; print(sys.version, sys.prefix, sys.flags)"
COMPILE = """
import importlib.util, marshal, pathlib, sys
sources, library = map(pathlib.Path, sys.argv[1:])
for path in sorted(sources.rglob("*.py")):
    name = path.relative_to(sources)
    code = compile(path.read_bytes(), name.as_posix(), "exec", dont_inherit=True)
    target = (library / name).with_suffix(".pyc")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(importlib.util.MAGIC_NUMBER + bytes([1]) + bytes(11) + marshal.dumps(code))
"""

BuildFailed = release.ReleaseFailed


@dataclass(frozen=True, slots=True)
class Built:
    """An artefact that lies somewhere."""

    archive: Path
    manifest: Path
    version: str
    floor: Floor | None

    def to_json(self) -> dict[str, object]:
        return {
            "archive": str(self.archive),
            "sha256": release.sha256(self.archive),
            "bytes": self.archive.stat().st_size,
            "manifest": str(self.manifest),
            "manifest_sha256": release.sha256(self.manifest),
            "version": self.version,
            "glibc": None if self.floor is None else str(self.floor.version),
            "glibc_needed_by": None if self.floor is None else self.floor.file.as_posix(),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Build one artefact; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="selfcontained.py", description="Build the archive that needs no Python of a machine."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the archive")
    parser.add_argument("--version", help="default: that of the sources")
    parser.add_argument("--stamp", type=Path, help="what the release knows of itself, as JSON")
    parser.add_argument("--installer", type=Path, help="the stamped install.sh of this release")
    parser.add_argument("--python", default=sys.executable, help="has PyInstaller and requirements/agent.txt")
    parser.add_argument("--frozen", type=Path, help="folder to keep what is frozen in, for the next time")
    parser.add_argument("--glibc-floor", type=Glibc.parse, help="fail when a newer glibc than this is needed")
    parser.add_argument("--print-glibc", action="store_true", help="print the floor alone, not JSON")
    parser.add_argument("--compression", type=int, choices=range(1, 10), default=COMPRESSION, metavar="1..9")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="wws-artefact-") as temporary:
            frozen = (options.frozen or Path(temporary)) / fingerprint(options.python)
            if not (frozen / "wws").is_dir():
                freeze(frozen, options.python)
            built = assemble(
                frozen,
                options.out,
                version=options.version,
                stamp=None if options.stamp is None else options.stamp.read_bytes(),
                installer=options.installer,
                python=options.python,
                highest=options.glibc_floor,
                compression=options.compression,
            )
    except (BuildFailed, OSError) as error:
        sys.stderr.write(f"selfcontained.py: {error}\n")
        return 1
    said = built.to_json()
    sys.stdout.write(f"{said['glibc'] or ''}\n" if options.print_glibc else json.dumps(said, indent=2) + "\n")
    return 0


def needs() -> str:
    """All imports of our sources, as statements: what decides which libraries are frozen."""
    found: set[str] = set()
    for path in _sources():
        for node in ast.walk(ast.parse((ROOT / path).read_bytes(), path)):
            if isinstance(node, ast.Import):
                found.update(f"import {name.name}" for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(f"from {node.module} import {name.name}" for name in node.names)
    ours = re.compile(rf"(import|from) ({'|'.join(PACKAGES)}|__future__)\b")
    return "".join(f"{line}\n" for line in sorted(found) if ours.match(line) is None)


def fingerprint(python: str = sys.executable) -> str:
    """What `freeze` makes its folder of, in sixteen characters."""
    asked = subprocess.run([python, "-ISc", ASK], capture_output=True, check=False)
    if asked.returncode:
        raise BuildFailed(f"{python} does not run: {asked.stderr.decode(errors='replace').strip()}")
    digest = hashlib.sha256(asked.stdout + needs().encode())
    files = [path for path in sorted(FROZEN.iterdir()) if path.suffix in {".py", ".spec"}]
    for path in (*files, REQUIREMENTS, Path(__file__)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def freeze(out: Path, python: str = sys.executable) -> None:
    """Make `out/wws`: the program, and `lib/` with all but our own. It is there whole, or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="part-", dir=out) as temporary:
        part = Path(temporary)
        (part / "needs.py").write_text(needs(), "utf-8")
        _run(
            [
                *(python, "-I", str(FROZEN / "freeze.py")),
                *(str(part / "needs.py"), str(REQUIREMENTS), str(part / "out")),
            ],
            "Python and the libraries could not be frozen",
            {"PYINSTALLER_CONFIG_DIR": str(part / "config"), "SOURCE_DATE_EPOCH": str(release.FIXED_TIME)},
        )
        made = part / "out" / "wws"
        _tidy(made)
        made.rename(out / "wws")


def assemble(
    frozen: Path,
    out: Path,
    *,
    version: str | None = None,
    stamp: bytes | None = None,
    installer: Path | None = None,
    python: str = sys.executable,
    highest: Glibc | None = None,
    compression: int = COMPRESSION,
) -> Built:
    """Make a release of what was frozen, and pack it. Raises `BuildFailed`; then no archive is there."""
    version = version or release.source_version()
    if release._VERSION.fullmatch(version) is None:
        raise BuildFailed(f"{version!r} is no version: give one like 1.2.3")
    if stamp is not None:
        _check_stamp(stamp, version)
    lowest = floor(frozen / "wws")
    if lowest is not None:
        lowest = Floor(lowest.version, "bin" / lowest.file.relative_to(frozen / "wws"))
        if highest is not None and lowest.version > highest:
            raise BuildFailed(
                f"{lowest.file} needs glibc {lowest.version}, and no newer one than {highest} may be "
                f"needed: build it with packaging/frozen/old-glibc.sh"
            )
    with tempfile.TemporaryDirectory(prefix="wws-artefact-") as temporary:
        top = Path(temporary, f"wws-{version}")
        stage(frozen, top, version, stamp=stamp, installer=installer, python=python)
        release.write_manifest(top)
        name = f"wws-{version}-{target()}"
        out.mkdir(parents=True, exist_ok=True)
        archive, manifest = out / f"{name}.tar.gz", out / f"{name}.MANIFEST"
        unfinished = archive.with_name(f".{archive.name}.{os.getpid()}")
        try:
            release.write_archive(top, unfinished, compression)
            unfinished.replace(archive)
            shutil.copyfile(top / "MANIFEST", unfinished)
            unfinished.replace(manifest)
        finally:
            unfinished.unlink(missing_ok=True)
        return Built(archive, manifest, version, lowest)


def stage(
    frozen: Path, top: Path, version: str, *, stamp: bytes | None, installer: Path | None, python: str
) -> None:
    """Put all that belongs into a release below `top`, which does not exist yet."""
    library = top / "bin" / "lib"
    shutil.copytree(frozen / "wws" / "lib", library, copy_function=_link)
    shutil.copytree(frozen / "wws" / "licenses", top / "share" / "licenses", copy_function=_link)
    for program in PROGRAMS:
        shutil.copyfile(frozen / "wws" / "wws", top / "bin" / program)
        (top / "bin" / program).chmod(0o755)
    _compile(library, version, python)
    if stamp is not None:
        (library / "wws" / STAMP).write_bytes(stamp)
    if installer is not None:
        shutil.copyfile(installer, top / "share" / "install.sh")
        (top / "share" / "install.sh").chmod(0o755)
    (top / "VERSION").write_text(f"{version}\n", "utf-8")


def target() -> str:
    """For which machines it is: `linux-x86_64`. Raises `BuildFailed` where no release is made for."""
    system, machine = SYSTEMS.get(platform.system()), MACHINES.get(platform.machine().lower())
    if system is None or machine is None:
        raise BuildFailed(f"there are no releases for {platform.system()} on {platform.machine()}")
    return f"{system}-{machine}"


def _compile(library: Path, version: str, python: str) -> None:
    """Compile our packages as PyInstaller does libraries: relative paths, checked against nothing."""
    with tempfile.TemporaryDirectory(prefix="wws-sources-") as temporary:
        for path in _sources():
            source = (ROOT / path).read_text("utf-8")
            if path == "wws/__init__.py":
                source = release._STAMP.sub(f'__version__ = "{version}"', source)
            copy = Path(temporary, path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(source, "utf-8")
        _run([python, "-ISc", COMPILE, temporary, str(library)], "the sources do not compile", {})


def _sources() -> list[str]:
    """Our modules that belong in, by their paths in the repository."""
    paths = sorted(
        path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")
    )
    return [path for path in paths if not path.startswith(LEFT_OUT)]


def _check_stamp(stamp: bytes, version: str) -> None:
    try:
        value = json.loads(stamp)
    except ValueError:
        raise BuildFailed("the stamp is not JSON") from None
    if not isinstance(value, dict) or value.get("version") != version:
        raise BuildFailed(f"the stamp is not that of version {version}")


def _tidy(made: Path) -> None:
    """Drop what is only for people who build, and all links: an archive of ours has none."""
    links = [path for path in sorted(made.rglob("*")) if path.is_symlink()]
    for path, content in [(path, path.resolve(strict=True)) for path in links]:
        if not content.is_relative_to(made.resolve()):
            raise BuildFailed(f"{path.relative_to(made)} is a link to {content}")
        path.unlink()
        if content.is_file():  # one to a folder is a framework's on macOS, and nothing is loaded by that way
            shutil.copy2(content, path)
    for path in sorted((made / "lib").glob("*.dist-info/*")):
        # What libraries ask for at run time stays. The rest says how they were installed here.
        if path.name not in {"METADATA", "entry_points.txt"}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if platform.system() == "Linux":
        for path in sorted(made.rglob("*")):
            if path.is_file() and ".so" in path.name and _is_elf(path):
                _run(["strip", "--strip-unneeded", str(path)], f"{path.name} could not be stripped", {})


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == MAGIC


def _link(source: str, destination: str) -> str:
    """Share a file where the file system can, and copy it elsewhere."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)
    return destination


def _run(command: Sequence[str], failure: str, more: Mapping[str, str]) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**env, "PYTHONHASHSEED": "0", **more}
    )
    if done.returncode:
        raise BuildFailed(f"{failure}:\n{(done.stderr or done.stdout).strip()[-2_000:]}")


if __name__ == "__main__":
    raise SystemExit(main())
