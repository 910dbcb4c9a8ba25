"""A cloud in a file, with Hetzner's rules as far as a stack can break them.

Engine, SDK and resource protocol are the real ones in these tests, the provider and the account are not: what
is here is what Hetzner's documentation and its provider's issues say about names, quotas, protection, and
addresses that are in use. What is not written here is accepted.

    with opened(path) as account:
        account.refuse["Server boot3.example.org"] = "resource_unavailable"

Everything is one JSON file under a lock, so a test can read and break the account while an engine runs.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import ipaddress
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

Props: TypeAlias = dict[str, Any]

SERVER = "hcloud:index/server:Server"
ADDRESS = "hcloud:index/primaryIp:PrimaryIp"
FIREWALL = "hcloud:index/firewall:Firewall"
SSH_KEY = "hcloud:index/sshKey:SshKey"

FORCE_NEW = {
    SERVER: ("image", "location", "datacenter", "sshKeys", "userData"),
    ADDRESS: ("type", "location", "datacenter", "assigneeType"),
    FIREWALL: (),
    SSH_KEY: ("publicKey",),
}
"""Properties whose change makes another thing, per kind."""

EU, US, ASIA = ("fsn1", "hel1", "nbg1"), ("ash", "hil"), ("sin",)
SOLD = {"cx23": EU, "cx33": EU, "cpx11": US, "cpx21": US, "cpx12": ASIA, "cpx22": (*EU, *ASIA)}
"""Server types, and where they are sold."""
IMAGES = ("debian-12", "debian-13", "ubuntu-24.04")
LONGEST_USER_DATA = 32 * 1024
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z"
)
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?\Z")


class Refused(Exception):
    """What the API says no to, with its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


@dataclass
class Thing:
    kind: str
    props: Props


