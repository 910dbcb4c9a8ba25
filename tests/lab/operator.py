"""The machine an operator works on: a public address, an SSH key, and the hosts' keys known beforehand.

    done = operator.run("ansible-playbook", "-i", str(inventory), "site.yml", folder=ANSIBLE)

Programs run in its namespace as this user, with a home of their own; those of the repository are found first.
What is still running when the test process ends is killed with it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.lab.internet import Uplink

REPOSITORY = Path(__file__).parents[2]
KEPT_CONNECTION = "ssh-"
"""How the names of sockets begin, in the folder of the machine: one connection for each user and host."""
_ASIDE = ("WWS_", "ANSIBLE_", "PULUMI_", "SSH_", "PYTHONDONTWRITEBYTECODE")
"""Variables of the test run that would change what a program does here."""


class Operator:
    """A namespace to run ssh, ansible-playbook, pulumi, wws-ops and so on in."""

    def __init__(self, uplink: Uplink, folder: Path) -> None:
        self.uplink = uplink
        self.folder = folder
        self.home = folder / "home"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        self.key_file = self.home / ".ssh" / "id_ed25519"
        self.known_hosts = self.home / ".ssh" / "known_hosts"
        self.ssh_config = self.home / ".ssh" / "config"
        make_key(self.key_file, "operator")
        self.public_key = self.key_file.with_suffix(".pub").read_text().strip()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_ASIDE)}
        paths = (Path(sys.executable).parent, os.environ.get("PATH", ""), "/usr/sbin", "/sbin")
        self.env = {
            **kept,
            "PATH": os.pathsep.join(map(str, paths)),
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / part) for part in ("", "dns", "infra")),
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(folder),
            "TMPDIR": str(folder),
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            # ssh asks the user database for the home, not $HOME: programs that start it need to be told
            "ANSIBLE_SSH_COMMON_ARGS": f"-F {self.ssh_config}",
        }

    @property
    def address(self) -> str:
        return self.uplink.addresses[0]

    def run(
        self,
        *command: str,
        given: str | None = None,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        within: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end. Raises `subprocess.TimeoutExpired`; exit codes are the caller's."""
        process = self.start(*command, folder=folder, env=env, with_input=given is not None)
        try:
            output, errors = process.communicate(given, within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def start(
        self,
        *command: str,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        with_input: bool = False,
    ) -> subprocess.Popen[str]:
        """Start a program and go on."""
        with self.uplink.namespace.entered():
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder or self.folder,
                env={**self.env, **(env or {})},
            )

    def forget_connections(self) -> None:
        """Connections that ssh and Ansible keep open for the next are not used again: a host has gone."""
        for left in (*self.home.glob(".ansible/cp/*"), *self.folder.glob(f"{KEPT_CONNECTION}*")):
            with contextlib.suppress(FileNotFoundError):
                left.unlink()


def make_key(path: Path, comment: str) -> None:
    """A new Ed25519 key for SSH, without a passphrase; the public half beside it."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True)
