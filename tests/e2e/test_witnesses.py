"""A name and its witnesses, through the real programs: seen by a majority, defended, given away.

Three bootstrap nodes of a signed network are the witnesses; alice, bob and carol are agents of three homes.
Two witnesses are killed and come back, with what they had promised.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import Programs
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.network import Network
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.runtime import keyfile

pytestmark = [pytest.mark.net, pytest.mark.timeout(300)]

DOMAIN = "witnessed.wws.test"
NOWHERE = ("--dns-server", "127.0.0.1:1")
"""Nobody answers there: the network file says all there is to know."""


class WitnessedNetwork:
    """Three bootstrap nodes on loopback, and the network file that pins them for agents."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.publisher = Identity.generate()
        self.file = programs.folder / "network.json"
        self.keys: list[Path] = []
        self.peers: list[PeerId] = []
        self.listening: list[str] = []
        self._nodes: dict[int, subprocess.Popen[str]] = {}
        for number in range(3):
            key = programs.folder / f"witness{number}.key"
            self.keys.append(key)
            self.peers.append(keyfile.create(key).peer_id)
        # The witnesses only need to know who they are; where they are shows when they listen.
        self._for_witnesses = programs.folder / "witnesses.json"
        self._write(self._for_witnesses, [Multiaddr.of("127.0.0.1", 1, "tcp", peer) for peer in self.peers])
        for number in range(3):
            self.listening.append(self.start(number, "/ip4/127.0.0.1/tcp/0"))
        addresses = zip(self.listening, self.peers, strict=True)
        self._write(self.file, [Multiaddr.parse(text).with_peer(peer) for text, peer in addresses])

    def start(self, number: int, listen: str) -> str:
        """Start a witness, and say where it listens."""
        home = self.home(number)
        node = self._nodes[number] = self.programs.start(
            "wws-bootstrap",
            *("--home", str(home), "--identity-path", str(self.keys[number]), "--listen", listen),
            *("--network", str(self._for_witnesses), *NOWHERE, "--rpc", "", "--http", ""),
        )
        ready = home / "run" / "bootstrap" / "ready.json"

        def is_up() -> bool:
            assert node.poll() is None, node.communicate()
            return ready.exists() and json.loads(ready.read_text())["pid"] == node.pid

        until(is_up)
        return str(json.loads(ready.read_text())["listen"][0])

    def kill(self, number: int) -> None:
        """End a witness in the middle of whatever it does."""
        node = self._nodes.pop(number)
        os.kill(node.pid, signal.SIGKILL)
        node.communicate(timeout=20)

    def stop(self) -> None:
        """End those that are left."""
        for node in self._nodes.values():
            node.terminate()
            node.communicate(timeout=20)

    def home(self, number: int) -> Path:
        return self.programs.folder / f"witness{number}"

    def entries(self, number: int) -> list[dict[str, Any]]:
        """The names that a witness holds, and for whom."""
        found: list[dict[str, Any]] = self.programs.ops("witness", "list", "--home", str(self.home(number)))[
            "entries"
        ]
        return found

    def _write(self, path: Path, peers: list[Multiaddr]) -> None:
        network = Network("witnessed", DOMAIN, (self.publisher.public_key,), tuple(peers), issued_at=1)
        path.write_bytes(network.to_file([self.publisher]))


