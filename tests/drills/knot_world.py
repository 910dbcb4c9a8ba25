"""The world `knot`: an operator with a zone at a real Knot, which takes updates signed with TSIG.

The working folder has `records.toml` and `tsig.key`; `knotc` speaks to the server.
"""

from __future__ import annotations

import shlex

from typing_extensions import override

from tests.drills.worlds import World
from tests.drills.zone_world import DOMAIN, nodes
from tests.lab.knot import Knot, Tsig
from tests.prerequisites import find_tool, require

RECORDS = """\
domain = "example.org"
key_files = ["publisher.key"]
{nodes}
[provider]
kind = "rfc2136"
server = "{server}"
tsig_file = "tsig.key"
"""


class KnotWorld(World):
    """A zone at Knot."""

    name = "knot"

    @override
    def make(self) -> None:
        require("knotd", "knotc")
        tsig = Tsig()
        knot = self._exit.enter_context(Knot(self.folder / "knot", DOMAIN, tsig=tsig))
        (self.home / "records.toml").write_text(RECORDS.format(nodes=nodes(), server=knot.address))
        for name, key in (("tsig.key", tsig), ("old-tsig.key", Tsig())):
            (self.home / name).write_text(f"{key.line}\n")
            (self.home / name).chmod(0o600)
        socket = self.folder / "knot" / "run" / "knot.sock"
        script = self.folder / "bin" / "knotc"
        script.write_text(
            f'#!/bin/sh\nexec {shlex.join([find_tool("knotc") or "knotc", "-s", str(socket)])} "$@"\n'
        )
        script.chmod(0o755)
