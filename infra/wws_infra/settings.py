"""What the operator has set for a stack, typed: everything under `wws:` in `Pulumi.<stack>.yaml`.

    provider: hcloud
    domain: example.org
    nodes: [{name: boot1, region: ash}, {name: boot2, region: nbg1}, {name: boot3, region: sin}]
    ssh_allow: [203.0.113.7/32]
    dns: {provider: cloudflare, zone: example.org, token_file: ~/cloudflare.token}
    hcloud: {server_type: cpx11}

Read once, whole, before the first resource is named: an unknown or renamed key, a bad value or a combination
that cannot be right ends the run with the nearest valid name and nothing changed. Each provider adds the
section of its own name, and what it wants to know of each node.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from wws.config.kinds import parse_host_port
from wws.discovery.publishers import parse_domain, parse_publisher_key
from wws.errors import LocalError, ParseError

NAMESPACE = "wws"
"""The project's name, and so the first part of each key in a stack's configuration."""
MAX_NODES = 16
"""Most nodes of a stack: a signed list holds no more entries."""
MAX_CONFIG = 256 * 1024
"""Longest value of one key, in characters."""

Json: TypeAlias = JsonValue


class SettingsRefused(LocalError):
    """The stack's configuration is not right. Nothing was changed."""

    code = "stack_settings"
    exit_code = 2
    hint = "pulumi config shows what is set; infra/README.md lists what may be"


class Section(BaseModel):
    """A part of the settings: nothing unknown in it, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _domain(text: str) -> str:
    try:
        return parse_domain(text)
    except ParseError as error:
        raise ValueError(str(error)) from None


def _publisher(text: str) -> str:
    try:
        parse_publisher_key(text)
    except ParseError as error:
        raise ValueError(str(error)) from None
    return text


def _allowed(text: str) -> str:
    if "%" in text:  # the zone of an IPv6 address may be any text, line feeds and all
        raise ValueError(f"{text[:80]!r} is no network")
    network = ipaddress.ip_network(text)
    if network.prefixlen == 0:
        raise ValueError(f"{text} is the whole world")
    return str(network)


def _expanded(path: Path) -> Path:
    return path.expanduser()


def _server(text: str) -> str:
    host, _ = parse_host_port(text, 53)
    if "%" in host:
        raise ValueError(f"{text[:80]!r} is no IP[:PORT]")
    ipaddress.ip_address(host)
    return text


def _key_path(path: Path) -> Path:
    """A path that means the same to SSH, whose options take `%` and blanks for something else."""
    if not _PLAIN_PATH.match(str(path)):
        raise ValueError(f"{str(path)[:80]!r} holds other characters than letters, digits and ._/@+~-")
    return path


def _variable(name: str) -> str:
    """One of the role's own. Those of Ansible could run programs here (`ansible_connection: local`)."""
    if not _VARIABLE.match(name):
        raise ValueError(f"{name[:80]!r} is no variable of the role: these begin with wws_")
    if name in RESERVED:
        raise ValueError(f"{name} is what the stack decides by its other settings")
    return name


RESERVED = frozenset(
    {
        "wws_version",
        "wws_release_archive",
        "wws_release_sha256",
        "wws_dns_servers",
        "wws_ssh_allow",
        "wws_metrics_allow",
        "wws_limits",
        "wws_identity",
        "wws_peer_id",
        "wws_network",
        "wws_network_file",
        "wws_witness_lost",
        "wws_report_dir",
    }
)
"""Variables of the role that other settings make; given here they would go round the checks of those."""
_VARIABLE = re.compile(r"wws_[a-z0-9_]{1,60}\Z")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/@+~-]{1,500}\Z")

Domain = Annotated[str, AfterValidator(_domain)]
AllowedNetwork = Annotated[str, AfterValidator(_allowed)]
"""A CIDR that is not everybody."""
LocalPath = Annotated[Path, AfterValidator(_expanded)]
"""A path on the operator's machine; `~` is the operator's home."""


