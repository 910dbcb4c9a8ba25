"""What else people stand behind: two NATs, one home, no UDP, only port 443, IPv6 on one side; and hiding.

One lab for all of them, whose agents start together. Each test is a pair of agents of its own.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.lab.conftest import Tell
from tests.lab.internet import Internet
from tests.lab.matrix import Patience, Reached, reach
from tests.lab.namespaces import Namespace
from tests.lab.nat import Kind, Router, Rules
from tests.lab.nodes import Node, Swarm

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]

HTTPS = 443
SETTLED_WITHIN = 60.0
PAIRS = (
    ("plain", "double"),
    ("sister", "brother"),
    ("mute-a", "mute-b"),
    ("plain", "office"),
    ("office", "four"),
    ("four", "six"),
    ("both-a", "both-b"),
    ("plain", "hidden"),
)


@dataclass
class Lab:
    """Every pair sets out at once, because most of them wait most of the time."""

    swarm: Swarm
    agents: dict[str, Node]
    under_way: dict[tuple[str, str], Future[Reached]] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)

    def set_out(self, threads: ThreadPoolExecutor) -> None:
        for source, target in PAIRS:
            self.under_way[source, target] = threads.submit(self._reach, source, target)

    def reach(self, source: str, target: str) -> Reached:
        """How the one has reached the other. Fails when it has not."""
        found = self.under_way[source, target].result()
        if found.connected is None:
            logs = [f"--- {name}\n{self.agents[name].log_end()}" for name in (source, target)]
            pytest.fail("\n".join([str(found), *logs]), pytrace=False)
        self.rows.append(
            f"{source:<8}→ {target:<8} {found.path or 'not at all':<7} {found.transport or '':<8} "
            f"{found.connected:5.1f} s  {found.reason or ''}"
        )
        return found

    def _reach(self, source: str, target: str) -> Reached:
        self.swarm.wait(
            self.agents[target],
            "address to be reached at",
            lambda status: bool(status["addresses"]),
            SETTLED_WITHIN,
        )
        return reach(self.swarm, self.agents[source], self.agents[target], Patience())


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    cone = Kind.PORT_RESTRICTED
    with Internet() as internet, Swarm.of(internet, ipv6=True, more_ports=[HTTPS]) as swarm:
        # A provider's NAT around that of a home.
        provider = Router(internet, "provider", cone, "198.18.1.2", lan="100.64.0")
        home = Router(provider, "inner", cone)
        # A home with two agents, whose router does not turn packets around.
        shared = Router(internet, "shared", cone, "198.18.2.2")
        places = {
            "double": home.host("double"),
            "plain": Router(internet, "plain-home", cone, "198.18.3.2").host("plain"),
            "sister": shared.host("sister"),
            "brother": shared.host("brother"),
            "mute-a": Router(internet, "mute-a-home", Rules(cone, udp=False), "198.18.4.2").host("mute-a"),
            "mute-b": Router(internet, "mute-b-home", Rules(cone, udp=False), "198.18.5.2").host("mute-b"),
            "office": Router(
                internet, "office-router", Rules(cone, udp=False, only_tcp_ports=(HTTPS,)), "198.18.6.2"
            ).host("office"),
            "six": internet.host("six", "2001:db8:1006::2").namespace,
            "four": Router(internet, "four-home", cone, "198.18.7.2").host("four"),
            "both-a": _dual(internet, "both-a", 8),
            "both-b": _dual(internet, "both-b", 9),
            "hidden": internet.host("hidden", "198.18.10.2").namespace,
        }
        agents = {
            name: swarm.agent(name, place, *(["--relay-only"] if name == "hidden" else []))
            for name, place in places.items()
        }
        swarm.wait_joined()
        lab = Lab(swarm, agents)
        with ThreadPoolExecutor(len(PAIRS)) as threads:
            lab.set_out(threads)
            yield lab


@pytest.fixture(autouse=True)
def _shown(lab: Lab, tell: Tell) -> Iterator[None]:
    yield
    if lab.rows:
        tell("Other places, by name", "\n".join(lab.rows))
        lab.rows.clear()


def _dual(internet: Internet, name: str, number: int) -> Namespace:
    """A host behind the worst of NATs, with IPv6 that lets nobody in."""
    router = Router(
        internet,
        f"{name}-home",
        Kind.SYMMETRIC,
        f"198.18.{number}.2",
        f"2001:db8:100{number}::2",
        lan6=f"2001:db8:100{number}:1::/64",
    )
    return router.host(name)


def test_a_nat_behind_a_nat_is_punched_through(lab: Lab) -> None:
    found = lab.reach("plain", "double")
    assert (found.path, found.exit_code) == ("direct", 0), found


def test_two_agents_of_one_home_use_their_own_network(lab: Lab) -> None:
    found = lab.reach("sister", "brother")
    assert (found.path, found.exit_code) == ("direct", 0), found
    ways = lab.agents["sister"].paths_to(lab.agents["brother"].peer_id)
    assert any(way["addr"].startswith("/ip4/192.168.1.") for way in ways), ways


def test_without_udp_tcp_is_punched(lab: Lab) -> None:
    found = lab.reach("mute-a", "mute-b")
    assert (found.path, found.transport) == ("direct", "tcp"), found


def test_where_only_443_gets_out_a_relay_listens_there(lab: Lab) -> None:
    office = lab.agents["office"]
    found = lab.reach("plain", "office")
    assert (found.path, found.exit_code) == ("relay", 6), found
    assert found.reason
    assert all(
        f"/tcp/{HTTPS}/" in f"{way['addr']}/"
        for way in office.call("swarm.peers")["peers"]
        if way["path"] == "direct"
    ), office.call("swarm.peers")
    assert lab.reach("office", "four").path == "relay"


def test_ipv6_alone_and_ipv4_alone_meet_at_a_relay(lab: Lab) -> None:
    found = lab.reach("four", "six")
    assert (found.path, found.exit_code) == ("relay", 6), found
    assert found.reason


def test_ipv6_helps_where_ipv4_cannot(lab: Lab) -> None:
    found = lab.reach("both-a", "both-b")
    assert (found.path, found.exit_code) == ("direct", 0), found
    ways = lab.agents["both-a"].paths_to(lab.agents["both-b"].peer_id)
    assert any(way["addr"].startswith("/ip6/") for way in ways), ways


def test_who_hides_is_reached_and_not_found(lab: Lab) -> None:
    found = lab.reach("plain", "hidden")
    assert (found.path, found.exit_code) == ("relay", 6), found
    assert found.reason
    resolved = lab.agents["plain"].call("swarm.resolve_name", name="hidden")
    assert resolved["addresses"]
    assert all("/p2p-circuit" in address for address in resolved["addresses"]), resolved
    ways = lab.agents["plain"].paths_to(lab.agents["hidden"].peer_id)
    assert all(way["path"] == "relay" for way in ways), ways
