"""DNS look-ups for discovery: TXT records, hosts, `/dnsaddr`, within a bounded time and a typed reason each.

    the system's servers, or `servers` of our own, one after the other     each 1 s later, or when one fails
        '─ none gave records ─► DNS over HTTPS at `doh_servers`            off when `servers` is set

Hosts go through the system's resolver (`/etc/hosts` included) unless `servers` is set. Nothing is cached: a
look-up that hangs never blocks another. What imports slowly is imported at the first look-up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
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
from wws.runtime.system_resolver import SystemResolver

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
        self._system = SystemResolver(self._config.max_system_lookups)
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
            found = await self._system_addresses(name, families)
        usable = [ip for ip in dict.fromkeys(found) if _is_usable(ip)][: self._config.max_hosts]
        if not usable:
            raise DnsNoAnswer(f"{host} has no usable address")
        return tuple(usable)

    async def expand(self, address: Multiaddr) -> tuple[Multiaddr, ...]:
        """The addresses with an IP that `address` stands for; itself when it has one.

        `/dnsaddr` is followed to bounded depth; with a `/p2p/` at its end only records of that peer count.
        What of it cannot be looked up is left out; raises the first `DnsError` when nothing remains.
        """
        walk = _Walk()
        try:
            async with asyncio.timeout(self._config.timeout):
                await self._follow(address, 0, walk)
        except TimeoutError:
            walk.failures.append(DnsTimeout(f"{address}: no DNS server has answered in time"))
        if not walk.found:
            raise next(iter(walk.failures), DnsNoAnswer(f"{address} leads to no address"))
        return tuple(dict.fromkeys(walk.found))[: self._config.max_hosts]

    async def _follow(self, item: Multiaddr, depth: int, walk: _Walk) -> None:
        """Add to `walk` what `item` leads to as soon as it is known: what hangs costs only itself."""
        if item.is_ip:
            walk.found.append(item)
            return
        config = self._config
        is_dnsaddr = item.host_kind == "dnsaddr"
        bound = config.max_lookups if is_dnsaddr else config.max_hosts
        asked = walk.asked.setdefault(is_dnsaddr, set())
        if item in asked or len(asked) >= bound or (is_dnsaddr and depth >= config.max_depth):
            return
        asked.add(item)
        try:
            if not is_dnsaddr:
                walk.found += [item.with_host(ip) for ip in await self.addresses(item.host, item.host_kind)]
                return
            answer = await self.txt(dnsaddr_name(item.host))
        except DnsError as error:
            walk.failures.append(error)
            return
        hints = parse_dnsaddr(answer.texts, any_peer=item.peer_id is None)
        wanted = [address for address in hints.addresses if _is_wanted(address, item)]
        await asyncio.gather(*(self._follow(address, depth + 1, walk) for address in wanted))

    async def _system_addresses(self, host: str, families: Sequence[str]) -> list[str]:
        """From the system's resolver, then from `doh_servers`, which get half of the time when it hangs."""
        config = self._config
        share = config.timeout / 2 if config.doh_servers else config.timeout
        try:
            async with _deadline(share, f"{host}: the system's resolver has not answered in time"):
                return await self._system.look_up(host, families)
        except DnsError:
            if not config.doh_servers:
                raise
        async with _deadline(config.timeout - share, f"{host}: no DNS server has answered in time"):
            return await self._ask_addresses(host, families)

    async def _ask_addresses(self, host: str, families: Sequence[str]) -> list[str]:
        async def one(family: str) -> list[str] | DnsError:
            try:
                response, _ = await self._ask(host, family)
            except DnsError as error:
                return error
            return [record.to_text() for record in _records(response, family)]

        tasks = [asyncio.create_task(one(family)) for family in families]
        found: list[str] = []
        failures: list[DnsError] = []
        try:
            done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if late:
                # RFC 8305 section 3: one family that answers does not wait long for the other one.
                usable = any(not isinstance(task.result(), DnsError) for task in done)
                await asyncio.wait(late, timeout=self._config.family_grace if usable else None)
            for task in tasks:
                result = task.result() if task.done() else DnsTimeout(f"{host}: one family has not answered")
                if isinstance(result, DnsError):
                    failures.append(result)
                else:
                    found += result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
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


@dataclass(slots=True)
class _Walk:
    """What is found on the way from one multiaddr."""

    found: list[Multiaddr] = field(default_factory=list)
    failures: list[DnsError] = field(default_factory=list)
    asked: dict[bool, set[Multiaddr]] = field(default_factory=dict)
    """What was looked up: `/dnsaddr` under `True`, hosts under `False`."""


def _is_wanted(address: Multiaddr, asked: Multiaddr) -> bool:
    """Whether an address is of the peer, and of the transport, that the `/dnsaddr` asked for names."""
    return asked.peer_id in (None, address.peer_id) and (
        asked.transport is None or address.transport in (None, asked.transport)
    )


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
