"""A small authoritative DNS server on loopback, UDP and TCP, for tests and `wws demo`.

    async with DnsServer({"_openswarm._tcp.demo.test": {"TXT": ["v=1 peer=/ip4/…"]}}) as server:
        resolver = DnsResolver(DnsConfig(servers=(server.address,)))
        server.fail(Fault.SERVFAIL)

It answers what its zone holds and refuses nothing else than malformed queries; `fail` makes it misbehave in
the ways that DNS misbehaves. As a program (`python -m wws.testing.dns_server --zone FILE`) it prints one line
of JSON when it is ready, reads the zone again on SIGHUP, and ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import enum
import json
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
from typing_extensions import override

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.txt import bundle_name, dnsaddr_name, seed_name, seed_text

Zone: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]
"""Name → record type → values; TXT values are plain text of any length."""

TTL = 60
TTL_KIND = "TTL"
"""What stands in a zone beside the record types of a name: how long they may be kept, where not `TTL`."""
MAX_TCP_CLIENTS = 64
MAX_TCP_QUERIES = 32
"""Most queries on one TCP connection."""
TCP_IDLE = 10.0
BIND_ATTEMPTS = 20


class Fault(enum.Enum):
    """How the server misbehaves."""

    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    EMPTY = "empty"
    """NOERROR without a record."""
    GARBAGE = "garbage"
    """The right id, then bytes that are no DNS message."""
    FORGED = "forged"
    """A well-formed answer with a wrong id, then nothing: what a spoofer off the path sends."""
    SILENCE = "silence"
    THOUSAND = "thousand"
    """1,000 records, the true ones among them."""
    TRUNCATED = "truncated"
    """Over UDP only the flag that says: ask over TCP."""
    SLOW = "slow"
    """The answer comes after `slow_by` seconds."""


def network_zone(
    domain: str, bundle_text: str | None, addresses: Sequence[Multiaddr]
) -> dict[str, dict[str, list[str]]]:
    """What an operator publishes for a network: its signed bundle, the seed's records and `_dnsaddr`."""
    zone = {
        seed_name(domain): {"TXT": [seed_text(address) for address in addresses]},
        dnsaddr_name(domain): {"TXT": [f"dnsaddr={address}" for address in addresses]},
    }
    if bundle_text is not None:
        zone[bundle_name(domain)] = {"TXT": [bundle_text]}
    return zone


