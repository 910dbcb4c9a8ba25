"""What may be stamped into a build as its default network, and what is refused for which reason."""

import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.network import Network
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity

REPOSITORY = Path(__file__).parents[2]
PUBLISHER, STRANGER = Identity.from_label("publisher"), Identity.from_label("stranger")
KEY = PublisherKey(PUBLISHER.public_key)
NODES = [Identity.from_label(name).peer_id for name in ("alice", "bob", "carol")]
PUBLIC = ("/ip4/192.88.99.1", "/ip6/2001:2:0:1::1", "/dns4/one.mesh.wws")
"""Hosts of three kinds that are of public scope and no examples; nothing here is ever dialled."""
NOW = 1_800_000_000


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_network", REPOSITORY / "packaging/check_network.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def network(*hosts: str, **changes: object) -> Network:
    peers = tuple(
        Multiaddr.parse(f"{host}/tcp/9000/p2p/{node}")
        for host, node in zip(hosts or PUBLIC, NODES, strict=False)
    )
    made = Network("mesh.wws", "mesh.wws", (KEY,), peers, issued_at=NOW - 1000)
    return replace(made, **changes)  # type: ignore[arg-type]


def reasons(checker: ModuleType, of: Network | bytes, **demands: object) -> str:
    """Why it is refused; empty where it is taken."""
    data = of if isinstance(of, bytes) else of.to_file([PUBLISHER] if of.publishers else [])
    try:
        checker.check(data, checker.Demands(**demands), NOW)
    except checker.NotFit as error:
        return str(error)
    return ""


def test_three_nodes_signed_lately(checker: ModuleType) -> None:
    assert reasons(checker, network()) == ""
    assert reasons(checker, network(), publishers=(KEY,)) == ""
    assert checker.check(network().to_file([PUBLISHER]), checker.Demands(), NOW).domain == "mesh.wws"


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"publishers": ()}, "nobody has signed it"),
        ({"issued_at": NOW - 91 * 86_400}, "91 days ago"),
        ({"issued_at": NOW + 301}, "in the future"),
        ({"peers": ()}, "pins 0 nodes"),
        ({"peers": network().peers[:2]}, "pins 2 nodes"),
        ({"domain": "example.org"}, "domain example.org is reserved"),
        ({"domain": "wws.test"}, "domain wws.test is reserved"),
    ],
)
def test_what_is_asked_of_the_file(checker: ModuleType, changed: dict[str, object], reason: str) -> None:
    assert reason in reasons(checker, network(**changed))


@pytest.mark.parametrize(
    "host, reason",
    [
        ("/ip4/127.0.0.1", "loopback"),
        ("/ip6/::1", "loopback"),
        ("/ip4/10.0.0.1", "private"),
        ("/ip4/192.168.1.1", "private"),
        ("/ip4/100.64.0.1", "private"),
        ("/ip4/169.254.1.1", "link"),
        ("/ip6/fe80::1", "link"),
        ("/ip6/fd00::1", "private"),
        ("/ip6/::ffff:10.0.0.1", "private"),
        ("/ip6/64:ff9b::a00:1", "private"),
        ("/ip4/0.0.0.0", "not an address"),
        ("/ip4/224.0.0.1", "not an address"),
        ("/ip4/192.0.2.1", "documentation"),
        ("/ip4/203.0.113.7", "documentation"),
        ("/ip6/2001:db8::1", "documentation"),
        ("/dns4/localhost", "reserved name"),
        ("/dns4/node", "reserved name"),
        ("/dns/node.local", "reserved name"),
        ("/dns4/one.example.org", "reserved name"),
        ("/dns4/one.lan", "reserved name"),
    ],
)
def test_addresses_that_nobody_reaches(checker: ModuleType, host: str, reason: str) -> None:
    one = network(host, *PUBLIC[1:])
    assert reason in reasons(checker, one)
    assert reasons(checker, one, unreachable=True) == ""


def test_three_nodes_on_one_host_are_one_host(checker: ModuleType) -> None:
    assert "pins 1 hosts" in reasons(checker, network(*(PUBLIC[0],) * 3))


def test_three_addresses_of_one_node_are_one_node(checker: ModuleType) -> None:
    peers = tuple(Multiaddr.parse(f"{host}/tcp/9000/p2p/{NODES[0]}") for host in PUBLIC)
    assert "pins 1 nodes" in reasons(checker, network(peers=peers))


def test_other_publishers_than_the_reviewer_knows(checker: ModuleType) -> None:
    other = PublisherKey(STRANGER.public_key)
    assert KEY.hex() in reasons(checker, network(), publishers=(other,))
    assert KEY.hex() in reasons(checker, network(), publishers=(KEY, other))


def test_each_reason_is_said(checker: ModuleType) -> None:
    said = reasons(checker, network("/ip4/127.0.0.1", "/ip4/10.0.0.1", issued_at=0))
    assert said.count("\n") >= 3


def test_a_file_that_was_changed(checker: ModuleType) -> None:
    data = network().to_file([PUBLISHER])
    assert "does not verify" in reasons(checker, data.replace(b"192.88.99.1", b"192.88.99.2"))
    assert reasons(checker, data + b"\n")
    assert reasons(checker, b"{}")
    assert reasons(checker, data * 100)


def test_the_command(checker: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "network.json"
    file.write_bytes(network(issued_at=int(time.time())).to_file([PUBLISHER]))
    assert checker.main([str(file), "--publisher", KEY.hex()]) == 0
    assert "mesh.wws (mesh.wws)" in capsys.readouterr().out
    assert checker.main([str(file), "--publisher", STRANGER.public_key.hex()]) == 8
    assert checker.main([str(file), "--publisher", "nonsense"]) == 2
    assert checker.main([str(tmp_path / "none.json")]) == 10
    file.write_text("{}")
    assert checker.main([str(file)]) == 8


def test_the_network_of_the_next_release_may_be_stamped(checker: ModuleType) -> None:
    """How old it is, the release asks."""
    file = REPOSITORY / "packaging" / "network.json"
    if file.exists():
        checker.check(file.read_bytes(), checker.Demands(max_age=2**31), int(time.time()))
