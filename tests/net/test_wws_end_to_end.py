"""The main job through the real command and the real node: alice joins, bob reaches her by name.

An ad hoc network of one bootstrap node on loopback; every command is a process of its own.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_cli.connector import has_ended
from wws.runtime.homes import Home, Ready
from wws.testing import scale

pytestmark = [pytest.mark.net, pytest.mark.timeout(300)]

PROGRAM = "import sys; from {module} import main; sys.exit(main())"


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def data(self) -> dict:
        return json.loads(self.out)["data"]

    @property
    def word(self) -> str:
        return json.loads(self.out)["errors"][0]["code"]


@dataclass
class Machine:
    """A folder with homes in it, and the processes started there."""

    root: Path
    bootstrap: str = ""
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(module=module), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
            env={
                **kept,
                "HOME": str(self.root),
                "XDG_RUNTIME_DIR": str(self.root),
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "WWS_NETWORK_ENABLE_MDNS": "false",
            },
        )
        self.started.append(process)
        return process

    def wws(self, home: str, *arguments: str) -> Ran:
        process = self.start("agent_cli.app", "--home", str(self.root / home), "--json", *arguments)
        out, err = process.communicate(timeout=90)
        return Ran(process.returncode, out, err)

    def join(self, home: str, *arguments: str) -> Ran:
        return self.wws(home, "join", *self.joining, *arguments)

    @property
    def joining(self) -> tuple[str, ...]:
        return ("--bootstrap", self.bootstrap, "--listen", "/ip4/127.0.0.1/tcp/0")

    def running(self, home: str) -> list[Ready]:
        return Home(self.root / home).running_nodes()

    def leave_all(self) -> None:
        for home in self.root.iterdir():
            for ready in self.running(home.name):
                with contextlib.suppress(ProcessLookupError):  # it was just ending by itself
                    os.kill(ready.pid, signal.SIGTERM)
                deadline = time.monotonic() + 20
                while not has_ended(ready.pid, ready.started) and time.monotonic() < deadline:
                    time.sleep(0.02)
        for process in self.started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=20)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    tmp_path.chmod(0o700)
    machine = Machine(tmp_path)
    bootstrap = machine.start(
        "bootstrap_node.__main__",
        *("--home", str(tmp_path / "bootstrap"), "--listen", "/ip4/127.0.0.1/tcp/0"),
        *("--rpc", "", "--http", ""),
    )
    try:
        while not machine.running("bootstrap"):
            assert bootstrap.poll() is None, bootstrap.communicate()
            time.sleep(0.02)
        (ready,) = machine.running("bootstrap")
        machine.bootstrap = f"{ready.listen[0]}/p2p/{ready.peer_id}"
        yield machine
    finally:
        machine.leave_all()


def test_alice_joins_and_bob_reaches_her(machine: Machine) -> None:
    alice = machine.join("alice", "--name", "alice")
    bob = machine.join("bob", "--name", "bob")
    for joined, name in ((alice, "alice"), (bob, "bob")):
        assert joined.code == 0, joined
        assert joined.data["name"] == name
        assert joined.data["joined"] is True
    found = machine.wws("bob", "resolve", "wws:alice")
    assert found.data["did"] == alice.data["did"]
    did = alice.data["did"]
    for home, target in (("bob", "alice"), ("alice", "bob"), ("bob", did), ("bob", "wws://alice")):
        pinged = machine.wws(home, "ping", target, "-c", "2", "--require-direct")
        assert (pinged.code, pinged.data["received"]) == (0, 2), pinged
    assert {peer["peer_id"] for peer in machine.wws("alice", "peers").data["peers"]} >= {bob.data["peer_id"]}
    assert machine.wws("bob", "resolve", "carol").word == "name_not_found"

    rival = machine.join("carol", "--name", "alice")
    assert (rival.code, rival.word) == (7, "name_taken")
    assert rival.data["holder"] == alice.data["did"]

    again = machine.join("alice", "--name", "alice")
    assert (again.code, again.data["already_running"]) == (0, True)
    left = machine.wws("alice", "leave", "--release-name")
    assert (left.code, left.data["released"]) == (0, ["alice"])
    gone = machine.wws("bob", "resolve", "alice")
    assert (gone.code, gone.word) == (4, "name_released")


def test_no_way_in_and_no_network(machine: Machine) -> None:
    assert machine.wws("dave", "join").word == "no_network"
    dead = f"/ip4/127.0.0.1/tcp/1/p2p/{machine.bootstrap.rpartition('/')[2]}"
    joined = machine.wws("dave", "join", "--bootstrap", dead, "--listen", "/ip4/127.0.0.1/tcp/0")
    assert (joined.code, joined.word) == (9, "no_way_in")
    assert joined.data["tried"]
    assert machine.wws("dave", "status").data["status"] == "failed_retrying"
    assert machine.wws("dave", "leave").code == 0
    assert machine.running("dave") == []


def test_one_key_runs_one_node(machine: Machine) -> None:
    assert machine.join("alice", "--name", "alice").code == 0
    key = str(machine.root / "alice" / "alice.key")
    second = machine.join("alice", "--node", "other", "--identity-path", key)
    assert (second.code, second.word) == (7, "identity_in_use")


def test_another_key_than_last_time_is_said_with_the_way_back(machine: Machine) -> None:
    key = machine.root / "my keys" / "carl.key"
    carl = ("carl", "--name", "carl", "--rpc", "", "--http", "")  # their ports may be another test's
    first = machine.join(*carl, "--identity-path", str(key))
    assert (first.code, first.data["warnings"]) == (0, [])
    assert machine.wws("carl", "leave").code == 0

    way_back = f"--identity-path '{key}'"
    other = machine.join(*carl)
    assert (other.code, other.word) == (7, "name_taken")
    assert other.data["peer_id"] != first.data["peer_id"]
    (warning,) = other.data["warnings"]
    assert warning["code"] == "identity_changed"
    assert f"carl ran as {first.data['peer_id']} with the key {key} until now" in warning["message"]
    assert way_back in warning["message"]
    assert way_back in json.loads(other.out)["errors"][0]["hint"]
    assert warning in machine.wws("carl", "status").data["join"]["warnings"]
    claimed = machine.wws("carl", "name", "claim", "carl")
    assert (claimed.code, claimed.word) == (7, "name_taken")
    assert way_back in json.loads(claimed.out)["errors"][0]["hint"]
    machine.wws("carl", "leave")

    again = machine.join(*carl)
    assert again.data["warnings"] == [], "this is who it was the last time"
    assert way_back in json.loads(again.out)["errors"][0]["hint"], "and the name is that of the one before"
    machine.wws("carl", "leave")
    back = machine.join(*carl, "--identity-path", str(key))
    assert (back.code, back.data["peer_id"]) == (0, first.data["peer_id"])
    assert back.data["name"] == "carl"


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds the node process in /proc")
def test_a_join_killed_at_any_moment_leaves_a_clean_start(machine: Machine) -> None:
    rng = random.Random("killed joins")
    identities = set()
    for _ in range(scale(100)):
        home = str(machine.root / "alice")
        process = machine.start("agent_cli.app", "--home", home, "join", *machine.joining)
        time.sleep(rng.uniform(0, 1.0))  # the moment of the kill, not a wait for anything
        process.kill()
        process.communicate()
        machine.started.remove(process)
        for pid in _nodes_of(machine.root / "alice"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            while not has_ended(pid, None):
                time.sleep(0.01)
        key = machine.root / "alice" / "identity.key"
        if key.exists():
            identities.add(key.read_bytes())
    joined = machine.join("alice", "--name", "alice")
    assert joined.code == 0, joined
    assert len(identities) <= 2  # that of `identity.key`; with `--name alice` it is another file
    assert all(len(identity) == 32 for identity in identities)


def _nodes_of(home: Path) -> list[int]:
    """The node processes of a home, also those that have not written `ready.json` yet."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"wws.runtime" in line and os.fsencode(home) in line:
            found.append(int(entry.name))
    return found
