"""`ConfiguredNode`: a host that the role `bootstrap_node` has made into a node."""

from __future__ import annotations

import pulumi

from wws_infra.dynamic.playbook import Playbook
from wws_infra.providers.interface import NodeRequest, RunningNode
from wws_infra.settings import N, P, SettingsRefused, StackSettings

HOME = "/var/lib/wws"
NODE = "bootstrap"
HTTP = "127.0.0.1:9371"


class ConfiguredNode(pulumi.ComponentResource):
    """Runs `site.yml` against one host, its host key known beforehand, and gives back the node's state."""

    running: RunningNode

    def __init__(
        self,
        request: NodeRequest,
        settings: StackSettings[N, P],
        opts: pulumi.ResourceOptions,
        *,
        machines_stay: bool = False,
    ) -> None:
        name, host = request.settings.name, request.host
        super().__init__("wws:infra:ConfiguredNode", name, None, opts)
        if host.ssh is None or settings.release is None:
            raise SettingsRefused(f"{name} has no SSH, or there is no wws:release for it.")
        playbook = Playbook(
            name,
            {
                "name": name,
                "address": host.ssh.address if host.ssh.address is not None else host.address,
                "ssh_user": host.ssh.user,
                "ssh_port": host.ssh.port,
                "ssh_key_file": str(settings.ssh_key_file) if settings.ssh_key_file else "",
                "host_key": host.ssh.host_key,
                "machine": host.machine,
                "machine_stays": machines_stay,
                "domain": settings.domain,
                "network": request.network,
                "network_file": request.network_file,
                "peer_id": request.peer_id,
                "seed": request.seed,
                "mesh_address": host.address,
                "port": host.port,
                "dns_servers": request.dns_servers,
                "peers": [
                    {
                        "name": peer.name,
                        "address": peer.ssh.address if peer.ssh.address is not None else peer.host.address,
                        "ssh_user": peer.ssh.user,
                        "ssh_port": peer.ssh.port,
                        "host_key": peer.ssh.host_key,
                        "peer_id": peer.peer_id,
                        "mesh_address": peer.host.address,
                        "port": peer.host.port,
                    }
                    for peer in request.peers
                    if peer.ssh is not None
                ],
                "witness_lost": request.witness_lost,
                "archive": str(settings.release.archive),
                "version": settings.release.version,
                "sha256": settings.release.sha256,
                "ssh_allow": list(settings.ssh_allow),
                "metrics_allow": list(settings.metrics_allow),
                "limits": settings.limits,
                "variables": settings.variables,
            },
            pulumi.ResourceOptions(parent=self, depends_on=list(host.resources)),
        )
        self.running = RunningNode("ssh", HOME, NODE, HTTP, playbook.state, playbook)
        self.register_outputs({"state": playbook.state})
