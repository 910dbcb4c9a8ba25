"""The world `hosts`: an operator with the real engine, and three machines with systemd and SSH.

Its folder holds `infra/` with the stack `prod` (`Pulumi.prod.yaml`), `passphrase`, `wws-state/` (the
backend), `releases/` and `inventory.json`. The zone is a file, served by the operator's own machine. Machines
are as new before the drill `own-hosts`; for another one that is run alone the stack is made first. What
happens to machines between drills (a disk that fills up, a machine that burns) is done by `prepare`.
"""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence

from typing_extensions import override

from tests.drills.pages import ROOT
from tests.drills.worlds import DrillFailed, World
from tests.infra.engine import LANGUAGE_HOST, PASSPHRASE, pulumi_folder
from tests.lab.hosts import Host, Hosts
from tests.lab.internet import Internet
from tests.lab.releases import Change, does_not_start, release
from tests.lab.shared_hosts import existing

NAMES = ("eu", "us", "ap")
CONFIG = """\
config:
  wws:provider: hosts
  wws:domain: example.org
  wws:nodes:
{nodes}\
  wws:ssh_allow: [{operator}/32]
  wws:ssh_key_file: ~/.ssh/id_ed25519
  wws:release:
    version: 1.0.0
    archive: ~/releases/{archive}
    sha256: {sha256}
  wws:dns: {{provider: zone_file, zone: example.org, path: {zone}, pid_file: {pid_file}}}
  wws:dns_servers: ["{operator}:53"]
"""
NODE = '    - {{name: {name}, address: {address}, host_key: "{host_key}"}}\n'
RELEASES: dict[str, tuple[Change, ...]] = {"1.0.0": (), "1.1.0": (), "1.2.0": (does_not_start,)}
SHORT_GATE = {"wws_gate_ready": 15, "wws_gate_probe": 15, "wws_gate_hold": 1, "wws_drain_wait": 2}
"""How long an upgrade waits and watches here; what it does is the same."""
WITH_GATE = """\
#!/bin/sh
# As operators call it, but that upgrades watch a node for a second only.
case ${{1:-}} in
upgrade | rollback) set -- "$@" {options} ;;
esac
exec {program} "$@"
"""
SMALL_DISK = """\
set -e
systemctl stop wws-bootstrap
mkdir /run/home && cp -a /var/lib/wws/. /run/home
mount -t tmpfs -o size=48m,mode=0700,uid=$(id -u wws),gid=$(id -g wws) tmpfs /var/lib/wws
cp -a /run/home/. /var/lib/wws && rm -r /run/home
systemctl start wws-bootstrap
mkdir /var/lib/wws/dump && dd if=/dev/zero of=/var/lib/wws/dump/core.4711 bs=1M 2>/dev/null || :
"""
"""A disk of 48 MiB below the node's home, and somebody who fills it."""
REPLACED = {"lost-machine": ("us", "backup", "backups"), "moved-node": ("eu", "last-backup", "moving")}
"""Drills that begin with a new machine in the place of one: which, the drill before, and what that leaves."""
DEPLOY = (
    "cd infra && pulumi stack init prod && pulumi up --yes --skip-preview && "
    "pulumi stack output inventory --json > ../inventory.json"
)
DEPLOY_TIMEOUT = 300.0


