"""The network of the demo: DNS server, bootstrap nodes, agents, started as an operator or user would."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agent_cli.demo.processes import POLL, TAIL, Processes, StepFailed
from agent_cli.demo.records import Place, choose_places, make_domain, make_zone
from wws.client import NodeNotRunning, call_once
from wws.identity.keys import Identity
from wws.programs import command_of, command_of_module
from wws.runtime import keyfile
from wws.runtime.homes import Home, NodePaths

BOOTSTRAP_NODES = 3
START_TIMEOUT = 30.0
"""Seconds that the DNS server or the bootstrap nodes may take to be up."""
PINGS = 2


@dataclass(frozen=True, slots=True)
class BootstrapNode:
    """One running bootstrap node."""

    identity: Identity
    place: Place
    process: subprocess.Popen[bytes]
    paths: NodePaths
    log: Path

    @property
    def address(self) -> str:
        return f"{self.place.multiaddr}/p2p/{self.identity.peer_id}"


@dataclass(frozen=True, slots=True)
class Reached:
    """One agent has resolved and pinged another."""

    source: str
    target: str
    address: str
    rtt_ms: float


class Mesh:
    """Starts the parts of the demo one by one. Every method raises `StepFailed`."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.folder = processes.folder
        self.domain = make_domain()
        self.publisher = Identity.generate()
        self.bootstrap: list[BootstrapNode] = []
        self.dns_server = ""
        self._nodes: list[tuple[Identity, Place]] = []

    @property
    def network(self) -> str:
        """What an agent types after `--network`."""
        return f"{self.domain}#{self.publisher.public_key.hex()}"

    def start_dns(self) -> str:
        """Make the keys and the records, and serve them; the server's `IP:PORT`."""
        places = choose_places(BOOTSTRAP_NODES, random.Random())
        for number, place in enumerate(places, start=1):
            identity, _ = keyfile.load_or_create(self._home(f"bootstrap-{number}").root / "key", os.environ)
            self._nodes.append((identity, place))
        zone, log = self.folder / "zone.json", self.folder / "dns.log"
        zone.write_text(json.dumps(make_zone(self.domain, self.publisher, self._nodes)))
        process = self.processes.start([*command_of_module("wws.testing.dns_server"), f"--zone={zone}"], log)
        self._wait_until(lambda: b"\n" in log.read_bytes(), process, log, "the DNS server")
        ready = json.loads(log.read_text().partition("\n")[0])
        self.dns_server = f"{ready['host']}:{ready['port']}"
        return self.dns_server

    def start_bootstrap_nodes(self) -> None:
        """Start them all, and wait until each has found the others."""
        self.bootstrap = [self.start_bootstrap_node(number) for number in range(1, BOOTSTRAP_NODES + 1)]
        for node in self.bootstrap:
            what = f"the bootstrap node {node.place.multiaddr}"
            self._wait_until(partial(_knows_the_others, node.paths), node.process, node.log, what)

    def start_bootstrap_node(self, number: int) -> BootstrapNode:
        """Start one of them, counted from 1; returns at once."""
        identity, place = self._nodes[number - 1]
        home = self._home(f"bootstrap-{number}")
        process = self.processes.start(
            [
                *command_of("wws-bootstrap"),
                f"--home={home.root}",
                f"--identity-path={home.root / 'key'}",
                f"--listen={place.multiaddr}",
                *self.network_options,
                "--rpc=",
                "--http=",
            ],
            home.root / "log",
        )
        return BootstrapNode(identity, place, process, home.node("bootstrap"), home.root / "log")

    @property
    def network_options(self) -> list[str]:
        return [f"--network={self.network}", f"--dns-server={self.dns_server}"]

    def join(self, name: str) -> dict[str, Any]:
        """`wws join` of a new agent: its answer."""
        return self.processes.wws(
            f"--home={self._home(name).root}",
            "join",
            f"--name={name}",
            *self.network_options,
            "--listen=/ip4/127.0.0.1/tcp/0",
            "--rpc=",
            "--http=",
        )

    def reach(self, source: str, target: str) -> Reached:
        """`wws resolve` and `wws ping` from one agent to another."""
        home = f"--home={self._home(source).root}"
        resolved: dict[str, Any] = self.processes.wws(home, "resolve", f"wws:{target}")
        pinged: dict[str, Any] = self.processes.wws(home, "ping", f"wws:{target}", "-c", str(PINGS))
        best = min(reply["rtt_ms"] for reply in pinged["replies"] if reply["rtt_ms"] is not None)
        return Reached(source, target, resolved["addresses"][0], best)

    def kill_bootstrap_node(self) -> BootstrapNode:
        """SIGKILL the first bootstrap node: no farewell, as when a machine dies."""
        node = self.bootstrap[0]
        self.processes.kill(node.process.pid)
        return node

    def _home(self, name: str) -> Home:
        home = Home(self.folder / name)
        home.root.mkdir(exist_ok=True, mode=0o700)
        return home

    def _wait_until(
        self, is_done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, what: str
    ) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not is_done():
            if process.poll() is not None:
                raise StepFailed(f"{what} ended with exit code {process.returncode}", _end_of(log))
            if time.monotonic() >= deadline:
                raise StepFailed(f"{what} was not up after {START_TIMEOUT:g} s", _end_of(log))
            time.sleep(POLL)


def _knows_the_others(node: NodePaths) -> bool:
    """Whether a bootstrap node is up and connected to all the others."""
    ready = node.read_ready()
    if ready is None:
        return False
    try:
        status = call_once(ready, "swarm.get_status")
    except NodeNotRunning:
        return False
    return bool(status["joined"] and status["peers"] >= BOOTSTRAP_NODES - 1)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-TAIL:]
