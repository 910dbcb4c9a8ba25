"""The inventory: which bootstrap nodes there are, and how an operator's machine gets to each of them.

The stack writes it (output `inventory`), `wws-ops` and the playbooks read it. It is JSON, holds no secret,
and nothing in it is asked of the network:

    {"schema": 1, "domain": "example.org", "network": "example.org#<key>", "dns_servers": [],
     "ssh_key_file": null,
     "hosts": [{"name": "one", "address": "192.0.2.1", "peer_id": "12D3KooW…", "multiaddrs": ["/ip4/…"],
                "region": "ash", "ssh_user": "root", "ssh_port": 22, "host_key": "ssh-ed25519 AAAA…",
                "managed_by": "ssh", "home": "/var/lib/wws", "node": "bootstrap", "http": "127.0.0.1:9371"}]}

Reading is strict: a member that is unknown, missing or of another form is refused before anything is done,
with its place. All values end up in files of SSH and Ansible, so none may hold what has a meaning there.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.publishers import parse_domain
from wws.errors import LocalError, WwsError
from wws.identity.peer_id import PeerId
from wws.rpc.codes import Exit
from wws.runtime.machine_errors import reading_failed
from wws.runtime.whole_files import write_whole

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
"""Any JSON value: what playbooks take and give."""

SCHEMA: Final = 1
MAX_INVENTORY: Final = 256 * 1024
"""Largest inventory that is read, in bytes."""
MAX_HOSTS: Final = 64
MAX_ADDRESSES: Final = 16
"""Most multiaddrs of a host, and most DNS servers."""
MAX_TEXT: Final = 1_024
"""Longest value, in characters."""
DEFAULT_HOME: Final = "/var/lib/wws"
DEFAULT_NODE: Final = "bootstrap"
DEFAULT_HTTP: Final = "127.0.0.1:9371"
GROUP: Final = "bootstrap"
"""The group of hosts in Ansible's inventory."""

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?\Z")
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?\Z|::[0-9a-f]{1,4}\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_REGION = re.compile(r"[A-Za-z0-9 ._/-]{0,64}\Z")
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]{1,60}\Z")
_PATH = re.compile(r"/[A-Za-z0-9._/ @+~-]{0,500}\Z")
_KEY_PATH = re.compile(r"[A-Za-z0-9._/@+~-]{1,500}\Z")
_NODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_ENDPOINT = re.compile(r"(\[[0-9a-f:]{2,45}\]|[A-Za-z0-9.-]{1,253}):[0-9]{1,5}\Z")
_NETWORK = re.compile(r"[a-z0-9.-]{1,253}(#[A-Za-z0-9:,_-]{1,700})?\Z|[A-Za-z0-9._/-]{1,500}\Z")
_SERVER = re.compile(r"([0-9.]{7,15}|[0-9a-f:]{2,45})(:[0-9]{1,5})?\Z|\[[0-9a-f:]{2,45}\](:[0-9]{1,5})?\Z")
_TEMPLATE = re.compile(r"\{[{%#]")


