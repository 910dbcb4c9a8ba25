"""The swarm in one process: shipped protocol code on simulated time and a simulated network.

    simulation = Simulation(SimulationConfig(nodes=1_000, seed=1))
    simulation.join_all()
    simulation.churn()
    print(simulation.measure(operations=1_000))

Everything follows from the seed: the same one gives the same trace. `python -m wws.testing.simulation
--nodes 1000 --seed 1` prints the figures as a table.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from wws.dht.kademlia import GetDone, KademliaConfig, PutDone
from wws.dht.messages import WirePeer
from wws.dht.positions import position_of_key, position_of_peer
from wws.dht.store import RecordKind
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.testing.notes import Notes, note_key, write_note
from wws.testing.simulated_network import NetworkConfig, Place, SimulatedNetwork
from wws.testing.simulated_node import Result, SimulatedNode
from wws.testing.simulated_time import SimulatedTime
from wws.testing.sybils import Lie, Sybil

NodeT = TypeVar("NodeT", bound=SimulatedNode)


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    nodes: int = 1_000
    """Nodes, entry points included."""
    seed: int = 1
    entry_points: int = 3
    """Nodes that all others know from the start, and that never leave."""
    clients: float = 0.3
    """Share of the other nodes behind a NAT: they ask, and cannot be dialled."""
    join_within: float = 300.0
    """Seconds over which the nodes start."""
    half_life: float = 7_200.0
    """Seconds within which half of the nodes leave, under churn."""
    silent_leaves: float = 0.5
    """Share of leaving nodes that say nothing."""
    max_connections: int = 256
    """Connections a node keeps (contract 4, `max_peers`). Entry points: all."""
    encode_messages: bool = False
    """Send every message through the codec, which takes longer."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    kademlia: KademliaConfig = field(default_factory=KademliaConfig)
    entry_point_peers: int = 1_024
    """Connected peers that an entry point routes to (`RoutingConfig.max_peers`)."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run measured. Times in seconds of simulated time."""

    nodes: int
    servers: int
    joined: int
    join_p50: float
    join_p95: float
    puts: int
    put_p50: float
    put_p95: float
    put_success: float
    gets: int
    get_p50: float
    get_p95: float
    get_success: float
    size_estimate_p50: float
    messages: int
    dials: int
    simulated: float
    trace: str


