"""packaging/sign.py: key files, statements, rotation and revocation, and what it refuses to do."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_cli.release_folder import read_signed, verify_folder
from tests.prerequisites import require
from tests.release_signing import DAY, SIGN_SCRIPT, Signer, public, sign_module
from wws.identity.keys import Identity
from wws.release.chain import verify_channel, verify_release_keys
from wws.release.errors import FilesDiffer, KeyRevoked, OtherRelease, ReleaseExpired, SignatureWrong
from wws.release.keys import PublicKey
from wws.release.release_keys import ReleaseKeys
from wws.release.version import Version

sign = sign_module()


@dataclass
class Workshop:
    """A folder with keys, a release in it, and the program."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: object, code: int = 0) -> str:
        assert sign.main([str(word) for word in words]) == code
        out, err = self.capsys.readouterr()
        assert (err == "") is (code == 0)
        return (out if code == 0 else err).rstrip("\n")

    def new(self, name: str, *, kind: str = "new-key") -> PublicKey:
        return PublicKey.parse(self(kind, self.folder / name))

    @property
    def release(self) -> Path:
        return self.folder / "release"

    def listed(self) -> ReleaseKeys:
        return ReleaseKeys.parse((self.release / "release-keys").read_bytes())


@pytest.fixture
def workshop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Workshop:
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "wws-1.2.3-linux-x86_64.tar.gz").write_bytes(b"archive")
    (tmp_path / "release" / "install.sh").write_bytes(b"#!/bin/sh\n")
    return Workshop(tmp_path, capsys)


def test_from_nothing_to_a_release_that_holds(workshop: Workshop) -> None:
    root = workshop.new("root.key", kind="new-root")
    key = workshop.new("release.key")
    folder = workshop.release
    workshop("release-keys", "--root", workshop.folder / "root.key", "--out", folder, "--key", key)
    workshop("sums", "--key", workshop.folder / "release.key", folder)
    command = ["channel", "--key", workshop.folder / "release.key", "--out", folder]
    workshop(*command, "--version", "1.2.3")
    said = workshop("check", folder, "--root-key", root, "--version", "1.2.3")
    assert said.startswith(f"2 files, signed by {key}")
    files = read_signed(folder)
    keys, by = verify_release_keys(files, [root], time.time())
    assert by == root
    assert verify_channel(files, keys, time.time(), name="stable").version == Version.parse("1.2.3")
    public = ("SHA256SUMS", "release-keys", "channel")
    made = [path for path in folder.iterdir() if path.name.startswith(public)]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o644}
    # Once more, with another file: the sums are of what is there, and never of themselves.
    (folder / "wws-1.2.3.tar.gz").write_bytes(b"sources")
    workshop("sums", "--key", workshop.folder / "release.key", folder)
    assert workshop("check", folder, "--root-key", root).startswith("3 files")


