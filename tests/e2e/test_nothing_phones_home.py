"""Nothing phones home: whom the programs ask, written down by the interpreter (README, docs/security.md).

Only `join`, `ping` and the updates of `self` have anybody to ask at all; every other command speaks with the
node of this machine. And a node speaks with its network, not with us.
"""

import json
import re
import subprocess
import sys

import pytest

from agent_cli.app import COMMANDS
from tests.e2e.opened import Opened, Witnessing
from tests.e2e.programs import REPOSITORY, Programs
from tests.e2e.seed_scripts import LOOPBACK, bootstrap_node, put_on_path

ONLINE = {"join", "ping", "demo"}
"""What talks to others by its nature, `demo` to loopback alone. `self update` asks the releases."""
LINES: dict[str, list[list[str]]] = {
    "leave": [["leave"]],
    "status": [["status"]],
    "peers": [["peers"]],
    "logs": [["logs"]],
    "id": [["id"], ["id", "new", "--name", "carol"]],
    "resolve": [["resolve", "alice"], ["resolve", "12D3KooWBfdZNjRsVK4hCxjqg3bK9ZxjTqs7YQT3Sgd6Mnn76J1N"]],
    "name": [["name", "list"], ["name", "claim", "casino"], ["name", "renew", "alice"]],
    "token": [["token", "list"], ["token", "create"]],
    "call": [["call", "swarm.get_network_stats"]],
    "network": [["network", "show"]],
    "config": [["config", "show"]],
    "service": [["service", "status"]],
    "self": [["self", "verify"], ["self", "rollback"]],
}
"""Each other command, as it is typed most."""

_DRIVER = """
import json, sys
from agent_cli.app import run
for line in json.loads(sys.argv[1]):
    try:
        run(line)
    except SystemExit:
        pass
"""


def commands(programs: Programs, watched: dict[str, str], *lines: list[str]) -> None:
    """Run command lines, all in one process."""
    typed = json.dumps([*lines, ["--version"], ["--help"], ["--version", "--json"]])
    subprocess.run(
        [sys.executable, "-c", _DRIVER, typed],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=programs.folder,
        env={**programs.env, **watched},
        timeout=90,
        check=True,
    )


def strangers(opened: list[Opened]) -> list[Opened]:
    return [one for one in opened if not one.is_local]


def test_every_command_is_looked_at() -> None:
    assert set(LINES) | ONLINE >= set(COMMANDS), "whom does the new command ask? Say it here"


@pytest.mark.net
def test_no_command_asks_anybody_without_a_node(programs: Programs) -> None:
    witnessing = Witnessing(programs.folder)
    watched = witnessing.env(programs.env["PYTHONPATH"])
    lines = [line for command, typed in LINES.items() if command in COMMANDS for line in typed]
    commands(programs, watched, *lines, ["ping", "alice"])
    assert witnessing.take() == []


@pytest.mark.net
def test_a_node_without_a_network_asks_nobody(programs: Programs) -> None:
    witnessing = Witnessing(programs.folder)
    watched = witnessing.env(programs.env["PYTHONPATH"])
    assert programs.wws("join", **watched).returncode == 9
    assert witnessing.take() == []


@pytest.mark.net
def test_a_node_speaks_with_its_network_and_commands_with_the_node(programs: Programs) -> None:
    """An ad hoc network on loopback, where every other address would be one that nobody gave it.

    What it may ask besides is said in README: its router, to open a port, and its neighbours (mDNS).
    """
    witnessing = Witnessing(programs.folder)
    env = dict(put_on_path(programs))
    with bootstrap_node(programs, env) as address:
        watched = {
            **{name: value for name, value in env.items() if name.startswith("WWS_")},
            **witnessing.env(programs.env["PYTHONPATH"]),
            "WWS_NETWORK_ENABLE_PORT_MAPPING": "false",
        }
        joining = ("--bootstrap", address, "--listen", LOOPBACK)
        joined = programs.json("join", "--name", "alice", *joining, **watched)["data"]
        assert joined["name"] == "alice"
        of_join = witnessing.take()
        port = address.split("/")[4]
        assert any(one.event == "socket.connect" and one.target == "127.0.0.1" for one in of_join), port
        lines = [line for command, typed in LINES.items() if command != "leave" for line in typed]
        commands(programs, watched, *[line for line in lines if line[0] in COMMANDS], ["ping", "alice"])
        of_commands = witnessing.take()
        assert any(one.target.endswith("rpc.sock") for one in of_commands)
        programs.json("leave", **watched)
        assert strangers(of_join + of_commands + witnessing.take()) == []


def test_the_documents_say_so() -> None:
    for document in ("README.md", "docs/security.md"):
        text = " ".join((REPOSITORY / document).read_text().split())
        assert re.search(r"Nothing phones home", text, re.IGNORECASE), document
