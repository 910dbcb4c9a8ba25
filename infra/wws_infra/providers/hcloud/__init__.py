"""Hetzner Cloud: a server for each node, with addresses and a host key that outlive it.

    SshHostKey ---.                              user data, once
    PrimaryIp x2 --+--> Server  <-- Firewall     attached at creation: no moment without it
    SshKey -------'

A server has its firewall before its first boot, because it is created with it (`firewall_ids`); an attachment
made afterwards would leave a gap. Deleting a server leaves its addresses to the next one, so DNS stays.

**A new server for a node**: `machine: 2` on the node. What only a new server takes from the settings (image,
keys of operators) changes nothing on one that runs: each such change would cost all disks at once, with the
promises of all witnesses.

**Protection** is lifted in a run of its own before a server is replaced (`protected: false` on the node: its
server alone) or all is destroyed (in the section).
"""

from __future__ import annotations

import ipaddress

import pulumi
import pulumi_hcloud as hcloud
from typing_extensions import override

from agent_cli.ops.inventory import DEFAULT_HOME, DEFAULT_HTTP, DEFAULT_NODE
from wws_infra.dynamic.ssh_host_key import SshHostKey
from wws_infra.providers.hcloud.cloud_init import user_data
from wws_infra.providers.hcloud.settings import SMALLEST, HcloudNode, HcloudSection
from wws_infra.providers.interface import (
    NodeRequest,
    Opening,
    OptionsFor,
    ProvidedHost,
    Provider,
    RunningNode,
    Ssh,
)

MACHINE = "wws-machine"
"""The label that says which of a node's servers this is. Another value is another server."""
MOST_LABEL = 63
"""Longest value of a label at Hetzner."""


class Hcloud(Provider[HcloudNode, HcloudSection]):
    """Servers at Hetzner Cloud."""

    node_type = HcloudNode
    section_type = HcloudSection
    _operators: list[pulumi.Input[str]] | None = None

    @override
    def host(self, node: HcloudNode, firewall: tuple[Opening, ...], opts: OptionsFor) -> ProvidedHost:
        section = self.settings.section
        protected = section.protected if node.protected is None else node.protected
        host_key = SshHostKey(node.name, opts=opts(protect=section.protected))
        ipv4 = self._address(node, "ipv4", opts)
        ipv6 = self._address(node, "ipv6", opts) if section.ipv6 else None
        rules = self._firewall(node, firewall, opts)
        keys: pulumi.Output[list[str]] = pulumi.Output.all(host_key.private_key, host_key.public_key)
        told: pulumi.Output[str] = pulumi.Output.secret(keys.apply(lambda pair: user_data(*pair)))
        server = hcloud.Server(
            node.name,
            name=self._name(node),
            server_type=node.server_type or section.server_type or SMALLEST[node.region],
            location=node.region,
            image=node.image or section.image,
            keep_disk=True,  # so that a smaller type remains possible
            ssh_keys=self._operator_keys(),
            user_data=told,
            firewall_ids=[rules.id.apply(int)],
            public_nets=[
                hcloud.ServerPublicNetArgs(
                    ipv4_enabled=True,
                    ipv4=ipv4.id.apply(int),
                    ipv6_enabled=ipv6 is not None,
                    ipv6=None if ipv6 is None else ipv6.id.apply(int),
                )
            ],
            labels=self._labels(node) | {MACHINE: str(node.machine)},
            delete_protection=protected,
            rebuild_protection=protected,
            shutdown_before_deletion=True,
            opts=opts(
                protect=protected,
                delete_before_replace=True,  # its addresses and name are free only then
                ignore_changes=["image", "sshKeys", "userData"],
                replace_on_changes=[f'labels["{MACHINE}"]'],
            ),
        )
        return ProvidedHost(
            address=ipv4.ip_address,
            addresses=() if ipv6 is None else (ipv6.ip_network.apply(_first_address),),
            machine=server.id,
            region=node.region,
            port=node.port,
            ssh=Ssh(host_key=host_key.public_key),
            resources=(server,),
        )

    @override
    def node(self, request: NodeRequest, opts: OptionsFor) -> RunningNode:
        if self.settings.section.configure:
            return super().node(request, opts)
        state = request.peer_id.apply(lambda peer_id: {"peer_id": peer_id})
        return RunningNode("ssh", DEFAULT_HOME, DEFAULT_NODE, DEFAULT_HTTP, state, request.host.resources[0])

    def _name(self, node: HcloudNode) -> str:
        """Server names are host names, and unique within a project of Hetzner, where other stacks may be."""
        return f"{node.name}.{self.settings.domain}"

    def _labels(self, node: HcloudNode | None = None) -> dict[str, str]:
        labels = {"managed-by": "wws"}
        if len(self.settings.domain) <= MOST_LABEL:
            labels["wws-domain"] = self.settings.domain
        return labels if node is None else labels | {"wws-node": node.name}

    def _address(self, node: HcloudNode, family: str, opts: OptionsFor) -> hcloud.PrimaryIp:
        """An address of its own, which no change of a server lets go of."""
        protected = self.settings.section.protected
        return hcloud.PrimaryIp(
            f"{node.name}-{family}",
            name=f"{self._name(node)}-{family}",
            type=family,
            location=node.region,
            assignee_type="server",
            auto_delete=False,
            delete_protection=protected,
            labels=self._labels(node),
            opts=opts(protect=protected),
        )

    def _firewall(self, node: HcloudNode, openings: tuple[Opening, ...], opts: OptionsFor) -> hcloud.Firewall:
        return hcloud.Firewall(
            node.name,
            name=self._name(node),
            labels=self._labels(node),
            rules=[
                hcloud.FirewallRuleArgs(
                    direction="in",
                    protocol=opening.protocol,
                    port=None if opening.port is None else str(opening.port),
                    source_ips=list(opening.sources),
                    description=opening.description,
                )
                for opening in openings
            ],
            opts=opts(),
        )

    def _operator_keys(self) -> list[pulumi.Input[str]]:
        """Made once for all servers: a project takes a public key once."""
        if self._operators is None:
            self._operators = [
                self._operator_key(n, text) for n, text in enumerate(self.settings.section.operator_keys, 1)
            ]
        return self._operators

    def _operator_key(self, number: int, text: str) -> pulumi.Input[str]:
        if " " not in text:
            return text
        key = hcloud.SshKey(
            f"operator-{number}",
            name=f"{self.settings.domain}-operator-{number}",
            public_key=text,
            labels=self._labels(),
        )
        return key.id


def _first_address(network: str) -> str:
    """A server has the first address of the /64 that it is given."""
    return str(ipaddress.IPv6Network(network)[1])


PROVIDER = Hcloud