def test_it_runs_alone(tmp_path: Path) -> None:
    """From any folder, without an installation: a machine without a network has a checkout and libraries."""
    command = [sys.executable, "-P", str(SIGN_SCRIPT), "new-root", str(tmp_path / "root.key")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    PublicKey.parse(done.stdout.rstrip("\n"))


# --- private keys ---------------------------------------------------------------------------------


def test_a_key_is_for_nobody_else_and_never_replaced(workshop: Workshop) -> None:
    before = os.umask(0)
    try:
        workshop.new("release.key")
    finally:
        os.umask(before)
    path = workshop.folder / "release.key"
    content = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "never replaced" in workshop("new-key", path, code=7)
    assert path.read_bytes() == content
    path.unlink()
    assert "never replaced" in workshop("new-key", path, code=7)  # its public half would be lost
    assert not path.exists()
    assert [path.name for path in workshop.folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_openssh_reads_the_key(workshop: Workshop, passphrase: bytes | None) -> None:
    require("ssh-keygen")
    path = workshop.folder / "release.key"
    key = sign.new_key(path, passphrase)
    command = ["ssh-keygen", "-y", "-P", (passphrase or b"").decode(), "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == str(key).split()
    assert public(sign.load_key(path, passphrase)) == key


def test_we_read_the_key_of_openssh(workshop: Workshop) -> None:
    require("ssh-keygen")
    path = workshop.folder / "theirs"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "correct horse", "-C", "alice", "-f", str(path)]
    subprocess.run(command, check=True, timeout=30)
    text = path.with_name("theirs.pub").read_text().rsplit(" ", 1)[0]
    assert str(public(sign.load_key(path, b"correct horse"))) == text


def test_with_a_passphrase_the_secret_is_not_on_the_disk(workshop: Workshop) -> None:
    (workshop.folder / "pass").write_text("correct horse\n")
    path, words = workshop.folder / "root.key", ["--passphrase-file", workshop.folder / "pass"]
    workshop("new-root", path, *words)
    seed = sign.load_key(path, b"correct horse").seed
    body = base64.b64decode("".join(path.read_text().splitlines()[1:-1]))
    assert seed not in body
    assert b"aes256-ctr" in body
    assert b"bcrypt" in body
    key = workshop.new("release.key")
    plain = ["release-keys", "--root", path, "--out", workshop.release, "--key", key]
    workshop(*plain, *words)
    (workshop.folder / "pass").write_text("wrong horse\n")
    assert "passphrase" in workshop(*plain, *words, code=8)
    assert "passphrase" in workshop(*plain, code=8)


def test_an_empty_passphrase_is_a_mistake(workshop: Workshop) -> None:
    (workshop.folder / "pass").write_text("\n")
    path = workshop.folder / "root.key"
    assert "empty" in workshop("new-root", path, "--passphrase-file", workshop.folder / "pass", code=2)
    assert not path.exists()


def test_a_key_that_others_can_read_is_not_used(workshop: Workshop) -> None:
    workshop.new("release.key")
    path = workshop.folder / "release.key"
    path.chmod(0o640)
    assert "chmod 600" in workshop("sums", "--key", path, workshop.release, code=8)


@pytest.mark.parametrize("what", ["missing", "folder", "empty", "garbage", "public", "rsa"])
def test_what_is_no_private_key(workshop: Workshop, what: str) -> None:
    path = workshop.folder / "odd.key"
    match what:
        case "folder":
            path.mkdir(mode=0o700)
        case "empty":
            path.touch(0o600)
        case "garbage":
            path.write_bytes(bytes(range(256)))
        case "public":
            path.write_text(Signer().release_text)
        case "rsa":
            require("ssh-keygen")
            command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(path)]
            subprocess.run(command, check=True, timeout=60)
    if path.is_file():
        path.chmod(0o600)
    code = 10 if what in ("missing", "folder") else 8
    workshop("sums", "--key", path, workshop.release, code=code)
    assert not (workshop.release / "SHA256SUMS").exists()


def test_a_full_disk_leaves_no_half_a_key(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space" in workshop("new-key", workshop.folder / "release.key", code=10)
    assert sorted(path.name for path in workshop.folder.iterdir()) == ["release"]


# --- lists of keys --------------------------------------------------------------------------------


@pytest.fixture
def listed(workshop: Workshop) -> tuple[Workshop, PublicKey, PublicKey]:
    workshop.new("root.key", kind="new-root")
    first, second = workshop.new("first.key"), workshop.new("second.key")
    workshop(
        "release-keys", "--root", workshop.folder / "root.key", "--out", workshop.release, "--key", first
    )
    return workshop, first, second


def change(workshop: Workshop, command: str, *words: object, code: int = 0) -> str:
    root, folder = workshop.folder / "root.key", workshop.release
    return workshop(command, "--root", root, "--from", folder, "--out", folder, *words, code=code)


def test_rotation(listed: tuple[Workshop, PublicKey, PublicKey]) -> None:
    workshop, first, second = listed
    change(workshop, "rotate", "--add", second)
    assert (workshop.listed().serial, workshop.listed().keys) == (2, (first, second))
    change(workshop, "rotate", "--remove", first)
    assert (workshop.listed().serial, workshop.listed().keys) == (3, (second,))
    change(workshop, "rotate")  # the same keys, for another year
    assert (workshop.listed().serial, workshop.listed().keys) == (4, (second,))


def test_revocation(listed: tuple[Workshop, PublicKey, PublicKey]) -> None:
    workshop, first, second = listed
    change(workshop, "revoke", "--revoked", first, "--add", second)
    found = workshop.listed()
    assert (found.serial, found.keys, found.revoked) == (2, (second,), (first,))
    assert "never counts again" in change(workshop, "rotate", "--add", first, code=2)
    change(workshop, "rotate")
    assert workshop.listed().revoked == (first,)


@pytest.mark.parametrize("command", ["revoke --revoked FIRST", "rotate --remove FIRST"])
def test_the_last_key_does_not_go(listed: tuple[Workshop, PublicKey, PublicKey], command: str) -> None:
    workshop, first, _ = listed
    before = (workshop.release / "release-keys").read_bytes()
    word, flag, _ = command.split()
    assert "add one" in change(workshop, word, flag, first, code=2)
    assert (workshop.release / "release-keys").read_bytes() == before


def test_a_key_that_is_not_there_cannot_be_removed(listed: tuple[Workshop, PublicKey, PublicKey]) -> None:
    workshop, _, second = listed
    assert "no release key" in change(workshop, "rotate", "--remove", second, code=2)


def test_a_list_of_somebody_else_is_not_continued(listed: tuple[Workshop, PublicKey, PublicKey]) -> None:
    workshop, _, second = listed
    Signer().release_keys(workshop.release, serial=900)
    change(workshop, "rotate", "--add", second, code=8)


def test_a_list_does_not_begin_again(listed: tuple[Workshop, PublicKey, PublicKey]) -> None:
    """A lower serial is refused by every machine that has seen the higher one."""
    workshop, first, _ = listed
    change(workshop, "rotate")
    again = [
        "release-keys",
        "--root",
        workshop.folder / "root.key",
        "--out",
        workshop.release,
        "--key",
        first,
    ]
    assert "rotate" in workshop(*again, code=2)
    assert workshop.listed().serial == 2
    workshop(*again, "--serial", "3")
    assert workshop.listed().serial == 3


def test_a_key_is_written_as_it_is_printed(listed: tuple[Workshop, PublicKey, PublicKey]) -> None:
    workshop, first, _ = listed
    with pytest.raises(SystemExit) as ended:
        change(workshop, "rotate", "--add", f"{first} alice")
    assert ended.value.code == 2


# --- releases -------------------------------------------------------------------------------------


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    folder = tmp_path / "signed"
    folder.mkdir()
    (folder / "wws-1.2.3-linux-x86_64.tar.gz").write_bytes(b"archive")
    (folder / "install.sh").write_bytes(b"#!/bin/sh\n")
    Signer().sign_folder(folder, channel="stable", version="1.2.3")
    return folder


def check(folder: Path, *, now: float | None = None, version: str = "1.2.3") -> None:
    roots = [public(Signer().root)]
    verify_folder(folder, roots, now or time.time(), version=Version.parse(version), complete=True)


def test_check(signed: Path) -> None:
    check(signed)


def test_a_changed_file(signed: Path) -> None:
    (signed / "install.sh").write_bytes(b"#!/bin/bash\n")
    with pytest.raises(FilesDiffer, match=r"install\.sh"):
        check(signed)


def test_a_file_more_or_less(signed: Path) -> None:
    (signed / "extra").touch()
    with pytest.raises(FilesDiffer, match="extra"):
        check(signed)
    (signed / "extra").unlink()
    (signed / "install.sh").unlink()
    with pytest.raises(FilesDiffer, match=r"install\.sh"):
        check(signed)


def test_links_and_folders_are_no_files_of_a_release(signed: Path) -> None:
    shutil.move(signed / "install.sh", signed.parent / "elsewhere")
    (signed / "install.sh").symlink_to(signed.parent / "elsewhere")
    with pytest.raises(FilesDiffer, match="not a file"):
        check(signed)
    (signed / "install.sh").unlink()
    (signed / "install.sh").mkdir()
    with pytest.raises(FilesDiffer, match="not a file"):
        check(signed)
    with pytest.raises(FilesDiffer, match="not a file"):
        Signer().sums(signed)


def test_a_name_that_no_release_has(signed: Path) -> None:
    (signed / "a b").touch()
    with pytest.raises(sign.WwsError, match="no file of a release"):
        Signer().sums(signed)


def test_another_version_a_stranger_a_revoked_key_and_a_year_later(signed: Path) -> None:
    with pytest.raises(OtherRelease):
        check(signed, version="1.2.4")
    with pytest.raises(ReleaseExpired):
        check(signed, now=time.time() + 366 * DAY)
    signer = Signer()
    signer.sums(signed, by=Identity.from_label("stranger"))
    with pytest.raises(SignatureWrong):
        check(signed)
    signer.sums(signed)
    signer.release_keys(signed, keys=[public(Identity.from_label("next"))], revoked=[public(signer.release)])
    with pytest.raises(KeyRevoked):
        check(signed)