class Agent:
    """One person's home."""

    def __init__(self, network: WitnessedNetwork, label: str) -> None:
        self.network = network
        self.label = label

    def __call__(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        home = self.network.programs.folder / self.label
        found: dict[str, Any] = self.network.programs.json(
            "--home", str(home), *arguments, exit_code=exit_code
        )
        return found["errors"][0] | found["data"] if exit_code else found["data"]

    def join(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        return self(
            *("join", "--network", str(self.network.file), "--listen", "/ip4/127.0.0.1/tcp/0", *NOWHERE),
            *("--rpc", "", *arguments),
            exit_code=exit_code,
        )

    def name(self, name: str) -> dict[str, Any]:
        """How one of its names stands."""
        return next(entry for entry in self("name", "list")["names"] if entry["name"] == name)

    def renewed(self, name: str) -> dict[str, Any]:
        """How it stands when it has been renewed."""
        self("name", "renew", name)
        return self.name(name)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Other processes make it true: there is nothing to wait on but the clock."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


@pytest.fixture
def network(programs: Programs) -> Iterator[WitnessedNetwork]:
    network = WitnessedNetwork(programs)
    yield network
    network.stop()


def test_a_name_among_its_witnesses(network: WitnessedNetwork) -> None:
    alice, bob, carol = (Agent(network, label) for label in ("alice", "bob", "carol"))
    joined = alice.join("--name", "alice")
    assert (joined["name"], joined["witnessed"]) == ("alice", True)
    held = alice.name("alice")
    assert (held["state"], held["receipts"], held["witnesses"]) == ("held", 3, 3)

    bob.join()
    refused = bob("name", "claim", "alice", exit_code=7)
    assert (refused["code"], refused["holder"]) == ("name_taken", joined["did"])
    assert bob("resolve", "wws://alice")["witnessed"] is True

    # Two of three witnesses are gone: who has a name goes on, who comes new is not covered yet.
    network.kill(0)
    network.kill(1)
    assert alice.name("alice")["state"] == "held"
    claimed = bob("name", "claim", "robert")
    assert (claimed["witnessed"], bob.name("robert")["state"]) == (False, "held")
    assert bob.name("robert")["problem"]

    # They come back with all they have promised, and cover by themselves what they had missed.
    for number in (0, 1):
        assert network.start(number, network.listening[number]) == network.listening[number]
    until(lambda: bool(bob.name("robert")["witnessed"]))
    assert bob("name", "claim", "alice", exit_code=7)["code"] == "name_taken"

    entry = alice("name", "transfer", "alice", bob("id")["peer_id"])["entry"]
    assert alice.name("alice")["state"] == "transferring"
    assert carol.join()["joined"] is True
    assert carol("name", "accept", json.dumps(entry), exit_code=7)["code"] == "transfer_refused"
    assert bob("name", "accept", json.dumps(entry))["witnessed"] is True
    found = carol("resolve", "alice")
    assert (found["did"], found["witnessed"]) == (bob("id")["did"], True)
    again = alice("name", "transfer", "alice", carol("id")["peer_id"], exit_code=7)
    assert again["code"] in ("double_transfer", "name_not_held")

    shown = network.programs.ops("witness", "list", "--home", str(network.home(2)))
    assert {entry["name"]: entry["owner"] for entry in shown["entries"]} == {
        "alice": bob("id")["peer_id"],
        "robert": bob("id")["peer_id"],
    }
    assert network.programs.ops("witness", "conflicts", "--home", str(network.home(2)))["conflicts"] == []


def test_a_replaced_witness_takes_over_from_receipts(network: WitnessedNetwork) -> None:
    """A host is lost with its disk, and another takes its key: owners show it what it had promised."""
    alice, bob = Agent(network, "alice"), Agent(network, "bob")
    alice.join("--name", "alice")
    bob.join()
    [promised] = network.entries(0)

    network.kill(0)
    book = network.home(0) / "state" / "bootstrap" / "witness.sqlite"
    shutil.rmtree(network.home(0))
    book.parent.mkdir(parents=True, mode=0o700)
    book.write_text("lost\n")
    network.start(0, network.listening[0])
    assert network.entries(0) == []

    # Nobody gets it there in the meantime; its owner has it back by what the witness itself has signed.
    assert bob("name", "claim", "alice", exit_code=7)["code"] == "name_taken"
    until(lambda: alice.renewed("alice")["receipts"] == 3)
    [again] = network.entries(0)
    assert {key: again[key] for key in ("name", "owner", "registered_at")} == {
        key: promised[key] for key in ("name", "owner", "registered_at")
    }
    # What comes new has the majority of the other two.
    bob("name", "claim", "robert")
    until(lambda: bob.name("robert")["witnessed"] is True)
    assert [entry["name"] for entry in network.entries(0)] == ["alice"]
