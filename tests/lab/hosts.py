"""Debian 12 hosts with systemd as PID 1 and an SSH server, each in a region of the internet of the lab.

    with Internet() as internet, Hosts(internet) as hosts:
        eu, us, ap = hosts.up()
        eu.ssh("systemctl is-system-running")
        hosts.operator.run("ansible-playbook", …)

A host is a systemd-nspawn container over a root folder that all share and nobody changes; what it writes
lies in a layer of its own. That is mounted in a mount namespace of the host, so no mount is left of a run
that was killed, and all processes of a host are killed when this one ends (cgroup.kill: Linux 5.14). Memory,
CPU and task limits of units are not enforced inside where the machine's cgroups are of the hybrid kind.

Host keys are made before a host boots and are in the operator's known_hosts from the beginning.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.internet import REGIONS, Internet, Uplink
from tests.lab.operator import KEPT_CONNECTION, Operator, make_key
from tests.lab.probing import eventually
from tests.lab.root_folder import root_folder
from tests.lab.slow_links import LinkSpec

OPERATOR_ADDRESS = "198.18.0.10"
BOOTED_WITHIN = 60.0
"""Seconds until a host has booted, on a machine that is busy with other tests."""
ENDED_WITHIN = 30.0
_FOLDERS = Path("/tmp")
_PREFIX = "wws-hosts-"
_CGROUPS = Path("/sys/fs/cgroup")
_AT_ONCE = LinkSpec()
_CONSOLE_TAIL = 3_000

_SUPERVISE = """\
set -eu
folder=$1 machine=$2 network=$3 base=$4; shift 4
# A group of its own in each tree of cgroups: hosts would share that of the test run else.
for tree in "$@"; do echo 0 >"$tree/cgroup.procs"; done
# Standard input ends with the test process, however that ends: then all of this is killed.
exec 3<&0
(read -r _ <&3 || :; echo 1 >"$1/cgroup.kill") &
mount -t overlay overlay -o "lowerdir=$base,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
stop=; trap 'stop=1; kill -TERM "$host"' TERM
while :; do
    systemd-nspawn --quiet --directory="$folder/root" --machine="$machine" --boot \\
        --register=no --keep-unit --network-namespace-path="$network" --resolv-conf=off --timezone=off \\
        --link-journal=no --console=pipe --capability=CAP_NET_ADMIN,CAP_NET_RAW \\
        --system-call-filter='@keyring bpf' </dev/null >>"$folder/console" 2>&1 & host=$!
    result=0; wait "$host" || result=$?
    [ -z "$stop" ] || { wait "$host" || :; break; }
    [ "$result" -eq 133 ] || break # 133: it wants to be booted again
