"""Turns a host into a node by running `site.yml` against it, and asks it how it is at a refresh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import pulumi
from typing_extensions import override

from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.playbooks import run_playbook
from wws_infra.dynamic.crud import Crud, DynamicResource, number, text, texts
from wws_infra.dynamic.reaching import answers

if TYPE_CHECKING:
    from wws_infra.settings import Json

SITE = "site.yml"
REMOVE = "remove.yml"


class PlaybookProvider(Crud):
    """Runs the role. A second run of it changes nothing, so another `create` is as good as the first."""

    not_compared: ClassVar[tuple[str, ...]] = ("seed", "witness_lost", "archive", "ssh_key_file")

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        return text(props, "peer_id"), _configured(props)

    @override
    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        return {
            "running": answers(text(props, "mesh_address"), number(props, "port"), text(props, "peer_id"))
        }

    @override
    def has_drifted(self, olds: dict[str, Json]) -> bool:
        return olds.get("running") is not True

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        return _configured(news)

    @override
    def removed(self, id_: str, props: dict[str, Json]) -> None:
        if props.get("machine_stays") is True:
            run_playbook(REMOVE, _inventory(props), on_line=_log)


def _configured(props: Mapping[str, Json]) -> dict[str, Json]:
    name = text(props, "name")
    network_file = text(props, "network_file")
    variables = props.get("variables")
    given: dict[str, Json] = {
        **(variables if isinstance(variables, dict) else {}),
        "wws_version": text(props, "version"),
        "wws_release_archive": text(props, "archive"),
        "wws_release_sha256": text(props, "sha256"),
        "wws_dns_servers": props["dns_servers"],
        "wws_ssh_allow": props["ssh_allow"],
        "wws_metrics_allow": props["metrics_allow"],
        "wws_limits": props["limits"],
        "wws_witness_lost": props["witness_lost"],
        **({"wws_network_file": network_file} if network_file else {"wws_network": text(props, "network")}),
    }
    result = run_playbook(
        SITE,
        _inventory(props),
        variables=given,
        secrets={name: {"wws_identity": text(props, "seed")}},
        on_line=_log,
    )
    facts = result.facts.get(name, {})
    state: dict[str, Json] = {fact: value for fact, value in facts.items() if isinstance(value, str)}
    return {"running": True, "state": {"peer_id": text(props, "peer_id"), **state}}


def _inventory(props: Mapping[str, Json]) -> Inventory:
    """This host alone, as far as it takes to log in."""
    peer_id, ip, port = text(props, "peer_id"), text(props, "mesh_address"), number(props, "port")
    family = "ip6" if ":" in ip else "ip4"
    host = HostEntry(
        name=text(props, "name"),
        address=text(props, "address"),
        peer_id=peer_id,
        multiaddrs=(f"/{family}/{ip}/tcp/{port}", f"/{family}/{ip}/udp/{port}/quic-v1"),
        ssh_user=text(props, "ssh_user"),
        ssh_port=number(props, "ssh_port"),
        host_key=text(props, "host_key"),
    )
    return Inventory(
        domain=text(props, "domain"),
        network=text(props, "network"),
        hosts=(host,),
        dns_servers=tuple(texts(props, "dns_servers")),
        ssh_key_file=text(props, "ssh_key_file") or None,
    )


def _log(line: str) -> None:
    """The engine shows what a provider prints; Ansible's own story, line by line."""
    if line.strip():
        print(line, flush=True)


class Playbook(DynamicResource, module="wws", name="Playbook"):
    """The node on one host."""

    state: pulumi.Output[dict[str, str]]
    """What the role reported: `peer_id`, `version`, …"""
    running: pulumi.Output[bool]

    def __init__(self, name: str, props: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        super().__init__(PlaybookProvider(), name, {**props, "state": None, "running": None}, opts)