class Simulation:
    """Nodes, their network, and time."""

    def __init__(
        self, config: SimulationConfig | None = None, kinds: Mapping[str, RecordKind] | None = None
    ) -> None:
        self.config = config or SimulationConfig()
        self.rng = random.Random(self.config.seed)
        self.time = SimulatedTime()
        self.network = SimulatedNetwork(self.time, random.Random(self.rng.random()), self.config.network)
        self.nodes: list[SimulatedNode] = []
        """The nodes that are online."""
        self.sybils: list[Sybil] = []
        self.entry_points: list[SimulatedNode] = []
        self.spared: set[SimulatedNode] = set()
        """Nodes that churn leaves alone."""
        self._kinds = dict(kinds) if kinds is not None else {Notes.prefix: Notes()}
        self._directory: dict[PeerId, SimulatedNode] = {}
        self._churning = False
        self._churns = 0
        """Times that churn began: leaves that were planned before are not due any more."""
        for _ in range(min(self.config.entry_points, self.config.nodes)):
            self.entry_points.append(
                self._make_node(dialable=True, max_connections=100_000, kind=SimulatedNode)
            )

    # Making the swarm

    def add_node(self, *, client: bool | None = None, identity: Identity | None = None) -> SimulatedNode:
        """Start one more node now. Whether it is a client is drawn, unless said; `identity`: of one that
        was here before."""
        behind_nat = self.rng.random() < self.config.clients if client is None else client
        node = self._make_node(
            dialable=not behind_nat,
            max_connections=self.config.max_connections,
            identity=identity,
            kind=SimulatedNode,
        )
        node.start()
        return node

    def join_all(self) -> None:
        """Start all nodes, spread over `join_within`, and let them join and settle."""
        for node in self.entry_points:
            node.start()
        others = self.config.nodes - len(self.entry_points)
        start = self.time.now
        for index in range(others):
            self.time.at(start + (index + 1) * self.config.join_within / max(others, 1), self._start_one)
        self.time.run_until(start + self.config.join_within + 60.0)

    def _start_one(self) -> None:
        self.add_node()

    def _make_node(
        self,
        *,
        dialable: bool,
        max_connections: int,
        identity: Identity | None = None,
        like: Place | None = None,
        kind: type[NodeT],
    ) -> NodeT:
        config = self.config.kademlia
        if len(self.entry_points) < self.config.entry_points:
            routing = replace(config.routing, max_peers=self.config.entry_point_peers)
            config = replace(config, routing=routing)
        place = self.network.settle(dialable, like)
        identity = identity or Identity.from_label(f"node {place.index} of {self.config.seed}")
        node = kind(
            identity,
            place,
            self.network,
            self._directory,
            self._kinds,
            random.Random(self.rng.random()),
            config=config,
            max_connections=max_connections,
            entry_points=self.entry_points,
            encode_messages=self.config.encode_messages,
        )
        self._directory[node.peer_id] = node
        self.nodes.append(node)
        return node

    # What happens to it

    def churn(self, *, half_life: float | None = None) -> None:
        """From now on nodes leave after sessions of random length, and new ones come in their place.

        `half_life`: from now on, instead of the configured one. Nodes in `spared` stay.
        """
        if half_life is not None:
            self.config = replace(self.config, half_life=half_life)
        self._churning = True
        self._churns += 1
        for node in self.nodes[len(self.entry_points) :]:
            self._plan_leave(node)

    def stop_churn(self) -> None:
        """Nobody leaves or comes from now on."""
        self._churning = False

    def kill(self, share: float, *, silently: bool = True) -> list[SimulatedNode]:
        """Take a share of the nodes down at once, entry points spared; those that died."""
        candidates = self.nodes[len(self.entry_points) :]
        dying = self.rng.sample(candidates, round(share * len(candidates)))
        for node in dying:
            self.remove(node, silently=silently)
        return dying

    def remove(self, node: SimulatedNode, *, silently: bool) -> None:
        """Take one node down."""
        node.leave(silently=silently)
        self.nodes.remove(node)

    def replace(self, node: SimulatedNode) -> None:
        """One node leaves silently, and a new one comes in its place."""
        if node.place.online:
            self.remove(node, silently=True)
            self.add_node()

    def part(self, side_of: Callable[[SimulatedNode], int]) -> None:
        """Divide the network; connections across are noticed to be dead by and by."""
        sides = {node.place.index: side_of(node) for node in self.nodes}
        self.network.part(lambda place: sides.get(place.index, 0))
        for node in self.nodes:
            self.time.after(self.network.detection_time(), node.check_links)

    def heal(self) -> None:
        """Let all reach all again. Nobody is told: nodes find each other as they do."""
        self.network.heal()

    def run_for(self, seconds: float) -> None:
        self.time.run_until(self.time.now + seconds)

    def add_sybils(
        self, key: str, count: int, *, prefixes: int | None = None, lie: Lie = Lie.NOTHING,
        old: bytes | None = None,
    ) -> list[Sybil]:  # fmt: skip
        """Let an attacker take the `count` places nearest to a key, with identities found by trying.

        They are spread over so many `prefixes` (/24s), or have one each. Each joins at once and dials every
        node that can be dialled within a minute; `lie` and `old` say what it answers.
        """
        sybils: list[Sybil] = []
        ground = self._ground_identities(key)
        for identity in islice(ground, count):
            shares = prefixes is not None and len(sybils) >= prefixes
            like = sybils[len(sybils) % prefixes].place if prefixes is not None and shares else None
            sybil = self._make_node(
                dialable=True, max_connections=100_000, identity=identity, like=like, kind=Sybil
            )
            sybil.lie, sybil.old, sybil.silent_from = lie, old, self.time.now + 60.0
            sybils.append(sybil)
        allies = tuple(sybil.named for sybil in sybils)
        if lie is Lie.PHANTOMS:
            allies = tuple(self._phantom(identity) for identity in islice(ground, 10 * count))
        for sybil in sybils:
            sybil.allies = allies
            sybil.start()
            for node in self.nodes:
                if node.place.dialable and node not in sybils:
                    self.time.after(60.0 * self.rng.random(), sybil.dial, node)
        self.sybils += sybils
        return sybils

    def _ground_identities(self, key: str) -> Iterator[Identity]:
        """Identities nearer to a key than every node there is, found by trying."""
        target = position_of_key(key.encode())
        nearest = min(position_of_peer(node.peer_id) ^ target for node in self.nodes)
        for tried in itertools.count():
            identity = Identity.from_label(f"sybil {tried} of {self.config.seed} at {key}")
            if position_of_peer(identity.peer_id) ^ target < nearest:
                yield identity

    def _phantom(self, identity: Identity) -> WirePeer:
        """A peer that exists in others' answers only: who dials it waits for a silence to end."""
        phantom = self._make_node(dialable=True, max_connections=0, identity=identity, kind=Sybil)
        phantom.place.online, phantom.place.silent = False, True
        self.nodes.remove(phantom)
        return phantom.named

    def _plan_leave(self, node: SimulatedNode) -> None:
        session = self.rng.expovariate(math.log(2) / self.config.half_life)
        self.time.after(session, self._leave_and_replace, node, self._churns)

    def _leave_and_replace(self, node: SimulatedNode, planned_in: int) -> None:
        if not self._churning or planned_in != self._churns or not node.place.online or node in self.spared:
            return
        self.remove(node, silently=self.rng.random() < self.config.silent_leaves)
        self._plan_leave(self.add_node())

    # What can be asked of it

    def some_node(self) -> SimulatedNode:
        """A random node that has joined."""
        while True:
            node = self.rng.choice(self.nodes)
            if node.joined_at is not None:
                return node

    def some_honest_node(self) -> SimulatedNode:
        """The same, and none of `add_sybils`."""
        while (node := self.some_node()) in self.sybils:
            pass
        return node

    def put(self, node: SimulatedNode, key: str, value: bytes) -> PutDone:
        """Put a value and let time pass until it is done."""
        return _expect(self._wait(lambda then: node.put(key, value, then)), PutDone)

    def get(self, node: SimulatedNode, key: str) -> GetDone:
        """Look a value up and let time pass until it is done."""
        return _expect(self._wait(lambda then: node.get(key, then)), GetDone)

    def _wait(self, begin: Callable[[Callable[[Result], None]], object]) -> Result:
        results: list[Result] = []
        begin(results.append)
        self.time.run_while(lambda: not results, limit=self.time.now + 120.0)
        if not results:
            raise TimeoutError("an operation did not end within two minutes")
        return results[0]

    def holders_of(self, key: str) -> list[SimulatedNode]:
        """The nodes online that hold a value under a key."""
        raw = key.encode()
        return [
            node for node in self.nodes if node.kademlia.records.find(raw, self.time.unix_now) is not None
        ]

    def measure(self, operations: int = 1_000, *, within: float = 900.0) -> Figures:
        """Put `operations` values from random nodes and get each once from another, spread over `within`
        seconds, a put and its get being up to half of that apart."""
        puts: list[float] = []
        gets: list[float] = []
        failures = {"put": 0, "get": 0}

        def start_put(number: int) -> None:
            author = self.some_node()
            key = note_key(f"{number} of {self.config.seed} at {self.time.now}")
            expires_at = self.time.unix_now + 86_400
            value = write_note(author.identity, key, f"note {number}", seq=1, expires_at=expires_at)
            began = self.time.now

            def done(result: Result) -> None:
                puts.append(self.time.now - began)
                enough = self.config.kademlia.operation.quorum
                if not isinstance(result, PutDone) or result.stored < min(enough, len(self.nodes)):
                    failures["put"] += 1
                self.time.after(self.rng.random() * within / 2, start_get, key, value)

            author.put(key, value, done)

        def start_get(key: str, value: bytes) -> None:
            reader = self.some_node()
            began = self.time.now

            def done(result: Result) -> None:
                gets.append(self.time.now - began)
                if not isinstance(result, GetDone) or result.value != value:
                    failures["get"] += 1

            reader.get(key, done)

        start = self.time.now
        for number in range(operations):
            self.time.at(start + (number + self.rng.random()) * within / operations, start_put, number)
        self.time.run_until(start + within * 1.5 + 30.0)
        # An operation whose node left meanwhile has no result, and is nobody's failure.
        joins = sorted(n.joined_at - n.started_at for n in self.nodes if n.joined_at is not None)
        sizes = sorted(float(n.kademlia.swarm_size(self.time.now).count) for n in self.nodes if n.serving)
        return Figures(
            nodes=len(self.nodes),
            servers=sum(1 for node in self.nodes if node.serving),
            joined=len(joins),
            join_p50=_quantile(joins, 0.5),
            join_p95=_quantile(joins, 0.95),
            puts=len(puts),
            put_p50=_quantile(sorted(puts), 0.5),
            put_p95=_quantile(sorted(puts), 0.95),
            put_success=1 - failures["put"] / max(len(puts), 1),
            gets=len(gets),
            get_p50=_quantile(sorted(gets), 0.5),
            get_p95=_quantile(sorted(gets), 0.95),
            get_success=1 - failures["get"] / max(len(gets), 1),
            size_estimate_p50=_quantile(sizes, 0.5),
            messages=self.network.delivered,
            dials=self.network.dialled,
            simulated=self.time.now,
            trace=self.network.trace(),
        )