class DnsServer:
    """Entered, it listens; left, its sockets and tasks are gone. `queries` remembers the last 1,000 asked."""

    def __init__(self, zone: Zone, *, host: str = "127.0.0.1", port: int = 0, slow_by: float = 0.2) -> None:
        self._records: dict[str, dict[str, list[str]]] = {}
        self.replace(zone)
        self.host = host
        self.port = port
        self.slow_by = slow_by
        self.queries: deque[tuple[str, str, str]] = deque(maxlen=1_000)
        """Name without the final dot, record type, and `udp` or `tcp`."""
        self._fault: Fault | None = None
        self._faults: dict[str, Fault] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """`IP:PORT`, as `--dns-server` takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def replace(self, zone: Zone) -> None:
        """Serve `zone` and nothing else from now on."""
        self._records = {
            _key(name): {kind.upper(): list(values) for kind, values in kinds.items()}
            for name, kinds in zone.items()
        }

    def set(self, name: str, kind: str, values: Sequence[str]) -> None:
        """Serve `values` as the records of `kind` at `name` from now on; none removes them."""
        kinds = self._records.setdefault(_key(name), {})
        kinds[kind.upper()] = list(values)

    def fail(self, fault: Fault, name: str | None = None) -> None:
        """Misbehave from now on: at `name`, or everywhere."""
        if name is None:
            self._fault = fault
        else:
            self._faults[_key(name)] = fault

    def heal(self) -> None:
        """Behave from now on."""
        self._fault = None
        self._faults.clear()

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        for attempt in range(BIND_ATTEMPTS):
            udp, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(self.host, self.port)
            )
            port: int = udp.get_extra_info("sockname")[1]
            try:
                self._tcp = await asyncio.start_server(self._serve_tcp, self.host, port)
            except OSError:
                # Somebody has this port on TCP: with a port of our own choice there is another one to try.
                udp.close()
                if self.port or attempt + 1 == BIND_ATTEMPTS:
                    raise
                continue
            self._udp, self.port = udp, port
            break
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tcp is not None:
            await self._tcp.wait_closed()

    def answer(self, wire: bytes, transport: str) -> tuple[bytes | None, float]:
        """The answer to a query, or `None` for silence, and the seconds to wait before it."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None, 0.0
        if not query.question or query.flags & dns.flags.QR:
            return None, 0.0
        question = query.question[0]
        name = _key(question.name.to_text())
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append((name, kind, transport))
        fault = self._faults.get(name, self._fault)
        delay = self.slow_by if fault is Fault.SLOW else 0.0
        if fault is Fault.SILENCE:
            return None, delay
        if fault is Fault.GARBAGE:
            return wire[:2] + b"\xff" * 40, delay
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        if fault in _RCODES:
            response.set_rcode(_RCODES[fault])
        elif fault is Fault.FORGED:
            response.id ^= 0x5555
            self._add(response, question.name, "TXT", ["dnsaddr=/ip4/192.0.2.66/tcp/1"])
        elif fault is not Fault.EMPTY:
            self._fill(response, question.name, kind)
            if fault is Fault.THOUSAND:
                true = sum(len(rrset) for rrset in response.answer)
                noise = [f"v=1 peer=/ip4/192.0.2.{n % 250}/tcp/{n} note={n}" for n in range(1_000 - true)]
                self._add(response, question.name, "TXT", noise)
        if transport == "tcp":
            return response.to_wire(max_size=65_535), delay
        limit = max(512, query.payload) if query.edns >= 0 else 512
        try:
            if fault is not Fault.TRUNCATED:
                return response.to_wire(max_size=limit), delay
        except dns.exception.TooBig:
            pass  # what does not fit is asked for again over TCP
        response.answer = []
        response.flags |= dns.flags.TC
        return response.to_wire(), delay

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: str) -> None:
        owner = name
        for _ in range(8):
            kinds = self._records.get(_key(owner.to_text()))
            if kinds is None:
                below = "." + _key(owner.to_text())
                if not response.answer and not any(known.endswith(below) for known in self._records):
                    response.set_rcode(dns.rcode.NXDOMAIN)
                return
            if kinds.get(kind):
                self._add(response, owner, kind, kinds[kind], int(kinds.get(TTL_KIND, [str(TTL)])[0]))
                return
            if not kinds.get("CNAME"):
                return
            self._add(response, owner, "CNAME", kinds["CNAME"][:1])
            owner = dns.name.from_text(kinds["CNAME"][0])

    def _add(
        self,
        response: dns.message.Message,
        name: dns.name.Name,
        kind: str,
        values: Sequence[str],
        ttl: int = TTL,
    ) -> None:
        rdtype = dns.rdatatype.from_text(kind)
        rrset = response.find_rrset(response.answer, name, dns.rdataclass.IN, rdtype, create=True)
        for value in values:
            rrset.add(_rdata(rdtype, value), ttl=ttl)

    def _received(self, wire: bytes, sender: tuple[str, int]) -> None:
        answer, delay = self.answer(wire, "udp")
        if answer is None or self._udp is None:
            return
        if delay:
            self._keep(asyncio.get_running_loop().create_task(self._send_later(answer, sender, delay)))
        else:
            self._udp.sendto(answer, sender)

    async def _send_later(self, answer: bytes, sender: tuple[str, int], delay: float) -> None:
        await asyncio.sleep(delay)
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(answer, sender)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= MAX_TCP_CLIENTS:
            writer.close()
            return
        self._keep(task)
        try:
            async with asyncio.timeout(TCP_IDLE):
                for _ in range(MAX_TCP_QUERIES):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    answer, delay = self.answer(await reader.readexactly(length), "tcp")
                    await asyncio.sleep(delay)
                    if answer is not None:
                        writer.write(len(answer).to_bytes(2, "big") + answer)
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass  # the client has gone, or says nothing more
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_RCODES = {
    Fault.NXDOMAIN: dns.rcode.NXDOMAIN,
    Fault.SERVFAIL: dns.rcode.SERVFAIL,
    Fault.REFUSED: dns.rcode.REFUSED,
}


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server._received(data, addr)


def _key(name: str) -> str:
    return name.lower().removesuffix(".")


def _rdata(rdtype: dns.rdatatype.RdataType, value: str) -> dns.rdata.Rdata:
    if rdtype == dns.rdatatype.TXT:
        data = value.encode()
        strings = [data[start : start + 255] for start in range(0, len(data), 255)] or [b""]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, rdtype, strings)
    return dns.rdata.from_text(dns.rdataclass.IN, rdtype, value, origin=dns.name.root, relativize=False)


async def _run(zone: Path, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with DnsServer(_read_zone(zone), host=host, port=port) as server:
        loop.add_signal_handler(signal.SIGHUP, lambda: server.replace(_read_zone(zone)))
        sys.stdout.write(json.dumps({"ready": True, "host": server.host, "port": server.port}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def _read_zone(path: Path) -> dict[str, dict[str, list[str]]]:
    zone: dict[str, dict[str, list[str]]] = json.loads(path.read_text())
    return zone


def main() -> None:
    """Run the server in the foreground until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m wws.testing.dns_server", description="DNS on loopback, for tests"
    )
    parser.add_argument(
        "--zone", type=Path, required=True, help='JSON: {"name": {"TXT": ["text"], "A": ["127.0.0.1"]}}'
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, printed when ready")
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.zone, arguments.host, arguments.port))


if __name__ == "__main__":
    main()
