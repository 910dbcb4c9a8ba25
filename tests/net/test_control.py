"""`wws-control` against a bootstrap node in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bootstrap_node import control
from wws.rpc import api
from wws.rpc.codes import Exit
from wws.runtime.homes import Home, Ready
from wws.runtime.rpc_server import RpcServer, RpcServerConfig
from wws.runtime.witness.rows import TABLES
from wws.testing.fake_node import FakeNode

REPOSITORY = Path(__file__).parents[2]
Run = Callable[..., tuple[int, "dict[str, object]", str]]

pytestmark = pytest.mark.net


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on the node of the test with `--json`; its exit code, data, and first error's code."""
    monkeypatch.delenv("WWS_HOME", raising=False)

    def run_one(*arguments: str) -> tuple[int, dict[str, object], str]:
        code = control.main(["--home", str(tmp_path), *arguments, "--json"])
        answer = json.loads(capsys.readouterr().out)
        assert answer["ok"] is (code == 0)
        assert answer["schema"].startswith("wws-control")
        return code, answer["data"], answer["errors"][0]["code"] if answer["errors"] else ""

    return run_one


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Ready]:
    """A bootstrap node of a network that nobody else is in."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
    env |= {"PYTHONPATH": str(REPOSITORY), "XDG_RUNTIME_DIR": str(tmp_path)}
    env |= {"WWS_NETWORK_ENABLE_MDNS": "false"}  # else other tests' nodes are found
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bootstrap_node", "--home", str(tmp_path), "--rpc", ""),
            *("--http", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0"),
            *("--network", "example.org", "--allow-unsigned", "--identity-path", str(tmp_path / "key")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"PeerId: ")
        ready = Home(tmp_path).node("bootstrap").read_ready()
        assert ready is not None
        yield ready
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0


def test_a_whole_visit(tmp_path: Path, node: Ready, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One node for all of it: its start is what costs time."""
    code, status, _ = run("status")
    assert code == 0
    assert (status["peer_id"], status["pid"], status["http"]) == (node.peer_id, node.pid, node.http)
    assert (status["reservations"], status["circuits"], status["witness_entries"]) == (0, 0, 0)
    assert status["draining"] is False
    assert status["bundle_seq"] is None
    assert isinstance(status["rss_bytes"], int)
    assert status["rss_bytes"] > 1_000_000
    assert isinstance(status["open_files"], int)
    assert control.main(["--home", str(tmp_path), "status"]) == 0
    assert f"peer_id           {node.peer_id}\n" in capsys.readouterr().out

    assert run("health")[0] == 0
    code, drained, _ = run("drain", "--wait", "5")
    assert code == 0
    assert drained == {
        "draining": True, "reservations": 0, "announced_by": 0, "circuits": 0, "connections": 0,
    }  # fmt: skip
    assert run("status")[1]["draining"] is True
    code, health, _ = run("health")
    assert code == Exit.BUG
    assert json.loads(str(health["answer"])) == {"ready": False, "missing": ["draining"]}
    assert run("health", "--live", "--http", str(node.http))[0] == 0
    assert run("drain", "--undo")[1]["draining"] is False
    assert run("health")[0] == 0

    assert run("reload") == (0, {"node": "bootstrap", "pid": node.pid}, "")
    assert run("status")[0] == 0

    copy = tmp_path / "copies" / "witness.sqlite"
    assert run("witness-copy", str(copy))[2] == "cannot_write"
    copy.parent.mkdir()
    for _ in range(2):  # a second time it takes the place of the first
        code, copied, _ = run("witness-copy", str(copy))
        assert code == 0
        assert copied["witness"] == node.peer_id
        assert copied["bytes"] == copy.stat().st_size
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in copy.parent.iterdir()] == ["witness.sqlite"]


class Emptying(FakeNode):
    """A relay of which one agent moves away each time somebody looks, down to `staying`."""

    staying = 0

    async def status(self) -> api.NodeStatus:
        assert self.relay is not None
        self.relay = replace(self.relay, announced_by=max(self.staying, self.relay.announced_by - 1))
        return await super().status()


