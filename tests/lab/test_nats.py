"""The lab itself: each router is what it is called, and exactly the right pairs can punch."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from pathlib import Path

import pytest

from tests.lab.internet import REGIONS, Internet
from tests.lab.namespaces import Namespace
from tests.lab.nat import Kind, Router, Rules
from tests.lab.probing import (
    ADDRESS,
    ADDRESS_AND_PORT,
    INDEPENDENT,
    Behaviour,
    Observer,
    Patience,
    tcp_behaviour,
    tcp_punch,
    udp_behaviour,
    udp_punch,
)
from tests.lab.slow_links import LinkSpec

pytestmark = [pytest.mark.root]

REPOSITORY = Path(__file__).parents[2]
PATIENCE = Patience()
HOPELESS = Patience(punch=0.6)
"""For a hole punch that must not succeed: many times the round trip."""
FAST = LinkSpec(delay=0.002)

BEHAVIOUR = {
    Kind.FULL_CONE: Behaviour(INDEPENDENT, INDEPENDENT),
    Kind.ADDRESS_RESTRICTED: Behaviour(INDEPENDENT, ADDRESS),
    Kind.PORT_RESTRICTED: Behaviour(INDEPENDENT, ADDRESS_AND_PORT),
    Kind.SYMMETRIC: Behaviour(ADDRESS_AND_PORT, ADDRESS_AND_PORT),
}
NOT_BY_UDP = {
    (Kind.PORT_RESTRICTED, Kind.SYMMETRIC),
    (Kind.SYMMETRIC, Kind.SYMMETRIC),
}
"""The pairs that cannot punch without guessing ports."""


@dataclass(frozen=True, slots=True)
class Lab:
    internet: Internet
    observers: tuple[Observer, ...]
    homes: dict[tuple[Kind, int], Router]
    """Two routers of each kind."""
    hosts: dict[tuple[Kind, int], Namespace]
    """A host inside each."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Internet() as internet:
        observers = tuple(
            Observer(internet.host(region.name, region.address, link=FAST).namespace, region.address)
            for region in REGIONS
        )
        homes = {
            (kind, number): Router(
                internet, f"{kind.value}-{number}", kind, f"198.18.{row}{number}.2", link=FAST
            )
            for (row, kind), number in product(enumerate(Kind, start=1), (1, 2))
        }
        hosts = {key: home.host(f"behind-{home.namespace.label}") for key, home in homes.items()}
        yield Lab(internet, observers, homes, hosts)


@pytest.mark.parametrize("kind", Kind)
def test_a_router_is_what_it_is_called(lab: Lab, kind: Kind) -> None:
    host = lab.hosts[kind, 1]
    assert udp_behaviour(host, lab.observers, PATIENCE) == BEHAVIOUR[kind]
    assert tcp_behaviour(host, lab.observers, PATIENCE) == BEHAVIOUR[kind]


@pytest.mark.parametrize("first, second", [*combinations_with_replacement(Kind, 2)])
def test_the_pairs_that_can_punch(lab: Lab, first: Kind, second: Kind) -> None:
    pair, works = (lab.hosts[first, 1], lab.hosts[second, 2]), (first, second) not in NOT_BY_UDP
    assert udp_punch(*pair, lab.observers[0], PATIENCE if works else HOPELESS) is works


@pytest.mark.parametrize(
    "first, second, works",
    [
        (Kind.PORT_RESTRICTED, Kind.PORT_RESTRICTED, True),
        (Kind.FULL_CONE, Kind.SYMMETRIC, True),
        (Kind.PORT_RESTRICTED, Kind.SYMMETRIC, False),
    ],
)
def test_tcp_opens_from_both_sides_at_once(lab: Lab, first: Kind, second: Kind, works: bool) -> None:
    pair = (lab.hosts[first, 1], lab.hosts[second, 2])
    assert tcp_punch(*pair, lab.observers[0], PATIENCE if works else HOPELESS) is works


def test_a_nat_behind_a_nat_is_as_strict_as_the_stricter(lab: Lab) -> None:
    outer = Router(lab.internet, "carrier", Kind.SYMMETRIC, "198.18.101.2", lan="100.64.0", link=FAST)
    inner = Router(outer, "inner", Kind.FULL_CONE)
    found = udp_behaviour(inner.host("deep-inside"), lab.observers, PATIENCE)
    assert found == BEHAVIOUR[Kind.SYMMETRIC]


@pytest.mark.parametrize("hairpin", [True, False])
def test_hairpin(lab: Lab, hairpin: bool) -> None:
    rules = Rules(Kind.FULL_CONE, hairpin=hairpin)
    home = Router(lab.internet, "home", rules, f"198.18.10{2 + hairpin}.2", link=FAST)
    pair, patience = (home.host("one"), home.host("two")), PATIENCE if hairpin else HOPELESS
    assert udp_punch(*pair, lab.observers[0], patience) is hairpin
    assert tcp_punch(*pair, lab.observers[0], patience) is hairpin


