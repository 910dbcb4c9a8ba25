"""What a provider of hosts is, and what it gives back. Adding a cloud is one module beside this one.

    class Hcloud(Provider[HcloudNode, HcloudSection]):
        node_type = HcloudNode
        section_type = HcloudSection

        def host(self, node, firewall, opts):
            address = PrimaryIp(node.name, …, opts=opts)
            server = Server(node.name, …, opts=opts)
            return ProvidedHost(address=address.ip_address, machine=server.id, ssh=Ssh(host_key=…), …)

    PROVIDER = Hcloud

A module is found by its name (`wws:provider`). It brings hosts; from there on all providers go one way: the
role `bootstrap_node` turns a host into a node, and `wws_dns` says so in DNS. Only `local`, whose nodes are
processes, overrides `node` and `zone` too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal

import pulumi

from wws_infra import allow_list
from wws_infra.settings import N, NodeSettings, P, Section, SettingsRefused, StackSettings

METRICS_PORT = 9371
SSH_PORT = 22
WORLD = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Opening:
    """A port that a host's firewall lets in. Whatever is not listed stays out."""

    protocol: Literal["tcp", "udp", "icmp"]
    port: int | None
    """`None` for ICMP."""
    sources: tuple[str, ...]
    """CIDRs."""
    description: str


@dataclass(frozen=True, slots=True)
class Ssh:
    """How the operator reaches a host. The host key is known before the first connection."""

    host_key: pulumi.Input[str]
    """`ssh-ed25519 AAAA…`, without a comment."""
    user: str = "root"
    port: int = SSH_PORT
    address: pulumi.Input[str] | None = None
    """Where SSH is, when that is not the address of the mesh."""


@dataclass(frozen=True, slots=True)
class ProvidedHost:
    """A machine, reachable at an address that stays when the machine is replaced."""

    address: pulumi.Output[str]
    """The IP that agents dial. It belongs to a resource of its own, so that it outlives the machine."""
    machine: pulumi.Output[str]
    """Names this machine: another value means another disk, and the node is installed anew."""
    region: str = ""
    port: pulumi.Input[int] = 9000
    """The port of the mesh, TCP and UDP."""
    addresses: tuple[pulumi.Output[str], ...] = ()
    """Further IPs of the host (IPv6), for the zone."""
    ssh: Ssh | None = None
    """`None`: the node is a local process, Ansible has nothing to do with it."""
    resources: Sequence[pulumi.Resource] = field(default_factory=tuple)
    """What must be there before the node is installed: server, firewall, attachment."""


