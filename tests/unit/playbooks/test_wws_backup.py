"""Backups: encrypted as they are made, held to their manifest, and never an old promise over a newer."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests.prerequisites import require
from tests.unit.playbooks.modules import Given, load
from wws.identity.keys import Identity

wws_backup = load("wws_backup")
ALICE, BOB = Identity.from_label("alice"), Identity.from_label("bob")
BOOK = "home/state/bootstrap/witness.sqlite"


class Host:
    """Folders as on a host, in which no service runs."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.settings, self.home = root, root / "etc", root / "home"
        self.book = self.home / "state/bootstrap/witness.sqlite"
        monkeypatch.setattr(wws_backup, "_is_active", lambda unit: False)

    def given(self, **more: object) -> Given:
        places = {"settings": str(self.settings), "home": str(self.home), "root": str(self.root / "opt")}
        usual = {"peer_id": str(ALICE.peer_id), "final": False, "put_book": False, "recipients": []}
        fixed = {"node": "bootstrap", "user": "nobody-of-that-name", "unit": "wws-bootstrap.service"}
        return Given(**{**places, **usual, **fixed, **more})

    def fill(self) -> None:
        self.settings.mkdir(parents=True)
        (self.home / "networks").mkdir(parents=True)
        (self.home / "state/bootstrap").mkdir(parents=True)
        (self.settings / "identity.key").write_bytes(ALICE.seed)
        (self.settings / "config.toml").write_text("[network]\n")
        (self.home / "networks/lab.state").write_text('{"schema": 1}')
        (self.home / "state/bootstrap/relay.json").write_text('{"schema": 1}')


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path / "old", monkeypatch)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path / "new", monkeypatch)


def opened(path: Path, *, final: bool = True, book: bytes | None = b"promises", **changed: object) -> Path:
    """A backup of alice's node, decrypted."""
    files = {
        "etc/identity.key": ALICE.seed,
        "etc/config.toml": b"[network]\n",
        "home/networks/lab.state": b"{}",
    }
    if book is not None:
        files[BOOK] = book
    listed = [
        {"path": name, "size": len(data), "sha256": sha256(data).hexdigest()} for name, data in files.items()
    ]
    manifest = {
        "schema": 1,
        "id": "1" * 32,
        "peer_id": str(ALICE.peer_id),
        "final": final,
        "book": book is not None,
    }
    manifest |= {"node": "bootstrap", "files": listed, **changed}
    with tarfile.open(path, "w") as tar:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "final, put_book, there, expected",
    [
        (True, True, None, b"promises"),
        (True, False, None, b"lost"),  # a final one that was used before
        (False, True, None, b"lost"),  # the node has promised since
        (True, True, b"newer promises", b"newer promises"),
        (False, False, b"newer promises", b"newer promises"),
    ],
)
def test_an_old_book_never_takes_the_place_of_a_newer(
    fresh: Host, tmp_path: Path, final: bool, put_book: bool, there: bytes | None, expected: bytes
) -> None:
    if there is not None:
        fresh.book.parent.mkdir(parents=True)
        fresh.book.write_bytes(there)
    done = wws_backup.put(fresh.given(file=str(opened(tmp_path / "b", final=final)), put_book=put_book))
    assert fresh.book.read_bytes() == expected
    assert done["book"] == {b"promises": "put back", b"lost": "lost"}.get(expected, "its own")
    assert (fresh.settings / "identity.key").read_bytes() == ALICE.seed
    assert (fresh.settings / "identity.key").stat().st_mode & 0o777 == 0o600
    again = wws_backup.put(fresh.given(file=str(tmp_path / "b"), put_book=True))
    assert (again["changed"], fresh.book.read_bytes()) == (False, expected)


def test_a_backup_without_a_book_comes_back_as_a_witness_that_has_forgotten(
    fresh: Host, tmp_path: Path
) -> None:
    wws_backup.put(fresh.given(file=str(opened(tmp_path / "b", book=None)), put_book=True))
    assert fresh.book.read_bytes() == b"lost"


def _other_key(host: Host) -> None:
    host.settings.mkdir(parents=True)
    (host.settings / "identity.key").write_bytes(BOB.seed)


def _other_seal(host: Host) -> None:
    host.settings.mkdir(parents=True)
    (host.settings / "sealed").write_text('{"id": "2"}')


def _nothing(host: Host) -> None:
    pass


