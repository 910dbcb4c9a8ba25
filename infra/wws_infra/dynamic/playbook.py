"""Turns a host into a node by running `site.yml` against it, and asks it how it is at a refresh.

Nodes are made beside each other, and changed one after the other: at any time all but one do their work. The
first that cannot be changed keeps the rest as they are.

The playbook that makes nodes changes no versions. Another version in the settings goes the way of every
upgrade: drained, switched, looked at from outside, and back to the old one where that fails. A version that
somebody put there by hand is left alone, and said.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pulumi
from typing_extensions import override

from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.playbooks import run_playbook
from agent_cli.text import printable
from wws.errors import LocalError
from wws_infra.dynamic.crud import Crud, DynamicResource, number, text, texts
from wws_infra.dynamic.node_on_host import Found, look, retire, wait_for
from wws_infra.dynamic.promises import tell_of_lost

if TYPE_CHECKING:
    from wws_infra.settings import Json

SITE = "site.yml"
UPGRADE = "upgrade.yml"
REMOVE = "remove.yml"
DEFAULT_PORT = 9000
BOOT = 300.0
"""Seconds until a new server of a cloud must let us in."""
AWAY = 20.0
"""The same for a machine that has been there before."""


FORGOTTEN = "The witness knows that it has forgotten"
"""The task of the role that is done where a node begins without the promises that it made."""


class NodesLeftAlone(LocalError):
    """Another node could not be changed, so this one was not touched."""

    code = "nodes_left_alone"


class PlaybookProvider(Crud):
    """Runs the role. A second run of it changes nothing, so another `create` is as good as the first."""

    not_compared: ClassVar[tuple[str, ...]] = ("seed", "witness_lost", "archive", "ssh_key_file")

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        _wait(props)
        return text(props, "peer_id"), _configured(props)

    @override
    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        found = look(_host(props), _key_file(props))
        return _outputs(props, found)

    @override
    def has_drifted(self, olds: dict[str, Json]) -> bool:
        return olds.get("running") is not True

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        with one_at_a_time(text(news, "name")):
            is_new = olds["machine"] != news["machine"]
            if is_new and olds["address"] != news["address"]:
                _retire(olds)
            _wait(news)
            if not is_new and olds["version"] != news["version"]:
                run_playbook(
                    UPGRADE, _inventory(news), variables=_release(news) | _further(news), on_line=_Teller()
                )
            return _configured(news)

    @override
    def removed(self, id_: str, props: dict[str, Json]) -> None:
        if props.get("machine_stays") is True:
            run_playbook(REMOVE, _inventory(props), on_line=_Teller())


def _configured(props: Mapping[str, Json]) -> dict[str, Json]:
    name = text(props, "name")
    network_file = text(props, "network_file")
    variables: dict[str, Json] = {
        **_release(props),
        "wws_dns_servers": props["dns_servers"],
        "wws_ssh_allow": props["ssh_allow"],
        "wws_metrics_allow": props["metrics_allow"],
        "wws_limits": props["limits"],
        "wws_witness_lost": props["witness_lost"],
        **({"wws_network_file": network_file} if network_file else {"wws_network": text(props, "network")}),
        **_ports(number(props, "port")),
        **_further(props),
    }
    secrets = {name: {"wws_identity": text(props, "seed")}}
    result = run_playbook(SITE, _inventory(props), variables=variables, secrets=secrets, on_line=_Teller())
    facts = result.facts.get(name, {})
    return _outputs(props, Found(str(facts.get("peer_id", "")), str(facts.get("version", ""))))


def _outputs(props: Mapping[str, Json], found: Found) -> dict[str, Json]:
    """What is kept of a node: whether it is the one that the settings want, and how to ask it again."""
    wanted = (text(props, "peer_id"), text(props, "version"))
    return {
        "running": (found.peer_id, found.version) == wanted,
        "state": {**found.state},
        "ssh_key_file": text(props, "ssh_key_file"),
    }


def _release(props: Mapping[str, Json]) -> dict[str, Json]:
    return {
        "wws_version": text(props, "version"),
        "wws_release_archive": text(props, "archive"),
        "wws_release_sha256": text(props, "sha256"),
    }


def _further(props: Mapping[str, Json]) -> dict[str, Json]:
    variables = props.get("variables")
    return {**variables} if isinstance(variables, dict) else {}


def _ports(port: int) -> dict[str, Json]:
    """Another port than the usual one is said to the node and to the firewall of its host."""
    if port == DEFAULT_PORT:
        return {}
    anywhere = ("/ip4/0.0.0.0", "/ip6/::")
    listen: list[Json] = [f"{ip}/{end}" for ip in anywhere for end in (f"tcp/{port}", f"udp/{port}/quic-v1")]
    return {"wws_listen": listen, "wws_mesh_ports": [port]}


def _wait(props: Mapping[str, Json]) -> None:
    wait_for(_host(props), _key_file(props), AWAY if props.get("machine_stays") is True else BOOT)


def _retire(olds: Mapping[str, Json]) -> None:
    """The machine that had the node before, where it is another one at another address."""
    problem = retire(_host(olds), _key_file(olds))
    if problem:
        name = text(olds, "name")
        print(
            f"{name}: its old machine was not stopped ({problem}). See that it never runs again.", flush=True
        )


_changing = threading.Lock()
_failed: list[str] = []
"""Nodes that could not be changed. The engine starts this process anew for each run."""


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Changes of nodes wait for each other, and all end with the first that fails."""
    with _changing:
        if _failed:
            raise NodesLeftAlone(f"{name} was left as it is, because {_failed[0]} could not be changed.")
        try:
            yield
        except BaseException:
            _failed.append(name)
            raise