class InventoryMalformed(LocalError):
    """The inventory is not of the form it must have."""

    code = "inventory_malformed"
    exit_code = Exit.USAGE
    hint = "It is the stack's output: pulumi stack output inventory --json > inventory.json"


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One bootstrap node, and how to get to it."""

    name: str
    address: str
    """IP address or name that SSH connects to."""
    peer_id: str
    multiaddrs: tuple[str, ...]
    """Where the mesh dials it, each with or without `/p2p/…`."""
    region: str = ""
    ssh_user: str = "root"
    ssh_port: int = 22
    host_key: str = ""
    """The only key that is believed: `ssh-ed25519 AAAA…`. Empty: not known yet, so no connection is made."""
    managed_by: Literal["ssh", "local"] = "ssh"
    """`local`: a process of this user on this machine, reached through its home."""
    home: str = DEFAULT_HOME
    node: str = DEFAULT_NODE
    http: str = DEFAULT_HTTP
    """`IP:PORT` of health and metrics, as seen on the host; empty: none."""

    @property
    def is_local(self) -> bool:
        return self.managed_by == "local"

    @property
    def known_host(self) -> str:
        """The line of a known_hosts file, or empty where the key is not known."""
        if not self.host_key:
            return ""
        place = self.address if self.ssh_port == 22 else f"[{self.address}]:{self.ssh_port}"
        return f"{place} {self.host_key}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """All nodes of a network."""

    domain: str
    network: str
    """NET as it is typed: `<domain>#<key>`, a path, or a bare domain."""
    hosts: tuple[HostEntry, ...]
    dns_servers: tuple[str, ...] = ()
    ssh_key_file: str | None = None
    """The private key to log in with; without one SSH looks where it always does."""

    @classmethod
    def parse(cls, text: str | bytes) -> Inventory:
        """The inventory in this JSON. Raises `InventoryMalformed` with the place of the mistake."""
        if len(text) > MAX_INVENTORY:
            raise InventoryMalformed(f"The inventory is larger than {MAX_INVENTORY} bytes.")
        try:
            value = json.loads(text, object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise InventoryMalformed(f"The inventory is no JSON: {error}") from None
        members = _members(value, cls, "the inventory", extra=("schema",), required=("schema",))
        if members.get("schema") != SCHEMA:
            raise InventoryMalformed(
                f"The inventory has schema {str(members.get('schema'))[:40]!r}, this program reads {SCHEMA}."
            )
        hosts = members["hosts"]
        if not isinstance(hosts, list) or len(hosts) > MAX_HOSTS:
            raise InventoryMalformed(f"hosts: a list of at most {MAX_HOSTS} is needed")
        entries = tuple(_parse_host(host, f"hosts[{index}]") for index, host in enumerate(hosts))
        for what in ("name", "peer_id"):
            _refuse_twice(what, [getattr(entry, what) for entry in entries])
        key_file = members.get("ssh_key_file")
        try:
            domain = parse_domain(_text(members["domain"], "domain")) if members["domain"] else ""
        except WwsError as error:
            raise InventoryMalformed(f"domain: {error}") from None
        return cls(
            domain=domain,
            network=_matching(members["network"], _NETWORK, "network"),
            hosts=entries,
            dns_servers=tuple(
                _matching(one, _SERVER, "dns_servers")
                for one in _list(members.get("dns_servers", []), "dns_servers")
            ),
            ssh_key_file=None if key_file is None else _matching(key_file, _KEY_PATH, "ssh_key_file"),
        )

    @classmethod
    def read(cls, path: Path) -> Inventory:
        """The inventory in this file. Raises `InventoryMalformed`, `CannotRead`."""
        try:
            with open(path, "rb") as file:
                return cls.parse(file.read(MAX_INVENTORY + 1))
        except OSError as error:
            raise reading_failed(path, error) from error

    def to_json(self) -> str:
        """The text that `parse` reads, the same for the same inventory."""
        members: dict[str, Json] = {"schema": SCHEMA, **_to_members(self)}
        members["hosts"] = [_to_members(host) for host in self.hosts]
        return json.dumps(members, indent=1) + "\n"

    def host(self, name: str) -> HostEntry:
        """The host of that name. Raises `UnknownHost` with the nearest name."""
        found = next((host for host in self.hosts if host.name == name), None)
        if found is None:
            raise UnknownHost(name, [host.name for host in self.hosts])
        return found

    def choose(self, names: Iterable[str]) -> tuple[HostEntry, ...]:
        """The hosts of these names, all of them for none; each once, in the inventory's order."""
        wanted = {self.host(name).name for name in names}
        return tuple(host for host in self.hosts if not wanted or host.name in wanted)

    def write_ansible(self, folder: Path, *, extra: Mapping[str, Mapping[str, Json]] | None = None) -> Path:
        """Write `folder/hosts.json`, an inventory of Ansible, and `folder/known_hosts`; both 0600.

        `extra` holds further variables by host; it is taken literally, never as a template. Hosts that are
        processes of this machine are left out, for there is nothing to log in to. Whoever uses the file
        believes the host keys in the inventory and no others. Returns the path of the inventory.
        Raises `UnknownHost`, `MachineError`.
        """
        known_hosts = folder / "known_hosts"
        lines = [host.known_host for host in self.hosts if host.known_host and not host.is_local]
        write_whole(known_hosts, "".join(f"{line}\n" for line in lines).encode(), durable=False)
        variables = {host.name: self._ansible_host(host) for host in self.hosts if not host.is_local}
        for name, further in (extra or {}).items():
            if name not in variables:
                raise UnknownHost(name, list(variables))
            variables[name] |= {variable: literal(value) for variable, value in further.items()}
        hosts: dict[str, Json] = {name: {**values} for name, values in variables.items()}
        everywhere: dict[str, Json] = {
            "ansible_ssh_common_args": " ".join(f"-o {option}" for option in ssh_options(known_hosts)),
            "ansible_python_interpreter": "auto_silent",
        }
        if self.ssh_key_file is not None:
            everywhere["ansible_ssh_private_key_file"] = self.ssh_key_file
        path = folder / "hosts.json"
        tree = {"all": {"children": {GROUP: {"hosts": hosts, "vars": everywhere}}}}
        write_whole(path, json.dumps(tree, indent=1).encode() + b"\n", durable=False)
        return path

    @staticmethod
    def _ansible_host(host: HostEntry) -> dict[str, Json]:
        return {
            "ansible_host": host.address,
            "ansible_port": host.ssh_port,
            "ansible_user": host.ssh_user,
            "ansible_become": host.ssh_user != "root",
            "wws_peer_id": host.peer_id,
            "node_multiaddrs": list(host.multiaddrs),
        }


class UnknownHost(LocalError):
    """The inventory has no host of this name."""

    code = "host_unknown"
    exit_code = Exit.NOT_FOUND

    def __init__(self, name: str, known: list[str]) -> None:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known) or 'none'}."
        super().__init__(f"The inventory has no host {name[:80]!r}.", hint=hint)


def ssh_options(known_hosts: Path) -> tuple[str, ...]:
    """Options with which `ssh` believes these keys and no others, asks nobody, and forwards nothing."""
    return (
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={known_hosts}",
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
        "BatchMode=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ConnectTimeout=10",
        "ServerAliveInterval=10",
        "ServerAliveCountMax=3",
    )


