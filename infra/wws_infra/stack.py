"""The whole stack, read as a list: keys, hosts, nodes, what DNS says of them, and what people get to know."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, get_config_secret_keys_env

from agent_cli.ops.inventory import Inventory
from wws.discovery.bundle import Bundle
from wws.errors import WwsError
from wws_dns.signing import RequestMalformed, parse_request
from wws_infra.components.bootstrap_host import BootstrapHost
from wws_infra.components.bootstrap_identity import BootstrapIdentity
from wws_infra.components.discovery_records import DiscoveryRecords, DiscoveryRecordsArgs
from wws_infra.components.publisher import Publisher
from wws_infra.components.zone import Zone, ZoneArgs
from wws_infra.dynamic.manifest import Manifest
from wws_infra.providers import provider_for
from wws_infra.providers.interface import NodeRequest, Peer, ProvidedHost, Provider, RunningNode, ZoneAccess
from wws_infra.settings import Json, NodeSettings, Section, read_values

MAX_SIGNED = 16 * 1024
"""Largest file with a signed list, in bytes."""


def deploy() -> None:
    """Name every resource of the stack. A configuration that is not right ends the run before the first."""
    config = configuration()
    refuse_plain_secrets(config, get_config_secret_keys_env())
    try:
        provider = provider_for(read_values(config))
    except WwsError as error:
        raise pulumi.RunError(f"[{error.code}] {error}\n{error.hint}") from None
    Stack(provider).deploy()


def configuration() -> dict[str, str]:
    """The stack's whole configuration: what the engine gave to this process, or a test has set."""
    return {**get_config_env(), **CONFIG.get()}


@dataclass
class _Member:
    """One node on its way through the stack."""

    settings: NodeSettings
    identity: BootstrapIdentity
    host: BootstrapHost
    running: RunningNode | None = None

    @property
    def provided(self) -> ProvidedHost:
        return self.host.provided

    @property
    def multiaddrs(self) -> pulumi.Output[list[str]]:
        return pulumi.Output.all(self.provided.address, self.provided.port, self.identity.peer_id).apply(
            lambda known: multiaddrs(str(known[0]), int(known[1]), str(known[2]))
        )


class Stack:
    """Composes what a provider brings."""

    def __init__(self, provider: Provider[NodeSettings, Section]) -> None:
        self._provider = provider
        self._settings = provider.settings

    def deploy(self) -> None:
        settings, provider = self._settings, self._provider
        publisher = Publisher(settings)
        zone = provider.zone(pulumi.ResourceOptions)
        members = [
            _Member(node, BootstrapIdentity(node.name, node.identity_key_file), BootstrapHost(node, provider))
            for node in settings.nodes
        ]
        network = publisher.public_keys.apply(lambda keys: f"{settings.domain}#{','.join(keys)}")
        manifest = self._manifest(publisher, members, is_judged=zone.provider != "none")
        for member in members:
            others = [
                Peer(other.settings.name, other.provided, other.identity.peer_id)
                for other in members
                if other is not member
            ]
            member.running = self._node(member, others, network, manifest, zone)
        if zone.provider != "none":
            self._publish(publisher, members, zone)
        self._export(members, publisher, network, manifest, zone)

    def _manifest(self, publisher: Publisher, members: list[_Member], *, is_judged: bool) -> Manifest:
        peers = pulumi.Output.all(*(member.multiaddrs for member in members)).apply(
            lambda lists: [address for addresses in lists for address in addresses]
        )
        inputs = {
            "domain": self._settings.domain,
            "publishers": publisher.public_keys,
            "peers": peers,
            "is_judged": is_judged,
            "force_unsafe": self._settings.force_unsafe,
        }
        return Manifest("network", {**inputs, **publisher.signer}, pulumi.ResourceOptions(parent=publisher))

    def _node(
        self,
        member: _Member,
        others: list[Peer],
        network: pulumi.Output[str],
        manifest: Manifest,
        zone: ZoneAccess,
    ) -> RunningNode:
        request = NodeRequest(
            settings=member.settings,
            host=member.provided,
            peer_id=member.identity.peer_id,
            seed=member.identity.seed,
            network=network,
            network_file=manifest.text,
            dns_servers=zone.servers,
            witness_lost=member.identity.witness_lost(member.provided.machine),
            peers=others,
        )
        return self._provider.node(
            request, partial(pulumi.ResourceOptions, depends_on=list(member.provided.resources))
        )

    def _publish(self, publisher: Publisher, members: list[_Member], zone: ZoneAccess) -> None:
        settings = self._settings
        hosts = {
            member.settings.name: (member.provided.address, *member.provided.addresses) for member in members
        }
        names = Zone(ZoneArgs(settings.domain, zone, settings.ttl, hosts))
        running = [member.running for member in members if member.running is not None]
        records = DiscoveryRecords(
            DiscoveryRecordsArgs(
                settings.domain,
                [self._entry(member) for member in members],
                zone,
                publisher.public_keys,
                publisher.signer,
                settings.ttl,
                settings.lifetime_days,
                self._signed_elsewhere(),
                settings.force_unsafe,
                [node.home for node in running if node.managed_by == "local"],
            ),
            [*(node.resource for node in running), *names.records],
        )
        pulumi.export("bundle_seq", records.seq)
        pulumi.export("bundle_expires_at", records.expires_at)

    def _signed_elsewhere(self) -> str:
        path = self._settings.signed
        return "" if path is None else read_signed(path, self._settings.domain)

    def _entry(self, member: _Member) -> pulumi.Output[str]:
        named = f"{member.settings.name}.{self._settings.domain}" if self._settings.entries_by_name else ""
        host = member.provided
        return pulumi.Output.all(member.identity.peer_id, host.address, host.port).apply(
            lambda known: entry(str(known[0]), named or str(known[1]), int(known[2]))
        )

    def _export(
        self,
        members: list[_Member],
        publisher: Publisher,
        network: pulumi.Output[str],
        manifest: Manifest,
        zone: ZoneAccess,
    ) -> None:
        settings = self._settings
        pulumi.export("peer_ids", {member.settings.name: member.identity.peer_id for member in members})
        pulumi.export("multiaddrs", {member.settings.name: member.multiaddrs for member in members})
        pulumi.export("join_command", pulumi.Output.all(network, zone.servers).apply(join_command))
        pulumi.export("network_json", manifest.text)
        if "signer_seed" in publisher.signer:
            pulumi.export("publisher_key", publisher.signer["signer_seed"])
        hosts = pulumi.Output.all(*(_host_entry(member) for member in members))
        pulumi.export(
            "inventory",
            pulumi.Output.all(network, zone.servers, hosts).apply(
                lambda known: inventory(
                    settings.domain,
                    str(known[0]),
                    list(known[1]),
                    list(known[2]),
                    str(settings.ssh_key_file) if settings.ssh_key_file else None,
                )
            ),
        )