done
echo 1 >"$1/cgroup.kill"
"""


class HostFailed(AssertionError):
    """A host or a command on it did not do what it must."""


class Host:
    """One machine with a disk: it may be switched off, on again, and replaced."""

    def __init__(self, name: str, uplink: Uplink, folder: Path, operator: Operator) -> None:
        self.name = name
        self.uplink = uplink
        self._folder = folder / name
        self._operator = operator
        self._base = root_folder()
        self._machine = f"{_PREFIX}{os.getpid()}-{name}"
        self._key = folder / f"{name}.host_key"
        self._supervisor: subprocess.Popen[bytes] | None = None
        make_key(self._key, name)

    @property
    def address(self) -> str:
        return self.uplink.addresses[0]

    @property
    def host_key(self) -> str:
        """As in known_hosts: `ssh-ed25519 AAAA…`."""
        return " ".join(self._key.with_suffix(".host_key.pub").read_text().split()[:2])

    @property
    def is_up(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    def start(self) -> None:
        """Switch it on; returns at once, see `wait_up`."""
        if not (self._folder / "upper").is_dir():
            self._lay_out()
        trees = [tree / self._machine for tree in _cgroup_trees()]
        for tree in trees:
            tree.mkdir(exist_ok=True)
        command = ["unshare", "--mount", "sh", "-c", _SUPERVISE, "sh"]
        command += [str(self._folder), self._machine, self.uplink.namespace.path, str(self._base)]
        with (self._folder / "console").open("ab") as console:
            self._supervisor = subprocess.Popen(
                [*command, *map(str, trees)],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def wait_up(self, within: float = BOOTED_WITHIN) -> float:
        """Wait until it has booted and SSH answers; how long it took."""

        def answers() -> bool:
            if not self.is_up:
                raise HostFailed(f"{self.name} has ended\n{self.console()}")
            asked = self.ssh("systemctl is-system-running --wait", check=False)
            return asked.stdout.strip() in {"running", "degraded"}

        try:
            return eventually(answers, within)
        except TimeoutError:
            raise HostFailed(f"{self.name} has not booted\n{self.console()}") from None

    def kill(self) -> None:
        """Pull the plug; the disk stays."""
        _kill_groups(self._machine)
        if self._supervisor is not None:
            self._supervisor.communicate(timeout=ENDED_WITHIN)
            self._supervisor = None
        _remove_groups(self._machine)
        self._operator.forget_connections()

    def stop(self) -> None:
        """Shut down in order; the disk stays."""
        if self._supervisor is not None and self.is_up:
            self._supervisor.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(ENDED_WITHIN)
        self.kill()

    def renew(self, *, new_host_key: bool = False) -> None:
        """Put a new machine in its place, at the same address; it boots, see `wait_up`.

        With a new host key the operator's known_hosts still has the old one.
        """
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        # The namespace stays, and with it the rules of the firewall that the machine before has loaded.
        self.uplink.namespace.run("nft", "flush", "ruleset")
        if new_host_key:
            for half in (self._key, self._key.with_suffix(".host_key.pub")):
                half.unlink()
            make_key(self._key, self.name)
        self.start()

    def ssh(
        self, command: str, *, given: str | None = None, check: bool = True, within: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on it as root, from the operator's machine."""
        done = self._operator.run(
            *("ssh", "-F", str(self._operator.ssh_config), self.name, command), given=given, within=within
        )
        if check and done.returncode:
            raise HostFailed(f"{self.name}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def read(self, path: str) -> str:
        return self.ssh(f"cat {path}").stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        self.ssh(f"umask 077 && cat > {path} && chmod {mode:o} {path}", given=text)

    def console(self) -> str:
        """The end of what it said while it booted and ended."""
        path = self._folder / "console"
        return path.read_text(errors="replace")[-_CONSOLE_TAIL:] if path.exists() else ""

    def _lay_out(self) -> None:
        """What is on the disk of a new machine beyond the root folder."""
        upper = self._folder / "upper"
        for folder, mode in (("work", 0o755), ("root", 0o755), ("upper", 0o755)):
            (self._folder / folder).mkdir(parents=True, mode=mode)
        for inside, mode in (("etc/ssh", 0o755), ("root/.ssh", 0o700)):
            (upper / inside).mkdir(parents=True)
            (upper / inside).chmod(mode)
        (upper / "root").chmod(0o700)
        public = self._key.with_suffix(".host_key.pub")
        for path, text, mode in (
            ("etc/hostname", f"{self.name}\n", 0o644),
            ("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n", 0o644),
            ("etc/resolv.conf", "", 0o644),
            ("etc/ssh/ssh_host_ed25519_key", self._key.read_text(), 0o600),
            ("etc/ssh/ssh_host_ed25519_key.pub", public.read_text(), 0o644),
            ("root/.ssh/authorized_keys", f"{self._operator.public_key}\n", 0o600),
        ):
            (upper / path).write_text(text)
            (upper / path).chmod(mode)


class Hosts:
    """The hosts of one lab, and the operator's machine."""

    def __init__(self, internet: Internet, links: Mapping[str, LinkSpec] | None = None) -> None:
        self.remove_leftovers()
        self.internet = internet
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_FOLDERS))
        self.operator = Operator(
            internet.host("operator", OPERATOR_ADDRESS, link=_AT_ONCE), self.folder / "operator"
        )
        self._links = links or {}
        self._hosts: dict[str, Host] = {}
        self._write_ssh_files()

    def up(self, names: Sequence[str] = tuple(region.name for region in REGIONS)) -> list[Host]:
        """These hosts, booted: new ones are made, those that are off are switched on."""
        hosts = [self[name] for name in names]
        for host in hosts:
            if not host.is_up:
                host.start()
        for host in hosts:
            host.wait_up()
        return hosts

    def __getitem__(self, name: str) -> Host:
        """The host in the region of this name, perhaps off."""
        if name not in self._hosts:
            region = next(region for region in REGIONS if region.name == name)
            self.further(name, region.address, self._links.get(name, _AT_ONCE))
        return self._hosts[name]

    def further(self, name: str, address: str, link: LinkSpec = _AT_ONCE) -> Host:
        """A host outside the regions, off; the one there is where it was asked for before."""
        if name not in self._hosts:
            uplink = self.internet.host(name, address, link=link)
            self._hosts[name] = Host(name, uplink, self.folder, self.operator)
            self._write_ssh_files()
        return self._hosts[name]

    def known_hosts(self) -> str:
        return "".join(f"{host.address} {host.host_key}\n" for host in self._hosts.values())

    def close(self) -> None:
        for host in self._hosts.values():
            host.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def remove_leftovers() -> None:
        """Remove folders and cgroups of runs that were killed; what still ends of them is ended here."""
        left = [(path, path.name) for path in _FOLDERS.glob(f"{_PREFIX}*")]
        left += [(path, path.name) for tree in _cgroup_trees() for path in tree.glob(f"{_PREFIX}*")]
        for path, name in left:
            owner = name.removeprefix(_PREFIX).split("-")[0]
            if not owner.isdecimal() or Path("/proc", owner).exists():
                continue
            if path.parent == _FOLDERS:
                shutil.rmtree(path, ignore_errors=True)
            else:
                _kill_groups(name)
                _remove_groups(name)

    def _write_ssh_files(self) -> None:
        operator = self.operator
        operator.known_hosts.write_text(self.known_hosts())
        hosts = "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in self._hosts.values())
        operator.ssh_config.write_text(
            f"{hosts}Host *\n  User root\n  IdentityFile {operator.key_file}\n  IdentitiesOnly yes\n"
            f"  StrictHostKeyChecking yes\n  UserKnownHostsFile {operator.known_hosts}\n"
            "  GlobalKnownHostsFile /dev/null\n  BatchMode yes\n  ConnectTimeout 5\n"
            # Tests look at hosts all the time: that each is asked in by a handshake anew costs both sides.
            "  ControlMaster auto\n  ControlPersist 30\n"
            f"  ControlPath {operator.folder}/{KEPT_CONNECTION}%r-%n\n"
        )


def _cgroup_trees() -> list[Path]:
    """The trees a host must have a group of its own in: one for pure v2, two for the hybrid kind."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [_CGROUPS / "unified", _CGROUPS / "systemd"]


def _kill_groups(machine: str) -> None:
    """End every process of a host at once, and wait until they have ended."""
    group = _cgroup_trees()[0] / machine
    if not group.is_dir():
        return
    (group / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (group / "cgroup.events").read_text(), ENDED_WITHIN, poll=0.01)


def _remove_groups(machine: str) -> None:
    for tree in _cgroup_trees():
        group = tree / machine
        if group.is_dir():
            folders = [part for part in group.rglob("*") if part.is_dir()]
            for part in (*sorted(folders, key=lambda path: len(path.parts), reverse=True), group):
                with contextlib.suppress(OSError):
                    part.rmdir()
