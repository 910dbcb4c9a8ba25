"""One DNS question to one server: UDP with EDNS, TCP when the answer is cut short, or HTTPS.

dnspython makes and reads the messages; the sockets are ours, because `dns.asyncquery` imports every transport
it knows (0.1 s of start-up) and reads an HTTPS answer of any size. An answer counts when it comes from the
server asked, bears the query's id and question, and is an answer; others are ignored up to a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from wws.errors import ParseError, WwsError

if TYPE_CHECKING:
    import dns.message
    import dns.name

MAX_UDP = 1232
"""Size of a UDP answer that we say we take: it passes every path in one piece."""
MAX_MESSAGE = 65_535
MAX_RECORDS = 1_100
"""Most records of a message that is read: a thousand, and what stands beside them."""


class DnsError(WwsError):
    """A look-up gave no usable records."""

    code = "dns_failed"
    reason: ClassVar[str] = "failed"
    """The same as `code` without its prefix: `nxdomain`, `no_answer`, `servfail`, `refused`, …"""


class DnsNxDomain(DnsError):
    """The name does not exist."""

    code = "dns_nxdomain"
    reason = "nxdomain"


class DnsNoAnswer(DnsError):
    """The name exists and has no records of that type."""

    code = "dns_no_answer"
    reason = "no_answer"


class DnsServFail(DnsError):
    """The DNS server could not find out."""

    code = "dns_servfail"
    reason = "servfail"


class DnsRefused(DnsError):
    """The DNS server does not answer us."""

    code = "dns_refused"
    reason = "refused"


class DnsMalformed(DnsError):
    """The DNS server's answer is no DNS message, or the question is no name."""

    code = "dns_malformed"
    reason = "malformed"


class DnsNetwork(DnsError):
    """The DNS server cannot be reached."""

    code = "dns_network"
    reason = "network"


class DnsTimeout(DnsError):
    """No DNS server has answered in time."""

    code = "dns_timeout"
    reason = "timeout"


_DEFINITE = (DnsNxDomain, DnsNoAnswer)
_TELLING: tuple[type[DnsError], ...] = (
    DnsNxDomain, DnsNoAnswer, DnsServFail, DnsRefused, DnsMalformed, DnsNetwork, DnsTimeout,
)  # fmt: skip
"""Of several failures the one that says most is reported: earlier in this list."""


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """Whom to ask, and the bounds of asking."""

    servers: tuple[str, ...] = ()
    """`IP[:PORT]`, `[IPv6]:PORT`; empty: the system's."""
    doh_servers: tuple[str, ...] = ()
    """`https://…/dns-query`, asked when the system's servers gave nothing; ignored when `servers` is set."""
    doh_authorities: str | None = None
    """A PEM file of the authorities that `doh_servers` are certified by; `None`: the system's."""
    timeout: float = 5.0
    """Seconds for a look-up, all servers and fallbacks together."""
    stagger: float = 1.0
    """Seconds after which the next server is asked while the one before has not answered."""
    resend: float = 1.0
    """Seconds after which a query over UDP is sent once more."""
    family_grace: float = 0.5
    """Seconds that the second address family is waited for when the first one has answered."""
    max_system_lookups: int = 16
    """Most look-ups of hosts under way at the system's resolver; further ones wait."""
    max_servers: int = 4
    """Most servers of each kind that are asked."""
    max_records: int = 1_000
    """Most TXT records of an answer that are kept."""
    max_strays: int = 16
    """Most foreign datagrams that are ignored before a server is given up as `malformed`."""
    max_hosts: int = 16
    """Most IP addresses of a name, and most addresses that a multiaddr is expanded to."""
    max_depth: int = 3
    """How deep `/dnsaddr` may lead to further `/dnsaddr`."""
    max_lookups: int = 8
    """Most look-ups for one `/dnsaddr`."""
    resolv_conf: Path = Path("/etc/resolv.conf")
    """Where the system says which servers it uses."""


def parse_server(text: str) -> tuple[str, int]:
    """A DNS server from `IP[:PORT]` or `[IPv6][:PORT]`; port 53 unless given. Raises `ParseError`."""
    host, port = text, "53"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ParseError(f"{text!r} is not a DNS server: write [IPv6]:PORT")
        port = rest[1:] or ("53" if not rest else "")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        raise ParseError(f"{text!r} is not a DNS server: write IP or IP:PORT") from None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ParseError(f"{text!r} is not a DNS server: {port!r} is not a port")
    return host, int(port)


def server_text(server: tuple[str, int]) -> str:
    """The inverse of `parse_server`."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def system_servers(path: Path) -> list[tuple[str, int]]:
    """The servers of a resolv.conf, in its order; this machine when there is none (resolv.conf(5))."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    servers: list[tuple[str, int]] = []
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with contextlib.suppress(ParseError):  # one bad line does not take the others with it
                servers.append(parse_server(f"[{words[1]}]" if ":" in words[1] else words[1]))
    return servers or [("127.0.0.1", 53)]