@pytest.mark.parametrize(
    "prepare, changed, reason",
    [
        (_other_key, {}, "the key of another node"),
        (_other_seal, {}, "sealed here for another backup"),
        (_nothing, {"peer_id": str(BOB.peer_id)}, "the backup is one of"),
        (_nothing, {"schema": 3}, "has schema 3"),
        (_nothing, {"files": []}, "other files than its manifest says"),
        (_nothing, {"files": "x"}, "cannot be read"),
    ],
)
def test_what_does_not_fit_changes_nothing(
    fresh: Host, tmp_path: Path, prepare: Callable[[Host], None], changed: dict[str, object], reason: str
) -> None:
    prepare(fresh)
    before = sorted(fresh.root.rglob("*"))
    with pytest.raises(wws_backup.Failed, match=reason):
        wws_backup.put(fresh.given(file=str(opened(tmp_path / "b", **changed)), put_book=True))
    assert sorted(fresh.root.rglob("*")) == before


def test_a_backup_that_is_one_schema_newer_is_read(fresh: Host, tmp_path: Path) -> None:
    wws_backup.put(fresh.given(file=str(opened(tmp_path / "b", schema=2, mood="fine")), put_book=True))
    assert fresh.book.read_bytes() == b"promises"


def test_a_sealed_node_comes_back_with_its_own_final_backup(fresh: Host, tmp_path: Path) -> None:
    fresh.settings.mkdir(parents=True)
    (fresh.settings / "sealed").write_text(json.dumps({"id": "1" * 32}))
    assert wws_backup.put(fresh.given(file=str(opened(tmp_path / "b")), put_book=True))["was_sealed"] is True
    assert not (fresh.settings / "sealed").exists()


def test_members_that_would_be_written_elsewhere_are_not(fresh: Host) -> None:
    places = [
        wws_backup._place(name, fresh.settings, fresh.home)
        for name in (
            "etc/../x",
            "etc/shadow",
            "home/state/../../x",
            "/etc/passwd",
            "home/x",
            "other/identity.key",
        )
    ]
    assert places == [None] * 6


def test_made_sealed_and_opened_again(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("age", "age-keygen", "root")
    host.fill()
    with sqlite3.connect(host.book) as book:
        book.execute("CREATE TABLE t (a)")
    book.close()
    control = tmp_path / "old/opt/current/bin/wws-control"
    control.parent.mkdir(parents=True)
    control.write_text('#!/bin/sh\nfor last; do :; done\ncp "$2"/state/bootstrap/witness.sqlite "$last"\n')
    control.chmod(0o755)
    key = tmp_path / "age.key"
    subprocess.run(["age-keygen", "-o", str(key)], check=True, capture_output=True)
    public = subprocess.run(
        ["age-keygen", "-y", str(key)], check=True, capture_output=True, text=True
    ).stdout.strip()
    backup = tmp_path / "backups/one.age"

    with pytest.raises(wws_backup.Failed, match="stopped and sealed"):
        wws_backup.make(host.given(file=str(backup), recipients=[public], final=True, user="root"))
    wws_backup.seal(host.given())
    made = wws_backup.make(host.given(file=str(backup), recipients=[public], final=True, user="root"))
    assert made["manifest"]["id"] == json.loads((host.settings / "sealed").read_text())["id"]
    assert ALICE.seed not in backup.read_bytes()
    assert backup.stat().st_mode & 0o077 == 0
    assert [path.name for path in backup.parent.iterdir()] == [backup.name]

    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    plain = private / "opened.tar"
    given = Given(file=str(backup), identity_file=str(key), opened=str(plain))
    manifest = wws_backup.open_backup(given)["manifest"]
    assert {wanted["path"] for wanted in manifest["files"]} == {
        *("etc/identity.key", "etc/config.toml", "home/networks/lab.state"),
        *("home/state/bootstrap/relay.json", BOOK),
    }
    plain.unlink()

    data = bytearray(backup.read_bytes())
    data[-40] ^= 1
    backup.write_bytes(data)
    with pytest.raises(wws_backup.Failed, match="cannot be decrypted"):
        wws_backup.open_backup(given)
    assert not plain.exists()
    private.chmod(0o755)
    with pytest.raises(wws_backup.Failed, match="open to others"):
        wws_backup.open_backup(given)


def test_nobody_to_encrypt_to_or_no_key_is_no_backup(host: Host, tmp_path: Path) -> None:
    host.fill()
    with pytest.raises(wws_backup.Failed, match="nobody is named"):
        wws_backup.make(host.given(file=str(tmp_path / "b")))
    require("age")
    os.truncate(host.settings / "identity.key", 31)
    with pytest.raises(wws_backup.Failed, match="is no identity"):
        wws_backup.make(host.given(file=str(tmp_path / "b"), recipients=["age1x"]))
    (host.settings / "identity.key").write_bytes(ALICE.seed)
    with pytest.raises(wws_backup.Failed, match="age did not encrypt"):
        wws_backup.make(host.given(file=str(tmp_path / "b"), recipients=["age1nobody"]))
    assert not list(tmp_path.glob("*b*"))