@dataclass(frozen=True, slots=True)
class ZoneAccess:
    """How the records of the network are written and read."""

    provider: pulumi.Input[str]
    """`none`, `zone_file`, `rfc2136` or `cloudflare`, as `wws_dns` calls them."""
    options: pulumi.Input[dict[str, str]]
    """What the DNS provider is made from; paths and names, no secrets (those lie in files or environment)."""
    servers: pulumi.Output[list[str]]
    """`IP:PORT` that nodes and agents ask (`--dns-server`); empty: the system's."""
    resources: Sequence[pulumi.Resource] = field(default_factory=tuple)
    """What must be there before records are written."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node of the stack, which must do its work while this one is taken away for a moment."""

    name: str
    host: ProvidedHost
    peer_id: pulumi.Output[str]

    @property
    def ssh(self) -> Ssh | None:
        return self.host.ssh


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """What a node is made from."""

    settings: NodeSettings
    host: ProvidedHost
    peer_id: pulumi.Output[str]
    seed: pulumi.Output[str]
    """The Ed25519 seed, base64. Secret."""
    network: pulumi.Output[str]
    """NET as the command line takes it: `<domain>#<publisher key>`."""
    network_file: pulumi.Output[str]
    """The signed `network.json`; empty where the stack has no key to sign it."""
    dns_servers: pulumi.Output[list[str]]
    witness_lost: pulumi.Output[bool]
    """This identity has made promises as a witness, on a disk that is no more (the machine was replaced)."""
    peers: Sequence[Peer] = ()


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A node that runs, and what the inventory says about it."""

    managed_by: Literal["ssh", "local"]
    home: pulumi.Input[str]
    node: pulumi.Input[str]
    http: pulumi.Input[str]
    """`IP:PORT` of health and metrics."""
    state: pulumi.Output[dict[str, str]]
    """What the node said about itself: peer_id, version, changed."""
    resource: pulumi.Resource
    """Records are published after this."""


class Provider(ABC, Generic[N, P]):
    """Brings hosts. Made once, from settings that were read whole."""

    node_type: ClassVar[type[NodeSettings]] = NodeSettings
    section_type: ClassVar[type[Section]] = Section
    has_regions: ClassVar[bool] = True
    """Regions of the nodes must differ."""
    machines_stay: ClassVar[bool] = False
    """Machines are not ours to remove: a node that is removed is taken off its machine."""
    has_ssh: ClassVar[bool] = True
    """Hosts are configured over SSH: `ssh_allow` and `release` are needed."""

    def __init__(self, settings: StackSettings[N, P]) -> None:
        self.settings = settings

    def check(self) -> None:
        """Refuse what cannot be right, before anything is made.

        Raises `SettingsRefused` and `AllowListRefused`.
        """
        regions = [node.region for node in self.settings.nodes]
        if self.has_regions and ("" in regions or len(set(regions)) != len(regions)):
            raise SettingsRefused("Each node has a region, and no two have the same (wws:nodes).")
        if self.has_ssh and not self.settings.ssh_allow:
            raise SettingsRefused("wws:ssh_allow must say from where SSH is allowed, as in [203.0.113.7/32].")
        if self.has_ssh and self.settings.release is None:
            raise SettingsRefused(
                "wws:release must say what is installed: version, archive and sha256 "
                "(python packaging/release.py --out DIR prints them)."
            )
        if self.has_ssh:
            allow_list.parse(self.settings.ssh_allow, what="wws:ssh_allow")
        allow_list.parse(self.settings.metrics_allow, what="wws:metrics_allow", may_be_empty=True)

    def firewall(self, node: N) -> tuple[Opening, ...]:
        """What is let in to a host: the mesh from everywhere, SSH and metrics from their lists."""
        openings = [
            Opening("tcp", node.port, WORLD, "mesh"),
            Opening("udp", node.port, WORLD, "mesh (QUIC)"),
            Opening("icmp", None, WORLD, "ping and path MTU"),
            Opening("tcp", SSH_PORT, self.settings.ssh_allow, "SSH"),
        ]
        if self.settings.metrics_allow:
            openings.append(Opening("tcp", METRICS_PORT, self.settings.metrics_allow, "metrics"))
        return tuple(openings)

    @abstractmethod
    def host(self, node: N, firewall: tuple[Opening, ...], opts: OptionsFor) -> ProvidedHost:
        """Name the resources of one host. Every resource gets `opts()`, which places it in the component.

        `opts(**more)` adds to that: `opts(protect=True, depends_on=[…])`.
        """

    def zone(self, opts: OptionsFor) -> ZoneAccess:
        """How records are written: as `wws:dns` says."""
        dns = self.settings.dns
        options = {
            name: str(value)
            for name, value in dns.model_dump(exclude_none=True).items()
            if name != "provider"
        }
        servers = pulumi.Output.from_input(list(self.settings.dns_servers))
        return ZoneAccess(dns.provider, options, servers)

    def node(self, request: NodeRequest, opts: OptionsFor) -> RunningNode:
        """Turn a host into a node: by the role `bootstrap_node`."""
        # Here and not above: the component needs what this module defines.
        from wws_infra.components.configured_node import ConfiguredNode

        return ConfiguredNode(request, self.settings, opts(), machines_stay=self.machines_stay).running


OptionsFor = Callable[..., pulumi.ResourceOptions]
"""Makes the options of a resource within the component that asks for it."""