@dataclass
class Account:
    """What there is, and what the test wants to go wrong."""

    next_id: int = 1001
    things: dict[str, Thing] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    """What changed something: verb, kind, name."""
    most_servers: int = 10
    refuse: dict[str, str] = field(default_factory=dict)
    """What cannot be made (`Server boot1.example.org`), and the API's code for it."""
    half: list[str] = field(default_factory=list)
    """What is made, and then its first action fails."""
    stall: list[str] = field(default_factory=list)
    """What is made, and then the answer never comes."""
    stalled: list[str] = field(default_factory=list)
    """That for which it did not."""

    def of(self, kind: str) -> dict[str, Thing]:
        return {id_: thing for id_, thing in self.things.items() if thing.kind == kind}

    def named(self, kind: str, name: str) -> tuple[str, Thing]:
        return next(item for item in self.of(kind).items() if item[1].props["name"] == name)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Account]:
    """The account in this file, under a lock; written back when the block ends, also by a refusal."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        state = json.loads(file.read() or "{}")
        things = {id_: Thing(**thing) for id_, thing in state.pop("things", {}).items()}
        account = Account(things=things, **state)
        try:
            yield account
        finally:
            text = json.dumps(asdict(account), indent=1)
            file.seek(0)
            file.truncate()
            file.write(text)


def label(kind: str, name: str) -> str:
    """How a test names a thing: `Server boot1.example.org`."""
    return f"{kind.rpartition(':')[2]} {name}"


def create(account: Account, kind: str, given: Props) -> tuple[str, Props]:
    """Make a thing; its id and all its properties. Raises Refused."""
    name = given["name"]
    _check(account, kind, given, None)
    if code := account.refuse.get(label(kind, name)):
        raise Refused(code, f"{name} cannot be made at this time")
    id_ = str(account.next_id)
    account.next_id += 1
    props = given | _computed(account, kind, given, int(id_))
    account.things[id_] = Thing(kind, props)
    account.calls.append(["create", kind, name])
    return id_, props


def update(account: Account, kind: str, id_: str, given: Props) -> Props:
    """Change a thing in place; all its properties. Raises Refused."""
    thing = _existing(account, id_)
    _check(account, kind, given, id_)
    thing.props |= given | _computed(account, kind, given, int(id_))
    account.calls.append(["update", kind, given["name"]])
    return thing.props


def delete(account: Account, id_: str) -> None:
    """Delete a thing; one that is gone is fine. Raises Refused."""
    thing = account.things.get(id_)
    if thing is None:
        return
    name = thing.props["name"]
    if thing.props.get("deleteProtection"):
        raise Refused("protected", f"deletion of {name} is protected")
    if thing.kind == ADDRESS and _server_with(account, int(id_)) is not None:
        raise Refused("must_be_unassigned", f"{name} is still assigned to a server")
    if thing.kind == FIREWALL and any(
        int(id_) in server.props["firewallIds"] for server in account.of(SERVER).values()
    ):
        raise Refused("resource_in_use", f"{name} is still applied to a server")
    del account.things[id_]
    account.calls.append(["delete", thing.kind, name])


def _existing(account: Account, id_: str) -> Thing:
    if id_ not in account.things:
        raise Refused("not_found", f"there is nothing with the id {id_}")
    return account.things[id_]


def _check(account: Account, kind: str, given: Props, id_: str | None) -> None:
    others = {other: thing for other, thing in account.of(kind).items() if other != id_}
    if any(thing.props["name"] == given["name"] for thing in others.values()):
        raise Refused("uniqueness_error", f"the name {given['name']} is already used")
    for label, value in given.get("labels", {}).items():
        if not _LABEL.match(value):
            raise Refused("invalid_input", f"the label {label} has the value {value!r}")
    if kind == SERVER:
        _check_server(account, given, id_)
    if kind == ADDRESS and given.get("autoDelete") and given.get("deleteProtection"):
        raise Refused("invalid_input", "an address that is deleted with its server cannot be protected")
    if kind == FIREWALL:
        for rule in given.get("rules", []):
            _check_rule(rule)
    if kind == SSH_KEY:
        base64.b64decode(given["publicKey"].split(" ")[1], validate=True)
        if any(thing.props["publicKey"] == given["publicKey"] for thing in others.values()):
            raise Refused("uniqueness_error", "SSH key with the same fingerprint already exists")


def _check_server(account: Account, given: Props, id_: str | None) -> None:
    if not _HOST_NAME.match(given["name"]):
        raise Refused("invalid_input", f"{given['name']!r} is no valid host name")
    if id_ is None and len(account.of(SERVER)) >= account.most_servers:
        raise Refused("resource_limit_exceeded", "server limit exceeded")
    if given.get("location") not in SOLD.get(given["serverType"], ()):
        raise Refused("invalid_input", f"{given['serverType']} is not sold in {given.get('location')}")
    if given.get("image") not in IMAGES:
        raise Refused("invalid_input", f"there is no image {given.get('image')!r}")
    if given.get("deleteProtection") != given.get("rebuildProtection"):
        raise Refused("invalid_input", "delete and rebuild protection must be the same")
    if len(given.get("userData", "").encode()) > LONGEST_USER_DATA:
        raise Refused("invalid_input", "user_data is too long")
    for firewall in given.get("firewallIds", []):
        if _existing(account, str(int(firewall))).kind != FIREWALL:
            raise Refused("not_found", f"firewall {firewall}")
    keys = {thing.props["name"] for thing in account.of(SSH_KEY).values()} | set(account.of(SSH_KEY))
    for key in given.get("sshKeys", []):
        if key not in keys:
            raise Refused("not_found", f"SSH key {key} not found")
    for net in given.get("publicNets", []):
        for family in ("ipv4", "ipv6"):
            if net.get(family):
                _check_assignment(account, given, id_, int(net[family]), family)


def _check_assignment(account: Account, given: Props, id_: str | None, number: int, family: str) -> None:
    address = _existing(account, str(number))
    if address.kind != ADDRESS or address.props["type"] != family:
        raise Refused("invalid_input", f"{number} is no {family} address")
    if address.props["location"] != given["location"]:
        raise Refused("invalid_input", f"{address.props['name']} is in another location than {given['name']}")
    holder = _server_with(account, number)
    if holder is not None and holder != id_:
        raise Refused("primary_ip_assigned", f"{address.props['name']} is already assigned to a server")


def _server_with(account: Account, number: int) -> str | None:
    for id_, server in account.of(SERVER).items():
        nets = server.props.get("publicNets", [])
        if any(int(net.get(family) or 0) == number for net in nets for family in ("ipv4", "ipv6")):
            return id_
    return None


def _check_rule(rule: Props) -> None:
    if rule["protocol"] in ("tcp", "udp") and not re.fullmatch(
        r"any|\d{1,5}(-\d{1,5})?", str(rule.get("port", ""))
    ):
        raise Refused("invalid_input", f"a rule for {rule['protocol']} needs a port")
    for source in rule.get("sourceIps", []):
        try:
            ipaddress.ip_network(source)  # strict: bits of a host are refused
        except ValueError as error:
            raise Refused("invalid_input", str(error)) from None


def _computed(account: Account, kind: str, given: Props, id_: int) -> Props:
    """What the cloud decides. Addresses follow from the id, each in a network of its own."""
    if kind == ADDRESS:
        if given["type"] == "ipv4":
            return {"ipAddress": f"198.18.{id_ % 256}.{10 + id_ % 200}", "ipNetwork": ""}
        network = ipaddress.IPv6Network((0x20010DB8 << 96 | id_ << 64, 64))
        return {"ipAddress": str(network[0]), "ipNetwork": str(network)}
    if kind == SERVER:
        net = given.get("publicNets", [{}])[0]
        four, six = (account.things.get(str(int(net.get(family) or 0))) for family in ("ipv4", "ipv6"))
        return {
            "ipv4Address": four.props["ipAddress"] if four else "",
            "ipv6Address": str(ipaddress.IPv6Network(six.props["ipNetwork"])[1]) if six else "",
            "ipv6Network": six.props["ipNetwork"] if six else "",
            "status": "running",
            "primaryDiskSize": 40,
        }
    return {}
