"""Bootstrap nodes on the hosts of the lab, made by the playbooks and looked after by them.

    def test_it(nodes: Nodes) -> None:
        played = nodes.play("upgrade.yml", nodes.release("1.1.0"), wws_gate_hold=2.0)
        assert played.rc == 0, played

Each test finds three nodes of the version `FIRST` that are well; what an earlier one has left is mended.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent_cli.ops.inventory import HostEntry, Inventory
from tests.lab.hosts import Host, Hosts
from tests.lab.internet import REGIONS
from tests.lab.operator import REPOSITORY
from tests.lab.probing import eventually
from tests.lab.releases import Change, Release
from tests.lab.releases import release as make_release
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.network import Network
from wws.identity.keys import Identity

FIRST = "1.0.0"
NAMES = tuple(region.name for region in REGIONS)
PORT = 9000
READY_WITHIN = 30.0
PLAY_WITHIN = 600.0
SHORT_GATE: dict[str, object] = {
    "wws_drain_wait": 3.0,
    "wws_gate_ready": 15.0,
    "wws_gate_probe": 10.0,
    "wws_gate_hold": 1.0,
}
"""What a healthy node passes at once; how long one waits for others is what makes them slow."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Played:
    """What came of a playbook."""

    name: str
    rc: int
    output: str
    seconds: float
    reports: dict[str, Json] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name}: exit {self.rc} after {self.seconds:.1f} s\n{self.output[-6_000:]}"

    @property
    def changed(self) -> int:
        """Tasks that changed something, of all hosts."""
        recap = self.output.rpartition("PLAY RECAP")[2]
        counts = [word.partition("=")[2] for word in recap.split() if word.startswith("changed=")]
        return sum(map(int, counts))


class Nodes:
    """Three nodes that form a network of their own, described by a file that pins them."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.operator = hosts.operator
        self.folder = hosts.folder / "nodes"
        self.folder.mkdir(exist_ok=True)
        self.identities = {name: Identity.from_label(f"the node on {name}") for name in NAMES}
        self.network_file = self.folder / "lab.json"
        peers = [
            Multiaddr.of(hosts[name].address, PORT).with_peer(self.identities[name].peer_id) for name in NAMES
        ]
        self.network_file.write_bytes(Network("lab", "lab.wws.test", peers=tuple(peers)).to_file())
        self._releases: dict[tuple[object, ...], Release] = {}

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def inventory(self) -> Inventory:
        entries = [
            HostEntry(
                name=name,
                address=self[name].address,
                peer_id=str(self.identities[name].peer_id),
                multiaddrs=tuple(
                    f"/ip4/{self[name].address}/{end}" for end in (f"tcp/{PORT}", f"udp/{PORT}/quic-v1")
                ),
                host_key=self[name].host_key,
            )
            for name in NAMES
        ]
        key_file = str(self.operator.key_file)
        return Inventory("lab.wws.test", "lab.wws.test", tuple(entries), ssh_key_file=key_file)

    def release(self, version: str, *changes: Change) -> Release:
        """One and the same for the whole run, also where sources change meanwhile."""
        key = (version, *changes)
        if key not in self._releases:
            self._releases[key] = make_release(version, *changes)
        return self._releases[key]

    def play(
        self,
        name: str,
        release: Release | None = None,
        *,
        limit: Sequence[str] = (),
        within: float = PLAY_WITHIN,
        identities: bool = False,
        **variables: object,
    ) -> Played:
        """Run a playbook from the operator's machine."""
        reports = self.folder / f"reports-{time.monotonic_ns()}"
        reports.mkdir(mode=0o700)
        given: Json = {**SHORT_GATE, "wws_report_dir": str(reports), **variables}
        if release is not None:
            given |= {
                "wws_version": release.version,
                "wws_release_archive": str(release.path),
                "wws_release_sha256": release.sha256,
            }
        settings = self.folder / f"{reports.name}.json"
        settings.write_text(json.dumps(given))
        secrets = {
            name: {"wws_identity": base64.b64encode(identity.seed).decode()}
            for name, identity in self.identities.items()
        }
        inventory = self.inventory.write_ansible(self.folder, extra=secrets if identities else {})
        command = ["ansible-playbook", "--inventory", str(inventory), name, "--extra-vars", f"@{settings}"]
        if limit:
            command += ["--limit", ",".join(limit)]
        began = time.monotonic()
        done = self.operator.run(
            *command,
            folder=REPOSITORY / "ansible",
            within=within,
            env={
                "ANSIBLE_TIMEOUT": "4",
                "ANSIBLE_SSH_RETRIES": "0",
                "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false",
            },
        )
        seconds = time.monotonic() - began
        found = {path.stem: json.loads(path.read_text()) for path in reports.glob("*.json")}
        return Played(name, done.returncode, done.stdout + done.stderr, seconds, found)

    def install(self, names: Sequence[str] = NAMES, *, identities: bool = True) -> Played:
        """Make hosts into nodes; without identities where they have them."""
        release = self.release(FIRST)
        return self.play(
            "site.yml",
            release,
            limit=names,
            wws_network_file=self.network_file.read_text(),
            wws_ssh_allow=[f"{self.operator.address}/32"],
            identities=identities,
        )

    def everywhere(self, command: str) -> dict[str, str]:
        """What a command prints on each host; nothing where it fails."""
        with ThreadPoolExecutor(len(NAMES)) as pool:
            said = pool.map(lambda name: self[name].ssh(command, check=False), NAMES)
        return {name: "" if done.returncode else done.stdout for name, done in zip(NAMES, said, strict=True)}

    def running(self) -> dict[str, str]:
        """From which release each node runs; empty where none is ready."""
        said = self.everywhere(
            "curl -sf -m 5 127.0.0.1:9371/readyz >/dev/null && "
            "node=/proc/$(systemctl show -P MainPID wws-bootstrap) && "
            "readlink $node/exe && tr '\\0' ' ' <$node/cmdline"
        )
        return {
            name: text.partition("/opt/wws/releases/")[2].partition("/")[0] for name, text in said.items()
        }

    def mend(self) -> None:
        """See that all run `FIRST` and nothing else is left, by the shortest way."""
        hosts = self.hosts.up(NAMES)
        running = self.running()
        left = [host for host in hosts if running[host.name] != FIRST]
        bare = [
            host.name
            for host in left
            if host.ssh(f"test -d /opt/wws/releases/{FIRST}", check=False).returncode
        ]
        if bare:
            played = self.install(bare)
            assert played.rc == 0, played
        for host in left:
            if host.name not in bare:
                host.ssh(
                    "systemctl stop wws-bootstrap; rm -f /etc/wws/sealed; "
                    f"ln -sfn releases/{FIRST} /opt/wws/current; "
                    "systemctl reset-failed wws-bootstrap; systemctl start wws-bootstrap"
                )
        self.everywhere(
            "cd /opt/wws && rm -rf previous releases/.[!.]* && "
            f"for one in releases/*; do [ $one = releases/{FIRST} ] || rm -rf $one; done"
        )
        eventually(lambda: set(self.running().values()) == {FIRST}, READY_WITHIN)


@pytest.fixture
def nodes(hosts: Hosts) -> Nodes:
    """Three nodes of the version `FIRST` that are well."""
    if not _made:
        _made.append(Nodes(hosts))
    _made[0].mend()
    return _made[0]


_made: list[Nodes] = []
