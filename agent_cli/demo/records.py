"""What the DNS of the demo says: the three records of a network, as an operator publishes them."""

from __future__ import annotations

import errno
import random
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.txt import bundle_name, dnsaddr_name, seed_name
from wws.errors import LocalError
from wws.identity.keys import Identity
from wws.rpc.codes import Exit

PARENT_DOMAIN = "demo.wws.test"
BUNDLE_LIFETIME = 86_400
"""Seconds that the signed list holds: longer than anybody plays with a demo."""
FIRST_PORT, LAST_PORT = 9000, 9999
PORT_ATTEMPTS = 100


class NoPort(LocalError):
    """No port is free for the bootstrap nodes."""

    code = "port_taken"
    exit_code = Exit.MACHINE


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bootstrap node listens."""

    ip: str
    port: int

    @property
    def multiaddr(self) -> str:
        return f"/ip4/{self.ip}/tcp/{self.port}"


def choose_places(count: int, rng: random.Random) -> list[Place]:
    """An address for each bootstrap node, all with one port; where loopback has one address, a port each.

    Raises `NoPort`.
    """
    ips = [f"127.0.0.{number}" for number in range(1, count + 1)]
    if not all(_exists(ip) for ip in ips):
        ips = ["127.0.0.1"] * count
    step = 1 if ips[0] == ips[-1] else 0
    for _ in range(PORT_ATTEMPTS):
        port = rng.randint(FIRST_PORT, LAST_PORT - count)
        places = [Place(ip, port + step * index) for index, ip in enumerate(ips)]
        if all(_is_free(place) for place in places):
            return places
    raise NoPort(f"No port between {FIRST_PORT} and {LAST_PORT} is free on loopback.")


def make_domain() -> str:
    """A domain of this demo's own: two demos on one network must not become one."""
    return f"{secrets.token_hex(2)}.{PARENT_DOMAIN}"


def make_zone(
    domain: str, publisher: Identity, nodes: Sequence[tuple[Identity, Place]]
) -> dict[str, dict[str, list[str]]]:
    """The zone of the demo: the signed bundle, the seed's TXT, and libp2p's `_dnsaddr`."""
    now = int(time.time())
    entries = tuple(BundleEntry(identity.peer_id, place.ip, place.port, "/t") for identity, place in nodes)
    bundle = Bundle(now, now - 60, now + BUNDLE_LIFETIME, None, entries).sign(domain, [publisher])
    addresses = [f"{place.multiaddr}/p2p/{identity.peer_id}" for identity, place in nodes]
    return {
        bundle_name(domain): {"TXT": [bundle.text]},
        seed_name(domain): {"TXT": [f"v=1 peer={address}" for address in addresses]},
        dnsaddr_name(domain): {"TXT": [f"dnsaddr={address}" for address in addresses]},
    }


def _exists(ip: str) -> bool:
    """Whether this machine has the address: macOS has only 127.0.0.1, unless told otherwise."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise
    return True


def _is_free(place: Place) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((place.ip, place.port))
        except OSError:
            return False
    return True