@pytest.mark.parametrize(
    "staying, wait, left, said",
    [
        (0, "30", 0, "nobody tells others to come this way. 2 circuits run on."),
        (1, "0.5", 1, "1 of 4 agents have not moved yet."),
        (3, "0", 3, "3 of 4 agents have not moved yet."),
    ],
)
async def test_it_waits_until_the_agents_have_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], staying: int, wait: str, left: int, said: str
) -> None:
    node, paths = Emptying("carol"), Home(tmp_path).node("carol")
    node.staying = staying
    node.relay = api.RelayService(4, 4, 2, bytes_today=0, bytes_per_day=None, resets_in_s=1.0)
    server = RpcServer(node, paths, RpcServerConfig(port=None), env={"XDG_RUNTIME_DIR": str(tmp_path)})
    await server.start()  # looks once
    socket, cookie = str(server.socket_path), str(server.cookie_path)
    paths.write_ready(Ready("carol", os.getpid(), node.peer_id, node.did, (), None, None, socket, cookie))
    try:
        arguments = ["--home", str(tmp_path), "drain", "--wait", wait]
        assert await asyncio.to_thread(control.main, arguments) == 0
        assert said in capsys.readouterr().out
        assert node.relay.announced_by == left
        assert node.draining
        assert await asyncio.to_thread(control.main, [*arguments[:3], "--undo", "--json"]) == 0
        assert not node.draining
    finally:
        await server.close()


def test_a_copy_has_what_the_log_of_the_file_has(tmp_path: Path, run: Run) -> None:
    """Without a node as well; with the last transactions still in the file beside it, and without."""
    book = Home(tmp_path).node("bootstrap").witness
    book.parent.mkdir(parents=True)
    with closing(sqlite3.connect(book, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(TABLES)
        database.execute("INSERT INTO meta VALUES ('witness', 'carol')")
        assert book.with_name("witness.sqlite-wal").stat().st_size > 0
        code, copied, _ = run("witness-copy", str(tmp_path / "copy"))
    assert (code, copied["witness"]) == (0, "carol")
    with closing(sqlite3.connect(tmp_path / "copy")) as database:
        assert database.execute("SELECT value FROM meta").fetchall() == [("carol",)]
    assert not book.with_name("witness.sqlite-wal").exists()
    assert run("witness-copy", str(tmp_path / "copy"))[1]["witness"] == "carol"


@pytest.mark.parametrize("content", [None, b"lost", b"SQLite format 3\0" + b"\1" * 5000])
def test_what_is_no_book_is_not_copied(tmp_path: Path, run: Run, content: bytes | None) -> None:
    book = Home(tmp_path).node("bootstrap").witness
    if content is not None:
        book.parent.mkdir(parents=True)
        book.write_bytes(content)
    code, _, word = run("witness-copy", str(tmp_path / "copy"))
    assert (code, word) == (10, "cannot_read")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("command", ["status", "drain", "reload"])
def test_without_a_node(run: Run, command: str) -> None:
    assert run(command)[::2] == (Exit.NO_NODE, "node_not_running")


@pytest.mark.parametrize(
    "arguments",
    [[], ["frobnicate"], ["drain", "--wait", "soon"], ["drain", "--wait", "-1"], ["witness-copy"]],
)
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    assert run(*arguments)[::2] == (Exit.USAGE, "wrong_usage")


def test_a_server_that_is_not_there_is_not_healthy(run: Run) -> None:
    code, health, _ = run("health", "--http", "127.0.0.1:1")
    assert (code, health["healthy"]) == (1, False)


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_root_takes_the_place_of_the_node_s_user(tmp_path: Path) -> None:
    """The node's socket answers its own user and nobody else."""
    os.chown(tmp_path, 65534, 65534)
    with control._as_owner_of(Home(tmp_path)):
        assert os.geteuid() == 65534
    assert os.geteuid() == 0
