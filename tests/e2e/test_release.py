"""The archive that hosts run: the same sources make the same bits, and it needs only Python of a machine."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.lab.releases import REPOSITORY

VERSION = "9.8.7"


def test_a_python_that_is_not_here_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "packaging"))
    release = importlib.import_module("release")
    monkeypatch.setenv("PATH", str(tmp_path))  # neither uv nor another Python
    ours = "{}.{}".format(*sys.version_info)
    assert release._interpreters([ours, "3.99"]) == {ours: sys.executable}
    said = capsys.readouterr().err
    assert "no Python 3.99 here" in said
    assert "uncompiled" in said


def test_the_sum_lies_beside_the_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "packaging"))
    release = importlib.import_module("release")
    top = tmp_path / f"wws-{VERSION}"
    top.mkdir()
    (top / "VERSION").write_text(f"{VERSION}\n")
    built = release.pack(top, tmp_path / "out" / "wws.tar.gz")
    assert (tmp_path / "out" / "wws.tar.gz.sha256").read_text() == f"{built.sha256}  wws.tar.gz\n"
    checked = ["sha256sum", "--check", "--quiet", "--strict", "wws.tar.gz.sha256"]
    subprocess.run(checked, cwd=tmp_path / "out", check=True)
    assert len(list((tmp_path / "out").iterdir())) == 2


def build(out: Path) -> tuple[Path, str]:
    python = "{}.{}".format(*sys.version_info)
    command = [sys.executable, "packaging/release.py", "--out", str(out), "--version", VERSION]
    done = subprocess.run(
        [*command, "--python", python, "--arch", "x86_64"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path, digest = done.stdout.split()
    return Path(path), digest


@pytest.mark.slow
def test_a_release_is_made_twice_alike_and_runs_by_itself(tmp_path: Path) -> None:
    first, digest = build(tmp_path / "first")
    second, again = build(tmp_path / "second")
    assert digest == again
    assert first.read_bytes() == second.read_bytes()
    assert first.name == f"wws-{VERSION}-linux-x86_64.tar.gz"

    with tarfile.open(first) as tar:
        for entry in tar:
            assert (entry.uid, entry.gid, entry.uname) == (0, 0, "root")
            assert entry.isreg() or entry.isdir()
            assert entry.mode in {0o644, 0o755}
        assert not [name for name in tar.getnames() if "/wws/testing" in name]
        tar.extractall(tmp_path, filter="data")
    top = tmp_path / f"wws-{VERSION}"
    assert (top / "VERSION").read_text() == f"{VERSION}\n"
    listed = subprocess.run(
        ["sha256sum", "--check", "--quiet", "--strict", "MANIFEST"], cwd=top, capture_output=True, check=False
    )
    assert listed.returncode == 0, listed.stdout

    # Through a link, as on a host, and with an environment that would lead others astray.
    (tmp_path / "current").symlink_to(top.name)
    (tmp_path / "wws.py").write_text("raise SystemExit('the wrong wws')")
    for program in ("wws-bootstrap", "wws-connector", "wws-control"):
        said = subprocess.run(
            [tmp_path / "current" / "bin" / program, "--version"],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.stdout.strip() == f"{program} {VERSION}", said.stderr

    lonely = subprocess.run(
        [top / "bin" / "wws-control"],
        env={"PATH": str(_without_python(tmp_path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (lonely.returncode, "no libraries for a Python of this host" in lonely.stderr) == (10, True)


def _without_python(folder: Path) -> Path:
    """Programs that the launcher needs, and no Python among them."""
    made = folder / "bin"
    made.mkdir()
    for tool in ("dirname", "readlink", "sh"):
        (made / tool).symlink_to(f"/usr/bin/{tool}")
    return made
