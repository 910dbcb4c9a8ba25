"""The system's resolver (`getaddrinfo`: `/etc/hosts`, mDNS and all), in threads that nobody has to wait for.

asyncio's own look-up runs in a thread pool which is joined when the program ends, so that one dead DNS server
would hold up a node that wants to stop. Here a look-up that is given up runs out on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

from wws.runtime.dns_exchange import DnsError, DnsNetwork, DnsNoAnswer, DnsNxDomain, DnsServFail

_FAILURES: dict[int | None, type[DnsError]] = {
    socket.EAI_NONAME: DnsNxDomain,
    socket.EAI_AGAIN: DnsServFail,
    socket.EAI_FAIL: DnsServFail,
}
with contextlib.suppress(AttributeError):  # not on every system
    _FAILURES[socket.EAI_NODATA] = DnsNoAnswer


class SystemResolver:
    """At most `max_lookups` look-ups at a time, those that were given up included."""

    def __init__(self, max_lookups: int) -> None:
        self._places = asyncio.Semaphore(max_lookups)

    async def look_up(self, host: str, families: Sequence[str]) -> list[str]:
        """The IP addresses of a host, of type `A`, `AAAA` or both. Raises a `DnsError`; never times out."""
        family = socket.AF_UNSPEC
        if len(families) == 1:
            family = socket.AF_INET if families[0] == "A" else socket.AF_INET6
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str] | DnsError] = loop.create_future()
        await self._places.acquire()

        def arrived(result: list[str] | DnsError) -> None:
            self._places.release()
            if not answer.done():
                answer.set_result(result)

        def ask() -> None:
            result = _ask(host, family)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits
                loop.call_soon_threadsafe(arrived, result)

        threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
        result = await answer
        if isinstance(result, DnsError):
            raise result
        return result


def _ask(host: str, family: socket.AddressFamily) -> list[str] | DnsError:
    try:
        rows = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return _FAILURES.get(error.errno, DnsNetwork)(f"{host}: {error.strerror}")
    except (OSError, UnicodeError) as error:
        return DnsNetwork(f"{host}: {error}")
    return [str(row[4][0]) for row in rows]
