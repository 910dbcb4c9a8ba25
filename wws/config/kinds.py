"""The kinds of values that settings take, each checked once, where it comes in.

The checks are shared by the file, the environment and the flags, so all three accept the same text. Lists may
be given as text, too: JSON, or separated by commas. What a value *means* is parsed again by the layer
that uses it; here only what could never be right is refused, while file and line are still known.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.publishers import parse_domain, parse_publisher_key
from wws.errors import WwsError
from wws.mesh.deny import parse_denied_name, parse_peer, parse_prefix
from wws.names.uri import PUBLIC_SWARM, parse_name

MAX_LIST = 1024
"""Most entries in one setting that is a list."""


def parse_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`IP:PORT` or `[IPv6]:PORT` as a pair; without a port `default_port`. Raises `ValueError`."""
    bracketed = re.match(r"\[([^\]]*)\](?::(\d{1,5}))?\Z", text)
    plain = re.match(r"([^:\[\]]*)(?::(\d{1,5}))?\Z", text)
    match = bracketed or plain
    host, port_text = (match[1], match[2]) if match else (text, None)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not IP:PORT") from None
    if (address.version == 6) != (bracketed is not None) and not (match is None and default_port is not None):
        raise ValueError(f"{text[:80]!r}: an IPv6 address with a port is written [IP]:PORT")
    if port_text is None:
        if default_port is None:
            raise ValueError(f"{text[:80]!r} lacks its port")
        return str(address), default_port
    if int(port_text) > 65535:
        raise ValueError(f"{port_text} is not a port")
    return str(address), int(port_text)


def _split(value: object) -> object:
    """A list from text: JSON when it looks like it, else separated by commas."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                raise ValueError("not a JSON list") from None
        else:
            value = [item.strip() for item in text.split(",") if item.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError("a list is expected")
    if len(value) > MAX_LIST:
        raise ValueError(f"{len(value)} entries; at most {MAX_LIST} are taken")
    return value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


def _endpoint(text: str) -> str:
    if text:
        parse_host_port(text)
    return text


def _dns_server(text: str) -> str:
    parse_host_port(text, 53)
    return text


def _https_url(text: str) -> str:
    if not re.match(r"https://[^\s/?#]+(/\S*)?\Z", text):
        raise ValueError(f"{text[:80]!r} is not an https:// address")
    return text


def _multiaddr(text: str) -> str:
    with _as_value_error():
        Multiaddr.parse(text)
    return text


def _publisher(text: str) -> str:
    with _as_value_error():
        parse_publisher_key(text)
    return text


def _domain(text: str) -> str:
    with _as_value_error():
        return parse_domain(text)


def _mesh_name(text: str) -> str:
    with _as_value_error():
        return parse_name(text)


@contextmanager
def _as_value_error() -> Iterator[None]:
    """What our own parsers refuse, as pydantic expects it."""
    try:
        yield
    except WwsError as error:
        raise ValueError(str(error)) from None


def _prefix(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(str(error)) from None


def denied_peer(text: str) -> str:
    """A PeerId of the deny list, in its one spelling. Raises `ValueError`."""
    with _as_value_error():
        return str(parse_peer(text))


def denied_prefix(text: str) -> str:
    """A network of the deny list. Raises `ValueError`."""
    with _as_value_error():
        return str(parse_prefix(text))


def denied_name(text: str) -> str:
    """A name of the deny list: `name`, or `name@swarm`. Raises `ValueError`."""
    with _as_value_error():
        name, swarm = parse_denied_name(text)
        name, swarm = parse_name(name), parse_name(swarm, "swarm")
        return name if swarm == PUBLIC_SWARM else f"{name}@{swarm}"


Count: TypeAlias = Annotated[int, BeforeValidator(_no_bool), Field(gt=0, le=2**53 - 1)]
"""How many of something: at least one."""
Size: TypeAlias = Count
"""Bytes."""
Seconds: TypeAlias = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False)]
Rate: TypeAlias = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, allow_inf_nan=False)]
"""Events a second."""
Number: TypeAlias = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=2**53 - 1)]
"""How many of something, none included."""

Endpoint: TypeAlias = Annotated[str, AfterValidator(_endpoint)]
"""`IP:PORT`; empty: off."""
Domain: TypeAlias = Annotated[str, AfterValidator(_domain)]
MeshName: TypeAlias = Annotated[str, AfterValidator(_mesh_name)]
Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_split)]
_Address: TypeAlias = Annotated[str, AfterValidator(_multiaddr)]
Addresses: TypeAlias = Annotated[tuple[_Address, ...], BeforeValidator(_split)]
_Publisher: TypeAlias = Annotated[str, AfterValidator(_publisher)]
Publishers: TypeAlias = Annotated[tuple[_Publisher, ...], BeforeValidator(_split)]
_DnsServer: TypeAlias = Annotated[str, AfterValidator(_dns_server)]
DnsServers: TypeAlias = Annotated[tuple[_DnsServer, ...], BeforeValidator(_split)]
_Url: TypeAlias = Annotated[str, AfterValidator(_https_url)]
Urls: TypeAlias = Annotated[tuple[_Url, ...], BeforeValidator(_split)]
_Prefix: TypeAlias = Annotated[str, AfterValidator(_prefix)]
Prefixes: TypeAlias = Annotated[tuple[_Prefix, ...], BeforeValidator(_split)]
_DeniedPeer: TypeAlias = Annotated[str, AfterValidator(denied_peer)]
DeniedPeers: TypeAlias = Annotated[tuple[_DeniedPeer, ...], BeforeValidator(_split)]
_DeniedPrefix: TypeAlias = Annotated[str, AfterValidator(denied_prefix)]
DeniedPrefixes: TypeAlias = Annotated[tuple[_DeniedPrefix, ...], BeforeValidator(_split)]
_DeniedName: TypeAlias = Annotated[str, AfterValidator(denied_name)]
DeniedNames: TypeAlias = Annotated[tuple[_DeniedName, ...], BeforeValidator(_split)]
