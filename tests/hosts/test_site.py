"""`site.yml` on real hosts: what it makes of them, that it does so once, and what it refuses to touch."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent_cli.ops.inventory import Inventory, Json
from agent_cli.ops.playbooks import PlaybookFailed, PlaybookResult, PlaybookUnreachable, run_playbook
from tests.full_scale import only_in_full
from tests.hosts.conftest import Tell
from tests.hosts.nodes import FIRST, NAMES, Nodes
from tests.lab.hosts import Host, Hosts
from tests.lab.internet import Uplink
from tests.lab.nat import Kind, Router
from tests.lab.nodes import Swarm
from tests.lab.operator import REPOSITORY
from tests.lab.probing import eventually
from wws.testing.scale import scale

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(600)]

EXPOSURE = 1.1
"""What `systemd-analyze security` may say at most."""
CROWD = 9_980
"""Some short of the 10,000 connections that a bootstrap node keeps: with its neighbours there would be more,
and it would let an eighth of them go. With what else it has open it holds 10,000 files."""
FILES = 10_000
MEMORY = 512 * 1024 * 1024
"""What the node may take with the whole crowd (targets: 10,000 connections in 512 MiB)."""
ADMIN = "carol"
PATIENCE = 60.0


class Site:
    """The three hosts, and runs of `site.yml` from the operator's machine."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.nodes = Nodes(hosts)
        self.seconds: list[float] = []
        """How long runs for all hosts took."""
        allowed = f"{hosts.operator.address}/32"
        self.release = self.nodes.release(FIRST)
        self.variables: dict[str, Json] = {
            "wws_version": FIRST,
            "wws_release_archive": str(self.release.path),
            "wws_release_sha256": self.release.sha256,
            "wws_network_file": self.nodes.network_file.read_text(),
            "wws_ssh_allow": [allowed],
            "wws_metrics_allow": [allowed],
            "wws_admins": [{"name": ADMIN, "keys": [hosts.operator.public_key]}],
        }
        self.secrets = {
            name: {"wws_identity": base64.b64encode(identity.seed).decode()}
            for name, identity in self.nodes.identities.items()
        }

    def run(
        self,
        *,
        inventory: Inventory | None = None,
        limit: Sequence[str] = (),
        check: bool = False,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        tags: Sequence[str] = (),
        on_line: Callable[[str], None] | None = None,
        **variables: Json,
    ) -> PlaybookResult:
        """Run it; `variables` come on top of the usual ones. Raises `PlaybookFailed`."""
        began = time.monotonic()
        with self.hosts.operator.uplink.namespace.entered():
            result = run_playbook(
                "site.yml",
                inventory or self.nodes.inventory,
                limit=limit,
                variables={**self.variables, **variables},
                secrets=self.secrets if secrets is None else secrets,
                check=check,
                tags=tags,
                on_line=on_line,
            )
        if not limit:
            self.seconds.append(time.monotonic() - began)
        return result

    def refused(self, error: type[PlaybookFailed] = PlaybookFailed, **given: Any) -> PlaybookFailed:
        """Run it, and be refused before anything was changed on any host."""
        with pytest.raises(error) as caught:
            self.run(**given)
        assert caught.value.result.changed == 0, caught.value
        return caught.value

    def status(self, host: Host) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(host.ssh("wws-control --json status").stdout)["data"]
        return answer


@pytest.fixture(scope="module")
def site(hosts: Hosts) -> Site:
    return Site(hosts)


@pytest.fixture(scope="module")
def new(site: Site) -> Site:
    """The hosts, as new."""
    for name in NAMES:
        site.hosts[name].renew()
    site.hosts.up()
    return site


@pytest.fixture(scope="module")
def first(new: Site) -> PlaybookResult:
    """The first run on three new hosts."""
    return new.run()


@pytest.fixture
def eu(site: Site, first: PlaybookResult) -> Host:
    """One of the hosts, made into a node."""
    return site.hosts["eu"]


@only_in_full
def test_check_mode_says_what_would_be_and_does_nothing(new: Site) -> None:
    """Before the first run, as the hosts stay as new."""
    eu = new.hosts["eu"]
    before = eu.ssh("find /etc /opt /var/lib/wws -newer /etc/hostname 2>/dev/null | sort").stdout
    result = new.run(limit=["eu"], check=True)
    assert result.hosts["eu"].changed > 5
    assert eu.ssh("find /etc /opt /var/lib/wws -newer /etc/hostname 2>/dev/null | sort").stdout == before
    assert eu.ssh("nft list ruleset").stdout == ""


