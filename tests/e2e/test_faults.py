"""What goes wrong around a node: keys, homes, ways in, clocks. Real commands, a real network of three."""

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_cli.demo.interrupts import Interrupts
from agent_cli.demo.mesh import Mesh
from agent_cli.demo.processes import Processes
from tests.e2e.programs import Programs
from wws.discovery.publishers import key_id
from wws.identity.keys import Identity
from wws.runtime.homes import Home

pytestmark = [pytest.mark.net, pytest.mark.slow]

LOOPBACK = ("--listen", "/ip4/127.0.0.1/tcp/0", "--rpc=", "--http=")
QUIET = {"WWS_NETWORK_ENABLE_MDNS": "false"}
NOBODY = "127.0.0.1:1"
"""Where no DNS server answers."""
PATIENCE = 60.0


@pytest.fixture(scope="module")
def lasting() -> Iterator[Mesh]:
    """A DNS server and three bootstrap nodes that no test of this module disturbs."""
    yield from _mesh()


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """A DNS server and three bootstrap nodes of this test alone."""
    yield from _mesh()


def _mesh() -> Iterator[Mesh]:
    mesh = Mesh(Processes.begin(Interrupts()))
    try:
        mesh.start_dns()
        mesh.start_bootstrap_nodes()
        yield mesh
    finally:
        mesh.processes.end()


def join(programs: Programs, mesh: Mesh, name: str, *more: str, exit_code: int = 0) -> dict[str, Any]:
    """`wws join --name` in a home of that name; the envelope."""
    arguments = ("--home", name, "join", "--name", name, *LOOPBACK, *mesh.network_options, *more)
    return programs.json(*arguments, exit_code=exit_code, **QUIET)


def status(programs: Programs, name: str) -> dict[str, Any]:
    data: dict[str, Any] = programs.json("--home", name, "status")["data"]
    return data


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until it is so; a node that takes longer than `PATIENCE` has failed."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# The key and the home


def test_a_home_that_everybody_can_write_is_refused(programs: Programs) -> None:
    """Who can put a pin, a setting or a network file there decides what the node believes."""
    home = programs.folder / "shared"
    home.mkdir()
    home.chmod(0o777)
    connector = programs.start("wws-connector", "--home", str(home), "--node", "alice", "--bootstrap-mode")
    _, said = connector.communicate(timeout=60)
    assert connector.returncode == 8, said
    assert f"chmod o-w {home}" in said
    assert not (home / "alice.key").exists()


@pytest.mark.parametrize("fault", ["loose", "short", "long", "linked"])
def test_a_key_file_that_is_not_safe_is_refused_and_left_alone(programs: Programs, fault: str) -> None:
    home = programs.folder / "alice"
    home.mkdir(mode=0o700)
    key = home / "alice.key"
    seed = Identity.from_label("alice").seed
    content = {"short": seed[:-1], "long": seed + b"\n"}.get(fault, seed)
    file = key
    if fault == "linked":
        anybody = programs.folder / "anybody"
        anybody.mkdir()
        anybody.chmod(0o777)
        file = anybody / "alice.key"
        key.symlink_to(file)
    file.write_bytes(content)
    file.chmod(0o644 if fault == "loose" else 0o600)
    command = ("join", "--name", "alice", *LOOPBACK, "--network", "example.org", "--allow-unsigned")
    refused = programs.json("--home", "alice", *command, exit_code=8)
    assert refused["errors"][0]["code"].startswith("key_")
    assert "alice/alice.key" in refused["errors"][0]["message"]
    assert file.read_bytes() == content
    assert stat.S_IMODE(file.stat().st_mode) == (0o644 if fault == "loose" else 0o600)
    assert programs.running() == []


def test_a_home_that_cannot_be_written_is_said(programs: Programs) -> None:
    home = programs.folder / "readonly"
    home.mkdir(mode=0o500)
    # Root may write anywhere, but nobody makes a folder below a file.
    place = home if os.geteuid() else Path(os.devnull) / "home"
    arguments = ("join", *LOOPBACK, "--network", "example.org", "--allow-unsigned")
    refused = programs.json("--home", str(place), *arguments, exit_code=10)
    assert str(place) in refused["errors"][0]["message"]
    assert "--home" in refused["errors"][0]["hint"]
    assert programs.running() == []


