"""A network of bootstrap nodes on hosts of the lab: what an operator would give the playbooks.

deployment = Deployment(hosts.operator, [eu, us, ap], release("1.0.0"))
result = deployment.run("site.yml")
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import time

from agent_cli.ops.inventory import HostEntry, Inventory, Json
from agent_cli.ops.playbooks import PlaybookResult, run_playbook
from tests.lab.hosts import Host
from tests.lab.operator import Operator
from tests.lab.releases import Release
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.network import Network
from wws.identity.keys import Identity

DOMAIN = "hosts.wws.test"
PORT = 9000


class Deployment:
    """Hosts that are to be the bootstrap nodes of one network."""

    def __init__(self, operator: Operator, hosts: Sequence[Host], release: Release) -> None:
        self.operator = operator
        self.hosts = list(hosts)
        self.release = release
        self.publisher = Identity.from_label("publisher")
        self.identities = {host.name: Identity.from_label(f"bootstrap-{host.name}") for host in hosts}
        peers = [Multiaddr.parse(address) for host in hosts for address in self.addresses(host)]
        network = Network("lab", DOMAIN, (self.publisher.public_key,), tuple(peers), issued_at=int(time()))
        self.network_file = network.to_file([self.publisher])
        self.variables: dict[str, Json] = {
            "wws_version": release.version,
            "wws_release_archive": str(release.path),
            "wws_release_sha256": release.sha256,
            "wws_network_file": self.network_file.decode(),
            "wws_ssh_allow": [f"{operator.address}/32"],
            "wws_metrics_allow": [f"{operator.address}/32"],
        }
        """What every host is given."""

    def peer_id(self, host: Host) -> str:
        return str(self.identities[host.name].peer_id)

    def addresses(self, host: Host) -> tuple[str, ...]:
        """Its multiaddrs, with its PeerId."""
        return tuple(
            f"/ip4/{host.address}/{transport}/p2p/{self.peer_id(host)}"
            for transport in (f"tcp/{PORT}", f"udp/{PORT}/quic-v1")
        )

    @property
    def inventory(self) -> Inventory:
        return Inventory(
            DOMAIN,
            f"{DOMAIN}#{self.publisher.public_key.hex()}",
            tuple(
                HostEntry(
                    host.name,
                    host.address,
                    self.peer_id(host),
                    self.addresses(host),
                    region=host.name,
                    host_key=host.host_key,
                )
                for host in self.hosts
            ),
            ssh_key_file=str(self.operator.key_file),
        )

    def secrets(self) -> dict[str, dict[str, str]]:
        """The identities, as the stack hands them over."""
        return {
            name: {"wws_identity": base64.b64encode(identity.seed).decode()}
            for name, identity in self.identities.items()
        }

    def run(
        self,
        playbook: str,
        *,
        inventory: Inventory | None = None,
        limit: Sequence[str] = (),
        variables: Mapping[str, Json] | None = None,
        tags: Sequence[str] = (),
        check: bool = False,
        on_line: Callable[[str], None] | None = None,
    ) -> PlaybookResult:
        """Run a playbook from the operator's machine; `variables` beat those of the deployment."""
        with self.operator.uplink.namespace.entered():
            return run_playbook(
                playbook,
                inventory or self.inventory,
                limit=limit,
                variables={**self.variables, **(variables or {})},
                secrets=self.secrets(),
                tags=tags,
                check=check,
                on_line=on_line,
            )

    def write_network_file(self, folder: Path) -> Path:
        """The signed file of the network, for agents."""
        path = folder / "lab.json"
        path.write_bytes(self.network_file)
        return path