async def ask_server(
    server: tuple[str, int], name: dns.name.Name, kind: str, config: DnsConfig
) -> dns.message.Message:
    """The answer of a server, over TCP when UDP cuts it short. Raises a `DnsError`."""
    import dns.flags

    query = _query(name, kind)
    try:
        response = await _ask_udp(server, query, config)
        if response.flags & dns.flags.TC:
            response = await _ask_tcp(server, query)
    except OSError as error:
        raise DnsNetwork(
            f"DNS server {server_text(server)} cannot be reached: {error.strerror or error}"
        ) from None
    return _judge(response, name, kind, server_text(server))


async def ask_https(url: str, name: dns.name.Name, kind: str, config: DnsConfig) -> dns.message.Message:
    """The answer of a DNS over HTTPS server (RFC 8484, POST, HTTP/2 or 1.1). Raises a `DnsError`."""
    import ssl

    import httpx2

    query = _query(name, kind)
    query.id = 0  # RFC 8484 section 4.1: so that caches on the way see one request
    headers = {"accept": "application/dns-message", "content-type": "application/dns-message"}
    try:
        context = ssl.create_default_context(cafile=config.doh_authorities)
        async with (
            httpx2.AsyncClient(http2=True, verify=context, timeout=config.timeout, trust_env=False) as client,
            client.stream("POST", url, content=query.to_wire(), headers=headers) as answer,
        ):
            if answer.status_code != 200:
                raise DnsServFail(f"{url} answered with HTTP status {answer.status_code}")
            wire = bytearray()
            async for chunk in answer.aiter_bytes():
                wire += chunk
                if len(wire) > MAX_MESSAGE:
                    raise DnsMalformed(f"{url} answered with more than {MAX_MESSAGE} bytes")
    except httpx2.TimeoutException:
        raise DnsTimeout(f"{url} has not answered in time") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise DnsNetwork(f"{url} cannot be reached: {error}") from None
    response = await _read_apart(bytes(wire))
    if response is None or not query.is_response(response):
        raise DnsMalformed(f"{url} answered with something that is no answer")
    return _judge(response, name, kind, url)


def _query(name: dns.name.Name, kind: str) -> dns.message.QueryMessage:
    import dns.message

    return dns.message.make_query(name, kind, use_edns=0, payload=MAX_UDP)


async def _read_apart(wire: bytes) -> dns.message.Message | None:
    """As `_read`, in a thread: dnspython takes seconds for the worst 64 kB that a server can make up."""
    return await asyncio.to_thread(_read, wire)


def _read(wire: bytes) -> dns.message.Message | None:
    import dns.exception
    import dns.message

    if sum(int.from_bytes(wire[start : start + 2], "big") for start in (4, 6, 8, 10)) > MAX_RECORDS:
        return None
    try:
        return dns.message.from_wire(wire, ignore_trailing=False)
    except (dns.exception.DNSException, ValueError, IndexError, EOFError):
        return None


def _judge(response: dns.message.Message, name: dns.name.Name, kind: str, server: str) -> dns.message.Message:
    import dns.rcode

    match response.rcode():
        case dns.rcode.NOERROR:
            pass
        case dns.rcode.NXDOMAIN:
            raise DnsNxDomain(f"{name} does not exist, says {server}")
        case dns.rcode.REFUSED:
            raise DnsRefused(f"DNS server {server} refuses to answer for {name}")
        case code:
            raise DnsServFail(f"DNS server {server} fails for {name}: {dns.rcode.to_text(code)}")
    if not any(dns.rdatatype.to_text(rrset.rdtype) == kind for rrset in response.answer):
        raise DnsNoAnswer(f"{name} has no {kind} records, says {server}")
    return response


async def _ask_udp(
    server: tuple[str, int], query: dns.message.QueryMessage, config: DnsConfig
) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    # Connected: the kernel drops what others send, and an unreachable port is an error at once.
    transport, answers = await loop.create_datagram_endpoint(
        lambda: _Answers(query.id, config.max_strays, server_text(server)), remote_addr=server
    )
    try:
        wire = query.to_wire()
        while True:
            transport.sendto(wire)
            done, _ = await asyncio.wait([answers.answer], timeout=config.resend)
            if done:
                break
        response = await _read_apart(answers.answer.result())
        if response is None or not query.is_response(response):
            # The right id in front of rubbish is a broken server: waiting for more would only cost the time.
            raise DnsMalformed(f"DNS server {server_text(server)} answered with rubbish")
        return response
    finally:
        transport.close()
        answers.answer.cancel()


class _Answers(asyncio.DatagramProtocol):
    """Waits for the answer to one query, not read yet; strays are ignored up to a bound."""

    def __init__(self, query_id: int, max_strays: int, server: str) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._id = query_id.to_bytes(2, "big")
        self._strays_left = max_strays
        self._server = server

    @override
    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        if self.answer.done():
            return
        if data[:2] == self._id:
            self.answer.set_result(data)
            return
        self._strays_left -= 1
        if self._strays_left < 0:
            self.answer.set_exception(DnsMalformed(f"DNS server {self._server} answered with rubbish"))

    @override
    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_tcp(server: tuple[str, int], query: dns.message.QueryMessage) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(query.to_wire(prepend_length=True))
        length = int.from_bytes(await reader.readexactly(2), "big")
        response = await _read_apart(await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        raise DnsNetwork(f"DNS server {server_text(server)} hung up") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if response is None or not query.is_response(response):
        raise DnsMalformed(f"DNS server {server_text(server)} answered with rubbish")
    return response