def test_a_full_disk_is_said(programs: Programs) -> None:
    refused = programs.json("id", "new", "--identity-path", "/dev/full", exit_code=7)
    assert refused["errors"][0]["code"] == "key_exists"


# Starting and stopping


def test_two_joins_at_once_are_one_node(programs: Programs, lasting: Mesh) -> None:
    arguments = ("--home", "both", "--json", "join", "--name", "both", *LOOPBACK, *lasting.network_options)
    joins = [programs.start("wws", *arguments, **QUIET) for _ in range(2)]
    ended = [join.communicate(timeout=PATIENCE) for join in joins]
    assert [join.returncode for join in joins] == [0, 0], ended
    assert sorted('"already_running": true' in output for output, _ in ended) == [False, True]
    assert len(Home(programs.folder / "both").running_nodes()) == 1
    first = programs.json("--home", "both", "leave")["data"]
    again = programs.json("--home", "both", "leave")["data"]
    assert (first["was_running"], again["was_running"]) == (True, False)
    assert programs.running() == []


def test_a_name_that_is_held_is_refused_with_its_holder(programs: Programs, lasting: Mesh) -> None:
    first = join(programs, lasting, "carol")["data"]
    rival = ("--home", "rival", "join", "--name", "carol", *LOOPBACK, *lasting.network_options)
    refused = programs.json(*rival, exit_code=7, **QUIET)
    assert refused["errors"][0]["code"] == "name_taken"
    assert first["did"] in refused["errors"][0]["message"]
    assert (refused["data"]["joined"], refused["data"]["name"]) == (True, None)
    assert refused["data"]["holder"] == first["did"]


def test_a_node_that_runs_stays_in_its_network(programs: Programs, lasting: Mesh) -> None:
    join(programs, lasting, "dave")
    other = ("--home", "dave", "join", "--name", "dave", "--network", f"other.test#{'00' * 31}01")
    refused = programs.json(*other, exit_code=2)
    assert refused["errors"][0]["code"] == "other_network"
    assert status(programs, "dave")["domain"] == lasting.domain
    assert join(programs, lasting, "dave")["data"]["already_running"]


def test_with_relay_only_nobody_is_told_an_address(programs: Programs, lasting: Mesh) -> None:
    data = join(programs, lasting, "heidi", "--relay-only")["data"]
    assert data["name"] == "heidi"
    join(programs, lasting, "ivan")
    found: dict[str, Any] = {}

    def is_reachable() -> bool:  # there is a reservation, and a record that names it
        found.update(programs.json("--home", "ivan", "resolve", "heidi")["data"])
        return bool(found["addresses"])

    eventually(is_reachable)
    assert found["did"] == data["did"]
    shown = status(programs, "heidi")
    for address in (*found["addresses"], *shown["addresses"]):
        assert "/p2p-circuit/" in address
    assert shown["reachability"] == "private"
    assert programs.json("--home", "ivan", "ping", "heidi")["data"]["received"] > 0


# Ways in


@pytest.mark.parametrize("network", [(), ("--network", "nowhere"), ("--network", "nowhere.json")])
def test_an_unknown_network_is_said_at_once(programs: Programs, network: tuple[str, ...]) -> None:
    refused = programs.json("--home", "erin", "join", *LOOPBACK, *network, exit_code=9)
    assert refused["errors"][0]["code"] in {"no_network", "network_unknown"}
    hint = refused["errors"][0]["hint"]
    assert f"wws --home {programs.folder / 'erin'} network show" in hint or "--network" in hint
    assert programs.running() == []


