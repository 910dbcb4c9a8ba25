"""A real sshd on loopback for one test: this user, keys made for it, nothing of the machine's own set-up.

Each connection gets an sshd of its own, in inetd mode, so that no port has to be free twice.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Self

from agent_cli.ops.inventory import HostEntry
from tests.prerequisites import find_tool
from wws.identity.keys import Identity

CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
LogLevel ERROR
"""


class SshServer:
    """Serves from `with` to its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key_file = str(folder / "user_key")
        self.commands: list[subprocess.Popen[bytes]] = []
        self._socket = socket.socket()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "user_key", "other_key", "ecdsa_key"):
            kind = "ecdsa" if name == "ecdsa_key" else "ed25519"
            subprocess.run(
                ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(self.folder / name)], check=True
            )
        (self.folder / "config").write_text(CONFIG.format(folder=self.folder))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd locks itself up, as Debian has it
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)
        for process in self.commands:
            process.kill()
            process.wait()

    def host(self, name: str = "one", *, key: str = "host_key", **more: object) -> HostEntry:
        """This server, as the inventory has it."""
        kind, blob, *_ = (self.folder / f"{key}.pub").read_text().split()
        members: dict[str, object] = {
            "ssh_user": getpass.getuser(),
            "ssh_port": self._socket.getsockname()[1],
            "host_key": f"{kind} {blob}",
            **more,
        }
        peer_id = str(Identity.from_label(name).peer_id)
        return HostEntry(name, "127.0.0.1", peer_id, (), **members)  # type: ignore[arg-type]

    def _accept(self) -> None:
        sshd = find_tool("sshd")
        assert sshd is not None
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.commands.append(
                    subprocess.Popen(
                        [sshd, "-i", "-e", "-f", str(self.folder / "config")],
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=subprocess.DEVNULL,
                    )
                )
