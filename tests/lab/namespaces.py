"""Network namespaces without names, an open descriptor each: nothing is left of a lab whose process died.

    with Namespace("alice") as alice:
        alice.run("ip", "addr")
        with alice.entered():
            server = socket.create_server(("::", 0), family=socket.AF_INET6)

A namespace lives as long as a descriptor of it is open or a process is in it. The descriptors are closed
with the process that holds them, however it ends, and the processes started here are killed with it.
There is no name that two labs could share, and nothing below /run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from tests.prerequisites import find_tool

_CLONE_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Namespace:
    """One machine of the lab: a network stack of its own, and nothing else."""

    def __init__(self, label: str) -> None:
        self.label = label
        home = os.open(_HERE, os.O_RDONLY)
        try:
            _check(_libc.unshare(_CLONE_NEWNET), f"a namespace for {label}")
            try:
                self.descriptor = os.open(_HERE, os.O_RDONLY)
            finally:
                _check(_libc.setns(home, _CLONE_NEWNET), "the way back")
        finally:
            os.close(home)
        # Addresses of IPv6 are good at once; nobody here has the same.
        self.set_kernel(ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0)
        self.ip("link set lo up")

    def __repr__(self) -> str:
        return f"Namespace({self.label!r})"

    @property
    def path(self) -> str:
        """Where other programs find it: `nsenter --net=PATH`. Holds while this process lives."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread, and what it starts, is inside; never await in it.

        A socket stays in the namespace that it was made in.
        """
        home = os.open(_HERE, os.O_RDONLY)
        try:
            _check(_libc.setns(self.descriptor, _CLONE_NEWNET), f"into {self.label}")
            try:
                yield
            finally:
                _check(_libc.setns(home, _CLONE_NEWNET), "the way back")
        finally:
            os.close(home)

    def run(self, program: str, *arguments: str, given: str | None = None) -> str:
        """Run a tool inside to its end; what it printed. Raises `RuntimeError` with its complaint."""
        command = [find_tool(program) or program, *arguments]
        with self.entered():
            done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} in {self.label}: {done.stderr.strip()}\n{given or ''}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        """Run lines of `ip` inside, all by one process."""
        self.run("ip", "-batch", "-", given="\n".join(lines) + "\n")

    def set_kernel(self, **settings: int) -> None:
        """Set entries below /proc/sys/net: `ipv4__ip_forward=1` (two underscores stand for a slash)."""
        with self.entered():
            for name, value in settings.items():
                Path("/proc/sys/net", name.replace("__", "/")).write_text(str(value))

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        out: IO[bytes],
        errors: IO[bytes],
    ) -> subprocess.Popen[bytes]:
        """Start a program inside and go on. It is killed when this process dies."""
        with self.entered():
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd=folder,
                env=dict(env),
            )

    def socket(self, kind: socket.SocketKind, port: int = 0, *, address: str = "") -> socket.socket:
        """A bound IPv4 socket inside; one port may carry a listener and dials at once, as libp2p's does."""
        with self.entered():
            made = socket.socket(socket.AF_INET, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, port))
        return made

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(first: Namespace, first_interface: str, second: Namespace, second_interface: str) -> None:
    """A cable: a pair of interfaces, one in each, both up."""
    peer = f"peer name {second_interface} netns {second.path}"
    first.ip(f"link add {first_interface} type veth {peer}", f"link set {first_interface} up")
    second.ip(f"link set {second_interface} up")


def processes_inside(namespaces: Sequence[Namespace]) -> list[int]:
    """The processes that are in any of these."""
    identities = {_identity(os.fstat(namespace.descriptor)) for namespace in namespaces}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended by now
                if _identity((entry / "ns" / "net").stat()) in identities:
                    found.append(int(entry.name))
    return found


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
