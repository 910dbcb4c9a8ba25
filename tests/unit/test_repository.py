"""What the repository itself promises: names that shadow nothing, locked hashes, no trace of a machine."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]

SHADOWING = {"cloudflare.py", "dns.py", "fabric.py", "pulumi.py", "typer.py"}
"""Modules with these names would hide the libraries of the same name, in a folder that is put on sys.path."""
ON_THE_PATH = {".", "dns", "infra"}
"""The folders that are; what lies in a package below them is called by its whole name."""

LOCK_FILES = {"npm-shrinkwrap.json", "package-lock.json", "pylock.toml"}
"""Lock files that can do without download addresses, and then are welcome."""

LOCK_FILES_WITH_ADDRESSES = {
    "Pipfile.lock",
    "pdm.lock",
    "pnpm-lock.yaml",
    "poetry.lock",
    "uv.lock",
    "yarn.lock",
}

DOWNLOAD_ADDRESS = re.compile(r'"resolved"\s*:|https?://[^\s"]+\.(?:tgz|whl|zip|tar\.\w+)')

# Spelled in pieces, or this file would be its own first finding.
REGISTRY_HOSTS = re.compile(
    "|".join(
        re.escape(host)
        for host in (
            "pypi" + ".org",
            "files." + "pythonhosted",
            "registry.npm" + "js",
            "registry.yarn" + "pkg",
            "proxy.golang" + ".org",
            "sum.golang" + ".org",
            "crates" + ".io",
        )
    )
)
MACHINE_PATHS = re.compile(
    r"(?<![\w.$}~-])/(?:ro" + r"ot|ho" + r"me/[a-z]\w*|Use" + r"rs/\w+|wo" + r"rk)/[\w.]"
)


def _tracked() -> list[PurePosixPath]:
    answer = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if answer.returncode != 0:
        pytest.skip("not a git checkout")
    names = (PurePosixPath(name) for name in answer.stdout.decode().split("\0") if name)
    return [name for name in names if (ROOT / name).is_file()]


def _texts() -> Iterator[tuple[PurePosixPath, str]]:
    for name in _tracked():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:8192]:
            yield name, data.decode("utf-8", "replace")


def _findings(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in _texts()
        if pattern.search(text)
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_module_shadows_a_library() -> None:
    on_the_path = [name for name in _tracked() if str(name.parent) in ON_THE_PATH]
    assert [str(name) for name in on_the_path if name.name in SHADOWING] == []


def test_dns_is_no_package() -> None:
    assert [str(name) for name in _tracked() if name.parts[:2] == ("tests", "dns")] == []
    assert not (ROOT / "dns" / "__init__.py").exists(), "`dns` is dnspython's import name"


def test_no_lock_file_records_download_addresses() -> None:
    assert [str(name) for name in _tracked() if name.name in LOCK_FILES_WITH_ADDRESSES] == []
    locks = [name for name in _tracked() if name.name in LOCK_FILES]
    assert [str(name) for name in locks if DOWNLOAD_ADDRESS.search((ROOT / name).read_text())] == []


def test_no_registry_host_is_written_down() -> None:
    assert _findings(REGISTRY_HOSTS) == []


def test_no_path_of_a_machine_is_written_down() -> None:
    assert _findings(MACHINE_PATHS) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cd /ro" + "ot/project", True),
        ('"/ho' + 'me/alice/x"', True),
        ("see /wo" + "rk/main", True),
        ("$HO" + "ME/wo" + "rk/x", False),
        ("https://example.net/wo" + "rk/x", False),
        ("~/.wws/identity", False),
    ],
)
def test_the_pattern_for_machine_paths(line: str, found: bool) -> None:
    assert bool(MACHINE_PATHS.search(line)) is found


@pytest.mark.parametrize("name", ["runtime", "agent", "dev"])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    joined = text.replace("\\\n", " ").splitlines()
    lines = [line for line in joined if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) > 10
    for line in lines:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+ ", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line
    assert "://" not in text


def test_the_smaller_requirement_sets_are_parts_of_the_tested_one() -> None:
    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        return set(re.findall(r"^[A-Za-z0-9._-]+==[^ ;\\]+", text, flags=re.MULTILINE))

    assert pins("runtime") < pins("agent") < pins("dev")
