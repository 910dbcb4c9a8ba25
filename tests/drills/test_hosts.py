"""The drills on three systemd hosts, each run once, at the full scale.

They take a quarter of an hour. What is in them is tested at every scale by itself: tests/hosts, tests/infra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.drills.checking import check
from tests.drills.hosts_world import HostsWorld, TwoHostsWorld
from tests.drills.registry import drills_of
from tests.full_scale import only_in_full
from tests.lab.hosts import Hosts
from tests.lab.shared_hosts import hosts
from tests.prerequisites import require

__all__ = ["hosts"]

pytestmark = [
    pytest.mark.root,
    pytest.mark.net,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("hosts"),
    only_in_full,
]


WORLDS: dict[str, Callable[[Hosts], HostsWorld]] = {"hosts": HostsWorld, "two-hosts": TwoHostsWorld}
DRILLS = [pytest.param(name, drill, id=drill) for name in WORLDS for drill in drills_of(name)]


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
