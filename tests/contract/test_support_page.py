"""`docs/support.md` promises what the installer, the package and the workflows do, and nothing else."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "support.md").read_text()
INSTALLER = (REPOSITORY / "install.sh").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def workflow(name: str) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((REPOSITORY / ".github" / "workflows" / name).read_text())
    return value


BUILDS = {
    f"{system.lower()}-{processor.split()[0]}"
    for system, processor, *_ in rows(section("The self-contained build"))
    if system in {"Linux", "macOS"}
}


def test_each_build_of_the_page_is_installed_and_no_other() -> None:
    assert set(re.findall(r"\bplatform=(\w+-\w+)", INSTALLER)) == BUILDS


def test_each_build_of_the_page_is_released_and_no_other() -> None:
    assert set(workflow("release.yml")["jobs"]["artefact"]["strategy"]["matrix"]["platform"]) == BUILDS


def test_the_floor_is_that_of_the_releases() -> None:
    stamps = (REPOSITORY / "scripts" / "release" / "stamps.sh").read_text()
    builder = (REPOSITORY / "packaging" / "frozen" / "old-glibc.sh").read_text()
    [floor] = re.findall(r"^GLIBC=([\d.]+)$", stamps, re.MULTILINE)
    assert re.findall(r"^GLIBC=([\d.]+)$", builder, re.MULTILINE) == [floor]
    assert set(re.findall(r"glibc (\d\.\d+) or newer", PAGE)) == {floor}
    of_distributions = re.findall(r"^\| [\w., ]+ \| (\d\.\d+) \|", PAGE, re.MULTILINE)
    assert len(of_distributions) >= 4
    assert min(float(version) for version in of_distributions) == float(floor)


def test_what_is_refused_is_said_and_refused() -> None:
    assert "**musl**" in PAGE
    assert "*musl*) no_glibc" in INSTALLER
    for shell in ("MINGW", "MSYS", "CYGWIN"):
        assert re.search(rf"{shell}\*.*WSL", INSTALLER), shell
    assert re.search(r"^\| Windows \|.*WSL", PAGE, re.MULTILINE)


def test_each_python_of_the_page_is_declared_and_checked() -> None:
    [said] = re.findall(r"^Python ([\d., and]+), on Linux and macOS", section("The wheel"), re.MULTILINE)
    pythons = re.findall(r"3\.\d+", said)
    declared = [
        found[1]
        for classifier in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier))
    ]
    assert pythons == declared
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert set(workflow("ci.yml")["jobs"]["check"]["strategy"]["matrix"]["python"]) == set(pythons)


def test_hosts_of_the_page_are_those_that_the_playbooks_take() -> None:
    preflight = (REPOSITORY / "ansible/roles/common/tasks/preflight.yml").read_text()
    [listed] = re.findall(r"common_seen\.system in \[(.*?)\]", preflight)
    for host in re.findall(r"'([^']+)'", listed):
        assert re.search(rf"^\| {host} \|", PAGE, re.MULTILINE), host


@pytest.mark.parametrize("document", ["SECURITY.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_for_contributors_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (REPOSITORY / document).read_text()):
        assert (REPOSITORY / target).exists(), target


def test_the_commands_for_contributors_are_targets_of_make() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text() + (REPOSITORY / "SECURITY.md").read_text()
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", text))
    assert {"check", "test"} <= named
    listed = subprocess.run(
        ["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"^ +make ([a-z-]+)", listed, re.MULTILINE))
    words = {"up", "a", "it", "you"}  # of sentences
    assert named - words <= targets | {"lock"}


def test_a_weakness_is_reported_where_only_maintainers_read() -> None:
    """No address of anybody is made up."""
    text = (REPOSITORY / "SECURITY.md").read_text()
    assert "private vulnerability reporting" in text
    assert not re.search(r"[\w.]+@[\w-]+\.\w+|https?://", text)