def literal(value: Json) -> Json:
    """The value for Ansible, nothing of it read as a template: its word for that is `__ansible_unsafe`."""
    match value:
        case str() if _TEMPLATE.search(value):
            return {"__ansible_unsafe": value}
        case list():
            return [literal(one) for one in value]
        case dict():
            return {name: literal(one) for name, one in value.items()}
        case _:
            return value


def _parse_host(value: object, where: str) -> HostEntry:
    members = _members(value, HostEntry, where)
    peer_id = _text(members["peer_id"], f"{where}.peer_id")
    multiaddrs = [
        _text(one, f"{where}.multiaddrs") for one in _list(members["multiaddrs"], f"{where}.multiaddrs")
    ]
    try:
        PeerId.parse(peer_id)
        for text in multiaddrs:
            if Multiaddr.parse(text).peer_id not in (None, PeerId.parse(peer_id)):
                raise InventoryMalformed(f"{where}.multiaddrs: {text[:200]} is an address of another peer")
    except InventoryMalformed:
        raise
    except WwsError as error:
        raise InventoryMalformed(f"{where}: {error}") from None
    managed_by = members.get("managed_by", "ssh")
    if managed_by not in ("ssh", "local"):
        raise InventoryMalformed(f"{where}.managed_by: 'ssh' or 'local', not {str(managed_by)[:40]!r}")
    port = members.get("ssh_port", 22)
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65_535:
        raise InventoryMalformed(f"{where}.ssh_port: a number from 1 to 65535 is needed")
    http = _text(members.get("http", DEFAULT_HTTP), f"{where}.http")
    return HostEntry(
        name=_matching(members["name"], _HOST_NAME, f"{where}.name"),
        address=_matching(members["address"], _ADDRESS, f"{where}.address"),
        peer_id=peer_id,
        multiaddrs=tuple(multiaddrs),
        region=_matching(members.get("region", ""), _REGION, f"{where}.region"),
        ssh_user=_matching(members.get("ssh_user", "root"), _USER, f"{where}.ssh_user"),
        ssh_port=port,
        host_key=_host_key(members.get("host_key", ""), f"{where}.host_key"),
        managed_by=managed_by,
        home=_matching(members.get("home", DEFAULT_HOME), _PATH, f"{where}.home"),
        node=_matching(members.get("node", DEFAULT_NODE), _NODE, f"{where}.node"),
        http=_matching(http, _ENDPOINT, f"{where}.http") if http else "",
    )


def _host_key(value: object, where: str) -> str:
    """Type and key, without a comment; empty for one that is not known."""
    text = _text(value, where)
    if not text:
        return ""
    kind, _, rest = text.strip().partition(" ")
    blob = rest.split(" ", 1)[0]
    try:
        decoded = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    # RFC 4253, section 6.6: the key begins with its own type, as a string.
    if not _KEY_TYPE.match(kind) or decoded[4 : 4 + len(kind)] != kind.encode():
        raise InventoryMalformed(f"{where}: this is no public key of a host (`ssh-ed25519 AAAA…`)")
    return f"{kind} {blob}"


def _members(
    value: object,
    kind: type[object],
    where: str,
    *,
    extra: tuple[str, ...] = (),
    required: tuple[str, ...] = (),
) -> dict[str, object]:
    """The members of an object, all that must be there and none that may not. Named as the fields are."""
    if not isinstance(value, dict):
        raise InventoryMalformed(f"{where}: an object is needed")
    known = [field.name for field in fields(cast("type[HostEntry]", kind))]
    for name in value:
        if name not in (*known, *extra):
            near = difflib.get_close_matches(name, [*known, *extra], 1)
            hint = f"Did you mean {near[0]!r}?" if near else None
            raise InventoryMalformed(f"{where}: there is no member {name[:80]!r}", hint=hint)
    needed = {
        "Inventory": ("domain", "network", "hosts"),
        "HostEntry": ("name", "address", "peer_id", "multiaddrs"),
    }
    for name in (*required, *needed[kind.__name__]):
        if name not in value:
            raise InventoryMalformed(f"{where}: {name!r} is missing")
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands there twice")
    return members


def _refuse_twice(what: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise InventoryMalformed(f"hosts: {what} {value} is there twice")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise InventoryMalformed(f"{where}: a printable text of at most {MAX_TEXT} characters is needed")
    return value


def _matching(value: object, form: re.Pattern[str], where: str) -> str:
    text = _text(value, where)
    if not form.match(text):
        raise InventoryMalformed(f"{where}: {text[:80]!r} is not of the form it must have")
    return text


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list) or len(value) > MAX_ADDRESSES:
        raise InventoryMalformed(f"{where}: a list of at most {MAX_ADDRESSES} is needed")
    return value


def _to_members(value: Inventory | HostEntry) -> dict[str, Json]:
    """The fields by name; tuples of texts become lists."""
    members: dict[str, Json] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if isinstance(item, tuple):
            members[field.name] = [one for one in item if isinstance(one, str)]
        else:
            members[field.name] = item
    return members
