"""Real programs inside the lab: bootstrap nodes in their regions, and agents wherever a machine stands.

    with Internet() as internet, Swarm.of(internet) as swarm:
        alice = swarm.agent("alice", home.host("alice"))
        swarm.wait_joined()
        swarm.wws(alice, "ping", "bob")

They form a network that is described by a file which pins the three bootstrap nodes: what they vouch for
is witnessed, and no DNS is needed. Local sockets lie in files, so every node can be asked from outside.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.programs import MODULES, Programs
from tests.lab.internet import REGIONS, Internet, Region, Uplink
from tests.lab.namespaces import Namespace
from tests.lab.probing import eventually
from wws import client
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.network import Network
from wws.discovery.publishers import PublisherKey
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.runtime.homes import Home, NodePaths, Ready

DOMAIN = "lab.wws.test"
_FOLDERS = Path("/tmp")
PORT = 9000
HTTP = 9371
START_WITHIN = 60.0
"""Seconds for a node to be up and joined, on a machine that is busy with other tests."""
TAIL = 6_000
"""Characters of its log that a failure shows."""

Json = dict[str, Any]


class NodeFailed(AssertionError):
    """A node did not do what it must; with the end of its log."""


@dataclass(eq=False)
class Node:
    """One program in one namespace; it may be ended and started again, with the same home and key."""

    name: str
    namespace: Namespace
    program: str
    arguments: tuple[str, ...]
    paths: NodePaths
    log: Path
    started: float = 0.0
    """When it was started last, monotonic."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def ready(self) -> Ready | None:
        return self.paths.read_ready()

    @property
    def port(self) -> int:
        """The port of its listeners, the same for TCP and UDP."""
        ready = self._up()
        return next(port for port in (Multiaddr.parse(text).port for text in ready.listen) if port)

    @property
    def peer_id(self) -> str:
        return self._up().peer_id

    def call(self, method: str, **parameters: object) -> Json:
        """Ask it over its local socket. Raises `RpcError`, `NodeNotRunning`."""
        answer: Json = client.call_once(self._up(), method, parameters)
        return answer

    def status(self) -> Json:
        return self.call("swarm.get_status")

    def paths_to(self, peer_id: str) -> list[Json]:
        """Its connections to a peer."""
        peers: list[Json] = self.call("swarm.peers")["peers"]
        return [peer for peer in peers if peer["peer_id"] == peer_id]

    def metrics(self) -> dict[str, float]:
        """Its metrics by name with labels, as Prometheus reads them."""
        with self.namespace.entered():
            connection = http.client.HTTPConnection("127.0.0.1", HTTP, timeout=10)
            connection.connect()
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows if name}

    def log_end(self, characters: int = TAIL) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def fail(self, why: str) -> NodeFailed:
        return NodeFailed(f"{self.name}: {why}\n--- the end of its log\n{self.log_end()}")

    def kill(self) -> None:
        """No farewell, as when a machine dies."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise self.fail("does not end") from None
            finally:
                self.process = None

    def _up(self) -> Ready:
        ready = self.ready
        if ready is None:
            raise self.fail("is not running")
        return ready


class Swarm:
    """A network of its own inside one lab. Start nodes in its thread: they die with the thread."""

    def __init__(self, internet: Internet, folder: Path, publisher: Identity | None = None) -> None:
        self.internet = internet
        self._publishers = () if publisher is None else (publisher,)
        self.folder = folder
        self.programs = Programs(folder)
        self.programs.env |= {
            "WWS_NETWORK_ENABLE_MDNS": "false",
            "WWS_NETWORK_AUTO_DISCOVER_BOOTSTRAP": "false",
            "WWS_RPC_TCP": "",
        }
        self.programs.env.pop("PYTHONDONTWRITEBYTECODE", None)  # so many of them are compiled once
        self.bootstraps: list[Node] = []
        self.uplinks: dict[str, Uplink] = {}
        """Of the bootstrap nodes, by name."""
        self.agents: list[Node] = []
        self._network = folder / "lab.json"

    @classmethod
    @contextlib.contextmanager
    def of(
        cls,
        internet: Internet,
        regions: Sequence[Region] = REGIONS,
        *,
        ipv6: bool = False,
        more_ports: Sequence[int] = (),
        publisher: Identity | None = None,
    ) -> Iterator[Swarm]:
        """A bootstrap node in each region, all up and connected; `more_ports` are further ones for TCP.

        The network has the key of its `publisher`, where there is one, who also signs its file.
        """
        folder = _new_folder()
        swarm = cls(internet, folder, publisher)
        try:
            swarm._start_bootstraps(regions, ipv6, more_ports)
            yield swarm
        finally:
            for node in (*swarm.agents, *swarm.bootstraps):
                if node.process is not None:
                    node.process.kill()
                    node.process.wait()
            shutil.rmtree(folder)

    @classmethod
    @contextlib.contextmanager
    def on(cls, internet: Internet, network: Path) -> Iterator[Swarm]:
        """Agents of a network whose bootstrap nodes are elsewhere: described by this file."""
        folder = _new_folder()
        swarm = cls(internet, folder)
        swarm._network.write_bytes(network.read_bytes())
        try:
            yield swarm
        finally:
            for node in swarm.agents:
                if node.process is not None:
                    node.process.kill()
                    node.process.wait()
            shutil.rmtree(folder)

    def agent(self, name: str, namespace: Namespace, *arguments: str) -> Node:
        """Start an agent that claims `name`; returns at once."""
        node = self._node(
            name,
            name,
            namespace,
            "wws-connector",
            "--name",
            name,
            "--network",
            str(self._network),
            *arguments,
        )
        self.agents.append(node)
        self.start(node)
        return node

    def start(self, node: Node) -> None:
        """Start a node, also once more; returns at once."""
        out = node.log.open("ab")
        with out:
            node.started = time.monotonic()
            node.process = node.namespace.start(
                [sys.executable, *MODULES[node.program], *node.arguments],
                env=self.programs.env,
                folder=node.paths.home.root,
                out=out,
                errors=out,
            )

    def wait_joined(self, *nodes: Node, within: float = START_WITHIN) -> dict[str, float]:
        """Wait until these, or all agents, have joined and hold their names: seconds from each start."""
        waiting = list(nodes or self.agents)
        took: dict[str, float] = {}

        def all_in() -> bool:
            for node in [node for node in waiting if node.name not in took]:
                if node.process is None or node.process.poll() is not None:
                    raise node.fail("has ended")
                if _is_in(node):
                    took[node.name] = time.monotonic() - node.started
            return len(took) == len(waiting)

        try:
            eventually(all_in, within)
        except TimeoutError:
            late = next(node for node in waiting if node.name not in took)
            raise late.fail(f"has not joined within {within:g} s: {_status_or_error(late)}") from None
        return took

    def wait(self, node: Node, what: str, is_so: Callable[[Json], bool], within: float) -> float:
        """Wait for a status; how long it took from now. Fails with the last status and the log."""
        last: list[object] = [None]

        def look() -> bool:
            last[0] = _status_or_error(node)
            return isinstance(last[0], dict) and is_so(last[0])

        try:
            return eventually(look, within)
        except TimeoutError:
            raise node.fail(f"no {what} within {within:g} s: {json.dumps(last[0], default=str)}") from None

    def wws(self, node: Node, *arguments: str) -> tuple[int, Json]:
        """Run a `wws` command beside a node: its exit code and envelope. May be called from any thread."""
        with node.namespace.entered():
            process = self.programs.start(
                "wws", "--json", "--home", str(node.paths.home.root), "--node", node.paths.name, *arguments
            )
        output, errors = process.communicate(timeout=120)
        if not output:
            raise node.fail(f"wws {' '.join(arguments)} printed nothing\n{errors}")
        envelope: Json = json.loads(output)
        return process.returncode, envelope

    def by_peer(self, peer_id: str) -> Node:
        return next(node for node in (*self.bootstraps, *self.agents) if node.peer_id == peer_id)

    def _start_bootstraps(self, regions: Sequence[Region], ipv6: bool, more_ports: Sequence[int]) -> None:
        peers: list[Multiaddr] = []
        for region in regions:
            name = f"bootstrap-{region.name}"
            addresses = (region.address, region.address6) if ipv6 else (region.address,)
            uplink = self.internet.host(name, *addresses, link=region.link)
            self.uplinks[name] = uplink
            identity = Identity.from_label(name)
            for port in (PORT, *more_ports):
                peers += [Multiaddr.of(host, port).with_peer(identity.peer_id) for host in addresses]
            node = self._node(
                name,
                "bootstrap",
                uplink.namespace,
                "wws-bootstrap",
                *("--network", str(self._network), "--identity-path", str(self.folder / name / "key")),
                *_listening(ipv6, more_ports),
            )
            key = node.paths.home.root / "key"
            key.touch(0o600)
            key.write_bytes(identity.seed)
            self.bootstraps.append(node)
        keys = tuple(PublisherKey(publisher.public_key) for publisher in self._publishers)
        network = Network("lab", DOMAIN, keys, tuple(peers))
        self._network.write_bytes(network.to_file(self._publishers))
        for node in self.bootstraps:
            self.start(node)
        others = len(self.bootstraps) - 1
        for node in self.bootstraps:
            self.wait(
                node,
                "connection to the other bootstrap nodes",
                lambda status: bool(status["joined"]) and status["peers"] >= others,
                START_WITHIN,
            )

    def _node(self, name: str, called: str, namespace: Namespace, program: str, *arguments: str) -> Node:
        home = Home(self.folder / name)
        home.root.mkdir(mode=0o700)
        paths = home.node(called)
        return Node(
            name,
            namespace,
            program,
            ("--home", str(home.root), "--http", f"127.0.0.1:{HTTP}", *arguments),
            paths,
            home.root / "output",
        )


def _new_folder() -> Path:
    """A folder with a short path, as unix sockets need it; those of labs that were killed are removed."""
    for left in _FOLDERS.glob("wws-lab-*"):
        owner = left.name.split("-")[2]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"wws-lab-{os.getpid()}-", dir=_FOLDERS))


def _listening(ipv6: bool, more_ports: Sequence[int]) -> list[str]:
    """The default of a bootstrap node is good, unless it listens on further ports."""
    if not more_ports:
        return []
    hosts = ["/ip4/0.0.0.0", "/ip6/::"] if ipv6 else ["/ip4/0.0.0.0"]
    transports = [f"tcp/{PORT}", f"udp/{PORT}/quic-v1", *(f"tcp/{port}" for port in more_ports)]
    return [
        word for host in hosts for transport in transports for word in ("--listen", f"{host}/{transport}")
    ]


def _is_in(node: Node) -> bool:
    status = _status_or_error(node)
    return (
        isinstance(status, dict)
        and bool(status["joined"])
        and any(name["state"] == "held" for name in status["names"])
    )


def _status_or_error(node: Node) -> Json | str:
    try:
        return node.status()
    except (WwsError, NodeFailed, OSError) as error:
        return str(error)[:200]