ResultT = TypeVar("ResultT")


def _expect(result: Result, kind: type[ResultT]) -> ResultT:
    if not isinstance(result, kind):
        raise TypeError(f"{type(result).__name__} where {kind.__name__} was expected")
    return result


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def _times(ordered: list[float], per_second: float = 1.0, unit: str = "s") -> str:
    p50, p95 = _quantile(ordered, 0.5) * per_second, _quantile(ordered, 0.95) * per_second
    return f"{p50:.2f} / {p95:.2f} {unit}"


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of one run as a table."""
    # Here, because names are built on the simulation and not the other way round.
    from wws.names.kinds import KindsConfig, NameRecords
    from wws.testing.simulated_names import measure_names
    from wws.testing.simulated_witnesses import SimulatedWitnesses

    parser = argparse.ArgumentParser(prog="python -m wws.testing.simulation", description="Simulate a swarm.")
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=1_000)
    parser.add_argument(
        "--half-life", type=float, default=7_200.0, help="seconds in which half of the nodes leave"
    )
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--clients", type=float, default=0.3, help="share of nodes behind a NAT")
    parser.add_argument("--encode", action="store_true", help="send every message through the codec")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    witnesses = SimulatedWitnesses(["first witness", "second witness", "third witness"])
    names = NameRecords(witnesses.sets, KindsConfig(remembered=16 * options.operations))
    simulation = Simulation(
        SimulationConfig(
            nodes=options.nodes,
            seed=options.seed,
            half_life=options.half_life,
            clients=options.clients,
            encode_messages=options.encode,
            network=NetworkConfig(loss=options.loss),
        ),
        {Notes.prefix: Notes(), names.prefix: names},
    )
    simulation.join_all()
    simulation.churn()
    figures = simulation.measure(options.operations)
    # Bootstrap nodes are the witnesses.
    witnesses.settle(node.place for node in simulation.entry_points)
    named = measure_names(
        simulation, names, max(1, options.operations // 5), within=120.0, witnesses=witnesses
    )
    sys.stdout.write(table(figures, options.loss, options.half_life))
    rows = [
        ("register p50 / p95", _times(named.registered), "– / 3 s"),
        ("registered, witnessed", f"{len(named.registered)}, {named.witnessed} of {named.claims}", ""),
        ("resolve p50 / p95", _times(named.resolved), "≤ 0.3 / 1.5 s"),
        ("resolved", f"{len(named.resolved)} of {named.asked}", "≥ 99.9 %"),
        ("resolve cached p50 / p95", _times(named.cached, 1_000, "ms"), "≤ 5 ms"),
    ]
    sys.stdout.write("".join(f"{name:<28} {value:<34} {target}\n" for name, value, target in rows))
    sys.stdout.write(f"{'real time':<28} {time.perf_counter() - began:.1f} s\n")
    return 0


def table(figures: Figures, loss: float, half_life: float) -> str:
    """The figures for people."""
    rows = [
        ("nodes (serving)", f"{figures.nodes} ({figures.servers})", ""),
        ("round trip, loss, half-life", f"80 ms, {loss:.0%}, {half_life / 3600:g} h", ""),
        ("joined", f"{figures.joined}", ""),
        ("join p50 / p95", f"{figures.join_p50:.2f} / {figures.join_p95:.2f} s", ""),
        ("put p50 / p95", f"{figures.put_p50:.2f} / {figures.put_p95:.2f} s", "≤ 1 / 3 s"),
        ("put success", f"{figures.put_success:.2%} of {figures.puts}", "≥ 99.9 %"),
        ("get p50 / p95", f"{figures.get_p50:.2f} / {figures.get_p95:.2f} s", "≤ 0.3 / 1.5 s"),
        ("get success", f"{figures.get_success:.2%} of {figures.gets}", "≥ 99.9 %"),
        ("size estimate p50", f"{figures.size_estimate_p50:.0f}", f"{figures.servers} serving"),
        ("messages, dials", f"{figures.messages}, {figures.dials}", ""),
        ("simulated time", f"{figures.simulated:.0f} s", ""),
        ("trace", figures.trace, ""),
    ]
    return "".join(f"{name:<28} {value:<34} {target}\n" for name, value, target in rows)


if __name__ == "__main__":
    sys.exit(main())
