"""`wws-control` as root, of a node that somebody has taken over: what the node can write is his."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

from bootstrap_node import control
from tests.prerequisites import require
from wws.client import call_once
from wws.errors import WwsError
from wws.rpc.codes import Exit
from wws.runtime.homes import Home, Ready
from wws.runtime.witness.rows import TABLES

NODE = "nobody"

pytestmark = pytest.mark.net


class Taken:
    """A home in which the node's user does what he likes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = Home(root / "home").node("bootstrap")
        self.paths.run.mkdir(parents=True)
        self.paths.state.mkdir(parents=True)
        self.ready = Ready("bootstrap", os.getpid(), "p", "d", (), None, None, self.socket, self.cookie)

    @property
    def socket(self) -> str:
        return str(self.paths.run / "s")

    @property
    def cookie(self) -> str:
        return str(self.paths.run / "rpc.cookie")

    def say(self, **changed: object) -> None:
        self.paths.ready_file.write_text(json.dumps({**asdict(self.ready), **changed}))
        self.give()

    def give(self) -> None:
        node = pwd.getpwnam(NODE)
        for path in (self.root / "home", *(self.root / "home").rglob("*")):
            os.chown(path, node.pw_uid, node.pw_gid, follow_symlinks=False)

    def control(self, *arguments: str) -> int:
        return control.main(["--home", str(self.root / "home"), *arguments])


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Taken]:
    require("root")
    monkeypatch.delenv("WWS_HOME", raising=False)
    root = Path(tempfile.mkdtemp(prefix="wws-t-"))
    root.chmod(0o755)
    try:
        yield Taken(root)
        assert (os.getresuid(), os.getresgid()) == ((0, 0, 0), (0, 0, 0))
    finally:
        shutil.rmtree(root)


def test_root_signals_no_process_but_the_nodes(taken: Taken) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:  # SIGHUP would end it
        try:
            taken.say(pid=other.pid)
            assert taken.control("reload") == Exit.NO_NODE
            assert taken.control("status") == Exit.NO_NODE
            assert other.poll() is None
        finally:
            other.kill()


def test_root_copies_no_file_that_the_node_could_not_read(taken: Taken) -> None:
    secret, copy = taken.root / "secret.sqlite", taken.root / "copy"
    with closing(sqlite3.connect(secret)) as database:
        database.executescript(TABLES)
    secret.chmod(0o600)
    taken.paths.witness.symlink_to(secret)
    taken.give()
    assert taken.control("witness-copy", str(copy)) == Exit.MACHINE
    assert not copy.exists()


def test_root_copies_the_nodes_own_book_to_where_the_node_gets_not(taken: Taken) -> None:
    private = taken.root / "private"
    private.mkdir(mode=0o700)
    with closing(sqlite3.connect(taken.paths.witness)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(TABLES)
        database.execute("INSERT INTO meta VALUES ('witness', 'carol')")
        database.commit()
        taken.give()
        assert taken.control("witness-copy", str(private / "copy")) == 0
    assert [path.name for path in private.iterdir()] == ["copy"]
    assert (private / "copy").stat().st_uid == 0
    assert {path.stat().st_uid for path in taken.paths.state.iterdir()} == {pwd.getpwnam(NODE).pw_uid}


@pytest.mark.parametrize("place", ["home", "shared"])
def test_root_makes_no_copy_where_somebody_could_swap_it_for_a_link(taken: Taken, place: str) -> None:
    (taken.root / "shared").mkdir()
    (taken.root / "shared").chmod(0o1777)
    with closing(sqlite3.connect(taken.paths.witness)) as database:
        database.executescript(TABLES)
    taken.give()
    before = sorted((taken.root / place).iterdir())
    assert taken.control("witness-copy", str(taken.root / place / "copy")) == Exit.MACHINE
    assert sorted((taken.root / place).iterdir()) == before


def serving(path: str, talk: Callable[[socket.socket], None]) -> socket.socket:
    """What answers on the node's socket, once."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    os.chmod(path, 0o666)
    listening.listen()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            talk(connection)

    threading.Thread(target=serve, daemon=True).start()
    return listening


STEERS = "\x1b]0;mine\x07\u202e1.0\nthree   up"


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"version": STEERS, "addresses": [STEERS], "status": {"a": STEERS}}},
        {"result": {"join": {"warnings": [{"message": STEERS}, {}, 7]}, "connections": [1]}},
        {"result": [1]},
        {"result": None},
        {"error": {"code": -1, "message": STEERS, "data": {"code": "x", "hint": STEERS}}},
        {"error": STEERS},
        {"result": {"a": [[[[[[{}]]]]]]}},
    ],
)
@pytest.mark.parametrize("words", [["status"], ["drain"], ["drain", "--undo"]])
def test_what_a_node_says_steers_no_terminal(
    taken: Taken, capsys: pytest.CaptureFixture[str], answer: dict[str, object], words: list[str]
) -> None:
    line = json.dumps({"jsonrpc": "2.0", "id": 1, **answer}).encode() + b"\n"
    # The process is one of the node's user, so that it is believed to run.
    with subprocess.Popen(["sleep", "60"], user=NODE) as process:
        try:
            taken.say(pid=process.pid)
            with closing(serving(taken.socket, lambda connection: connection.sendall(line))):
                taken.control(*words)
        finally:
            process.kill()
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert text.replace("\n", "").isprintable()
        assert "\nthree" not in text


def test_an_answer_in_drips_ends_in_time(taken: Taken) -> None:
    gone = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not gone.wait(0.05):
            connection.sendall(b" ")

    ready = taken.ready
    with closing(serving(ready.socket, drip)):
        with pytest.raises(WwsError, match="no answer in"):
            call_once(ready, "swarm.get_status", timeout=0.5)
        gone.set()
