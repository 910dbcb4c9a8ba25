"""DNS look-ups for discovery: TXT records, hosts, `/dnsaddr`, within a bounded time and a typed reason each.

    the system's servers, or `servers` of our own, one after the other     each 1 s later, or when one fails
        '─ none gave records ─► DNS over HTTPS at `doh_servers`            off when `servers` is set

Hosts go through the system's resolver (`/etc/hosts` included) unless `servers` is set. Nothing is cached and
nothing is shared between look-ups, so one that hangs never blocks another. What imports slowly is imported at
the first look-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import AddressRefused, scope_of_ip
from wws.discovery.txt import dnsaddr_name, parse_dnsaddr
from wws.errors import ParseError
from wws.runtime.dns_exchange import (
    DnsConfig,
    DnsError,
    DnsMalformed,
    DnsNetwork,
    DnsNoAnswer,
    DnsNxDomain,
    DnsRefused,
    DnsServFail,
    DnsTimeout,
    ask_https,
    ask_server,
    parse_server,
    server_text,
    system_servers,
)

if TYPE_CHECKING:
    import dns.message
    import dns.name

__all__ = [
    "DnsConfig", "DnsError", "DnsMalformed", "DnsNetwork", "DnsNoAnswer", "DnsNxDomain", "DnsRefused",
    "DnsResolver", "DnsServFail", "DnsTimeout", "TxtAnswer", "parse_server",
]  # fmt: skip

_TELLING: tuple[type[DnsError], ...] = (
    DnsNxDomain, DnsNoAnswer, DnsServFail, DnsRefused, DnsMalformed, DnsNetwork, DnsTimeout,
)  # fmt: skip
"""Of several failures the one that says most is reported: earlier in this list."""
_DEFINITE = (DnsNxDomain, DnsNoAnswer)
"""After one of these another server of the same kind would only say it again."""
_MAX_ALIASES = 8
_GAI_ERRORS: dict[int | None, type[DnsError]] = {
    socket.EAI_NONAME: DnsNxDomain,
    socket.EAI_AGAIN: DnsServFail,
    socket.EAI_FAIL: DnsServFail,
}
with contextlib.suppress(AttributeError):  # not on every system
    _GAI_ERRORS[socket.EAI_NODATA] = DnsNoAnswer


@dataclass(frozen=True, slots=True)
class TxtAnswer:
    """The TXT records of a name: the strings of each joined without separator."""

    texts: tuple[str, ...]
    server: str
    """Who answered: `IP:PORT`, or the URL."""
    left_off: int = 0
    """Records beyond `max_records`."""


class DnsResolver:
    """Looks things up. Holds no socket and no cache between look-ups; a cancelled look-up leaves nothing."""

    def __init__(self, config: DnsConfig | None = None) -> None:
        """Raises `ParseError` when a server is not `IP[:PORT]`."""
        self._config = config or DnsConfig()
        self._servers = tuple(parse_server(text) for text in self._config.servers[: self._config.max_servers])

    async def txt(self, name: str) -> TxtAnswer:
        """The TXT records at `name`. Raises a `DnsError`, within `timeout` seconds."""
        response, server = await self._ask(name, "TXT")
        texts = _texts(response, self._config.max_records + 1)
        if not texts:
            raise DnsNoAnswer(f"{name} has no TXT records")
        kept = texts[: self._config.max_records]
        return TxtAnswer(tuple(kept), server, len(texts) - len(kept))

    async def addresses(self, host: str, kind: str = "dns") -> tuple[str, ...]:
        """The IP addresses of a host, usable ones only; `kind` is `dns`, `dns4` or `dns6`.

        Raises a `DnsError`, within `timeout` seconds.
        """
        families = {"dns": ("AAAA", "A"), "dns4": ("A",), "dns6": ("AAAA",)}[kind]
        name = host.lower().removesuffix(".")
        if name == "localhost" or name.endswith(".localhost"):  # never asked for on the wire: RFC 6761
            found = [{"A": "127.0.0.1", "AAAA": "::1"}[family] for family in families]
        elif self._servers:
            found = await self._ask_addresses(name, families)
        else:
            try:
                found = await self._system_addresses(name, families)
            except DnsError:
                if not self._config.doh_servers:
                    raise
                found = await self._ask_addresses(name, families)
        usable = [ip for ip in dict.fromkeys(found) if _is_usable(ip)][: self._config.max_hosts]
        if not usable:
            raise DnsNoAnswer(f"{host} has no usable address")
        return tuple(usable)

    async def expand(self, address: Multiaddr) -> tuple[Multiaddr, ...]:
        """The addresses with an IP that `address` stands for; itself when it has one.

        `/dnsaddr` is followed to bounded depth; with a `/p2p/` at its end only records of that peer count.
        What of it cannot be looked up is left out; raises the first `DnsError` when nothing remains.
        """
        async with _deadline(self._config.timeout, f"{address}: no DNS server has answered in time"):
            found, failures = await self._expand(address)
        if not found:
            raise next(iter(failures), DnsNoAnswer(f"{address} leads to no address"))
        return tuple(dict.fromkeys(found))[: self._config.max_hosts]

    async def _expand(self, address: Multiaddr) -> tuple[list[Multiaddr], list[DnsError]]:
        failures: list[DnsError] = []
        found: list[Multiaddr] = []
        names: list[Multiaddr] = []
        todo = [address]
        seen: set[str] = set()
        for depth in range(self._config.max_depth + 1):
            deeper: list[Multiaddr] = []
            for item in todo:
                if item.is_ip:
                    found.append(item)
                elif item.host_kind != "dnsaddr":
                    names.append(item)
                elif (
                    item.host not in seen
                    and len(seen) < self._config.max_lookups
                    and depth < self._config.max_depth
                ):
                    seen.add(item.host)
                    deeper.append(item)
            if not deeper:
                break
            todo = []
            for result in await asyncio.gather(*(self._dnsaddr(item, address) for item in deeper)):
                if isinstance(result, DnsError):
                    failures.append(result)
                else:
                    todo.extend(result)
        names = names[: self._config.max_hosts]
        for name, outcome in zip(names, await asyncio.gather(*map(self._host, names)), strict=True):
            if isinstance(outcome, DnsError):
                failures.append(outcome)
            else:
                found.extend(name.with_host(ip) for ip in outcome)
        return found, failures

    async def _dnsaddr(self, item: Multiaddr, wanted: Multiaddr) -> Sequence[Multiaddr] | DnsError:
        try:
            answer = await self.txt(dnsaddr_name(item.host))
        except DnsError as error:
            return error
        hints = parse_dnsaddr(answer.texts, any_peer=wanted.peer_id is None)
        return [
            address
            for address in hints.addresses
            if wanted.peer_id in (None, address.peer_id)
            and (wanted.transport is None or address.transport in (None, wanted.transport))
        ]

    async def _host(self, name: Multiaddr) -> Sequence[str] | DnsError:
        try:
            return await self.addresses(name.host, name.host_kind)
        except DnsError as error:
            return error

    async def _system_addresses(self, host: str, families: Sequence[str]) -> list[str]:
        family = socket.AF_UNSPEC
        if len(families) == 1:
            family = socket.AF_INET if families[0] == "A" else socket.AF_INET6
        loop = asyncio.get_running_loop()
        async with _deadline(self._config.timeout, f"{host}: the system's resolver has not answered in time"):
            try:
                rows = await loop.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
            except socket.gaierror as error:
                kind = _GAI_ERRORS.get(error.errno, DnsNetwork)
                raise kind(f"{host}: {error.strerror}") from None
            except (OSError, UnicodeError) as error:
                raise DnsNetwork(f"{host}: {error}") from None
        return [str(row[4][0]) for row in rows]

    async def _ask_addresses(self, host: str, families: Sequence[str]) -> list[str]:
        async def one(family: str) -> list[str] | DnsError:
            try:
                response, _ = await self._ask(host, family)
            except DnsError as error:
                return error
            return [record.to_text() for record in _records(response, family)]

        results = await asyncio.gather(*(one(family) for family in families))
        found = [ip for result in results if not isinstance(result, DnsError) for ip in result]
        failures = [result for result in results if isinstance(result, DnsError)]
        if not found and failures:
            raise _most_telling(failures)
        return found

    async def _ask(self, name: str, kind: str) -> tuple[dns.message.Message, str]:
        """The first answer with records, and who gave it. Raises the most telling of the failures."""
        import dns.exception
        import dns.name

        try:
            question = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError) as error:
            raise DnsMalformed(f"{name[:80]!r} is not a DNS name: {error}") from None
        config = self._config
        servers = self._servers or system_servers(config.resolv_conf)[: config.max_servers]
        attempts = [_Attempt(server_text(server), False, partial(ask_server, server)) for server in servers]
        if not self._servers:
            attempts += [
                _Attempt(url, True, partial(ask_https, url))
                for url in config.doh_servers[: config.max_servers]
            ]
        failures: list[DnsError] = []
        try:
            async with asyncio.timeout(config.timeout):
                return await _first(attempts, question, kind, config, failures)
        except TimeoutError:
            failures.append(DnsTimeout(f"no DNS server has answered for {name} in {config.timeout:g} s"))
        raise _most_telling(failures)


_Ask: TypeAlias = "Callable[[dns.name.Name, str, DnsConfig], Awaitable[dns.message.Message]]"


@dataclass(frozen=True, slots=True)
class _Attempt:
    server: str
    is_fallback: bool
    ask: _Ask


async def _first(
    attempts: Sequence[_Attempt], name: dns.name.Name, kind: str, config: DnsConfig, failures: list[DnsError]
) -> tuple[dns.message.Message, str]:
    """The first answer, from servers asked one after the other; failures are added to `failures`."""

    async def ask(attempt: _Attempt) -> tuple[dns.message.Message, str]:
        return await attempt.ask(name, kind, config), attempt.server

    waiting = list(attempts)
    running: dict[asyncio.Task[tuple[dns.message.Message, str]], _Attempt] = {}
    try:
        while waiting or running:
            if waiting:
                attempt = waiting.pop(0)
                running[asyncio.create_task(ask(attempt))] = attempt
            done, _ = await asyncio.wait(
                running, timeout=config.stagger if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                attempt = running.pop(task)
                try:
                    return task.result()
                except DnsError as error:
                    failures.append(error)
                    if isinstance(error, _DEFINITE):
                        waiting = [other for other in waiting if other.is_fallback > attempt.is_fallback]
        raise _most_telling(failures)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _most_telling(failures: Sequence[DnsError]) -> DnsError:
    return min(failures, key=lambda error: _TELLING.index(type(error)))


@contextlib.asynccontextmanager
async def _deadline(seconds: float, message: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DnsTimeout(message) from None


def _records(response: dns.message.Message, kind: str) -> list[dns.rdata.Rdata]:
    """The records of `kind` at the name asked for, or at the end of its aliases."""
    import dns.rdatatype

    owner = response.question[0].name
    rdtype = dns.rdatatype.from_text(kind)
    for _ in range(_MAX_ALIASES):
        alias = None
        for rrset in response.answer:
            if rrset.name != owner:
                continue
            if rrset.rdtype == rdtype:
                return list(rrset)
            if rrset.rdtype == dns.rdatatype.CNAME:
                alias = rrset[0].target
        if alias is None:
            break
        owner = alias
    return []


def _texts(response: dns.message.Message, limit: int) -> list[str]:
    from dns.rdtypes.ANY.TXT import TXT as TxtRecord  # noqa: N811 - TXT alone says the type, not the record

    # Records are ASCII by every format we read; other bytes become characters that no parser takes.
    records = [record for record in _records(response, "TXT") if isinstance(record, TxtRecord)]
    return [b"".join(record.strings).decode("ascii", errors="replace") for record in records[:limit]]


def _is_usable(ip: str) -> bool:
    try:
        scope_of_ip(ip)
    except (AddressRefused, ParseError):
        return False
    return True
