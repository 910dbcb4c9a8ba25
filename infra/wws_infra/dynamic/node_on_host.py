"""A node on a host, asked and stopped over SSH: by the key that is known, or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent_cli.ops.inventory import HostEntry
from agent_cli.ops.machines import CONTROL, SERVICE
from agent_cli.remote import HostUnreachable, LoginRefused, RemoteConfig, RemoteError, connected

SEAL: Final = "/etc/wws/sealed"
"""While this file is there, the unit does not start: the node lives elsewhere now."""
ASKING: Final = RemoteConfig(connect_timeout=5.0, command_timeout=30.0)
BETWEEN_TRIES: Final = 2.0
STOPPING: Final = 90.0
"""Seconds for all that `RETIRE` does."""
RETIRE: Final = """\
set -eu
mkdir -p "${1%/*}"
touch "$1"
systemctl cat "$2" >/dev/null 2>&1 || exit 0
systemctl disable --quiet "$2"
timeout 30 systemctl stop "$2" || {
    systemctl kill --signal=SIGKILL "$2" || true
    systemctl stop "$2"
}
"""
"""Sealed first, so that nothing starts it again; a node may ask systemd for ever more time to stop. Where
there has never been a node there is none to stop."""

CURRENT: Final = "/opt/wws/current"
PEER_ID: Final = "/etc/wws/peer_id"
INSTALLED: Final = """\
basename "$(readlink "$2")"
cat "$3" 2>/dev/null | head -n 1 | grep . || echo
test -n "$(ls -A "$1" 2>/dev/null)" && echo yes || echo no
"""
"""The release in use, whose node it is, and whether there is anything that the node has kept."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What lies on a host."""

    version: str = ""
    """The release in use; empty where there is none."""
    peer_id: str = ""
    """Whose host it is; empty where nobody's."""
    has_past: bool = False
    """There is something in the node's home, where a witness keeps its promises."""


@dataclass(frozen=True, slots=True)
class Found:
    """How a node is. `problem` says in words why it is not running, and is empty when it is."""

    peer_id: str = ""
    version: str = ""
    problem: str = ""

    @property
    def state(self) -> dict[str, str]:
        return {
            name: value
            for name, value in (
                ("peer_id", self.peer_id),
                ("version", self.version),
                ("problem", self.problem),
            )
            if value
        }


def look(host: HostEntry, key_file: str | None, *, control: str = CONTROL) -> Found:
    """How the node on this host is. Nothing is changed, and nothing is raised for a host that is away."""
    question = [control, "--home", host.home, "--node", host.node, "--json", "status"]
    try:
        with connected(host, key_file=key_file, config=ASKING) as remote:
            asked = remote.run(question, as_root=True)
    except RemoteError as error:
        return Found(problem=str(error))
    try:
        answer = json.loads(asked.output)
    except (ValueError, RecursionError):
        return Found(problem=f"no node answers (exit code {asked.exit_code})")
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, Mapping) or not answer.get("ok"):
        return Found(problem="the node does not run")
    return Found(str(data.get("peer_id", "")), str(data.get("version", "")))


def ask_installed(
    host: HostEntry, key_file: str | None, *, current: str = CURRENT, peer_id: str = PEER_ID
) -> Installed:
    """What is installed on this host. Raises `RemoteError` for a host that does not say."""
    with connected(host, key_file=key_file, config=ASKING) as remote:
        said = remote.run(["sh", "-c", INSTALLED, "sh", host.home, current, peer_id], as_root=True)
    if said.exit_code != 0:
        raise RemoteError(host, f"it does not say what is installed: {said.errors.strip()[-200:]}")
    version, resident, has_past = (line.strip() for line in (said.output + "\n\n\n").split("\n")[:3])
    return Installed(version, resident, has_past == "yes")


def forget_release(host: HostEntry, key_file: str | None) -> None:
    """Let no release be in use on a host whose node is gone, so that another may be. Raises `RemoteError`."""
    with connected(host, key_file=key_file, config=ASKING) as remote:
        remote.run(["rm", "-f", CURRENT], as_root=True)


def wait_for(host: HostEntry, key_file: str | None, patience: float) -> None:
    """Wait until the host lets us in: a new server boots, and gets the operators' keys meanwhile.

    Raises `HostKeyWrong` at once: somebody else answers. `HostUnreachable` or `LoginRefused` after `patience`
    seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            with connected(host, key_file=key_file, config=ASKING):
                return
        except (HostUnreachable, LoginRefused):
            if time.monotonic() >= end:
                raise
            time.sleep(BETWEEN_TRIES)


def retire(host: HostEntry, key_file: str | None) -> str:
    """Stop the node on a host that is replaced, for good: two nodes with one key would make two promises.

    What could not be done, in words; empty when all is well. A machine that is gone cannot be told.
    """
    try:
        with connected(host, key_file=key_file, config=ASKING) as remote:
            done = remote.run(["sh", "-c", RETIRE, "sh", SEAL, SERVICE], timeout=STOPPING, as_root=True)
    except RemoteError as error:
        return str(error)
    return "" if done.exit_code == 0 else f"{host.name}: {done.errors.strip()[-200:]}"
