"""Turns a host into a node by running `site.yml` against it, and asks it how it is at a refresh.

Nodes are made beside each other, and changed one after the other: at any time all but one do their work.
Those that are down come first. The first that cannot be changed keeps those that run as they are.

What is run against a host depends on what is installed there. Where nothing is, or what is wanted, `site.yml`
makes the node. Another version goes the way of every upgrade, whoever put it there: drained, switched, looked
at from outside, and back to the old one where that fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, DiffResult
from typing_extensions import override

from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.playbooks import run_playbook
from agent_cli.text import printable
from wws_infra.dynamic.crud import Crud, DynamicResource, ResourceFailed, is_unknown, number, text, texts
from wws_infra.dynamic.node_on_host import (
    Found,
    Installed,
    ask_installed,
    forget_release,
    look,
    retire,
    wait_for,
)
from wws_infra.dynamic.promises import tell_of_lost
from wws_infra.dynamic.turns import Turns

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


_turns = Turns()
"""The engine starts this process anew for each run."""


class PlaybookProvider(Crud):
    """Runs the role. A second run of it changes nothing, so another `create` is as good as the first."""

    not_compared: ClassVar[tuple[str, ...]] = ("seed", "witness_lost", "archive", "ssh_key_file", "peers")

    @override
    def check(self, _olds: dict[str, Json], news: dict[str, Json]) -> CheckResult:
        problem = "" if _olds else _archive_problem(news)  # of one that is there already, `diff` judges
        return CheckResult(news, [CheckFailure("archive", problem)] if problem else [])

    @override
    def diff(self, _id: str, _olds: dict[str, Json], _news: dict[str, Json]) -> DiffResult:
        result = super().diff(_id, _olds, _news)
        if result.changes and (problem := _archive_problem(_news)):
            raise ResourceFailed(f"[release_differs] {problem}")
        return result

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        with _turns.beside_others(text(props, "name")):
            _wait(props)
            installed = ask_installed(_host(props), _key_file(props))
            if not _is_other_version(props, installed):
                return text(props, "peer_id"), _configured(props)
        return text(props, "peer_id"), self._taken_its_turn(props, props, installed)

    @override
    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        found = look(_host(props), _key_file(props))
        return _outputs(props, found)

    @override
    def has_drifted(self, olds: dict[str, Json]) -> bool:
        return olds.get("running") is not True

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        is_new = olds["machine"] != news["machine"]
        if is_new and olds["address"] != news["address"]:
            _retire(olds)
        return self._taken_its_turn(olds, news, None)

    def _taken_its_turn(
        self, olds: Mapping[str, Json], news: Mapping[str, Json], installed: Installed | None
    ) -> dict[str, Json]:
        name, host, key_file = text(news, "name"), _host(news), _key_file(news)
        is_new = olds["machine"] != news["machine"]
        others = _others(olds, news)
        if is_new or look(host, key_file).problem:
            with _turns.of_one_that_is_down(name):
                _wait(news)
                installed = installed or ask_installed(host, key_file)
                is_lost = not is_new and not (installed.version and installed.has_past)
                if _is_leftover(news, installed):
                    forget_release(host, key_file)
                # Nothing is taken away that runs: the others may be as they are.
                return _at_its_version(news, installed, others, others_may_be_down=True, is_lost=is_lost)
        patience = AWAY if news.get("machine_stays") is True else BOOT
        may_be_down = _further(news).get("wws_others_may_be_down") is True
        with _turns.of_one_that_runs(name, lambda: () if may_be_down else _down(others, key_file), patience):
            installed = installed or ask_installed(host, key_file)
            return _at_its_version(news, installed, others, others_may_be_down=may_be_down)

    @override
    def removed(self, id_: str, props: dict[str, Json]) -> None:
        if props.get("machine_stays") is True:
            run_playbook(REMOVE, _inventory(props), on_line=_Teller(), wait=True)


def _archive_problem(props: Mapping[str, Json]) -> str:
    """Why this release cannot be installed, as far as it can be seen here; empty when all is well."""
    archive, wanted = props.get("archive"), props.get("sha256")
    if not isinstance(archive, str) or not isinstance(wanted, str) or is_unknown([archive, wanted]):
        return ""
    mend = "Set wws:release to what packaging/release.py printed for it. Nothing was changed."
    try:
        with open(archive, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"wws:release: {archive} cannot be read: {error.strerror}. {mend}"
    if found != wanted.lower():
        return f"wws:release: the SHA-256 of {archive} is {found}, not {wanted}. {mend}"
    return ""


def _is_other_version(props: Mapping[str, Json], installed: Installed) -> bool:
    """Whether the node is there, and in another version. Another node's host is for `site.yml` to refuse."""
    return installed.peer_id == props["peer_id"] and installed.version not in ("", text(props, "version"))


