"""Runs the scripts of the seed's names with this checkout's programs on the PATH."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.e2e.programs import MODULES, REPOSITORY, Programs

SCRIPTS = REPOSITORY / "scripts"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
STARTS_WITHIN = 60


def put_on_path(programs: Programs) -> Mapping[str, str]:
    """The environment in which the programs are commands, with neither fixed ports nor neighbours."""
    folder = programs.folder / "bin"
    folder.mkdir(exist_ok=True)
    for name, arguments in MODULES.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *arguments])} "$@"\n')
        script.chmod(0o755)
    return {
        **programs.env,
        "PATH": f"{folder}{os.pathsep}{programs.env['PATH']}",
        "WWS_NETWORK_ENABLE_MDNS": "false",
        "WWS_RPC_HTTP": "",
    }


@contextmanager
def bootstrap_node(
    programs: Programs, env: Mapping[str, str], name: str = "boot", *arguments: str
) -> Iterator[str]:
    """A bootstrap node started by its script in a folder of its own; its address."""
    folder = programs.folder / name
    folder.mkdir()
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [SCRIPTS / "run-bootstrap-node.sh", "--listen", LOOPBACK, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**env, "HOME": str(folder)},
        )
    ready = folder / ".openswarm" / "run" / "bootstrap" / "ready.json"
    try:
        deadline = time.monotonic() + STARTS_WITHIN
        while not ready.exists():
            assert process.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < deadline, (folder / "output").read_text()
            time.sleep(0.02)
        facts = json.loads(ready.read_text())
        (listen,) = facts["listen"]
        yield f"{listen}/p2p/{facts['peer_id']}"
    finally:
        process.terminate()
        assert process.wait(STARTS_WITHIN) == 0, (folder / "output").read_text()
