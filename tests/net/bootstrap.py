"""A bootstrap node as a process on loopback, for tests of the operator's tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from wws.runtime.homes import Home, Ready

REPOSITORY = Path(__file__).parents[2]


class Bootstrap:
    """Runs from `with` to its end; `home` is its home."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.home = folder / "h"
        self.home.mkdir(mode=0o700, exist_ok=True)
        (self.home / "config.toml").write_text(config)

    def __enter__(self) -> Self:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
        command = [sys.executable, "-m", "bootstrap_node", "--home", str(self.home), "--rpc", ""]
        command += ["--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]
        command += ["--http", "127.0.0.1:0", "--network", "example.org", "--allow-unsigned"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.folder,
            env={
                **kept,
                "PYTHONPATH": str(REPOSITORY),
                "HOME": str(self.folder),
                "XDG_RUNTIME_DIR": str(self.folder),
            },
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("PeerId: "), "it did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def ready(self) -> Ready:
        found = Home(self.home).node("bootstrap").read_ready()
        assert found is not None
        return found

    @property
    def peer_id(self) -> str:
        return self.ready.peer_id

    @property
    def listen(self) -> tuple[str, ...]:
        """TCP, QUIC."""
        return self.ready.listen

    @property
    def http(self) -> str:
        assert self.ready.http is not None
        return self.ready.http

    def entry(self, name: str = "one", **more: Any) -> dict[str, Any]:
        """The node as the inventory has it."""
        return {
            "name": name,
            "address": "127.0.0.1",
            "peer_id": self.peer_id,
            "multiaddrs": list(self.listen),
            "managed_by": "local",
            "home": str(self.home),
            "http": self.http,
            **more,
        }

    def inventory(self, *others: dict[str, Any], **more: Any) -> Path:
        """A file with the inventory of this node and others."""
        members = {"schema": 1, "domain": "example.org", "network": "example.org", **more}
        path = self.folder / "inventory.json"
        path.write_text(json.dumps({**members, "hosts": [self.entry(), *others]}))
        return path
