"""What must hold for every resource of a stack at Hetzner. Reads what a program registered, changes nothing.

    violations(resources) == []

`Seen` is a resource as the engine gets it, from mocks or from a state. A type that no rule knows is a
violation, so nobody adds a resource without saying what must hold for it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.infra.stand_in.cloud import ADDRESS, FIREWALL, SERVER, SSH_KEY

MESH, SSH, METRICS = "9000", "22", "9371"
DYNAMIC = "pulumi-python:dynamic/wws:"
LARGEST = {4: 8, 6: 19}


@dataclass(frozen=True)
class Secret:
    """A value that is marked as secret: it stands encrypted in the state and hidden in what is shown."""

    value: Any


@dataclass(frozen=True)
class Seen:
    """A resource as the engine gets it."""

    kind: str
    name: str
    inputs: Mapping[str, Any]
    protect: bool = False
    delete_before_replace: bool = False
    secret_outputs: tuple[str, ...] = ()
    id: str = ""


Rule = Callable[[Seen], Iterator[str]]


def violations(resources: Sequence[Seen], secrets: Sequence[str] = ()) -> list[str]:
    """What is wrong, one line each: what every kind must fulfil, and the stack as a whole.

    `secrets` are texts that may stand in secret values alone.
    """
    found = []
    for resource in resources:
        rule = RULES.get(resource.kind)
        broken = list(rule(resource)) if rule else [f"no rule knows the type {resource.kind}"]
        broken += [f"{path} holds a secret in plain" for path in _leaks(resource.inputs, secrets, "")]
        found += [f"{resource.kind.split(':')[-1]} {resource.name}: {line}" for line in broken]
    return found + list(_whole(resources))


def _server(server: Seen) -> Iterator[str]:
    if not server.inputs.get("firewallIds"):
        yield "has no firewall from its first boot on"
    if not isinstance(server.inputs.get("userData"), Secret):
        yield "its user data (with the host key) is not secret"
    if not (
        server.inputs.get("deleteProtection") and server.inputs.get("rebuildProtection") and server.protect
    ):
        yield "can be deleted"
    if not server.inputs.get("sshKeys"):
        yield "has no SSH key, so its root password is sent by mail"
    if not server.delete_before_replace:
        yield "its successor cannot have its addresses"
    nets = server.inputs.get("publicNets") or [{}]
    if len(nets) != 1 or not nets[0].get("ipv4") or (nets[0].get("ipv6Enabled") and not nets[0].get("ipv6")):
        yield "has an address that goes with it"


def _address(address: Seen) -> Iterator[str]:
    if address.inputs.get("autoDelete") is not False:
        yield "goes with its server"
    if not (address.inputs.get("deleteProtection") and address.protect):
        yield "can be deleted"


def _firewall(firewall: Seen) -> Iterator[str]:
    rules = firewall.inputs.get("rules") or []
    opened = {
        (rule["protocol"], rule.get("port"))
        for rule in rules
        if set(rule["sourceIps"]) == {"0.0.0.0/0", "::/0"}
    }
    if opened != {("tcp", MESH), ("udp", MESH), ("icmp", None)}:
        yield f"open to the world are {sorted(map(str, opened))}"
    for rule in rules:
        what = (rule["protocol"], rule.get("port"))
        if rule["direction"] != "in":
            yield f"has a rule for {rule['direction']}"
        if what in opened:
            continue
        if what not in {("tcp", SSH), ("tcp", METRICS)}:
            yield f"opens {what}"
        for source in rule["sourceIps"]:
            network = ipaddress.ip_network(source)
            if network.prefixlen < LARGEST[network.version]:
                yield f"lets {source} to {what}"
    if not any(rule.get("port") == SSH and rule["sourceIps"] for rule in rules):
        yield "lets nobody in by SSH"


def _ssh_key(key: Seen) -> Iterator[str]:
    if "PRIVATE" in str(key.inputs):
        yield "is a private key"


def _keeps(secret: str) -> Rule:
    def rule(resource: Seen) -> Iterator[str]:
        if not resource.protect:
            yield "can be deleted"
        if secret not in resource.secret_outputs:
            yield f"its {secret} is not secret"

    return rule


def _protected(resource: Seen) -> Iterator[str]:
    if not resource.protect:
        yield "can be deleted"


def _anything(resource: Seen) -> Iterator[str]:
    yield from ()


RULES: dict[str, Rule] = {
    SERVER: _server,
    ADDRESS: _address,
    FIREWALL: _firewall,
    SSH_KEY: _ssh_key,
    f"{DYNAMIC}Seed": _keeps("seed"),
    f"{DYNAMIC}SshHostKey": _keeps("private_key"),
    # These hold nothing of their own; what they are given is looked at for secrets, as everywhere.
    f"{DYNAMIC}Promises": _protected,
    f"{DYNAMIC}Manifest": _anything,
    f"{DYNAMIC}Playbook": _anything,
    f"{DYNAMIC}Addresses": _anything,
    f"{DYNAMIC}Discovery": _anything,
    "pulumi:pulumi:Stack": _anything,
    "wws:infra:BootstrapHost": _anything,
    "wws:infra:BootstrapIdentity": _anything,
    "wws:infra:ConfiguredNode": _anything,
    "wws:infra:DiscoveryRecords": _anything,
    "wws:infra:Publisher": _anything,
    "wws:infra:Zone": _anything,
}


def _whole(resources: Sequence[Seen]) -> Iterator[str]:
    """What no resource can tell alone."""
    servers = [resource for resource in resources if resource.kind == SERVER]
    locations = [server.inputs["location"] for server in servers]
    if len(servers) < 3 or len(set(locations)) != len(locations):
        yield f"the servers are in {locations}: at least three, no two in one place"
    firewalls = {resource.id for resource in resources if resource.kind == FIREWALL}
    for server in servers:
        if not {str(int(id_)) for id_ in server.inputs.get("firewallIds") or []} <= firewalls:
            yield f"Server {server.name}: has a firewall that the stack does not know"
    for kind, what in ((f"{DYNAMIC}Seed", "identity"), (f"{DYNAMIC}SshHostKey", "host key")):
        names = {resource.name for resource in resources if resource.kind == kind}
        for server in servers:
            if server.name not in names:
                yield f"Server {server.name}: its {what} does not outlive it"


def _leaks(value: Any, secrets: Sequence[str], path: str) -> Iterator[str]:
    match value:
        case Secret():
            return
        case str() if any(secret in value for secret in secrets):
            yield path.removeprefix(".")
        case Mapping():
            for name, item in value.items():
                yield from _leaks(item, secrets, f"{path}.{name}")
        case list() | tuple():
            for item in value:
                yield from _leaks(item, secrets, path)
        case _:
            return
