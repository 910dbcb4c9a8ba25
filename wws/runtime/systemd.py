"""Telling systemd how it stands with the node (sd_notify(3)).

The protocol is one datagram on the socket that `$NOTIFY_SOCKET` names. Small enough to need no library, and
a service manager that cannot be reached is never a reason to stop.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

READY = "READY=1"
RELOADING = "RELOADING=1"
STOPPING = "STOPPING=1"


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