def read_signed(path: Path, domain: str) -> str:
    """The list in the file that `wws-dns sign` wrote, or that holds nothing but the list.

    Ends the run where it is none, is not signed, or was signed for another domain.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIGNED + 1)
    except OSError as error:
        raise pulumi.RunError(f"wws:signed: {path} cannot be read: {error.strerror}") from None
    try:
        if len(data) > MAX_SIGNED:
            raise RequestMalformed(f"it is larger than {MAX_SIGNED} bytes")
        if not data.lstrip().startswith(b"{"):
            return Bundle.parse(data.decode("ascii", "replace").strip()).text
        request = parse_request(data)
    except WwsError as error:
        raise pulumi.RunError(f"wws:signed: {path}: {error}") from None
    if request.domain != domain or not request.is_signed:
        what = f"is of {request.domain}, not of {domain}" if request.domain != domain else "is not signed"
        raise pulumi.RunError(f"wws:signed: {path} {what}: wws-dns sign FILE --key KEY")
    return request.bundle.text


def refuse_plain_secrets(config: Iterable[str], secret: Iterable[str]) -> None:
    """Ends the run when a secret stands in `Pulumi.<stack>.yaml` in plain, and so in version control."""
    for key in sorted(set(config) - set(secret)):
        if _SECRET.search(key):
            raise pulumi.RunError(
                f"{key} stands in the stack's configuration in plain. Whoever has read it may have used it: "
                f"make another, and set that by: pulumi config set --secret {key}"
            )


_SECRET = re.compile(r"(token|secret|password|passphrase|api_?key|secret_?key|private_?key)\Z", re.IGNORECASE)


def multiaddrs(ip: str, port: int, peer_id: str) -> list[str]:
    """How a node is dialled: over TCP and over QUIC."""
    family = "ip6" if ":" in ip else "ip4"
    return [
        f"/{family}/{ip}/{transport}/p2p/{peer_id}" for transport in (f"tcp/{port}", f"udp/{port}/quic-v1")
    ]


def entry(peer_id: str, host: str, port: int) -> str:
    """A node as it stands in the signed list."""
    return f"{peer_id}@[{host}]:{port}" if ":" in host else f"{peer_id}@{host}:{port}"


def join_command(known: list[object]) -> str:
    """What an agent types; with `--dns-server` where the system's resolver would not find the records."""
    network, servers = known
    words = ["wws", "join", "--network", str(network)]
    for server in servers if isinstance(servers, list) else []:
        words += ["--dns-server", str(server)]
    return shlex.join(words)


def inventory(
    domain: str, network: str, servers: list[str], hosts: list[dict[str, Json]], ssh_key_file: str | None
) -> dict[str, Json]:
    """The inventory as `wws-ops` reads it: parsed once here, so that a stack never gives a bad one."""
    members: dict[str, Json] = {
        "schema": 1,
        "domain": domain,
        "network": network,
        "dns_servers": [*servers],
        "ssh_key_file": ssh_key_file,
        "hosts": [*hosts],
    }
    parsed: dict[str, Json] = json.loads(Inventory.parse(json.dumps(members)).to_json())
    return parsed


def _host_entry(member: _Member) -> pulumi.Output[dict[str, pulumi.Input[object]]]:
    host, running = member.provided, member.running
    assert running is not None
    ssh = host.ssh
    return pulumi.Output.from_input(
        {
            "name": member.settings.name,
            "address": host.address if ssh is None or ssh.address is None else ssh.address,
            "peer_id": member.identity.peer_id,
            "multiaddrs": member.multiaddrs,
            "region": host.region,
            "ssh_user": "root" if ssh is None else ssh.user,
            "ssh_port": 22 if ssh is None else ssh.port,
            "host_key": "" if ssh is None else ssh.host_key,
            "managed_by": running.managed_by,
            "home": running.home,
            "node": running.node,
            "http": running.http,
        }
    )
