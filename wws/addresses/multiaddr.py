"""Multiaddrs of the kinds that WWS speaks (multiformats "multiaddr"; wire.md section 2).

    /ip4|ip6|dns|dns4|dns6/HOST /tcp/PORT            [/p2p/ID] [/p2p-circuit [/p2p/ID]]
    /ip4|ip6|dns|dns4|dns6/HOST /udp/PORT/quic-v1    [/p2p/ID] [/p2p-circuit [/p2p/ID]]
    /dnsaddr/HOST [transport as above]               [/p2p/ID]

A value is always well formed: addresses of other kinds (WebSocket, WebTransport, onion, …) are refused
where they come in, with `ParseError`, and the reader of a list skips them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias, cast

from wws.codec import varint
from wws.errors import ParseError
from wws.identity.peer_id import PeerId

HostKind: TypeAlias = Literal["ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr"]
Transport: TypeAlias = Literal["tcp", "quic-v1"]

MAX_TEXT = 1024
"""Longest text that is parsed, in characters."""
MAX_BYTES = 512
"""Longest binary form that is parsed."""

_CODES = {
    "ip4": 4, "tcp": 6, "ip6": 41, "dns": 53, "dns4": 54, "dns6": 55, "dnsaddr": 56,
    "udp": 273, "p2p-circuit": 290, "p2p": 421, "quic-v1": 461,
}  # fmt: skip
_NAMES = {code: name for name, code in _CODES.items()}
_HOST_KINDS = frozenset({"ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr"})
_WITHOUT_VALUE = frozenset({"quic-v1", "p2p-circuit"})
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")

_Part: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Multiaddr:
    """One address. `peer_id` is the peer it leads to; `relay_id` the relay on the way of a circuit."""

    host_kind: HostKind
    host: str
    """Dotted IPv4, compressed IPv6, or a lower-case DNS name."""
    port: int | None
    """1 to 65535, or 0 in a listen address; `None` only for `/dnsaddr` without a transport."""
    transport: Transport | None
    peer_id: PeerId | None = None
    is_circuit: bool = False
    relay_id: PeerId | None = None

    @classmethod
    def of(cls, ip: str, port: int, transport: Transport = "tcp", peer_id: PeerId | None = None) -> Multiaddr:
        """The address of an IP and port. Raises `ParseError` when either is malformed."""
        address = _parse_ip(ip)
        kind: HostKind = "ip4" if address.version == 4 else "ip6"
        return cls(kind, str(address), _check_port(port), transport, peer_id)

    @classmethod
    def parse(cls, text: str) -> Multiaddr:
        """From text. Raises `ParseError` saying what is wrong with it."""
        if len(text) > MAX_TEXT:
            raise ParseError(f"multiaddr of {len(text)} characters is too long")
        if not text.startswith("/"):
            raise ParseError(f"a multiaddr starts with '/': {text[:60]!r}")
        try:
            return _build(_text_parts(text))
        except ParseError as error:
            raise ParseError(f"{error} in multiaddr {text[:200]!r}") from None

    @classmethod
    def from_bytes(cls, data: bytes) -> Multiaddr:
        """From the binary form. Raises `ParseError`."""
        if len(data) > MAX_BYTES:
            raise ParseError(f"multiaddr of {len(data)} bytes is too long")
        return _build(_binary_parts(data))

    def to_bytes(self) -> bytes:
        """The binary form."""
        out = bytearray()
        for name, value in self._parts():
            out += varint.encode(_CODES[name])
            if name == "ip4" or name == "ip6":
                out += ipaddress.ip_address(value).packed
            elif name == "tcp" or name == "udp":
                out += int(value).to_bytes(2, "big")
            elif name == "p2p":
                out += varint.frame(PeerId.parse(value).to_bytes())
            elif name not in _WITHOUT_VALUE:
                out += varint.frame(value.encode("ascii"))
        return bytes(out)

    @property
    def is_ip(self) -> bool:
        """Whether the host is an IP address and needs no look-up."""
        return self.host_kind in ("ip4", "ip6")

    @property
    def relay(self) -> Multiaddr | None:
        """The address of the relay itself, with its PeerId, when this is a circuit address."""
        if not self.is_circuit:
            return None
        return Multiaddr(self.host_kind, self.host, self.port, self.transport, self.relay_id)

    def circuit(self) -> Multiaddr:
        """Through the relay that this address leads to: `…/p2p/RELAY/p2p-circuit`."""
        return replace(self, peer_id=None, is_circuit=True, relay_id=self.peer_id)

    def with_peer(self, peer_id: PeerId) -> Multiaddr:
        """The same address, leading to `peer_id`."""
        return replace(self, peer_id=peer_id)

    def without_peer(self) -> Multiaddr:
        """The same address without saying whom it leads to."""
        return replace(self, peer_id=None)

    def with_host(self, ip: str) -> Multiaddr:
        """The same address at an IP: what a look-up of its name found."""
        address = _parse_ip(ip)
        return replace(self, host_kind="ip4" if address.version == 4 else "ip6", host=str(address))

    def with_port(self, port: int) -> Multiaddr:
        """The same address at another port."""
        return replace(self, port=_check_port(port))

    def _parts(self) -> Iterator[_Part]:
        yield self.host_kind, self.host
        if self.transport == "tcp":
            yield "tcp", str(self.port)
        elif self.transport == "quic-v1":
            yield "udp", str(self.port)
            yield "quic-v1", ""
        if self.is_circuit:
            if self.relay_id is not None:
                yield "p2p", str(self.relay_id)
            yield "p2p-circuit", ""
        if self.peer_id is not None:
            yield "p2p", str(self.peer_id)

    def __str__(self) -> str:
        return "".join(f"/{name}/{value}" if value else f"/{name}" for name, value in self._parts())

    def __repr__(self) -> str:
        return f"Multiaddr({str(self)!r})"


def _text_parts(text: str) -> list[_Part]:
    words = text[1:].split("/")
    parts: list[_Part] = []
    index = 0
    while index < len(words):
        name = words[index]
        if name not in _CODES:
            raise ParseError(f"{name[:40]!r} is not a protocol that WWS speaks")
        if name in _WITHOUT_VALUE:
            parts.append((name, ""))
            index += 1
            continue
        if index + 1 >= len(words) or not words[index + 1]:
            raise ParseError(f"/{name} lacks its value")
        parts.append((name, words[index + 1]))
        index += 2
    return parts


def _binary_parts(data: bytes) -> list[_Part]:
    parts: list[_Part] = []
    offset = 0
    while offset < len(data):
        code, offset = varint.decode(data, offset)
        name = _NAMES.get(code)
        if name is None:
            raise ParseError(f"multiaddr protocol {code} is not one that WWS speaks")
        if name in _WITHOUT_VALUE:
            parts.append((name, ""))
            continue
        if name == "ip4":
            length = 4
        elif name == "ip6":
            length = 16
        elif name in ("tcp", "udp"):
            length = 2
        else:
            length, offset = varint.decode(data, offset, limit=MAX_BYTES)
        value = data[offset : offset + length]
        if len(value) != length:
            raise ParseError("multiaddr is cut short")
        offset += length
        parts.append((name, _binary_value(name, value)))
    return parts


def _binary_value(name: str, value: bytes) -> str:
    if name in ("ip4", "ip6"):
        return str(ipaddress.ip_address(value))
    if name in ("tcp", "udp"):
        return str(int.from_bytes(value, "big"))
    if name == "p2p":
        return str(PeerId.from_bytes(value))
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise ParseError("DNS name in a multiaddr is not ASCII") from None


def _build(parts: list[_Part]) -> Multiaddr:
    rest = parts
    if not rest or rest[0][0] not in _HOST_KINDS:
        raise ParseError("no host")
    host_kind = cast(HostKind, rest[0][0])
    host = _host(host_kind, rest[0][1])
    rest = rest[1:]
    port: int | None = None
    transport: Transport | None = None
    if rest and rest[0][0] == "tcp":
        port, transport, rest = _port(rest[0][1]), "tcp", rest[1:]
    elif len(rest) >= 2 and rest[0][0] == "udp" and rest[1][0] == "quic-v1":
        port, transport, rest = _port(rest[0][1]), "quic-v1", rest[2:]
    elif host_kind != "dnsaddr":
        raise ParseError("no transport: /tcp/PORT or /udp/PORT/quic-v1 is missing")
    first, rest = _take_peer(rest)
    if not rest:
        return Multiaddr(host_kind, host, port, transport, first)
    if rest[0][0] != "p2p-circuit" or host_kind == "dnsaddr":
        raise ParseError(f"/{rest[0][0]} is not expected there")
    target, rest = _take_peer(rest[1:])
    if rest:
        raise ParseError(f"/{rest[0][0]} is not expected there")
    return Multiaddr(host_kind, host, port, transport, target, True, first)


def _take_peer(parts: list[_Part]) -> tuple[PeerId | None, list[_Part]]:
    if parts and parts[0][0] == "p2p":
        return PeerId.parse(parts[0][1]), parts[1:]
    return None, parts


def _host(kind: HostKind, text: str) -> str:
    if kind in ("ip4", "ip6"):
        address = _parse_ip(text)
        if address.version != (4 if kind == "ip4" else 6):
            raise ParseError(f"{text[:60]!r} is not an address of /{kind}")
        return str(address)
    name = text.lower()
    if len(name) > 253 or not all(_LABEL.match(label) for label in name.split(".")):
        raise ParseError(f"{text[:80]!r} is not a DNS name")
    return name


@lru_cache(maxsize=4096)
def _parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if "%" in text:
        raise ParseError("an IPv6 zone has no place in a multiaddr")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ParseError(f"{text[:60]!r} is not an IP address") from None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or (text[0] == "0" and text != "0"):
        raise ParseError(f"{text[:20]!r} is not a port")
    return _check_port(int(text))


def _check_port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise ParseError(f"{port} is not a port")
    return port
