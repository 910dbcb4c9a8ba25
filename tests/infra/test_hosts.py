"""`pulumi up` on machines that exist: three systemd hosts in three networks, reached over SSH.

The real engine, playbooks, SSH and node; from an operator's machine that has nothing but the stack.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.infra.conftest import Tell
from tests.infra.engine import Engine, Run
from tests.lab.hosts import Host, Hosts
from tests.lab.releases import Release, does_not_start, newer_state_files, release
from tests.lab.shared_hosts import hosts
from wws.testing.scale import scale_factor

__all__ = ["hosts"]

UNIT = "wws-bootstrap.service"
TABLE = "pulumi on three systemd hosts"


class Operated:
    """A stack of hosts, driven from the operator's machine."""

    def __init__(self, folder: Path, lab: Hosts, machines: Sequence[Host], good: Release) -> None:
        self.lab = lab
        operator = lab.operator
        self.nodes = [
            {"name": host.name, "region": host.name, "address": host.address, "host_key": host.host_key}
            for host in machines
        ]
        self.settings: dict[str, Any] = {
            "provider": "hosts",
            "domain": "hosts.wws.test",
            "nodes": self.nodes,
            "ssh_allow": [f"{operator.address}/32"],
            "metrics_allow": [f"{operator.address}/32"],
            "ssh_key_file": str(operator.key_file),
            "release": {"version": good.version, "archive": str(good.path), "sha256": good.sha256},
            "dns": {"provider": "zone_file", "zone": "hosts.wws.test", "path": str(folder / "zone.json")},
        }
        self.zone = folder / "zone.json"
        self.zone.write_text("{}")
        self.engine = Engine(folder, self._config(), stack="test")
        self.took: dict[str, float] = {}

    def set(self, **changed: Any) -> None:
        self.settings |= changed
        self.engine.configure(self._config())

    def run(self, what: str, *arguments: str, fails: bool = False) -> Run:
        """The CLI on the operator's machine; how long it took is told in the end."""
        started = time.monotonic()
        with self.lab.operator.uplink.namespace.entered():
            run = self.engine.run(*arguments, fails=fails)
        self.took[what] = time.monotonic() - started
        return run

    def up(self, what: str, *options: str, fails: bool = False) -> Run:
        return self.run(what, "up", "--yes", "--skip-preview", "--json", *options, fails=fails)

    def node(self, name: str) -> dict[str, Any]:
        """What the stack knows of a node."""
        outputs: dict[str, Any] = self.engine.resources()[f"Playbook::{name}"]["outputs"]
        return outputs

    def _config(self) -> dict[str, Any]:
        return {f"wws:{name}": value for name, value in self.settings.items()}


def peer_id_of(host: Host) -> str:
    """Who the node on this host says it is."""
    said = host.ssh("wws-control --home /var/lib/wws --json status").stdout
    return str(json.loads(said)["data"]["peer_id"])


def makes_first_claims(host: Host) -> bool:
    """Whether the witness on this host still has all that it promised."""
    metrics = host.ssh("curl --silent --fail 127.0.0.1:9371/metrics").stdout
    value = next(line for line in metrics.splitlines() if line.startswith("wws_witness_no_first_claims"))
    return float(value.split()[-1]) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("hosts")
