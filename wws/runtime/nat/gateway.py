"""Which router this machine sends to when it knows no better way: the IPv4 default gateway."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

_ROUTES: Final = Path("/proc/thread-self/net/route")
_MAX_ROUTES = 1024 * 1024
"""Bytes of the table that are read."""
_IS_UP, _HAS_GATEWAY, _REJECTS = 0x1, 0x2, 0x200
_TIMEOUT = 2.0


async def default_gateway() -> str | None:
    """Its IP; `None` when there is none, or this system does not tell."""
    return _read_routes() if _ROUTES.exists() else await _ask_route()


def linux_gateway(table: str) -> str | None:
    """The gateway in a table of the form of `/proc/net/route`: that of the least metric."""
    best: tuple[int, str] | None = None
    for line in table.splitlines()[1:]:
        columns = line.split()
        try:
            destination, gateway, flags, mask = (int(columns[index], 16) for index in (1, 2, 3, 7))
            metric = int(columns[6])
            # The addresses are numbers in the byte order of the machine.
            ip = str(IPv4Address(gateway.to_bytes(4, sys.byteorder)))
        except (IndexError, ValueError, OverflowError):
            continue
        wanted = flags & _IS_UP and flags & _HAS_GATEWAY and not flags & _REJECTS
        if destination == 0 and mask == 0 and wanted and (best is None or metric < best[0]):
            best = metric, ip
    return best[1] if best is not None else None


def route_gateway(output: str) -> str | None:
    """The gateway in what `route -n get default` says on macOS and the BSDs."""
    found = re.search(r"^\s*gateway:\s*(\d+\.\d+\.\d+\.\d+)\s*$", output, re.MULTILINE | re.ASCII)
    try:
        return str(IPv4Address(found[1])) if found else None
    except ValueError:
        return None


def _read_routes() -> str | None:
    try:
        with _ROUTES.open(encoding="ascii", errors="replace") as file:
            return linux_gateway(file.read(_MAX_ROUTES))
    except OSError:
        return None


async def _ask_route() -> str | None:
    try:
        process = await asyncio.create_subprocess_exec(
            "/sbin/route", "-n", "get", "-inet", "default",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None
    try:
        async with asyncio.timeout(_TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return route_gateway(output.decode("ascii", errors="replace"))
