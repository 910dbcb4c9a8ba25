"""The self-contained artefact: what is in it, who it is, and that all of it is there."""

from __future__ import annotations

import importlib
import importlib.util
import re
import stat
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.artefact.built import REPOSITORY, build, unpack
from tests.artefact.built import artefact as archive_of
from tests.artefact.conftest import Artefact
from tests.full_scale import only_in_full
from wws import __version__
from wws.programs import PROGRAMS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # the first one builds

OWN = ("wws", "agent_cli", "bootstrap_node")
LEFT_OUT = ("agent_cli.ops", "agent_cli.remote")
"""An operator's tools, which need more than an agent has."""
LOADED_BY_NAME = (
    *("_cffi_backend", "aioquic.quic.connection", "cryptography.hazmat.bindings._rust", "nacl.bindings"),
    *("dns.rdtypes.ANY.TXT", "dns.rdtypes.IN.SVCB", "dns.rdtypes.svcbbase"),
    *("anyio._backends._asyncio", "certifi", "h2.connection", "httpx2", "rich.table", "typer", "uvloop"),
    *("pydantic.deprecated.decorator", "pydantic_settings", "prometheus_client.exposition", "encodings.idna"),
    *("encodings.latin_1", "encodings.punycode", "sqlite3", "ssl", "zoneinfo"),
)
"""What nothing imports where it could be seen, or what would be missed at a bad time."""
MAX_DOWNLOAD = 40_000_000
STAMP = {"schema": 1, "version": "9.8.7", "commit": None, "releases": None, "roots": [], "network": None}


def own_modules() -> list[str]:
    names = []
    for package in OWN:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in names if not name.startswith(LEFT_OUT) and not name.endswith("__main__")]


def test_every_module_of_ours_and_what_is_loaded_by_name_can_be_imported(artefact: Artefact) -> None:
    names = [*own_modules(), *LOADED_BY_NAME]
    done = artefact.run("wws", "--run-module", "wws.testing.importing", given="\n".join(names))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    # And it does tell when something is missing.
    done = artefact.run("wws", "--run-module", "wws.testing.importing", given="wws agent_cli.ops tkinter")
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["agent_cli.ops", "tkinter"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_is_what_it_is_called_by(artefact: Artefact, tmp_path: Path, program: str) -> None:
    said = f"{program} {__version__}\n"
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / program
    link.symlink_to(artefact.program(program))
    other = tmp_path / "elsewhere" / "other-name"
    other.symlink_to(link)
    # An environment that would lead another Python astray.
    (tmp_path / "wws.py").write_text("raise SystemExit('the wrong wws')")
    astray = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "wws.py"),
    }
    for called in (artefact.program(program), str(link), str(other)):
        done = subprocess.run(
            [called, "--version"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**artefact.env, **astray},
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, said, ""), called


def test_no_other_modules_are_run(artefact: Artefact) -> None:
    done = artefact.run("wws", "--run-module", "http.server", "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "wws: no module of ours: http.server\n"


def test_the_archive_has_its_form() -> None:
    archive = archive_of()
    assert archive.stat().st_size <= MAX_DOWNLOAD
    with tarfile.open(archive) as tar:
        entries = tar.getmembers()
        top = f"wws-{__version__}"
        listed = tar.extractfile(f"{top}/MANIFEST")
        assert listed is not None
        manifest = listed.read()
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names)
    assert names[0] == top
    for entry in entries:
        assert entry.isreg() or entry.isdir(), f"{entry.name} is a link"
        assert entry.mode in {0o755, 0o644}
        assert (entry.uid, entry.gid, entry.uname) == (0, 0, "root")
        assert entry.name == top or entry.name.startswith(f"{top}/")
    files = sorted(entry.name.removeprefix(f"{top}/") for entry in entries if entry.isreg())
    assert {f"bin/{program}" for program in PROGRAMS} <= set(files)
    listed_files = [line.partition("  ")[2] for line in manifest.decode("ascii").splitlines()]
    assert sorted([*listed_files, "MANIFEST"]) == files
    beside = archive.with_name(archive.name.removesuffix(".tar.gz") + ".MANIFEST")
    assert beside.read_bytes() == manifest
    for unwanted in (
        "tkinter",
        "test/",
        "unittest",
        "pytest",
        "ansible",
        "agent_cli/ops",
        "wws_dns",
        "stamp.json",
    ):
        assert not [name for name in files if f"/{unwanted}" in name], unwanted


def test_files_say_nothing_of_the_machine_that_made_them(artefact: Artefact) -> None:
    said = str(REPOSITORY).encode()
    for path in artefact.top.rglob("*.pyc"):
        assert said not in path.read_bytes(), path