class HostsWorld(World):
    """A stack on three machines."""

    name = "hosts"
    patience = 500.0
    nodes: tuple[str, ...] = NAMES
    """Of which machines the stack knows in the beginning."""

    def __init__(self, hosts: Hosts | None = None) -> None:
        super().__init__()
        self._given = hosts or existing()
        self._hosts: Hosts | None = None

    @property
    def hosts(self) -> Hosts:
        assert self._hosts is not None, "the world is entered"
        return self._hosts

    @override
    def make(self) -> None:
        self._hosts = self._given or self._exit.enter_context(Hosts(self._exit.enter_context(Internet())))
        machines = self._new_machines()
        if self._given is not None:
            self._exit.callback(self._leave_new_machines)
        self._write_stack(machines)
        self._serve_zone()
        programs = self.folder / "bin"
        options = [word for name, value in SHORT_GATE.items() for word in ("--set", f"{name}={value}")]
        (programs / "wws-ops").rename(programs / ".wws-ops")
        wrapper = WITH_GATE.format(
            options=shlex.join(options), program=shlex.quote(str(programs / ".wws-ops"))
        )
        (programs / "wws-ops").write_text(wrapper)
        (programs / "wws-ops").chmod(0o755)

    @override
    def prepare(self, drill: str) -> None:
        if drill != "own-hosts" and not self._is_made():
            self._deploy()
        if drill in REPLACED:
            name, before, leaves = REPLACED[drill]
            if not (self.home / leaves).is_dir():
                self.run(before)
            self._replace(name)
        if drill == "full-disk":
            self.hosts["us"].ssh(SMALL_DISK)

    @override
    def prefix(self) -> Sequence[str]:
        return ("nsenter", f"--net={self.hosts.operator.uplink.namespace.path}")

    @override
    def environment(self) -> dict[str, str]:
        inherited = super().environment()
        del inherited["WWS_NETWORK_LISTEN"]
        folders = [str(self.folder / "bin"), inherited["PATH"], str(pulumi_folder()), "/usr/sbin", "/sbin"]
        return {
            **inherited,
            "PATH": ":".join(folders),
            "WWS_INVENTORY": str(self.home / "inventory.json"),
            "PULUMI_HOME": str(self.folder / "pulumi"),
            "PULUMI_BACKEND_URL": f"file://{self.home / 'wws-state'}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self.home / "passphrase"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "XDG_STATE_HOME": str(self.folder / "xdg"),
        }

    def _leave_new_machines(self) -> None:
        for name in NAMES:
            self.hosts[name].renew()

    def _replace(self, name: str) -> None:
        """Another machine in the place of this one; its console shows its key."""
        host = self.hosts[name]
        (self.home / "old_host_key").write_text(f"{host.host_key}\n")
        host.renew(new_host_key=True)
        # For what tests say to it themselves; the operator's settings still have the old one.
        self.hosts.operator.known_hosts.write_text(self.hosts.known_hosts())
        host.wait_up()
        (self.home / "new_host_key").write_text(f"{host.host_key}\n")

    def _new_machines(self) -> list[Host]:
        """All of them with an empty disk; those that were never on have one."""
        machines = [self.hosts[name] for name in NAMES]
        for host in machines:
            if host.is_up:
                host.renew()
            else:
                host.start()
        for host in machines:
            host.wait_up()
        self.hosts.operator.forget_connections()
        return machines

    def _write_stack(self, machines: Sequence[Host]) -> None:
        (self.home / ".ssh").mkdir(mode=0o700)
        for half in ("id_ed25519", "id_ed25519.pub"):
            key = self.home / ".ssh" / half
            key.write_bytes(self.hosts.operator.key_file.with_name(half).read_bytes())
            key.chmod(0o600)
        (self.home / "releases").mkdir()
        archives = {}
        for version, changes in RELEASES.items():
            made = release(version, *changes)
            # The name says the machine that it is for; all are for this one.
            archive = self.home / "releases" / f"wws-{version}-linux-{platform.machine()}.tar.gz"
            archive.symlink_to(made.path)
            archive.with_name(f"{archive.name}.sha256").write_text(f"{made.sha256}  {archive.name}\n")
            archives[version] = (archive.name, made.sha256)
        infra = self.home / "infra"
        infra.mkdir()
        for name in ("Pulumi.yaml", "__main__.py", "wws_infra"):
            (infra / name).symlink_to(ROOT / "infra" / name)
        lines = {
            host.name: NODE.format(name=host.name, address=host.address, host_key=host.host_key)
            for host in machines
        }
        nodes = "".join(lines[name] for name in self.nodes)
        (self.home / "new_node").write_text("".join(lines[name] for name in NAMES if name not in self.nodes))
        archive_name, sha256 = archives["1.0.0"]
        (infra / "Pulumi.prod.yaml").write_text(
            CONFIG.format(
                nodes=nodes,
                operator=self.hosts.operator.address,
                archive=archive_name,
                sha256=sha256,
                zone=self.home / "zone.json",
                pid_file=self.home / "dns.pid",
            )
        )
        (self.home / ".venv").symlink_to(sys.prefix)
        (self.home / "wws-state").mkdir()
        (self.home / "passphrase").write_text(PASSPHRASE)
        host = self.folder / "bin" / "pulumi-language-python"
        host.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{LANGUAGE_HOST}" "$@"\n')
        host.chmod(0o755)
        (self.folder / "bin" / "pulumi").symlink_to(pulumi_folder() / "pulumi")

    def _serve_zone(self) -> None:
        (self.home / "zone.json").write_text("{}")
        address = self.hosts.operator.address
        module = [sys.executable, "-m", "wws.testing.dns_server", "--host", address, "--port", "53"]
        server = subprocess.Popen(
            [*self.prefix(), *module, "--zone", str(self.home / "zone.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )
        self._exit.callback(server.communicate)
        self._exit.callback(server.terminate)
        assert server.stdout is not None
        json.loads(server.stdout.readline())  # it is ready
        (self.home / "dns.pid").write_text(f"{server.pid}\n")

    def _is_made(self) -> bool:
        return (self.home / "inventory.json").exists()

    def _deploy(self) -> None:
        done = subprocess.run(
            [*self.prefix(), "sh", "-c", DEPLOY],
            cwd=self.home,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=DEPLOY_TIMEOUT,
        )
        if done.returncode:
            raise DrillFailed(f"there is no stack:\n{done.stdout[-4_000:]}{done.stderr[-4_000:]}")


class TwoHostsWorld(HostsWorld):
    """The third machine is there, and no node yet: `new_node` is its line for the settings."""

    name = "two-hosts"
    nodes = ("eu", "us")
