"""Upgrades that go wrong, on real hosts: broken releases, damaged archives, full disks, lost hosts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.full_scale import only_in_full
from tests.hosts.nodes import FIRST, NAMES, Nodes
from tests.lab.probing import eventually
from tests.lab.releases import BROKEN, Release, corrupted
from wws.testing.scale import scale, scale_factor

NEWER = "1.1.0"
pytestmark = pytest.mark.timeout(600)  # the first test of a run makes the hosts into nodes
BACK_WITHIN = 60.0
"""Seconds from the failure until the version before has passed the gate (targets: Operations)."""
WAYS = list(BROKEN) if scale_factor() >= 1 else ["refuses connections", "leaks and dies"]
BLAMED = {
    "does not start": "the node does not start: ",
    "refuses connections": "error: tcp:",
    "wrong PeerId": "peer_id: expected",
}
"""What the operator is told of each; who leaks may be found out by any check that comes after its death."""


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_release_is_taken_back_and_no_other_host_is_touched(
    nodes: Nodes, way: str, tell: Callable[[str, str], None]
) -> None:
    dies_after = float(scale(20, least=5))
    broken = nodes.release(f"1.1.{list(BROKEN).index(way)}", BROKEN[way](dies_after))
    is_dying = way == "leaks and dies"

    played = nodes.play(
        "upgrade.yml", broken, wws_gate_hold=dies_after + 1 if is_dying else 1.0, wws_gate_probe=6.0
    )

    assert played.rc != 0
    report = played.reports["eu"]
    assert f"eu runs {FIRST} again and is well; {broken.version} failed and is not used" in played.output, (
        played
    )
    assert BLAMED.get(way, " (") in report["reason"]
    assert (report["result"], report["version"], report["tried"]) == ("rolled_back", FIRST, broken.version)
    assert list(played.reports) == ["eu"], "the play stopped at the first"
    assert nodes.running() == dict.fromkeys(NAMES, FIRST)
    assert set(nodes.everywhere("ls /opt/wws/releases").values()) == {
        f"{FIRST}\n",
        f"{FIRST}\n{broken.version}\n",
    }
    tell(
        "releases that are broken, taken back",
        f"  {way}: {report['seconds'] - report['back_seconds']:.1f} s until it was found out, "
        f"{report['back_seconds']:.1f} s until {FIRST} had passed the gate again",
    )
    assert report["back_seconds"] <= BACK_WITHIN


def test_what_cannot_end_well_is_refused_before_any_host_is_changed(nodes: Nodes, tmp_path: Path) -> None:
    good = nodes.release(NEWER)
    no_room = nodes.play("upgrade.yml", good, limit=["eu"], wws_release_space=10_000_000)
    assert no_room.rc != 0
    assert "The disk is full" in no_room.output, no_room
    assert no_room.changed == 0
    assert set(nodes.everywhere("ls -A /opt/wws/releases").values()) == {f"{FIRST}\n"}
    if scale_factor() < 1:
        return

    damaged = nodes.play("upgrade.yml", corrupted(good, tmp_path), limit=["eu"])
    assert damaged.rc != 0
    assert f"is not the archive with SHA-256 {good.sha256}" in damaged.output, damaged

    misspelt = nodes.play("upgrade.yml", good, limit=["eu"], wws_gate_holds=5)
    assert misspelt.rc != 0
    assert "did you mean wws_gate_hold" in misspelt.output, misspelt

    nodes["us"].ssh("systemctl stop wws-bootstrap")
    alone = nodes.play("upgrade.yml", good, limit=["eu"])
    assert alone.rc != 0
    assert "us is not ready (inactive): eu is left as it is" in alone.output, alone

    assert [played.changed for played in (damaged, misspelt, alone)] == [0, 0, 0]
    assert set(nodes.everywhere("ls -A /opt/wws/releases").values()) == {f"{FIRST}\n"}


@only_in_full
def test_a_disk_that_fills_up_leaves_the_node_as_it_was(nodes: Nodes, tmp_path: Path) -> None:
    eu = nodes["eu"]
    # Room for the archive, but not for what is in it.
    eu.ssh(
        "cd /opt/wws && used=$(du -sm releases | cut -f1) && mkdir /run/small && "
        "mount -t tmpfs -o size=$((used + 30))m tmpfs /run/small && cp -a releases/. /run/small && "
        "mount --bind /run/small releases"
    )
    try:
        played = nodes.play("upgrade.yml", nodes.release(NEWER), limit=["eu"], wws_release_space=1)
        assert played.rc != 0
        assert f"the disk is full: no room for release {NEWER}" in played.output, played
        assert eu.ssh("ls -A /opt/wws/releases").stdout.split() == [FIRST]
        assert nodes.running()["eu"] == FIRST
    finally:
        eu.ssh("umount -l /opt/wws/releases /run/small; rmdir /run/small")


@only_in_full
def test_a_roll_that_was_interrupted_goes_on_where_it_was(nodes: Nodes) -> None:
    good = nodes.release(NEWER)
    us = nodes["us"]

    def cut_when_eu_is_done() -> None:
        eventually(lambda: nodes["eu"].ssh("readlink /opt/wws/current").stdout.strip().endswith(NEWER), 120)
        us.uplink.cut()

    cutter = threading.Thread(target=cut_when_eu_is_done)
    cutter.start()
    try:
        first = nodes.play("upgrade.yml", good)
    finally:
        cutter.join()
        us.uplink.mend()
    nodes.operator.forget_connections()
    assert first.rc != 0
    assert "unreachable=1" in first.output, first
    assert nodes.running()["ap"] == FIRST, "the play stopped"

    second = nodes.play("upgrade.yml", good)
    assert second.rc == 0, second
    assert nodes.running() == dict.fromkeys(NAMES, NEWER)
    assert second.reports["eu"]["result"] == "unchanged"


@only_in_full
def test_a_host_that_was_switched_and_not_gated_is_gated_by_the_next_run(nodes: Nodes) -> None:
    """The controller dies right after the switch to a release that is broken: the next run finds out."""
    way = "refuses connections"
    broken = nodes.release("1.1.1", BROKEN[way](5))
    began = _start_and_kill_at_switch(nodes, broken)
    assert began == broken.version

    played = nodes.play("upgrade.yml", broken, limit=["eu"], wws_gate_probe=5.0)
    assert played.rc != 0
    assert f"eu runs {FIRST} again and is well" in played.output, played
    assert nodes.running()["eu"] == FIRST


def _start_and_kill_at_switch(nodes: Nodes, release: Release) -> str:
    """Leave a host as a controller leaves it that dies before the gate; which version it runs then."""
    played = nodes.play(
        "upgrade.yml", release, limit=["eu"], within=300, wws_gate_probe=1.0, wws_gate_hold=0.0
    )
    assert played.rc != 0
    nodes["eu"].ssh(
        "cd /opt/wws && systemctl stop wws-bootstrap && ln -sfn releases/1.0.0 previous && "
        f"ln -sfn releases/{release.version} current && systemctl start wws-bootstrap && "
        f"""echo '{{"version": "{release.version}", "from": "{FIRST}", "previous": ""}}' >releases/.pending"""
    )
    return nodes["eu"].ssh("readlink /opt/wws/current").stdout.strip().removeprefix("releases/")
