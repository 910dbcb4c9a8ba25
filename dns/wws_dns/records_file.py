"""`records.toml`: what is to be published, and through whom, written by hand.

    domain = "example.org"
    publishers = ["<64 hex digits>"]     # optional: the keys that hold from now on
    ttl = 300                            # optional
    lifetime_days = 30                   # optional
    key_files = ["publisher.key"]        # optional: instead of --key; relative to this file
    history = "records.history.json"     # optional: what was published; relative to this file
    resolvers = ["192.0.2.53"]           # optional: whom verify asks, three and more, IP[:PORT]
    authorities = ["192.0.2.1"]          # optional: the name servers, for a zone that nobody delegates

    [[node]]
    peer_id = "12D3KooW…"
    host = "boot1.example.org"
    port = 9000                          # optional
    transport = "both"                   # optional: both, tcp, quic
    addresses = ["192.0.2.1"]            # optional: publish A and AAAA for the host, too

    [provider]
    kind = "rfc2136"                     # or cloudflare, zone_file
    zone = "example.org"                 # optional: the domain
    server = "192.0.2.53"                # rfc2136: its primary, HOST[:PORT]
    tsig_file = "tsig.key"               # rfc2136; else $WWS_DNS_TSIG_FILE or $WWS_DNS_TSIG
    token_file = "token"                 # cloudflare; else $CLOUDFLARE_API_TOKEN
    path = "zone.json"                   # zone_file
    pid_file = "dns.pid"                 # zone_file, optional

No secret stands in it. An unknown key is refused with the nearest that there is.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wws.discovery.bundle import TransportMark
from wws.discovery.publishers import PublisherKey, parse_domain, parse_publisher_key
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws_dns.desired import (
    DEFAULT_LIFETIME_DAYS,
    DEFAULT_PORT,
    DEFAULT_TTL,
    Desired,
    DesiredMalformed,
    Node,
)

MAX_FILE: Final = 256 * 1024
"""Largest file that is read, in bytes."""

_TOP: Final = (
    "domain", "publishers", "ttl", "lifetime_days", "key_files", "history", "resolvers", "authorities",
    "node", "provider",
)  # fmt: skip
_NODE: Final = ("peer_id", "host", "port", "transport", "addresses")
_MARKS: Final[dict[str, TransportMark]] = {"both": "", "tcp": "/t", "quic": "/q"}
PROVIDER_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "rfc2136": ("kind", "zone", "server", "tsig_file"),
    "cloudflare": ("kind", "zone", "token_file"),
    "zone_file": ("kind", "zone", "path", "pid_file"),
}
"""Each kind of provider, and what may be said of it; as in the settings of a stack."""
_FORMERLY: Final = {"zone-file": "zone_file", "file": "path"}
"""What kinds and keys of the provider were called before, and still may be."""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Through whom is published. Paths are as they were written."""

    kind: str
    zone: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RecordsFile:
    """What the file says."""

    desired: Desired
    provider: ProviderSettings | None = None
    key_files: tuple[str, ...] = ()
    history: str | None = None
    resolvers: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()


def parse_records(data: bytes | str) -> RecordsFile:
    """The content of `records.toml`. Raises `DesiredMalformed`, which names what is wrong."""
    if len(data) > MAX_FILE:
        raise DesiredMalformed(f"The file is larger than {MAX_FILE} bytes.")
    try:
        text = data if isinstance(data, str) else data.decode()
        value: dict[str, object] = tomllib.loads(text)
    except RecursionError:
        raise DesiredMalformed("The file is nested too deeply.") from None
    except ValueError as error:  # of TOML, of UTF-8, and of digits beyond what Python turns into a number
        raise DesiredMalformed(f"The file is not TOML: {error}.") from None
    _known(value, _TOP, "the file")
    domain = _domain(value.get("domain"))
    nodes = value.get("node", [])
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise DesiredMalformed("node is a list of tables: write [[node]] above each.")
    keys = value.get("publishers")
    desired = Desired(
        domain,
        tuple(_node(node, number) for number, node in enumerate(nodes, 1)),
        _number(value, "ttl", DEFAULT_TTL),
        _number(value, "lifetime_days", DEFAULT_LIFETIME_DAYS),
        None if keys is None else parse_keys(_texts(value, "publishers")),
    )
    history = value.get("history")
    if history is not None and not isinstance(history, str):
        raise DesiredMalformed("history is the path of a file.")
    return RecordsFile(
        desired,
        _provider(value.get("provider"), domain),
        _texts(value, "key_files"),
        history,
        _texts(value, "resolvers"),
        _texts(value, "authorities"),
    )


