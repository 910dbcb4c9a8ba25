"""The world `zone`: an operator with a zone in a file, the server that serves it, and a clock that moves.

Each drill has a folder of its own and begins with an empty zone. The programs' clock is ahead by what the
drill says (`later`), so that a rotation of months takes seconds; the server has no clock.
"""

from __future__ import annotations

import json
import subprocess
import sys

from typing_extensions import override

from tests.drills.worlds import World
from wws.identity.keys import Identity
from wws.runtime.homes import process_start

DOMAIN = "example.org"
RECORDS = """\
domain = "example.org"
key_files = ["publisher.key"]
{nodes}
[provider]
kind = "zone-file"
file = "zone.json"
pid_file = "dns.pid"
"""
ADDRESSES = ("192.0.2.1", "198.51.100.1", "203.0.113.1")


def nodes() -> str:
    """Three nodes as they stand in a records file."""
    return "".join(
        f'\n[[node]]\npeer_id = "{Identity.from_label(name).peer_id}"\nhost = "{address}"\n'
        for name, address in zip(("one", "two", "three"), ADDRESSES, strict=True)
    )


class ZoneWorld(World):
    """A zone in a file."""

    name = "zone"
    moves_clock = True

    def __init__(self) -> None:
        super().__init__()
        self._server: subprocess.Popen[str] | None = None
        self._address = ""

    @override
    def prepare(self, drill: str) -> None:
        """An empty folder with the records file, and a server for its zone."""
        self._stop()
        self.home = self.folder / drill
        self.home.mkdir(mode=0o700)
        (self.home / "zone.json").write_text("{}")
        (self.home / "records.toml").write_text(RECORDS.format(nodes=nodes()))
        self._server = subprocess.Popen(
            [sys.executable, "-m", "wws.testing.dns_server", "--zone", str(self.home / "zone.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=super().environment(),
        )
        assert self._server.stdout is not None
        said = json.loads(self._server.stdout.readline())
        self._address = f"{said['host']}:{said['port']}"
        # When it began, too: whoever has a clock that was moved cannot tell that by the file's time.
        began = process_start(self._server.pid)
        (self.home / "dns.pid").write_text(f"{self._server.pid} {began or ''}\n")

    @override
    def environment(self) -> dict[str, str]:
        return {**super().environment(), "DNS_SERVER": self._address}

    @override
    def _end(self) -> None:
        self._stop()
        super()._end()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.communicate(timeout=30)
            self._server = None
