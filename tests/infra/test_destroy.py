"""`wws-ops destroy` and `--stack`, with the real engine: it refuses before anything is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_cli.ops.app import run
from tests.infra.conftest import processes_of
from tests.infra.engine import Engine
from tests.infra.test_local import config

pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(400)]


Ops = Callable[..., dict[str, Any]]


@pytest.fixture
def engine(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A stack, and this process as its operator's."""
    made = Engine(tmp_path, config(place))
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def ops(engine: Engine, capsys: pytest.CaptureFixture[str]) -> Ops:
    def ask(*arguments: str, code: int = 0) -> dict[str, Any]:
        """What `wws-ops … --json` says of the stack."""
        where = ["--stack", engine.stack, "--infra", str(engine.folder)]
        got = run([*arguments, *where, "--json"])
        said = json.loads(capsys.readouterr().out)
        assert got == code, said
        return {**said["data"], "errors": said["errors"]}

    return ask


def test_nothing_goes_that_was_not_given_up(engine: Engine, ops: Ops, place: Path) -> None:
    engine.up()
    before, running = engine.resources(), len(processes_of(place))
    nodes = ops("status")["nodes"]
    assert [node["peer_id_matches"] for node in nodes] == [True, True, True]
    assert {node["bundle_seq"] for node in nodes} != {None}

    refused = ops("destroy", "--yes", "local.wws.test", code=7)
    assert refused["errors"][0]["code"] == "resources_protected"
    assert "key boot1" in refused["errors"][0]["message"]
    asked = ops("destroy", "--give-up-identities", code=7)
    assert asked["errors"][0]["hint"].endswith("--yes local.wws.test")
    other = ops("destroy", "--give-up-identities", "--yes", "example.org", code=7)
    assert other["errors"][0]["code"] == "not_confirmed"
    assert (engine.resources(), len(processes_of(place))) == (before, running)

    kept = ops("destroy", "--keep-identities", "--yes", "local.wws.test")
    assert {urn.split("::")[2].rpartition(":")[2] for urn in kept["left"]} == {"Seed", "Promises"}
    assert not processes_of(place)
    gone = ops("destroy", "--give-up-identities", "--retire-dns", "--yes", "local.wws.test")
    assert gone["left"] == []
    assert engine.resources() == {}
    assert ops("destroy")["destroyed"] == 0
