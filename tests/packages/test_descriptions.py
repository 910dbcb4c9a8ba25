"""What describes a release: `release.json`, the SBOM, and the lock files that it is read from."""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.packages.environments import REPOSITORY, REQUIREMENTS, builder, run

locked = builder("locked")


def packaging(program: str, *arguments: str, **variables: str) -> str:
    """Run a program of packaging/; what it said. Fails unless it succeeds, without a warning."""
    done = run(sys.executable, f"packaging/{program}.py", *arguments, cwd=REPOSITORY, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def archive(path: Path, **files: bytes) -> Path:
    """An artefact with these files in its `bin/lib`."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"wws-1.2.3/bin/lib/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    archive(folder / "wws-1.2.3-linux-x86_64.tar.gz", program=Path(sys.executable).resolve().read_bytes())
    archive(folder / "wws-1.2.3-macos-aarch64.tar.gz", program=b"\xcf\xfa\xed\xfe")
    for other in ("wws-1.2.3.tar.gz", "wws-1.2.2-linux-x86_64.tar.gz", "wws-1.2.3-py3-none-any.whl"):
        (folder / other).write_bytes(b"")
    (tmp_path / "stamp.json").write_text(json.dumps({"schema": 1, "version": "1.2.3", "commit": "0123abc"}))
    return folder


def test_release_json_says_for_which_machines(files: Path) -> None:
    out = files / "release.json"
    stamp = str(files.parent / "stamp.json")
    common = ["--files", str(files), "--version", "1.2.3", "--out", str(out), "--stamp", stamp]
    packaging("release_json", *common, SOURCE_DATE_EPOCH="1700000000")
    text = out.read_text("ascii")
    assert text.count("\n") == 1
    found: dict[str, Any] = json.loads(text)
    assert list(found) == ["schema", "version", "commit", "published_at", "artefacts"]
    assert (found["schema"], found["version"], found["commit"]) == (1, "1.2.3", "0123abc")
    assert found["published_at"] == "2023-11-14T22:13:20Z"
    linux, macos = found["artefacts"]
    assert list(linux) == ["file", "os", "arch", "libc", "libc_min", "size", "sha256"]
    assert linux["file"] == "wws-1.2.3-linux-x86_64.tar.gz"
    assert (linux["os"], linux["arch"], linux["libc"]) == ("linux", "x86_64", "glibc")
    assert re.fullmatch(r"2\.[0-9]+(\.[0-9]+)?", linux["libc_min"])
    assert linux["size"] == (files / linux["file"]).stat().st_size
    assert linux["sha256"] == builder("packages").sha256(files / linux["file"])
    assert (macos["os"], macos["arch"], macos["libc"], macos["libc_min"]) == ("macos", "aarch64", None, None)


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["--version", "1.2.4"], "has no artefact of version 1.2.4"),
        (["--version", "1.2.2", "--stamp", "stamp.json"], "is not the stamp of version 1.2.2"),
        (["--version", "1.2.3", "--commit", "HEAD"], "is no commit"),
        (["--version", "1.2.3", "--published-at", "yesterday"], "is no time"),
    ],
)
def test_what_release_json_cannot_say_is_not_written(files: Path, arguments: list[str], why: str) -> None:
    program = str(REPOSITORY / "packaging" / "release_json.py")
    out = files.parent / "release.json"
    common = ["--files", str(files), "--out", str(out)]
    done = run(sys.executable, program, *common, *arguments, cwd=files.parent)
    assert done.returncode == 1
    assert why in done.stderr
    assert not out.exists()


def test_the_sbom_has_what_is_locked_and_what_is_inside(tmp_path: Path) -> None:
    python = archive(
        tmp_path / "wws-1.2.3-linux-x86_64.tar.gz",
        **{"libpython3.13.so.1.0": b"\x003.13.9 (main)\x00", "libz.so.1": b"zlib", "notes.txt": b""},
    )
    out = tmp_path / "wws-1.2.3.cdx.json"
    arguments = ("--version", "1.2.3", "--out", str(out), "--artefact", str(python))
    packaging("sbom", *arguments, PYTHONHASHSEED="5")
    text = out.read_text("ascii")
    sbom: dict[str, Any] = json.loads(text)
    ours = sbom["metadata"]["component"]
    assert (ours["name"], ours["version"], ours["purl"]) == ("wws", "1.2.3", "pkg:pypi/wws@1.2.3")
    entries = [
        entry
        for entry in locked.read(REQUIREMENTS / "agent.txt")
        if entry.marker is None or not entry.marker.endswith(("== 'emscripten'", "== 'win32'"))
    ]
    libraries = {each["name"]: each for each in sbom["components"] if each["type"] == "library"}
    assert set(libraries) == {entry.name for entry in entries}
    for entry in entries:
        [files] = libraries[entry.name]["externalReferences"]
        assert libraries[entry.name]["version"] == entry.version
        assert {each["content"] for each in files["hashes"]} == set(entry.hashes)
    assert {each["name"] for each in sbom["components"] if each["type"] == "file"} == {
        "bin/lib/libpython3.13.so.1.0",
        "bin/lib/libz.so.1",
    }
    [cpython] = [each for each in sbom["components"] if each["type"] == "platform"]
    assert (cpython["name"], cpython["version"]) == ("cpython", "3.13.9")
    needs = {each["ref"]: each["dependsOn"] for each in sbom["dependencies"]}
    assert f"pkg:pypi/aioquic@{libraries['aioquic']['version']}" in needs[ours["bom-ref"]]
    assert f"pkg:pypi/cffi@{libraries['cffi']['version']}" in needs[libraries["cryptography"]["bom-ref"]]
    reached, left = set[str](), {ours["bom-ref"]}
    while left:
        reached |= left
        left = {ref for each in left for ref in needs[each]} - reached
    assert reached == {ours["bom-ref"], *(each["bom-ref"] for each in libraries.values())}

    sbom_program = builder("sbom")
    assert sbom_program.make("1.2.3", [python]) == text
    assert json.loads(sbom_program.make("1.2.4", [python]))["serialNumber"] != sbom["serialNumber"]


def test_a_list_that_does_not_fit_the_schema_is_not_written() -> None:
    program = builder("sbom")
    with pytest.raises(program.SbomFailed, match="does not fit the schema"):
        program._check('{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": "one"}')


@pytest.mark.parametrize("name", ["agent", "operator", "runtime", "dev"])
def test_every_lock_file_is_read_whole(name: str) -> None:
    file = REQUIREMENTS / f"{name}.txt"
    entries = locked.read(file)
    assert "".join(entry.text for entry in entries) in file.read_text()
    assert sum(len(entry.hashes) for entry in entries) == file.read_text().count("--hash=sha256:")
    assert len({(entry.name, entry.version) for entry in entries}) == len(entries)


@pytest.mark.parametrize(
    "text, why",
    [
        ("wws>=1\n", "is not pinned"),
        ("wws==1\n", "has no hash"),
        ("wws==1 \\\n    --hash=md5:00\n", "has no hash"),
        (f"wws==1 \\\n    --hash=sha256:{'0' * 64}\n    surprise\n", "lines that nobody knows"),
        (f"    --hash=sha256:{'0' * 64}\n", "belongs to no entry"),
        ("-e .\n", "is not pinned"),
        ("--index-url=somewhere\n", "is not pinned"),
    ],
)
def test_what_make_lock_has_not_written_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "some.txt").write_text(text)
    with pytest.raises(locked.NotLocked, match=why):
        locked.read(tmp_path / "some.txt")