def test_no_way_in_says_what_was_tried_and_goes_on(programs: Programs, mesh: Mesh) -> None:
    node = mesh.bootstrap[0]
    mesh.processes.kill(node.process.pid)
    network = f"example.org#{Identity.from_label('publisher').public_key.hex()}"
    typed = ("--network", network, "--dns-server", NOBODY, "--bootstrap", node.address)
    arguments = ("--home", "frank", "join", *LOOPBACK, *typed)
    refused = programs.json(*arguments, exit_code=9, **QUIET)
    assert refused["errors"][0]["code"] == "no_way_in"
    assert "leave --node default" in refused["errors"][0]["hint"]
    assert node.place.multiaddr in {tried["target"] for tried in refused["data"]["tried"]}
    now = status(programs, "frank")
    assert (now["status"], now["joined"]) == ("failed_retrying", False)
    assert now["join"]["next_retry_s"] > 30

    mesh.start_bootstrap_node(1)
    eventually(lambda: node.paths.read_ready() is not None)
    again = programs.json(*arguments, **QUIET)["data"]  # does not wait for the next try
    assert (again["already_running"], again["joined"]) == (True, True)
    assert programs.wws("--home", "frank", "leave").returncode == 0


def test_a_wrong_publisher_key_is_an_integrity_error_that_names_the_right_one(
    programs: Programs, lasting: Mesh
) -> None:
    wrong = Identity.from_label("publisher").public_key.hex()
    network = (f"--network={lasting.domain}#{wrong}", f"--dns-server={lasting.dns_server}")
    refused = programs.json("--home", "judy", "join", *LOOPBACK, *network, "--no-retry", exit_code=8)
    assert refused["errors"][0]["code"] == "publisher_unknown"
    assert "publisher key" in refused["errors"][0]["hint"]
    [warning] = [entry for entry in refused["data"]["warnings"] if entry["code"] == "publisher_unknown"]
    assert key_id(lasting.publisher.public_key) in warning["message"]
    assert programs.running() == []


def test_a_malformed_entry_among_many_changes_nothing(programs: Programs, lasting: Mesh) -> None:
    good = lasting.bootstrap[1].address
    bad = ["rubbish", "/ip4/127.0.0.1/tcp/1", "/ip4/999.1.1.1/tcp/9000/p2p/12D3KooW", ""]
    typed = [f"--bootstrap={address}" for address in (*bad, good)]
    arguments = ("--home", "grace", "join", *LOOPBACK, *typed)
    data = programs.json(*arguments, **QUIET)["data"]
    assert data["joined"]
    assert data["ad_hoc"]
    assert data["clock_skew_s"] == pytest.approx(0, abs=2)  # heard before the join is over, name or not
    warned = " ".join(warning["message"] for warning in data["warnings"])
    assert "rubbish" in warned
    assert "does not end in /p2p/" in warned


def test_back_in_from_memory_with_dns_dead_and_one_of_three_bootstrap_nodes_alive(
    programs: Programs, mesh: Mesh
) -> None:
    first = join(programs, mesh, "alice")["data"]
    assert first["source"] == "bundle"
    eventually(lambda: status(programs, "alice")["peers"] >= 3)
    assert programs.wws("--home", "alice", "leave").returncode == 0
    killed, drained, _ = mesh.bootstrap
    mesh.processes.kill(killed.process.pid)
    drained.process.terminate()
    assert drained.process.wait(PATIENCE) == 0
    assert not drained.paths.ready_file.exists()
    network = ("--network", mesh.network, "--dns-server", NOBODY)
    arguments = ("--home", "alice", "join", "--name", "alice", *LOOPBACK, *network)
    again = programs.json(*arguments, **QUIET)["data"]
    assert (again["source"], again["peer_id"]) == ("cache", first["peer_id"])
    assert again["name"] == "alice"


def test_a_node_that_lost_all_peers_comes_back_by_itself(programs: Programs, mesh: Mesh) -> None:
    soon = {"WWS_LIMITS_RETRY_FIRST": "1", "WWS_LIMITS_RETRY_LONGEST": "1"}
    arguments = ("--home", "alice", "join", "--name", "alice", *LOOPBACK, *mesh.network_options)
    programs.json(*arguments, **QUIET, **soon)
    for node in mesh.bootstrap:
        mesh.processes.kill(node.process.pid)
    eventually(lambda: status(programs, "alice")["status"] in ("lost", "failed_retrying"))
    assert "Lost all peers, reconnecting" in programs.wws("--home", "alice", "logs").stdout
    mesh.start_bootstrap_node(2)
    eventually(lambda: bool(status(programs, "alice")["joined"]))
    assert programs.json("--home", "alice", "ping", str(mesh.bootstrap[1].identity.peer_id), "-c", "1")
