"""TCP sockets that share the port of a listener: dials leave from there, so that a NAT maps both alike.

The address at which others see such a dial is the outer address of our listener (for TCP hole punching, and
for knowing that address at all). Linux lets several sockets of one user share a port when all say so; we say
so only once the listener listens, so that a port that somebody else holds is still refused to it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of_ip
from wws.errors import ParseError
from wws.runtime.own_addresses import WILDCARDS


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that listens. Raises `OSError`."""
    sock = _tcp_socket(host)
    try:
        sock.bind((host, port))
        sock.listen()  # before sharing, or two nodes that start at the same moment would both get the port
        _share_port(sock)
    except OSError:
        sock.close()
        raise
    return sock


def dialling_socket(target: str, listening: Iterable[Multiaddr]) -> socket.socket | None:
    """A TCP socket towards `target` from the port of one of our listeners; `None` when none fits."""
    ipv6 = ":" in target
    for address in listening:
        if address.transport != "tcp" or (address.host_kind == "ip6") != ipv6:
            continue
        if address.host not in WILDCARDS and not _leads_to(address.host, target):
            continue
        sock = _tcp_socket(target)
        try:
            _share_port(sock)
            sock.bind((address.host, address.port or 0))
        except OSError:
            sock.close()
            continue
        return sock
    return None


def is_taken_way(error: OSError) -> bool:
    """Whether a dial failed because this port already leads, or just led, to that very address."""
    return error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE)


def _tcp_socket(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _share_port(sock: socket.socket) -> None:
    if hasattr(socket, "SO_REUSEPORT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _leads_to(own: str, target: str) -> bool:
    """Whether a socket bound to `own` has a way to `target`: not from the loopback into the world."""
    try:
        return (scope_of_ip(own) is Scope.LOOPBACK) == (scope_of_ip(target) is Scope.LOOPBACK)
    except ParseError:
        return False
