"""`pulumi up` on the stack `local`, with the real engine: three nodes and a DNS server on loopback."""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent_cli.ops.inventory import Inventory
from tests.full_scale import only_in_full
from tests.infra.conftest import Tell, processes_of
from tests.infra.engine import Engine, close, end_session
from wws.discovery.network import parse_network_file
from wws.identity.keys import Identity
from wws.runtime.homes import Home, Ready
from wws.runtime.witness.reading import claims_from
from wws.runtime.witness.rows import read_entries

NAMES = ("boot1", "boot2", "boot3")
MEASURED = "pulumi up on the stack `local`"

pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(400)]


def config(place: Path, **more: object) -> dict[str, object]:
    """A stack of three nodes in `place`."""
    return {
        "wws:provider": "local",
        "wws:domain": "local.wws.test",
        "wws:nodes": [{"name": name} for name in NAMES],
        "wws:local": {"folder": str(place / "stack")},
        **{f"wws:{name}": value for name, value in more.items()},
    }


def test_from_nothing_to_nothing(tmp_path: Path, place: Path, tell: Tell) -> None:
    """The life of a stack, step by step. One stack for all of it: a step takes seconds."""
    engine = Engine(tmp_path, config(place))
    started = time.monotonic()
    made = engine.up()
    tell(MEASURED, f"from nothing  {time.monotonic() - started:5.1f} s  ({made.changes['create']} resources)")
    outputs = engine.outputs()
    inventory = Inventory.parse(json.dumps(outputs["inventory"]))
    assert {host.name: host.peer_id for host in inventory.hosts} == outputs["peer_ids"]
    manifest = engine.run("stack", "output", "network_json").output.removesuffix("\n")
    assert manifest == outputs["network_json"]
    assert parse_network_file(manifest.encode()).domain == "local.wws.test"
    assert outputs["publisher_key"] == "[secret]"
    for host in inventory.hosts:
        assert running_node(host.home).peer_id == host.peer_id
    secrets_are_secret(engine, place)

    started = time.monotonic()
    assert set(engine.up().changes) == {"same"}
    tell(MEASURED, f"no change     {time.monotonic() - started:5.1f} s")

    joined = join(outputs["join_command"], place / "alice", "alice")
    assert joined["source"] == "bundle"
    assert joined["witnessed"] is True

    what_broke_is_seen_and_mended(engine, tmp_path / "bob", place)
    a_replaced_host_keeps_its_identity(engine, place)
    an_unsafe_change_is_refused(engine, place)

    refused = engine.destroy(fails=True)
    assert "cannot be deleted" in refused.said
    assert {name.partition("::")[0] for name in engine.resources()} >= {"Seed", "Promises"}
    assert processes_of(place) == {}
    again = engine.up().said
    assert engine.outputs()["peer_ids"] == outputs["peer_ids"]
    assert all(f"warning: {name} has lost its promises" in again for name in NAMES)
    assert "makes no first claims until 20" in again
    assert all(promises_are_lost(place, name) for name in NAMES)

    engine.run("state", "unprotect", "--all", "--yes")
    engine.destroy()
    assert engine.resources() == {}
    assert processes_of(place) == {}
    assert list(place.rglob("*")) == []


def test_killed_in_the_middle_and_resumed(tmp_path: Path, place: Path) -> None:
    """kill -9 while nodes start: the next run takes over what runs, and nothing runs twice."""
    engine = Engine(tmp_path, config(place))
    process = engine.start("up", "--yes", "--skip-preview", "--json")
    try:
        wait_until(lambda: any(place.rglob("ready.json")), "a node that runs")
    finally:
        end_session(process.pid)
        process.wait()
        close(process)
    locked = engine.up(fails=True)
    assert "locked" in locked.said

    engine.run("cancel", "--yes")
    engine.refresh("--clear-pending-creates")
    engine.up()
    assert len(processes_of(place)) == len(NAMES) + 1
    for name, peer_id in engine.outputs()["peer_ids"].items():
        assert running_node(place / "stack" / name).peer_id == peer_id

    engine.run("state", "unprotect", "--all", "--yes")
    engine.destroy()
    assert processes_of(place) == {}
    assert list(place.rglob("*")) == []


