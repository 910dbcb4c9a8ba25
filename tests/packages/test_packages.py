"""Wheel and sdist: the same bits wherever and whenever they are built, and all in them that belongs there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.packages.conftest import STAMP, VERSION, Packages
from tests.packages.environments import REPOSITORY, builder, run

DIST_INFO = f"wws-{VERSION}.dist-info"
TOP = f"wws-{VERSION}"


def build(checkout: Path, out: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    program = str(checkout / "packaging" / "packages.py")
    return run(sys.executable, program, "--out", str(out), *arguments, cwd=checkout, **variables)


def unpacked(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / TOP


def test_the_sdist_makes_both_again_elsewhere_and_at_another_time(packages: Packages, tmp_path: Path) -> None:
    """From another folder, with other times, modes, hashes, zone and language: not a bit is different."""
    checkout = unpacked(packages.sdist, tmp_path / "a folder with spaces")
    for number, path in enumerate(sorted(path for path in checkout.rglob("*") if path.is_file())):
        path.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)
        os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "HOME": str(tmp_path)}
    made = build(checkout, tmp_path / "again", "--stamp", str(packages.stamp), **other)
    assert made.returncode == 0, made.stderr
    assert made.stdout.split()[::2] == [str(tmp_path / "again" / path.name) for path in packages_of(packages)]
    for path in packages_of(packages):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def packages_of(packages: Packages) -> tuple[Path, Path]:
    return packages.wheel, packages.sdist


def test_any_front_end_makes_our_wheel_of_the_sdist(packages: Packages, tmp_path: Path) -> None:
    """What pip, pipx and uv do where somebody takes the sdist."""
    checkout = unpacked(packages.sdist, tmp_path)
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    made = run(sys.executable, "-c", code, str(tmp_path), cwd=checkout)
    assert made.returncode == 0, made.stderr
    assert (tmp_path / packages.wheel.name).read_bytes() == packages.wheel.read_bytes()


def test_the_times_are_those_that_were_asked_for(packages: Packages, tmp_path: Path) -> None:
    made = build(REPOSITORY, tmp_path, SOURCE_DATE_EPOCH="1700000000")
    assert made.returncode == 0, made.stderr
    [sdist] = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        entries = archive.getmembers()
    assert {entry.mtime for entry in entries} == {1_700_000_000}
    assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries} == {(0, 0, "", "")}
    assert {entry.mode for entry in entries} == {0o644, 0o755}


def test_the_sdist_is_the_repository(packages: Packages) -> None:
    builds = builder("packages")
    sources = {f"{TOP}/{path.as_posix()}" for path in builds.source_files()}
    with tarfile.open(packages.sdist) as archive:
        members = {entry.name: entry for entry in archive.getmembers()}
    assert set(members) == sources | {f"{TOP}/PKG-INFO", f"{TOP}/wws/stamp.json"}
    assert all(entry.isfile() for entry in members.values())
    assert {name for name, entry in members.items() if entry.mode & 0o100} == {
        name for name in sources if os.access(REPOSITORY / name.partition("/")[2], os.X_OK)
    }


def test_the_wheel_has_our_packages_and_no_more(packages: Packages) -> None:
    builds = builder("packages")
    folders = ("wws/", "agent_cli/", "bootstrap_node/", "dns/wws_dns/")
    sources = {path.as_posix() for path in builds.source_files() if path.as_posix().startswith(folders)}
    with zipfile.ZipFile(packages.wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith(DIST_INFO)}
        metadata = message_from_bytes(archive.read(f"{DIST_INFO}/METADATA"))
        programs = archive.read(f"{DIST_INFO}/entry_points.txt").decode()
        kind = archive.read(f"{DIST_INFO}/WHEEL").decode()
        licence = archive.read(f"{DIST_INFO}/licenses/LICENSE").decode()
    assert names == {name.removeprefix("dns/") for name in sources} | {"wws/stamp.json"}
    assert "Root-Is-Purelib: true" in kind
    assert "Tag: py3-none-any" in kind
    assert licence == (REPOSITORY / "LICENSE").read_text()
    assert (metadata["Name"], metadata["Version"]) == ("wws", VERSION)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == {"agent", "operator"}
    for program in ("wws", "wws-connector", "wws-bootstrap", "wws-control", "wws-dns", "wws-ops"):
        assert f"\n{program} = " in programs


def test_the_stamp_is_in_both_and_not_in_the_sources(packages: Packages) -> None:
    with zipfile.ZipFile(packages.wheel) as wheel, tarfile.open(packages.sdist) as sdist:
        in_sdist = sdist.extractfile(f"{TOP}/wws/stamp.json")
        assert in_sdist is not None
        assert in_sdist.read() == wheel.read("wws/stamp.json") == packages.stamp.read_bytes()
        assert f'__version__ = "{VERSION}"' in wheel.read("wws/__init__.py").decode()
    assert not (REPOSITORY / "wws" / "stamp.json").exists()
    assert VERSION not in (REPOSITORY / "wws" / "__init__.py").read_text()


@pytest.mark.parametrize(
    "arguments, stamp, why",
    [
        (["--version", "1.2-rc.1"], None, "is no version"),
        (["--version", "v1.2.3"], None, "is no version"),
        (["--version", "1.2.3"], STAMP, f"is for version {VERSION}, not 1.2.3"),
        ([], {**STAMP, "schema": 2}, "not one that can be shipped"),
        ([], {**STAMP, "root": "ssh-ed25519"}, "not one that can be shipped"),
        ([], {**STAMP, "roots": ["ssh-rsa AAAA"]}, "not one that can be shipped"),
        ([], [], "is no stamp"),
        (["--stamp", "missing.json"], None, "cannot be read"),
    ],
)
def test_what_cannot_be_built_is_told_and_leaves_nothing(
    arguments: list[str], stamp: object, why: str, tmp_path: Path
) -> None:
    if stamp is not None:
        (tmp_path / "stamp.json").write_text(json.dumps(stamp))
        arguments = [*arguments, "--stamp", str(tmp_path / "stamp.json")]
    made = build(REPOSITORY, tmp_path / "out", *arguments)
    assert made.returncode == 1
    assert made.stderr.startswith("packages.py: ")
    assert why in made.stderr
    assert not (tmp_path / "out").exists()


def test_a_link_among_the_sources_is_refused(packages: Packages, tmp_path: Path) -> None:
    checkout = unpacked(packages.sdist, tmp_path)
    (checkout / "wws" / "linked.py").symlink_to(checkout / "wws" / "ids.py")
    made = build(checkout, tmp_path / "out")
    assert made.returncode == 1
    assert "wws/linked.py is a link" in made.stderr


def test_what_git_ignores_is_not_shipped(packages: Packages, tmp_path: Path) -> None:
    """A key that lies in a checkout stays there."""
    checkout = unpacked(packages.sdist, tmp_path)
    (checkout / "bootstrap-identity.key").write_bytes(bytes(32))
    subprocess.run(["git", "init", "--quiet", str(checkout)], check=True)
    made = build(checkout, tmp_path / "out")
    assert made.returncode == 0, made.stderr
    with tarfile.open(tmp_path / "out" / packages.sdist.name) as archive:
        assert not [name for name in archive.getnames() if name.endswith((".key", "/.git"))]
    shutil.rmtree(checkout / ".git")
