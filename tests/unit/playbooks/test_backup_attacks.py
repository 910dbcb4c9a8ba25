"""Backups of nodes and hosts that somebody has taken over: root is led nowhere, and nothing is believed."""

from __future__ import annotations

import gzip
import io
import json
import os
import pwd
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.prerequisites import require
from tests.unit.playbooks.modules import Given, load
from wws.identity.keys import Identity

wws_backup = load("wws_backup")
ALICE = Identity.from_label("alice")
NODE = "nobody"
"""Whose the home is: whoever has taken the node over may do there what he likes."""


class Host:
    """A host as root sees it, with the node's home in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.settings, self.home = root, root / "etc", root / "home"
        self.secrets = root / "secrets"
        for folder in (self.settings, self.home, self.secrets):
            folder.mkdir(mode=0o755)
        (self.settings / "identity.key").write_bytes(ALICE.seed)
        (self.settings / "identity.key").chmod(0o600)
        (self.secrets / "shadow").write_bytes(b"hashes")
        (self.secrets / "shadow").chmod(0o600)
        for folder in (self.home, self.home / "networks", self.home / "state", self.state):
            folder.mkdir(exist_ok=True)
            self.give(folder)

    @property
    def state(self) -> Path:
        return self.home / "state/bootstrap"

    @staticmethod
    def give(path: Path) -> None:
        found = pwd.getpwnam(NODE)
        os.chown(path, found.pw_uid, found.pw_gid, follow_symlinks=False)

    def given(self, **more: object) -> Given:
        places = {"settings": str(self.settings), "home": str(self.home), "root": str(self.root / "opt")}
        usual = {"peer_id": str(ALICE.peer_id), "final": False, "put_book": True, "recipients": ["age1x"]}
        fixed = {"node": "bootstrap", "user": NODE, "unit": "wws-bootstrap.service"}
        return Given(False, **{**places, **usual, **fixed, "file": str(self.root / "backup"), **more})


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Where the node's user gets, too: folders of tests are root's alone."""
    require("root", "age")
    monkeypatch.setattr(wws_backup, "_is_active", lambda unit: False)
    root = Path(tempfile.mkdtemp(prefix="wws-test-"))
    root.chmod(0o755)
    mask = os.umask(0o022)
    try:
        yield Host(root)
    finally:
        os.umask(mask)
        shutil.rmtree(root)


def _link_to_key(host: Host) -> None:
    (host.home / "networks/lab.state").symlink_to(host.settings / "identity.key")


def _link_to_secret(host: Host) -> None:
    (host.state / "relay.json").symlink_to(host.secrets / "shadow")


def _folder_of_links(host: Host) -> None:
    (host.home / "networks").rmdir()
    (host.home / "networks").symlink_to(host.secrets)


def _pipe(host: Host) -> None:
    os.mkfifo(host.state / "peers.json")
    host.give(host.state / "peers.json")


def _book_elsewhere(host: Host) -> None:
    (host.state / "witness.sqlite").symlink_to(host.secrets / "shadow")


def _many(host: Host) -> None:
    for index in range(300):
        path = host.home / f"networks/n{index}.state"
        path.write_bytes(b"{}")
        host.give(path)


@pytest.mark.parametrize(
    "plant, reason",
    [
        (_link_to_key, "is a link"),
        (_link_to_secret, "is a link"),
        (_folder_of_links, "Permission denied"),
        (_pipe, "is no file"),
        (_book_elsewhere, "is a link"),
        (_many, "more than 256 files"),
    ],
)
def test_root_backs_up_nothing_that_the_node_could_not_read(
    host: Host, plant: Callable[[Host], None], reason: str
) -> None:
    plant(host)
    with pytest.raises((wws_backup.Failed, PermissionError), match=reason):
        wws_backup.make(host.given())
    assert not (host.root / "backup").exists()
    assert os.geteuid() == 0