def test_the_life_of_a_stack(tmp_path: Path, hosts: Hosts, tell: Tell) -> None:
    machines = [hosts[name] for name in ("eu", "us", "ap")]
    for host in machines:
        host.renew()
    for host in machines:
        host.wait_up()
    eu, us, ap = machines
    stack = Operated(tmp_path, hosts, machines, release("1.0.0"))

    # Three machines become nodes, beside each other.
    stack.up("from nothing")
    peer_ids = stack.engine.outputs()["peer_ids"]
    assert {host.name: peer_id_of(host) for host in machines} == peer_ids
    served = stack.zone.read_text()
    assert all(peer_id in served for peer_id in peer_ids.values())

    # Again: nothing changes.
    assert set(stack.up("no change", "--expect-no-changes").changes) == {"same"}

    # A node that has ended is seen, and started by the next run; the others are left alone.
    us.ssh(f"systemctl stop {UNIT}")
    since = eu.ssh(f"systemctl show --value --property=ExecMainStartTimestampMonotonic {UNIT}").stdout
    stack.run("refresh", "refresh", "--yes", "--skip-preview", "--json")
    assert [stack.node(name)["running"] for name in ("eu", "us", "ap")] == [True, False, True]
    assert "does not run" in stack.node("us")["state"]["problem"]
    assert stack.up("mend a node").steps == [("update", "Playbook::us")]
    assert peer_id_of(us) == peer_ids["us"]
    assert eu.ssh(f"systemctl show --value --property=ExecMainStartTimestampMonotonic {UNIT}").stdout == since

    # Another machine in the place of one: nothing is said to it before its key is in the settings.
    ap.renew(new_host_key=True)
    hosts.operator.known_hosts.write_text(hosts.known_hosts())  # for this test, the stack does not read it
    ap.wait_up()
    refused = stack.up("a wrong host key", "--refresh", fails=True)
    assert "[host_key_changed]" in refused.said
    assert ap.ssh("ls /etc/wws /opt/wws", check=False).returncode != 0, "nothing was installed there"
    stack.nodes[2]["host_key"] = ap.host_key
    stack.set()
    stack.up("replace a machine")
    assert peer_id_of(ap) == peer_ids["ap"], "the node outlives its machine"
    assert stack.engine.outputs()["peer_ids"] == peer_ids
    assert stack.zone.read_text() == served, "and DNS says what it said"
    assert [makes_first_claims(host) for host in machines] == [True, True, False], "it knows what it forgot"

    # A setting that the role does not know ends the run before anything changes.
    if scale_factor() >= 1:
        stack.set(variables={"wws_limit": {}})
        said = stack.up("a typo", fails=True).said
        assert "there is no variable wws_limit; did you mean wws_limits?" in said
        stack.set(variables={})

    # Identities are protected. Without that the nodes are taken off, and the machines stay.
    assert "protect" in stack.run("", "destroy", "--yes", "--skip-preview", "--json", fails=True).said
    stack.run("", "state", "unprotect", "--all", "--yes")
    stack.run("destroy", "destroy", "--yes", "--skip-preview", "--json")
    assert stack.engine.resources() == {}
    for host in machines:
        left = host.ssh(f"ls /opt/wws /etc/wws /var/lib/wws /etc/systemd/system/{UNIT}; id wws", check=False)
        assert left.stdout == ""
        assert host.ssh("systemctl is-system-running").stdout.strip() == "running"
    rows = [f"{what:<20} {seconds:6.1f} s" for what, seconds in stack.took.items() if what]
    tell(TABLE, "\n".join(rows))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("hosts")
@pytest.mark.skipif(
    scale_factor() < 1, reason="upgrades are tested by themselves; through the stack in test-full"
)
def test_another_release_in_the_settings_goes_the_way_of_every_upgrade(tmp_path: Path, hosts: Hosts) -> None:
    eu = hosts["eu"]
    eu.renew()
    eu.wait_up()
    stack = Operated(tmp_path, hosts, [eu], release("1.0.0"))
    stack.set(variables={"wws_gate_hold": 1, "wws_gate_skip": ["dht_put", "dht_get"]})
    stack.up("")
    peer_id = peer_id_of(eu)

    newer = release("1.1.0", newer_state_files)
    stack.set(release={"version": newer.version, "archive": str(newer.path), "sha256": newer.sha256})
    assert ("update", "Playbook::eu") in stack.up("").steps
    assert stack.node("eu")["state"] == {"peer_id": peer_id, "version": "1.1.0"}
    assert eu.ssh("readlink /opt/wws/current").stdout.strip().endswith("1.1.0")
    assert eu.ssh("readlink /opt/wws/previous").stdout.strip().endswith("1.0.0")

    # One that does not start is taken back, and the run says so.
    broken = release("1.2.0", does_not_start)
    stack.set(release={"version": broken.version, "archive": str(broken.path), "sha256": broken.sha256})
    assert "[playbook_failed]" in stack.up("", fails=True).said
    assert eu.ssh("readlink /opt/wws/current").stdout.strip().endswith("1.1.0")
    assert peer_id_of(eu) == peer_id
