"""Machines that exist already: rented by hand, at home, at a provider that this stack knows nothing of.

    nodes:
      - {name: boot1, address: 192.0.2.10, host_key: ssh-ed25519 AAAA…}

The stack makes no machine and deletes none. It installs the node, and takes it off again (`pulumi destroy`,
or a node that is taken out). Opening the ports in a firewall in front of the machine is the operator's; the
one on the machine itself is the role's.

The host key is read on the machine's console or in its provider's panel (`/etc/ssh/ssh_host_ed25519_key.pub`)
and is part of the settings: a machine that shows another is not spoken to. It also says which machine it is.
A new one in the old one's place has a new key (or another `machine`), and then the node starts with an empty
disk and the same identity.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

import pulumi
from pydantic import AfterValidator, Field
from typing_extensions import override

from wws_infra.providers.interface import Opening, OptionsFor, ProvidedHost, Provider, Ssh
from wws_infra.settings import NodeSettings, Section, SettingsRefused
from wws_infra.ssh_keys import fingerprint, parse_public_key


def _ip(text: str) -> str:
    if "%" in text:  # the zone of an IPv6 address may be any text, and leads nowhere from elsewhere
        raise ValueError(f"{text[:80]!r} is an address of one machine's own network")
    return str(ipaddress.ip_address(text))


def _ipv6(text: str) -> str:
    return str(ipaddress.IPv6Address(_ip(text)))


class HostsNode(NodeSettings):
    """A node on a machine that exists."""

    address: Annotated[str, AfterValidator(_ip)]
    """The IP that agents dial. It stays the node's when the machine is replaced."""
    ipv6: Annotated[str, AfterValidator(_ipv6)] | None = None
    """A further address, for the zone."""
    host_key: Annotated[str, AfterValidator(parse_public_key)]
    """The machine's public SSH host key: `ssh-ed25519 AAAA…`."""
    ssh_address: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9.:-]{0,252}$")
    """Where SSH is, when that is not `address`."""
    ssh_port: int = Field(default=22, ge=1, le=65535)
    ssh_user: str = Field(default="root", pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    """Another than root needs sudo without a password."""
    machine: str = Field(default="", max_length=100)
    """Names the machine where the host key does not: change it when one was set up anew with its old key."""


class HostsSection(Section):
    """Nothing is set for all of them."""


class Hosts(Provider[HostsNode, HostsSection]):
    """Machines that exist."""

    node_type = HostsNode
    section_type = HostsSection
    has_regions = False
    machines_stay = True

    @override
    def check(self) -> None:
        super().check()
        nodes = self.settings.nodes
        for what in ("address", "host_key"):
            values = [getattr(node, what) for node in nodes]
            if len(set(values)) != len(values):
                raise SettingsRefused(
                    f"Two nodes have the same {what}: each needs a machine of its own (wws:nodes)."
                )

    @override
    def host(self, node: HostsNode, firewall: tuple[Opening, ...], opts: OptionsFor) -> ProvidedHost:
        self._warn_of_neighbours(node)
        return ProvidedHost(
            address=pulumi.Output.from_input(node.address),
            addresses=() if node.ipv6 is None else (pulumi.Output.from_input(node.ipv6),),
            machine=pulumi.Output.from_input(node.machine or fingerprint(node.host_key)),
            region=node.region,
            port=node.port,
            ssh=Ssh(host_key=node.host_key, user=node.ssh_user, port=node.ssh_port, address=node.ssh_address),
        )

    def _warn_of_neighbours(self, node: HostsNode) -> None:
        """Nodes judge reachability by servers in different prefixes: three in one cannot."""
        near = [
            other.name
            for other in self.settings.nodes
            if other.name != node.name and _prefix(other) == _prefix(node)
        ]
        if near:
            pulumi.log.warn(
                f"{node.name} and {', '.join(near)} are in one network: "
                "agents may never find out that they are reachable."
            )


def _prefix(node: HostsNode) -> str:
    address = ipaddress.ip_address(node.address)
    return str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 56}", strict=False))


PROVIDER = Hosts
