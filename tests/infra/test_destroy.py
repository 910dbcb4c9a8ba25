"""`wws-ops destroy` and `--stack`, with the real engine: it refuses before anything is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.infra.conftest import processes_of
from tests.infra.engine import ROOT, Engine
from tests.infra.test_local import config

pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(400)]


def ops(engine: Engine, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What `wws-ops … --json` says of the stack, as the operator of it."""
    command = [sys.executable, "-m", "agent_cli.ops", *arguments, "--stack", engine.stack]
    done = subprocess.run(
        [*command, "--infra", str(engine.folder), "--json"],
        env={**engine.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    said = json.loads(done.stdout)
    return {**said["data"], "errors": said["errors"]}


def test_nothing_goes_that_was_not_given_up(tmp_path: Path, place: Path) -> None:
    engine = Engine(tmp_path, config(place))
    engine.up()
    before, running = engine.resources(), len(processes_of(place))
    nodes = ops(engine, "status")["nodes"]
    assert [node["peer_id_matches"] for node in nodes] == [True, True, True]
    assert {node["bundle_seq"] for node in nodes} != {None}

    refused = ops(engine, "destroy", "--yes", "local.wws.test", code=7)
    assert refused["errors"][0]["code"] == "resources_protected"
    assert "key boot1" in refused["errors"][0]["message"]
    asked = ops(engine, "destroy", "--give-up-identities", code=7)
    assert asked["errors"][0]["hint"].endswith("--yes local.wws.test")
    other = ops(engine, "destroy", "--give-up-identities", "--yes", "example.org", code=7)
    assert other["errors"][0]["code"] == "not_confirmed"
    assert (engine.resources(), len(processes_of(place))) == (before, running)

    kept = ops(engine, "destroy", "--keep-identities", "--yes", "local.wws.test")
    assert {urn.split("::")[2].rpartition(":")[2] for urn in kept["left"]} == {"Seed", "Promises"}
    assert not processes_of(place)
    gone = ops(engine, "destroy", "--give-up-identities", "--retire-dns", "--yes", "local.wws.test")
    assert gone["left"] == []
    assert engine.resources() == {}
    assert ops(engine, "destroy")["destroyed"] == 0
