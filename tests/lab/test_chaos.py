"""What breaks while all runs: relays die, bootstrap nodes restart, addresses and mappings change, UDP stops.

How long it took is printed. Asserted is only that it heals within a time that nobody would wait through.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.lab.conftest import Tell
from tests.lab.internet import Internet
from tests.lab.matrix import VERDICTS, settled, table
from tests.lab.nat import Kind, Router
from tests.lab.nodes import Json, Node, Swarm
from tests.lab.probing import eventually
from wws.errors import WwsError

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]

SETTLED_WITHIN = 60.0
HEALED_WITHIN = 75.0
POLL = 0.1


@dataclass
class Lab:
    """alice is behind the router that most have, bob where only a relay helps, carol on the internet."""

    internet: Internet
    swarm: Swarm
    home: Router
    alice: Node
    bob: Node
    carol: Node
    measured: list[list[str]] = field(default_factory=list)

    def settle(self) -> None:
        """Everybody is as it was at the beginning: alice and bob with two relays each."""
        for node, kind in ((self.alice, Kind.PORT_RESTRICTED), (self.bob, Kind.SYMMETRIC)):
            is_so = settled(VERDICTS[kind.value], relays=2)
            self.swarm.wait(node, "verdict and two relays", is_so, SETTLED_WITHIN)

    def note(self, what: str, took: float) -> None:
        self.measured.append([what, f"{took:.1f} s"])

    def relay_node(self, peer_id: str) -> Node:
        return next(node for node in self.swarm.bootstraps if node.process and node.peer_id == peer_id)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Internet() as internet, Swarm.of(internet) as swarm:
        home = Router(internet, "alice-home", Kind.PORT_RESTRICTED, "198.18.1.2")
        away = Router(internet, "bob-home", Kind.SYMMETRIC, "198.18.2.2")
        lab = Lab(
            internet,
            swarm,
            home,
            swarm.agent("alice", home.host("alice")),
            swarm.agent("bob", away.host("bob")),
            swarm.agent("carol", internet.host("carol", "198.18.3.2").namespace),
        )
        swarm.wait_joined()
        yield lab


@pytest.fixture(autouse=True)
def _shown(lab: Lab, tell: Tell) -> Iterator[None]:
    lab.settle()
    yield
    if lab.measured:
        tell("Recovered after", table(lab.measured))
        lab.measured.clear()


def answer(source: Node, target: str) -> Json | None:
    """The reply to one ping by name, or None."""
    try:
        replies: list[Json] = source.call("swarm.ping", target=target, count=1)["replies"]
    except WwsError:
        return None
    return replies[0] if replies[0]["rtt_ms"] is not None else None


def heals(what: Callable[[], bool]) -> float:
    return eventually(what, HEALED_WITHIN, poll=POLL)


def relayed(lab: Lab) -> Json:
    """bob reaches alice, through a relay."""
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
                relays = {relay["peer_id"] for relay in lab.alice.status()["relays"]}
                return len(relays) >= 2 and used_id not in relays

            heals(replaced)
            lab.note(f"the relay in use is {how}: alice has two others", time.monotonic() - start)

            def again() -> bool:
                reply = answer(lab.bob, "alice")
                return reply is not None and reply["relay"] != used_id

            heals(again)
            lab.note(f"the relay in use is {how}: bob reaches alice", time.monotonic() - start)
        finally:
            uplink.mend(spec)


def test_a_bootstrap_node_restarts(lab: Lab) -> None:
    node = lab.relay_node(relayed(lab)["relay"])
    start = time.monotonic()
    with brought_back(lab, node):
        node.stop()
        lab.swarm.start(node)
        heals(lambda: answer(lab.bob, "alice") is not None)
        lab.note("the relay in use restarts: bob reaches alice", time.monotonic() - start)


def test_the_provider_gives_another_address(lab: Lab) -> None:
    relayed(lab)
    start = time.monotonic()
    lab.home.renumber("198.18.11.2")
    try:
        heals(lambda: answer(lab.bob, "alice") is not None)
        lab.note("alice's address changes: bob reaches alice", time.monotonic() - start)
        heals(lambda: answer(lab.carol, "alice") is not None)
        lab.note("alice's address changes: carol reaches alice", time.monotonic() - start)
        lab.settle()
        heals(lambda: "198.18.11.2" in str(lab.alice.status()["external"]))
        lab.note("alice's address changes: alice knows", time.monotonic() - start)
    finally:
        lab.home.renumber("198.18.1.2")
        heals(lambda: answer(lab.bob, "alice") is not None)


def test_udp_stops(lab: Lab) -> None:
    heals(lambda: (answer(lab.carol, "alice") or {}).get("path") == "direct")
    start = time.monotonic()
    lab.home.change(forget=False, udp=False)
    try:
        heals(lambda: answer(lab.carol, "alice") is not None)
        lab.note("UDP stops at alice's home: carol reaches alice", time.monotonic() - start)

        def by_tcp() -> bool:
            ways = lab.carol.paths_to(lab.alice.peer_id)
            return any(way["path"] == "direct" and way["transport"] == "tcp" for way in ways)

        def direct_again() -> bool:
            return answer(lab.carol, "alice") is not None and by_tcp()

        heals(direct_again)
        lab.note("UDP stops at alice's home: directly, by TCP", time.monotonic() - start)
    finally:
        lab.home.change(udp=True)
        heals(lambda: answer(lab.carol, "alice") is not None)


def test_the_mapping_changes(lab: Lab) -> None:
    heals(lambda: answer(lab.carol, "alice") is not None)
    port = lab.alice.port
    outside = port + 10_000 if port < 50_000 else port - 10_000
    start = time.monotonic()
    lab.home.change(outer_ports={port: outside})
    try:
        heals(lambda: answer(lab.carol, "alice") is not None)
        lab.note("alice's mapping changes: carol reaches alice", time.monotonic() - start)
        heals(lambda: f"/{outside}" in str(lab.alice.status()["external"]))
        lab.note("alice's mapping changes: alice knows", time.monotonic() - start)
    finally:
        lab.home.change(outer_ports={})
        heals(lambda: answer(lab.carol, "alice") is not None)