def test_the_manifest_is_for_sha256sum(artefact: Artefact) -> None:
    checked = ["sha256sum", "--check", "--quiet", "--strict", "MANIFEST"]
    subprocess.run(checked, cwd=artefact.top, check=True)
    modes = {stat.S_IMODE((artefact.top / "bin" / program).stat().st_mode) for program in PROGRAMS}
    assert modes == {0o755}


def test_another_version_and_stamp_are_put_in_afterwards(tmp_path: Path) -> None:
    archive = archive_of(STAMP)
    assert archive.name.startswith("wws-9.8.7-")
    unpack(archive, tmp_path)
    top = tmp_path / "wws-9.8.7"
    assert (top / "VERSION").read_text() == "9.8.7\n"
    done = subprocess.run([top / "bin" / "wws", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "wws 9.8.7\n"
    assert (top / "bin" / "lib" / "wws" / "stamp.json").read_bytes()


@only_in_full
def test_the_same_sources_make_the_same_bits(tmp_path: Path) -> None:
    one, two = (build(tmp_path / name, "--version", "9.8.7", "--compression", "1") for name in "ab")
    assert one["sha256"] == two["sha256"]
    assert one["glibc"] == two["glibc"]
    if one["glibc"] is None:
        return
    needed = tmp_path / "needed"
    unpack(Path(str(one["archive"])), needed)
    shown = subprocess.run(
        ["readelf", "--version-info", "--wide", needed / "wws-9.8.7" / str(one["glibc_needed_by"])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Name: GLIBC_{one['glibc']} " in shown.stdout


@only_in_full
def test_what_cannot_be_a_release_is_refused(tmp_path: Path) -> None:
    kept = ("--frozen", str(archive_of().parents[2] / "frozen"))
    malformed = tmp_path / "stamp.json"
    for options, reason in (
        (("--version", "../1"), "is no version"),
        (("--stamp", str(malformed), "--version", "1.2.3"), "is not JSON"),
        (("--glibc-floor", "2.3"), "no newer one than 2.3 may be needed"),
    ):
        malformed.write_text("{")
        with pytest.raises(RuntimeError, match=reason):
            build(tmp_path / "out", *options, *kept)
    malformed.write_text('{"version": "1.2.4"}')
    with pytest.raises(RuntimeError, match="not that of version"):
        build(tmp_path / "out", "--stamp", str(malformed), "--version", "1.2.3", *kept)
    assert not list((tmp_path / "out").glob("*"))


def test_links_become_what_they_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyInstaller leaves them on macOS, where Python is a framework."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "packaging"))
    builder = importlib.import_module("selfcontained")
    made = tmp_path / "wws"
    framework = made / "lib" / "Python.framework" / "Versions"
    (framework / "3.11").mkdir(parents=True)
    (framework / "3.11" / "Python").write_text("the library")
    (framework / "Current").symlink_to("3.11")
    (made / "lib" / "Python").symlink_to("Python.framework/Versions/Current/Python")
    builder._tidy(made)
    assert not [path for path in made.rglob("*") if path.is_symlink()]
    assert (made / "lib" / "Python").read_text() == "the library"

    (made / "lib" / "astray").symlink_to("/etc/passwd")
    with pytest.raises(builder.BuildFailed, match="is a link to /etc/passwd"):
        builder._tidy(made)


def start_program() -> ModuleType:
    """packaging/frozen/start.py, which no package has."""
    path = REPOSITORY / "packaging" / "frozen" / "start.py"
    spec = importlib.util.spec_from_file_location("wws_start", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "before, after",
    [
        ({}, {}),
        ({"LD_LIBRARY_PATH": "/b/lib"}, {}),
        (
            {"LD_LIBRARY_PATH": "/b/lib:/usr/x", "LD_LIBRARY_PATH_ORIG": "/usr/x"},
            {"LD_LIBRARY_PATH": "/usr/x"},
        ),
        ({"LD_LIBRARY_PATH": "/usr/x"}, {"LD_LIBRARY_PATH": "/usr/x"}),
        ({"DYLD_LIBRARY_PATH": "/b/lib"}, {}),
    ],
)
def test_what_it_starts_looks_for_libraries_where_it_always_does(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, str], after: dict[str, str]
) -> None:
    start = start_program()
    environment = dict(before)
    monkeypatch.setattr(start.os, "environ", environment)
    monkeypatch.setattr(start.sys, "_MEIPASS", "/b/lib", raising=False)
    start.restore_library_path()
    assert environment == after


def test_the_two_lists_of_programs_are_one() -> None:
    start = start_program()
    modules = {name: re.sub(r"\.(app|__main__)$", "", module) for name, module in start.PROGRAMS.items()}
    assert modules == PROGRAMS
    assert start.RUN_MODULE == "--run-module"