class NodeSettings(Section):
    """One bootstrap node. Providers add what they need to know of each (`Provider.node_type`)."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$")
    """Names the host and its records (`<name>.<domain>`), and stands in every URN: it is for good."""
    region: str = ""
    """Where it is, in the provider's words. Regions of a stack differ wherever the provider knows regions."""
    port: int = Field(default=9000, ge=1, le=65535)
    """The port of the mesh, TCP and UDP."""
    identity_key_file: LocalPath | None = None
    """The key of a node that ran before, to be taken into the stack; without it the stack makes one."""


class ReleaseSettings(Section):
    """The release that hosts get."""

    version: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$")
    archive: LocalPath
    """On the operator's machine, as `packaging/release.py` made it."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class NoDns(Section):
    """The provider brings a DNS server of its own (`local`), or `wws-dns` publishes by hand."""

    provider: Literal["none"] = "none"


class CloudflareDns(Section):
    """The zone is at Cloudflare."""

    provider: Literal["cloudflare"]
    zone: Domain
    token_file: LocalPath | None = None
    """Holds the API token; without it `CLOUDFLARE_API_TOKEN` of the environment does."""


class Rfc2136Dns(Section):
    """The zone takes dynamic updates (RFC 2136), signed with TSIG (RFC 8945)."""

    provider: Literal["rfc2136"]
    zone: Domain
    server: str
    """`IP[:PORT]` of the primary."""
    tsig_file: LocalPath
    """The TSIG key on the operator's machine, in the form that `wws-dns` reads."""


class ZoneFileDns(Section):
    """The zone is a JSON file of `wws.testing.dns_server`, for trials."""

    provider: Literal["zone_file"]
    zone: Domain
    path: LocalPath
    pid_file: LocalPath | None = None
    """Whose process gets SIGHUP when the file has changed."""


DnsSettings = Annotated[NoDns | CloudflareDns | Rfc2136Dns | ZoneFileDns, Field(discriminator="provider")]

N = TypeVar("N", bound=NodeSettings)
P = TypeVar("P", bound=Section)


class StackSettings(Section, Generic[N, P]):
    """Everything that is set for a stack, defaults filled in."""

    provider: str = "local"
    """Where the nodes run: the name of a module of `wws_infra.providers`."""
    domain: Domain
    """The network's domain, and the zone below which its records lie."""
    nodes: tuple[N, ...] = Field(min_length=1, max_length=MAX_NODES)
    """The bootstrap nodes. Three is right: a majority of two, and one may be away."""
    section: P
    """What the section of the provider's own name says."""
    dns: DnsSettings = NoDns()
    dns_servers: tuple[Annotated[str, AfterValidator(_server)], ...] = ()
    """`IP[:PORT]` that nodes ask instead of the system's resolver."""
    ttl: int = Field(default=300, ge=30, le=86_400)
    lifetime_days: int = Field(default=30, ge=1, le=90)
    """How long a signed list holds."""
    entries_by_name: bool = False
    """The signed list names `<name>.<domain>` instead of addresses."""
    publisher_key_file: LocalPath | None = None
    """The publisher's key file; without it, and without `publishers`, the stack makes a key and keeps it."""
    publishers: tuple[Annotated[str, AfterValidator(_publisher)], ...] = ()
    """Public keys of publishers whose secret halves are kept elsewhere: then `signed` brings the list."""
    signed: LocalPath | None = None
    """A signed list made on another machine (`wws-dns sign`)."""
    force_unsafe: bool = False
    """Publishes also what is refused as unsafe. For one run; take it out again."""
    ssh_allow: tuple[AllowedNetwork, ...] = ()
    """Who may open SSH connections. Never everybody."""
    metrics_allow: tuple[AllowedNetwork, ...] = ()
    """Who may read /metrics over the network; empty: it stays on the host's loopback."""
    ssh_key_file: Annotated[LocalPath, AfterValidator(_key_path)] | None = None
    """The operator's SSH key; without it the agent's or the default ones."""
    release: ReleaseSettings | None = None
    limits: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")], bool | int | float | str] = Field(
        default_factory=dict
    )
    """`[limits]` of every node's config.toml."""
    variables: dict[Annotated[str, AfterValidator(_variable)], Json] = Field(default_factory=dict)
    """Further variables of the role `bootstrap_node` (`wws_…`), but for those that the stack sets itself."""

    @model_validator(mode="after")
    def _check(self) -> StackSettings[N, P]:
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names):
            raise ValueError("two nodes have one name")
        if self.publishers and self.publisher_key_file:
            raise ValueError("publishers is for keys kept elsewhere; publisher_key_file needs none")
        if bool(self.publishers) != bool(self.signed):
            raise ValueError("publishers and signed go together: the list was signed elsewhere")
        return self