def test_a_setting_that_is_not_one_changes_nothing(tmp_path: Path, place: Path) -> None:
    engine = Engine(tmp_path, config(place, metrics_alow=["192.0.2.1/32"]))
    refused = engine.up(fails=True)
    assert "There is no setting wws:metrics_alow; did you mean metrics_allow?" in refused.said
    assert set(engine.resources()) <= {"Stack::wws-local"}
    assert list(place.iterdir()) == []


@only_in_full
def test_a_node_comes_by_a_plain_up_that_previews(tmp_path: Path, place: Path) -> None:
    """Addresses are unknown in the preview: it says so, and the records are planned when they are known."""
    engine = Engine(tmp_path, config(place))
    engine.up()
    engine.configure(config(place, nodes=[{"name": name} for name in (*NAMES, "boot4")]))
    shown = engine.preview().said
    assert "records are planned when the addresses are known" in shown
    assert "Traceback" not in shown
    grown = engine.run("up", "--yes").said
    assert "Traceback" not in grown
    assert len(engine.outputs()["peer_ids"]) == 4


def what_broke_is_seen_and_mended(engine: Engine, folder: Path, place: Path) -> None:
    """A node and the DNS server die, and somebody has cleared a record. State, port and list stay."""
    before, outputs, zone = promised(place, "boot2"), engine.outputs(), place / "stack" / "dns" / "zone.json"
    for pid in (
        running_node(place / "stack" / "boot2").pid,
        int((zone.parent / "pid").read_text().split()[0]),
    ):
        kill(psutil.Process(pid))
    records = json.loads(zone.read_text())
    zone.write_text(json.dumps({name: of for name, of in records.items() if not name.startswith("_wws")}))

    one_operator_at_a_time(engine, folder, place)
    seen = engine.resources()
    assert seen["LocalNode::boot2"]["outputs"]["running"] is False
    assert seen["LocalDns::dns"]["outputs"]["running"] is False
    assert seen["Discovery::local.wws.test"]["outputs"]["served"] is False
    assert sorted(engine.up().steps) == [
        ("update", "Discovery::local.wws.test"),
        ("update", "LocalDns::dns"),
        ("update", "LocalNode::boot2"),
    ]
    assert before
    assert promised(place, "boot2") == before
    assert not promises_are_lost(place, "boot2")
    assert engine.outputs() == outputs
    assert json.loads(zone.read_text()) == records


def a_replaced_host_keeps_its_identity(engine: Engine, place: Path) -> None:
    zone, outputs = (place / "stack" / "dns" / "zone.json").read_bytes(), engine.outputs()
    before = engine.resources()
    replaced = engine.up("--replace", before["LocalHost::boot2"]["urn"])
    done = {what for operation, what in replaced.steps}
    assert done == {"LocalHost::boot2", "LocalNode::boot2", "Promises::boot2"}
    after = engine.resources()
    assert after["LocalHost::boot2"]["id"] != before["LocalHost::boot2"]["id"]
    assert (place / "stack" / "dns" / "zone.json").read_bytes() == zone
    assert engine.outputs() == outputs
    assert running_node(place / "stack" / "boot2").peer_id == outputs["peer_ids"]["boot2"]
    assert promises_are_lost(place, "boot2")


def one_operator_at_a_time(engine: Engine, folder: Path, place: Path) -> None:
    """Alice looks how things are, and while she does, Bob changes nothing."""
    bob = Engine(folder, config(place), backend=engine.backend)
    (bob.folder / "Pulumi.local.yaml").write_text((engine.folder / "Pulumi.local.yaml").read_text())
    locks = engine.backend / ".pulumi" / "locks"
    process = engine.start("refresh", "--yes", "--skip-preview")
    try:
        wait_until(lambda: any(locks.rglob("*.json")), "the lock of the state")
        os.kill(process.pid, signal.SIGSTOP)
        refused = bob.up(fails=True)
        os.kill(process.pid, signal.SIGCONT)
        process.communicate()
    finally:
        end_session(process.pid)
        process.wait()
        close(process)
    assert "the stack is currently locked by 1 lock" in refused.said
    assert process.returncode == 0


