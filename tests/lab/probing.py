"""Measures what a NAT does, in the words of RFC 4787, and whether two hosts punch through to each other.

By plain sockets held by this process in the namespaces of the lab, without any code of the node.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.namespaces import Namespace

INDEPENDENT = "endpoint-independent"
ADDRESS = "address-dependent"
ADDRESS_AND_PORT = "address-and-port-dependent"

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Observer:
    """A public host that looks at where packets come from."""

    namespace: Namespace
    address: str


@dataclass(frozen=True, slots=True)
class Behaviour:
    mapping: str
    filtering: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a probe waits."""

    arrives: float = 3.0
    """Seconds for what must arrive."""
    silence: float = 0.15
    """Seconds that what may arrive gets; above the round trip."""
    punch: float = 5.0
    """Seconds for a hole punch to succeed."""


def udp_behaviour(host: Namespace, observers: tuple[Observer, ...], patience: Patience) -> Behaviour:
    """Mapping and filtering of the NAT in front of `host`, for UDP, with three observers."""
    first, second, third = observers
    with contextlib.ExitStack() as stack:

        def open_socket(namespace: Namespace) -> socket.socket:
            return stack.enter_context(namespace.socket(socket.SOCK_DGRAM))

        client = open_socket(host)
        known, other_port = open_socket(first.namespace), open_socket(first.namespace)
        elsewhere = open_socket(second.namespace)
        seen = [
            _outer_udp(client, known, first, patience),
            _outer_udp(client, other_port, first, patience),
            _outer_udp(client, elsewhere, second, patience),
        ]
        never_port, never_host = open_socket(first.namespace), open_socket(third.namespace)

        def reaches(sender: socket.socket) -> bool:
            # On a busy machine all are slow alike: what has not arrived before a later answer never will.
            sender.sendto(b"?", seen[0])
            time.sleep(patience.silence)
            known.sendto(b"later", seen[0])
            client.settimeout(patience.arrives)
            reached = False
            while client.recv(10) != b"later":
                reached = True
            return reached

        return Behaviour(_mapping(seen), _filtering(reaches(never_port), reaches(never_host)))


def tcp_behaviour(host: Namespace, observers: tuple[Observer, ...], patience: Patience) -> Behaviour:
    """The same for TCP: a listener on the port that also dials, as a node has it."""
    first, second, third = observers
    with contextlib.ExitStack() as stack:

        def open_socket(namespace: Namespace, port: int = 0) -> socket.socket:
            # Reset at the end, so that no waiting connection keeps its port.
            made = stack.enter_context(namespace.socket(socket.SOCK_STREAM, port))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            made.settimeout(patience.arrives)
            return made

        listener = open_socket(host)
        listener.listen()
        port = listener.getsockname()[1]
        seen = []
        for observer in (second, first, first):
            server = open_socket(observer.namespace)
            server.listen()
            client = open_socket(host, port)
            client.connect((observer.address, server.getsockname()[1]))
            accepted, outer = server.accept()
            stack.enter_context(accepted)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            seen.append(outer)

        def reaches(observer: Observer) -> bool:
            stranger = open_socket(observer.namespace)
            stranger.setblocking(False)
            stranger.connect_ex(seen[0])
            time.sleep(patience.silence)
            later = open_socket(host)
            later.connect((first.address, server.getsockname()[1]))
            _, ended, _ = select.select([], [stranger], [], 0)
            return bool(ended) and stranger.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0

        seen.reverse()
        return Behaviour(_mapping(seen), _filtering(reaches(first), reaches(third)))


def udp_punch(first: Namespace, second: Namespace, rendezvous: Observer, patience: Patience) -> bool:
    """Both learn their outer address at the rendezvous and send to that of the other, until it answers."""
    with (
        rendezvous.namespace.socket(socket.SOCK_DGRAM) as server,
        first.socket(socket.SOCK_DGRAM) as one,
        second.socket(socket.SOCK_DGRAM) as two,
    ):
        outer = {one: _outer_udp(one, server, rendezvous, patience)}
        outer[two] = _outer_udp(two, server, rendezvous, patience)
        end = time.monotonic() + patience.punch
        while time.monotonic() < end:
            one.sendto(b"ping", outer[two])
            two.sendto(b"ping", outer[one])
            again = time.monotonic() + 0.1
            while (left := again - time.monotonic()) > 0:
                readable, _, _ = select.select([one, two], [], [], left)
                for sock in readable:
                    data, source = sock.recvfrom(10)
                    if data == b"pong":
                        return True
                    sock.sendto(b"pong", source)  # to where it came from, as QUIC does
        return False


def tcp_punch(first: Namespace, second: Namespace, rendezvous: Observer, patience: Patience) -> bool:
    """Both listen, and dial from that port the outer address of the other that the rendezvous saw."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(rendezvous.namespace.socket(socket.SOCK_STREAM))
        server.listen()
        ports, outer = [], []
        for host in (first, second):
            listener = stack.enter_context(host.socket(socket.SOCK_STREAM))
            listener.listen()
            ports.append(listener.getsockname()[1])
            client = stack.enter_context(host.socket(socket.SOCK_STREAM, ports[-1]))
            client.settimeout(patience.arrives)
            client.connect((rendezvous.address, server.getsockname()[1]))
            accepted, seen = server.accept()
            stack.enter_context(accepted)
            outer.append(seen)
        end = time.monotonic() + patience.punch
        while time.monotonic() < end:
            with (
                first.socket(socket.SOCK_STREAM, ports[0]) as one,
                second.socket(socket.SOCK_STREAM, ports[1]) as two,
            ):
                for dial, target in ((one, outer[1]), (two, outer[0])):
                    dial.setblocking(False)
                    dial.connect_ex(target)
                _, ended, _ = select.select([], [one, two], [], patience.punch / 2)
                if any(dial.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 for dial in ended):
                    return True
        return False


def _outer_udp(client: socket.socket, server: socket.socket, at: Observer, patience: Patience) -> Address:
    """Where `server` sees `client`; asked again when something was lost."""
    server.settimeout(patience.arrives / 4)
    for _ in range(4):
        client.sendto(b"?", (at.address, server.getsockname()[1]))
        with contextlib.suppress(TimeoutError):
            source: Address = server.recvfrom(10)[1]
            return source
    raise AssertionError(f"nothing arrives at {at.address}")


def _mapping(seen: list[Address]) -> str:
    """By the outer addresses towards two ports of one address, and another address."""
    if seen[0] == seen[1] == seen[2]:
        return INDEPENDENT
    return ADDRESS if seen[0] == seen[1] else ADDRESS_AND_PORT


def _filtering(other_port: bool, other_address: bool) -> str:
    if other_address:
        return INDEPENDENT
    return ADDRESS if other_port else ADDRESS_AND_PORT


def eventually(is_so: Callable[[], bool], within: float, *, poll: float = 0.05) -> float:
    """Wait for what another process does; how long it took. Raises `TimeoutError`."""
    start = time.monotonic()
    while not is_so():
        if time.monotonic() - start > within:
            raise TimeoutError(f"not so after {within:g} s")
        time.sleep(poll)
    return time.monotonic() - start