def test_the_copy_of_the_book_is_never_given_away_by_root(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node puts a link in place of the folder as soon as it is there."""
    book = host.state / "witness.sqlite"
    book.write_bytes(b"SQLite format 3\0" + bytes(84))
    host.give(book)
    make_folder = tempfile.mkdtemp

    def make_and_swap(prefix: str, dir: str) -> str:  # noqa: A002 - as it is called
        path = make_folder(prefix=prefix, dir=dir)
        os.rmdir(path)
        os.symlink(host.secrets, path)
        return path

    monkeypatch.setattr(wws_backup.tempfile, "mkdtemp", make_and_swap)
    control = host.root / "opt/current/bin/wws-control"
    control.parent.mkdir(parents=True)
    control.write_text('#!/bin/sh\nfor last; do :; done\necho mine >"$last"\n')
    control.chmod(0o755)
    with pytest.raises(wws_backup.Failed, match="cannot be copied"):
        wws_backup.make(host.given())
    assert host.secrets.stat().st_uid == 0
    assert os.listdir(host.secrets) == ["shadow"]


SYSTEMCTL = """\
#!/bin/sh
state={folder}/state
case $1 in
show) cat "$state" ;;
kill) echo killed >{folder}/killed ;;
stop) test -e {folder}/killed || exec sleep 60; echo inactive >"$state" ;;
esac
"""


def test_a_node_that_does_not_want_to_stop_is_sealed_and_stopped_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "systemctl").write_text(SYSTEMCTL.format(folder=tmp_path))
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "state").write_text("active\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(wws_backup, "STOP_WITHIN", 0.2)
    given = Given(settings=str(tmp_path), unit="wws-bootstrap.service")
    assert wws_backup.seal(given)["changed"] is True
    assert (tmp_path / "state").read_text() == "inactive\n"
    (tmp_path / "state").write_text("active\n")  # a run that was interrupted after the seal
    assert wws_backup.seal(given)["changed"] is False
    assert (tmp_path / "state").read_text() == "inactive\n"


def backup(path: Path, *, members: dict[str, bytes] | None = None, **changed: object) -> Path:
    """A backup whose host wrote into it what it liked."""
    files = {"etc/identity.key": ALICE.seed, **(members or {})}
    listed = [
        {"path": name, "size": len(data), "sha256": sha256(data).hexdigest()} for name, data in files.items()
    ]
    manifest = {"schema": 1, "id": "1" * 32, "peer_id": str(ALICE.peer_id), "final": True, "book": False}
    manifest |= {"node": "bootstrap", "files": listed, **changed}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("link", ["networks", "state", "state/bootstrap"])
def test_root_puts_nothing_where_the_node_could_not_write(host: Host, link: str) -> None:
    shutil.rmtree(host.home / link)
    (host.home / link).symlink_to(host.secrets)
    before = sorted(host.secrets.rglob("*"))
    members = {"home/networks/evil": b"ALL=(ALL) NOPASSWD: ALL\n"}
    with pytest.raises(PermissionError):
        wws_backup.put(host.given(file=str(backup(host.root / "b", members=members))))
    assert sorted(host.secrets.rglob("*")) == before
    assert os.geteuid() == 0


def test_what_is_put_back_is_the_nodes_own(host: Host) -> None:
    shutil.rmtree(host.home)
    members = {"home/networks/lab.state": b"{}", "etc/config.toml": b""}
    wws_backup.put(host.given(file=str(backup(host.root / "b", members=members))))
    node = pwd.getpwnam(NODE)
    assert {path.stat().st_uid for path in (host.home, *host.home.rglob("*"))} == {node.pw_uid}
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in host.settings.iterdir()}
    assert owners == {"identity.key": (0, 0), "config.toml": (0, node.pw_gid)}


BOOK = "home/state/../../../secrets/witness.sqlite"


@pytest.mark.parametrize(
    "changed",
    [
        {"node": "../../../secrets", "book": True, "members": {BOOK: b"x"}},
        {"node": "/etc"},
        {"node": 7},
        {"node": ["bootstrap"]},
        {"final": "yes"},
        {"id": None},
        {"members": {f"home/networks/n{index}": b"" for index in range(400)}},
    ],
)
def test_what_a_manifest_says_is_not_believed(host: Host, tmp_path: Path, changed: dict[str, object]) -> None:
    with pytest.raises(wws_backup.Failed):
        wws_backup.put(host.given(file=str(backup(tmp_path / "b", **changed))))  # type: ignore[arg-type]
    assert os.listdir(host.secrets) == ["shadow"]


def _packed(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))


def _sparse(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[156:157] = b"S"  # what unpacks to more than is there
    path.write_bytes(data)


def _link(path: Path) -> None:
    with tarfile.open(path, "a") as tar:
        entry = tarfile.TarInfo("home/networks/x")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(entry)


def _header(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 9000}) as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"), io.BytesIO())


@pytest.mark.parametrize("change", [_packed, _sparse, _link, _header])
def test_what_grows_as_it_is_read_is_not_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """On the operator's machine, where a backup of a host that was taken over is opened."""
    require("age", "age-keygen")
    plain, key = backup(tmp_path / "b"), tmp_path / "age.key"
    change(plain)
    subprocess.run(["age-keygen", "-o", str(key)], check=True, capture_output=True)
    made = subprocess.run(["age-keygen", "-y", str(key)], check=True, capture_output=True, text=True)
    sealed, opened = tmp_path / "b.age", tmp_path / "private/opened.tar"
    subprocess.run(["age", "-r", made.stdout.strip(), "-o", str(sealed), str(plain)], check=True)
    opened.parent.mkdir(mode=0o700)
    with pytest.raises(wws_backup.Failed, match="no backup of a node"):
        wws_backup.open_backup(Given(file=str(sealed), identity_file=str(key), opened=str(opened)))
    assert not opened.exists()
