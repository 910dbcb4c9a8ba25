"""Real nodes out of the artefact, on loopback, as somebody without Python has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.artefact.conftest import Artefact
from tests.full_scale import only_in_full
from wws.runtime.homes import Home

pytestmark = [pytest.mark.slow, pytest.mark.net, pytest.mark.timeout(600)]

LOOPBACK = ("--listen=/ip4/127.0.0.1/tcp/0", "--rpc=", "--http=", "--network=example.org", "--allow-unsigned")


def test_an_identity_is_made_once(artefact: Artefact) -> None:
    made = artefact.json("id", "new")
    assert made["peer_id"].startswith("12D3KooW")
    assert Path(artefact.home, made["path"]).stat().st_mode & 0o777 == 0o600
    again = artefact.run("wws", "--json", "id", "new")
    assert again.returncode != 0, "it replaces no key"
    assert artefact.json("id")["peer_id"] == made["peer_id"]


def test_a_node_joins_by_a_bootstrap_node_and_pings_it(artefact: Artefact) -> None:
    bootstrap = artefact.start("wws-bootstrap", f"--home={artefact.home / 'b'}", *LOOPBACK)
    assert bootstrap.stdout is not None
    assert bootstrap.stdout.readline().startswith("PeerId: "), "it did not start"
    ready = Home(artefact.home / "b").node("bootstrap").read_ready()
    assert ready is not None
    address = f"{ready.listen[0]}/p2p/{ready.peer_id}"

    joined = artefact.json("join", f"--bootstrap={address}", *LOOPBACK)
    try:
        assert joined["peer_id"] != ready.peer_id
        pinged = artefact.json("ping", address, "-c", "2")
        assert pinged["received"] == 2
        node = Home(artefact.home / ".openswarm").running_nodes()[0]
        program = os.readlink(f"/proc/{node.pid}/exe")
        assert program == artefact.program("wws-connector"), "the node is the artefact's as well"
        health = artefact.run("wws-control", f"--home={artefact.home / 'b'}", "status")
        assert health.returncode == 0, health.stderr
    finally:
        artefact.json("leave")


@only_in_full
def test_a_whole_network_is_shown(artefact: Artefact) -> None:
    shown = artefact.json("demo")
    assert [agent["name"] for agent in shown["agents"]] == ["alice", "bob", "carol"]
    assert all(agent["joined"] for agent in shown["agents"])
    assert shown["steps"][-1]["step"].startswith("everything is taken down")