AnySettings: TypeAlias = "StackSettings[NodeSettings, Section]"


def read_values(config: Mapping[str, str]) -> dict[str, Json]:
    """The values of our namespace in a stack's configuration. Structured ones come as JSON."""
    values: dict[str, Json] = {}
    for key, text in config.items():
        namespace, _, name = key.partition(":")
        if namespace != NAMESPACE:
            continue
        if len(text) > MAX_CONFIG:
            raise SettingsRefused(f"{key} is longer than {MAX_CONFIG} characters.")
        values[name] = _value(text)
    return values


def parse(
    values: Mapping[str, Json], node_type: type[N], section_type: type[P], providers: tuple[str, ...]
) -> StackSettings[N, P]:
    """The settings in `values`, for the provider whose types these are. Raises `SettingsRefused`."""
    provider = values.get("provider", "local")
    known = sorted({*StackSettings.model_fields, str(provider)} - {"section"})
    for key in values:
        if key in providers and key != provider:
            raise SettingsRefused(
                f"{NAMESPACE}:{key} is for the provider {key}, and this stack has {provider}."
            )
        if key not in known:
            raise SettingsRefused(f"There is no setting {NAMESPACE}:{key}{_meant(key, known)}")
    members = {key: value for key, value in values.items() if key != provider}
    model = StackSettings[node_type, section_type]  # type: ignore[valid-type]
    try:
        return model.model_validate({**members, "section": values.get(str(provider), {})})
    except ValidationError as error:
        raise SettingsRefused(_story(error, str(provider), node_type, section_type)) from None


def _value(text: str) -> Json:
    """Pulumi hands on every value as text; what is an object, list, number or truth value is JSON."""
    if re.match(r"[\[{]|-?\d+(\.\d+)?\Z|(true|false)\Z", text):
        try:
            return typing.cast("Json", json.loads(text))
        except ValueError:
            return text
    return text


def _story(
    error: ValidationError, provider: str, node_type: type[NodeSettings], section_type: type[Section]
) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        place = [str(part) for part in item["loc"]]
        shown = ".".join(provider if part == "section" else part for part in place)
        if item["type"] == "extra_forbidden":
            fields = _fields_at(place[:-1], node_type, section_type)
            lines.append(f"There is no setting {NAMESPACE}:{shown}{_meant(place[-1], fields)}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{NAMESPACE}:{shown}: {message}." if shown else f"{message}.")
    return "\n".join(lines)


def _fields_at(place: list[str], node_type: type[NodeSettings], section_type: type[Section]) -> list[str]:
    table: dict[str, type[Section]] = {
        "nodes": node_type,
        "section": section_type,
        "release": ReleaseSettings,
        "dns.none": NoDns,
        "dns.cloudflare": CloudflareDns,
        "dns.rfc2136": Rfc2136Dns,
        "dns.zone_file": ZoneFileDns,
    }
    for depth in (2, 1):
        found = table.get(".".join(place[:depth]))
        if found is not None:
            return list(found.model_fields)
    return list(StackSettings.model_fields)


def _meant(word: str, valid: list[str]) -> str:
    """`; did you mean …?`, also for those who write ttlSeconds or ssh-allow."""
    plain = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", word).lower().replace("-", "_")
    longer = [name for name in valid if plain.startswith(f"{name}_") or name.startswith(f"{plain}_")]
    close = longer[:1] or difflib.get_close_matches(plain, valid, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f". Valid here: {', '.join(sorted(valid))}"
