"""A host moves from the archive that needs its Python to one that needs none, and back, by the same plays."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.artefact.built import artefact
from tests.full_scale import only_in_full
from tests.hosts.nodes import FIRST, Nodes
from tests.lab.probing import eventually
from tests.lab.releases import Release, sha256_of

NEWER = "1.1.0"
STAMP = {"schema": 1, "version": NEWER, "commit": None, "releases": None, "roots": [], "network": None}
MOST_EXPOSED = 1.1
"""Of systemd-analyze security (targets: Security)."""
DROP_IN = """[Service]
NoExecPaths=/
ExecPaths=/opt/wws/releases /usr/lib
"""
"""What a hardened host adds: nothing may be run but releases and the C library."""
pytestmark = pytest.mark.timeout(600)


@only_in_full
def test_a_node_moves_to_the_archive_that_needs_no_python(
    nodes: Nodes, tell: Callable[[str, str], None]
) -> None:
    archive = artefact(STAMP)
    eu = nodes["eu"]

    played = nodes.play("upgrade.yml", Release(archive, sha256_of(archive), NEWER), limit=["eu"])
    assert played.rc == 0, f"{played.reports}\n{played}"
    assert played.reports["eu"]["result"] == "upgraded"
    assert nodes.running()["eu"] == NEWER
    pid = eu.ssh("systemctl show -P MainPID wws-bootstrap").stdout.strip()
    program = f"/opt/wws/releases/{NEWER}/bin/wws-bootstrap"
    assert eu.ssh(f"readlink /proc/{pid}/exe").stdout.strip() == program
    assert (
        "python3" not in eu.ssh(f"cut -c 50- /proc/{pid}/maps | sort -u | grep -v ' /opt/wws/' || :").stdout
    )

    score = eu.ssh("systemd-analyze security --no-pager wws-bootstrap | tail -1").stdout
    exposed = re.search(r"([0-9.]+) [A-Z]+", score)
    assert exposed is not None, score
    assert float(exposed[1]) <= MOST_EXPOSED

    folder = "/run/systemd/system/wws-bootstrap.service.d"
    eu.ssh(f"mkdir -p {folder} && cat >{folder}/noexec.conf && systemctl daemon-reload", given=DROP_IN)
    try:
        eu.ssh("systemctl restart wws-bootstrap")
        eventually(lambda: nodes.running()["eu"] == NEWER, 30)
        memory = int(
            eu.ssh("wws-control --json status | grep -o '\"rss_bytes\": [0-9]*' | cut -d' ' -f2").stdout
        )
    finally:
        eu.ssh(f"rm -r {folder}; systemctl daemon-reload")

    back = nodes.play("rollback.yml", limit=["eu"])
    assert back.rc == 0, back
    assert nodes.running()["eu"] == FIRST
    tell(
        "the archive that needs no Python, on a host",
        f"  from one to the other: down for {played.reports['eu']['down_seconds']:.1f} s; "
        f"{memory / 1e6:.0f} MB of memory; exposure {exposed[1]}",
    )
