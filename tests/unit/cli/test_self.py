"""`wws self`: verify, update, roll back and remove what the real install.sh has installed."""

from __future__ import annotations

import fcntl
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cli.installation import Installation, Receipt, find_installation, installation_at
from agent_cli.installed_otherwise import find_way
from agent_cli.installer_run import settings
from tests.prerequisites import require
from tests.release_signing import DAY, Signer, public, sign_module
from tests.unit.cli.running import Cli
from tests.unit.cli.self_world import PLATFORM, Releases, environment, wws
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.release.errors import FilesDiffer
from wws.release.signatures import Purpose
from wws.runtime.homes import Ready, choose_home

OLD, NEW = "1.2.3", "1.3.0"
STRANGER = Identity.from_label("stranger")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Releases, Path]:
    """Two releases, and a home where the older one was installed and then the newer one."""
    require("ssh-keygen", "tar")
    root = tmp_path_factory.mktemp("world")
    releases = Releases(root / "releases")
    for version in (OLD, NEW):
        releases.publish(version)
    prefix = root / "home"
    prefix.mkdir(mode=0o700)
    for version in (OLD, NEW):
        releases.install(prefix, version)
    return releases, prefix


@pytest.fixture
def prefix(world: tuple[Releases, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that home, to be changed by a test."""
    copy = tmp_path / "home"
    shutil.copytree(world[1], copy, symlinks=True)
    for name, value in environment(copy).items():
        monkeypatch.setenv(name, value)
    return copy


@pytest.fixture
def releases(world: tuple[Releases, Path]) -> Releases:
    return world[0]


def current(prefix: Path) -> Path:
    return installation_at(str(prefix)).current()


# --- verify ---------------------------------------------------------------------------------------


def test_what_was_installed_verifies(cli: Cli, prefix: Path, releases: Releases) -> None:
    found = cli("self", "verify", "--prefix", str(prefix), "--json")
    assert found.code == 0, found.out
    assert found.json["schema"] == "wws.self.verify/v1"
    assert found.data["version"] == NEW
    assert found.data["platform"] == PLATFORM
    assert found.data["files"] == 6
    assert found.data["root"] == releases.signer.root_text
    assert found.data["signer"] == releases.signer.release_text
    assert found.data["previous"] == {"version": OLD, "ok": True, "code": None}
    assert cli("self", "verify", "--prefix", str(prefix)).out.startswith(f"wws {NEW} for {PLATFORM}: 6 files")


def test_the_installed_program_verifies_itself_and_others(prefix: Path) -> None:
    code, found = wws(prefix, "self", "verify", "--prefix", str(prefix))
    assert (code, found["ok"]) == (0, True)


def append(path: Path, text: str = " ") -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def omit(version: Path) -> None:
    without(version / "MANIFEST", "bin/lib/data")
    (version / "bin/lib/data").unlink()


def link_away(path: Path) -> None:
    target = path.parents[3] / "elsewhere"
    shutil.move(path, target)
    path.symlink_to(target)


def link_folder(path: Path) -> None:
    shutil.move(path, path.parents[3] / "elsewhere")
    path.symlink_to(path.parents[3] / "elsewhere")


def without(path: Path, line: str) -> None:
    path.write_text("".join(kept for kept in path.read_text().splitlines(True) if line not in kept))


def resign(version: Path, by: Identity) -> None:
    """Another SHA256SUMS over the MANIFEST as it is, by this key."""
    release = version / "release"
    manifest = hashlib.sha256((version / "MANIFEST").read_bytes()).hexdigest()
    text = f"{manifest}  wws-{version.name}-{PLATFORM}.MANIFEST\n"
    for path in release.glob("SHA256SUMS*"):
        path.unlink()
    sign_module().write_signed(release, Purpose.SUMS, text.encode(), by)


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed program": (lambda v: append(v / "bin/wws"), "files_differ"),
    "a changed library": (lambda v: append(v / "bin/lib/data"), "files_differ"),
    "a changed installer": (lambda v: append(v / "share/install.sh"), "files_differ"),
    "a file of the same size": (lambda v: (v / "bin/lib/data").write_text("of 1.3.1\n"), "files_differ"),
    "an empty file": (lambda v: (v / "bin/wws").write_text(""), "files_differ"),
    "a missing file": (lambda v: (v / "bin/lib/data").unlink(), "files_differ"),
    "a missing folder": (lambda v: shutil.rmtree(v / "bin/lib"), "files_differ"),
    "an extra file": (lambda v: (v / "bin/lib/evil.so").touch(), "files_differ"),
    "an extra file in a new folder": (lambda v: append(v / "more/evil.so"), "files_differ"),
    "a hidden file": (lambda v: (v / ".hidden").touch(), "files_differ"),
    "a link to the same content": (lambda v: link_away(v / "bin/lib/data"), "files_differ"),
    "a folder that is a link": (lambda v: link_folder(v / "bin/lib"), "files_differ"),
    "a dangling link": (lambda v: (v / "bin/x").symlink_to("/nonexistent"), "files_differ"),
    "a link to itself": (lambda v: (v / "bin/x").symlink_to("x"), "files_differ"),
    "a pipe": (lambda v: os.mkfifo(v / "bin/x"), "files_differ"),
    "a pipe in a file's place": (lambda v: _pipe(v / "bin/lib/data"), "files_differ"),
    "a folder in a file's place": (lambda v: _folder(v / "bin/lib/data"), "files_differ"),
    "what everybody can write": (lambda v: (v / "bin/lib/data").chmod(0o666), "files_differ"),
    "a folder that everybody can write": (lambda v: (v / "bin/lib").chmod(0o777), "files_differ"),
    "a manifest that omits a file": (lambda v: without(v / "MANIFEST", "bin/lib/data"), "files_differ"),
    "a manifest and a file less": (omit, "files_differ"),
    "a manifest with a file more": (
        lambda v: append(v / "MANIFEST", "0" * 64 + "  z\n"),
        "files_differ",
    ),
    "a manifest that is cut": (lambda v: (v / "MANIFEST").write_text(""), "files_differ"),
    "sums for another manifest": (lambda v: without(v / "release/SHA256SUMS", "MANIFEST"), "signature_wrong"),
    "all signed anew by a stranger": (lambda v: resign(v, STRANGER), "signature_wrong"),
    "no signature": (
        lambda v: [path.unlink() for path in v.glob("release/SHA256SUMS.*")],
        "signature_missing",
    ),
    "a signature that is cut": (lambda v: _cut(v / "release/SHA256SUMS.sig"), "release_malformed"),
    "a huge signature": (
        lambda v: (v / "release/SHA256SUMS.sig").write_bytes(bytes(2_000_000)),
        "release_malformed",
    ),
    "no proof": (lambda v: shutil.rmtree(v / "release"), "files_differ"),
    "a file among the proofs": (lambda v: (v / "release/evil.py").touch(), "files_differ"),
    "a link among the proofs": (lambda v: link_away(v / "release/SHA256SUMS"), "files_differ"),
    "another list of keys": (
        lambda v: Signer().release_keys(v / "release", keys=[public(STRANGER)]),
        "signature_wrong",
    ),
    "a list of keys by a stranger": (
        lambda v: Signer().release_keys(v / "release", by=STRANGER),
        "signature_wrong",
    ),
    "another version inside": (lambda v: (v / "VERSION").write_text(f"{OLD}\n"), "other_release"),
    "no version inside": (lambda v: (v / "VERSION").write_text("latest\n"), "release_malformed"),
    "a version without its end": (lambda v: (v / "VERSION").write_text(NEW), "files_differ"),
}


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("tamper, code", TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with(cli: Cli, prefix: Path, tamper: Callable[[Path], object], code: str) -> None:
    tamper(current(prefix))
    found = cli("self", "verify", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (8, code), found.out


def test_what_differs_is_named(cli: Cli, prefix: Path) -> None:
    version = current(prefix)
    append(version / "bin/wws")
    (version / "bin/lib/data").unlink()
    for number in range(40):
        (version / f"extra-{number:02}").touch()
    found = cli("self", "verify", "--prefix", str(prefix), "--json")
    assert found.data["changed"] == ["bin/wws"]
    assert found.data["missing"] == ["bin/lib/data"]
    assert len(found.data["extra"]) == 20
    words = cli("self", "verify", "--prefix", str(prefix)).err
    assert "changed: bin/wws; missing: bin/lib/data; not of the release: extra-00" in words
    assert "and 37 more" in words


def test_a_program_that_is_not_of_the_installation(cli: Cli, prefix: Path) -> None:
    (prefix / "bin" / "wws-connector").unlink()
    (prefix / "bin" / "wws-connector").write_text("#!/bin/sh\n")
    found = cli("self", "verify", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (8, "files_differ")
    assert "wws-connector" in found.error["message"]


@pytest.mark.parametrize(
    "target", ["/etc", "versions/../../..", "../wws", "versions/latest", "versions/9.9.9", ""]
)
def test_a_current_that_leads_elsewhere(cli: Cli, prefix: Path, target: str) -> None:
    link = prefix / "share/wws/current"
    link.unlink()
    if target:
        link.symlink_to(target)
        found = cli("self", "verify", "--prefix", str(prefix), "--json")
        assert found.code in (8, 10), found.out
    else:
        found = cli("self", "verify", "--prefix", str(prefix), "--json")
        assert (found.code, found.error["code"]) == (4, "not_installed")


def test_a_key_that_was_revoked_since(cli: Cli, prefix: Path, releases: Releases) -> None:
    """The machine has seen a newer list of keys than the version came with."""
    trust = prefix / "share/wws/trust"
    old = public(releases.signer.release)
    releases.signer.release_keys(trust, serial=9, keys=[public(STRANGER)], revoked=[old])
    found = cli("self", "verify", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (8, "key_revoked")
    (trust / "roots").write_text(
        f"{public(STRANGER)}\n"
    )  # a list of other people's releases says nothing here
    assert cli("self", "verify", "--prefix", str(prefix)).code == 0


def test_a_newer_list_that_revokes_nothing_changes_nothing(
    cli: Cli, prefix: Path, releases: Releases
) -> None:
    releases.signer.release_keys(prefix / "share/wws/trust", serial=9)
    assert cli("self", "verify", "--prefix", str(prefix)).code == 0


def test_a_lapsed_list_of_keys_is_told_and_no_failure(cli: Cli, prefix: Path, releases: Releases) -> None:
    releases.signer.release_keys(current(prefix) / "release", now=time.time() - 400 * DAY)
    found = cli("self", "verify", "--prefix", str(prefix))
    assert found.code == 0
    assert "lapsed" in found.err


def test_a_previous_version_that_was_tampered_with_is_told(cli: Cli, prefix: Path) -> None:
    append(prefix / "share/wws/versions" / OLD / "bin/wws")
    found = cli("self", "verify", "--prefix", str(prefix), "--json")
    assert found.code == 0
    assert found.data["previous"] == {"version": OLD, "ok": False, "code": "files_differ"}
    assert "cannot be gone back to" in cli("self", "verify", "--prefix", str(prefix)).err


def test_another_root_key(cli: Cli, prefix: Path) -> None:
    found = cli("self", "verify", "--prefix", str(prefix), "--root-key", str(public(STRANGER)), "--json")
    assert (found.code, found.error["code"]) == (8, "signature_wrong")
    assert cli("self", "verify", "--prefix", str(prefix), "--root-key", "ssh-ed25519 x").code == 2


def test_without_any_root_key(cli: Cli, prefix: Path) -> None:
    without(prefix / "share/wws/installation", "root ")
    found = cli("self", "verify", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (8, "no_root_key")
    assert "--root-key" in found.error["hint"]


# --- before the switch ----------------------------------------------------------------------------


@pytest.fixture
def staged(prefix: Path) -> Path:
    return current(prefix)


def verify_staged(cli: Cli, staged: Path, *words: str) -> tuple[int, str]:
    found = cli("self", "verify", "--staged", str(staged), "--json", *words)
    return found.code, "" if found.code == 0 else found.error["code"]


def test_a_staged_version(cli: Cli, staged: Path, releases: Releases) -> None:
    root = ("--root-key", releases.signer.root_text)
    assert verify_staged(cli, staged, *root) == (0, "")
    assert verify_staged(cli, staged) == (8, "no_root_key")
    assert verify_staged(cli, staged, *root, "--prefix", "x") == (2, "wrong_usage")
    append(staged / "bin/wws")
    assert verify_staged(cli, staged, *root) == (8, "files_differ")


def test_a_staged_version_with_a_lapsed_or_an_old_list_of_keys(
    cli: Cli, staged: Path, prefix: Path, releases: Releases
) -> None:
    root = ("--root-key", releases.signer.root_text)
    releases.signer.release_keys(prefix / "share/wws/trust", serial=9)
    assert verify_staged(cli, staged, *root) == (8, "release_older")
    releases.signer.release_keys(staged / "release", serial=10)
    assert verify_staged(cli, staged, *root) == (0, "")
    releases.signer.release_keys(staged / "release", serial=10, now=time.time() - 400 * DAY)
    assert verify_staged(cli, staged, *root) == (8, "release_expired")


# --- before anything is run -----------------------------------------------------------------------


def test_what_was_downloaded(cli: Cli, prefix: Path, releases: Releases, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    shutil.copytree(releases.folder(NEW), folder)
    words = ["self", "verify", "--release", str(folder), "--root-key", releases.signer.root_text]
    found = cli(*words, "--json")
    assert found.code == 0, found.out
    assert found.data["archives"] == [f"wws-{NEW}-{PLATFORM}.tar.gz"]
    assert found.data["missing"] == []
    assert "2 of the 2 files" in cli(*words).out
    assert cli(*words[:-2]).code == 8  # this build knows no root key
    assert cli(*words, "--prefix", str(prefix)).code == 2
    append(folder / f"wws-{NEW}-{PLATFORM}.tar.gz")
    assert cli(*words).code == 8


# --- rollback -------------------------------------------------------------------------------------


def test_rollback_and_forth_again(cli: Cli, prefix: Path) -> None:
    found = cli("self", "rollback", "--prefix", str(prefix), "--json")
    assert found.code == 0, found.out
    assert found.data == {"version": OLD, "previous": NEW, "changed": True}
    share = prefix / "share/wws"
    assert (os.readlink(share / "current"), os.readlink(share / "previous")) == (
        f"versions/{OLD}",
        f"versions/{NEW}",
    )
    assert f"version {OLD}\n" in (share / "installation").read_text()
    assert cli("self", "verify", "--prefix", str(prefix)).code == 0
    words = cli("self", "rollback", "--prefix", str(prefix))
    assert words.out == f"wws went from {OLD} forward to {NEW}. Back again, to {OLD}: wws self rollback\n"
    assert "has written" in words.err
    words = cli("self", "rollback", "--prefix", str(prefix))
    assert words.out == f"wws went from {NEW} back to {OLD}. Forward again, to {NEW}: wws self rollback\n"
    assert not (share / "lock.held").exists()
    assert not list(share.glob("*.new"))


def test_nothing_to_go_back_to(cli: Cli, prefix: Path) -> None:
    share = prefix / "share/wws"
    (share / "previous").unlink()
    found = cli("self", "rollback", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (4, "no_previous_version")
    (share / "previous").symlink_to("versions/1.0.0")
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 4
    assert os.readlink(share / "current") == f"versions/{NEW}"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_rollback_that_was_killed(cli: Cli, prefix: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Killed at each of its renames: what is current is whole, and the next run gets where it was to go."""
    done = 0

    def killed(old: object, new: object) -> None:
        nonlocal done
        done += 1
        if done == at:
            raise KeyboardInterrupt
        os.replace(str(old), str(new))

    share = prefix / "share/wws"
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        assert cli("self", "rollback", "--prefix", str(prefix)).code == 130
    reached = current(prefix).name
    assert reached == (NEW if at == 1 else OLD)
    assert cli("self", "verify", "--prefix", str(prefix)).code == 0
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 0
    assert current(prefix).name == (OLD if reached == NEW else NEW)
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 0
    assert current(prefix).name == reached
    assert f"version {reached}\n" in (share / "installation").read_text()


@pytest.mark.parametrize("tamper", ["a changed program", "an extra file", "all signed anew by a stranger"])
def test_no_way_back_to_what_was_tampered_with(cli: Cli, prefix: Path, tamper: str) -> None:
    TAMPERED[tamper][0](prefix / "share/wws/versions" / OLD)
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 8
    assert current(prefix).name == NEW


def test_a_previous_that_leads_elsewhere(cli: Cli, prefix: Path) -> None:
    (prefix / "share/wws/previous").unlink()
    (prefix / "share/wws/previous").symlink_to("/etc")
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 8


def test_one_at_a_time(cli: Cli, prefix: Path) -> None:
    share = prefix / "share/wws"
    with (share / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = cli("self", "rollback", "--prefix", str(prefix), "--json")
        assert (found.code, found.error["code"]) == (7, "installation_busy")
    (share / "lock.held").symlink_to(str(os.getpid()))
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 7
    (share / "lock.held").unlink()
    (share / "lock.held").symlink_to("999999999")  # of a process that was killed
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 0
    assert current(prefix).name == OLD


def test_a_folder_that_cannot_be_written(prefix: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "rename", refused)
    found = cli("self", "rollback", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (10, "cannot_write")
    assert current(prefix).name == NEW


# --- update and uninstall -------------------------------------------------------------------------


@pytest.fixture
def served(releases: Releases) -> Iterator[str]:
    """The releases by HTTP, which install.sh takes from this machine only."""
    require("curl")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Not into the output of the test."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(releases.root))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_update_from_the_channel_and_back(cli: Cli, prefix: Path, releases: Releases, served: str) -> None:
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 0
    update = ["self", "update", "--prefix", str(prefix), "--from", served]
    found = cli(*update, "--dry-run", "--json")
    assert found.code == 0, found.out
    assert found.data["dry_run"] is True
    assert any(f"wws-{NEW}-{PLATFORM}.tar.gz" in line for line in found.data["said"])
    assert current(prefix).name == OLD
    found = cli(*update, "--json")
    assert found.code == 0, found.out
    assert (found.data["version"], found.data["previous"], found.data["changed"]) == (NEW, OLD, True)
    assert cli("self", "verify", "--prefix", str(prefix)).code == 0
    again = cli("self", "update", "--prefix", str(prefix))  # from where the receipt says
    assert again.code == 0, again.err
    assert again.out == f"wws {NEW} is current; nothing was changed.\n"


def test_update_to_an_older_version_when_it_is_asked_for(cli: Cli, prefix: Path, releases: Releases) -> None:
    words = ["self", "update", "--prefix", str(prefix), "--offline", str(releases.folder(OLD)), "--json"]
    found = cli(*words, "--version", OLD)
    assert found.code == 0, found.out
    assert found.data["version"] == OLD
    assert cli("self", "update", "--prefix", str(prefix), "--version", "latest").code == 2


def test_an_update_that_is_refused(cli: Cli, prefix: Path, releases: Releases, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(releases.folder(NEW), folder)
    releases.signer.sums(folder, by=STRANGER)
    words = ["self", "update", "--prefix", str(prefix), "--offline", str(folder), "--version", NEW]
    assert cli("self", "rollback", "--prefix", str(prefix)).code == 0
    found = cli(*words, "--json")
    assert (found.code, found.error["code"]) == (8, "release_refused")
    assert "not signed by a release key" in found.error["message"]
    assert "not signed by a release key" in cli(*words).err  # by the installer itself
    assert current(prefix).name == OLD


@pytest.mark.parametrize(
    "ends, code, word",
    [
        ("exit 2", 2, "wrong_usage"),
        ("exit 8", 8, "release_refused"),
        ("exit 9", 9, "release_unreachable"),
        ("exit 10", 10, "installer_failed"),
        ("exit 1", 10, "installer_failed"),
        ("exit 130", 130, "interrupted"),
        ("kill -TERM $$", 130, "interrupted"),
        ("exit 0", 0, None),
    ],
)
def test_how_the_installer_ends(cli: Cli, prefix: Path, ends: str, code: int, word: str | None) -> None:
    script = "echo before\necho >&2\necho 'error: so it is' >&2\necho 'and more' >&2\n"
    (current(prefix) / "share/install.sh").write_text(f"{script}{ends}\n")
    found = cli("self", "update", "--prefix", str(prefix), "--json")
    assert found.code == code
    assert word is None or found.error["code"] == word
    assert word in (None, "interrupted") or found.error["message"] == "so it is and more"
    told = cli("self", "update", "--prefix", str(prefix))
    assert "error: so it is" in told.err
    quiet = cli("self", "update", "--prefix", str(prefix), "--quiet")
    assert "before" not in quiet.out + quiet.err


def test_what_the_installer_says_is_bounded(cli: Cli, prefix: Path) -> None:
    script = "yes wws | head -c 1000000\nexit 9\n"
    (current(prefix) / "share/install.sh").write_text(script)
    found = cli("self", "update", "--prefix", str(prefix), "--json")
    assert found.code == 9
    assert len(found.out) < 5_000


@pytest.fixture
def outdated(prefix: Path) -> Iterator[Path]:
    """The file that says that alice runs, which she does from a copy of the version before."""
    if not Path("/proc/self/exe").exists():
        pytest.skip("only Linux tells what a process runs")
    program = prefix / "share/wws/versions" / OLD / "bin/node"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as process:
        ready = Ready("alice", process.pid, "x", "x", (), None, None, "x", "x")
        choose_home(None, os.environ).node("alice").write_ready(ready)
        yield prefix
        process.kill()


@pytest.fixture
def newest(tmp_path: Path) -> Path:
    """The files of a third release."""
    return Releases(tmp_path / "later").publish("1.4.0")


def test_no_update_under_a_node_of_a_version_that_would_go(cli: Cli, outdated: Path, newest: Path) -> None:
    """Two versions are kept: the files of a third would be removed while a node runs from them."""
    update = ["self", "update", "--prefix", str(outdated), "--offline", str(newest), "--version", "1.4.0"]
    found = cli(*update, "--json")
    assert (found.code, found.error["code"]) == (7, "node_outdated")
    assert OLD in found.error["message"]
    assert "leave --node alice" in found.error["hint"]
    assert current(outdated).name == NEW
    assert cli(*update, "--dry-run").code == 0
    shutil.rmtree(outdated / "share/wws/versions" / OLD)  # there is nothing left to lose
    assert cli(*update).code == 0
    assert current(outdated).name == "1.4.0"


def test_where_nothing_is_newer_an_outdated_node_is_named(cli: Cli, outdated: Path, served: str) -> None:
    found = cli("self", "update", "--prefix", str(outdated), "--from", served)
    assert (found.code, found.out) == (0, f"wws {NEW} is current; nothing was changed.\n")
    assert f"The node 'alice' still runs {OLD}" in found.err
    assert "leave --node alice" in found.err


def test_an_update_to_the_version_that_a_node_runs(cli: Cli, outdated: Path, releases: Releases) -> None:
    """Of the two that stay it is one."""
    words = ["--prefix", str(outdated), "--offline", str(releases.folder(OLD)), "--version", OLD]
    found = cli("self", "update", *words)
    assert found.code == 0, found.err
    assert current(outdated).name == OLD


def test_an_update_without_a_network(cli: Cli, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("curl")
    monkeypatch.setenv("WWS_INSTALL_RETRIES", "0")
    found = cli("self", "update", "--prefix", str(prefix), "--from", "http://127.0.0.1:9", "--json")
    assert (found.code, found.error["code"]) == (9, "release_unreachable")


def test_an_update_from_nowhere(cli: Cli, prefix: Path) -> None:
    without(prefix / "share/wws/installation", "from ")
    found = cli("self", "update", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (2, "wrong_usage")
    assert "--from" in found.error["message"]


@pytest.mark.parametrize(
    "told, given, wanted",
    [
        ("from https://x", {}, "--from https://x"),
        ("from https://x", {"source": "https://y"}, "--from https://y"),
        ("from https://x", {"offline": "/z"}, "--from https://x --offline /z"),
        ("from /x", {}, "--offline /x"),
        ("from /x", {"offline": "/z"}, "--offline /z"),
        ("from /x", {"source": "https://y"}, "--from https://y"),
        ("channel edge", {}, "--channel edge"),
        ("channel edge", {"channel": "stable"}, "--channel stable"),
        ("root ssh-ed25519", {}, "--root-key ssh-ed25519"),
        ("of-tomorrow x", {}, ""),
    ],
)
def test_where_the_installer_looks_again(told: str, given: dict[str, str], wanted: str) -> None:
    receipt = Receipt.parse(f"wws-installation 1\n{told}\n".encode())
    found = settings(receipt, **{"channel": None, "source": None, "offline": None, **given})
    assert " ".join(found[2:]) == wanted
    assert found[:2] == ["--no-modify-path", "--no-service"]


def test_a_version_without_its_installer(cli: Cli, prefix: Path) -> None:
    (current(prefix) / "share/install.sh").unlink()
    assert cli("self", "update", "--prefix", str(prefix)).code == 8


@pytest.mark.parametrize("words", ["--version 1.2", "--channel ../x", "--channel Stable"])
def test_malformed_arguments(cli: Cli, prefix: Path, words: str) -> None:
    assert cli("self", "update", "--prefix", str(prefix), *words.split()).code == 2


def test_uninstall_leaves_the_identity(cli: Cli, prefix: Path) -> None:
    assert (prefix / ".openswarm/identity.key").is_file()
    found = cli("self", "uninstall", "--prefix", str(prefix), "--json")
    assert found.code == 0, found.out
    assert found.data["version"] == NEW
    assert found.data["purged"] is False
    assert [path.name for path in prefix.iterdir()] == [".openswarm"]
    assert (prefix / ".openswarm/identity.key").is_file()
    assert cli("self", "uninstall", "--prefix", str(prefix)).code == 4


def test_purge_is_meant(cli: Cli, prefix: Path) -> None:
    found = cli("self", "uninstall", "--purge", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (2, "wrong_usage")
    assert (prefix / ".openswarm/identity.key").is_file()
    assert cli("self", "uninstall", "--purge", "--yes", "--prefix", str(prefix)).code == 0
    assert not (prefix / ".openswarm").exists()


def test_a_node_that_runs_is_named(cli: Cli, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cli.env().items():
        monkeypatch.setenv(name, value)
    assert cli("join", "--name", "alice").code == 0
    found = cli("self", "rollback", "--prefix", str(prefix))
    assert found.code == 0
    assert f"The node 'alice' still runs {NEW}" in found.err
    assert "wws leave --node alice" in found.err


# --- installed otherwise --------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "update", "rollback", "uninstall"])
def test_installed_otherwise(cli: Cli, command: str) -> None:
    found = cli("self", command, "--json")
    assert (found.code, found.error["code"]) == (7, "installed_otherwise")
    assert found.error["hint"].startswith("Here it is: ")


@pytest.mark.parametrize(
    "file, word",
    [("pipx_metadata.json", "pipx upgrade wws"), ("uv-receipt.toml", "uv tool upgrade wws")],
)
def test_who_installed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, word: str) -> None:
    (tmp_path / file).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert word in find_way().update


@pytest.mark.parametrize(
    "direct_url, installer, words",
    [
        ('{"dir_info":{"editable":true},"url":"file:///x"}', "uv", "git -C"),
        ('{"dir_info":{},"url":"file:///x"}', "uv", "uv pip install"),
        (None, "pip", "-m pip install --upgrade 'wws[agent]'"),
        (
            '{"archive_info":{},"url":"file:///x.whl"}',
            "pip",
            "-m pip install 'wws[agent] @ file:///…/wws-VERSION",
        ),
        ("[]", "pip", "-m pip install"),
        ("{", None, "-m pip install"),
    ],
)
def test_what_a_package_says_of_itself(
    monkeypatch: pytest.MonkeyPatch, direct_url: str | None, installer: str | None, words: str
) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            return {"direct_url.json": direct_url, "INSTALLER": installer}[name]

    monkeypatch.setattr("importlib.metadata.distribution", lambda _: Distribution())
    assert words in find_way().update


def test_a_program_below_versions_is_an_installation(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_installation({}) is None
    monkeypatch.setattr(sys, "executable", str(prefix / "bin" / "wws"))
    found = find_installation({})
    assert found is not None
    assert found.share == prefix / "share/wws"
    assert found.runs_from == current(prefix)


def test_an_installation_in_a_home_that_is_a_link(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its prefix stands in the lines for PATH as the installer was told it."""
    (tmp_path / "real").mkdir()
    shutil.move(prefix, tmp_path / "real" / ".local")
    (tmp_path / "alice").symlink_to("real")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "alice/.local/bin/wws"))
    found = find_installation({"HOME": str(tmp_path / "alice")})
    assert found is not None
    assert found.prefix == tmp_path / "alice/.local"
    elsewhere = find_installation({"HOME": str(tmp_path)})
    assert elsewhere is not None
    assert elsewhere.prefix == tmp_path / "real/.local"


# --- the receipt ----------------------------------------------------------------------------------

RECEIPT = "wws-installation 1\nversion 1.2.3\nfrom https://x\nroot ssh-ed25519 A\nroot ssh-ed25519 B\n"


def test_receipt() -> None:
    found = Receipt.parse(RECEIPT.encode() + b"path-edit /home/al ice/.profile\nof-tomorrow x\n")
    assert found.one("version") == "1.2.3"
    assert found.all("root") == ["ssh-ed25519 A", "ssh-ed25519 B"]
    assert found.one("path-edit") == "/home/al ice/.profile"
    assert found.one("channel") is None
    assert Receipt.parse(found.encode()) == found


@pytest.mark.parametrize("text", ["", "x", "wws-installation 2\n", RECEIPT + "\n", RECEIPT + "word\n"])
def test_receipts_that_are_none(text: str) -> None:
    with pytest.raises(ParseError):
        Receipt.parse(text.encode())


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f"wws-installation 1\n{text}".encode())
)
def test_any_bytes_are_a_receipt_or_refused(data: bytes) -> None:
    try:
        found = Receipt.parse(data)
    except ParseError:
        return
    assert Receipt.parse(found.encode()) == found


def test_a_receipt_that_is_malformed_is_said(cli: Cli, prefix: Path) -> None:
    (prefix / "share/wws/installation").write_text("<html>")
    found = cli("self", "update", "--prefix", str(prefix), "--json")
    assert (found.code, found.error["code"]) == (2, "malformed")


def test_links_are_read_and_not_followed(tmp_path: Path) -> None:
    share = tmp_path / "share/wws"
    share.mkdir(parents=True)
    (share / "current").mkdir()
    with pytest.raises(FilesDiffer, match="not a link"):
        Installation(share).current()


# --- verify-file, for install.sh ------------------------------------------------------------------


@pytest.fixture
def signed(releases: Releases, tmp_path: Path) -> Path:
    shutil.copytree(releases.folder(NEW), tmp_path / "signed")
    return tmp_path / "signed"


def verify_file(cli: Cli, *words: object) -> tuple[int, str]:
    found = cli("self", "verify-file", "--json", *map(str, words))
    assert found.json["schema"] == "wws.self.verify-file/v1"
    return found.code, "" if found.code == 0 else found.error["code"]


@pytest.mark.parametrize("ending", [".sig", ".sshsig", ".minisig"])
def test_verify_file(cli: Cli, signed: Path, releases: Releases, ending: str) -> None:
    file, key = signed / "SHA256SUMS", releases.signer.release_text
    signature = ("--signature", f"{file}{ending}")
    good = ("--key", key, "--namespace", "wws-release", *signature, file)
    assert verify_file(cli, *good) == (0, "")
    assert cli("self", "verify-file", *map(str, good)).out == f"{key}\n"
    assert verify_file(cli, "--key", str(public(STRANGER)), *good) == (0, "")
    assert verify_file(cli, "--key", str(public(STRANGER)), *good[2:]) == (8, "signature_wrong")
    append(file)
    assert verify_file(cli, *good) == (8, "signature_wrong")
    file.unlink()
    assert verify_file(cli, *good) == (10, "cannot_read")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--key",
        "--key KEY",
        "--key KEY --namespace wws-release",
        "--key KEY --namespace wws-release FILE",
        "--key KEY --namespace wws-other --signature FILE.sig FILE",
        "--key ssh-ed25519 --namespace wws-release --signature FILE.sig FILE",
        "--key KEY --namespace wws-release --signature FILE FILE",
        "--key KEY --namespace wws-release --signature FILE.sig FILE FILE",
        "--key KEY --namespace wws-release --signature FILE.sig --force FILE",
        "--namespace wws-release --signature FILE.sig FILE",
    ],
)
def test_verify_file_used_wrongly(cli: Cli, signed: Path, releases: Releases, words: str) -> None:
    file = str(signed / "SHA256SUMS")
    given = [
        releases.signer.release_text if word == "KEY" else word.replace("FILE", file)
        for word in words.split()
    ]
    assert verify_file(cli, *given)[0] == 2


def test_verify_file_reads_no_more_than_it_needs(cli: Cli, signed: Path, releases: Releases) -> None:
    file = signed / "SHA256SUMS"
    with file.open("ab") as end:
        end.truncate(2 * 1024 * 1024)
    words = ("--key", releases.signer.release_text, "--namespace", "wws-release")
    assert verify_file(cli, *words, "--signature", f"{file}.sig", file) == (8, "release_malformed")


def test_verify_file_starts_without_the_command_line_library() -> None:
    script = (
        "import sys\nfrom agent_cli.app import run\nrun(['self', 'verify-file', '--help'])\n"
        "print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"typer", "rich", "pydantic", "asyncio"} & set(found.stdout.split())


def test_json_of_every_command_is_one_object(cli: Cli, prefix: Path) -> None:
    for command in ("verify", "rollback", "update", "uninstall"):
        found = cli("--json", "self", command, "--prefix", str(prefix / "nowhere"))
        assert found.json["schema"] == f"wws.self.{command}/v1"
        assert found.code == 4
        assert json.loads(found.out)["errors"][0]["code"] == "not_installed"
