"""docs/install.md, as alice types it, with the real artefact; and that its table has every message."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.artefact.built import artefact
from tests.e2e.walkthrough import blocks_of
from tests.installer.machine import listing
from tests.installer.releases import INSTALLER, Releases
from tests.installer.server import Server
from tests.release_signing import Signer
from wws.testing.scale import scale_factor

PAGE = Path(__file__).parents[2] / "docs" / "install.md"
WITHIN = 100


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """1.2.2, a stand-in."""
    made = Releases(tmp_path / "releases")
    made.publish("1.2.2")
    return made


@pytest.fixture
def built(releases: Releases, server: Server) -> Releases:
    """And 1.2.3, which is real: it updates, verifies and goes back by itself."""
    stamp = {"schema": 1, "version": "1.2.3", "commit": None, "releases": None, "network": None}
    archive = artefact({**stamp, "roots": [releases.signer.root_text]})
    releases.publish_built(archive, "1.2.3", server.url)
    return releases


@pytest.mark.timeout(400)  # it may have to build the artefact
def test_every_command(built: Releases, server: Server, authority_file: Path, tmp_path: Path) -> None:
    home = tmp_path / "alice"
    home.mkdir()
    stick = tmp_path / "stick"
    shutil.copytree(built.release("1.2.3"), stick)
    shutil.copy(stick / "install.sh", built.channel())
    words = {
        "<releases>": server.url,
        "<root key>": built.signer.root_text,
        "<stick>": str(stick),
    }
    ran = 0
    for block in blocks_of(PAGE):
        for command, shown in block.commands():
            if "stick" in command and scale_factor() < 1:
                continue  # two more installations of the whole; with a stand-in others do the same
            said = typed(command, words, home, authority_file)
            for line in shown:
                assert plain(line) in plain(said), f"{command}\nshould say: {line}\nsaid: {said}"
            ran += 1
    assert ran > 10
    assert listing(home / ".local") == {}


def typed(command: str, words: dict[str, str], home: Path, authority: Path) -> str:
    for word, value in words.items():
        command = command.replace(word, value)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=home,
        env={
            "HOME": str(home),
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "CURL_CA_BUNDLE": str(authority),
            "TMPDIR": str(home.parent),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",  # the stand-in shows a real key
        timeout=WITHIN,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def plain(text: str) -> str:
    return " ".join(text.split())


def test_the_table_has_every_message() -> None:
    """Each thing that the installer fails with is explained."""
    explained = PAGE.read_text().partition("## When it does not work")[2]
    messages = [
        plain(part.strip("… "))
        for cell in re.findall(r"^\| (`.*?`(?:, `.*?`)*) \|", explained, re.MULTILINE)
        for quoted in re.findall(r"`(.*?)`", cell)
        for part in re.split(r"…|\d\.\d\.\d", quoted)
        if len(part.strip("… ")) > 3
    ]
    script = plain(re.sub(r"\$\{?[a-z_]+\}?|\$\d", "…", INSTALLER.read_text()))
    assert len(messages) > 20
    for message in messages:
        assert message in script, f"install.sh does not say: {message}"


def test_every_message_is_explained() -> None:
    """The other way round. What starts like another message is explained with it."""
    explained = plain(PAGE.read_text().partition("## When it does not work")[2])
    failures = re.findall(r'(?:fail \d+|refuse|no_glibc) "([^"]{12,})"', INSTALLER.read_text())
    failures = [failure for failure in failures if not failure.startswith("$1, and releases need")]
    assert len(failures) > 40
    for failure in failures:
        parts = re.split(r"\$\([^)]*\)|\$\{[^}]*\}|\$[a-zA-Z_]+|\$\d|[.:;(]", failure)
        openings = [" ".join(part.strip(" ,").split()[:3]) for part in parts if len(part.split()) > 1]
        assert any(opening in explained for opening in openings), failure


def test_options_are_those_of_the_help() -> None:
    usage = INSTALLER.read_text().partition("<<'END'\n")[2].partition("\nEND\n")[0]
    page = PAGE.read_text()
    for option in re.findall(r"^  (--[a-z-]+)", usage, re.MULTILINE):
        assert f"`{option}" in page


def test_signers_of_the_tests_are_stable() -> None:
    """The artefact is built once for a stamp: it must not be another one in each run."""
    assert Signer().root_text == Signer().root_text