def parse_keys(texts: Iterable[str]) -> tuple[PublisherKey, ...]:
    """Distinct publisher keys. Raises `DesiredMalformed`."""
    try:
        keys = tuple(parse_publisher_key(text) for text in texts)
    except ParseError as error:
        raise DesiredMalformed(f"publishers: {error}.") from None
    if len(set(keys)) != len(keys):
        raise DesiredMalformed("publishers: a key is there twice.")
    return keys


def _domain(value: object) -> str:
    if not isinstance(value, str):
        raise DesiredMalformed('The domain is missing: domain = "example.org"')
    try:
        return parse_domain(value)
    except ParseError as error:
        raise DesiredMalformed(f"domain: {error}.") from None


def _node(value: Mapping[str, object], number: int) -> Node:
    place = f"[[node]] number {number}"
    _known(value, _NODE, place)
    peer, host, transport = value.get("peer_id"), value.get("host"), value.get("transport", "both")
    if not isinstance(peer, str) or not isinstance(host, str):
        raise DesiredMalformed(f"{place} lacks its peer_id or its host.")
    if not isinstance(transport, str) or transport not in _MARKS:
        raise DesiredMalformed(f"{place}: transport is one of {', '.join(_MARKS)}.")
    try:
        peer_id = PeerId.parse(peer)
    except ParseError as error:
        raise DesiredMalformed(f"{place}: {error}.") from None
    return Node(
        peer_id, host, _number(value, "port", DEFAULT_PORT), _MARKS[transport], _texts(value, "addresses")
    )


def _provider(value: object, domain: str) -> ProviderSettings | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise DesiredMalformed("provider is a section: write [provider] above its keys.")
    settings: dict[str, object] = {
        _FORMERLY.get(str(name), str(name)): option for name, option in value.items()
    }
    kind = settings.get("kind")
    kind = _FORMERLY.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in PROVIDER_KEYS:
        raise DesiredMalformed(f"[provider]: kind is one of {', '.join(PROVIDER_KEYS)}.")
    _known(settings, PROVIDER_KEYS[kind], f"[provider] of kind {kind}")
    options: dict[str, str] = {}
    for name, option in settings.items():
        if not isinstance(option, str) or not option:
            raise DesiredMalformed(f"[provider]: {name} is a text.")
        options[name] = option
    options["kind"] = kind
    return ProviderSettings(kind, _domain(options.get("zone", domain)), options)


def _known(value: Mapping[str, object], names: tuple[str, ...], place: str) -> None:
    for name in value:
        if name not in names:
            close = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.6)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise DesiredMalformed(
                f"There is no {name[:80]!r} in {place}.{meant}", hint=f"Valid there: {', '.join(names)}"
            )


def _number(value: Mapping[str, object], name: str, default: int) -> int:
    number = value.get(name, default)
    if not isinstance(number, int) or isinstance(number, bool):
        raise DesiredMalformed(f"{name} is a whole number.")
    return number


def _texts(value: Mapping[str, object], name: str) -> tuple[str, ...]:
    found = value.get(name, [])
    texts = [text for text in found if isinstance(text, str)] if isinstance(found, list) else []
    if not isinstance(found, list) or len(texts) != len(found) or len(found) > 64:
        raise DesiredMalformed(f"{name} is a list of texts.")
    return tuple(texts)
