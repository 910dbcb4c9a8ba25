"""What breaks while all runs: relays die, bootstrap nodes restart, addresses and mappings change, UDP stops.

How long it took is printed. Asserted is only that it heals within a time that nobody would wait through.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.lab.conftest import Tell
from tests.lab.internet import Internet
from tests.lab.matrix import VERDICTS, settled
from tests.lab.nat import Kind, Router
from tests.lab.nodes import Json, Node, Swarm
from tests.lab.probing import eventually
from wws.errors import WwsError

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

SETTLED_WITHIN = 60.0
HEALED_WITHIN = 75.0
POLL = 0.1


@dataclass
class Home:
    """An agent behind the router that most people have, and what happens to that router."""

    router: Router
    agent: Node


@dataclass
class Lab:
    """bob is where only a relay helps, carol on the internet; alice, dave and erin are at home."""

    swarm: Swarm
    bob: Node
    carol: Node
    homes: dict[str, Home]
    faults: dict[str, Future[None]] = field(default_factory=dict)
    measured: list[tuple[str, float]] = field(default_factory=list)

    def settle(self, *nodes: Node) -> None:
        """Wait until these know their place, and have two relays each."""
        for node in nodes:
            kind = Kind.SYMMETRIC if node is self.bob else Kind.PORT_RESTRICTED
            is_so = settled(VERDICTS[kind.value], relays=2)
            self.swarm.wait(node, "verdict and two relays", is_so, SETTLED_WITHIN)

    def note(self, what: str, start: float) -> None:
        self.measured.append((what, time.monotonic() - start))

    def relay_node(self, peer_id: str) -> Node:
        return next(node for node in self.swarm.bootstraps if node.process and node.peer_id == peer_id)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """What happens at the homes happens to all of them at once: each is a neighbourhood of its own."""
    with Internet() as internet, Swarm.of(internet) as swarm:
        away = Router(internet, "bob-home", Kind.SYMMETRIC, "198.18.2.2")
        homes: dict[str, Home] = {}
        for number, name in enumerate(("alice", "dave", "erin"), start=4):
            router = Router(internet, f"{name}-home", Kind.PORT_RESTRICTED, f"198.18.{number}.2")
            homes[name] = Home(router, swarm.agent(name, router.host(name)))
        bob = swarm.agent("bob", away.host("bob"))
        carol = swarm.agent("carol", internet.host("carol", "198.18.3.2").namespace)
        lab = Lab(swarm, bob, carol, homes)
        swarm.wait_joined()
        lab.settle(bob, *(home.agent for home in homes.values()))
        faults = {"alice": another_address, "dave": no_udp, "erin": another_mapping}
        with ThreadPoolExecutor(len(faults)) as threads:
            for name, fault in faults.items():
                lab.faults[name] = threads.submit(fault, lab, homes[name])
        yield lab


@pytest.fixture(autouse=True)
def _shown(lab: Lab, tell: Tell) -> Iterator[None]:
    yield
    for what, took in lab.measured:
        tell("Recovered after", f"{what:<60} {took:5.1f} s")
    lab.measured.clear()


def answer(source: Node, target: str) -> Json | None:
    """The reply to one ping by name, or None."""
    try:
        replies: list[Json] = source.call("swarm.ping", target=target, count=1)["replies"]
    except WwsError:
        return None
    return replies[0] if replies[0]["rtt_ms"] is not None else None


def heals(what: Callable[[], bool]) -> None:
    eventually(what, HEALED_WITHIN, poll=POLL)


def directly(lab: Lab, target: Node, transport: str) -> Callable[[], bool]:
    """Whether carol has an answer from a peer over a direct connection of this transport."""

    def is_so() -> bool:
        reply = answer(lab.carol, target.name)
        ways = lab.carol.paths_to(target.peer_id)
        used = any(way["path"] == "direct" and way["transport"] == transport for way in ways)
        return reply is not None and reply["path"] == "direct" and used

    return is_so


# What happens at home


def another_address(lab: Lab, home: Home) -> None:
    alice = home.agent
    heals(lambda: answer(lab.bob, alice.name) is not None)
    start = time.monotonic()
    home.router.renumber("198.18.11.2")
    heals(lambda: answer(lab.bob, alice.name) is not None)
    lab.note("alice's address changes: bob reaches her", start)
    heals(lambda: answer(lab.carol, alice.name) is not None)
    lab.note("alice's address changes: carol reaches her", start)
    heals(lambda: "198.18.11.2" in str(alice.status()["external"]))
    lab.note("alice's address changes: she knows", start)
    lab.settle(alice)


def no_udp(lab: Lab, home: Home) -> None:
    dave = home.agent
    heals(directly(lab, dave, "quic-v1"))
    start = time.monotonic()
    home.router.change(forget=False, udp=False)
    heals(lambda: answer(lab.carol, dave.name) is not None)
    lab.note("UDP stops at dave's home: carol reaches him", start)
    heals(directly(lab, dave, "tcp"))
    lab.note("UDP stops at dave's home: directly, by TCP", start)


def another_mapping(lab: Lab, home: Home) -> None:
    erin = home.agent
    heals(lambda: answer(lab.carol, erin.name) is not None)
    port = erin.port
    outside = port + 10_000 if port < 50_000 else port - 10_000
    start = time.monotonic()
    home.router.change(outer_ports={port: outside})
    heals(lambda: answer(lab.carol, erin.name) is not None)
    lab.note("erin's mapping changes: carol reaches her", start)
    heals(lambda: f"/{outside}" in str(erin.status()["external"]))
    lab.note("erin's mapping changes: she knows", start)


@pytest.mark.parametrize("name", ["alice", "dave", "erin"])
def test_a_change_at_home_heals(lab: Lab, name: str) -> None:
    try:
        lab.faults[name].result()
    except TimeoutError as error:
        agent = lab.homes[name].agent
        shown = {"external": agent.status()["external"], "peers": agent.call("swarm.peers")["peers"]}
        raise agent.fail(f"{error}: {shown}") from error


# What happens to relays


def relayed(lab: Lab) -> Json:
    """The reply when bob reaches alice through a relay."""
    found: list[Json] = []

    def is_so() -> bool:
        reply = answer(lab.bob, "alice")
        if reply is None or reply["path"] != "relay":
            return False
        found.append(reply)
        return True

    heals(is_so)
    return found[-1]


@contextlib.contextmanager
def brought_back(lab: Lab, node: Node) -> Iterator[None]:
    """A bootstrap node that was ended runs again, and is known, after the block."""
    try:
        yield
    finally:
        if node.process is None:
            lab.swarm.start(node)
        lab.swarm.wait(node, "peers", lambda status: status["peers"] >= 2, SETTLED_WITHIN)


@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_the_relay_in_use_dies(lab: Lab, how: str) -> None:
    alice = lab.homes["alice"].agent
    lab.settle(alice, lab.bob)
    used = lab.relay_node(relayed(lab)["relay"])
    used_id = used.peer_id
    uplink = lab.swarm.uplinks[used.name]
    spec = uplink.link.spec
    with brought_back(lab, used):
        start = time.monotonic()
        if how == "killed":
            used.kill()
        else:
            uplink.cut()
        try:

            def replaced() -> bool:
                relays = {relay["peer_id"] for relay in alice.status()["relays"]}
                return len(relays) >= 2 and used_id not in relays

            heals(replaced)
            lab.note(f"the relay in use is {how}: alice has two others", start)

            def again() -> bool:
                reply = answer(lab.bob, "alice")
                return reply is not None and reply["relay"] != used_id

            heals(again)
            lab.note(f"the relay in use is {how}: bob reaches alice", start)
        finally:
            uplink.mend(spec)


def test_a_bootstrap_node_restarts(lab: Lab) -> None:
    lab.settle(lab.homes["alice"].agent, lab.bob)
    node = lab.relay_node(relayed(lab)["relay"])
    start = time.monotonic()
    with brought_back(lab, node):
        node.stop()
        lab.swarm.start(node)
        heals(lambda: answer(lab.bob, "alice") is not None)
        lab.note("the relay in use restarts: bob reaches alice", start)
