"""`docs/releases.md` shows what works: its commands are run with the tools they name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_cli.app import COMMANDS
from tests.prerequisites import require
from tests.release_signing import DAY, SIGN_SCRIPT, Signer, public
from wws.identity.keys import Identity
from wws.release.release_keys import ReleaseKeys

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "releases.md").read_text()
STRANGER = Identity.from_label("stranger")
TOOLS = ("ssh-keygen", "openssl", "minisign")


def blocks(name: str) -> list[str]:
    """The blocks of this name, in their order."""
    return re.findall(rf"<!-- run: {name} -->\n```sh\n(.*?)```", PAGE, re.DOTALL)


def run(block: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a block as it stands, in this folder; only where our script lies is filled in."""
    return subprocess.run(
        ["sh", "-eu", "-c", block.replace("packaging/sign.py", str(SIGN_SCRIPT))],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_block_is_run_or_is_for_people_to_fill_in() -> None:
    shown = re.findall(r"(?:<!-- run: (\S+) -->\n)?```(\w+)\n(.*?)```", PAGE, re.DOTALL)
    assert {name for name, kind, _ in shown if kind == "sh" and name} == {
        *TOOLS,
        "fresh",
        "files",
        "check",
        "ceremony",
    }
    others = [text for name, kind, text in shown if kind == "sh" and not name]
    commands = ["wws self verify", "wws self verify", "gh attestation verify"]
    assert [" ".join(text.split()[:3]) for text in others] == commands


def test_the_commands_of_the_page_are_there() -> None:
    named = set(re.findall(r"`wws self (\w+)", PAGE))
    assert named <= set(COMMANDS["self"].subcommands)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "wws-1.2.3-linux-x86_64.tar.gz").write_bytes(b"archive")
    (folder / "install.sh").write_bytes(b"#!/bin/sh\n")
    Signer().sign_folder(folder)
    return folder


def verified(folder: Path, tool: str, *, root: str = "", version: str = "1.2.3") -> bool:
    """Whether a reader who types the blocks of this tool, in their order, gets to the end."""
    given = {"ROOT": root or Signer().root_text, "VERSION": version}
    names = [tool] if tool == "check" else ["fresh", tool, "files"]
    return all(run(block, folder, **given).returncode == 0 for name in names for block in blocks(name))


@pytest.mark.parametrize("tool", [*TOOLS, "check"])
def test_by_hand(release: Path, tool: str) -> None:
    if tool in TOOLS:
        require("openssl>=3" if tool == "openssl" else tool)
    signer = Signer()
    assert verified(release, tool)
    assert not verified(release, tool, version="1.2.4")
    assert not verified(release, tool, root=str(public(STRANGER)))
    (release / "install.sh").write_bytes(b"#!/bin/bash\n")
    assert not verified(release, tool)
    (release / "install.sh").write_bytes(b"#!/bin/sh\n")
    signer.sums(release, by=STRANGER)
    assert not verified(release, tool)
    signer.sums(release)
    signer.release_keys(release, by=STRANGER)
    assert not verified(release, tool)
    signer.release_keys(release, now=time.time() - 400 * DAY)
    assert not verified(release, tool)
    signer.release_keys(release)
    assert verified(release, tool)


@pytest.mark.parametrize("tool", ["check", *TOOLS])
def test_by_hand_a_revoked_key_does_not_count(release: Path, tool: str) -> None:
    if tool in TOOLS:
        require("openssl>=3" if tool == "openssl" else tool)
    signer = Signer()
    old, new = public(signer.release), public(STRANGER)
    # Also as the list is where a key that was revoked has not been taken out.
    for keys in ([old], [old, new], [new, old]):
        signer.release_keys(release, keys=keys, revoked=[old])
        assert not verified(release, tool), keys
    signer.sums(release, by=STRANGER)
    for keys in ([old, new], [new, old]):
        signer.release_keys(release, keys=keys, revoked=[old])
        assert verified(release, tool)
        _tidy(release)
    signer.release_keys(release, keys=[new], revoked=[old])
    assert verified(release, tool)


@pytest.mark.parametrize("tool", ["check", *TOOLS])
def test_by_hand_any_key_of_the_list_will_do(release: Path, tool: str) -> None:
    if tool in TOOLS:
        require("openssl>=3" if tool == "openssl" else tool)
    signer = Signer()
    for keys in ([public(STRANGER), public(signer.release)], [public(signer.release), public(STRANGER)]):
        signer.release_keys(release, keys=keys)
        assert verified(release, tool)
        _tidy(release)


def _tidy(folder: Path) -> None:
    """Remove what the recipes have written."""
    for path in folder.iterdir():
        if path.suffix in (".allowed", ".der", ".keys"):
            path.unlink()


def test_the_ceremony_from_the_first_key_to_a_stolen_one(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("correct horse\n")
    (tmp_path / "release-passphrase").write_text("battery staple\n")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "wws-1.2.3-linux-x86_64.tar.gz").write_bytes(b"archive")
    (tmp_path / "keys").mkdir()
    (tmp_path / "channel").mkdir()
    serials = []
    for block in blocks("ceremony"):
        done = run(block, tmp_path)
        assert done.returncode == 0, done.stderr
        if (tmp_path / "keys/release-keys").exists():
            serials.append(ReleaseKeys.parse((tmp_path / "keys/release-keys").read_bytes()).serial)
    assert serials == [1, 1, 3, 4]
    found = ReleaseKeys.parse((tmp_path / "keys/release-keys").read_bytes())
    assert [str(key) for key in found.keys] == [_text(tmp_path / "fresh.key.pub")]
    assert [str(key) for key in found.revoked] == [_text(tmp_path / "next.key.pub")]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.key")} == {0o600}


def _text(path: Path) -> str:
    return path.read_text().rsplit(" ", 1)[0]
