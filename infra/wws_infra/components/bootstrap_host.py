"""`BootstrapHost`: a machine with an address that stays and a firewall, from whichever provider."""

from __future__ import annotations

from functools import partial

import pulumi

from wws_infra.providers.interface import Opening, ProvidedHost, Provider
from wws_infra.settings import NodeSettings, Section


class BootstrapHost(pulumi.ComponentResource):
    """Address, machine and firewall of one node: 9000 TCP and UDP for everybody, the rest for lists."""

    provided: ProvidedHost
    openings: tuple[Opening, ...]

    def __init__(
        self,
        node: NodeSettings,
        provider: Provider[NodeSettings, Section],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("wws:infra:BootstrapHost", node.name, None, opts)
        self.openings = provider.firewall(node)

        self.provided = provider.host(node, self.openings, partial(pulumi.ResourceOptions, parent=self))
        host = self.provided
        self.register_outputs({"address": host.address, "machine": host.machine, "region": host.region})