def outer_ports(
    lab: Lab, host: Namespace, kind: socket.SocketKind, port: int, within: float = PATIENCE.arrives
) -> set[tuple[str, int]]:
    """Where the observers see this port of a host."""
    seen = set()
    for observer in lab.observers[:2]:
        with observer.namespace.socket(kind) as server, host.socket(kind, port) as client:
            server.settimeout(within)
            target = (observer.address, server.getsockname()[1])
            with contextlib.suppress(TimeoutError):
                if kind is socket.SOCK_DGRAM:
                    client.sendto(b"?", target)
                    seen.add(server.recvfrom(10)[1])
                else:
                    server.listen()
                    client.settimeout(within)
                    client.connect(target)
                    accepted, outer = server.accept()
                    accepted.close()
                    seen.add(outer)
    return seen


def test_mappings_and_addresses_change_under_way(lab: Lab) -> None:
    kind = socket.SOCK_DGRAM
    home = Router(lab.internet, "changing", Kind.PORT_RESTRICTED, "198.18.110.2", link=FAST)
    alice = home.host("alice")
    assert outer_ports(lab, alice, kind, 4001) == {("198.18.110.2", 4001)}
    home.change(outer_ports={4001: 14001})
    assert outer_ports(lab, alice, kind, 4001) == {("198.18.110.2", 14001)}
    home.renumber("198.18.111.2")
    assert outer_ports(lab, alice, kind, 4001) == {("198.18.111.2", 14001)}
    home.change(kind=Kind.SYMMETRIC, outer_ports={})
    assert len(outer_ports(lab, alice, kind, 4001)) == 2
    home.change(forget=False, udp=False)
    assert not outer_ports(lab, alice, kind, 4001, HOPELESS.silence)
    assert len(outer_ports(lab, alice, socket.SOCK_STREAM, 4001)) == 2
    home.change(only_tcp_ports=(443,))
    assert not outer_ports(lab, alice, socket.SOCK_STREAM, 4001, HOPELESS.silence)
    with lab.observers[0].namespace.socket(socket.SOCK_STREAM, 443) as server:
        server.listen()
        with alice.socket(socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE.arrives)
            client.connect((lab.observers[0].address, 443))
    assert home.uplink is not None
    home.change(only_tcp_ports=(), udp=True)
    home.uplink.cut()
    assert not outer_ports(lab, alice, kind, 4001, HOPELESS.silence)
    home.uplink.mend(FAST)
    assert outer_ports(lab, alice, kind, 4001)


def test_ipv6_is_open_from_inside_only(lab: Lab) -> None:
    wan, lan = "2001:db8:1001::2", "2001:db8:1001:1::/64"
    home = Router(lab.internet, "six", Kind.FULL_CONE, "198.18.120.2", wan, lan6=lan, link=FAST)
    inside = home.host("inside")
    outside = lab.internet.host("outside", "198.18.121.2", "2001:db8:1002::2", link=FAST).namespace
    inside.run("ping", "-c1", "-W3", "2001:db8:1002::2")
    with pytest.raises(RuntimeError):
        outside.run("ping", "-c1", "-W0.2", "2001:db8:1001:1::11")


def test_links_are_slow_and_lose(lab: Lab) -> None:
    far = lab.internet.host("far", "198.18.130.2", link=LinkSpec(delay=0.04))
    near = lab.internet.host("near", "198.18.131.2", link=LinkSpec(delay=0.01))
    near.namespace.run("ping", "-c1", "-W3", "198.18.130.2")  # finds its neighbours
    shown = near.namespace.run("ping", "-c1", "-W3", "198.18.130.2")
    assert float(shown.partition("time=")[2].split()[0]) >= 100
    far.link.change(delay=0.001, loss=0.5)
    lossy = near.namespace.run("ping", "-c60", "-i0.002", "-W0.2", "198.18.130.2")
    assert 0 < int(lossy.partition("transmitted, ")[2].split()[0]) < 60


def test_nothing_is_left_of_a_lab_that_was_killed() -> None:
    script = """
import os, pathlib, sys, time
from tests.lab.internet import Internet
internet = Internet()
alice = internet.host("alice", "198.18.1.2").namespace
with open(os.devnull, "wb") as sink:
    inside = alice.start(["sleep", "600"], env=os.environ, folder=pathlib.Path("/"), out=sink, errors=sink)
comm = pathlib.Path(f"/proc/{inside.pid}/comm")
while comm.read_text().strip() != "sleep":  # until then nobody has asked to die with its parent
    time.sleep(0.01)
print(inside.pid, internet.carrier._process.pid, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    inside = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
    assert len(inside) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for descriptor in inside:
        assert select.select([descriptor], [], [], 10)[0], "a process of the lab has outlived it"
        os.close(descriptor)
