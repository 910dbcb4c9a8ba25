"""The drills on three systemd hosts, each run once; some at the full scale only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.drills.checking import check
from tests.drills.hosts_world import HostsWorld, TwoHostsWorld
from tests.drills.registry import LONG, drills_of
from tests.lab.hosts import Hosts
from tests.lab.shared_hosts import hosts
from tests.prerequisites import require
from wws.testing.scale import scale_factor

__all__ = ["hosts"]

pytestmark = [
    pytest.mark.root,
    pytest.mark.net,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("hosts"),
]


WORLDS: dict[str, Callable[[Hosts], HostsWorld]] = {"hosts": HostsWorld, "two-hosts": TwoHostsWorld}
DRILLS = [
    pytest.param(
        name,
        drill,
        id=drill,
        marks=pytest.mark.skipif(
            drill in LONG and scale_factor() < 1, reason="a long drill: only at the full scale"
        ),
    )
    for name in WORLDS
    for drill in drills_of(name)
]


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, hosts: Hosts) -> Iterator[HostsWorld]:
    """One stack for all drills of a world; the machines are as new again afterwards."""
    require("go", "nsenter", "age", "age-keygen", "fail2ban-regex")
    world = WORLDS[request.param](hosts)
    with world:
        yield world


@pytest.mark.parametrize(("world", "drill"), DRILLS, indirect=["world"])
def test_drill(world: HostsWorld, drill: str) -> None:
    check(drill, world)
