"""What is said to a UPnP gateway, and what is not believed of one."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import ParseError
from wws.nat import upnp
from wws.nat.gateway_requests import (
    Address,
    Answer,
    AskAddress,
    LookUp,
    Mapped,
    MapPort,
    Port,
    Refused,
    Request,
    Unmapped,
    UnmapPort,
)
from wws.nat.upnp import Endpoint, Service

ROUTER, ALICE = "192.168.1.1", "192.168.1.2"
TCP = Port("tcp", 4001)
ORIGIN = Endpoint(ROUTER, 5000, "/a/description.xml")
KIND = "urn:schemas-upnp-org:service:WANIPConnection:1"
SERVICE = Service(Endpoint(ROUTER, 5000, "/control"), KIND)


def answer_to_search(location: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", "CACHE-CONTROL: max-age=120", f"Location:  {location}", "EXT:", "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("location", "endpoint"),
    [
        ("http://192.168.1.1:5000/d.xml", Endpoint(ROUTER, 5000, "/d.xml")),
        ("http://192.168.1.1/d.xml?x=1", Endpoint(ROUTER, 80, "/d.xml?x=1")),
        ("http://192.168.1.1:5000", Endpoint(ROUTER, 5000, "/")),
    ],
)
def test_where_the_description_is(location: str, endpoint: Endpoint) -> None:
    assert upnp.read_search_answer(answer_to_search(location), ROUTER) == endpoint


@pytest.mark.parametrize(
    "location",
    [
        "http://192.168.1.9:5000/d.xml",
        "http://127.0.0.1:5000/d.xml",
        "http://192.168.1.1@192.168.1.9/d.xml",
        "http://alice@192.168.1.1/d.xml",
        "http://router.example/d.xml",
        "https://192.168.1.1/d.xml",
        "file:///etc/passwd",
        "http://192.168.1.1:0/d.xml",
        "http://192.168.1.1:99999/d.xml",
        "http://192.168.1.1:x/d.xml",
        "http://[::1/d.xml",
        "http://192.168.1.1/a b",
        "http://192.168.1.1/" + 1_024 * "a",
        "",
    ],
)
def test_no_url_leads_elsewhere(location: str) -> None:
    with pytest.raises(ParseError):
        upnp.read_search_answer(answer_to_search(location), ROUTER)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/\r\n\r\n",
        b"HTTP/1.1 404 No\r\nLOCATION: http://192.168.1.1/\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1/\xff\r\n\r\n",
    ],
)
def test_what_is_no_answer_to_a_search(packet: bytes) -> None:
    with pytest.raises(ParseError):
        upnp.read_search_answer(packet, ROUTER)


def test_the_search_is_that_of_the_specification() -> None:
    first, second = upnp.searches()
    assert first.startswith(b"M-SEARCH * HTTP/1.1\r\n")
    assert b'\r\nMAN: "ssdp:discover"\r\n' in first
    assert first.endswith(b"InternetGatewayDevice:2\r\n\r\n")
    assert second.endswith(b"InternetGatewayDevice:1\r\n\r\n")


def description(*services: tuple[str, str], base: str = "") -> bytes:
    listed = "".join(
        f"<service><serviceType>urn:schemas-upnp-org:service:{kind}</serviceType>"
        f"<controlURL>{url}</controlURL></service>"
        for kind, url in services
    )
    base = f"<URLBase>{base}</URLBase>" if base else ""
    return (
        f'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">{base}<device><deviceList>'
        "<device>"
        f"<serviceList>{listed}</serviceList></device></deviceList></device></root>"
    ).encode()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (description(("WANIPConnection:1", "/control")), [SERVICE]),
        (
            description(("WANIPConnection:1", "http://192.168.1.1:6000/c")),
            [Service(Endpoint(ROUTER, 6000, "/c"), KIND)],
        ),
        (description(("WANIPConnection:1", "c")), [Service(Endpoint(ROUTER, 5000, "/a/c"), KIND)]),
        (description(("WANIPConnection:1", "/control"), base="http://192.168.1.1:5000/"), [SERVICE]),
        # the newest kind first
        (
            description(("WANPPPConnection:1", "/p"), ("WANIPConnection:1", "/control"), ("Layer3:1", "/x")),
            [
                SERVICE,
                Service(Endpoint(ROUTER, 5000, "/p"), "urn:schemas-upnp-org:service:WANPPPConnection:1"),
            ],
        ),
        # elsewhere
        (description(("WANIPConnection:1", "http://192.168.1.9/admin")), []),
        (description(("WANIPConnection:1", "//192.168.1.9/admin")), []),
        (description(("WANIPConnection:1", "/admin"), base="http://192.168.1.9/"), []),
        (description(("WANIPConnection:1", "/control"), base="http://[/"), []),
        (b"<root/>", []),
    ],
)
def test_services(body: bytes, found: list[Service]) -> None:
    assert upnp.read_description(body, ORIGIN, max_services=4) == found


def test_at_most_so_many_services() -> None:
    body = description(*[("WANIPConnection:1", f"/{number}") for number in range(5)])
    assert len(upnp.read_description(body, ORIGIN, max_services=4)) == 4


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not XML",
        b"<root>",
        b'<!DOCTYPE root [<!ENTITY a "aaaa">]><root>&a;</root>',
        b'<?xml version="1.0" encoding="no-such-code"?><root/>',
        b"<a>" * 33 + b"</a>" * 33,
    ],
)
def test_what_is_no_description(body: bytes) -> None:
    with pytest.raises(ParseError):
        upnp.read_description(body, ORIGIN, max_services=4)


@pytest.mark.parametrize(
    ("request_", "action", "arguments"),
    [
        (AskAddress(), "GetExternalIPAddress", []),
        (
            MapPort(TCP, 4002, None, 7200),
            "AddPortMapping",
            [
                ("NewRemoteHost", ""), ("NewExternalPort", "4002"), ("NewProtocol", "TCP"),
                ("NewInternalPort", "4001"), ("NewInternalClient", ALICE), ("NewEnabled", "1"),
                ("NewPortMappingDescription", "WWS"), ("NewLeaseDuration", "7200"),
            ],
        ),
        (
            UnmapPort(Port("udp", 4001), 4002),
            "DeletePortMapping",
            [("NewRemoteHost", ""), ("NewExternalPort", "4002"), ("NewProtocol", "UDP")],
        ),
        (
            LookUp(TCP, 4002),
            "GetSpecificPortMappingEntry",
            [("NewRemoteHost", ""), ("NewExternalPort", "4002"), ("NewProtocol", "TCP")],
        ),
    ],
)  # fmt: skip
def test_actions(request_: Request, action: str, arguments: list[tuple[str, str]]) -> None:
    headers, body = upnp.encode(request_, SERVICE, client=ALICE)
    assert headers["SOAPAction"] == f'"{KIND}#{action}"'
    envelope = ElementTree.fromstring(body)
    call = envelope[0][0]
    assert call.tag == f"{{{KIND}}}{action}"
    assert [(argument.tag, argument.text or "") for argument in call] == arguments


def soap(inner: str) -> bytes:
    return (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
        f'<s:Body><u:Response xmlns:u="{KIND}">{inner}</u:Response></s:Body></s:Envelope>'
    ).encode()


def fault(number: object) -> bytes:
    return soap(f"<detail><UPnPError><errorCode>{number}</errorCode></UPnPError></detail>")


MAP = MapPort(TCP, 4002, None, 7200)
OUTSIDE = "<NewExternalIPAddress>198.51.100.7</NewExternalIPAddress>"
HELD = f"<NewInternalPort>4001</NewInternalPort><NewInternalClient>{ALICE}</NewInternalClient>"


@pytest.mark.parametrize(
    ("request_", "status", "body", "answer"),
    [
        (AskAddress(), 200, soap(OUTSIDE), Address("198.51.100.7")),
        (AskAddress(), 200, soap(""), Address(None)),
        (AskAddress(), 500, fault(501), Refused("action_failed")),
        (MAP, 200, soap(""), Mapped(TCP, 4002, None, 7200)),
        (MAP, 500, fault(718), Refused("conflict", TCP)),
        (MAP, 500, fault(725), Refused("permanent_only", TCP)),
        (MapPort(TCP, 4002, None, 0), 500, fault(725), Refused("action_failed", TCP)),
        (MAP, 500, fault("x"), Refused("action_failed", TCP)),
        (MAP, 404, b"<html/>", Refused("action_failed", TCP)),
        (UnmapPort(TCP, 4002), 200, soap(""), Unmapped(TCP)),
        (UnmapPort(TCP, 4002), 500, fault(402), Refused("action_failed", TCP)),
        (LookUp(TCP, 4002), 200, soap(HELD), Mapped(TCP, 4002, None, 0)),
        (LookUp(TCP, 4002), 200, soap(HELD.replace(ALICE, "192.168.1.3")), Refused("conflict", TCP)),
        (LookUp(TCP, 4002), 500, fault(714), Refused("no_such_mapping", TCP)),
    ],
)  # fmt: skip
def test_answers(request_: Request, status: int, body: bytes, answer: Answer) -> None:
    assert upnp.decode(request_, status, body, client=ALICE) == answer


@pytest.mark.parametrize("ip", ["router.example", "1.2.3", "2001:db8::1", "1.2.3.4.5"])
def test_an_external_address_is_an_ipv4_address(ip: str) -> None:
    with pytest.raises(ParseError):
        upnp.decode(
            AskAddress(), 200, soap(f"<NewExternalIPAddress>{ip}</NewExternalIPAddress>"), client=ALICE
        )


@given(st.binary(max_size=200) | st.text(max_size=100).map(soap))
def test_any_body_is_an_answer_or_refused(body: bytes) -> None:
    for request in (AskAddress(), MAP, LookUp(TCP, 4002)):
        try:
            upnp.decode(request, 200, body, client=ALICE)
        except ParseError:
            pass
    try:
        upnp.read_description(body, ORIGIN, max_services=4)
    except ParseError:
        pass


@given(st.binary(max_size=100) | st.text(max_size=60).map(str.encode))
def test_any_packet_leads_to_the_router_or_nowhere(packet: bytes) -> None:
    try:
        endpoint = upnp.read_search_answer(
            b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1" + packet, ROUTER
        )
    except ParseError:
        return
    assert endpoint.ip == ROUTER