def test_the_first_run_makes_nodes_and_the_second_changes_nothing(
    site: Site, first: PlaybookResult, tell: Tell
) -> None:
    second = site.run()
    assert {name: stats.changed for name, stats in second.hosts.items()} == dict.fromkeys(NAMES, 0)
    for name in NAMES:
        assert first.facts[name]["peer_id"] == str(site.nodes.identities[name].peer_id)
        assert first.facts[name]["version"] == FIRST
    measured = (
        f"first run {site.seconds[0]:.1f} s, {first.changed} changes; second {site.seconds[1]:.1f} s, none"
    )
    tell("site.yml on three hosts", measured)


def test_the_key_is_roots_and_the_node_has_no_rights(site: Site, eu: Host) -> None:
    modes = eu.ssh("stat -c '%a %U %G %n' /etc/wws/* /var/lib/wws /opt/wws/current/bin/wws-bootstrap").stdout
    assert "600 root root /etc/wws/identity.key" in modes
    assert "640 root wws /etc/wws/config.toml" in modes
    assert "700 wws wws /var/lib/wws" in modes
    pid = site.status(eu)["pid"]
    process = eu.read(f"/proc/{pid}/status")
    assert re.search(r"CapEff:\s+0+\n", process)
    assert re.search(r"CapBnd:\s+0+\n", process)
    assert re.search(r"NoNewPrivs:\s+1\n", process)
    assert re.search(r"Seccomp:\s+2\n", process)
    assert eu.ssh(f"stat -c %U /proc/{pid}").stdout == "wws\n"
    assert site.secrets["eu"]["wws_identity"] not in eu.ssh("journalctl --no-pager").stdout


def test_the_sandbox_leaves_little_exposed(eu: Host, tell: Tell) -> None:
    said = eu.ssh("systemd-analyze security --no-pager wws-bootstrap.service").stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    tell("systemd-analyze security", f"wws-bootstrap.service: {found[1]}")
    assert float(found[1]) <= EXPOSURE, said
    wanted = "Type,Restart,WatchdogUSec,MemoryMax,TasksMax,LimitNOFILE,NotifyAccess"
    shown = dict(
        line.split("=", 1) for line in eu.ssh(f"systemctl show -p {wanted} wws-bootstrap").stdout.split()
    )
    assert shown["Type"] == "notify"
    assert shown["Restart"] == "always"
    assert shown["WatchdogUSec"] == "30s"
    assert int(shown["MemoryMax"]) == 1024**3
    assert int(shown["TasksMax"]) == 64
    assert int(shown["LimitNOFILE"]) >= 20_000


@only_in_full
def test_agents_join_and_reach_each_other_through_nodes_in_the_sandbox(site: Site, eu: Host) -> None:
    """Behind symmetric NATs no hole can be punched, so a relay carries what they say.

    The nodes keep their names for them from now on: no other test on these hosts has agents of these names.
    """
    internet = site.hosts.internet
    homes = [
        Router(internet, label, Kind.SYMMETRIC, address)
        for label, address in (("carol's home", "198.18.61.2"), ("dave's home", "198.18.62.2"))
    ]
    with Swarm.on(internet, site.nodes.network_file) as swarm:
        carol, dave = (
            swarm.agent(name, home.host(name)) for name, home in zip(("carol", "dave"), homes, strict=True)
        )
        swarm.wait_joined()

        def reached_through_a_relay() -> bool:
            code, envelope = swarm.wws(carol, "ping", "-c", "1", "dave")
            return code == 0 and envelope["data"]["replies"][0]["path"] == "relay"

        eventually(reached_through_a_relay, PATIENCE)
        relayed = [site.status(site.hosts[name])["reservations"] for name in NAMES]
        assert sum(relayed) >= 2, relayed
        names = swarm.wws(dave, "name", "list")[1]["data"]["names"]
        assert names[0]["witnessed"], names


