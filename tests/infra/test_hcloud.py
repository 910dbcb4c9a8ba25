"""A stack at Hetzner through its whole life, on the real engine and SDK, over the cloud in a file.

Servers of that cloud have no SSH: the stack leaves them as they are made (`configure: false`), as operators
can. What turns a host into a node is tested on hosts (test_hosts.py).
"""

from __future__ import annotations

import copy
import json
import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.full_scale import only_in_full
from tests.infra.engine import Engine, close, end_session
from tests.infra.settings_hcloud import settings_hcloud
from tests.infra.stand_in.cloud import ADDRESS, FIREWALL, SERVER, SSH_KEY, Account, Thing, opened
from tests.infra.stand_in.install import install
from tests.lab.probing import eventually


class Hetzner:
    """A stack, its settings, and the account it works on."""

    def __init__(self, folder: Path) -> None:
        self._cloud = folder / "cloud.json"
        self.settings = settings_hcloud()
        self.settings["hcloud"] |= {"configure": False}
        del self.settings["dns"]
        environment = {"WWS_TEST_CLOUD": str(self._cloud), "HCLOUD_TOKEN": "of a test"}
        self.engine = Engine(
            folder, self._config(), stack="test", path=[install(folder / "plugins")], environment=environment
        )

    def set(self, node: str | None = None, **changed: Any) -> None:
        """Settings from now on: of one node, or of the section."""
        section = self.settings["hcloud"]
        if node is not None:
            section = next(one for one in self.settings["nodes"] if one["name"] == node)
        section |= changed
        self.engine.configure(self._config())

    def account(self) -> AbstractContextManager[Account]:
        """What there is, to look at and to break."""
        return opened(self._cloud)

    def things(self, kind: str) -> dict[str, Thing]:
        with self.account() as account:
            return copy.deepcopy({thing.props["name"]: thing for thing in account.of(kind).values()})

    def ids(self, kind: str) -> dict[str, str]:
        with self.account() as account:
            return {thing.props["name"]: id_ for id_, thing in account.of(kind).items()}

    def calls(self) -> list[tuple[str, str]]:
        """What changed the account since the last look."""
        with self.account() as account:
            calls = [(verb, name) for verb, _, name in account.calls]
            account.calls.clear()
        return calls

    def _config(self) -> dict[str, Any]:
        return {f"wws:{name}": value for name, value in self.settings.items()}


@pytest.mark.timeout(600)
def test_the_life_of_a_stack(tmp_path: Path) -> None:
    hetzner = Hetzner(tmp_path)
    engine = hetzner.engine

    # A preview says what will be made, and makes nothing.
    shown = engine.preview().output
    assert shown.count("hcloud:index/server:Server") >= 3
    assert "PRIVATE KEY" not in shown
    assert hetzner.calls() == []

    # From an empty account to three servers.
    engine.up()
    servers, addresses = hetzner.things(SERVER), hetzner.things(ADDRESS)
    assert {name: server.props["location"] for name, server in servers.items()} == {
        "boot1.example.org": "ash",
        "boot2.example.org": "nbg1",
        "boot3.example.org": "sin",
    }
    assert (len(addresses), len(hetzner.things(FIREWALL)), len(hetzner.things(SSH_KEY))) == (6, 3, 1)
    outputs = engine.outputs()
    for host in outputs["inventory"]["hosts"]:
        server = servers[f"{host['name']}.example.org"].props
        assert host["address"] == server["ipv4Address"]
        assert host["host_key"] in server["userData"], "the key that the operator believes is the one it has"
        assert host["multiaddrs"][0] == f"/ip4/{host['address']}/tcp/9000/p2p/{host['peer_id']}"

    # Keys of hosts, identities and the publisher stand in no file of the state.
    private = json.loads(servers["boot1.example.org"].props["userData"].removeprefix("#cloud-config\n"))
    secret = private["ssh_keys"]["ed25519_private"].splitlines()[2].encode()
    assert not any(secret in text or b"PRIVATE KEY" in text for text in engine.files())

    # Again: nothing changes. Nor does another image for servers to come.
    hetzner.calls()
    hetzner.set(image="debian-13")
    assert set(engine.up("--expect-no-changes").changes) == {"same"}
    assert hetzner.calls() == []

    # A new server for a node: refused while it is protected, before anything is done.
    ids = hetzner.ids(SERVER)
    hetzner.set("boot1", machine=2)
    assert "marked for protection" in engine.up(fails=True).said
    assert hetzner.calls() == []

    # Its protection is lifted, and another server gets another size, both in place.
    hetzner.set("boot1", machine=1, protected=False)
    hetzner.set("boot2", server_type="cx33")
    assert sorted(engine.up().steps) == [("update", "Server::boot1"), ("update", "Server::boot2")]
    assert sorted(hetzner.calls()) == [("update", "boot1.example.org"), ("update", "boot2.example.org")]
    assert hetzner.things(SERVER)["boot2.example.org"].props["serverType"] == "cx33"

    # Now it is replaced: the same PeerId, addresses and host key, an empty disk.
    hetzner.set("boot1", machine=2)
    engine.up()
    assert hetzner.calls() == [("delete", "boot1.example.org"), ("create", "boot1.example.org")]
    replaced = hetzner.things(SERVER)["boot1.example.org"].props
    assert hetzner.ids(SERVER)["boot1.example.org"] != ids["boot1.example.org"]
    assert replaced["ipv4Address"] == servers["boot1.example.org"].props["ipv4Address"]
    assert replaced["userData"] == servers["boot1.example.org"].props["userData"], "the host key is the same"
    assert replaced["image"] == "debian-13", "a new server is as the settings are now"
    after = engine.outputs()
    same = ("inventory", "peer_ids", "multiaddrs", "network_json")
    assert {name: after[name] for name in same} == {name: outputs[name] for name in same}
    promises = engine.resources()["Promises::boot1"]["outputs"]
    assert promises["lost"] is True, "its witness knows that it has forgotten"

    # It is protected again, and meanwhile somebody has deleted a server by hand: seen and mended.
    hetzner.set("boot1", protected=True)
    with hetzner.account() as account:
        del account.things[account.named(SERVER, "boot3.example.org")[0]]
    engine.up("--refresh")
    assert sorted(hetzner.calls()) == [("create", "boot3.example.org"), ("update", "boot1.example.org")]
    assert engine.outputs()["inventory"] == outputs["inventory"]

    # Nothing of a protected stack is deleted.
    engine.destroy(fails=True)
    assert [len(hetzner.things(kind)) for kind in (SERVER, ADDRESS)] == [3, 6]


