"""The provider `local`: three nodes as processes of this machine, and a DNS server. No account, no root.

It has the parts of a cloud, so that the stack does with it what it does with one: an address that stays
(`LocalAddress`), a machine with a disk that can be lost (`LocalHost`), a node on it (`LocalNode`).
"""

from __future__ import annotations

import os
from pathlib import Path

import pulumi
from pydantic import Field
from typing_extensions import override

from wws_infra.providers.interface import (
    NodeRequest,
    Opening,
    OptionsFor,
    ProvidedHost,
    Provider,
    RunningNode,
    ZoneAccess,
)
from wws_infra.providers.local.address import LocalAddress
from wws_infra.providers.local.dns import LocalDns
from wws_infra.providers.local.host import LocalHost
from wws_infra.providers.local.node import LocalNode
from wws_infra.settings import LocalPath, NodeSettings, Section


class LocalNodeSettings(NodeSettings):
    """A node on loopback."""

    port: int = Field(default=0, ge=0, le=65535)
    """0: a free one, kept."""


class LocalSection(Section):
    """`wws:local`."""

    folder: LocalPath | None = None
    """Where everything lies; default: `wws/stacks/<stack>` among the user's state (XDG_STATE_HOME)."""


class Local(Provider[LocalNodeSettings, LocalSection]):
    """Processes on loopback."""

    node_type = LocalNodeSettings
    section_type = LocalSection
    has_regions = False
    has_ssh = False

    @property
    def folder(self) -> Path:
        """Where everything of this stack lies."""
        if self.settings.section.folder is not None:
            return self.settings.section.folder.absolute()
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        return Path(state) / "wws" / "stacks" / pulumi.get_stack()

    @override
    def firewall(self, node: LocalNodeSettings) -> tuple[Opening, ...]:
        return ()  # loopback is closed to others as it is

    @override
    def host(self, node: LocalNodeSettings, firewall: tuple[Opening, ...], opts: OptionsFor) -> ProvidedHost:
        index = self.settings.nodes.index(node)
        address = LocalAddress(node.name, index + 1, node.port, opts())
        host = LocalHost(node.name, self.folder / node.name, opts())
        return ProvidedHost(
            address=address.ip,
            machine=host.machine,
            region=node.region or "local",
            port=address.port,
            resources=(address, host),
        )

    @override
    def zone(self, opts: OptionsFor) -> ZoneAccess:
        if self.settings.dns.provider != "none":
            return super().zone(opts)
        server = LocalDns("dns", self.folder / "dns", opts())
        options = pulumi.Output.all(
            zone=self.settings.domain, path=server.zone_file, pid_file=server.pid_file
        ).apply(lambda known: {name: str(value) for name, value in known.items()})
        return ZoneAccess(
            "zone_file", options, server.address.apply(lambda address: [address]), resources=(server,)
        )

    @override
    def node(self, request: NodeRequest, opts: OptionsFor) -> RunningNode:
        address, host = request.host.resources
        if not isinstance(address, LocalAddress) or not isinstance(host, LocalHost):
            raise TypeError("a local node runs on a local host")
        node = LocalNode(
            request.settings.name,
            {
                "home": host.home,
                "machine": host.machine,
                "peer_id": request.peer_id,
                "seed": request.seed,
                "ip": address.ip,
                "port": address.port,
                "http": address.http,
                "network_file": request.network_file,
                "network": request.network,
                "dns_servers": request.dns_servers,
                "limits": self.settings.limits,
                "witness_lost": request.witness_lost,
            },
            opts(),
        )
        return RunningNode("local", host.home, "bootstrap", address.http, node.state, node)


PROVIDER = Local