def an_unsafe_change_is_refused(engine: Engine, place: Path) -> None:
    zone = (place / "stack" / "dns" / "zone.json").read_bytes()
    engine.configure(config(place, nodes=[{"name": "boot1"}]))
    files = {path: path.stat().st_mtime_ns for path in (place / "stack").rglob("network.json")}
    for refused in (engine.preview(fails=True), engine.up(fails=True)):
        assert "[unsafe_plan]" in refused.said
        assert "It removes 2 of 3 nodes" in refused.said
        assert "wws:force_unsafe" in refused.said
        assert "--force-unsafe" not in refused.said
        assert "Traceback" not in refused.said
    assert len(files) == len(NAMES)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert (place / "stack" / "dns" / "zone.json").read_bytes() == zone
    engine.configure(config(place))


def secrets_are_secret(engine: Engine, place: Path) -> None:
    """No seed is in any file of the backend, in whichever spelling."""
    seeds = [(place / "stack" / name / "identity.key").read_bytes() for name in NAMES]
    shown = json.loads(engine.run("stack", "export", "--show-secrets").output)
    [publisher] = [
        resource["outputs"]["seed"]
        for resource in shown["deployment"]["resources"]
        if resource["urn"].endswith("Seed::publisher")
    ]
    seeds.append(base64.b64decode(json.loads(publisher["plaintext"])))
    public = [Identity(seed).public_key.hex().encode() for seed in seeds]
    files = list(engine.files())
    assert any(public[0] in data for data in files)  # the right files were looked into
    for seed in seeds:
        for spelling in (seed, seed.hex().encode(), base64.b64encode(seed)[:40]):
            assert not any(spelling in data for data in files)


def join(command: str, home: Path, name: str) -> dict[str, object]:
    """Run the command that the stack prints, as an agent on this machine; then leave again."""
    wws = f"{sys.prefix}/bin/wws"
    words = [wws, *shlex.split(command)[1:], "--name", name, "--json", "--home", str(home)]
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("WWS_")},
        "WWS_NETWORK_ENABLE_MDNS": "false",
        "WWS_RPC_TCP": "",
        "WWS_RPC_HTTP": "",
        "WWS_NETWORK_LISTEN": "/ip4/127.0.0.1/tcp/0",
        "XDG_RUNTIME_DIR": str(home.parent),
    }
    try:
        answer = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=90)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        data: dict[str, object] = json.loads(answer.stdout)["data"]
        return data
    finally:
        subprocess.run([wws, "leave", "--home", str(home)], env=environment, capture_output=True, timeout=60)
        subprocess.run(["rm", "-rf", str(home), str(home.parent / "wws")], check=True)


def kill(process: psutil.Process) -> None:
    """SIGKILL, and wait until it is gone; whoever inherited it may leave it unreaped."""
    process.kill()
    wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "its end")


def running_node(home: Path | str) -> Ready:
    ready = Home(Path(home)).node("bootstrap").read_ready()
    assert ready is not None
    return ready


def promised(place: Path, name: str) -> set[str]:
    """The names that a witness has made promises about."""
    with sqlite3.connect(f"{_store(place, name).as_uri()}?mode=ro", uri=True) as database:
        return {entry.name for entry in read_entries(database)}


def promises_are_lost(place: Path, name: str) -> bool:
    """Whether the witness knows that its promises are gone."""
    with sqlite3.connect(f"{_store(place, name).as_uri()}?mode=ro", uri=True) as database:
        return claims_from(database) > 0


def _store(place: Path, name: str) -> Path:
    return Home(place / "stack" / name).node("bootstrap").witness


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.01)
