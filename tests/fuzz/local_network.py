"""Routers and local HTTP: PCP, NAT-PMP, UPnP, the head of a request, and the RPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from functools import cache
from typing import cast

import h11

from tests.fuzz.machines import pieces
from tests.fuzz.target import Form, Target
from wws.errors import ParseError
from wws.nat import nat_pmp, pcp, upnp
from wws.nat.gateway_requests import AskAddress, LookUp, MapPort, Port, UnmapPort
from wws.nat.upnp import Endpoint, read_description, read_search_answer
from wws.rpc.access import Access
from wws.rpc.agents import AgentBook, AgentsConfig
from wws.rpc.methods import METHODS, POLICIES
from wws.rpc.new_names import NewNames
from wws.rpc.params import InvalidParams, parse_params
from wws.rpc.signed import NonceWindowFull, Signed, SignedConfig, SignedRequests, Unproven
from wws.rpc.tokens import TokenBook, TokensConfig
from wws.rpc.wire import Batch, LineSplitter, NotJsonRpc, Request, WireConfig, parse_line
from wws.runtime import state_files
from wws.runtime.http_server import Answer, HttpConfig, HttpServer
from wws.runtime.nat import upnp as upnp_http
from wws.runtime.nat.upnp import UpnpConfig
from wws.testing.names import person
from wws.testing.rpc import NOW_MS, line, make_access, registration, signed_request

PORT = Port("tcp", 9000)
NONCE = b"n" * 12
GATEWAY = "192.168.0.1"
REQUESTS = (AskAddress(), MapPort(PORT, 9000, None, 60), UnmapPort(PORT, 9000), LookUp(PORT, 9000))


def at_once(coroutine: Coroutine[object, None, object]) -> object:
    """The result of a coroutine that has all it waits for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    return None


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.close()  # nothing runs on it: readers only want to know one
    return loop


def reader_of(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(loop=_loop())
    reader.feed_data(data)
    reader.feed_eof()
    return reader


# Routers


def _pcp_answers() -> list[bytes]:
    head = bytes([2, 0x81, 0, 0]) + (3_600).to_bytes(4, "big") + (77).to_bytes(4, "big") + bytes(12)
    body = (
        NONCE
        + bytes([6, 0, 0, 0])
        + (9000).to_bytes(2, "big") * 2
        + bytes(10)
        + b"\xff\xff"
        + bytes([203, 0, 113, 7])
    )
    return [
        head + body,
        bytes([2, 0x80]) + head[2:],
        bytes([2, 0x81, 0, 8]) + (head + body)[4:],
        bytes([0, 0x80, 0, 1]),
    ]


def _nat_pmp_answers() -> list[bytes]:
    mapped = (
        bytes([0, 130, 0, 0])
        + (77).to_bytes(4, "big")
        + (9000).to_bytes(2, "big") * 2
        + (3600).to_bytes(4, "big")
    )
    return [bytes([0, 128, 0, 0, 0, 0, 0, 7, 203, 0, 113, 7]), mapped, bytes([0, 129, 0, 2]) + mapped[4:]]


DESCRIPTION = (
    b'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><URLBase>http://192.168.0.1:5000/</URLBase>'
    b"<device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"
    b"<controlURL>/ctl/IPConn</controlURL></service></serviceList></device></root>"
)


def _envelope(*members: tuple[str, str]) -> bytes:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in members)
    return f'<s:Envelope xmlns:s="x"><s:Body><u:R xmlns:u="y">{inner}</u:R></s:Body></s:Envelope>'.encode()


ENVELOPES = [
    _envelope(("NewExternalIPAddress", "203.0.113.7")),
    _envelope(("NewInternalClient", "192.168.0.7"), ("NewInternalPort", "9000")),
    _envelope(("errorCode", "718")),
    _envelope(),
    b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    b'<?xml version="1.0" encoding="utf-16"?><a/>',
]


def _soap(data: bytes) -> None:
    for status in (200, 500):
        upnp.decode(REQUESTS[len(data) % 4], status, data, client="192.168.0.7")