def _host(props: Mapping[str, Json]) -> HostEntry:
    peer_id, ip, port = text(props, "peer_id"), text(props, "mesh_address"), number(props, "port")
    family = "ip6" if ":" in ip else "ip4"
    return HostEntry(
        name=text(props, "name"),
        address=text(props, "address"),
        peer_id=peer_id,
        multiaddrs=(f"/{family}/{ip}/tcp/{port}", f"/{family}/{ip}/udp/{port}/quic-v1"),
        ssh_user=text(props, "ssh_user"),
        ssh_port=number(props, "ssh_port"),
        host_key=text(props, "host_key"),
    )


def _key_file(props: Mapping[str, Json]) -> str | None:
    return text(props, "ssh_key_file") or None


def _inventory(props: Mapping[str, Json]) -> Inventory:
    """This host alone, as far as it takes to log in."""
    return Inventory(
        domain=text(props, "domain"),
        network=text(props, "network"),
        hosts=(_host(props),),
        dns_servers=tuple(texts(props, "dns_servers")),
        ssh_key_file=_key_file(props),
    )


class _Teller:
    """Hands Ansible's story on to the engine as far as something was changed or went wrong."""

    def __init__(self) -> None:
        self._task = ""

    def __call__(self, line: str) -> None:
        line = printable(line)  # a host chooses some of it
        if line.startswith(("TASK [", "RUNNING HANDLER [")):
            self._task = line.partition("[")[2].partition("]")[0]
        elif line.startswith("changed: ["):
            host = line.partition("[")[2].partition("]")[0]
            print(f"{host}: {self._task}", flush=True)
            if self._task.endswith(FORGOTTEN):
                tell_of_lost(host)
        elif line.startswith(("fatal: ", "failed: ")):
            print(f"{self._task}: {line}", flush=True)


class Playbook(DynamicResource, module="wws", name="Playbook"):
    """The node on one host."""

    state: pulumi.Output[dict[str, str]]
    """What the node says about itself: `peer_id`, `version`; `problem` when it could not be asked."""
    running: pulumi.Output[bool]
    """It runs, with the PeerId and the version that it should have."""

    def __init__(self, name: str, props: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        super().__init__(PlaybookProvider(), name, {**props, "state": None, "running": None}, opts)
