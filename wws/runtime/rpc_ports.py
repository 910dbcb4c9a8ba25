"""Which TCP port the RPC server takes, and whose it is when it is taken.

The default port is shared by all nodes of a machine. A node that finds it taken by another node of
the same user takes the next pair (9380 with 9381 for HTTP, 9390 …). Taken by anything else, it does
without: whoever sits there would be handed our users' tokens (contract, section 6).

Nodes say which port is theirs by a claim in this user's runtime folder, written before the bind and
removed at the end, so that two nodes that start at once see each other. A claim holds while its
process lives; `ready.json` of the nodes of the same home counts as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wws.runtime.homes import Home, process_start, runtime_folder
from wws.runtime.whole_files import write_whole

DEFAULT_PORT: Final = 9370
STEP: Final = 10
"""Between one node's pair of ports and the next one's."""
MAX_CLAIM: Final = 4096
"""Bytes of a claim that are read."""


class PortClaims:
    """The ports that nodes of this user say are theirs."""

    def __init__(self, home: Home, env: Mapping[str, str]) -> None:
        self._home = home
        self._folder = runtime_folder(env)

    def claim(self, port: int) -> None:
        """Say that this process is about to take the port. Raises `MachineError`."""
        record = {"pid": os.getpid(), "started": process_start(os.getpid())}
        write_whole(self._path(port, os.getpid()), json.dumps(record).encode(), durable=False)

    def release(self, port: int) -> None:
        """Take the claim of this process back; none is fine."""
        self._path(port, os.getpid()).unlink(missing_ok=True)

    def is_ours(self, port: int) -> bool:
        """Whether another living node of this user says the port is its own. Dead claims are removed."""
        for ready in self._home.running_nodes():
            if ready.pid != os.getpid() and ready.rpc is not None and ready.rpc.endswith(f":{port}"):
                return True
        found = False
        for path in self._folder.glob(f"rpc-{port}.*"):
            if path.name == f"rpc-{port}.{os.getpid()}":
                continue
            if _is_alive(path):
                found = True
            else:
                path.unlink(missing_ok=True)
        return found

    def _path(self, port: int, pid: int) -> Path:
        return self._folder / f"rpc-{port}.{pid}"


def _is_alive(path: Path) -> bool:
    """Whether the process that wrote the claim still runs: its number and its start must both fit."""
    try:
        record = json.loads(path.read_bytes()[:MAX_CLAIM])
        pid, started = int(record["pid"]), record["started"]
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return False
    return pid > 0 and (started is None or process_start(pid) == started)
