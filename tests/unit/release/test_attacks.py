"""Attacks on what verifies and runs releases in Python: stolen keys, other users, files that are none."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from agent_cli.commands import self_
from agent_cli.installation import Installation
from agent_cli.installed_files import verify_version
from agent_cli.installer_run import run_installer
from agent_cli.options import Options
from agent_cli.release_folder import verify_folder
from agent_cli.user_unit import UserUnit, parse_unit
from tests.release_signing import DAY, Signer, public
from wws.identity.keys import Identity
from wws.release.chain import MAX_AHEAD, Seen, verify_channel, verify_release_keys
from wws.release.errors import FilesDiffer, KeyRevoked, ReleaseOlder, ReleaseRefused
from wws.release.keys import PublicKey
from wws.release.signatures import Form, Purpose

SIGNER = Signer()
ROOTS = [public(SIGNER.root)]
NOW = 1_800_000_000
STRANGER = 65_533
only_as_root = pytest.mark.skipif(os.geteuid() != 0, reason="to be somebody else takes root")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("ahead, is_taken", [(0, True), (MAX_AHEAD, True), (MAX_AHEAD + 1, False)])
def test_a_channel_that_would_make_all_later_ones_old(tmp_path: Path, ahead: int, is_taken: bool) -> None:
    """Who has had a release key for a day signs one of the far future. It outlives the key, if it is kept."""
    SIGNER.release_keys(tmp_path, now=NOW)
    SIGNER.channel(tmp_path, "1.2.3", now=NOW + ahead)
    found = files(tmp_path)
    keys, _ = verify_release_keys(found, ROOTS, NOW)
    if is_taken:
        verify_channel(found, keys, NOW, name="stable")
        return
    with pytest.raises(ReleaseRefused, match="to come"):
        verify_channel(found, keys, NOW, name="stable")


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """A release as it was downloaded a while ago."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    (folder / "wws-1.2.3.tar.gz").write_bytes(b"")
    SIGNER.sign_folder(folder, channel="stable", version="1.2.3")
    return folder


def test_a_downloaded_release_whose_key_is_known_here_to_be_revoked(downloaded: Path) -> None:
    verify_folder(downloaded, ROOTS, time.time())
    with pytest.raises(KeyRevoked):
        verify_folder(downloaded, ROOTS, time.time(), seen=Seen(revoked=frozenset({public(SIGNER.release)})))
    with pytest.raises(ReleaseOlder):
        verify_folder(downloaded, ROOTS, time.time(), seen=Seen(serial=2))


def test_the_command_asks_the_memory_of_the_machine(
    downloaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = tmp_path / "share" / "trust"
    trust.mkdir(parents=True)
    new = Identity.from_label("the key after the theft")
    SIGNER.release_keys(trust, serial=2, keys=[public(new)], revoked=[public(SIGNER.release)])
    (trust / "roots").write_text(f"{SIGNER.root_text}\n")
    monkeypatch.setattr(self_, "find_installation", lambda env: Installation(trust.parent))
    with pytest.raises(KeyRevoked):
        self_._verify_release(downloaded, ROOTS)


@pytest.mark.parametrize("name", ["VERSION", "MANIFEST"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_version_whose_files_are_none(tmp_path: Path, name: str, kind: str) -> None:
    """`wws self verify --prefix` reads what another user laid there: a pipe would keep it for ever."""
    (tmp_path / "VERSION").write_text("1.2.3\n")
    (tmp_path / "MANIFEST").write_text("")
    (tmp_path / name).unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(FilesDiffer, match=f"{name} is not a file"):
        verify_version(tmp_path, ROOTS, None)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version with an installer that leaves a trace."""
    folder = tmp_path / "share" / "wws" / "versions" / "1.2.3"
    (folder / "share").mkdir(parents=True)
    (folder / "share" / "install.sh").write_text(f": >'{tmp_path / 'was run'}'\n")
    return folder


PLACES = ("share/install.sh", "share", ".", "..", "../..")


@pytest.mark.parametrize("place", PLACES)
def test_an_installer_that_everybody_can_change_is_not_run(version: Path, tmp_path: Path, place: str) -> None:
    run_installer(version, [], Options(quiet=True))
    (tmp_path / "was run").unlink()
    os.chmod(version / place, 0o777)
    with pytest.raises(FilesDiffer, match="Others on this machine"):
        run_installer(version, [], Options(quiet=True))
    assert not (tmp_path / "was run").exists()


@only_as_root
@pytest.mark.parametrize("place", PLACES)
def test_an_installer_of_another_user_is_not_run(version: Path, tmp_path: Path, place: str) -> None:
    """`wws self update --prefix /tmp/of-bob`."""
    os.chown(version / place, STRANGER, STRANGER)
    with pytest.raises(FilesDiffer, match="Others on this machine"):
        run_installer(version, [], Options(quiet=True))
    assert not (tmp_path / "was run").exists()


@only_as_root
def test_an_installer_behind_a_link_of_another_user_is_not_run(version: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(version, moved)
    version.symlink_to(moved)
    run_installer(version, [], Options(quiet=True))
    (tmp_path / "was run").unlink()
    os.chown(version, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(FilesDiffer, match="Others on this machine"):
        run_installer(version, [], Options(quiet=True))
    assert not (tmp_path / "was run").exists()


SMALL_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 19 - 1).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
]
"""Points of small order, for which signatures are made without a secret, some not canonical."""


@pytest.mark.parametrize("key", SMALL_ORDER, ids=lambda key: key.hex()[:16])
def test_a_key_that_has_no_secret_signs_nothing(key: bytes) -> None:
    """With R of small order and S = 0 the equation holds for some messages; libsodium refuses the key."""
    found = {Purpose.KEYS.file: b"", f"{Purpose.KEYS.file}{Form.RAW}": key + bytes(32)}
    with pytest.raises(ReleaseRefused):
        verify_release_keys(found, [PublicKey(key)], None)


@pytest.mark.parametrize(
    "word",
    [
        *(
            "a\nExecStartPre=/bin/false",
            "a\rb",
            "a\x0bb",
            "a\u2028b",
            "%h%n%%",
            "$HOME${HOME}",
            "\\",
            '"',
            "'",
        ),
        *("%h%n%%", ";", "a ; b", "", " ", "\t", "@/bin/sh", "-x", "#x", "\udcff", "\x00", "é"),
    ],
)
def test_no_word_of_a_service_becomes_a_line_of_its_unit(word: str) -> None:
    """A path, an option or a variable may hold anything; the unit has the same lines whatever it is."""
    unit = UserUnit("alice", ("/usr/bin/wws-connector", word), (f"--home={word}",), ((f"WWS_{word}", word),))
    text = unit.text(255)
    plain = UserUnit("alice", ("/x", "y"), ("--home=y",), (("WWS_Y", "y"),)).text(255)
    names = [line.partition("=")[0] for line in text.split("\n")]
    assert names == [line.partition("=")[0] for line in plain.split("\n")]
    assert len(text.splitlines()) == len(text.split("\n")) - 1, "another reader would see another line"
    text.encode("utf-8")
    assert parse_unit(text) == unit


def test_days() -> None:
    assert MAX_AHEAD == 5 * DAY