def _ssdp_answers() -> list[bytes]:
    return [
        b"HTTP/1.1 200 OK\r\nST: x\r\nLocation: http://192.168.0.1:5000/rootDesc.xml\r\n\r\n",
        b"HTTP/1.0 200\r\nLOCATION:http://192.168.0.1/\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: http://[::1]:80/x?y#z\r\n",
    ]


def _endpoint(data: bytes) -> None:
    assert read_search_answer(data, GATEWAY).ip == GATEWAY


def _description(data: bytes) -> None:
    for service in read_description(data, Endpoint(GATEWAY, 5000, "/"), max_services=4):
        assert service.endpoint.ip == GATEWAY


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def _http_answers() -> list[bytes]:
    return [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED,
        b"HTTP/1.0 500 Bad\r\n\r\nbody to the end",
    ]


def _http_answer(data: bytes) -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    at_once(upnp_http._answer(connection, reader_of(data), UpnpConfig()))


# HTTP to us


class _Writer:
    """Where an answer goes."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        """Nothing is in the way."""


async def _page() -> Answer:
    return Answer(b"fine\n")


@cache
def _server() -> HttpServer:
    return HttpServer({"/": _page, "/health": _page}, HttpConfig(), lambda _: None)


def _heads() -> list[bytes]:
    return [
        b"GET /health HTTP/1.1\r\nHost: localhost:9371\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: [::1]:9371\r\nOrigin: http://[::1]:9371\r\n\r\n",
        b"GET /?a=b HTTP/1.0\r\nhost:127.0.0.1\r\nAccept: */*\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]


def _head(data: bytes) -> None:
    writer = _Writer()
    at_once(_server()._converse(reader_of(data), cast("asyncio.StreamWriter", writer)))
    assert not writer.written or writer.written.startswith(b"HTTP/1.1 ")


# RPC

WIRE = WireConfig()


@cache
def lines() -> list[bytes]:
    signed = {
        "agent_id": "did:swarm:" + "0" * 64,
        "timestamp": "1790000000000",
        "nonce": "00" * 8,
        "signature": "AA==",
    }
    values: list[object] = [
        {"jsonrpc": "2.0", "id": 1, "method": "swarm.status", "params": {}},
        {
            "jsonrpc": "2.0",
            "id": "a",
            "method": "swarm.ping",
            "params": {"target": "alice", "count": 3},
            "token": "t",
        },
        {"jsonrpc": "2.0", "method": "swarm.peers"},
        {"jsonrpc": "2.0", "id": 2, "method": "swarm.resolve_name", "params": ["alice"], **signed},
        [{"jsonrpc": "2.0", "id": n, "method": "swarm.status"} for n in range(3)],
        [],
    ]
    return [json.dumps(value).encode() + b"\n" for value in values]


def _line(data: bytes) -> None:
    splitter = LineSplitter(WIRE)
    found: list[bytes] = []
    for piece in pieces(data):
        found += splitter.receive_data(piece)
    last = splitter.receive_end()
    for each in [*found, *([last] if last is not None else [])]:
        parse_line(each, WIRE)


def calls() -> list[bytes]:
    """A call of each method, each parameter with something that its rule might take."""
    found: list[bytes] = []
    for method in METHODS.values():
        names = list(method.params.__dataclass_fields__)
        for value in ("alice", 3, True, "ab" * 32, {"from": "x"}):
            call = {"jsonrpc": "2.0", "id": 1, "method": method.name, "params": dict.fromkeys(names, value)}
            found.append(json.dumps(call).encode())
    return found


def _params(data: bytes) -> None:
    request = parse_line(data, WIRE)
    for entry in request.entries if isinstance(request, Batch) else (request,):
        if isinstance(entry, Request) and (method := METHODS.get(entry.method)) is not None:
            parse_params(method.params, entry.params)


@cache
def signed_lines() -> list[bytes]:
    alice = person("alice")
    node = str(person("node").peer_id)
    return [
        line(signed_request(alice, "swarm.get_status")),
        line(signed_request(alice, "swarm.resolve_name", {"name": "alice", "node": node}, nonce="0" * 64)),
        line(signed_request(alice, "swarm.register_agent", registration(alice))),
        line(signed_request(alice, "swarm.ping", {"target": "bob", "count": 3}, timestamp=NOW_MS - 300_000)),
        line({**signed_request(alice, "swarm.get_status"), "token": "t"}),
    ]


def _signed() -> Callable[[bytes], None]:
    """Judged as the server does it; the few that verify are remembered, so that replays are among them."""
    requests = SignedRequests(SignedConfig(max_nonces=50), str(person("node").peer_id), NOW_MS - 400_000)
    key = person("alice").public_key

    def judge(data: bytes) -> None:
        found = parse_line(data.rstrip(b"\n"), WIRE)
        for entry in found.entries if isinstance(found, Batch) else (found,):
            if isinstance(entry, Request) and entry.signed is not None:
                requests.check(entry.signed, entry.method, entry.params, key, unix_ms=NOW_MS)
                requests.remember(entry.signed)

    return judge


def _books() -> list[bytes]:
    """What the RPC remembers: tokens, agents, new names, the latest timestamps."""
    now, alice = NOW_MS // 1_000, person("alice")
    tokens = TokenBook(TokensConfig())
    tokens.create("mine", ["swarm.ping"], 60, 3_600, table=POLICIES, entropy=bytes(range(64)), unix_now=now)
    agents = AgentBook(AgentsConfig(), "public")
    work = registration(alice)["pow"]
    assert isinstance(work, int)
    agents.register(
        alice.peer_id.did, alice.public_key.hex(), work, swarm_size=1, vouched=False, unix_now=now
    )
    books = {
        "tokens": tokens.to_json(),
        "agents": agents.to_json(),
        "new_names": [["alice", "public", now]],
        "latest": [[alice.peer_id.did, NOW_MS]],
    }
    return [json.dumps(books).encode()]


def _load_books(data: bytes) -> None:
    """Whatever is taken from the files can be asked, shown and saved again."""
    books = state_files._parse(data)
    access = make_access(person("node").peer_id)
    access.load(books, books)
    tokens = TokenBook(TokensConfig())
    tokens.load(books.get("tokens"))
    tokens.shown()
    tokens.knows("secret")
    agents = AgentBook(AgentsConfig(), "public")
    agents.load(books.get("agents"))
    agents.find(person("alice").peer_id.did, NOW_MS // 1_000)
    json.dumps([tokens.to_json(), agents.to_json(), access.new_names.to_json()], allow_nan=False)


LOCAL_NETWORK = (
    Target(
        "PCP",
        _pcp_answers,
        lambda data: pcp.decode(data, nonce=NONCE),
        (ParseError,),
        (pcp.decode,),
        largest=1_100,
    ),
    Target("NAT-PMP", _nat_pmp_answers, nat_pmp.decode, (ParseError,), (nat_pmp.decode,), largest=1_100),
    Target("SSDP", _ssdp_answers, _endpoint, (ParseError,), (read_search_answer,), Form.TEXT, largest=65_000),
    Target(
        "UPnP description",
        lambda: [DESCRIPTION, *ENVELOPES[4:]],
        _description,
        (ParseError,),
        (read_description,),
        Form.TEXT,
    ),
    Target("UPnP SOAP", lambda: ENVELOPES, _soap, (ParseError,), (upnp.decode,), Form.TEXT),
    Target(
        "UPnP HTTP",
        _http_answers,
        _http_answer,
        (ParseError, h11.ProtocolError, OSError),
        (upnp_http._answer,),
        Form.TEXT,
    ),
    Target("HTTP head", _heads, _head, (), (HttpServer._read_head,), Form.TEXT, largest=9_000),
    Target(
        "RPC line",
        lines,
        _line,
        (NotJsonRpc,),
        (parse_line, LineSplitter.receive_data, LineSplitter.receive_end),
        Form.JSON,
        largest=2_000_000,
    ),
    Target(
        "signed RPC request",
        signed_lines,
        _signed(),
        (NotJsonRpc, Unproven, NonceWindowFull),
        (Signed.parse,),
        Form.JSON,
        is_stateful=True,
    ),
    Target(
        "RPC books",
        _books,
        _load_books,
        (ValueError,),
        (Access.load, TokenBook.load, AgentBook.load, NewNames.load, SignedRequests.load),
        Form.JSON,
    ),
    Target("RPC params", calls, _params, (NotJsonRpc, InvalidParams), (parse_params,), Form.JSON),
)
