"""A host is lost, and its node comes back on a new machine: the same PeerId, no promise given twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.full_scale import only_in_full
from tests.hosts.nodes import FIRST, NAMES, Nodes
from tests.prerequisites import require

BOOK = "/var/lib/wws/state/bootstrap/witness.sqlite"
NEEDED = {"manifest.json", "etc/identity.key", "etc/config.toml", f"home{BOOK[12:]}"}
"""What a node cannot come back without."""
FORGETFUL = "wws_witness_no_first_claims_until_timestamp_seconds"


class Vault:
    """Where an operator keeps backups, and the key that opens them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "backups"
        self.key = folder / "age.key"
        subprocess.run(["age-keygen", "-o", str(self.key)], check=True, capture_output=True)
        made = subprocess.run(["age-keygen", "-y", str(self.key)], check=True, capture_output=True, text=True)
        self.variables: dict[str, object] = {
            "wws_backup_recipients": [made.stdout.strip()],
            "wws_backup_dir": str(self.folder),
        }

    def of(self, file: str) -> dict[str, object]:
        return {"wws_backup_file": file, "wws_backup_identity_file": str(self.key)}

    def contents(self, file: str) -> set[str]:
        """What is in a backup, by tools that know nothing of us."""
        plain = subprocess.run(
            ["age", "-d", "-i", str(self.key), file], check=True, capture_output=True
        ).stdout
        listed = subprocess.run(["tar", "--list"], input=plain, check=True, capture_output=True)
        return set(listed.stdout.decode().split())


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    require("age", "age-keygen")
    return Vault(tmp_path)


@only_in_full
@pytest.mark.timeout(600)
def test_a_backup_disturbs_nobody(nodes: Nodes, vault: Vault, tell: Callable[[str, str], None]) -> None:
    usual = nodes.play("backup.yml", **vault.variables)
    assert usual.rc == 0, usual
    assert set(usual.reports) == set(NAMES)
    assert vault.contents(usual.reports["us"]["file"]) >= NEEDED
    assert nodes.running() == dict.fromkeys(NAMES, FIRST)
    assert set(nodes.everywhere("ls -A /var/backups/wws; ls -d /var/lib/wws/.backup* || :").values()) == {""}
    tell("backups of three nodes that run", f"  {usual.seconds:.1f} s")


@pytest.mark.timeout(600)
def test_a_node_comes_back_on_a_new_machine_and_its_promises_only_once(
    nodes: Nodes, vault: Vault, tell: Callable[[str, str], None]
) -> None:
    final = nodes.play("backup.yml", limit=["eu"], wws_backup_final=True, **vault.variables)
    assert final.rc == 0, final
    file = final.reports["eu"]["file"]
    assert vault.contents(file) >= NEEDED
    eu = nodes["eu"]
    eu.ssh("systemctl start wws-bootstrap")
    assert eu.ssh("systemctl is-active wws-bootstrap", check=False).stdout == "inactive\n", "sealed"

    eu.renew()
    eu.wait_up()
    nodes.operator.forget_connections()
    back = nodes.play("restore.yml", limit=["eu"], **vault.of(file))
    assert back.rc == 0, back
    assert back.reports["eu"]["book"] == "put back"
    promised = {wanted["path"]: wanted["sha256"] for wanted in final.reports["eu"]["manifest"]["files"]}
    assert eu.ssh(f"sha256sum {BOOK}").stdout.split()[0] == promised[f"home{BOOK[12:]}"]
    assert eu.ssh("ls -A /var/lib/.wws* || :", check=False).stdout == "", "no plain text is left"

    # Whoever restores it once more does so without the promises: they may have grown elsewhere.
    eu.ssh("rm -r /etc/wws /var/lib/wws")
    twice = nodes.play("restore.yml", limit=["eu"], **vault.of(file))
    assert twice.rc == 0, twice
    assert twice.reports["eu"]["book"] == "lost"

    installed = nodes.install(["eu"], identities=False)
    assert installed.rc == 0, installed
    assert nodes.running()["eu"] == FIRST
    status = json.loads(eu.ssh("wws-control --json status").stdout)["data"]
    assert status["peer_id"] == str(nodes.identities["eu"].peer_id)
    (line,) = [
        line
        for line in eu.ssh("curl -s 127.0.0.1:9371/metrics").stdout.splitlines()
        if line.startswith(FORGETFUL)
    ]
    assert float(line.split()[1]) > 0, "it has forgotten what it promised, and knows that"
    tell(
        "a node on a new machine",
        f"  final backup: {final.seconds:.1f} s; "
        f"restore: {back.seconds:.1f} s; role on the new machine: {installed.seconds:.1f} s",
    )


@only_in_full
@pytest.mark.timeout(600)
def test_a_node_that_moved_goes_on_with_its_promises(nodes: Nodes, vault: Vault) -> None:
    final = nodes.play("backup.yml", limit=["us"], wws_backup_final=True, **vault.variables)
    assert final.rc == 0, final
    us = nodes["us"]
    us.renew()
    us.wait_up()
    nodes.operator.forget_connections()
    back = nodes.play("restore.yml", limit=["us"], **vault.of(final.reports["us"]["file"]))
    assert back.rc == 0, back
    installed = nodes.install(["us"], identities=False)
    assert installed.rc == 0, installed
    metrics = us.ssh("curl -s 127.0.0.1:9371/metrics").stdout.splitlines()
    (line,) = [line for line in metrics if line.startswith(FORGETFUL)]
    assert float(line.split()[1]) == 0
