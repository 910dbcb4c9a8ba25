"""A UDP socket that reads and writes many datagrams at a time.

Linux joins datagrams of one sender for us when it can (UDP_GRO) and cuts one large buffer into datagrams
(UDP_SEGMENT): a system call then moves up to 64 of them, where each costs as much as all of aioquic's work on
three. Where the kernel does not know these, every datagram is a call. A datagram that cannot be sent is lost,
as datagrams are; one that finds the socket's buffer full waits.

A socket on every interface answers from the address that it was reached at: a client of QUIC takes nothing
from another, and a machine with temporary IPv6 addresses would choose one of those (RFC 6724, rule 7).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from wws.transport.quic.engine import Address

Datagrams: TypeAlias = Sequence[tuple[bytes, Address]]
_Control: TypeAlias = tuple[int, int, bytes]

_IS_LINUX: Final = sys.platform == "linux"
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3
"""Never cut a datagram up on the way, and let us send one that may be too large: how else to find out."""
_SEGMENTS: Final = 64
_LARGEST: Final = 65_000
_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_CONTROL: Final = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(20)
_MAX_REMEMBERED: Final = 65_536
"""Peers of which the address that they reached us at is remembered; who was silent for longest goes first."""
_AT_ONCE: Final = 256
"""Datagrams after which a turn of the event loop reads no more: a flood must not keep everybody else waiting.
One read may bring 64."""
_BUFFER: Final = 4 * 1024 * 1024
"""Bytes of the kernel's buffers that are asked for; it gives what its limits allow."""
_MAX_WAITING: Final = 4 * 1024 * 1024
"""Bytes that wait for a full socket; over it datagrams are lost."""


