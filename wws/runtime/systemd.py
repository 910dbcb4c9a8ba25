"""Telling systemd how it stands with the node (sd_notify(3), sd_watchdog_enabled(3)).

The protocol is one datagram on the socket that `$NOTIFY_SOCKET` names. Small enough to need no library, and
a service manager that cannot be reached is never a reason to stop.

A unit with `WatchdogSec=` wants a sign of life that often, and kills and restarts us without: the signs come
from the event loop, so a loop that is stuck gives none.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping

READY = "READY=1"
RELOADING = "RELOADING=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"

STATUS_INTERVAL = 10.0
"""Seconds between two status lines, at most."""


def notify(env: Mapping[str, str], *lines: str) -> bool:
    """Send `lines` to the service manager; whether one was told. Does nothing outside of systemd."""
    path = env.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(1.0)
            sender.connect(address)
            sender.sendall("\n".join(lines).encode())
    except OSError:
        return False
    return True


def status(text: str) -> str:
    """The line that `systemctl status` shows."""
    return "STATUS=" + text.replace("\n", " ")


def reloading(monotonic: float) -> str:
    """What is said when a reload begins; `READY` ends it. By `monotonic`, the kernel's CLOCK_MONOTONIC,
    systemd tells this reload from one before."""
    return f"{RELOADING}\nMONOTONIC_USEC={int(monotonic * 1_000_000)}"


def watchdog_interval(env: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which the service manager wants a sign of life of us; `None`: it wants none."""
    if env.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None  # meant for whoever started us
    text = env.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        return None
    return int(text) / 1_000_000


async def keep_telling(env: Mapping[str, str], pid: int, text: Callable[[], str]) -> None:
    """Give signs of life in time, each with what `text` says of us now, until cancelled.

    Returns at once where there is no service manager.
    """
    if not env.get("NOTIFY_SOCKET"):
        return
    within = watchdog_interval(env, pid)
    pause = STATUS_INTERVAL if within is None else min(within / 2, STATUS_INTERVAL)
    signs = () if within is None else (ALIVE,)
    while True:
        await asyncio.sleep(pause)
        notify(env, *signs, status(text()))