def _is_leftover(props: Mapping[str, Json], installed: Installed) -> bool:
    """Whether another version is all that is left of a node: it has no key, and does not run."""
    return installed.peer_id == "" and installed.version not in ("", text(props, "version"))


def _others(olds: Mapping[str, Json], news: Mapping[str, Json]) -> tuple[HostEntry, ...]:
    """The other nodes that should do their work by now; one that is new in this run does none yet."""
    peers, known = news.get("peers"), olds.get("neighbours")
    hosts = [_host(peer) for peer in peers if isinstance(peer, dict)] if isinstance(peers, list) else []
    return tuple(host for host in hosts if not isinstance(known, list) or host.peer_id in known)


def _down(others: Sequence[HostEntry], key_file: str | None) -> list[str]:
    """Which of the others do not do their work, in words."""
    return [
        f"{host.name}, which is down ({found.problem})"
        for host in others
        if (found := look(host, key_file)).problem
    ]


def _at_its_version(
    props: Mapping[str, Json],
    installed: Installed,
    others: tuple[HostEntry, ...],
    *,
    others_may_be_down: bool,
    is_lost: bool = False,
) -> dict[str, Json]:
    if _is_other_version(props, installed):
        variables = _release(props) | _further(props) | {"wws_others_may_be_down": others_may_be_down}
        name, inventory = text(props, "name"), _inventory(props, others)
        run_playbook(UPGRADE, inventory, limit=[name], variables=variables, on_line=_Teller(), wait=True)
    return _configured(props, is_lost=is_lost)


def _configured(props: Mapping[str, Json], *, is_lost: bool = False) -> dict[str, Json]:
    name = text(props, "name")
    network_file = text(props, "network_file")
    variables: dict[str, Json] = {
        **_release(props),
        "wws_dns_servers": props["dns_servers"],
        "wws_ssh_allow": props["ssh_allow"],
        "wws_metrics_allow": props["metrics_allow"],
        "wws_limits": props["limits"],
        "wws_witness_lost": is_lost or props["witness_lost"],
        **({"wws_network_file": network_file} if network_file else {"wws_network": text(props, "network")}),
        **_ports(number(props, "port")),
        **_further(props),
    }
    secrets = {name: {"wws_identity": text(props, "seed")}}
    result = run_playbook(
        SITE, _inventory(props), variables=variables, secrets=secrets, on_line=_Teller(), wait=True
    )
    facts = result.facts.get(name, {})
    peers = props.get("peers")
    neighbours: list[Json] = (
        [peer["peer_id"] for peer in peers if isinstance(peer, dict)] if isinstance(peers, list) else []
    )
    found = Found(str(facts.get("peer_id", "")), str(facts.get("version", "")))
    return {**_outputs(props, found), "neighbours": neighbours}


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


def _inventory(props: Mapping[str, Json], others: tuple[HostEntry, ...] = ()) -> Inventory:
    """This host and others, as far as it takes to log in."""
    return Inventory(
        domain=text(props, "domain"),
        network=text(props, "network"),
        hosts=(_host(props), *others),
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
    neighbours: pulumi.Output[list[str]]
    """PeerIds of the nodes that the stack had beside it when it was changed last."""

    def __init__(self, name: str, props: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        super().__init__(
            PlaybookProvider(), name, {**props, "state": None, "running": None, "neighbours": None}, opts
        )