class UdpSocket:
    """One bound UDP socket in the running event loop."""

    def __init__(
        self,
        family: socket.AddressFamily,
        bind: tuple[str, int] | None,
        *,
        received: Callable[[UdpSocket, list[tuple[bytes, Address]]], None],
        writable: Callable[[UdpSocket], None],
    ) -> None:
        """Raises `OSError` when the address cannot be used. `received` gets what one turn brought, `writable`
        is called when a socket that was full takes more."""
        self.family = family
        self.is_full = False
        """Whether sending has to wait for `writable`."""
        self.lost = 0
        """Datagrams that could not be sent."""
        self.refused: Callable[[Address, OSError], None] | None = None
        """Called for a datagram that has no way from here."""
        self._received = received
        self._writable = writable
        self._waiting: deque[tuple[bytes, Address]] = deque()
        self._waiting_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            if family == socket.AF_INET6:
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if bind is None:
                bind = ("::", 0) if family == socket.AF_INET6 else ("0.0.0.0", 0)  # noqa: S104 - a dial's socket
            self._sock.bind(bind)
            self._set_options()
        except OSError:
            self._sock.close()
            raise
        self.dialled: set[Address] = set()
        """Peers that we have reached, not they us: there the kernel chooses, also another way later."""
        self._reached_at: dict[Address, _Control] = {}
        self._arrived: dict[Address, _Control] = {}
        self._sources: dict[bytes, _Control] = {}
        name = self._sock.getsockname()
        self.host: str = name[0]
        self.port: int = name[1]
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def send(self, datagrams: Datagrams) -> None:
        """Send these, in order; each to its address."""
        if self.is_full:
            self._wait(datagrams)
            return
        index, count = 0, len(datagrams)
        while index < count:
            end = self._run(datagrams, index, count) if self._cuts else index + 1
            if not self._write(datagrams, index, end):
                self._wait(datagrams[index:])
                return
            index = end

    def send_one(self, data: bytes, address: Address) -> None:
        self.send(((data, address),))

    def close(self) -> None:
        """Close the socket; nothing is called any more."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        if self.is_full:
            self._loop.remove_writer(self._sock.fileno())
        self._waiting.clear()
        self._sock.close()

    @property
    def is_closed(self) -> bool:
        return self._sock.fileno() < 0

    # Inside

    def _set_options(self) -> None:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._set(socket.SOL_SOCKET, option, _BUFFER)
        self._joins = self._cuts = self._sees_target = False
        if _IS_LINUX:
            if self.family == socket.AF_INET6:
                self._set(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            else:
                self._set(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
            if self._sock.getsockname()[0] == "::":
                self._sees_target = self._set(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            elif self._sock.getsockname()[0] == "0.0.0.0":  # noqa: S104 - compared with
                self._sees_target = self._set(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            self._joins = self._set(socket.IPPROTO_UDP, _UDP_GRO, 1)
            self._cuts = self._set(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)

    def _set(self, level: int, option: int, value: int) -> bool:
        try:
            self._sock.setsockopt(level, option, value)
        except OSError:
            return False  # a kernel that does not know it, or gives less
        return True

    def _readable(self) -> None:
        received: list[tuple[bytes, Address]] = []
        for _ in range(_AT_ONCE):
            if len(received) >= _AT_ONCE:
                break
            try:
                if self._joins or self._sees_target:
                    data, control, _, address = self._sock.recvmsg(65_536, _CONTROL)
                else:
                    data, address = self._sock.recvfrom(65_536)
                    control = []
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue  # an ICMP error about some datagram that we sent
            if self._sees_target and address not in self.dialled:
                self._note_target(control, address)
            if control and (size := _segment_size(control)) < len(data):
                received += [(data[at : at + size], address) for at in range(0, len(data), size)]
            else:
                received.append((data, address))
        if received:
            self._received(self, received)
            self._arrived.clear()

    def _run(self, datagrams: Datagrams, index: int, count: int) -> int:
        """Where the run of datagrams ends that one call can send: one address and one size; the last may be
        shorter."""
        data, address = datagrams[index]
        size = len(data)
        last = min(count, index + _SEGMENTS, index + _LARGEST // max(1, size))
        end = index + 1
        while end < last:
            data, other = datagrams[end]
            if len(data) > size or (other is not address and other != address):
                break
            end += 1
            if len(data) < size:
                break
        return end

    def _write(self, datagrams: Datagrams, index: int, end: int) -> bool:
        """Send a run; `False`: the socket is full and nothing of it was sent."""
        data, address = datagrams[index]
        source = None
        if self._sees_target:
            source = self._arrived.get(address) or self._reached_at.get(address)
        try:
            if end - index == 1 and source is None:
                self._sock.sendto(data, address)
            else:
                control = [] if source is None else [source]
                if end - index > 1:
                    control.append((socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("H", len(data))))
                segments = [datagrams[at][0] for at in range(index, end)]
                self._sock.sendmsg(segments, control, 0, address)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return False
            if source is not None and error.errno != errno.EMSGSIZE:
                self._arrived.pop(address, None)  # the machine may have lost that address
                self._reached_at.pop(address, None)
                return self._write(datagrams, index, end)
            if end - index > 1:  # not by this device, or larger than it takes: one by one, then
                if error.errno in (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP):
                    self._cuts = False
                # Stops at a full socket; then all of the run is sent again, which QUIC does not mind.
                return all(self._write(datagrams, at, at + 1) for at in range(index, end))
            self.lost += 1
            if self.refused is not None and error.errno != errno.EMSGSIZE:
                self.refused(address, error)
        return True

    def keep(self, address: Address) -> None:
        """Go on answering a peer from the address of ours that it has reached just now.

        Of strangers nothing is kept: whoever forges senders could have us forget all others, or answer them
        from somewhere else.
        """
        if (arrived := self._arrived.get(address)) is not None:
            self._reached_at.pop(address, None)
            if len(self._reached_at) >= _MAX_REMEMBERED:
                del self._reached_at[next(iter(self._reached_at))]
            self._reached_at[address] = arrived

    def _note_target(self, control: list[_Control], address: Address) -> None:
        """Note which address of ours was reached, as the control message that answers from there."""
        for level, kind, value in control:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(value) >= 12:
                info = bytes(4) + value[4:8] + bytes(4)  # by any interface, from the address it came to
            elif level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO and len(value) >= 20:
                is_link_local = value[0] == 0xFE and value[1] & 0xC0 == 0x80
                info = value[:20] if is_link_local else value[:16] + bytes(4)
            else:
                continue
            # The few addresses of this machine are shared by thousands of peers.
            target = self._sources.setdefault(info, (level, kind, info))
            earlier = self._arrived.get(address, target)
            # Two in one turn: one may be forged, so nothing changes now.
            self._arrived[address] = target if earlier is target else self._reached_at.get(address, earlier)

    def reached_at(self, address: Address) -> str | None:
        """The address of this machine that a peer has reached, as far as the kernel tells."""
        known = self._arrived.get(address) or self._reached_at.get(address)
        if known is None:
            return None
        if known[0] == socket.IPPROTO_IP:
            return socket.inet_ntop(socket.AF_INET, known[2][4:8])
        return socket.inet_ntop(socket.AF_INET6, known[2][:16])

    def _wait(self, datagrams: Datagrams) -> None:
        if not self.is_full:
            self.is_full = True
            self._loop.add_writer(self._sock.fileno(), self._drain)
        for data, address in datagrams:
            if self._waiting_bytes + len(data) > _MAX_WAITING:
                self.lost += 1
            else:
                self._waiting.append((data, address))
                self._waiting_bytes += len(data)

    def _drain(self) -> None:
        while self._waiting:
            if not self._write(self._waiting, 0, 1):
                return
            if self.is_closed:  # by who was told that there is no way for this one
                return
            data, _ = self._waiting.popleft()
            self._waiting_bytes -= len(data)
        self.is_full = False
        self._loop.remove_writer(self._sock.fileno())
        self._writable(self)


def _segment_size(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in control:
        if level == socket.IPPROTO_UDP and kind == _UDP_GRO and len(value) >= 4:
            return max(1, int.from_bytes(value[:4], sys.byteorder))
    return 65_536


def free_udp_port(host: str, port: int) -> int:
    """`port`, or with 0 any, that a UDP socket can be bound to now. Raises `OSError` when it cannot."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        if probe.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((host, port))
        bound: int = probe.getsockname()[1]
        return bound