def test_a_crowd_stays_within_memory_and_files(site: Site, eu: Host, tell: Tell) -> None:
    """The machine enforces no MemoryMax on units of its containers, so the memory is looked at."""
    count = scale(CROWD)
    sources = [f"198.18.{number}.1" for number in range(100, 140)]
    crowd = site.hosts.internet.host("crowd", *sources)
    settings = {
        "host": eu.address,
        "port": 9000,
        "peer_id": str(site.nodes.identities["eu"].peer_id),
        "from": sources,
        "count": count,
    }
    with _running(crowd, "tests.hosts.crowd", json.dumps(settings)) as process:
        assert process.stdout is not None
        answer = json.loads(process.stdout.readline())
        status = site.status(eu)
        tell(
            "a crowd on a node in its sandbox",
            f"{status['connections']} connections, {status['open_files']} files, "
            f"{status['rss_bytes'] / 2**20:.0f} MiB",
        )
        assert answer["there"] >= count * 0.99, answer
        assert status["connections"] >= answer["there"]
        assert status["open_files"] >= scale(FILES)
        assert status["rss_bytes"] <= MEMORY
        assert eu.ssh("systemctl show -p NRestarts --value wws-bootstrap").stdout == "0\n"


def test_the_firewall_lets_in_what_is_listed_and_nothing_else(site: Site, eu: Host) -> None:
    operator, stranger = site.hosts.operator.uplink, site.hosts.internet.host("stranger", "198.18.63.2")
    for who, port, is_open in (
        (stranger, 9000, True),
        (stranger, 22, False),
        (stranger, 9371, False),
        (operator, 22, True),
        (operator, 9371, True),
    ):
        assert _connects(who, eu.address, port) == is_open, (who.addresses, port)
    assert stranger.namespace.run("ping", "-c1", "-W2", eu.address)
    said = site.hosts.operator.run("curl", "-sf", "-m", "5", f"http://{eu.address}:9371/metrics")
    assert "wws_connections" in said.stdout, said.stderr


def test_administrators_come_in_by_key_and_may_become_root(site: Site, eu: Host) -> None:
    ssh = ("ssh", "-F", str(site.hosts.operator.ssh_config))
    done = site.hosts.operator.run(*ssh, f"{ADMIN}@eu", "sudo -n id -un")
    assert done.stdout == "root\n", done.stderr
    anew = ("-o", "ControlPath=none")  # not by the connection that stands
    by_password = site.hosts.operator.run(
        *ssh, *anew, "-o", "PubkeyAuthentication=no", "-o", "BatchMode=no", f"{ADMIN}@eu", "true"
    )
    assert "Permission denied (publickey)" in by_password.stderr


@only_in_full
def test_rules_that_lock_the_operator_out_are_taken_back(site: Site, eu: Host) -> None:
    """The way to the host closes as soon as the new rules are there, as if they did not let SSH in."""
    operator = site.hosts.operator.uplink.namespace
    before = eu.read("/etc/nftables.conf")
    blocked = (
        "table inet blocked { chain out { type filter hook output priority filter; "
        f"ip daddr {eu.address} tcp dport 22 tcp flags & (syn | ack) == syn drop; }}; }}\n"
    )
    inside = eu.uplink.namespace

    def close_the_way(line: str) -> None:
        if "Come in again" in line:
            operator.run("nft", "-f", "-", given=blocked)

    try:
        with pytest.raises(PlaybookFailed, match="Come in again"):
            site.run(
                limit=["eu"],
                tags=["firewall"],
                on_line=close_the_way,
                wws_mesh_ports=[9000, 4443],
                wws_firewall_confirm=5,
            )
        eventually(lambda: "4443" not in inside.run("nft", "list", "ruleset"), PATIENCE)
    finally:
        operator.run("nft", "delete", "table", "inet", "blocked")
    assert "9000" in inside.run("nft", "list", "ruleset")
    assert eu.read("/etc/nftables.conf") == before


@only_in_full
def test_a_limit_is_taken_over_without_a_restart(site: Site, eu: Host) -> None:
    before = site.status(eu)["pid"]
    result = site.run(limit=["eu"], tags=["config"], wws_limits={"relay_circuits": 7})
    assert result.hosts["eu"].changed == 2
    assert site.status(eu)["pid"] == before
    assert "relay_circuits" in eu.ssh("journalctl --no-pager --unit wws-bootstrap --lines 20").stdout


