"""An address of loopback with its ports, chosen once and kept: what a reserved IP is at a cloud."""

from __future__ import annotations

import errno
import random
import socket
from typing import TYPE_CHECKING, ClassVar

import pulumi
from typing_extensions import override

from wws.errors import LocalError
from wws_infra.dynamic.crud import Crud, DynamicResource, number

if TYPE_CHECKING:
    from wws_infra.settings import Json

PORTS = range(10_000, 32_000)
"""Below what the system gives to connections: a port that is kept must be free again after a restart."""
ATTEMPTS = 200


class NoPort(LocalError):
    """No port is free on loopback."""

    code = "port_taken"
    exit_code = 10


def free_port(ip: str) -> int:
    """A port of `ip` that nobody has, neither with TCP nor with UDP. Raises `NoPort`."""
    for port in random.SystemRandom().sample(PORTS, ATTEMPTS):
        if all(_is_free(ip, port, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            return port
    raise NoPort(f"{ATTEMPTS} ports of {ip} that were tried are taken.")


def loopback_ip(number: int) -> str:
    """`127.0.0.<number>`, or 127.0.0.1 where this machine has no other (macOS)."""
    ip = f"127.0.0.{number}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return "127.0.0.1"
            raise
    return ip


def _is_free(ip: str, port: int, kind: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True


class AddressProvider(Crud):
    """Chooses. Nothing is held on the machine, so there is nothing to remove."""

    replaced_by: ClassVar[tuple[str, ...]] = ("index", "wanted_port")

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        ip = loopback_ip(number(props, "index"))
        port = number(props, "wanted_port") or free_port(ip)
        http = f"{ip}:{free_port(ip)}"
        return f"{ip}:{port}", {"ip": ip, "port": port, "http": http}


class LocalAddress(DynamicResource, module="wws", name="LocalAddress"):
    """The address of one node."""

    ip: pulumi.Output[str]
    port: pulumi.Output[int]
    http: pulumi.Output[str]
    """`IP:PORT` of health and metrics."""

    def __init__(self, name: str, index: int, wanted_port: int, opts: pulumi.ResourceOptions) -> None:
        props = {"index": index, "wanted_port": wanted_port, "ip": None, "port": None, "http": None}
        super().__init__(AddressProvider(), name, props, opts)