@pytest.mark.timeout(600)
def test_refusals_of_the_cloud_are_shown_and_the_next_run_goes_on(tmp_path: Path) -> None:
    hetzner = Hetzner(tmp_path)
    engine = hetzner.engine

    # There is no room for the third server: what could be made is made and kept.
    with hetzner.account() as account:
        account.most_servers = 2
    assert "server limit exceeded (resource_limit_exceeded)" in engine.up(fails=True).said
    made = hetzner.ids(SERVER)
    (missing,) = {"boot1.example.org", "boot2.example.org", "boot3.example.org"} - set(made)

    # There is now, but it comes up only halfway.
    with hetzner.account() as account:
        account.most_servers = 10
        account.half.append(f"Server {missing}")
    assert "action create_server failed" in engine.up(fails=True).said
    made = hetzner.ids(SERVER)
    assert len(made) == 3, "it is there, and the stack knows it"

    # Then all is well, and no server was made twice.
    engine.up()
    assert hetzner.ids(SERVER) == made

    # A name that the cloud does not take, because somebody else has it: shown, and the rest is as it was.
    with hetzner.account() as account:
        account.things["4711"] = Thing(FIREWALL, {"name": "boot4.example.org"})
    hetzner.settings["nodes"].append({"name": "boot4", "region": "hil"})
    hetzner.set()
    assert "the name boot4.example.org is already used (uniqueness_error)" in engine.up(fails=True).said
    assert hetzner.ids(SERVER) == made


@only_in_full
@pytest.mark.timeout(600)
def test_a_run_that_was_killed_is_resumed_and_a_stack_without_protection_leaves_nothing(
    tmp_path: Path,
) -> None:
    hetzner = Hetzner(tmp_path)
    hetzner.set(protected=False, ipv6=False)
    engine = hetzner.engine
    with hetzner.account() as account:
        account.stall.append("Server boot2.example.org")
    process = engine.start("up", "--yes", "--skip-preview")
    try:
        eventually(lambda: _waits_for(engine, "Server::boot2"), within=90)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        end_session(process.pid)
        process.wait()
        close(process)
    made = hetzner.ids(SERVER)
    assert "boot2.example.org" in made, "it is there, and the stack has not heard of it"

    # The lock is left, and the next run says what to do about it.
    assert "pulumi cancel" in engine.up(fails=True).said
    engine.run("cancel", "--yes")

    # The cloud knows the server, the stack does not: it is taken over by its id, not made again.
    engine.run("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    host = engine.resources()["BootstrapHost::boot2"]["urn"]
    taken = [SERVER, "boot2", made["boot2.example.org"], "--parent", f"host={host}"]
    engine.run("import", *taken, "--yes", "--skip-preview", "--generate-code=false", "--protect=false")
    engine.up()
    assert {name: id_ for name, id_ in hetzner.ids(SERVER).items() if name in made} == made
    assert len(hetzner.things(SERVER)) == 3

    # Only the stack's keys are protected now; without that, too, nothing is left.
    engine.run("state", "unprotect", "--all", "--yes")
    engine.destroy()
    with hetzner.account() as account:
        assert account.things == {}
    assert engine.resources() == {}


def _waits_for(engine: Engine, what: str) -> bool:
    """Whether that is all that a run still waits for, as far as it has written down."""
    state = engine.backend / ".pulumi" / "stacks" / "wws" / f"{engine.stack}.json"
    latest = json.loads(state.read_text())["checkpoint"].get("latest", {})
    pending = [one["resource"]["urn"] for one in latest.get("pending_operations", [])]
    done = sum(one["urn"].rpartition(":")[0].endswith("Promises:") for one in latest.get("resources", []))
    return done == 2 and len(pending) == 1 and pending[0].endswith(what)
