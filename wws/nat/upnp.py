"""What is said to a UPnP Internet gateway (UPnP Device Architecture 1.1, WANIPConnection 1 and 2).

    SSDP    M-SEARCH to 239.255.255.250:1900  ──►  LOCATION: where the description is
    HTTP    GET the description               ──►  XML: the services, and where each takes actions
    SOAP    POST an action                    ──►  XML: values, or a fault with a number

Everything in the answers is the word of whoever is on the local network. A URL that leads anywhere but to the
router's own IP is refused: else any neighbour could have us send requests to hosts of its choice. XML with a
document type is refused: there entities would come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import urljoin, urlsplit
from xml.parsers import expat
from xml.sax.saxutils import escape

from wws.errors import ParseError
from wws.nat.gateway_requests import (
    Address,
    Answer,
    AskAddress,
    LookUp,
    Mapped,
    MapPort,
    Refused,
    Request,
    Unmapped,
    UnmapPort,
)

SSDP_GROUP, SSDP_PORT = "239.255.255.250", 1900
DESCRIPTION = "WWS"
"""What the router shows beside a mapping of ours."""

_DEVICES = ("InternetGatewayDevice:2", "InternetGatewayDevice:1")
_SERVICES = ("WANIPConnection:2", "WANIPConnection:1", "WANPPPConnection:1")
_SERVICE = "urn:schemas-upnp-org:service:"
_MAX_TEXT = 1_024
"""Longest text of one element that is kept."""
_MAX_DEPTH = 32
_NUMBER = re.compile(r"\d{1,10}\Z", re.ASCII)
_FAULTS = {
    401: "unsupported_opcode",
    402: "permanent_only",  # "invalid arguments": so say old routers that know no lease
    501: "action_failed",
    606: "not_authorized",
    714: "no_such_mapping",
    718: "conflict",
    724: "same_ports_only",
    725: "permanent_only",
    728: "no_resources",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an HTTP request goes: to the router, whatever the URL was."""

    ip: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Service:
    """A connection to the Internet that takes actions."""

    endpoint: Endpoint
    kind: str
    """Its URN."""


def searches() -> list[bytes]:
    """The questions for a gateway, one for each version of the device."""
    return [
        (
            f'M-SEARCH * HTTP/1.1\r\nHOST: {SSDP_GROUP}:{SSDP_PORT}\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
            f"ST: urn:schemas-upnp-org:device:{device}\r\n\r\n"
        ).encode("ascii")
        for device in _DEVICES
    ]


def read_search_answer(packet: bytes, gateway: str) -> Endpoint:
    """Where the description is. Raises `ParseError`, also when that is not on the gateway."""
    try:
        lines = packet.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise ParseError("an SSDP answer is not ASCII") from None
    if not re.match(r"HTTP/1\.[01] 200( |\Z)", lines[0]):
        raise ParseError("not an SSDP answer")
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon and name.strip().lower() == "location":
            return _endpoint(value.strip(), gateway)
    raise ParseError("an SSDP answer without a location")


def read_description(body: bytes, origin: Endpoint, *, max_services: int) -> list[Service]:
    """The connections to the Internet in a description, those of the newest kind first.

    Raises `ParseError` when it is no XML. Services elsewhere than on the gateway are left out.
    """
    bases: list[str] = []
    found: list[dict[str, str]] = []

    def ended(path: tuple[str, ...], text: str) -> None:
        if path[-1] == "URLBase":
            bases.append(text)
        elif path[-1] == "service":
            found.append({})
        elif path[-2:-1] == ("service",):
            found[-1][path[-1]] = text

    # An element ends after its children: one entry is open all the time, and closed by </service>.
    found.append({})
    _read_xml(body, ended)
    base = f"http://{origin.ip}:{origin.port}{origin.path}"
    if bases and bases[0]:
        base = bases[0]
    services: list[Service] = []
    for kind in _SERVICES:
        for entry in found:
            if entry.get("serviceType") != _SERVICE + kind or len(services) >= max_services:
                continue
            try:
                endpoint = _endpoint(urljoin(base, entry["controlURL"]), origin.ip)
            except (KeyError, ValueError, ParseError):
                continue
            services.append(Service(endpoint, _SERVICE + kind))
    return services


