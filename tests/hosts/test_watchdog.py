"""A node whose event loop is stuck says nothing any more: systemd ends it and starts it anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.hosts.nodes import FIRST, Nodes
from tests.lab.hosts import Host
from tests.lab.probing import eventually

UNIT = "wws-bootstrap.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/90-test.conf"
IMPATIENT = "[Service]\nWatchdogSec=3\nRestartSec=0\n"
"""As the unit of the role, but that a test need not wait half a minute."""
WITHIN = 60.0


@dataclass(frozen=True)
class Seen:
    """What systemd knows of the node."""

    pid: int
    restarts: int


def look(host: Host) -> Seen:
    said = host.ssh(f"systemctl show --property=MainPID,NRestarts {UNIT}").stdout
    values = dict(line.split("=", 1) for line in said.split())
    return Seen(int(values["MainPID"]), int(values["NRestarts"]))


@pytest.fixture
def eu(nodes: Nodes) -> Iterator[Host]:
    """A host whose systemd has little patience."""
    host = nodes["eu"]
    host.ssh(f"mkdir -p {DROP_IN.rpartition('/')[0]}")
    host.write(DROP_IN, IMPATIENT)
    host.ssh(f"systemctl daemon-reload && systemctl restart {UNIT}")
    yield host
    host.ssh(f"rm -r {DROP_IN.rpartition('/')[0]}; systemctl daemon-reload; systemctl restart {UNIT}")


@pytest.mark.timeout(600)
def test_a_node_that_is_stuck_is_started_anew(
    nodes: Nodes, eu: Host, tell: Callable[[str, str], None]
) -> None:
    before = look(eu)
    assert before.restarts == 0
    eu.ssh(f"kill -STOP {before.pid}")
    took = eventually(lambda: look(eu).restarts > 0, WITHIN)
    eventually(lambda: nodes.running()["eu"] == FIRST, WITHIN)
    after = look(eu)
    assert after.restarts == 1, "once, and it is well then"
    assert after.pid not in (0, before.pid)
    said = eu.ssh(f"journalctl --no-pager --output=cat --lines=200 UNIT={UNIT} + _SYSTEMD_UNIT={UNIT}").stdout
    assert "Watchdog timeout" in said, said
    tell("a node that is stuck", f"  started anew after {took:.1f} s, with a watchdog of 3 s")
