"""The names of the first plan: its scripts and its settings file, run as it says."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import REPOSITORY, Programs
from tests.e2e.seed_scripts import LOOPBACK, SCRIPTS, bootstrap_node, put_on_path
from tests.prerequisites import require
from wws.config import load_config
from wws.config.loading import all_settings, value_of

SETTINGS = REPOSITORY / "config" / "bootstrap.toml"


def run_agent(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SCRIPTS / "run-agent.sh", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=env,
        timeout=90,
    )


def data_of(done: "subprocess.CompletedProcess[str]", exit_code: int = 0) -> dict[str, Any]:
    assert done.returncode == exit_code, done.stdout + done.stderr
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    return data


@pytest.mark.net
def test_an_agent_and_a_bootstrap_node_by_their_scripts(programs: Programs) -> None:
    env = dict(put_on_path(programs))
    with bootstrap_node(programs, env) as address:
        assert (programs.folder / "boot" / "bootstrap-identity.key").stat().st_mode & 0o777 == 0o600
        output = (programs.folder / "boot" / "output").read_text()
        assert f"PeerId: {address.rpartition('/')[2]}" in output
        assert "warning" not in output.lower(), "config/bootstrap.toml loads without one"

        joining = ("--bootstrap", address, "--listen", LOOPBACK, "--json")
        alice = data_of(run_agent(env, "-n", "alice", *joining))
        assert (alice["joined"], alice["name"], alice["node"]) == (True, "alice", "alice")
        assert alice["identity_path"] == str(programs.folder / ".openswarm" / "alice.key")
        again = data_of(run_agent(env, "--wws-name=alice", "--json"))
        assert (again["already_running"], again["peer_id"]) == (True, alice["peer_id"])

        bob = data_of(run_agent(env, *joining, "-n", "bob", "--wws-name", "robert", "--swarm-id=lab"))
        assert (bob["node"], bob["name"]) == ("bob", "robert")
        assert bob["identity_path"] == str(programs.folder / ".openswarm" / "bob.key")
        names = programs.json("name", "list", "--node", "bob")["data"]["names"]
        assert [(name["name"], name["swarm"]) for name in names] == [("robert", "lab")]
        for node in ("alice", "bob"):
            programs.json("leave", "--node", node)


def test_without_a_network_the_script_says_what_wws_says(programs: Programs) -> None:
    env = dict(put_on_path(programs))
    done = run_agent(env, "-n", "alice")
    assert done.returncode == 9
    assert "This build has no default network" in done.stderr
    assert "--network <domain>#<publisher key>" in done.stderr


@pytest.mark.parametrize("arguments", [["-n"], ["-n", ""], ["--wws-name"], ["--swarm-id"]])
def test_an_option_of_the_script_needs_its_value(arguments: list[str]) -> None:
    done = run_agent(dict(os.environ), *arguments)
    assert done.returncode == 2
    assert "needs a value" in done.stderr


@pytest.mark.parametrize(
    "arguments, passed",
    [
        ([], ["join"]),
        (["-n", "alice"], ["join", "--name", "alice"]),
        (["--name=alice", "--json"], ["join", "--name", "alice", "--json"]),
        (["--wws-name", "alice"], ["join", "--name", "alice"]),
        (["--bootstrap", "a b", "-n", "alice", "*"], ["join", "--name", "alice", "--bootstrap", "a b", "*"]),
        (["--swarm-id", "lab"], ["join", "--swarm", "lab"]),
        (["--network", "example.org#-n"], ["join", "--network", "example.org#-n"]),
    ],
)
@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox", "mksh", "zsh"])
def test_what_the_script_hands_on(
    shell: str, arguments: list[str], passed: list[str], tmp_path: Path
) -> None:
    require(shell)
    stub = tmp_path / "wws"
    stub.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    stub.chmod(0o755)
    command = [shell, "sh"] if shell == "busybox" else [shell]
    done = subprocess.run(
        [*command, SCRIPTS / "run-agent.sh", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, passed), done.stderr


@pytest.mark.parametrize("script", ["run-agent.sh", "run-bootstrap-node.sh"])
def test_each_script_says_what_it_is(script: str) -> None:
    done = subprocess.run([SCRIPTS / script, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"scripts/{script} [" in done.stdout


def test_the_settings_are_those_of_a_bootstrap_node() -> None:
    """What the file says again is the default; what differs is meant."""
    config = load_config({}, {}, file=SETTINGS, file_required=True)
    assert config.warnings == ()
    default = load_config({"network.bootstrap_mode": True}, {}, file=Path("none"))
    differ = {name for name in all_settings() if value_of(config, name) != value_of(default, name)}
    assert differ == {"identity.path", "network.enable_mdns", "network.enable_port_mapping", "rpc.tcp"}


def test_each_setting_has_a_comment_and_what_is_commented_out_is_a_setting() -> None:
    text = SETTINGS.read_text()
    body = text[text.index("\n[") :]
    for paragraph in re.split(r"\n\n+", body.strip()):
        lines = [line for line in paragraph.splitlines() if not re.fullmatch(r"\[\w+\]", line)]
        assert lines[0].startswith("# "), paragraph
        assert not lines[-1].startswith("# ") or re.match(r"# \w+ = ", lines[-1]), paragraph
    commented = re.sub(r"^# (\w+ = )", r"\1", body, flags=re.MULTILINE)
    sections = tomllib.loads(commented)
    assert {f"{section}.{key}" for section in sections for key in sections[section]} <= set(all_settings())
    assert {"network.domain", "network.publishers", "network.announce"} <= {
        f"network.{key}" for key in sections["network"]
    }