REFUSED: tuple[tuple[dict[str, Json], tuple[str, ...]], ...] = (
    (
        {"wws_ssh_alow": ["192.0.2.0/24"]},
        ("no variable wws_ssh_alow; did you mean wws_ssh_allow?",),
    ),
    (
        {"wws_ssh_allow": ["203.0.113.0/24"], "wws_metrics_allow": ["0.0.0.0/1", "128.0.0.0/1"]},
        ("these rules would lock you out: you come from 198.18.0.10", "0.0.0.0/0 is the whole internet"),
    ),
    (
        {"wws_release_sha256": "0" * 64, "wws_limits": {"relay_circuit": 7}},
        (f"and {'0' * 64} is pinned", "config.toml:", "relay_circuits"),
    ),
    ({"wws_version": "1.0.1"}, ("this host runs 1.0.0", "wws-ops upgrade and wws-ops rollback do")),
)


@pytest.mark.parametrize(
    "variables, words",
    [
        pytest.param(*case, id=next(iter(case[0])), marks=[only_in_full] if number else [])
        for number, case in enumerate(REFUSED)
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_changes(
    site: Site, eu: Host, variables: dict[str, Json], words: tuple[str, ...]
) -> None:
    refusal = site.refused(limit=["eu"], **variables)
    said = refusal.message.replace("\n", " ")
    assert [word for word in words if word not in said] == [], said


@only_in_full
def test_another_nodes_key_is_refused(site: Site, eu: Host) -> None:
    """Neither a key that is not the PeerId's, nor another node in the place of the one that is there."""
    refusal = site.refused(limit=["eu"], secrets={"eu": site.secrets["us"]})
    assert "the key of another node" in refusal.message
    us = site.nodes.identities["us"].peer_id
    hosts = [
        replace(host, peer_id=str(us), multiaddrs=())
        for host in site.nodes.inventory.hosts
        if host.name == "eu"
    ]
    refusal = site.refused(
        inventory=replace(site.nodes.inventory, hosts=tuple(hosts)),
        limit=["eu"],
        secrets={"eu": site.secrets["us"]},
    )
    assert "a key that is there is never replaced" in refusal.message


def test_a_clock_that_is_an_hour_off_is_refused_for_all(site: Site, eu: Host) -> None:
    us = site.hosts["us"]
    library = us.ssh("ls /usr/lib/*/faketime/libfaketime.so.1").stdout.strip()
    us.write("/etc/environment", f"LD_PRELOAD={library}\nFAKETIME=+3600\n")
    try:
        refusal = site.refused(limit=["eu", "us"])
    finally:
        us.write("/etc/environment", "")
    assert refusal.host == "us"
    assert re.search(r"the clock of the host is 3[56]\d\d s ahead of this machine's", refusal.message), (
        refusal
    )


def test_a_host_with_another_key_is_not_talked_to(site: Site, eu: Host) -> None:
    other = site.hosts["us"].host_key
    hosts = [
        replace(host, host_key=other if host.name == "eu" else host.host_key)
        for host in site.nodes.inventory.hosts
    ]
    inventory = replace(site.nodes.inventory, hosts=tuple(hosts))
    refusal = site.refused(PlaybookUnreachable, inventory=inventory, limit=["eu", "us"])
    assert refusal.host == "eu"
    assert "Host key verification failed" in refusal.message


@only_in_full
def test_a_host_that_is_gone_is_named_and_the_others_are_left_alone(site: Site, eu: Host) -> None:
    ap = site.hosts["ap"]
    ap.kill()
    try:
        refusal = site.refused(PlaybookUnreachable, limit=["eu", "ap"])
    finally:
        ap.start()
        ap.wait_up()
    assert refusal.host == "ap"
    eventually(lambda: site.status(ap)["peer_id"] == str(site.nodes.identities["ap"].peer_id), PATIENCE)


def _connects(who: Uplink, address: str, port: int) -> bool:
    with who.namespace.socket(socket.SOCK_STREAM) as asking:
        asking.settimeout(2)
        try:
            asking.connect((address, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _running(uplink: Uplink, module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program of the tests on another machine, killed at the end."""
    with uplink.namespace.entered():
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