def encode(request: Request, service: Service, *, client: str) -> tuple[Mapping[str, str], bytes]:
    """The headers and the body of the POST that asks for `request` on behalf of the IP `client`."""
    action, arguments = _action(request, client)
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in arguments)
    body = (
        '<?xml version="1.0"?>\r\n'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.kind}">{inner}</u:{action}></s:Body></s:Envelope>\r\n'
    )
    headers = {"SOAPAction": f'"{service.kind}#{action}"', "Content-Type": 'text/xml; charset="utf-8"'}
    return headers, body.encode("ascii")


def decode(request: Request, status: int, body: bytes, *, client: str) -> Answer:
    """What a router answered to `request`. Raises `ParseError` when it is no answer at all."""
    values: dict[str, str] = {}
    _read_xml(body, lambda path, text: values.setdefault(path[-1], text))
    if status != 200:
        number = _number(values, "errorCode")
        reason = _FAULTS.get(number, "action_failed")
        if reason == "permanent_only" and not (isinstance(request, MapPort) and request.lifetime):
            reason = "action_failed"
        return Refused(reason, None if isinstance(request, AskAddress) else request.port)
    match request:
        case AskAddress():
            return Address(_ip(values.get("NewExternalIPAddress", "")))
        case MapPort(port=port, external_port=external_port, lifetime=lifetime):
            return Mapped(port, external_port, None, lifetime)
        case UnmapPort(port=port):
            return Unmapped(port)
        case LookUp(port=port, external_port=external_port):
            held = (values.get("NewInternalClient"), _number(values, "NewInternalPort"))
            if held != (client, port.number):
                return Refused("conflict", port)
            return Mapped(port, external_port, None, 0)


def _action(request: Request, client: str) -> tuple[str, list[tuple[str, str]]]:
    if isinstance(request, AskAddress):
        return "GetExternalIPAddress", []
    # The order is that of the service's description: many routers read by position.
    mapping = [
        ("NewRemoteHost", ""),
        ("NewExternalPort", str(request.external_port)),
        ("NewProtocol", request.port.transport.upper()),
    ]
    match request:
        case MapPort(port=port, lifetime=lifetime):
            return "AddPortMapping", [
                *mapping,
                ("NewInternalPort", str(port.number)),
                ("NewInternalClient", client),
                ("NewEnabled", "1"),
                ("NewPortMappingDescription", DESCRIPTION),
                ("NewLeaseDuration", str(lifetime)),
            ]
        case UnmapPort():
            return "DeletePortMapping", mapping
        case LookUp():
            return "GetSpecificPortMappingEntry", mapping


def _endpoint(url: str, gateway: str) -> Endpoint:
    """The parts of a URL of the gateway. Raises `ParseError` for every other one."""
    if len(url) > _MAX_TEXT or not url.isascii() or not url.isprintable() or " " in url:
        raise ParseError("a URL of a UPnP device is malformed")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ParseError("a URL of a UPnP device is malformed") from None
    if parts.scheme != "http" or host != gateway or "@" in parts.netloc:
        raise ParseError("a UPnP device points to another host than the router")
    port = 80 if port is None else port
    if not 0 < port < 65536:
        raise ParseError("a URL of a UPnP device is malformed")
    return Endpoint(gateway, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _ip(text: str) -> str | None:
    """The address, or `None` for an empty one: no connection."""
    if not text:
        return None
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise ParseError("the external address of a UPnP device is none") from None


def _number(values: Mapping[str, str], name: str) -> int:
    text = values.get(name, "")
    return int(text) if _NUMBER.match(text) else -1


_Ended = Callable[[tuple[str, ...], str], object]


def _read_xml(body: bytes, ended: _Ended) -> None:
    """Call `ended` with the path and the text of each element, names without their prefixes, at its end."""
    parser = expat.ParserCreate()
    path: list[str] = []
    texts: list[list[str]] = []
    lengths: list[int] = []

    def start(name: str, _: object) -> None:
        if len(path) >= _MAX_DEPTH or len(name) > _MAX_TEXT:
            raise ParseError("XML of a UPnP device is nested too deep")
        path.append(name.rpartition(":")[2])
        texts.append([])
        lengths.append(0)

    def data(text: str) -> None:
        lengths[-1] += len(text)
        if lengths[-1] <= _MAX_TEXT:
            texts[-1].append(text)

    def end(_: str) -> None:
        ended(tuple(path), "".join(texts.pop()).strip())
        path.pop()
        lengths.pop()

    def doctype(*_: object) -> None:
        raise ParseError("XML of a UPnP device has a document type")

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError):  # the latter two: encodings that Python refuses
        raise ParseError("a UPnP device does not answer in XML") from None
